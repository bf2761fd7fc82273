/** A number that is given and can be changed, wherever it stands. */
import { useId, useState } from "preact/hooks";
import { offset, places } from "./arrays";
import { Block, Num } from "./bits";
import { namesIn } from "./equations";
import { problemOf, writePlace } from "./problem";
import { readNumber } from "./state";
import { isWeight, type Stage } from "./trace";
import type { View } from "./view";

const FEW = 8; // numbers that can be changed beside the line that uses them

/** One number: a field that says what it was, and what it reads where it holds no number. */
export function Field(props: { view: View; name: string; place: number[]; mark?: string }) {
  const { view, name, place, mark = "edit" } = props;
  const { problem, packed, state } = view;
  const key = writePlace(name, place);
  const x = problem.arrays[name];
  const value = x.data[offset(x.shape, place)];
  const id = useId();
  const [typed, setTyped] = useState<string | null>(null);
  const bad = typed !== null && readNumber(typed) === null;
  const edited = key in state.edits;
  const was = () => problemOf(packed).arrays[name].data[offset(x.shape, place)];
  const type = (text: string) => {
    setTyped(text);
    const read = readNumber(text);
    if (read === null) return;
    const { [key]: _, ...rest } = state.edits;
    view.set({ edits: Object.is(read, was()) ? rest : { ...rest, [key]: read } });
  };
  const back = () => {
    const { [key]: _, ...rest } = state.edits;
    setTyped(null);
    view.set({ edits: rest });
  };
  return (
    <span class={`field${edited ? " edited" : ""}`}>
      <label>
        <code>{key}</code>
        <input
          type="text"
          inputMode="decimal"
          autocomplete="off"
          spellcheck={false}
          value={typed ?? String(value)}
          style={{ width: `${Math.max(9, String(value).length + 3)}ch` }}
          aria-invalid={bad}
          aria-describedby={bad ? id : undefined}
          {...{ [`data-${mark}`]: key }}
          onInput={(e) => type(e.currentTarget.value)}
          onBlur={() => !bad && setTyped(null)}
        />
      </label>
      {edited && (
        <span class="was">
          was <Num x={was()} />{" "}
          <button class="quiet" onClick={back} aria-label={`${key} as it was`}>
            undo
          </button>
        </span>
      )}
      {bad && (
        <span class="bad" role="alert" id={id}>
          “{typed}” is not a number, so {String(value)} still holds. Write it as 0.5, -2e-3, NaN or
          inf.
        </span>
      )}
    </span>
  );
}

/** What is given and goes into this very number: changed here, beside its effect. */
export function GivenHere({ view, s, place }: { view: View; s: Stage; place: number[] }) {
  const list = givenTo(view, s, place);
  if (!list.length) return null;
  return (
    <Block
      title="Given, and used here: change it"
      hint="All is computed again at once; the old value stays beside the new one."
      css="given-here"
    >
      <div class="fields">
        {list.slice(0, FEW).map(([name, at]) => (
          <Field key={writePlace(name, at)} view={view} name={name} place={at} mark="here" />
        ))}
      </div>
      {list.length > FEW && (
        <p class="hint">
          These are {FEW} of {list.length}; “Change what is given”, below, has all.
        </p>
      )}
    </Block>
  );
}

/** Names and places of the given numbers that one number of a line is made of. */
function givenTo(view: View, s: Stage, place: number[]): [string, number[]][] {
  const { arrays } = view.problem;
  const names = s.equation ? namesIn(s.equation) : [s.name];
  return names.flatMap((name): [string, number[]][] => {
    const x = Object.hasOwn(arrays, name) ? arrays[name] : null;
    if (!x) return [];
    const timed = x.shape.length === 3;
    const used = places(timed ? x.shape.slice(1) : x.shape).filter(takes(s, name, place));
    return used.map((p) => [name, timed ? [s.t ?? 0, ...p] : p]);
  });
}

/** Which numbers of an array go into one number of a line: of a product, a row or a column. */
function takes(s: Stage, name: string, place: number[]): (p: number[]) => boolean {
  const column = place[place.length - 1];
  if (!place.length) return () => true; // a loss is of all
  const turned = s.equation.includes(`${name}.T`);
  if (isWeight(name) && s.equation) {
    return (p) => p[turned || p.length === 1 ? 0 : 1] === column;
  }
  if (turned) return (p) => p[1] === place[0];
  if (s.equation.includes(`${name} @`)) return (p) => p[0] === place[0];
  return (p) => p.every((n, axis) => n === place[axis]);
}

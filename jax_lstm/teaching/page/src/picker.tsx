/** The mistakes, by their kind and searched by what they are called and what they do. */
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { sayMistake } from "./cuts";
import type { View } from "./view";

const STATE = /^(h0|c0|state) zero/;
const LINEAR = /^(sign|mean|sum|no half|half)\b|averaged|summed| zero$|doubled|halved/;

/** A mistake's kind is the first that fits; a mistake that is new fits the last. */
const FITS: [string, (name: string) => boolean][] = [
  ["order of the gates", (k) => / order /.test(k)],
  ["a share of a sum lost", (k) => / alone$|overwritten|skipped/.test(k)],
  ["first or last state", (k) => STATE.test(k) || /_T dropped$|^dh0 and dc0/.test(k)],
  ["sign, mean or sum", (k) => LINEAR.test(k)],
  ["carrying between steps", (k) => /carried|own loss|windows|reach|last loss/.test(k)],
  ["shifted in time", (k) => / of t([-+]1)?$|reversed/.test(k)],
  ["one gate", (k) => /^(recurrence|input|slope) of /.test(k)],
  ["inside a step", () => true],
];
/** As they stand in the list: the classic ones first. */
const KINDS = [4, 2, 7, 5, 6, 1, 3, 0].map((n) => FITS[n][0]);

const kindOf = (name: string) => FITS.find(([, fits]) => fits(name))![0];

/** Each word of what is looked for stands in the name or in the sentence. */
const finds = (text: string, name: string, says: string) =>
  text
    .toLowerCase()
    .split(/\s+/)
    .every((word) => `${name} ${says}`.toLowerCase().includes(word));

export function MistakePicker({ view }: { view: View }) {
  const { packed, state } = view;
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const id = useId();
  useEffect(() => {
    if (!open) return;
    const away = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    addEventListener("pointerdown", away);
    return () => removeEventListener("pointerdown", away);
  }, [open]);
  const close = () => {
    setOpen(false);
    root.current?.querySelector("button")?.focus();
  };
  return (
    <div class="picker" ref={root} onKeyDown={(e) => e.key === "Escape" && open && close()}>
      <span id={`${id}-label`}>mistake</span>{" "}
      <button
        data-role="mistake"
        aria-haspopup="dialog"
        aria-expanded={open}
        aria-labelledby={`${id}-label ${id}-now`}
        class={state.mistake ? "set" : ""}
        onClick={() => setOpen(!open)}
        title={sayMistake(packed, state.mistake)}
      >
        <span id={`${id}-now`}>{state.mistake || "none: the truth"}</span> ▾
      </button>
      {open && (
        <Choice
          view={view}
          id={id}
          pick={(mistake) => {
            view.set({ mistake });
            close();
          }}
        />
      )}
    </div>
  );
}

/** A field to search in, a kind, and what is found, with arrow keys through it. */
function Choice(props: { view: View; id: string; pick: (name: string) => void }) {
  const { view, id, pick } = props;
  const { packed, state } = view;
  const names = Object.keys(packed.mistakes);
  const kinds = KINDS.map((kind) => [kind, names.filter((k) => kindOf(k) === kind)] as const);
  const [text, setText] = useState("");
  const [kind, setKind] = useState("");
  const found = kinds
    .filter(([k]) => !kind || k === kind)
    .map(([k, some]) => [k, some.filter((x) => finds(text, x, packed.mistakes[x]))] as const)
    .filter(([, some]) => some.length > 0);
  const list = ["", ...found.flatMap(([, some]) => some)];
  const [active, setActive] = useState<string | null>(null); // null: the first that is found
  const n = Math.max(0, list.indexOf(active ?? (text || kind ? list[1] : state.mistake)));
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const option = (k: string) => `${id}-${names.indexOf(k)}`;
  useEffect(() => {
    document.getElementById(option(list[n]))?.scrollIntoView({ block: "nearest" });
  }, [n, text, kind]);
  const press = (event: KeyboardEvent) => {
    const by: Record<string, number> = {
      ArrowDown: n + 1,
      ArrowUp: n - 1,
      PageDown: n + 8,
      PageUp: n - 8,
    };
    if (event.key in by) setActive(list[Math.max(0, Math.min(list.length - 1, by[event.key]))]);
    else if (event.key === "Enter") pick(list[n]);
    else return;
    event.preventDefault();
  };
  const row = (k: string) => (
    <li
      key={k}
      id={option(k)}
      role="option"
      aria-selected={k === state.mistake}
      class={k === list[n] ? "active" : ""}
      onClick={() => pick(k)}
      data-mistake={k}
    >
      <b>{k || "none: the truth"}</b>
      {k && <span>{packed.mistakes[k]}</span>}
    </li>
  );
  return (
    <div class="choice-box" role="dialog" aria-label="choose a mistake">
      <p class="filters">
        <label>
          <span class="hidden">search the mistakes</span>
          <input
            ref={field}
            type="search"
            role="combobox"
            aria-expanded="true"
            aria-controls={`${id}-list`}
            aria-activedescendant={option(list[n])}
            aria-autocomplete="list"
            autocomplete="off"
            placeholder="search, such as: dc forget"
            value={text}
            onInput={(e) => {
              setText(e.currentTarget.value);
              setActive(null);
            }}
            onKeyDown={press}
          />
        </label>
        <label>
          <span class="hidden">kind of mistake</span>
          <select
            value={kind}
            onChange={(e) => {
              setKind(e.currentTarget.value);
              setActive(null);
            }}
          >
            <option value="">all kinds ({names.length})</option>
            {kinds.map(([k, some]) =>
              some.length ? (
                <option value={k}>
                  {k} ({some.length})
                </option>
              ) : null,
            )}
          </select>
        </label>
      </p>
      <p class="hint" role="status">
        {list.length === 1
          ? "Nothing is called so, and nothing does so."
          : `${list.length - 1} of ${names.length}`}
      </p>
      <ul class="found" id={`${id}-list`} role="listbox" aria-label="mistakes" tabIndex={-1}>
        {row("")}
        {found.map(([k, some]) => (
          <li role="presentation" key={k}>
            <ul role="group" aria-labelledby={`${id}-${k.replace(/\W/g, "-")}`}>
              <li role="presentation" class="kind" id={`${id}-${k.replace(/\W/g, "-")}`}>
                {k}
              </li>
              {some.map(row)}
            </ul>
          </li>
        ))}
      </ul>
    </div>
  );
}

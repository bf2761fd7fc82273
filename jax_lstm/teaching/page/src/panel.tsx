/** The line that is told: its equation with the numbers put in, and how the cotangent passes it. */
import { useState } from "preact/hooks";
import { offset } from "./arrays";
import { Beside } from "./beside";
import { Block, bracket, Num } from "./bits";
import { evaluate, fill, read } from "./equations";
import { Flow, Locals } from "./flow";
import { Fork } from "./fork";
import { GivenHere } from "./given";
import { HeatMap } from "./heat";
import { Equation, Formula, Letter, Name, Numeral, Sign, Symbols } from "./mathml";
import { isBatched, shownPlaces, type Stage } from "./trace";
import { placeOf, rowOf, type View } from "./view";
import { say } from "./words";

const CELLS = 48; // numbers that are told as digits at once

export function Panel({ view }: { view: View }) {
  const { current: truth, state, problem, T, other, before, at } = view;
  const places = shownPlaces(truth, state.row);
  const [chosen, choose] = useState(0);
  const [whose, setWhose] = useState<"truth" | "mistake">("mistake");
  const n = Math.min(chosen, places.length - 1);
  const place = places[n];
  const side = truth.part === "forward" ? "value" : "back";
  const mistaken = other?.stages[at] ?? null;
  const s = mistaken && whose === "mistake" ? mistaken : truth;
  const told = view.packed.beside.filter(([name, t]) => name === truth.name && t === truth.t);
  return (
    <section class="panel" aria-labelledby="told">
      <p class={`part ${side}`}>{placeOf(truth)}</p>
      <h2 id="told">
        <Letter of={truth.name} /> <code>{truth.name}</code>
      </h2>
      <p class="say">{say(truth, problem, T)}</p>
      <div class="eq" data-role="equation">
        <Formula text={`${truth.name} = ${truth.equation || "given"}`}>
          <Name of={truth.name} />
          <mo>=</mo>
        </Formula>
        {truth.equation ? <Right s={truth} /> : <span>given</span>}
      </div>
      {places.length > 1 && <ElementChoice s={truth} places={places} n={n} choose={choose} />}
      {mistaken ? (
        <div class="two-sides">
          <Worked s={truth} place={place} label="truth" role="numbers" />
          <Worked s={mistaken} place={place} label="mistake" role="numbers-mistake" />
        </div>
      ) : (
        <Worked s={truth} place={place} role="numbers" />
      )}
      {before && <Was view={view} place={place} />}
      {told.map(([, , text]) => (
        <p class="author">
          <b>The author:</b> {text}
        </p>
      ))}
      <GivenHere view={view} s={truth} place={place} />
      {mistaken && <Beside view={view} places={places} truth={truth} mistaken={mistaken} />}
      {mistaken && (
        <p class="whose" role="group" aria-label="whose numbers stand below">
          Numbers below:{" "}
          {(["mistake", "truth"] as const).map((k) => (
            <button class="small" aria-pressed={whose === k} onClick={() => setWhose(k)}>
              {k === "truth" ? "the truth's" : "the mistake's"}
            </button>
          ))}
        </p>
      )}
      <div class={mistaken && s === mistaken ? "of-mistake" : ""}>
        {s.part === "forward" && <Locals s={s} place={place} view={view} />}
        {s.part === "backward" && <Flow s={s} place={place} view={view} />}
        {s.branches.length > 0 && <Fork s={s} place={place} view={view} />}
        {places.length > 1 && <Values s={s} view={view} n={n} choose={choose} />}
      </div>
    </section>
  );
}

/** The equation's right side in letters; of a long sum its ends. */
const Right = ({ s }: { s: Stage }) =>
  s.branches.length > 6 ? (
    <Formula>
      <Name of={s.branches[0]} />
      <mo>+</mo>
      <mo>…</mo>
      <mo>+</mo>
      <Name of={s.branches[s.branches.length - 1]} />
    </Formula>
  ) : (
    <Symbols equation={s.equation} />
  );

/** One number worked out. Where a mistake is made, the equation does not give it: that is said. */
function Worked(props: { s: Stage; place: number[]; label?: string; role: string }) {
  const { s, place, label, role } = props;
  const value = s.value.data[offset(s.value.shape, place)];
  const index = s.value.data.length > 1 ? bracket(s, place) : "";
  const filled = s.equation ? fill(read(s.equation), s.look, place) : null;
  const gives = filled ? evaluate(filled) : value;
  const holds =
    Object.is(gives, value) || Math.abs(gives - value) <= 1e-9 * Math.abs(value) + 1e-15;
  return (
    <div class={`eq numbers${label ? ` side-${label}` : ""}`} data-role={role}>
      {label && <b class="side-label">{label}</b>}
      <Formula>
        <Name of={s.name} />
        {index && <mtext>{index}</mtext>}
        <mo>=</mo>
      </Formula>
      {filled && holds && <Equation tree={filled} numbers />}
      <Formula>
        {filled && holds && <Sign form="infix" of="=" />}
        <mrow class={s.part === "forward" ? "value" : "back"}>
          <Numeral value={value} first />
        </mrow>
      </Formula>
      <Num x={value} css="full" />
      {!holds && filled && (
        <span class="made-here">
          The mistake is made here: from what comes in with it, the equation would give{" "}
          <Num x={gives} />.
        </span>
      )}
    </div>
  );
}

/** What the number was before something was changed. */
function Was({ view, place }: { view: View; place: number[] }) {
  const { before, at, current: s } = view;
  const k = offset(s.value.shape, place);
  const [was, is] = [before!.stages[at].value.data[k], s.value.data[k]];
  return (
    <p class="was" data-role="was">
      {Object.is(was, is) ? (
        "Your change does not reach this number."
      ) : (
        <>
          Before your change: <Num x={was} />.
        </>
      )}
    </p>
  );
}

/** Which number of an array is worked out. */
function ElementChoice(props: {
  s: Stage;
  places: number[][];
  n: number;
  choose: (n: number) => void;
}) {
  const { s, places, n, choose } = props;
  return (
    <p class="choice">
      <label>
        number{" "}
        {places.length <= 64 ? (
          <select value={n} onChange={(e) => choose(Number(e.currentTarget.value))}>
            {places.map((p, m) => (
              <option value={m}>{bracket(s, p)}</option>
            ))}
          </select>
        ) : (
          <input
            type="number"
            min={0}
            max={places.length - 1}
            value={n}
            onInput={(e) =>
              choose(Math.min(places.length - 1, Math.max(0, Number(e.currentTarget.value) || 0)))
            }
          />
        )}
      </label>{" "}
      of {places.length}
      {places.length > 64 && <>: {bracket(s, places[n])}</>}
    </p>
  );
}

/** All numbers of the line: digits where they are few, a heat map where they are many. */
function Values(props: { s: Stage; view: View; n: number; choose: (n: number) => void }) {
  const { s, view, n, choose } = props;
  const data = rowOf(s, view.state.row);
  const columns =
    isBatched(s) || s.value.shape.length < 2 ? Math.min(data.length, 32) : s.value.shape[1];
  const asDigits = view.state.units ?? data.length <= CELLS;
  const places = shownPlaces(s, view.state.row);
  return (
    <Block title={`All ${data.length} numbers`}>
      {asDigits && data.length <= 2048 ? (
        <div class="cells-list">
          {Array.from(data).map((x, m) => (
            <button
              class={`cell${m === n ? " at" : ""}`}
              onClick={() => choose(m)}
              aria-pressed={m === n}
            >
              <small>{bracket(s, places[m])}</small> <Num x={x} />
            </button>
          ))}
        </div>
      ) : (
        <HeatMap data={data} columns={columns} label={s.name} at={n} pick={choose} />
      )}
    </Block>
  );
}

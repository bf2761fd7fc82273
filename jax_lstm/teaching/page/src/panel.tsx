/** The line that is told: its equation with the numbers put in, and how the cotangent passes it. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { offset } from "./arrays";
import { digits, element, evaluate, fill, read } from "./equations";
import { HeatMap } from "./heat";
import { Equation, Formula, Letter, Name, Numeral, Partial, Sign, Symbols } from "./mathml";
import { isBatched, isWeight, shownPlaces, withoutBranch, type Stage } from "./trace";
import { placeOf, rowOf, type View } from "./view";
import { flowOf, localsOf, say, type Local } from "./words";

const CELLS = 48; // numbers that are told as digits at once

export const Num = ({ x, css }: { x: number; css?: string }) => (
  <span
    class={`num ${css ?? ""}${Number.isNaN(x) ? " nan" : ""}`}
    title={String(x)}
    data-value={String(x)}
  >
    {Number.isNaN(x) ? "NaN" : digits(x).replace("-", "−")}
  </span>
);

/** Index as one writes it: of rows of the batch, the column alone. */
export const bracket = (s: { name: string; value: Stage["value"] }, place: number[]) =>
  (isBatched(s) ? place.slice(1) : place).map((n) => `[${n}]`).join("");

export function Panel({ view }: { view: View }) {
  const { current: s, state, problem, T, other, at } = view;
  const places = shownPlaces(s, state.row);
  const [chosen, choose] = useState(0);
  const n = Math.min(chosen, places.length - 1);
  const place = places[n];
  const value = s.value.data[offset(s.value.shape, place)];
  const index = places.length > 1 ? bracket(s, place) : "";
  const side = s.part === "forward" ? "value" : "back";
  const told = view.packed.beside.filter(([name, t]) => name === s.name && t === s.t);
  return (
    <section class="panel" aria-labelledby="told">
      <p class={`part ${side}`}>{placeOf(s)}</p>
      <h2 id="told">
        <Letter of={s.name} /> <code>{s.name}</code>
      </h2>
      <p class="say">{say(s, problem.cell, T)}</p>
      <div class="eq" data-role="equation">
        <Formula text={`${s.name} = ${s.equation || "given"}`}>
          <Name of={s.name} />
          <mo>=</mo>
        </Formula>
        {s.equation ? (
          s.branches.length > 6 ? (
            <LongSum s={s} />
          ) : (
            <Symbols equation={s.equation} />
          )
        ) : (
          <span>given</span>
        )}
      </div>
      {places.length > 1 && <ElementChoice s={s} places={places} n={n} choose={choose} />}
      <div class="eq numbers" data-role="numbers">
        <Formula>
          <Name of={s.name} />
          {index && <mtext>{index}</mtext>}
          <mo>=</mo>
        </Formula>
        {s.equation && <Filled s={s} place={place} />}
        <Formula>
          {s.equation && <Sign form="infix" of="=" />}
          <mrow class={side}>
            <Numeral value={value} first />
          </mrow>
        </Formula>
        <Num x={value} css="full" />
      </div>
      {told.map(([, , text]) => (
        <p class="author">
          <b>The author:</b> {text}
        </p>
      ))}
      {other && <Beside view={view} places={places} truth={s} mistaken={other.stages[at]} />}
      {s.part === "forward" && <Locals s={s} place={place} view={view} />}
      {s.part === "backward" && <Flow s={s} place={place} view={view} />}
      {s.branches.length > 0 && <Fork s={s} place={place} view={view} />}
      {places.length > 1 && <Values s={s} view={view} n={n} choose={choose} />}
    </section>
  );
}

const LongSum = ({ s }: { s: Stage }) => (
  <Formula>
    <Name of={s.branches[0]} />
    <mo>+</mo>
    <mo>…</mo>
    <mo>+</mo>
    <Name of={s.branches[s.branches.length - 1]} />
  </Formula>
);

function Filled({ s, place }: { s: Stage; place: number[] }) {
  const filled = fill(read(s.equation), s.look, place);
  return <Equation tree={filled} numbers />;
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

/** A derivative with its number; of a matrix, its letter alone. */
function Slope({ local, s, place }: { local: Local; s: Stage; place: number[] }) {
  const { of, by, equation } = local;
  const matrix =
    isWeight(equation) || equation === "x" || equation === "h_prev" || equation === "h";
  const known = equation !== "1" && !(matrix && isMatrixUse(s, by));
  const here = place.length ? place : [0, 0]; // a loss has no place: its first unit's derivative
  const worked = known ? fill(read(equation), s.look, here) : null;
  return (
    <span class="eq slope">
      <Partial of={of} by={by} />
      <Formula>
        <Sign form="infix" of="=" />
      </Formula>
      {equation === "1" ? (
        <Formula>
          <mn>1</mn>
        </Formula>
      ) : (
        <Symbols equation={equation} />
      )}
      {worked && worked.kind !== "number" && (
        <>
          <Formula>
            <Sign form="infix" of="=" />
          </Formula>
          <Equation tree={worked} numbers />
        </>
      )}
      {worked && (
        <>
          <Formula>
            <Sign form="infix" of="=" />
          </Formula>
          <Num x={evaluate(worked)} />
        </>
      )}
      {!known && equation !== "1" && <Small name={equation} s={s} />}
    </span>
  );
}

/** A product with a matrix: its derivative is the matrix, not one of its numbers. */
const isMatrixUse = (s: Stage, by: string) =>
  /@/.test(s.equation) || isWeight(by) || by === "x" || (by === "h" && /V/.test(s.equation));

/** The numbers of a matrix where they are few. */
function Small({ name, s }: { name: string; s: Stage }) {
  const { data } = s.look(name);
  if (data.length > 4) return <small> ({data.length} numbers)</small>;
  return (
    <span>
      {" "}
      = [
      {Array.from(data).map((x, n) => (
        <>
          {n > 0 && ", "}
          <Num x={x} />
        </>
      ))}
      ]
    </span>
  );
}

function Locals({ s, place, view }: { s: Stage; place: number[]; view: View }) {
  const locals = localsOf(s.name, view.problem.cell);
  if (!locals.length) return null;
  return (
    <Block title="Local derivatives" hint="What the backward will multiply with here.">
      <ul class="plain">
        {locals.map((local) => (
          <li>
            <Slope local={local} s={s} place={place} />
          </li>
        ))}
      </ul>
    </Block>
  );
}

/** Comes in, times the local derivative, goes out. */
function Flow({ s, place, view }: { s: Stage; place: number[]; view: View }) {
  const flow = flowOf(s, view.problem.cell);
  const out = s.value.data[offset(s.value.shape, place)];
  if (!flow) return null;
  return (
    <Block title="The cotangent passes">
      <ol class="flow">
        <li>
          <small>comes in</small>
          {flow.into.length ? (
            flow.into.map((name) => <Coming name={name} s={s} place={place} />)
          ) : (
            <Formula>
              <mfrac>
                <mi>∂L</mi>
                <mi>∂L</mi>
              </mfrac>
              <mo>=</mo>
              <mn>1</mn>
            </Formula>
          )}
        </li>
        <li>
          <small>local derivative</small>
          <Slope local={flow.local} s={s} place={place} />
        </li>
        <li>
          <small>goes out</small>
          <span>
            <Letter of={s.name} /> = <Num x={out} css="back" />
          </span>
        </li>
      </ol>
    </Block>
  );
}

function Coming({ name, s, place }: { name: string; s: Stage; place: number[] }) {
  const x = s.look(name);
  const same = !/@|sum/.test(s.equation) || x.data.length === 1;
  return (
    <span>
      <Letter of={name} />
      {same ? (
        <>
          {" "}
          = <Num x={element(x, x.shape.length > place.length ? [place[0], 0] : place)} css="back" />
        </>
      ) : (
        <small> ({x.shape[x.shape.length - 1]} numbers)</small>
      )}
    </span>
  );
}

const INSTEAD: Record<string, string> = {
  dh_from_next: "dh not carried",
  dc_from_next: "dc not carried",
  dc_from_h: "dc only carried",
};

/** A fork's branches and their sum, and the sum without each of them. */
function Fork({ s, place, view }: { s: Stage; place: number[]; view: View }) {
  const at = (x: Stage["value"]) => element(x, place);
  const values = s.branches.map((k) => at(s.look(k)));
  const total = at(s.value);
  const most = Math.max(...values.map(Math.abs), Math.abs(total)) || 1;
  const long = s.branches.length > 12;
  const rows = long ? [...s.branches.slice(0, 6), ...s.branches.slice(-5)] : s.branches;
  return (
    <Block title="Fork: branches and their sum" css="fork-block">
      <div class="scroll" role="region" aria-label="branches of the fork" tabIndex={0}>
        <table class="branches">
          <thead>
            <tr>
              <th scope="col">branch</th>
              <th scope="col">comes back</th>
              <th scope="col" aria-hidden="true" />
              <th scope="col">
                without this branch, <Letter of={s.name} />
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map((k) => {
              const x = at(s.look(k));
              const mistake = INSTEAD[k];
              return (
                <tr>
                  <th scope="row">
                    <Head of={k} />
                  </th>
                  <td>
                    <Num x={x} css="back" />
                  </td>
                  <td aria-hidden="true">
                    <Bar share={x / most} />
                  </td>
                  <td>
                    <Num x={at(withoutBranch(s, k))} />
                    {mistake &&
                      mistake in view.packed.mistakes &&
                      view.state.mistake !== mistake && (
                        <button
                          class="quiet"
                          onClick={() => view.set({ mistake })}
                          title={`the mistake “${mistake}”`}
                        >
                          drop it everywhere
                        </button>
                      )}
                  </td>
                </tr>
              );
            })}
          </tbody>
          <tfoot>
            <tr>
              <th scope="row">
                sum{long && ` of ${s.branches.length}`}: <Letter of={s.name} />
              </th>
              <td>
                <Num x={total} css="back" />
              </td>
              <td aria-hidden="true">
                <Bar share={total / most} />
              </td>
              <td />
            </tr>
          </tfoot>
        </table>
      </div>
    </Block>
  );
}

/** A share of the largest, to the right of the middle or to the left. */
export const Bar = ({ share }: { share: number }) => (
  <svg class="bar" viewBox="-50 0 100 10" preserveAspectRatio="none">
    {Number.isFinite(share) ? (
      <rect
        class={share < 0 ? "q1" : "q9"}
        x={Math.min(0, 48 * share)}
        y={1}
        width={Math.max(0.5, Math.abs(48 * share))}
        height={8}
      />
    ) : (
      <rect class="q-nan" x={-48} y={1} width={96} height={8} />
    )}
    <line x1={0} x2={0} y1={0} y2={10} />
  </svg>
);

/** Truth and mistake in columns. */
function Beside({
  view,
  places,
  truth,
  mistaken,
}: {
  view: View;
  places: number[][];
  truth: Stage;
  mistaken: Stage;
}) {
  const says = view.packed.mistakes[view.state.mistake];
  const first = view.first >= 0 ? view.truth.stages[view.first] : null;
  const at = (s: Stage, place: number[]) => s.value.data[offset(s.value.shape, place)];
  const far = (place: number[]) => Math.abs(at(truth, place) - at(mistaken, place));
  const shown =
    places.length <= 8 ? places : [...places].sort((a, b) => far(b) - far(a)).slice(0, 8);
  const differs = view.differs(truth.name, truth.t) > 0;
  return (
    <Block title="Beside the truth" css="mistake-block">
      <p>
        <b>{view.state.mistake}</b>: {says}.{" "}
        {view.at === view.first ? (
          <b>The difference starts here.</b>
        ) : differs ? (
          "This number differs."
        ) : (
          "Here nothing differs."
        )}{" "}
        {first ? (
          view.at !== view.first && (
            <button class="quiet" onClick={() => view.set({ at: view.first })}>
              go to where it starts: {first.name}, {placeOf(first)}
            </button>
          )
        ) : (
          <span>With these numbers it makes no difference anywhere.</span>
        )}
      </p>
      <table>
        <thead>
          <tr>
            <th scope="col">{places.length > shown.length ? "what differs most" : "number"}</th>
            <th scope="col">truth</th>
            <th scope="col">mistake</th>
          </tr>
        </thead>
        <tbody>
          {shown.map((place) => (
            <tr class={at(truth, place) !== at(mistaken, place) && differs ? "differs" : ""}>
              <th scope="row">
                <code>
                  {truth.name}
                  {places.length > 1 && bracket(truth, place)}
                </code>
              </th>
              <td>
                <Num x={at(truth, place)} />
              </td>
              <td>
                <Num x={at(mistaken, place)} css={differs ? "wrong" : ""} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Block>
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

/** A letter at the head of a row, and its name for those who hear it. */
export const Head = ({ of }: { of: string }) => (
  <>
    <span aria-hidden="true">
      <Letter of={of} />
    </span>
    <span class="hidden">{of}</span>
  </>
);

export const Block = (props: {
  title: string;
  hint?: string;
  css?: string;
  children: ComponentChildren;
}) => (
  <div class={`block ${props.css ?? ""}`}>
    <h3>{props.title}</h3>
    {props.hint && <p class="hint">{props.hint}</p>}
    {props.children}
  </div>
);

/** Every number as text, line by line: to read, to print, and for those who hear the page. */
import { useState } from "preact/hooks";
import { offset } from "./arrays";
import { bracket, Num } from "./bits";
import { shownCount, shownPlaces, type Stage } from "./trace";
import { placeOf, type View } from "./view";

const MOST = 4000; // numbers that stand in the table at once
const EACH = 64; // of one line

export function AllNumbers({ view }: { view: View }) {
  const [open, setOpen] = useState(false);
  const { truth, current } = view;
  const sizes = truth.stages.map((s) => shownCount(s));
  const all = sizes.reduce((a, b) => a + b, 0) <= MOST;
  const place = placeOf(current);
  return (
    <details class="all-numbers" open={open} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        <h2>All numbers{all ? "" : `: ${place}`}</h2>
      </summary>
      {open && (
        <div class="scroll" role="region" aria-label="all numbers" tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th scope="col">where</th>
                <th scope="col">name</th>
                <th scope="col">equation</th>
                <th scope="col">{view.other ? "truth" : "numbers"}</th>
                {view.other && <th scope="col">mistake</th>}
              </tr>
            </thead>
            <tbody>
              {truth.stages.map((s, n) =>
                all || placeOf(s) === place ? <Row key={n} view={view} s={s} n={n} /> : null,
              )}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}

function Row({ view, s, n }: { view: View; s: Stage; n: number }) {
  const places = shownPlaces(s, view.state.row);
  const wrong = view.other?.stages[n];
  const differs = view.other && view.differs(s.name, s.t) > 0;
  const css = `${n === view.at ? "at" : ""}${differs ? " differs" : ""}`;
  const numbers = (x: Stage) => (
    <td class="numbers">
      {places.slice(0, EACH).map((p) => (
        <span class="one">
          {places.length > 1 && <small>{bracket(s, p)} </small>}
          <Num x={x.value.data[offset(x.value.shape, p)]} />{" "}
        </span>
      ))}
      {places.length > EACH && "…"}
    </td>
  );
  return (
    <tr class={css} data-part={s.part} data-t={s.t ?? ""} data-name={s.name}>
      <td>{placeOf(s)}</td>
      <th scope="row">
        <button class="quiet" onClick={() => view.set({ at: n })}>
          <code>{s.name}</code>
        </button>
      </th>
      <td>
        <code>
          {s.branches.length > 6
            ? `${s.branches[0]} + … + ${s.branches.at(-1)}`
            : s.equation || "given"}
        </code>
      </td>
      {numbers(s)}
      {wrong && numbers(wrong)}
    </tr>
  );
}

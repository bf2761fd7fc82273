/** What is given can be changed: inputs, targets, weights, the first state. All is computed again. */
import { useState } from "preact/hooks";
import { offset, places } from "./arrays";
import { bracket, Num } from "./bits";
import { Field } from "./given";
import { HeatMap } from "./heat";
import { writePlace } from "./problem";
import { shownPlaces } from "./trace";
import { placeOf, type View } from "./view";

const FEW = 64; // fields at once

const KINDS: [string, RegExp][] = [
  ["inputs", /^x$/],
  ["targets", /^(y|target|dh_from_outside)$/],
  ["first state", /^[hc]0$/],
  ["weights", /^[WUbV](\d|_[ifgo])?$/],
  ["cotangents of the last state", /^d[hc]_T$/],
];

export function Editor({ view }: { view: View }) {
  const { problem, packed, state } = view;
  const names = KINDS.flatMap(([, form]) =>
    Object.keys(problem.arrays).filter((k) => form.test(k)),
  );
  const total = names.reduce((n, k) => n + problem.arrays[k].data.length, 0);
  const [chosen, choose] = useState("x");
  const name = names.includes(chosen) ? chosen : names[0];
  const count = Object.keys(state.edits).length;
  return (
    <section aria-labelledby="given">
      <h2 id="given">Change what is given</h2>
      <p class="hint">
        Forward and backward are computed again at once, in this page, in float64.
        {problem.cell !== "dense" && " x[t][n][d] is input d of example n at step t."}
        {packed.single && " (The trace was of float32, and has fewer digits.)"}
      </p>
      {count > 0 && (
        <p>
          <b>{count === 1 ? "One number is" : `${count} numbers are`} changed.</b>{" "}
          <button onClick={() => view.set({ edits: {} })}>as it was</button>
        </p>
      )}
      {view.before && <Effect view={view} />}
      {total <= FEW ? (
        KINDS.map(([kind, form]) => {
          const some = names.filter((k) => form.test(k));
          return (
            some.length > 0 && (
              <fieldset>
                <legend>{kind}</legend>
                <div class="arrays">
                  {some.map((k) => (
                    <Fields key={k} view={view} name={k} />
                  ))}
                </div>
              </fieldset>
            )
          );
        })
      ) : (
        <>
          <p>
            <label>
              array{" "}
              <select value={name} onChange={(e) => choose(e.currentTarget.value)}>
                {names.map((k) => (
                  <option>{k}</option>
                ))}
              </select>
            </label>
          </p>
          {problem.arrays[name].data.length <= FEW ? (
            <Fields view={view} name={name} />
          ) : (
            <Large view={view} name={name} />
          )}
        </>
      )}
    </section>
  );
}

function Fields({ view, name }: { view: View; name: string }) {
  return (
    <div class="fields">
      {places(view.problem.arrays[name].shape).map((place) => (
        <Field key={writePlace(name, place)} view={view} name={name} place={place} />
      ))}
    </div>
  );
}

/** What the change did to the loss and to the line that is told, old and new. */
function Effect({ view }: { view: View }) {
  const { before, truth, current: s, at } = view;
  const place = shownPlaces(s, view.state.row)[0];
  const index = s.value.data.length > 1 ? bracket(s, place) : "";
  const told = [before!, truth].map((x) => {
    const { value } = x.stages[at];
    return value.data[offset(value.shape, place)];
  });
  const rows: [string, number, number][] = [[`${s.name}${index}, ${placeOf(s)}`, told[0], told[1]]];
  if (truth.loss !== null) rows.unshift(["loss", before!.loss!, truth.loss]);
  return (
    <table class="effect" data-role="effect">
      <thead>
        <tr>
          <th scope="col">the effect</th>
          <th scope="col">before</th>
          <th scope="col">now</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(([name, was, is]) => (
          <tr>
            <th scope="row">{name}</th>
            <td>
              <Num x={was} />
            </td>
            <td>
              <Num x={is} css={Object.is(was, is) ? "" : "changed"} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Of a large array, one number at a time: its index, or a click into the heat map. */
function Large({ view, name }: { view: View; name: string }) {
  const x = view.problem.arrays[name];
  const [place, setPlace] = useState<number[]>([]);
  const here = x.shape.map((size, axis) => Math.min(place[axis] ?? 0, size - 1));
  const columns = x.shape[x.shape.length - 1];
  return (
    <div>
      <p class="fields">
        {x.shape.map((size, axis) => (
          <label class="field">
            <span>index {axis}</span>
            <input
              type="number"
              min={0}
              max={size - 1}
              value={here[axis]}
              onInput={(e) =>
                setPlace(
                  here.map((n, m) =>
                    m === axis ? Math.max(0, Number(e.currentTarget.value) || 0) : n,
                  ),
                )
              }
            />
          </label>
        ))}
        <Field key={writePlace(name, here)} view={view} name={name} place={here} />
        <span>
          now <Num x={x.data[offset(x.shape, here)]} />
        </span>
      </p>
      <HeatMap
        data={x.data}
        columns={columns}
        label={name}
        at={offset(x.shape, here)}
        pick={(n) => {
          let rest = n;
          const found = [...x.shape].reverse().map((size) => {
            const m = rest % size;
            rest = Math.floor(rest / size);
            return m;
          });
          setPlace(found.reverse());
        }}
      />
    </div>
  );
}

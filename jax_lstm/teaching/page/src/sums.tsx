/** The gradient of each weight, growing as its sum over time while one steps backward. */
import { useState } from "preact/hooks";
import { add, places } from "./arrays";
import { HeatMap, largest } from "./heat";
import { Letter } from "./mathml";
import { Bar, Num } from "./panel";
import type { Stage } from "./trace";
import type { View } from "./view";

const FEW = 24; // numbers told one by one

export function Sums({ view }: { view: View }) {
  const stages = (view.other ?? view.truth).stages;
  const dense = view.problem.cell === "dense";
  const sums = stages.filter((s) => (dense ? /^d[Wb]\d$/.test(s.name) : s.part === "over time"));
  const total = sums.reduce((n, s) => n + s.value.data.length, 0);
  const [chosen, choose] = useState("");
  const name = sums.some((s) => s.name === chosen) ? chosen : sums[0]?.name;
  const shown = total <= FEW ? sums : sums.filter((s) => s.name === name);
  if (dense) return <DenseSums view={view} sums={sums} />;
  const done = stages.filter(
    (s, n) => s.t !== null && s.name === name && (view.state.all || n <= view.at),
  ).length;
  return (
    <section aria-labelledby="sums">
      <h2 id="sums">Gradients of the weights: sums over time</h2>
      <p class="hint">
        A weight goes into every time step: a fork over time. Going backward, each step adds its
        share; {done} of {view.T} are in.
      </p>
      {total > FEW && (
        <p>
          <label>
            gradient{" "}
            <select value={name} onChange={(e) => choose(e.currentTarget.value)}>
              {sums.map((s) => (
                <option>{s.name}</option>
              ))}
            </select>
          </label>
        </p>
      )}
      <div class="scroll" role="region" aria-label="sums over time" tabIndex={0}>
        <div class={total <= FEW ? "sums few" : "sums"}>
          {shown.map((s) => (
            <Growing key={s.name} view={view} s={s} stages={stages} />
          ))}
        </div>
      </div>
    </section>
  );
}

/** The shares that are in, step by step, and their sum so far. */
function Growing({ view, s, stages }: { view: View; s: Stage; stages: Stage[] }) {
  const { T } = view;
  const shares = Array.from({ length: T }, (_, t) =>
    view.reached(s.name, t) ? stages[view.index(s.name, t)].value : null,
  );
  const there = shares.filter((x) => x !== null);
  const sum = there.length ? there.reduce(add) : null;
  const columns = s.value.shape.length < 2 ? s.value.data.length : s.value.shape[1];
  if (s.value.data.length <= FEW) {
    const list = places(s.value.shape);
    const most = Math.max(largest(s.value.data), ...shares.map((x) => largest(x?.data ?? []))) || 1;
    return (
      <table class="growing">
        <thead>
          <tr>
            <th scope="col">
              <Letter of={s.name} />
            </th>
            {T <= 4 ? (
              shares.map((_, t) => <th scope="col">t = {T - 1 - t}</th>)
            ) : (
              <th scope="col">shares of t = {T - 1} … 0</th>
            )}
            <th scope="col">sum so far</th>
          </tr>
        </thead>
        <tbody>
          {list.map((place, n) => (
            <tr>
              <th scope="row">
                <code>
                  {place.length && list.length > 1 ? place.map((p) => `[${p}]`).join("") : s.name}
                </code>
              </th>
              {T <= 4 ? (
                [...shares]
                  .reverse()
                  .map((x) => (
                    <td>{x ? <Num x={x.data[n]} css="back" /> : <span class="later">·</span>}</td>
                  ))
              ) : (
                <td>
                  <Shares data={shares.map((x) => x && x.data[n])} most={most} />
                </td>
              )}
              <td class="sum">
                {sum ? <Num x={sum.data[n]} css="back" /> : <span class="later">·</span>}
                {sum && <Bar share={sum.data[n] / most} />}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    );
  }
  const norms = shares.map((x) => x && Math.sqrt(x.data.reduce((n, v) => n + v * v, 0)));
  return (
    <div>
      <p>
        Norm of each step's share, the last step first:{" "}
        <Shares data={norms} most={largest(norms.map((x) => x ?? 0))} />
      </p>
      {sum ? (
        <HeatMap data={sum.data} columns={columns} label={`${s.name}, so far`} />
      ) : (
        <p class="later">Nothing has come back yet.</p>
      )}
    </div>
  );
}

/** A bar per step, in the order in which they come: the last step first. */
function Shares({ data, most }: { data: (number | null)[]; most: number }) {
  const turned = [...data].reverse();
  const w = 200 / turned.length;
  return (
    <svg
      class="shares"
      viewBox="0 -21 200 42"
      preserveAspectRatio="none"
      role="img"
      aria-label={`${turned.filter((x) => x !== null).length} of ${turned.length} shares`}
    >
      <line x1={0} x2={200} y1={0} y2={0} />
      {turned.map((x, n) =>
        x === null ? null : Number.isNaN(x) ? (
          <rect class="q-nan" x={n * w} y={-20} width={w * 0.8} height={40} />
        ) : (
          <rect
            class={x < 0 ? "q1" : "q9"}
            x={n * w}
            y={Math.min(0, (-20 * x) / (most || 1))}
            width={w * 0.8}
            height={Math.max(0.5, Math.abs((20 * x) / (most || 1)))}
          />
        ),
      )}
    </svg>
  );
}

const DenseSums = ({ view, sums }: { view: View; sums: Stage[] }) => (
  <section aria-labelledby="sums">
    <h2 id="sums">Gradients of the weights</h2>
    <p class="hint">
      Nothing recurs here: each weight is used once, and its gradient is one product.
    </p>
    <div class="sums few">
      {sums.map((s) => (
        <table class="growing">
          <tbody>
            {places(s.value.shape).map((place, n) => (
              <tr>
                <th scope="row">
                  <code>
                    {s.name}
                    {place.map((p) => `[${p}]`).join("")}
                  </code>
                </th>
                <td>
                  {view.reached(s.name, null) ? (
                    <Num x={s.value.data[n]} css="back" />
                  ) : (
                    <span class="later">·</span>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ))}
    </div>
  </section>
);

/** The gradient of each weight, growing as its sum over time while one steps backward. */
import { useState } from "preact/hooks";
import { add, places, type Arr } from "./arrays";
import { HeatMap, largest } from "./heat";
import { Bar, Head, Num } from "./bits";
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
        {shown[0].value.data.length <= FEW ? (
          <Growing view={view} sums={shown} stages={stages} />
        ) : (
          <GrowingHeat view={view} s={shown[0]} stages={stages} />
        )}
      </div>
    </section>
  );
}

/** The shares of each step, in the order in which they come back; null is not reached yet. */
const sharesOf = (view: View, s: Stage, stages: Stage[]) =>
  Array.from({ length: view.T }, (_, n) => {
    const t = view.T - 1 - n;
    return view.reached(s.name, t) ? stages[view.index(s.name, t)].value : null;
  });

const sumOf = (shares: (Arr | null)[]) => {
  const there = shares.filter((x) => x !== null);
  return there.length ? there.reduce(add) : null;
};

/** The shares that are in, step by step, and their sum so far: a line per number. */
function Growing({ view, sums, stages }: { view: View; sums: Stage[]; stages: Stage[] }) {
  const { T } = view;
  const apart = T <= 4;
  return (
    <table class="growing">
      <thead>
        <tr>
          <th scope="col">gradient</th>
          {apart ? (
            Array.from({ length: T }, (_, n) => <th scope="col">t = {T - 1 - n}</th>)
          ) : (
            <th scope="col">shares of t = {T - 1} … 0</th>
          )}
          <th scope="col">sum so far</th>
          <th scope="col" aria-hidden="true" />
        </tr>
      </thead>
      {sums.map((s) => {
        const shares = sharesOf(view, s, stages);
        const sum = sumOf(shares);
        const most =
          Math.max(largest(s.value.data), ...shares.map((x) => largest(x?.data ?? []))) || 1;
        const list = places(s.value.shape);
        return (
          <tbody key={s.name}>
            {list.map((place, n) => (
              <tr data-name={s.name}>
                <th scope="row">
                  <Head of={s.name} />
                  {list.length > 1 && <code>{place.map((p) => `[${p}]`).join("")}</code>}
                </th>
                {apart ? (
                  shares.map((x) => (
                    <td>{x ? <Num x={x.data[n]} css="back" /> : <span class="later">·</span>}</td>
                  ))
                ) : (
                  <td>
                    <Shares data={shares.map((x) => x && x.data[n])} most={most} />
                  </td>
                )}
                <td class="sum">
                  {sum ? <Num x={sum.data[n]} css="back" /> : <span class="later">·</span>}
                </td>
                <td aria-hidden="true">{sum && <Bar share={sum.data[n] / most} />}</td>
              </tr>
            ))}
          </tbody>
        );
      })}
    </table>
  );
}

/** A large gradient: a bar per share, and a heat map of their sum so far. */
function GrowingHeat({ view, s, stages }: { view: View; s: Stage; stages: Stage[] }) {
  const shares = sharesOf(view, s, stages);
  const sum = sumOf(shares);
  const columns = s.value.shape.length < 2 ? s.value.data.length : s.value.shape[1];
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
  const w = 200 / data.length;
  return (
    <svg
      class="shares"
      viewBox="0 -21 200 42"
      preserveAspectRatio="none"
      role="img"
      aria-label={`${data.filter((x) => x !== null).length} of ${data.length} shares`}
    >
      <line x1={0} x2={200} y1={0} y2={0} />
      {data.map((x, n) =>
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

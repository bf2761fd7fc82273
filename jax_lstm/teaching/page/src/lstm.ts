/** The LSTM: one step forward, and the same bottom-up; then all of time. */
import { add, type Arr } from "./arrays";
import { outside } from "./outside";
import { at, type Problem } from "./problem";
import * as S from "./stages";
import {
  destination,
  nameAfter,
  nameBefore,
  sumOf,
  tellAll,
  type Cut,
  type Known,
  type Line,
  type Trace,
} from "./trace";

export const GATES = ["i", "f", "g", "o"];

/** Gates, then c, then h. p: W_k, U_k, b_k. */
export function step(p: Known, x: Arr, h_prev: Arr, c_prev: Arr): Known {
  const s: Known = { x, h_prev, c_prev };
  for (const k of GATES) {
    s[`a_${k}`] = S.bias(add(S.linear(x, p[`W_${k}`]), S.linear(h_prev, p[`U_${k}`])), p[`b_${k}`]); // (1)
    s[k] = k === "g" ? S.tanh(s[`a_${k}`]) : S.sigmoid(s[`a_${k}`]); // (2)
  }
  s.c = S.cellState(s.f, c_prev, s.i, s.g); // (3)
  s.tanh_c = S.tanh(s.c);
  s.h = S.hiddenState(s.o, s.tanh_c); // (4)
  return s;
}

/** The cotangents of one step; dh and dc from outside and from the step after it. */
export function stepBwd(
  p: Known,
  s: Known,
  dh_from_outside: Arr,
  dh_from_next: Arr,
  dc_from_next: Arr,
  fork: (names: string[], d: Known) => Arr,
): Known {
  const d: Known = { dh_from_outside, dh_from_next, dc_from_next };
  d.dh = fork(["dh_from_outside", "dh_from_next"], d); // (F')
  const through_h = S.hiddenStateBwd(s.o, s.tanh_c, d.dh); // (4')
  d.dc_from_h = through_h.dc;
  d.dc = fork(["dc_from_h", "dc_from_next"], d); // (F')
  const { df, dc_prev, di, dg } = S.cellStateBwd(s.f, s.c_prev, s.i, s.g, d.dc); // (3')
  Object.assign(d, { di, df, dg, do: through_h.do, dc_prev });
  for (const k of GATES) {
    d[`da_${k}`] = k === "g" ? S.tanhBwd(s.g, dg) : S.sigmoidBwd(s[k], d[`d${k}`]); // (2')
    const { dy, db } = S.biasBwd(d[`da_${k}`]); // (1'b)
    const from_x = S.linearBwd(s.x, p[`W_${k}`], dy); // (1')
    const from_h = S.linearBwd(s.h_prev, p[`U_${k}`], dy);
    d[`dx_${k}`] = from_x.dx;
    d[`dh_prev_${k}`] = from_h.dx;
    Object.assign(d, { [`dW_${k}`]: from_x.dW, [`dU_${k}`]: from_h.dW, [`db_${k}`]: db });
  }
  for (const name of ["dx", "dh_prev"]) {
    d[name] = fork(
      GATES.map((k) => `${name}_${k}`),
      d,
    ); // (F')
  }
  return d;
}

export function lstmForward(problem: Problem): Known[] {
  const p = problem.arrays;
  let { h0: h, c0: c } = p;
  return Array.from({ length: p.x.shape[0] }, (_, t) => {
    const s = step(p, at(problem, "x", t), h, c);
    ({ h, c } = s);
    return s;
  });
}

export function lstmTrace(problem: Problem, cut: Cut): Trace {
  const p = problem.arrays;
  const steps = lstmForward(problem);
  const after = outside(
    problem,
    steps.map((s) => s.h),
  );
  const deltas: Known[] = [];
  let { dh_T: dh_from_next, dc_T: dc_from_next } = p;
  for (let t = steps.length - 1; t >= 0; t--) {
    const found = after.steps[t];
    const fork = (names: string[], d: Known) => sumOf(names, d, t, cut);
    deltas[t] = stepBwd(p, steps[t], found.dh_from_outside, dh_from_next, dc_from_next, fork);
    dh_from_next = deltas[t].dh_prev;
    dc_from_next = deltas[t].dc_prev;
  }
  return tellLstm(
    problem,
    steps.map((s, t) => ({ ...after.steps[t], ...s })),
    deltas,
    after,
    cut,
  );
}

/** The lines of an LSTM, given its numbers. */
export function tellLstm(
  problem: Problem,
  steps: Known[],
  deltas: Known[],
  after: { forward: Line[]; backward: Line[]; weights: string[] },
  cut?: Cut,
): Trace {
  const { order } = problem;
  const slope = (k: string) => (k === "g" ? "(1 - g^2)" : `${k} * (1 - ${k})`);
  const factor: Record<string, string> = {
    i: "dc * g",
    f: "dc * c_prev",
    g: "dc * i",
    o: "dh * tanh_c",
  };
  const shares = (name: string, of: string): Line[] => [
    ...order.map((k): Line => [`${name}_${k}`, `da_${k} @ ${of}_${k}.T`]), // (1')
    [
      name,
      order.map((k) => `${name}_${k}`).join(" + "),
      `${name.slice(1)} goes into four gates, and each sends its share back`,
    ],
  ];
  return tellAll({
    problem,
    steps,
    deltas,
    after,
    cut,
    fields: ["h", "c"],
    weights: [...order.flatMap((k) => ["W", "U", "b"].map((w) => `${w}_${k}`)), ...after.weights],
    forward: (t) => [
      ["x", ""],
      ["h_prev", nameBefore("h", t)],
      ["c_prev", nameBefore("c", t)],
      ...order.flatMap((k): Line[] => [
        [`a_${k}`, `x @ W_${k} + h_prev @ U_${k} + b_${k}`], // (1)
        [k, `${k === "g" ? "tanh" : "sigmoid"}(a_${k})`], // (2)
      ]),
      ["c", "f * c_prev + i * g"], // (3)
      ["tanh_c", "tanh(c)"],
      ["h", "o * tanh_c"], // (4)
    ],
    backward: (t, T) => [
      ["dh_from_next", nameAfter("dh_prev", "dh_T", t, T)],
      ["dh", "dh_from_outside + dh_from_next", destination("h", t, T)],
      ["dc_from_h", "dh * o * (1 - tanh_c^2)"], // (4')
      ["dc_from_next", nameAfter("dc_prev", "dc_T", t, T)],
      ["dc", "dc_from_h + dc_from_next", destination("c", t, T)],
      ...order.flatMap((k): Line[] => [
        [`d${k}`, factor[k]], // (3'), (4')
        [`da_${k}`, `d${k} * ${slope(k)}`], // (2')
      ]),
      ["dc_prev", "dc * f"], // (3')
      ...shares("dx", "W"),
      ...shares("dh_prev", "U"),
      ...order.flatMap((k): Line[] => [
        [`dW_${k}`, `x.T @ da_${k}`],
        [`dU_${k}`, `h_prev.T @ da_${k}`],
        [`db_${k}`, `sum(da_${k})`],
      ]),
    ],
  });
}

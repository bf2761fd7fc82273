/** Elman's network: a = x W + h_prev U + b, h = tanh(a), and the same bottom-up. */
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

export function elmanStep(p: Known, x: Arr, h_prev: Arr): Known {
  const a = S.bias(add(S.linear(x, p.W), S.linear(h_prev, p.U)), p.b); // (1)
  return { x, h_prev, a, h: S.tanh(a) }; // (2)
}

export function elmanStepBwd(
  p: Known,
  s: Known,
  dh_from_outside: Arr,
  dh_from_next: Arr,
  fork: (names: string[], d: Known) => Arr,
): Known {
  const dh = fork(["dh_from_outside", "dh_from_next"], { dh_from_outside, dh_from_next }); // (F')
  const da = S.tanhBwd(s.h, dh); // (2')
  const { dy, db } = S.biasBwd(da); // (1'b)
  const { dx, dW } = S.linearBwd(s.x, p.W, dy); // (1')
  const { dx: dh_prev, dW: dU } = S.linearBwd(s.h_prev, p.U, dy);
  return { dh_from_outside, dh_from_next, dh, da, dx, dh_prev, dW, dU, db };
}

export function elmanForward(problem: Problem): Known[] {
  let h = problem.arrays.h0;
  return Array.from({ length: problem.arrays.x.shape[0] }, (_, t) => {
    const s = elmanStep(problem.arrays, at(problem, "x", t), h);
    h = s.h;
    return s;
  });
}

export function elmanTrace(problem: Problem, cut: Cut): Trace {
  const steps = elmanForward(problem);
  const after = outside(
    problem,
    steps.map((s) => s.h),
  );
  const deltas: Known[] = [];
  let dh_from_next = problem.arrays.dh_T;
  for (let t = steps.length - 1; t >= 0; t--) {
    const found = after.steps[t];
    const fork = (names: string[], d: Known) => sumOf(names, d, t, cut);
    deltas[t] = {
      ...found,
      ...elmanStepBwd(problem.arrays, steps[t], found.dh_from_outside, dh_from_next, fork),
    };
    dh_from_next = deltas[t].dh_prev;
  }
  return tellElman(
    problem,
    steps.map((s, t) => ({ ...after.steps[t], ...s })),
    deltas,
    after,
    cut,
  );
}

/** The lines of an Elman network, given its numbers. */
export function tellElman(
  problem: Problem,
  steps: Known[],
  deltas: Known[],
  after: { forward: Line[]; backward: Line[]; weights: string[] },
  cut?: Cut,
): Trace {
  return tellAll({
    problem,
    steps,
    deltas,
    after,
    cut,
    fields: ["h"],
    weights: ["W", "U", "b", ...after.weights],
    forward: (t) => [
      ["x", ""],
      ["h_prev", nameBefore("h", t)],
      ["a", "x @ W + h_prev @ U + b"], // (1)
      ["h", "tanh(a)"], // (2)
    ],
    backward: (t, T) => [
      ["dh_from_next", nameAfter("dh_prev", "dh_T", t, T)],
      ["dh", "dh_from_outside + dh_from_next", destination("h", t, T)],
      ["da", "dh * (1 - h^2)"], // (2')
      ["dx", "da @ W.T"], // (1')
      ["dh_prev", "da @ U.T"],
      ["dW", "x.T @ da"],
      ["dU", "h_prev.T @ da"],
      ["db", "sum(da)"],
    ],
  });
}

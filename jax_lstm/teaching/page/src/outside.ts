/** What comes after h_t: a loss per step, or cotangents that are given. */
import { map, times, type Arr } from "./arrays";
import { at, type Problem } from "./problem";
import * as S from "./stages";
import type { Known, Line } from "./trace";

export interface After {
  steps: Known[];
  forward: Line[];
  backward: Line[];
  weights: string[];
}

export function outside(problem: Problem, hs: Arr[]): After {
  const given = (backward: Line[] = [["dh_from_outside", ""]]): After => ({
    steps: hs.map((h, t) => ({ dh_from_outside: lossBwd(problem, h, t) })),
    forward: [],
    backward,
    weights: [],
  });
  if (problem.outside === "squares") {
    const found = given([["dh_from_outside", "h - y"]]);
    found.forward = [
      ["y", ""],
      ["loss", "sum((h - y)^2) / 2"], // (9)
    ];
    found.steps.forEach((s, t) => {
      s.y = at(problem, "y", t);
      s.loss = S.squaredError(hs[t], s.y);
    });
    return found;
  }
  return problem.outside === "readout" ? readout(problem, hs) : given();
}

/** Logits y = h V, and L = -log softmax(y) of the target. */
function readout(problem: Problem, hs: Arr[]): After {
  const V = problem.arrays.V;
  return {
    steps: hs.map((h, t) => {
      const target = at(problem, "target", t);
      const y = S.linear(h, V); // (5)
      const p = S.softmax(y);
      const dy = S.softmaxCrossEntropyBwd(p, target); // (7')
      const { dx, dW } = S.linearBwd(h, V, dy); // (5')
      const loss = S.softmaxCrossEntropy(y, target); // (7)
      return { target, y, p, loss, dy, dV: dW, dh_from_outside: dx };
    }),
    forward: [
      ["y", "h @ V"],
      ["p", "softmax(y)"],
      ["target", ""],
      ["loss", "-sum(target * log(p))"],
    ],
    backward: [
      ["dy", "p - target"],
      ["dV", "h.T @ dy"],
      ["dh_from_outside", "dy @ V.T"],
    ],
    weights: ["V"],
  };
}

/** Which of two: the wrong one, if that is the mistake. */
export type Pick = <X>(name: string, wrong: X, right: X) => X;
export const truth: Pick = (_, __, right) => right;

/** dL/dh_t */
export function lossBwd(problem: Problem, h: Arr, t: number, pick: Pick = truth): Arr {
  if (problem.arrays.dh_from_outside) return at(problem, "dh_from_outside", t);
  const y = at(problem, "y", t);
  const size = h.shape[1];
  const total = map((_) => 0, y);
  for (let n = 0; n < total.data.length; n += size) {
    const row = y.data.subarray(n, n + size);
    total.data.fill(
      row.reduce((a, b) => a + b, 0),
      n,
      n + size,
    );
  }
  const sigmoid = () => S.squaredErrorBwd(S.sigmoid(h), y);
  const softmax = () => map((p, all, y) => p * all - y, S.softmax(h), total, y);
  let dh: Arr;
  if (problem.outside === "binary_cross_entropy") {
    const half = map((p, y) => (p - 1) * y, S.sigmoid(h), y);
    dh = pick("one half of cross-entropy", half, sigmoid());
    dh = pick("softmax for sigmoid", softmax(), dh);
  } else if (problem.outside === "softmax_cross_entropy") {
    dh = pick("sigmoid for softmax", sigmoid(), softmax());
  } else {
    dh = S.squaredErrorBwd(h, y); // (9')
  }
  return problem.scale === 1 ? dh : times(dh, problem.scale);
}

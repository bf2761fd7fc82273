/** The trace: every stage forward and every delta backward, line by line, as trace.py tells them. */
import { map, places, zeros, type Arr } from "./arrays";
import { denseTrace } from "./dense";
import { elmanTrace } from "./elman";
import { namesIn } from "./equations";
import { lstmTrace } from "./lstm";
import type { Problem } from "./problem";
import { forkBwd } from "./stages";

export type Part = "forward" | "backward" | "over time";
export type Known = Record<string, Arr>;

/** One line: name = equation = value. At a fork, the branches whose sum it is, and where they go. */
export interface Stage {
  part: Part;
  t: number | null;
  name: string;
  equation: string;
  value: Arr;
  branches: string[];
  note: string;
  /** The array behind a name of the equation. */
  look: (name: string) => Arr;
}

export interface Trace {
  stages: Stage[];
  loss: number | null;
  /** dh0 and dc0 */
  ends: Known;
}

/** [name, equation], and at a fork a note. */
export type Line = [string, string, string?];

/** Is this branch of a fork left out, at this step? */
export type Cut = (branch: string, t: number | null) => boolean;
export const nothing: Cut = () => false;

export function trace(problem: Problem, cut: Cut = nothing): Trace {
  if (problem.cell === "dense") return denseTrace(problem);
  return problem.cell === "lstm" ? lstmTrace(problem, cut) : elmanTrace(problem, cut);
}

/** What is left of a fork's branches, added; of none of them, zeros. */
export function sumOf(names: string[], known: Known, t: number | null, cut: Cut): Arr {
  const left = names.filter((k) => !cut(k, t));
  return left.length ? forkBwd(left.map((k) => known[k])) : zeros(known[names[0]]);
}

export function tell(
  part: Part,
  t: number | null,
  lines: Line[],
  look: Stage["look"],
  cut: Cut = nothing,
): Stage[] {
  const left = (equation: string) =>
    namesIn(equation)
      .filter((k) => !cut(k, t))
      .join(" + ") || "0";
  return lines.map(([name, equation, note]) => ({
    part,
    t,
    name,
    equation: note && namesIn(equation).some((k) => cut(k, t)) ? left(equation) : equation,
    value: look(name),
    branches: note ? namesIn(equation) : [],
    note: note ?? "",
    look,
  }));
}

/** What a cell's steps are told with: numbers by name per step, and the lines. */
export interface Told {
  problem: Problem;
  steps: Known[];
  deltas: Known[];
  forward: (t: number) => Line[];
  backward: (t: number, T: number) => Line[];
  /** What comes after the cell: its lines, which follow the forward and precede the backward. */
  after: { forward: Line[]; backward: Line[] };
  fields: string[];
  weights: string[];
  cut?: Cut;
}

/** The lines of all steps, forward and then in reverse, and the sums over time. */
export function tellAll(told: Told): Trace {
  const { problem, steps, deltas, fields, cut = nothing } = told;
  const T = steps.length;
  const given = problem.arrays;
  const known: Known = {};
  for (const name of Object.keys(given))
    if (given[name].shape.length < 3) known[name] = given[name];
  for (let t = 0; t < T; t++) {
    for (const k of fields) {
      known[`${k}(t=${t})`] = steps[t][k];
      known[`d${k}_prev(t=${t})`] = deltas[t][`d${k}_prev`];
    }
  }
  const look = (t: number) => (name: string) => deltas[t][name] ?? steps[t][name] ?? known[name];
  const stages: Stage[] = [];
  for (let t = 0; t < T; t++) {
    stages.push(...tell("forward", t, [...told.forward(t), ...told.after.forward], look(t)));
  }
  for (let t = T - 1; t >= 0; t--) {
    stages.push(
      ...tell("backward", t, [...told.after.backward, ...told.backward(t, T)], look(t), cut),
    );
  }
  stages.push(...tellSums(told.weights, deltas, cut));
  const losses = steps.flatMap((s) => (s.loss ? [s.loss.data[0]] : []));
  const loss = losses.length ? losses.reduce((a, b) => a + b, 0) : null;
  const ends: Known = {};
  for (const k of fields) ends[`d${k}0`] = deltas[0][`d${k}_prev`];
  return { stages, loss, ends };
}

/** dW = dW(t=0) + dW(t=1) + ...: a weight is a fork over time. */
function tellSums(weights: string[], deltas: Known[], cut: Cut): Stage[] {
  return weights.map((name) => {
    const shares: Known = {};
    deltas.forEach((d, t) => (shares[`d${name}(t=${t})`] = d[`d${name}`]));
    const many = deltas.length > 1;
    const all = Object.keys(shares);
    return {
      part: "over time",
      t: null,
      name: `d${name}`,
      equation: all.filter((k) => !cut(k, null)).join(" + ") || "0",
      value: sumOf(all, shares, null, cut),
      branches: many ? all : [],
      note: many ? `${name} goes into every time step` : "",
      look: (share: string) => shares[share],
    };
  });
}

export const nameBefore = (name: string, t: number) => (t ? `${name}(t=${t - 1})` : `${name}0`);

export const nameAfter = (name: string, last: string, t: number, T: number) =>
  t + 1 < T ? `${name}(t=${t + 1})` : last;

/** Where a state goes, and what comes back from there. */
export function destination(name: "h" | "c", t: number, T: number): string {
  const first = name === "h" ? "goes outside" : "goes into tanh(c), and so into h";
  const step = { h: `into step ${t + 1}`, c: `into the forget product of step ${t + 1}` }[name];
  const then = t + 1 < T ? step : "into the last state";
  const back = name === "h" ? "outside" : "h";
  return `${name} ${first}: d${name}_from_${back}; and ${then}: d${name}_from_next`;
}

/** "W", "dW_i", "db", "V": told with all their numbers, whichever example is shown. */
export const isWeight = (name: string) => /^d?[WUbV](\d|_[ifgo])?(\(t=\d+\))?$/.test(name);

/** Does row `row` of the batch matter for this line? */
export const isBatched = (s: { name: string; value: Arr }) =>
  s.value.shape.length === 2 && !isWeight(s.name);

/** What is shown of a line: of (B, H) one example; of a weight, all. */
export function shownPlaces(s: { name: string; value: Arr }, row: number): number[][] {
  const [, size] = s.value.shape;
  return isBatched(s) ? Array.from({ length: size }, (_, n) => [row, n]) : places(s.value.shape);
}

/** How many these are. */
export const shownCount = (s: { name: string; value: Arr }) =>
  isBatched(s) ? s.value.shape[1] : s.value.data.length;

/** The fork's value without one of its branches. */
export function withoutBranch(s: Stage, branch: string): Arr {
  const others = s.branches.filter((k) => k !== branch).map((k) => s.look(k));
  return others.length ? forkBwd(others) : map(() => 0, s.value);
}

/** What all parts of the page look at: the trace, where one is in it, and what is done next. */
import { differences } from "./changes";
import { largest } from "./heat";
import { mistaken } from "./mistakes";
import { problemOf, type Packed, type Problem } from "./problem";
import type { State } from "./state";
import { isBatched, trace, type Stage, type Trace } from "./trace";

export interface View extends Made {
  packed: Packed;
  state: State;
  current: Stage;
  at: number;
  /** "name@t" of what the current line is made of. */
  uses: Set<string>;
  index(name: string, t: number | null): number;
  reached(name: string, t: number | null): boolean;
  /** Numbers of the shown example, with the mistake if one is set; null before they are reached. */
  numbers(name: string, t: number | null): Float64Array | null;
  largest(name: string): number;
  /** How far it is from the truth: 0 not at all, 1 to 3. */
  differs(name: string, t: number | null): number;
  isFirst(name: string, t: number | null): boolean;
  set(change: Partial<State>): void;
  goTo(name: string, t: number | null): void;
  toggle(t: number): void;
  opened: Set<number>;
}

export interface Made {
  problem: Problem;
  truth: Trace;
  /** With the mistake, null where none is set. */
  other: Trace | null;
  /** Before anything was changed, null where nothing is. */
  before: Trace | null;
  flags: Float64Array[];
  first: number;
  indices: Map<string, number>;
  most: Map<string, number>;
  T: number;
}

/** All numbers of an example with its edits and its mistake. */
export function make(packed: Packed, edits: State["edits"], mistake: string): Made {
  const problem = problemOf(packed, edits);
  const truth = trace(problem);
  const other = mistake ? mistaken(problem, mistake, truth) : null;
  const changed = Object.keys(edits).length > 0;
  const before = changed ? trace(problemOf(packed)) : null;
  const found = other ? differences(truth, other) : { flags: [], first: -1 };
  const indices = new Map(truth.stages.map((s, n) => [`${s.name}@${s.t}`, n]));
  const most = new Map<string, number>();
  for (const s of (other ?? truth).stages) {
    most.set(s.name, Math.max(most.get(s.name) ?? 0, largest(s.value.data)));
  }
  const T = problem.cell === "dense" ? 1 : problem.arrays.x.shape[0];
  return {
    problem,
    truth,
    other,
    before,
    flags: found.flags.map((f) => f.data),
    first: found.first,
    indices,
    most,
    T,
  };
}

/** Of (B, H) the numbers of one example; of a weight all. */
export function rowOf(s: Stage, row: number): Float64Array {
  if (!isBatched(s)) return s.value.data;
  const size = s.value.shape[1];
  return s.value.data.subarray(row * size, (row + 1) * size);
}

/** Steps that are open: what was asked for, or those around the one that is told. */
function openSteps(state: State, T: number, current: Stage): Set<number> {
  if (state.open) return new Set(state.open.filter((t) => t < T));
  if (T <= 4) return new Set(Array.from({ length: T }, (_, t) => t));
  const t = current.t ?? 0;
  const other = current.part === "forward" ? Math.max(0, t - 1) : Math.min(T - 1, t + 1);
  return new Set([t, other]);
}

export function viewOf(
  packed: Packed,
  made: Made,
  state: State,
  set: (change: Partial<State>) => void,
): View {
  const { truth, other, indices, T } = made;
  const at = Math.min(state.at, truth.stages.length - 1);
  const current = truth.stages[at];
  const opened = openSteps(state, T, current);
  const stages = (other ?? truth).stages;
  const index = (name: string, t: number | null) => indices.get(`${name}@${t}`) ?? -1;
  const reached = (name: string, t: number | null) => {
    const n = index(name, t);
    return n >= 0 && (state.all || n <= at);
  };
  return {
    ...made,
    packed,
    state,
    current,
    at,
    opened,
    index,
    reached,
    set,
    uses: new Set(namesUsed(current)),
    numbers: (name, t) => (reached(name, t) ? rowOf(stages[index(name, t)], state.row) : null),
    largest: (name) => made.most.get(name) ?? 0,
    differs(name, t) {
      const n = index(name, t);
      if (!other || n < 0 || !reached(name, t)) return 0;
      const flags = made.flags[n];
      if (!flags.some((x) => x > 0)) return 0;
      const [a, b] = [truth.stages[n].value.data, other.stages[n].value.data];
      const far = largest(a.map((x, m) => x - b[m])) / (largest(a) || 1);
      return far < 0.1 ? 1 : far < 0.5 ? 2 : 3;
    },
    isFirst: (name, t) => made.first >= 0 && index(name, t) === made.first && reached(name, t),
    goTo(name, t) {
      const n = index(name, t);
      if (n >= 0) set({ at: n });
    },
    toggle(t) {
      const next = new Set(opened);
      if (!next.delete(t)) next.add(t);
      set({ open: [...next].sort((a, b) => a - b) });
    },
  };
}

function namesUsed(s: Stage): string[] {
  const names = s.equation.match(/[A-Za-z_]\w*(\(t=\d+\))?/g) ?? [];
  return names.map((name) => {
    const time = /^(.*)\(t=(\d+)\)$/.exec(name);
    return time ? `${time[1]}@${time[2]}` : `${name}@${s.t}`;
  });
}

/** "forward, t = 0", "over time" */
export const placeOf = (s: Stage) => (s.t === null ? s.part : `${s.part}, t = ${s.t}`);

/** The moments of the slider: each part of each step, as the first and the last line of it. */
export function moments(truth: Trace): { label: string; first: number; last: number }[] {
  const found: { label: string; first: number; last: number }[] = [];
  truth.stages.forEach((s, n) => {
    const label = placeOf(s);
    const last = found[found.length - 1];
    if (last?.label === label) last.last = n;
    else found.push({ label, first: n, last: n });
  });
  return found;
}

/** What is done to a finished gradient: a wrong sign, a mean for a sum, leaves mixed up. */
import { map, times, transpose, type Arr } from "./arrays";
import { GATES } from "./lstm";
import type { Problem } from "./problem";
import type { Stage, Trace } from "./trace";

/** The trace with the change, null where `name` is none. */
export function changeAfter(problem: Problem, name: string, right: Trace): Trace | null {
  const [T, B] = problem.arrays.x.shape;
  const sizes: Record<string, number> = {
    time: T,
    batch: B,
    features: problem.arrays.h0.shape[1],
    gates: 4,
  };
  const many = (axes: string) => axes.split(" and ").reduce((n, k) => n * sizes[k], 1);
  const [kind, rest] = [name.split(" ").slice(0, 2).join(" "), name.split(" ").slice(2).join(" ")];
  const weight = (s: Stage) => s.part === "over time" && /^d[WUb]/.test(s.name);
  const all = (factor: number) =>
    change(
      right,
      (s) => (s.part === "forward" ? null : times(s.value, factor)),
      (d) => times(d, factor),
    );
  if (name === "sign") return all(-1);
  if (name === "no half") return all(2);
  if (name === "half") return all(0.5);
  if (kind === "mean over") return all(1 / many(rest));
  if (kind === "sum over") return all(many(rest));
  if (kind === "weights averaged") {
    const factor = 1 / many(rest.slice("over ".length));
    return change(right, (s) => (weight(s) ? times(s.value, factor) : null));
  }
  if (name === "b doubled" || name === "b halved") {
    const factor = name === "b doubled" ? 2 : 0.5;
    return change(right, (s) =>
      weight(s) && s.name.startsWith("db") ? times(s.value, factor) : null,
    );
  }
  if (name === "dxs reversed") {
    const dx = new Map(right.stages.filter((s) => s.name === "dx").map((s) => [s.t, s.value]));
    return change(right, (s) => (s.name === "dx" ? dx.get(T - 1 - (s.t ?? 0))! : null));
  }
  const onLeaf = (leaf: string, factor: number) => {
    const same = (s: Stage) =>
      leaf === "dxs" ? s.name === "dx" : weight(s) && s.name.split("_")[0] === leaf;
    return change(
      right,
      (s) => (same(s) ? times(s.value, factor) : null),
      (d, k) => (k === leaf ? times(d, factor) : d),
    );
  };
  if (kind === "sign of") return onLeaf(rest, -1);
  const zero = /^(d\w+) zero$/.exec(name);
  if (zero) return onLeaf(zero[1], 0);
  const mean = /^(d\w+) (averaged|summed) over (.*)$/.exec(name);
  if (mean) return onLeaf(mean[1], mean[2] === "summed" ? many(mean[3]) : 1 / many(mean[3]));
  const block = /^(d\w+(?: and d\w+)*) ([ifgo]) averaged over (.*)$/.exec(name);
  if (block) {
    const names = block[1].split(" and ").map((leaf) => `${leaf}_${block[2]}`);
    const factor = 1 / many(block[3]);
    return change(right, (s) =>
      weight(s) && names.includes(s.name.split("[")[0]) ? times(s.value, factor) : null,
    );
  }
  if (name === "dh0 and dc0 swapped") {
    return { ...right, ends: { dh0: right.ends.dc0, dc0: right.ends.dh0 } };
  }
  if (/^d[WU] transposed$/.test(name)) {
    const leaf = name.slice(0, 2);
    return change(right, (s) =>
      weight(s) && s.name.split("_")[0] === leaf ? transpose(s.value) : null,
    );
  }
  if (name.startsWith("gradient in order ")) {
    const order = name.slice(18).split(" ");
    const found = (s: Stage) => {
      const [leaf, k] = s.name.split("_");
      if (!(weight(s) || leaf === "da") || !k) return null;
      const other = `${leaf}_${order[GATES.indexOf(k)]}`;
      return right.stages.find((r) => r.part === s.part && r.t === s.t && r.name === other)!.value;
    };
    return change(right, found);
  }
  return null;
}

/** The same lines, some with another value. */
function change(
  right: Trace,
  value: (s: Stage) => Arr | null,
  end: (d: Arr, name: string) => Arr = (d) => d,
): Trace {
  const changed = new Map<string, Arr>();
  right.stages.forEach((s) => {
    const found = value(s);
    if (found) changed.set(`${s.name}@${s.t}`, found);
  });
  const stages = right.stages.map((s) => ({
    ...s,
    value: changed.get(`${s.name}@${s.t}`) ?? s.value,
    look(name: string) {
      const [, bare, t] = /^(.*)\(t=(\d+)\)$/.exec(name) ?? [name, name, s.t];
      return changed.get(`${bare}@${t}`) ?? s.look(name);
    },
  }));
  const ends = Object.fromEntries(Object.entries(right.ends).map(([k, d]) => [k, end(d, k)]));
  return { ...right, stages, ends };
}

/** Where two values differ: by more than rounding, relative to the largest number of their name. */
export function differences(truth: Trace, other: Trace): { flags: Arr[]; first: number } {
  const SAME = 1e-12;
  const largest = new Map<string, number>();
  for (const s of truth.stages) {
    const most = s.value.data.reduce(
      (m, x) => (Number.isFinite(x) ? Math.max(m, Math.abs(x)) : m),
      0,
    );
    largest.set(s.name, Math.max(largest.get(s.name) ?? 0, most));
  }
  const flags = truth.stages.map((s, n) => {
    const scale = SAME * largest.get(s.name)!;
    const differs = (a: number, b: number) =>
      a === b || Math.abs(a - b) <= scale || (a !== a && b !== b) ? 0 : 1;
    const found = map(differs, s.value, other.stages[n].value);
    return found;
  });
  return { flags, first: flags.findIndex((f) => f.data.some((x) => x > 0)) };
}

/**
 * The mistakes of diagnosis/slow_backward.py: one backward per cell, written apart from the truth,
 * in which each classic mistake is a switch. `pick(name, wrong, right)` is the switch.
 *
 * A mistaken trace has the lines of the truth, and other numbers.
 */
import { add, map, product, transpose, zeros, type Arr } from "./arrays";
import { changeAfter } from "./changes";
import { elmanForward, tellElman } from "./elman";
import { GATES, lstmForward, tellLstm } from "./lstm";
import { lossBwd, outside, type After, type Pick } from "./outside";
import type { Problem } from "./problem";
import * as S from "./stages";
import { trace, type Cut, type Known, type Trace } from "./trace";

/** The trace with a mistake, or without a branch; null where no switch here has that name. */
export function mistaken(problem: Problem, name: string, right: Trace): Trace | null {
  const cut = cutOf(name);
  if (cut) return trace(problem, cut);
  const changed = changeAfter(problem, name, right);
  if (changed) return changed;
  const made = problem.cell === "lstm" ? lstmMistaken : elmanMistaken;
  const met = { yes: FORMS.some((form) => form.test(name)) };
  const found = made(problem, name, met);
  return met.yes ? found : null;
}

/** "without dx_i", "without dx_i at t=1", "without dW_i(t=0)" */
export function cutOf(name: string): Cut | null {
  const [, branch, t] = /^without (\w+(?:\(t=\d+\))?)(?: at t=(\d+))?$/.exec(name) ?? [];
  return branch ? (k, at) => k === branch && (t === undefined || at === Number(t)) : null;
}

/** Mistakes that are read from their name, not picked by it. */
const FORMS = [
  /^own loss$/,
  /^(reach|windows) of \d+$/,
  /^(h0|c0|state) zero$/,
  /^forget offset$/,
  /^forward in order /,
  /^(recurrence|input) of [ifgo]$/,
  /^(dx|dh|dx and dh) of [ifgo] alone$/,
  /^\w+ skipped: t=\d+$/,
  /^\w+( [ifgo])? overwritten: (t|example)=\d+ left$/,
];

/** Which cotangent goes where, in several runs that are added. */
interface Flow {
  enters: boolean[];
  ends: boolean;
  cut: boolean[];
}

export function flows(name: string, T: number): Flow[] {
  const steps = Array.from({ length: T }, (_, t) => t);
  const k = Number(name.split(" ").pop());
  const every = steps.map(() => true);
  const none = steps.map(() => false);
  if (name === "own loss") {
    return [
      { enters: every, ends: false, cut: every },
      { enters: none, ends: true, cut: none },
    ];
  }
  if (name.startsWith("reach of")) {
    return steps.map((r) => ({
      enters: steps.map((t) => t === r),
      ends: r === T - 1,
      cut: steps.map((t) => r - t >= k),
    }));
  }
  const windows = name.startsWith("windows of");
  const cut = windows ? steps.map((t) => (t + 1) % k === 0) : none;
  return [{ enters: every, ends: true, cut }];
}

/** What is thrown away; also of NaN a NaN is left, as in 0 * d. */
const keep = (on: boolean, d: Arr) => (on ? d : zeros(d));

/** The mistakes that the backwards of all cells share. */
function shared(problem: Problem, name: string, steps: Known[], met: { yes: boolean }) {
  const pick: Pick = (k, wrong, right) => {
    met.yes ||= k === name;
    return k === name ? wrong : right;
  };
  const T = steps.length;
  const of = (t: number): Arr =>
    t < 0 || t >= T ? zeros(steps[0].h) : lossBwd(problem, steps[t].h, t, pick);
  return {
    pick,
    fromOutside(t: number): Arr {
      const dh = pick("last loss", t === T - 1 ? of(t) : zeros(of(t)), of(t));
      return pick("dh of t+1", of(t + 1), pick("dh of t-1", of(t - 1), dh));
    },
    begin(flow: Flow, field: string): Arr {
      const d = problem.arrays[`d${field}_T`];
      return keep(flow.ends, pick(`d${field}_T dropped`, zeros(d), d));
    },
    carry(flow: Flow, t: number, d: Arr, mistake: string): Arr {
      const left = keep(!flow.cut[t], d);
      return pick("nothing carried", zeros(left), pick(mistake, zeros(left), left));
    },
    /** What the weight products multiply da_t with: x_t and h_{t-1}, or what is taken for them. */
    factors(t: number): [Arr, Arr] {
      const zero = zeros(steps[0].x);
      let x = pick("x of t-1", t > 0 ? steps[t - 1].x : zero, steps[t].x);
      x = pick("x of t+1", t + 1 < T ? steps[t + 1].x : zero, x);
      const { h } = steps[t];
      let { h_prev } = steps[t];
      if (t === 0) {
        h_prev = pick("h0 zero in backward", zeros(h_prev), h_prev);
        h_prev = pick("state zero in backward", zeros(h_prev), h_prev);
      }
      return [x, pick("state of t", h, pick("h of t", h, h_prev))];
    },
  };
}

/** The problem as the forward mistakes see it. */
function misread(problem: Problem, name: string): [Problem, number[]] {
  const p = { ...problem.arrays };
  if (name === "h0 zero" || name === "state zero") p.h0 = zeros(p.h0);
  if (p.c0 && (name === "c0 zero" || name === "state zero")) p.c0 = zeros(p.c0);
  if (name === "forget offset") p.b_f = map((v) => v + 1, p.b_f);
  let order = [0, 1, 2, 3];
  if (name.startsWith("forward in order ")) {
    order = name
      .slice(17)
      .split(" ")
      .map((k) => GATES.indexOf(k));
    GATES.forEach((k, n) => {
      for (const w of "WUb") p[`${w}_${k}`] = problem.arrays[`${w}_${GATES[order.indexOf(n)]}`];
    });
  }
  return [{ ...problem, arrays: p }, order];
}

/** Losses and other lines of what comes after; of a readout, those of the truth. */
function afterOf(problem: Problem, steps: Known[]): After {
  const hs =
    problem.outside === "readout" ? elmanForward(problem).map((s) => s.h) : steps.map((s) => s.h);
  return outside(problem, hs);
}

/** Which gates' shares reach h_{t-1} ("recurrence", "dh") or x_t ("input", "dx"). */
function reaches(name: string, k: string, dropped: string, branch: string): boolean {
  const alone = /^(dx|dh|dx and dh) of (\w) alone$/.exec(name);
  if (alone) return !alone[1].split(" and ").includes(branch) || alone[2] === k;
  return name !== `${dropped} of ${k}`;
}

/** What is left of a step's share in a sum where `=` stands for `+=`, or that skips a step. */
function shareLeft(name: string, leaf: string, k: string, t: number, da: Arr): Arr {
  const [, skipped, at] = /^(\w+) skipped: t=(\d+)$/.exec(name) ?? [];
  if (skipped && ["weights", leaf].includes(skipped)) return keep(t !== Number(at), da);
  const form = /^(\w+?)(?: (\w))? overwritten: (t|example)=(\d+) left$/;
  const [, sum, gate, axis, left] = form.exec(name) ?? [];
  if (!sum || !["weights", leaf].includes(sum) || (gate && gate !== k)) return da;
  if (axis === "t") return keep(t === Number(left), da);
  const size = da.shape[1];
  const found = zeros(da);
  const row = Number(left) * size;
  found.data.set(da.data.subarray(row, row + size), row);
  return found;
}

/** The runs of a flow, added. */
const total = (runs: Known[][]): Known[] =>
  runs.reduce((one, other) =>
    one.map((d, t) => Object.fromEntries(Object.keys(d).map((k) => [k, add(d[k], other[t][k])]))),
  );

function lstmMistaken(problem: Problem, name: string, met: { yes: boolean }): Trace {
  const [read, order] = misread(problem, name);
  const p = read.arrays;
  const steps = lstmForward(read);
  const { pick, fromOutside, begin, carry, factors } = shared(problem, name, steps, met);
  const T = steps.length;

  /** s'(a) = s (1 - s), or 1 - tanh², from the output. */
  const slopeOf = (k: string, y: Arr): Arr => {
    const one = map(() => 1, y);
    const squash = k === "g" ? S.tanh : S.sigmoid;
    const slope = (y: Arr) => (k === "g" ? S.tanhBwd(y, one) : S.sigmoidBwd(y, one));
    let right = pick("slopes at the outputs", slope(squash(y)), slope(y));
    right = k === "g" ? right : pick("slope of the sigmoids", one, right);
    return pick(`slope of ${k}`, one, pick("slope of every gate", one, right));
  };

  const back: Known = {};
  for (const k of GATES) {
    back[k] = pick("U for its transpose", p[`U_${k}`], transpose(p[`U_${k}`]));
  }

  const run = (flow: Flow): Known[] => {
    const deltas: Known[] = [];
    let [dh_from_next, dc_from_next] = [begin(flow, "h"), begin(flow, "c")];
    for (let t = T - 1; t >= 0; t--) {
      const { c_prev, i, f, g, o, c, tanh_c } = steps[t];
      const d: Known = {
        dh_from_outside: keep(flow.enters[t], fromOutside(t)),
        dh_from_next,
        dc_from_next,
      };
      d.dh = add(d.dh_from_outside, dh_from_next); // (F')
      const s = pick("c for tanh(c)", c, pick("tanh of c of t-1", S.tanh(c_prev), tanh_c));
      const slope = pick(
        "no slope of tanh(c)",
        map(() => 1, s),
        map((s) => 1 - s * s, s),
      );
      d.do = S.multiply(d.dh, s); // (4')
      const from_h = S.multiply(S.multiply(d.dh, o), slope);
      d.dc_from_h = pick("dc only carried", zeros(from_h), from_h);
      d.dc = add(d.dc_from_h, dc_from_next); // (F')
      let c_before = c_prev;
      if (t === 0) {
        c_before = pick("c0 zero in backward", zeros(c_before), c_before);
        c_before = pick("state zero in backward", zeros(c_before), c_before);
      }
      c_before = pick("state of t", c, pick("c of t", c, c_before));
      d.df = S.multiply(d.dc, c_before); // (3')
      d.di = S.multiply(d.dc, pick("i and g swapped", i, g));
      d.dg = S.multiply(d.dc, pick("i and g swapped", g, i));
      const late = pick("f of t-1", t ? steps[t - 1].f : f, f);
      d.dc_prev = S.multiply(
        d.dc,
        pick(
          "1 - f",
          map((f) => 1 - f, f),
          late,
        ),
      );
      for (const k of GATES) {
        const da = S.multiply(d[`d${k}`], slopeOf(k, steps[t][k])); // (2')
        d[`da_${k}`] = da;
        d[`dh_prev_${k}`] = product(keep(reaches(name, k, "recurrence", "dh"), da), back[k]); // (1')
      }
      d.dh_prev = GATES.map((k) => d[`dh_prev_${k}`]).reduce(add);
      deltas[t] = d;
      if (t) {
        dh_from_next = carry(flow, t - 1, d.dh_prev, "dh not carried");
        dc_from_next = carry(flow, t - 1, d.dc_prev, "dc not carried");
      }
    }
    return deltas;
  };

  /** What the step before does not need, once for all runs. */
  const finish = (d: Known, t: number): Known => {
    const [x, h_before] = factors(t);
    for (const k of GATES) {
      const da = d[`da_${k}`];
      const seen = keep(reaches(name, k, "input", "dx"), da);
      d[`dx_${k}`] = product(seen, transpose(p[`W_${k}`])); // (1')
      const share = (leaf: string) => shareLeft(name, leaf, k, t, da);
      d[`dW_${k}`] = product(transpose(x), share("dW")); // (F')
      d[`dU_${k}`] = product(transpose(h_before), share("dU"));
      d[`db_${k}`] = S.biasBwd(share("db")).db;
    }
    d.dx = GATES.map((k) => d[`dx_${k}`]).reduce(add);
    return inOrder(d, order);
  };

  const after = afterOf(problem, steps);
  const deltas = total(flows(name, T).map(run)).map(finish);
  return tellLstm(
    read,
    steps.map((s, t) => ({ ...after.steps[t], ...s })),
    deltas,
    after,
  );
}

/** The names of the gates as they were before they were misread. */
function inOrder(d: Known, order: number[]): Known {
  const found = { ...d };
  GATES.forEach((k, n) => {
    for (const name of ["da", "dx", "dh_prev", "dW", "dU", "db"]) {
      found[`${name}_${k}`] = d[`${name}_${GATES[order[n]]}`];
    }
  });
  return found;
}

function elmanMistaken(problem: Problem, name: string, met: { yes: boolean }): Trace {
  const [read] = misread(problem, name);
  const p = read.arrays;
  const steps = elmanForward(read);
  const { pick, fromOutside, begin, carry, factors } = shared(fixed(problem), name, steps, met);
  const T = steps.length;
  const run = (flow: Flow): Known[] => {
    const deltas: Known[] = [];
    let dh_from_next = begin(flow, "h");
    for (let t = T - 1; t >= 0; t--) {
      const { h } = steps[t];
      const d: Known = { dh_from_outside: keep(flow.enters[t], fromOutside(t)), dh_from_next };
      d.dh = add(d.dh_from_outside, dh_from_next); // (F')
      const one = map(() => 1, h);
      d.da = S.multiply(d.dh, pick("slope of a", one, S.tanhBwd(h, one))); // (2')
      const back = pick("recurrence of a", zeros(d.da), d.da);
      d.dh_prev = product(back, pick("U for its transpose", p.U, transpose(p.U))); // (1')
      d.dx = product(pick("input of a", zeros(d.da), d.da), transpose(p.W));
      const [x, h_before] = factors(t);
      const share = (leaf: string) => shareLeft(name, leaf, "a", t, d.da);
      d.dW = product(transpose(x), share("dW")); // (F')
      d.dU = product(transpose(h_before), share("dU"));
      d.db = S.biasBwd(share("db")).db;
      deltas[t] = d;
      if (t) dh_from_next = carry(flow, t - 1, d.dh_prev, "dh not carried");
    }
    return deltas;
  };
  const after = afterOf(problem, steps);
  const deltas = total(flows(name, T).map(run));
  return tellElman(
    read,
    steps.map((s, t) => ({ ...after.steps[t], ...s })),
    deltas.map((d, t) => ({ ...after.steps[t], ...d })),
    after,
  );
}

/** A readout is not part of the mistake: what comes back from it is that of the truth. */
function fixed(problem: Problem): Problem {
  if (problem.outside !== "readout") return problem;
  const after = afterOf(problem, []);
  const rows = after.steps.map((s) => s.dh_from_outside);
  const shape = [rows.length, ...rows[0].shape];
  const data = Float64Array.from(rows.flatMap((x) => [...x.data]));
  return { ...problem, arrays: { ...problem.arrays, dh_from_outside: { shape, data } } };
}

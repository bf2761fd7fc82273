/** A fork without one of its branches, at one step or at all: a mistake that any fork can have. */
import { cutOf } from "./mistakes";
import type { Packed } from "./problem";
import type { Stage, Trace } from "./trace";

/** Its name; of a weight's sum over time the branch says which step it is. */
export const cutName = (branch: string, t: number | null) =>
  `without ${branch}${t === null ? "" : ` at t=${t}`}`;

/** The mistake that is asked for, "" where there is none of that name. */
export function knownMistake(packed: Packed, truth: Trace, name: string): string {
  if (name in packed.mistakes) return name;
  const cut = cutOf(name);
  const meets = (s: Stage) => s.branches.some((k) => cut?.(k, s.t));
  return cut && truth.stages.some(meets) ? name : "";
}

/** The mistake in a sentence. */
export function sayMistake(packed: Packed, name: string): string {
  const [, branch, t] = /^without (\S+?)(?: at t=(\d+))?$/.exec(name) ?? [];
  if (name in packed.mistakes || !branch) return packed.mistakes[name] ?? "";
  if (branch.includes("(")) return `the branch ${branch} left out of its sum over time`;
  return `the branch ${branch} left out of its fork, at ${t === undefined ? "every step" : `t = ${t}`}`;
}

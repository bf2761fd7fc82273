/** The numbers, without a page: what runs under node as it does in the browser. */
import type { Arr } from "./arrays";
import { differences } from "./changes";
import { digits } from "./equations";
import { mistaken } from "./mistakes";
import { problemOf, type Edits, type Packed } from "./problem";
import { trace } from "./trace";

/**
 * Every line of an example with its numbers, as `trace --json` has them, and of a mistake; null
 * where the page computes no mistake of that name.
 */
export function lines(packed: Packed, edits: Edits = {}, mistake = "") {
  const problem = problemOf(packed, edits);
  const right = trace(problem);
  const found = mistake ? mistaken(problem, mistake, right) : right;
  if (!found) return null;
  const first = mistake ? differences(right, found).first : -1;
  const plain = (x: Arr) => Array.from(x.data);
  return {
    loss: found.loss,
    first:
      first < 0
        ? null
        : {
            part: right.stages[first].part,
            t: right.stages[first].t,
            name: right.stages[first].name,
          },
    ends: Object.fromEntries(Object.entries(found.ends).map(([k, x]) => [k, plain(x)])),
    stages: found.stages.map((s) => ({
      part: s.part,
      t: s.t,
      name: s.name,
      equation: s.equation,
      branches: s.branches,
      note: s.note,
      shape: s.value.shape,
      value: plain(s.value),
    })),
  };
}

export { digits };

/** Mazur's network: two dense layers of sigmoids; the same stages, no time. */
import type { Problem } from "./problem";
import * as S from "./stages";
import { tell, type Known, type Line, type Trace } from "./trace";

export function denseTrace(problem: Problem): Trace {
  const k: Known = { ...problem.arrays };
  k.a1 = S.bias(S.linear(k.x, k.W1), k.b1); // (1)
  k.h = S.sigmoid(k.a1); // (2)
  k.a2 = S.bias(S.linear(k.h, k.W2), k.b2);
  k.y = S.sigmoid(k.a2);
  k.loss = S.squaredError(k.y, k.target); // (9)
  k.dy = S.squaredErrorBwd(k.y, k.target); // (9')
  k.da2 = S.sigmoidBwd(k.y, k.dy); // (2')
  k.db2 = S.biasBwd(k.da2).db; // (1'b)
  ({ dx: k.dh, dW: k.dW2 } = S.linearBwd(k.h, k.W2, k.da2)); // (1')
  k.da1 = S.sigmoidBwd(k.h, k.dh);
  k.db1 = S.biasBwd(k.da1).db;
  ({ dx: k.dx, dW: k.dW1 } = S.linearBwd(k.x, k.W1, k.da1));
  const given = ["x", "target", "W1", "b1", "W2", "b2"].map((name): Line => [name, ""]);
  const forward: Line[] = [
    ...given,
    ["a1", "x @ W1 + b1"],
    ["h", "sigmoid(a1)"],
    ["a2", "h @ W2 + b2"],
    ["y", "sigmoid(a2)"],
    ["loss", "sum((y - target)^2) / 2"],
  ];
  const backward: Line[] = [
    ["dy", "y - target"],
    ["da2", "dy * y * (1 - y)"],
    ["dW2", "h.T @ da2"],
    ["db2", "sum(da2)"],
    ["dh", "da2 @ W2.T"],
    ["da1", "dh * h * (1 - h)"],
    ["dW1", "x.T @ da1"],
    ["db1", "sum(da1)"],
    ["dx", "da1 @ W1.T"],
  ];
  const look = (name: string) => k[name];
  const stages = [
    ...tell("forward", null, forward, look),
    ...tell("backward", null, backward, look),
  ];
  return { stages, loss: k.loss.data[0], ends: {} };
}

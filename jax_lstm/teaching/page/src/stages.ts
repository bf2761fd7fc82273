/**
 * The stages of one time step, each with its twin right below it, in the letters of
 * jax_lstm/stages: dX is dL/dX and has the shape of X; a twin answers in the order of arguments.
 */
import { add, array, map, product, scalar, sum, sumRows, transpose, type Arr } from "./arrays";

/** y = x W                                                                   (1) */
export const linear = (x: Arr, W: Arr): Arr => product(x, W);

/** dx = dy Wᵀ      dW = xᵀ dy                                                (1') */
export const linearBwd = (x: Arr, W: Arr, dy: Arr) => ({
  dx: product(dy, transpose(W)),
  dW: product(transpose(x), dy),
});

/** a = y + b                                                                 (1) */
export const bias = (y: Arr, b: Arr): Arr => {
  const C = b.data.length;
  return array(
    y.shape,
    y.data.map((v, n) => v + b.data[n % C]),
  );
};

/** dy = da      db = Σ da, over the examples                                 (1'b) */
export const biasBwd = (da: Arr) => ({ dy: da, db: sumRows(da) });

/** s = 1 / (1 + exp(-a))                                                     (2) */
export const sigmoid = (a: Arr): Arr => map((v) => 0.5 * (1 + Math.tanh(0.5 * v)), a);

/** da = ds s (1 - s)                                                         (2') */
export const sigmoidBwd = (s: Arr, ds: Arr): Arr => map((y, d) => d * y * (1 - y), s, ds);

/** t = tanh(a)                                                               (2) */
export const tanh = (a: Arr): Arr => map(Math.tanh, a);

/** da = dt (1 - t²)                                                          (2') */
export const tanhBwd = (t: Arr, dt: Arr): Arr => map((y, d) => d * (1 - y * y), t, dt);

/** c = f ⊙ c_prev + i ⊙ g                                                    (3) */
export const cellState = (f: Arr, c_prev: Arr, i: Arr, g: Arr): Arr =>
  map((f, c, i, g) => f * c + i * g, f, c_prev, i, g);

/** df = dc ⊙ c_prev      dc_prev = dc ⊙ f      di = dc ⊙ g      dg = dc ⊙ i    (3') */
export const cellStateBwd = (f: Arr, c_prev: Arr, i: Arr, g: Arr, dc: Arr) => ({
  df: multiply(dc, c_prev),
  dc_prev: multiply(dc, f),
  di: multiply(dc, g),
  dg: multiply(dc, i),
});

/** h = o ⊙ tanh(c)                                                           (4) */
export const hiddenState = (o: Arr, tanh_c: Arr): Arr => multiply(o, tanh_c);

/** do = dh ⊙ tanh(c)      dc = dh ⊙ o ⊙ (1 - tanh²(c))                         (4') */
export const hiddenStateBwd = (o: Arr, tanh_c: Arr, dh: Arr) => ({
  do: multiply(dh, tanh_c),
  dc: map((d, o, t) => d * o * (1 - t * t), dh, o, tanh_c),
});

/** dx = Σ of what comes back along the branches; forward, each branch gets x.  (F') */
export const forkBwd = (branches: Arr[]): Arr => branches.reduce(add);

/** l = ½ Σ (y - target)²                                                     (9) */
export const squaredError = (y: Arr, target: Arr): Arr =>
  scalar(sum(map((a, b) => 0.5 * (a - b) ** 2, y, target)));

/** dy = y - target                                                           (9') */
export const squaredErrorBwd = (y: Arr, target: Arr): Arr => map((a, b) => a - b, y, target);

/** p = softmax(y), row by row */
export const softmax = (y: Arr): Arr => {
  const C = y.shape[1];
  const found = array(y.shape);
  for (let r = 0; r < y.shape[0]; r++) {
    const row = y.data.subarray(r * C, (r + 1) * C);
    const most = row.reduce((a, b) => (a > b || a !== a ? a : b));
    const e = row.map((v) => Math.exp(v - most));
    const total = e.reduce((a, b) => a + b, 0);
    found.data.set(
      e.map((v) => v / total),
      r * C,
    );
  }
  return found;
};

/** l = -Σ target log softmax(y)                                              (7) */
export const softmaxCrossEntropy = (y: Arr, target: Arr): Arr => {
  const C = y.shape[1];
  let found = 0;
  for (let r = 0; r < y.shape[0]; r++) {
    const row = y.data.subarray(r * C, (r + 1) * C);
    const most = row.reduce((a, b) => (a > b || a !== a ? a : b));
    const log = most + Math.log(row.reduce((a, b) => a + Math.exp(b - most), 0));
    row.forEach((v, c) => {
      const share = target.data[r * C + c];
      if (share !== 0) found -= share * (v - log);
    });
  }
  return scalar(found);
};

/** dy = p - target                                                           (7') */
export const softmaxCrossEntropyBwd = (p: Arr, target: Arr): Arr => map((a, b) => a - b, p, target);

export const multiply = (a: Arr, b: Arr): Arr => map((x, y) => x * y, a, b);

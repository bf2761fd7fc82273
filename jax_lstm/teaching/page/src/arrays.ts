/** Arrays of float64, row by row: (B, D), (D, H), (H,), or () for one number. */

export interface Arr {
  shape: number[];
  data: Float64Array;
}

export const array = (shape: number[], data?: ArrayLike<number>): Arr => ({
  shape,
  data: data ? Float64Array.from(data) : new Float64Array(shape.reduce((a, b) => a * b, 1)),
});

export const scalar = (x: number): Arr => array([], [x]);

/** The same shape, each number by a function of those at its place. */
export function map(f: (...xs: number[]) => number, x: Arr, ...others: Arr[]): Arr {
  const found = array(x.shape);
  const [y, z, w] = others;
  for (let n = 0; n < x.data.length; n++) {
    found.data[n] = f(x.data[n], y?.data[n], z?.data[n], w?.data[n]);
  }
  return found;
}

export const add = (a: Arr, b: Arr) => map((x, y) => x + y, a, b);
export const times = (a: Arr, factor: number) => map((x) => x * factor, a);
export const zeros = (a: Arr) => times(a, 0); // 0 · NaN stays NaN
export const sum = (a: Arr) => a.data.reduce((x, y) => x + y, 0);

export function transpose(a: Arr): Arr {
  const [R, C] = a.shape;
  const found = array([C, R]);
  for (let r = 0; r < R; r++) for (let c = 0; c < C; c++) found.data[c * R + r] = a.data[r * C + c];
  return found;
}

/** a @ b */
export function product(a: Arr, b: Arr): Arr {
  const [R, K] = a.shape;
  const C = b.shape[1];
  const found = array([R, C]);
  for (let r = 0; r < R; r++)
    for (let k = 0; k < K; k++) {
      const x = a.data[r * K + k];
      for (let c = 0; c < C; c++) found.data[r * C + c] += x * b.data[k * C + c];
    }
  return found;
}

/** Σ over the rows, (B, H) -> (H,) */
export function sumRows(a: Arr): Arr {
  const C = a.shape[1];
  const found = array([C]);
  for (let n = 0; n < a.data.length; n++) found.data[n % C] += a.data[n];
  return found;
}

/** Entry n along the first axis: x_t of (T, B, D). */
export function entry(a: Arr, n: number): Arr {
  const shape = a.shape.slice(1);
  const size = shape.reduce((x, y) => x * y, 1);
  return { shape, data: a.data.subarray(n * size, (n + 1) * size) };
}

/** Index of each number, in order: [0, 0], [0, 1], ... */
export function places(shape: number[]): number[][] {
  return shape.reduce<number[][]>(
    (found, size) => found.flatMap((p) => Array.from({ length: size }, (_, n) => [...p, n])),
    [[]],
  );
}

/** Where a place stands in the data. */
export const offset = (shape: number[], place: number[]) =>
  shape.reduce((n, size, axis) => n * size + place[axis], 0);

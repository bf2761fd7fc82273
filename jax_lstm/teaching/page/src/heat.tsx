/** Many numbers as a heat map: brown is negative, teal positive, and NaN is hatched. */
import { digits } from "./equations";

const LEVELS = 5; // on each side of zero

/** 0 ... 2 LEVELS; -1 is NaN. */
export function level(x: number, most: number): number {
  if (Number.isNaN(x)) return -1;
  const share = most > 0 ? Math.max(-1, Math.min(1, x / most)) : 0;
  const far = Math.ceil(Math.sqrt(Math.abs(share)) * LEVELS - 1e-9);
  return LEVELS + Math.sign(share) * far;
}

export const largest = (data: Iterable<number>) => {
  let most = 0;
  for (const x of data) if (Number.isFinite(x)) most = Math.max(most, Math.abs(x));
  return most;
};

interface Cells {
  data: ArrayLike<number>;
  columns: number;
  x: number;
  y: number;
  wide: number;
  high: number;
  most: number;
}

/** A rectangle of cells, as one path per colour. */
export function Cells({ data, columns, x, y, wide, high, most }: Cells) {
  const rows = Math.ceil(data.length / columns);
  const [w, h] = [wide / columns, high / rows];
  const paths = new Map<number, string>();
  for (let n = 0; n < data.length; n++) {
    const [row, column] = [Math.floor(n / columns), n % columns];
    const to = `M${(x + column * w).toFixed(2)} ${(y + row * h).toFixed(2)}h${w.toFixed(2)}v${h.toFixed(2)}h${(-w).toFixed(2)}z`;
    const l = level(data[n], most);
    paths.set(l, (paths.get(l) ?? "") + to);
  }
  return (
    <g class="cells">
      {[...paths].map(([l, d]) => (
        <path key={l} d={d} class={l < 0 ? "q-nan" : `q${l}`} />
      ))}
      <rect x={x} y={y} width={wide} height={high} class="cells-frame" />
    </g>
  );
}

/** A heat map on its own, with its scale; a click answers which cell. */
export function HeatMap(props: {
  data: ArrayLike<number>;
  columns: number;
  label: string;
  at?: number;
  pick?: (n: number) => void;
}) {
  const { data, columns, label, at, pick } = props;
  const rows = Math.ceil(data.length / columns);
  const most = largest(Array.from(data));
  const size = Math.max(4, Math.min(18, 460 / Math.max(columns, rows)));
  const [wide, high] = [columns * size, rows * size];
  const click = (event: MouseEvent) => {
    const box = (event.currentTarget as SVGElement).getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const n = row * columns + column;
    if (n >= 0 && n < data.length) pick?.(n);
  };
  return (
    <figure class="heat">
      <svg
        viewBox={`0 0 ${wide} ${high}`}
        style={{ maxWidth: `${Math.max(wide, 120)}px` }}
        role="img"
        aria-label={`${label}: a heat map of ${data.length} numbers, from ${digits(-most, 3)} to ${digits(most, 3)}`}
        onClick={pick && click}
        class={pick ? "clickable" : ""}
      >
        <Cells data={data} columns={columns} x={0} y={0} wide={wide} high={high} most={most} />
        {at !== undefined && at >= 0 && (
          <rect
            class="cell-at"
            x={(at % columns) * size}
            y={Math.floor(at / columns) * size}
            width={size}
            height={size}
          />
        )}
      </svg>
      <figcaption>
        <Scale most={most} />
        {Array.from(data).some(Number.isNaN) && <span class="nan-mark">hatched: NaN</span>}
      </figcaption>
    </figure>
  );
}

export const Scale = ({ most }: { most: number }) => (
  <span class="scale">
    <span>{digits(-most, 3)}</span>
    <svg viewBox="0 0 110 10" aria-hidden="true">
      {Array.from({ length: 2 * LEVELS + 1 }, (_, n) => (
        <rect x={n * 10} y={0} width={10} height={10} class={`q${n}`} />
      ))}
    </svg>
    <span>{digits(most, 3)}</span>
  </span>
);

/** Small parts that many parts of the page share. */
import type { ComponentChildren } from "preact";
import { digits } from "./equations";
import { Letter } from "./mathml";
import { isBatched, type Stage } from "./trace";

export const written = (x: number) => (Number.isNaN(x) ? "NaN" : digits(x).replace("-", "−"));

export const Num = ({ x, css }: { x: number; css?: string }) => (
  <span
    class={`num ${css ?? ""}${Number.isNaN(x) ? " nan" : ""}`}
    title={String(x)}
    data-value={String(x)}
  >
    {written(x)}
  </span>
);

/** Index as one writes it: of rows of the batch, the column alone. */
export const bracket = (s: { name: string; value: Stage["value"] }, place: number[]) =>
  (isBatched(s) ? place.slice(1) : place).map((n) => `[${n}]`).join("");

/** A share of the largest, to the right of the middle or to the left. */
export const Bar = ({ share }: { share: number }) => (
  <svg class="bar" viewBox="-50 0 100 10" preserveAspectRatio="none">
    {Number.isFinite(share) ? (
      <rect
        class={share < 0 ? "q1" : "q9"}
        x={Math.min(0, 48 * share)}
        y={1}
        width={Math.max(0.5, Math.abs(48 * share))}
        height={8}
      />
    ) : (
      <rect class="q-nan" x={-48} y={1} width={96} height={8} />
    )}
    <line x1={0} x2={0} y1={0} y2={10} />
  </svg>
);

/** A letter at the head of a row, and its name for those who hear it. */
export const Head = ({ of }: { of: string }) => (
  <>
    <span aria-hidden="true">
      <Letter of={of} />
    </span>
    <span class="hidden">{of}</span>
  </>
);

export const Block = (props: {
  title: ComponentChildren;
  hint?: ComponentChildren;
  css?: string;
  children: ComponentChildren;
}) => (
  <div class={`block ${props.css ?? ""}`}>
    <h3>{props.title}</h3>
    {props.hint && <p class="hint">{props.hint}</p>}
    {props.children}
  </div>
);

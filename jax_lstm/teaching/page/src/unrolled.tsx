/** The network unrolled: which steps and gates are open, and the steps beside each other. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { digitsByDefault, Fold, linesOf, Step } from "./graph";
import { Scale } from "./heat";
import { layout } from "./layout";
import type { View } from "./view";

const BESIDE = 1000; // pixels: the panel stands beside the graph, not above it

export function Graph({ view }: { view: View }) {
  const { T, opened, state, problem } = view;
  const root = useRef<HTMLDivElement>(null);
  const wide = useWidth(root);
  useNowInSight(root, view);
  const parts: { from: number; to: number; open: boolean }[] = [];
  for (let t = 0; t < T; t++) {
    const open = opened.has(t);
    const last = parts[parts.length - 1];
    if (last && !open && !last.open) last.to = t;
    else parts.push({ from: t, to: t, open });
  }
  const dense = problem.cell === "dense";
  const full = layout(problem, linesOf(view), true, 0, T).wide;
  const told = view.current.t ?? 0;
  const near = opened.has(told) ? told : Math.min(...opened);
  /** Unless somebody says so: all gates where two steps fit, else those of the step that is told. */
  const gatesOf = (t: number) =>
    state.gates ?? (wide >= 1.9 * full || (T === 1 || t === near ? wide >= 0.9 * full : false));
  return (
    <section aria-label="graph" class="graph">
      <Folding view={view} gates={[...opened].map(gatesOf)} />
      <Marks />
      <div class="unrolled" ref={root}>
        {parts.map(({ from, to, open }) =>
          open ? (
            <div
              class={`step-box${view.current.t === from ? " here" : ""}`}
              key={`s${from}`}
              style={shareOf(layout(problem, linesOf(view), gatesOf(from), from, T).wide, T)}
            >
              {!dense && (
                <button class="quiet" aria-expanded="true" onClick={() => view.toggle(from)}>
                  ▾ t = {from}
                </button>
              )}
              <div class="scroll step-scroll" role="region" aria-label={`t = ${from}`} tabIndex={0}>
                <Step view={view} t={from} gates={gatesOf(from)} />
              </div>
            </div>
          ) : (
            <Fold key={`f${from}`} view={view} from={from} to={to} />
          ),
        )}
      </div>
    </section>
  );
}

/** Steps share the room by what they hold, so that all are drawn at one size. */
const shareOf = (wide: number, T: number) => ({
  flex: `${wide} 1 ${0.98 * wide}px`,
  maxWidth: `${(T > 1 ? 1.3 : 1.6) * wide}px`,
});

/** How wide an element is, whenever that changes. */
function useWidth(root: { current: HTMLElement | null }): number {
  const [wide, setWide] = useState(1e4);
  useLayoutEffect(() => {
    const measure = () => setWide(root.current!.clientWidth);
    measure();
    const seen = new ResizeObserver(measure);
    seen.observe(root.current!);
    return () => seen.disconnect();
  }, []);
  return wide;
}

/**
 * Where the graph is wider than its frame, or has several rows of steps, what is told is scrolled
 * into sight; but not where the reader looks at another part of the page.
 */
function useNowInSight(root: { current: HTMLElement | null }, view: View) {
  const before = useRef(view.at);
  useLayoutEffect(() => {
    const now = root.current!.querySelector(".now");
    const frame = now?.closest<HTMLElement>(".scroll");
    if (!now || !frame) return;
    const [box, inside] = [now.getBoundingClientRect(), frame.getBoundingClientRect()];
    if (frame.scrollWidth > frame.clientWidth) {
      frame.scrollLeft += (box.left + box.right - inside.left - inside.right) / 2;
    }
    const graph = root.current!.getBoundingClientRect();
    const seen = graph.bottom > 0.4 * innerHeight && graph.top < 0.8 * innerHeight;
    const stepped = before.current !== view.at;
    before.current = view.at;
    if (stepped && seen && innerWidth >= BESIDE && (box.top < 150 || box.bottom > innerHeight)) {
      scrollBy(0, inside.top - 150);
    }
  }, [view.at, view.state.gates]);
}

function Folding({ view, gates }: { view: View; gates: boolean[] }) {
  const { T, opened, state, problem } = view;
  return (
    <div class="folding">
      {problem.cell === "lstm" && gates.includes(true) && (
        <button onClick={() => view.set({ gates: false })}>▾ close gates</button>
      )}
      {problem.cell === "lstm" && gates.includes(false) && (
        <button onClick={() => view.set({ gates: true })}>▸ open gates</button>
      )}
      {problem.cell === "lstm" && state.gates !== null && (
        <button onClick={() => view.set({ gates: null })}>gates as they fit</button>
      )}
      <button
        aria-pressed={state.units ?? false}
        onClick={() =>
          view.set({ units: state.units === null ? !digitsByDefault(view) : !state.units })
        }
      >
        {(state.units ?? digitsByDefault(view))
          ? "▾ close units (heat maps)"
          : "▸ open units (digits)"}
      </button>
      {T > 1 && T <= 12 && opened.size < T && (
        <button onClick={() => view.set({ open: Array.from({ length: T }, (_, t) => t) })}>
          ▸ open all steps
        </button>
      )}
      {state.open && T > 4 && (
        <button onClick={() => view.set({ open: null })}>open the steps that are told</button>
      )}
      <button aria-pressed={state.all} onClick={() => view.set({ all: !state.all })}>
        {state.all ? "hide what is not reached" : "show all numbers"}
      </button>
    </div>
  );
}

/** The arrow's head, and the hatching of NaN. */
const Marks = () => (
  <svg width="0" height="0" aria-hidden="true" class="defs">
    <defs>
      <marker
        id="arrow"
        viewBox="0 0 8 8"
        refX="7"
        refY="4"
        markerUnits="userSpaceOnUse"
        markerWidth="8"
        markerHeight="8"
        orient="auto-start-reverse"
      >
        <path d="M0 0L8 4L0 8z" />
      </marker>
      <pattern
        id="hatch"
        width="4"
        height="4"
        patternUnits="userSpaceOnUse"
        patternTransform="rotate(45)"
      >
        <rect width="4" height="4" class="hatch-back" />
        <rect width="1.6" height="4" class="hatch-line" />
      </pattern>
    </defs>
  </svg>
);

export function Legend({ view }: { view: View }) {
  return (
    <ul class="legend" aria-label="legend">
      <li>
        <span class="value">0.5363</span> a value, going forward
      </li>
      <li>
        <span class="back">−0.0183</span> a <b>cotangent</b> dX = ∂L/∂X, coming back: how the loss L
        changes with X
      </li>
      <li>
        <span class="fork-dot" aria-hidden="true">
          ●
        </span>{" "}
        <b>a fork</b>: a value is used in more than one place. Forward, each place gets the same
        value. Backward, each place sends a cotangent back, and <b>they are added</b>.
      </li>
      {view.other && (
        <li>
          <span class="mistake-key">dashed</span> differs from the truth; the thicker, the more. The
          graph shows the numbers of the mistake.
        </li>
      )}
      {!digitsByDefault(view) && (
        <li>
          <Scale most={1} /> heat maps: negative to positive
        </li>
      )}
    </ul>
  );
}

/** The page: what is chosen, the way through the lines, the graph, and what stands beside it. */
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Editor } from "./editor";
import { digits } from "./equations";
import { digitsByDefault, Fold, Step } from "./graph";
import { Scale } from "./heat";
import { Panel } from "./panel";
import type { Packed } from "./problem";
import { readState, write, type State } from "./state";
import { Sums } from "./sums";
import { AllNumbers } from "./table";
import { make, moments, placeOf, rowOf, viewOf, type View } from "./view";

export interface Data {
  runs: Packed[];
  start: { example: string; mistake: string; row: number };
}

const START: Omit<State, "example" | "mistake" | "row"> = {
  at: 0,
  edits: {},
  gates: true,
  units: null,
  open: null,
  all: false,
  theme: "",
};

export function App({ data, inside }: { data: Data; inside: Packed[] }) {
  const runs = useMemo(() => [...data.runs, ...inside], [data, inside]);
  const start: State = { ...START, ...data.start };
  const [state, setState] = useState(() => readState(location.hash, start));
  const set = useCallback((change: Partial<State>) => setState((s) => ({ ...s, ...change })), []);
  const packed =
    runs.find((x) => x.id === state.example) ?? runs.find((x) => x.id === start.example) ?? runs[0];
  const mistake = state.mistake in packed.mistakes ? state.mistake : "";
  const made = useMemo(() => make(packed, state.edits, mistake), [packed, state.edits, mistake]);
  const rows = packed.cell === "dense" ? 1 : packed.arrays.x.shape[1];
  const known = { ...state, mistake, row: Math.min(state.row, rows - 1) };
  const view = viewOf(packed, made, known, set);
  const last = made.truth.stages.length - 1;

  const fragment = `#${write({ ...known, example: packed.id, at: view.at }, start)}`;
  useEffect(() => {
    const timer = setTimeout(() => {
      try {
        if (location.hash !== fragment) history.replaceState(null, "", fragment);
      } catch {
        // a frame without an address of its own
      }
    }, 150);
    return () => clearTimeout(timer);
  }, [fragment]);
  useEffect(() => {
    const read = () => setState(readState(location.hash, start));
    addEventListener("hashchange", read);
    return () => removeEventListener("hashchange", read);
  }, []);
  useEffect(() => {
    document.documentElement.dataset.theme = state.theme;
  }, [state.theme]);

  const way = useWay(view, last);
  useKeys(way);
  return (
    <>
      <a
        class="skip"
        href="#told-here"
        onClick={(e) => {
          e.preventDefault();
          document.getElementById("told-here")?.focus();
        }}
      >
        to the line that is told
      </a>
      <Header view={view} runs={runs} own={data.runs.length} />
      <Controls view={view} way={way} />
      <main>
        <div class="columns">
          <div class="left">
            <Graph view={view} />
            <Legend view={view} />
          </div>
          <div class="right" id="told-here" tabIndex={-1}>
            <Panel key={view.packed.id} view={view} />
          </div>
        </div>
        <div class="more">
          <Sums view={view} />
          <Editor key={packed.id} view={view} />
        </div>
        <Author packed={packed} />
        <AllNumbers view={view} />
        <HowTo />
      </main>
      <p class="hidden" aria-live="polite">
        {announce(view)}
      </p>
    </>
  );
}

function announce(view: View): string {
  const { current: s, state } = view;
  const numbers = rowOf(s, state.row);
  const told =
    numbers.length <= 4
      ? Array.from(numbers, (x) => digits(x)).join(", ")
      : `${numbers.length} numbers`;
  return `${placeOf(s)}: ${s.name}${s.branches.length ? ", a fork" : ""} = ${told}`;
}

// The way through the lines --------------------------------------------------------------------

interface Way {
  go(n: number): void;
  by(n: number): void;
  jump(direction: number): void;
  play(): void;
  playing: boolean;
  speed: number;
  setSpeed(x: number): void;
  last: number;
}

function useWay(view: View, last: number): Way {
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState(1);
  const at = useRef(view.at);
  at.current = view.at;
  const go = (n: number) => view.set({ at: Math.max(0, Math.min(last, n)) });
  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => {
      if (at.current >= last) setPlaying(false);
      else go(at.current + 1);
    }, 1200 / speed);
    return () => clearInterval(timer);
  }, [playing, speed, last]);
  const jump = (direction: number) => {
    const all = moments(view.truth);
    const n = all.findIndex((m) => view.at <= m.last);
    const inside = direction > 0 ? view.at < all[n].last : view.at > all[n].first;
    const to = all[Math.max(0, Math.min(all.length - 1, n + (inside ? 0 : direction)))];
    go(direction > 0 ? to.last : to.first);
  };
  return {
    go,
    by: (n) => go(at.current + n),
    jump,
    play() {
      if (!playing && view.at >= last) go(0);
      setPlaying(!playing);
    },
    playing,
    speed,
    setSpeed,
    last,
  };
}

/** Arrow keys step, with Shift over a time step; space plays. Fields keep their own keys. */
function useKeys(way: Way) {
  const now = useRef(way);
  now.current = way;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (target.closest("input, select, textarea, [contenteditable]")) return;
      const button = target.closest("button, summary, a");
      const scrolls = target.closest(".scroll");
      const { by, jump, go, play, last } = now.current;
      const act: Record<string, () => void> = {
        ArrowRight: () => (event.shiftKey ? jump(1) : by(1)),
        ArrowLeft: () => (event.shiftKey ? jump(-1) : by(-1)),
        PageDown: () => jump(1),
        PageUp: () => jump(-1),
        Home: () => go(0),
        End: () => go(last),
      };
      if (!button) act[" "] = play;
      if (scrolls && event.key !== " ") return;
      const found = act[event.key];
      if (!found) return;
      event.preventDefault();
      found();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

const ICONS: Record<string, string> = {
  start: "M2 2h2v12H2zM14 2v12L5 8z",
  "jump-back": "M8 2v12L1 8zM15 2v12L8 8z",
  back: "M12 2v12L3 8z",
  play: "M4 2v12l9-6z",
  pause: "M3 2h4v12H3zM9 2h4v12H9z",
  jump: "M8 2v12l7-6zM1 2v12l7-6z",
  end: "M12 2h2v12h-2zM2 2v12l9-6z",
};

const Icon = ({ of }: { of: string }) => (
  <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
    <path d={ICONS[of]} />
  </svg>
);

function Controls({ view, way }: { view: View; way: Way }) {
  const all = moments(view.truth);
  const n = all.findIndex((m) => view.at <= m.last);
  const { first, last } = all[n];
  const { stages } = view.truth;
  return (
    <nav class="controls" aria-label="through time">
      <div class="buttons">
        <button
          onClick={() => way.go(0)}
          disabled={view.at === 0}
          aria-label="to the beginning"
          title="to the beginning (Home)"
        >
          <Icon of="start" />
        </button>
        <button
          onClick={() => way.jump(-1)}
          disabled={view.at === 0}
          aria-label="a time step back"
          title="a time step back (Shift ←)"
        >
          <Icon of="jump-back" />
        </button>
        <button
          onClick={() => way.by(-1)}
          disabled={view.at === 0}
          aria-label="a stage back"
          title="a stage back (←)"
        >
          <Icon of="back" />
        </button>
        <button
          class="play"
          onClick={way.play}
          aria-pressed={way.playing}
          title="play or pause (space)"
        >
          <Icon of={way.playing ? "pause" : "play"} /> {way.playing ? "Pause" : "Play"}
        </button>
        <button
          class="main"
          onClick={() => way.by(1)}
          disabled={view.at === way.last}
          title="the next stage (→)"
        >
          Next <Icon of="play" />
        </button>
        <button
          onClick={() => way.jump(1)}
          disabled={view.at === way.last}
          aria-label="a time step on"
          title="a time step on (Shift →)"
        >
          <Icon of="jump" />
        </button>
        <button
          onClick={() => way.go(way.last)}
          disabled={view.at === way.last}
          aria-label="to the end"
          title="to the end (End)"
        >
          <Icon of="end" />
        </button>
        <label class="speed">
          <span class="hidden">speed</span>
          <select value={way.speed} onChange={(e) => way.setSpeed(Number(e.currentTarget.value))}>
            {[0.5, 1, 2, 4].map((x) => (
              <option value={x}>{x}×</option>
            ))}
          </select>
        </label>
      </div>
      <label class="slider">
        <span class="where" data-role="where">
          <b class={view.current.part === "forward" ? "value" : "back"}>{all[n].label}</b>
          <span class="count">
            {" "}
            {view.at + 1} of {way.last + 1}
          </span>
        </span>
        <input
          type="range"
          min={0}
          max={all.length - 1}
          value={n}
          aria-label="time: forward, then backward"
          aria-valuetext={all[n].label}
          onInput={(e) => {
            const to = all[Number(e.currentTarget.value)];
            way.go(Number(e.currentTarget.value) > n ? to.last : to.first);
          }}
        />
      </label>
      <label class="stage-choice">
        <span class="hidden">stage</span>
        <select
          value={view.at}
          onChange={(e) => way.go(Number(e.currentTarget.value))}
          aria-label="stage"
        >
          {stages.slice(first, last + 1).map((s, m) => (
            <option value={first + m}>{s.name}</option>
          ))}
        </select>
      </label>
    </nav>
  );
}

// What is chosen -------------------------------------------------------------------------------

function Header({ view, runs, own }: { view: View; runs: Packed[]; own: number }) {
  const { packed, state, truth } = view;
  const rows = packed.cell === "dense" ? 1 : packed.arrays.x.shape[1];
  const dark =
    state.theme === "dark" ||
    (state.theme === "" && matchMedia("(prefers-color-scheme: dark)").matches);
  const option = (x: Packed) => <option value={x.id}>{x.title}</option>;
  const loss = (view.other ?? truth).loss;
  return (
    <header>
      <h1>Backpropagation through time, step by step</h1>
      <div class="choices">
        <label>
          example{" "}
          <select
            data-role="example"
            value={packed.id}
            onChange={(e) =>
              view.set({
                example: e.currentTarget.value,
                at: 0,
                row: 0,
                edits: {},
                mistake: "",
                open: null,
                units: null,
              })
            }
          >
            {own > 0 ? (
              <>
                <optgroup label="yours">{runs.slice(0, own).map(option)}</optgroup>
                <optgroup label="examples">{runs.slice(own).map(option)}</optgroup>
              </>
            ) : (
              runs.map(option)
            )}
          </select>
        </label>
        {Object.keys(packed.mistakes).length > 0 && <Mistakes view={view} />}
        {rows > 1 && (
          <label>
            row of the batch{" "}
            <select
              value={state.row}
              onChange={(e) => view.set({ row: Number(e.currentTarget.value) })}
            >
              {Array.from({ length: rows }, (_, n) => (
                <option value={n}>{n}</option>
              ))}
            </select>
          </label>
        )}
        <button onClick={() => view.set({ theme: dark ? "light" : "dark" })} aria-pressed={dark}>
          {dark ? "☀ Light" : "☾ Dark"}
        </button>
      </div>
      <p class="sub">
        {loss !== null && (
          <>
            loss ={" "}
            <b title={String(loss)} data-role="loss" data-value={String(loss)}>
              {Number.isNaN(loss) ? "NaN" : digits(loss)}
            </b>
            .{" "}
          </>
        )}
        {nanOf(view) && (
          <span class="nan-mark">NaN: {nanOf(view)}. Every number that it reaches is marked.</span>
        )}
        {state.mistake && (
          <span class="mistake-line">
            With a mistake: {packed.mistakes[state.mistake]}.{" "}
            {view.first >= 0 ? (
              <button class="quiet" onClick={() => view.set({ at: view.first })}>
                It starts at {truth.stages[view.first].name}, {placeOf(truth.stages[view.first])}.
              </button>
            ) : (
              "With these numbers it makes no difference."
            )}
          </span>
        )}
      </p>
    </header>
  );
}

/** Where NaN came in: the first given number that is one. */
function nanOf(view: View): string {
  for (const [name, x] of Object.entries(view.problem.arrays)) {
    const n = x.data.findIndex(Number.isNaN);
    if (n < 0) continue;
    let rest = n;
    const place = [...x.shape].reverse().map((size) => {
      const m = rest % size;
      rest = Math.floor(rest / size);
      return m;
    });
    return (
      name +
      place
        .reverse()
        .map((m) => `[${m}]`)
        .join("")
    );
  }
  return "";
}

const GROUPS: [string, (name: string) => boolean][] = [
  ["carrying between steps", (k) => /carried|own loss|dropped|windows|reach|last loss/.test(k)],
  ["first state", (k) => /^(h0|c0|state) zero/.test(k)],
  ["shifted in time", (k) => / of t|reversed/.test(k)],
  ["one gate", (k) => /^(recurrence|input|slope) of /.test(k)],
  ["one share of a sum alone", (k) => / alone$|overwritten/.test(k)],
  ["order of the gates", (k) => / order /.test(k)],
  ["sign, mean or sum", (k) => /^(sign|mean|sum|no half|half)| (averaged|summed) | zero$/.test(k)],
  ["inside a step", () => true],
];

function Mistakes({ view }: { view: View }) {
  const names = Object.keys(view.packed.mistakes);
  const groups = GROUPS.map(([label], n) => ({
    label,
    some: names.filter((k) => GROUPS.findIndex(([, fits]) => fits(k)) === n),
  }));
  return (
    <label>
      mistake{" "}
      <select
        data-role="mistake"
        value={view.state.mistake}
        onChange={(e) => view.set({ mistake: e.currentTarget.value })}
      >
        <option value="">none: the truth</option>
        {groups.map(
          ({ label, some }) =>
            some.length > 0 && (
              <optgroup label={label}>
                {some.map((k) => (
                  <option value={k}>{k}</option>
                ))}
              </optgroup>
            ),
        )}
      </select>
    </label>
  );
}

// The graph ------------------------------------------------------------------------------------

function Graph({ view }: { view: View }) {
  const { T, opened, state, problem } = view;
  const parts: { from: number; to: number; open: boolean }[] = [];
  for (let t = 0; t < T; t++) {
    const open = opened.has(t);
    const last = parts[parts.length - 1];
    if (last && !open && !last.open) last.to = t;
    else parts.push({ from: t, to: t, open });
  }
  const dense = problem.cell === "dense";
  return (
    <section aria-label="graph" class="graph">
      <div class="folding">
        {problem.cell === "lstm" && (
          <button aria-pressed={state.gates} onClick={() => view.set({ gates: !state.gates })}>
            {state.gates ? "▾ close gates" : "▸ open gates"}
          </button>
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
      <div class="unrolled">
        {parts.map(({ from, to, open }) =>
          open ? (
            <div
              class={`step-box${view.current.t === from ? " here" : ""}${T === 1 ? " alone" : ""}`}
              key={`s${from}`}
            >
              {!dense && (
                <button class="quiet" aria-expanded="true" onClick={() => view.toggle(from)}>
                  ▾ t = {from}
                </button>
              )}
              <Step view={view} t={from} />
            </div>
          ) : (
            <Fold key={`f${from}`} view={view} from={from} to={to} />
          ),
        )}
      </div>
    </section>
  );
}

function Legend({ view }: { view: View }) {
  return (
    <ul class="legend" aria-label="legend">
      <li>
        <span class="value">0.5363</span> a value, going forward
      </li>
      <li>
        <span class="back">−0.0183</span> a cotangent dX = ∂L/∂X, coming back
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
      <li>
        <Scale most={1} /> heat maps: negative to positive
      </li>
    </ul>
  );
}

// Below ----------------------------------------------------------------------------------------

function Author({ packed }: { packed: Packed }) {
  if (!packed.note && !packed.below.length && !packed.beside.length) return null;
  return (
    <details class="author-block">
      <summary>
        <h2>The author's letters and digits</h2>
      </summary>
      {packed.note && <p>{packed.note}</p>}
      {packed.beside.length > 0 && (
        <ul class="plain digits">
          {packed.beside.map(([name, t, text]) => (
            <li>
              <code>
                {name}
                {t === null ? "" : ` (t = ${t})`}
              </code>
              : {text}
            </li>
          ))}
        </ul>
      )}
      {packed.below.length > 0 && (
        <div class="scroll" role="region" aria-label="what the author printed" tabIndex={0}>
          <pre>{packed.below.join("\n")}</pre>
        </div>
      )}
      <p class="hint">This is of the example as it was published, whatever is changed above.</p>
    </details>
  );
}

const HowTo = () => (
  <section class="how" aria-labelledby="how">
    <h2 id="how">How to read this page</h2>
    <dl>
      <dt>Stage</dt>
      <dd>
        One small function, such as a product or tanh. Forward, the network is a chain of stages.
      </dd>
      <dt>Backward</dt>
      <dd>
        The same stages in reverse. Each takes the cotangent of what it made, multiplies it with its
        local derivative, and hands the cotangents of its inputs on. dX is the derivative of the
        loss with respect to X.
      </dd>
      <dt>Fork</dt>
      <dd>
        Where a value is used more than once. The loss depends on it along every branch, so what
        comes back along the branches is added. h goes outside and into the next step, c goes into
        tanh(c) and into the next step, x and h go into four gates, and a weight goes into every
        time step.
      </dd>
      <dt>Keys</dt>
      <dd>
        <kbd>→</kbd> <kbd>←</kbd> a stage; with <kbd>Shift</kbd> a time step; <kbd>space</kbd>{" "}
        plays; <kbd>Home</kbd> and <kbd>End</kbd>. A click on a card goes to its line. The address
        holds all that is set here: a link to it opens the same.
      </dd>
    </dl>
  </section>
);

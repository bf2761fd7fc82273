/** The way through the lines: buttons, keys, and a slider over time, stage by stage. */
import { useEffect, useRef, useState } from "preact/hooks";
import { moments, type View } from "./view";

export interface Way {
  go(n: number): void;
  by(n: number): void;
  jump(direction: number): void;
  play(): void;
  playing: boolean;
  speed: number;
  setSpeed(x: number): void;
  last: number;
}

export function useWay(view: View, last: number): Way {
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
export function useKeys(way: Way) {
  const now = useRef(way);
  now.current = way;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (target.closest("input, select, textarea, [contenteditable], [role=listbox]")) return;
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

export function Controls({ view, way }: { view: View; way: Way }) {
  const [first, last] = [view.at === 0, view.at === way.last];
  const icon = (of: string, says: string, key: string, act: () => void, disabled: boolean) => (
    <button onClick={act} disabled={disabled} aria-label={says} title={`${says} (${key})`}>
      <Icon of={of} />
    </button>
  );
  return (
    <nav class="controls" aria-label="through time">
      <div class="buttons">
        {icon("start", "to the beginning", "Home", () => way.go(0), first)}
        {icon("jump-back", "a time step back", "Shift ←", () => way.jump(-1), first)}
        {icon("back", "a stage back", "←", () => way.by(-1), first)}
        <button
          class="play"
          onClick={way.play}
          aria-pressed={way.playing}
          title="play or pause (space)"
        >
          <Icon of={way.playing ? "pause" : "play"} /> {way.playing ? "Pause" : "Play"}
        </button>
        <button class="main" onClick={() => way.by(1)} disabled={last} title="the next stage (→)">
          Next <Icon of="play" />
        </button>
        {icon("jump", "a time step on", "Shift →", () => way.jump(1), last)}
        {icon("end", "to the end", "End", () => way.go(way.last), last)}
        <label class="speed">
          <span class="hidden">speed</span>
          <select value={way.speed} onChange={(e) => way.setSpeed(Number(e.currentTarget.value))}>
            {[0.5, 1, 2, 4].map((x) => (
              <option value={x}>{x}×</option>
            ))}
          </select>
        </label>
      </div>
      <Slider view={view} way={way} />
    </nav>
  );
}

/** Every stage of every step: forward, backward, and the sums over time, below its names. */
function Slider({ view, way }: { view: View; way: Way }) {
  const all = moments(view.truth);
  const { label, first, last } = all.find((m) => view.at <= m.last)!;
  const { current, truth } = view;
  const count = way.last + 1;
  return (
    <>
      <p class="where" data-role="where">
        <b class={current.part === "forward" ? "value" : "back"}>{label}</b>
        <span class="count">
          stage {view.at + 1} of {count}
        </span>
      </p>
      <div class="slider">
        <input
          type="range"
          min={0}
          max={way.last}
          value={view.at}
          aria-label="time: every stage, forward and then backward"
          aria-valuetext={`${label}: ${current.name}, stage ${view.at + 1} of ${count}`}
          onInput={(e) => way.go(Number(e.currentTarget.value))}
        />
        <div class="strip" aria-hidden="true">
          {all.map((m) => {
            const share = (m.last - m.first + 1) / count;
            const { part, t } = truth.stages[m.first];
            const name = t !== null ? `t=${t}` : part === "over time" ? "sums" : part;
            const css = `${part.replace(" ", "-")}${m.first === first ? " at" : ""}`;
            return (
              <span
                class={css}
                style={{ flexGrow: m.last - m.first + 1 }}
                onClick={() => way.go(m.first)}
              >
                {share > 0.05 && name}
              </span>
            );
          })}
        </div>
      </div>
      <label class="stage-choice">
        <span class="hidden">stage</span>
        <select
          value={view.at}
          onChange={(e) => way.go(Number(e.currentTarget.value))}
          aria-label="stage of this step"
        >
          {truth.stages.slice(first, last + 1).map((s, m) => (
            <option value={first + m}>{s.name}</option>
          ))}
        </select>
      </label>
    </>
  );
}

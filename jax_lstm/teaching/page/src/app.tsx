/** The page: what is chosen, the way through the lines, the graph, and what stands beside it. */
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { knownMistake } from "./cuts";
import { Editor } from "./editor";
import { digits } from "./equations";
import { Header } from "./header";
import { HowTo } from "./how";
import { Panel } from "./panel";
import type { Packed } from "./problem";
import { readState, write, type State } from "./state";
import { Sums } from "./sums";
import { AllNumbers } from "./table";
import { Graph, Legend } from "./unrolled";
import { make, placeOf, rowOf, viewOf, type View } from "./view";
import { Controls, useKeys, useWay } from "./way";

export interface Data {
  runs: Packed[];
  start: { example: string; mistake: string; row: number };
}

const START: Omit<State, "example" | "mistake" | "row"> = {
  at: 0,
  edits: {},
  gates: null,
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
  const made = useMemo(
    () => make(packed, state.edits, state.mistake),
    [packed, state.edits, state.mistake],
  );
  const mistake = knownMistake(packed, made.truth, state.mistake);
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
  const changed = `${packed.id} ${JSON.stringify(state.edits)} ${view.at}`;
  const editor = useMemo(() => <Editor key={packed.id} view={view} />, [changed]);
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
      <div class="read-me">
        <Legend view={view} />
        <HowTo view={view} />
      </div>
      <Controls view={view} way={way} />
      <main>
        <div class="columns">
          <div class="left">
            <Graph view={view} />
          </div>
          <div class="right" id="told-here" tabIndex={-1}>
            <Panel key={view.packed.id} view={view} />
          </div>
        </div>
        <div class="more">
          <Sums view={view} />
          {editor}
        </div>
        <Author packed={packed} />
        <AllNumbers view={view} />
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

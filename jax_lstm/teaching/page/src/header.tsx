/** What is chosen: the example, the mistake, the row of the batch; and the loss that comes of it. */
import { written } from "./bits";
import { sayMistake } from "./cuts";
import { MistakePicker } from "./picker";
import { writePlace, type Packed } from "./problem";
import { placeOf, type View } from "./view";

export function Header({ view, runs, own }: { view: View; runs: Packed[]; own: number }) {
  const { packed, state, truth } = view;
  const rows = packed.cell === "dense" ? 1 : packed.arrays.x.shape[1];
  const dark =
    state.theme === "dark" ||
    (state.theme === "" && matchMedia("(prefers-color-scheme: dark)").matches);
  const option = (x: Packed) => <option value={x.id}>{x.title}</option>;
  const fresh = { at: 0, row: 0, edits: {}, mistake: "", open: null, units: null };
  return (
    <header>
      <h1>Backpropagation through time, step by step</h1>
      <div class="choices">
        <label>
          example{" "}
          <select
            data-role="example"
            value={packed.id}
            onChange={(e) => view.set({ example: e.currentTarget.value, ...fresh })}
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
        {Object.keys(packed.mistakes).length > 0 && <MistakePicker key={packed.id} view={view} />}
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
        {truth.loss !== null && <Loss view={view} />}
        {nanOf(view) && (
          <span class="nan-mark">NaN: {nanOf(view)}. Every number that it reaches is marked.</span>
        )}
        {state.mistake && <Mistaken view={view} />}
      </p>
    </header>
  );
}

function Loss({ view }: { view: View }) {
  const { truth, other, before } = view;
  const loss = (other ?? truth).loss!;
  return (
    <>
      loss ={" "}
      <b title={String(loss)} data-role="loss" data-value={String(loss)}>
        {written(loss)}
      </b>
      {other && !Object.is(loss, truth.loss) && (
        <> with the mistake, {written(truth.loss!)} without</>
      )}
      {before && !Object.is(before.loss, truth.loss) && (
        <> (before your change {written(before.loss!)})</>
      )}
      .{" "}
    </>
  );
}

function Mistaken({ view }: { view: View }) {
  const { packed, state, truth, other, first } = view;
  if (!other) {
    return (
      <span class="mistake-line">
        The page does not compute the mistake “{state.mistake}”: what stands here is the truth.{" "}
        <code>trace --mutant</code> shows it in a terminal.
      </span>
    );
  }
  return (
    <span class="mistake-line">
      With a mistake: {sayMistake(packed, state.mistake)}.{" "}
      {first >= 0 ? (
        <button class="quiet" onClick={() => view.set({ at: first })}>
          It starts at {truth.stages[first].name}, {placeOf(truth.stages[first])}.
        </button>
      ) : (
        "With these numbers it makes no difference."
      )}{" "}
      <button class="quiet" onClick={() => view.set({ mistake: "" })}>
        Back to the truth.
      </button>
    </span>
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
    return writePlace(name, place.reverse());
  }
  return "";
}

/** Truth and mistake beside each other. */
import { offset } from "./arrays";
import { Block, bracket, Num } from "./bits";
import { sayMistake } from "./cuts";
import type { Stage } from "./trace";
import { placeOf, type View } from "./view";

/** Truth and mistake in columns. */
export function Beside({
  view,
  places,
  truth,
  mistaken,
}: {
  view: View;
  places: number[][];
  truth: Stage;
  mistaken: Stage;
}) {
  const says = sayMistake(view.packed, view.state.mistake);
  const first = view.first >= 0 ? view.truth.stages[view.first] : null;
  const at = (s: Stage, place: number[]) => s.value.data[offset(s.value.shape, place)];
  const far = (place: number[]) => Math.abs(at(truth, place) - at(mistaken, place));
  const shown =
    places.length <= 8 ? places : [...places].sort((a, b) => far(b) - far(a)).slice(0, 8);
  const differs = view.differs(truth.name, truth.t) > 0;
  return (
    <Block title="Beside the truth" css="mistake-block">
      <p>
        <b>{view.state.mistake}</b>: {says}.{" "}
        {view.at === view.first ? (
          <b>The difference starts here.</b>
        ) : differs ? (
          "This number differs."
        ) : (
          "Here nothing differs."
        )}{" "}
        {first ? (
          view.at !== view.first && (
            <button class="quiet" onClick={() => view.set({ at: view.first })}>
              go to where it starts: {first.name}, {placeOf(first)}
            </button>
          )
        ) : (
          <span>With these numbers it makes no difference anywhere.</span>
        )}
      </p>
      {places.length > 1 && (
        <table>
          <thead>
            <tr>
              <th scope="col">{places.length > shown.length ? "what differs most" : "number"}</th>
              <th scope="col">truth</th>
              <th scope="col">mistake</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((place) => (
              <tr class={at(truth, place) !== at(mistaken, place) && differs ? "differs" : ""}>
                <th scope="row">
                  <code>
                    {truth.name}
                    {places.length > 1 && bracket(truth, place)}
                  </code>
                </th>
                <td>
                  <Num x={at(truth, place)} />
                </td>
                <td>
                  <Num x={at(mistaken, place)} css={differs ? "wrong" : ""} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Block>
  );
}

/** A fork's branches and their sum, and the sum without each of them. */
import { Bar, Block, Head, Num } from "./bits";
import { cutName } from "./cuts";
import { element } from "./equations";
import { Letter } from "./mathml";
import { cutOf } from "./mistakes";
import { withoutBranch, type Stage } from "./trace";
import type { View } from "./view";

const MOST = 12; // branches that are all told

/** `s` is the fork of the truth, or with the mistake. */
export function Fork({ s, place, view }: { s: Stage; place: number[]; view: View }) {
  const { state } = view;
  const at = (x: Stage["value"]) => element(x, place);
  const cut = cutOf(state.mistake) ?? (() => false);
  const mistaken = view.other !== null && s !== view.current;
  const left = (k: string) => mistaken && cut(k, s.t);
  const values = s.branches.map((k) => at(s.look(k)));
  const total = at(s.value);
  const most = Math.max(...values.map(Math.abs), Math.abs(total)) || 1;
  const long = s.branches.length > MOST;
  const rows = long ? [...s.branches.slice(0, 6), ...s.branches.slice(-5)] : s.branches;
  const many = s.t !== null && view.T > 1;
  const drop = (name: string, says: string, text: string) =>
    state.mistake === name ? (
      <button class="small" aria-pressed="true" onClick={() => view.set({ mistake: "" })}>
        put it back
      </button>
    ) : (
      <button class="small" title={says} onClick={() => view.set({ mistake: name })}>
        {text}
        <span class="hidden">: {says}</span>
      </button>
    );
  return (
    <Block
      title={
        <>
          Fork: branches and their sum <Letter of={s.name} />
        </>
      }
      hint="To leave a branch out is a classic mistake. Its effect on all that follows is shown beside the truth."
      css="fork-block"
    >
      <table class="branches">
        <thead>
          <tr>
            <th scope="col">branch</th>
            <th scope="col">comes back</th>
            <th scope="col">sum without this branch</th>
          </tr>
        </thead>
        {rows.map((k) => (
          <tbody key={k}>
            <tr class={left(k) ? "left-out" : ""}>
              <th scope="row">
                <Head of={k} />
              </th>
              <td>
                <Num x={at(s.look(k))} css="back" />
                <span aria-hidden="true">
                  <Bar share={at(s.look(k)) / most} />
                </span>
              </td>
              <td>
                <Num x={at(withoutBranch(s, k))} />
              </td>
            </tr>
            <tr class="drops">
              <td colSpan={3}>
                {left(k) && <b>left out </b>}
                {drop(
                  cutName(k, s.t),
                  `without ${k}${many ? ` at t = ${s.t}` : ""}`,
                  many ? "leave out here" : "leave out",
                )}{" "}
                {many && drop(cutName(k, null), `without ${k} at every step`, "at every step")}
              </td>
            </tr>
          </tbody>
        ))}
        <tfoot>
          <tr>
            <th scope="row">sum{long && ` of ${s.branches.length}`}</th>
            <td>
              <Num x={total} css="back" />
              <span aria-hidden="true">
                <Bar share={total / most} />
              </span>
            </td>
            <td />
          </tr>
        </tfoot>
      </table>
    </Block>
  );
}

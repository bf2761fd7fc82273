/** Local derivatives, and how a cotangent passes them. */
import { offset } from "./arrays";
import { Block, Num } from "./bits";
import { element, evaluate, fill, read } from "./equations";
import { Equation, Formula, Letter, Partial, Sign, Symbols } from "./mathml";
import { isWeight, type Stage } from "./trace";
import type { View } from "./view";
import { flowOf, localsOf, type Local } from "./words";

/** A derivative with its number; of a matrix, its letter alone. */
function Slope({ local, s, place }: { local: Local; s: Stage; place: number[] }) {
  const { of, by, equation } = local;
  const matrix =
    isWeight(equation) || equation === "x" || equation === "h_prev" || equation === "h";
  const known = equation !== "1" && !(matrix && isMatrixUse(s, by));
  const here = place.length ? place : [0, 0]; // a loss has no place: its first unit's derivative
  const worked = known ? fill(read(equation), s.look, here) : null;
  return (
    <span class="eq slope">
      <Partial of={of} by={by} />
      <Formula>
        <Sign form="infix" of="=" />
      </Formula>
      {equation === "1" ? (
        <Formula>
          <mn>1</mn>
        </Formula>
      ) : (
        <Symbols equation={equation} />
      )}
      {worked && worked.kind !== "number" && (
        <>
          <Formula>
            <Sign form="infix" of="=" />
          </Formula>
          <Equation tree={worked} numbers />
        </>
      )}
      {worked && (
        <>
          <Formula>
            <Sign form="infix" of="=" />
          </Formula>
          <Num x={evaluate(worked)} />
        </>
      )}
      {!known && equation !== "1" && <Small name={equation} s={s} />}
    </span>
  );
}

/** A product with a matrix: its derivative is the matrix, not one of its numbers. */
const isMatrixUse = (s: Stage, by: string) =>
  /@/.test(s.equation) || isWeight(by) || by === "x" || (by === "h" && /V/.test(s.equation));

/** The numbers of a matrix where they are few. */
function Small({ name, s }: { name: string; s: Stage }) {
  const { data } = s.look(name);
  if (data.length > 4) return <small> ({data.length} numbers)</small>;
  return (
    <span>
      {" "}
      = [
      {Array.from(data).map((x, n) => (
        <>
          {n > 0 && ", "}
          <Num x={x} />
        </>
      ))}
      ]
    </span>
  );
}

export function Locals({ s, place, view }: { s: Stage; place: number[]; view: View }) {
  const locals = localsOf(s.name, view.problem.cell);
  if (!locals.length) return null;
  return (
    <Block title="Local derivatives" hint="What the backward will multiply with here.">
      <ul class="plain">
        {locals.map((local) => (
          <li>
            <Slope local={local} s={s} place={place} />
          </li>
        ))}
      </ul>
    </Block>
  );
}

/** Comes in, times the local derivative, goes out. */
export function Flow({ s, place, view }: { s: Stage; place: number[]; view: View }) {
  const flow = flowOf(s, view.problem.cell);
  const out = s.value.data[offset(s.value.shape, place)];
  if (!flow) return null;
  return (
    <Block
      title="The cotangent passes"
      hint="A cotangent dX is ∂L/∂X: how much the loss L grows for each bit that X grows."
    >
      <ol class="flow">
        <li>
          <small>comes in</small>
          {flow.into.length ? (
            flow.into.map((name) => <Coming name={name} s={s} place={place} />)
          ) : (
            <Formula>
              <mfrac>
                <mi>∂L</mi>
                <mi>∂L</mi>
              </mfrac>
              <mo>=</mo>
              <mn>1</mn>
            </Formula>
          )}
        </li>
        <li>
          <small>local derivative</small>
          <Slope local={flow.local} s={s} place={place} />
        </li>
        <li>
          <small>goes out</small>
          <span>
            <Letter of={s.name} /> = <Num x={out} css="back" />
          </span>
        </li>
      </ol>
    </Block>
  );
}

function Coming({ name, s, place }: { name: string; s: Stage; place: number[] }) {
  const x = s.look(name);
  const same = !/@|sum/.test(s.equation) || x.data.length === 1;
  return (
    <span>
      <Letter of={name} />
      {same ? (
        <>
          {" "}
          = <Num x={element(x, x.shape.length > place.length ? [place[0], 0] : place)} css="back" />
        </>
      ) : (
        <small> ({x.shape[x.shape.length - 1]} numbers)</small>
      )}
    </span>
  );
}

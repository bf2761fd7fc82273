/** Equations as MathML, which browsers draw with the fonts they have. */
import type { ComponentChildren, JSX } from "preact";
import { digits, read, summands, termsOf, type Tree } from "./equations";

const TERMS = 12; // of a sum, that are written down
const BINDS: Record<string, number> = { "+": 1, "-": 1, "*": 2, "@": 2, "/": 4, "^": 3 };

/** `dc_from_next`, `W_i`, `h(t=1)` as letters with what stands below them. */
export function Name({ of }: { of: string }): JSX.Element {
  if (/^d(?=[a-zA-Z])/.test(of)) {
    return (
      <mrow>
        <mi mathvariant="normal">d</mi>
        <Name of={of.slice(1)} />
      </mrow>
    );
  }
  const time = /^(.*)\((t=\d+)\)$/.exec(of);
  const [letter, ...below] = (time ? time[1] : of).split("_");
  const base = letter === "tanh" ? <mi>tanh</mi> : <mi>{letter}</mi>;
  if (letter === "tanh" && below.length) {
    return (
      <mrow>
        <mi>tanh</mi>
        <mo>&#8289;</mo>
        <mi>{below.join(" ")}</mi>
      </mrow>
    );
  }
  const [, bare, number] = /^([a-zA-Z]+)(\d)$/.exec(letter) ?? [];
  const words = [...(number ? [number] : []), ...below, ...(time ? [time[2]] : [])];
  if (!words.length) return base;
  return (
    <msub>
      <mi>{bare ?? letter}</mi>
      <mtext>{words.join("\u00a0")}</mtext>
    </msub>
  );
}

/** A sign between two things, or before one, whatever stands beside it. */
export const Sign = ({ form, of }: { form: "prefix" | "infix"; of: string }) => {
  const attributes = { form };
  return <mo {...attributes}>{of}</mo>;
};

const Fence = ({ children }: { children: ComponentChildren }) => (
  <mrow>
    <mo stretchy={false}>(</mo>
    {children}
    <mo stretchy={false}>)</mo>
  </mrow>
);

export function Numeral({ value, first }: { value: number; first?: boolean }): JSX.Element {
  const text = digits(value);
  const power = /^(-?[\d.]+)e([-+])0*(\d+)$/.exec(text);
  const bare = (power ? power[1] : text).replace("-", "");
  const number =
    text === "nan" ? <mtext class="nan">NaN</mtext> : <mn>{bare.replace("inf", "∞")}</mn>;
  const inner = (
    <mrow>
      {text.startsWith("-") && <Sign form="prefix" of="−" />}
      {number}
      {power && (
        <>
          <mo>·</mo>
          <msup>
            <mn>10</mn>
            <mn>{`${power[2] === "-" ? "−" : ""}${power[3]}`}</mn>
          </msup>
        </>
      )}
    </mrow>
  );
  return text.startsWith("-") && !first ? <Fence>{inner}</Fence> : inner;
}

const binds = (tree: Tree): number => {
  if (tree.kind === "operation") return BINDS[tree.sign];
  if (tree.kind === "call" && tree.name === "sum" && tree.of.length > 1) return 1;
  return tree.kind === "negative" ? 1 : 5;
};

/** Of many terms the first three and the last; null is what is left out. */
export const shorten = (terms: Tree[]): (Tree | null)[] =>
  terms.length <= TERMS ? terms : [...terms.slice(0, 3), null, terms[terms.length - 1]];

/** Binary operations are told apart by their sign: ⊙ of arrays, · of numbers. */
function Write({
  tree,
  numbers,
  first,
}: {
  tree: Tree;
  numbers: boolean;
  first?: boolean;
}): JSX.Element {
  const inside = (x: Tree, least: number, first = false) =>
    binds(x) < least ? (
      <Fence>
        <Write tree={x} numbers={numbers} first />
      </Fence>
    ) : (
      <Write tree={x} numbers={numbers} first={first} />
    );
  switch (tree.kind) {
    case "number":
      return <Numeral value={tree.value} first={first} />;
    case "name":
      return <Name of={tree.name} />;
    case "transpose":
      return (
        <msup>
          {inside(tree.x, 4)}
          <mo>⊤</mo>
        </msup>
      );
    case "negative":
      return (
        <mrow>
          <Sign form="prefix" of="−" />
          {inside(tree.x, 2)}
        </mrow>
      );
    case "operation": {
      const { sign, left, right } = tree;
      if (sign === "/") {
        return (
          <mfrac>
            <Write tree={left} numbers={numbers} first />
            <Write tree={right} numbers={numbers} first />
          </mfrac>
        );
      }
      if (sign === "^") {
        return (
          <msup>
            {inside(left, 4)}
            <Write tree={right} numbers={numbers} first />
          </msup>
        );
      }
      const written = { "*": numbers ? "·" : "⊙", "@": "\u2062", "-": "−" }[sign] ?? sign;
      return (
        <mrow>
          {inside(left, BINDS[sign], first)}
          <mo>{written}</mo>
          {inside(right, BINDS[sign] + (sign === "-" ? 1 : 0))}
        </mrow>
      );
    }
    case "call":
      return <Call tree={tree} numbers={numbers} first={first} />;
  }
}

function Call({
  tree,
  numbers,
  first,
}: {
  tree: Tree & { kind: "call" };
  numbers: boolean;
  first?: boolean;
}) {
  if (tree.name === "sum" && numbers) {
    return (
      <mrow>
        {shorten(tree.of).map((term, n) => (
          <>
            {n > 0 && <mo>+</mo>}
            {term ? <Write tree={term} numbers={numbers} first={first && n === 0} /> : <mo>…</mo>}
          </>
        ))}
      </mrow>
    );
  }
  const name = { sigmoid: "σ", sum: "∑" }[tree.name] ?? tree.name;
  return (
    <mrow>
      {name === "∑" ? <mo largeop={false}>∑</mo> : <mi>{name}</mi>}
      <Fence>
        {tree.of.map((x) => (
          <Write tree={x} numbers={numbers} first />
        ))}
      </Fence>
    </mrow>
  );
}

/** One piece of mathematics in a line of text. */
export const Formula = ({ children, text }: { children: ComponentChildren; text?: string }) => (
  <math {...(text ? { alttext: text } : {})}>{children}</math>
);

export const Letter = ({ of }: { of: string }) => (
  <Formula>
    <Name of={of} />
  </Formula>
);

/**
 * "= a + b + c" in pieces that a narrow window may break between. Above all stands what it is of.
 */
export function Equation({ tree, numbers }: { tree: Tree; numbers: boolean }) {
  const terms = numbers ? shorten(summands(tree)) : termsOf(tree);
  return (
    <>
      {terms.map((term, n) => (
        <Formula>
          {n > 0 && <Sign form="infix" of="+" />}
          {term ? <Write tree={term} numbers={numbers} first={n === 0} /> : <mo>…</mo>}
        </Formula>
      ))}
    </>
  );
}

/** "f ⊙ c_prev + i ⊙ g" of a line of text. */
export const Symbols = ({ equation }: { equation: string }) => (
  <Equation tree={read(equation)} numbers={false} />
);

/** ∂y/∂x */
export const Partial = ({ of, by }: { of: string; by: string }) => (
  <Formula>
    <mfrac>
      <mrow>
        <Sign form="prefix" of="∂" />
        <Name of={of} />
      </mrow>
      <mrow>
        <Sign form="prefix" of="∂" />
        <Name of={by} />
      </mrow>
    </mfrac>
  </Formula>
);

/**
 * Equations: read, and filled with the numbers of one element, as equations.py does.
 *
 *   read("f * c_prev + i * g")            its tree
 *   fill(tree, look, [0, 2])              the same with numbers; of `@` and `sum` the terms
 */
import { offset, places, type Arr } from "./arrays";

export type Tree =
  | { kind: "number"; value: number }
  | { kind: "name"; name: string }
  | { kind: "transpose"; x: Tree }
  | { kind: "negative"; x: Tree }
  | { kind: "operation"; sign: string; left: Tree; right: Tree }
  | { kind: "call"; name: string; of: Tree[] };

export type Look = (name: string) => Arr;

const TOKEN = /\s*([A-Za-z_]\w*(?:\(t=\d+\))?|\d+(?:\.\d+)?|\.T|[-+*/@^()])/y;
const BINDS: Record<string, number> = { "+": 1, "-": 1, "*": 2, "/": 2, "@": 2 };
const cache = new Map<string, Tree>();

/** The tree of an equation. It is cached, so nothing may change it. */
export function read(equation: string): Tree {
  let tree = cache.get(equation);
  if (!tree) cache.set(equation, (tree = parse(equation)));
  return tree;
}

function parse(equation: string): Tree {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < equation.length) {
    const start = TOKEN.lastIndex;
    const match = TOKEN.exec(equation);
    if (!match) throw new Error(`no equation: ${equation.slice(start)}`);
    tokens.push(match[1]);
  }
  let n = 0;

  function sums(least: number): Tree {
    let left = signed();
    while (n < tokens.length && (BINDS[tokens[n]] ?? 0) >= least) {
      const sign = tokens[n++];
      left = { kind: "operation", sign, left, right: sums(BINDS[sign] + 1) };
    }
    return left;
  }

  function signed(): Tree {
    if (tokens[n] !== "-") return power();
    n++;
    return { kind: "negative", x: signed() };
  }

  function power(): Tree {
    const left = atom();
    if (tokens[n] !== "^") return left;
    n++;
    return { kind: "operation", sign: "^", left, right: signed() };
  }

  function atom(): Tree {
    const token = tokens[n++];
    let found: Tree;
    if (token === "(") {
      found = sums(1);
      n++; // ")"
    } else if (/^[\d.]/.test(token)) {
      found = { kind: "number", value: Number(token) };
    } else if (tokens[n] === "(") {
      n++;
      found = { kind: "call", name: token, of: [sums(1)] };
      n++;
    } else {
      found = { kind: "name", name: token };
    }
    if (tokens[n] === ".T") {
      n++;
      found = { kind: "transpose", x: found };
    }
    return found;
  }

  return sums(1);
}

/** What an equation names, from left to right, each once. */
export const namesIn = (equation: string): string[] =>
  equation ? [...new Set(namesOf(read(equation)))] : [];

function namesOf(tree: Tree): string[] {
  switch (tree.kind) {
    case "number":
      return [];
    case "name":
      return [tree.name];
    case "operation":
      return [...namesOf(tree.left), ...namesOf(tree.right)];
    case "call":
      return tree.of.flatMap(namesOf);
    default:
      return namesOf(tree.x);
  }
}

/** The tree of one element, with numbers instead of names. */
export function fill(tree: Tree, look: Look, place: number[]): Tree {
  switch (tree.kind) {
    case "number":
      return tree;
    case "name":
      return number(element(look(tree.name), place));
    case "negative":
      return { kind: "negative", x: fill(tree.x, look, place) };
    case "operation": {
      if (tree.sign !== "@") {
        const [left, right] = [tree.left, tree.right].map((x) => fill(x, look, place));
        return { ...tree, left, right };
      }
      const [a, b] = [matrix(tree.left, look), matrix(tree.right, look)];
      const of = Array.from({ length: a.columns }, (_, k): Tree => {
        const [left, right] = [a.at(place[0], k), b.at(k, place[1])].map(number);
        return { kind: "operation", sign: "*", left, right };
      });
      return { kind: "call", name: "sum", of };
    }
    case "call": {
      const [x] = tree.of;
      if (tree.name === "sum") {
        const { shape } = look(namesOf(x)[0]);
        const every = place.length
          ? Array.from({ length: shape[0] }, (_, n) => [n, ...place])
          : places(shape);
        return { kind: "call", name: "sum", of: every.map((p) => fill(x, look, p)) };
      }
      if (tree.name === "softmax") {
        const { columns, at } = matrix(x, look);
        const exp = (n: number): Tree => ({
          kind: "call",
          name: "exp",
          of: [number(at(place[0], n))],
        });
        const every = Array.from({ length: columns }, (_, n) => exp(n));
        const right: Tree = { kind: "call", name: "sum", of: every };
        return { kind: "operation", sign: "/", left: exp(place[1]), right };
      }
      return { ...tree, of: [fill(x, look, place)] };
    }
    case "transpose":
      throw new Error("a transpose stands beside @ alone");
  }
}

const number = (value: number): Tree => ({ kind: "number", value });

/** Of an array that may have fewer axes than the result, the number that counts. */
export function element(x: Arr, place: number[]): number {
  const from = Math.max(0, place.length - x.shape.length);
  return x.data[offset(x.shape, place.slice(from))];
}

/** `x` or `x.T`, read by row and column. */
function matrix(tree: Tree, look: Look) {
  const turned = tree.kind === "transpose";
  const inner = turned ? tree.x : tree;
  if (inner.kind !== "name") throw new Error("a product of names");
  const { shape, data } = look(inner.name);
  const [rows, columns] = shape;
  return {
    columns: turned ? rows : columns,
    at: (r: number, c: number) => (turned ? data[c * columns + r] : data[r * columns + c]),
  };
}

/** As one would copy them, and as Python's ".5g": 0.85195, -0.0016459, 6.1e-05, 0. */
export function digits(x: number, most = 5): string {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  if (x === 0) return "0";
  const [mantissa, exponent] = x.toExponential(most - 1).split("e");
  const power = Number(exponent);
  const short = (text: string) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (power >= -4 && power < most) return short(x.toFixed(most - 1 - power));
  const size = String(Math.abs(power)).padStart(2, "0");
  return `${short(mantissa)}e${power < 0 ? "-" : "+"}${size}`;
}

/** The number that a filled tree is. */
export function evaluate(tree: Tree): number {
  switch (tree.kind) {
    case "number":
      return tree.value;
    case "negative":
      return -evaluate(tree.x);
    case "operation": {
      const [a, b] = [evaluate(tree.left), evaluate(tree.right)];
      return { "+": a + b, "-": a - b, "*": a * b, "/": a / b, "^": a ** b }[tree.sign] ?? NaN;
    }
    case "call": {
      const of = tree.of.map(evaluate);
      if (tree.name === "sum") return of.reduce((a, b) => a + b, 0);
      if (tree.name === "sigmoid") return 1 / (1 + Math.exp(-of[0]));
      const known: Record<string, (x: number) => number> = {
        exp: Math.exp,
        log: Math.log,
        tanh: Math.tanh,
      };
      return known[tree.name]?.(of[0]) ?? NaN;
    }
    default:
      return NaN;
  }
}

/** a, b and c of a + b + c. */
export function termsOf(tree: Tree): Tree[] {
  const found: Tree[] = [];
  while (tree.kind === "operation" && tree.sign === "+") {
    found.unshift(tree.right);
    tree = tree.left;
  }
  return [tree, ...found];
}

/** The same, and what is in a sum. */
export const summands = (tree: Tree): Tree[] =>
  termsOf(tree).flatMap((x) => (x.kind === "call" && x.name === "sum" ? x.of : [x]));

/**
 * Where the stages and forks of one step stand: forward from left to right and from the bottom to
 * the top. c runs along the upper line, h and x come in below, what comes next is on the right.
 */
import type { Outside, Problem } from "./problem";

export interface Node {
  kind: "card" | "pill" | "operation" | "fork" | "gates";
  x: number;
  y: number;
  wide: number;
  high: number;
  label: string;
  /** Names of the lines whose numbers stand here. */
  value?: string;
  back?: string;
  /** What only comes back is told beside a fork. */
  title?: string;
  lines: number;
}

export interface Edge {
  path: string;
  arrow: boolean;
  /** The name whose value goes along it, and the one that comes back. */
  value: string;
  back: string;
}

export interface Layout {
  wide: number;
  high: number;
  nodes: Node[];
  edges: Edge[];
}

const PITCH = 67; // from column to column
const APART = 74; // with room between the gates for what comes back to x and h_prev
const CARD = 62;
const LEAF = 19; // from W to U to b
const NEXT = 12; // what comes next stands a little apart
const SAID = 13; // the line of a name
const HEAD = 30; // above: the step's name
export const LINE = 13; // a line of digits
export const STRIP = 16; // a heat map in a card

/** How high a card is with so many lines of digits; 0 lines are a heat map. */
export const room = (lines: number) => (lines ? lines * LINE : STRIP);

/** Lines of digits of an array of the state, and of the input. */
export interface Lines {
  h: number;
  x: number;
}

class Drawing {
  nodes: Node[] = [];
  edges: Edge[] = [];
  card: number;
  input: number;
  told: number;

  constructor(
    readonly lines: Lines,
    readonly pitch = PITCH,
    readonly shift = 0, // of the columns behind the gates
  ) {
    this.card = SAID + 5 + 2 * room(lines.h);
    this.input = SAID + 5 + 2 * room(lines.x);
    this.told = SAID + 3 + room(lines.h);
  }

  at = (column: number) => 6 + CARD / 2 + column * this.pitch + (column > 4 ? this.shift : 0);

  put(column: number, y: number, value: string, back: string, label = value, lines = this.lines.h) {
    const x = this.at(column);
    const high = SAID + 5 + (back ? 2 : 1) * room(lines);
    this.nodes.push({ kind: "card", x, y, wide: CARD, high, label, value, back, lines });
    return {
      x,
      y,
      top: y,
      bottom: y + high,
      middle: y + high / 2,
      left: x - CARD / 2,
      right: x + CARD / 2,
    };
  }
  /** A number that comes back along a branch. */
  pill(x: number, y: number, label: string, name: string) {
    const { told: high, lines } = this;
    this.nodes.push({ kind: "pill", x, y, wide: CARD, high, label, back: name, lines: lines.h });
  }
  /** The same without a name, on the branch or below the fork. */
  share(x: number, y: number, name: string, lines: number) {
    const high = room(lines) + 4;
    this.nodes.push({ kind: "pill", x, y, wide: CARD, high, label: "", back: name, lines });
  }
  /** W, U and b below a net input; x goes into W, h_prev into U. */
  leaves(x: number, y: number, end: string) {
    ["W", "U", "b"].forEach((w, m) => this.small(x + LEAF * (m - 1), y, w, `d${w}${end}`));
  }
  fork(x: number, y: number, back: string, title: string) {
    this.nodes.push({ kind: "fork", x, y, wide: 10, high: 10, label: "", back, title, lines: 0 });
  }
  operation(x: number, y: number, label: string, title: string) {
    this.nodes.push({ kind: "operation", x, y, wide: 18, high: 18, label, title, lines: 0 });
  }
  small(x: number, y: number, label: string, name: string) {
    this.nodes.push({ kind: "pill", x, y, wide: 17, high: 14, label, back: name, lines: 0 });
  }
  edge(path: string, value: string, back: string, arrow = true) {
    this.edges.push({ path, value, back, arrow });
  }
  done(columns: number, high: number, more = 0): Layout {
    const wide = this.at(columns - 1) + CARD / 2 + 6 + more;
    return { wide, high, nodes: this.nodes, edges: this.edges };
  }
}

export function layout(
  problem: Problem,
  lines: Lines,
  gates: boolean,
  t: number,
  T: number,
): Layout {
  if (problem.cell === "dense") return layOutDense(new Drawing(lines, 84));
  if (problem.cell === "elman") return layOutElman(new Drawing(lines, 90), problem, t, T);
  if (gates) return layOutOpen(new Drawing(lines, APART, NEXT), problem, t, T);
  return layOutClosed(new Drawing(lines), problem, t, T);
}

const FIGO = ["f", "i", "g", "o"];

function layOutOpen(draw: Drawing, problem: Problem, t: number, T: number): Layout {
  const { card, at, lines } = draw;
  const yC = HEAD;
  const yG = yC + Math.max(card + 44, card / 2 + draw.told + 26);
  const yA = yG + card + 30;
  const yW = yA + card + 5;
  const yH = yW + Math.max(38, 14 + 12 + room(lines.h) + 4 + 10 - card / 2);
  const yX = yH + card / 2 + Math.max(card / 2, 9 + draw.told) + 12;
  const middle = (at(2) + at(3)) / 2;
  const c_prev = draw.put(0, yC, "c_prev", "dc_prev");
  const c = draw.put(5, yC, "c", "dc");
  draw.edge(`M0 ${c.middle}H${c_prev.left}`, "c_prev", "dc_prev");
  draw.edge(`M${c_prev.right} ${c.middle}H${at(1) - 9}`, "c_prev", "dc_prev");
  draw.edge(`M${at(1) + 9} ${c.middle}H${middle - 9}`, "c", "dc");
  draw.edge(`M${middle + 9} ${c.middle}H${c.left}`, "c", "dc");
  const product = c.bottom + 20;
  const gate = FIGO.map((k, n) => draw.put(n + 1, yG, k, `d${k}`));
  const tanh_c = draw.put(5, yG, "tanh_c", "", "tanh(c)");
  draw.edge(`M${at(1)} ${yG}V${c.middle + 9}`, "f", "df");
  draw.edge(`M${at(2)} ${yG}V${product}H${middle - 9}`, "i", "di");
  draw.edge(`M${at(3)} ${yG}V${product}H${middle + 9}`, "g", "dg");
  draw.edge(`M${middle} ${product - 9}V${c.middle + 9}`, "c", "dc");
  draw.operation(at(1), c.middle, "×", "f ⊙ c_prev");
  draw.operation(middle, product, "×", "i ⊙ g");
  draw.operation(middle, c.middle, "+", "c");
  const yO = yG + card + 15;
  draw.edge(`M${gate[3].right - 9} ${gate[3].bottom}V${yO}H${at(5) - 9}`, "o", "do");
  draw.edge(`M${at(5)} ${tanh_c.bottom}V${yO - 9}`, "tanh_c", "dc_from_h");
  draw.operation(at(5), yO, "×", "o ⊙ tanh(c)");
  const h = draw.put(5, yH, "h", "dh");
  draw.edge(`M${at(5)} ${yO + 9}V${h.top}`, "h", "dh");
  const h_prev = draw.put(0, yH, "h_prev", "dh_prev");
  const x = draw.put(0, yX, "x", "dx", "x", lines.x);
  const busX = yX + 14;
  draw.edge(`M0 ${h.middle}H${h_prev.left}`, "h_prev", "dh_prev");
  draw.edge(`M${h_prev.right} ${h.middle}H${at(4)}`, "h_prev", "dh_prev", false);
  draw.edge(`M${x.right} ${busX}H${at(4) - LEAF}`, "x", "dx", false);
  FIGO.forEach((k, n) => {
    const a = draw.put(n + 1, yA, `a_${k}`, `da_${k}`);
    draw.edge(`M${a.x} ${a.top}V${gate[n].bottom}`, `a_${k}`, `da_${k}`);
    draw.edge(`M${a.x} ${h.middle}V${yW + 14}`, "h_prev", `dh_prev_${k}`);
    draw.edge(`M${a.x - LEAF} ${busX}V${yW + 14}`, "x", `dx_${k}`);
    draw.leaves(a.x, yW, `_${k}`);
    draw.fork(a.x, h.middle, "dh_prev", "h_prev goes into four gates");
    draw.fork(a.x - LEAF, busX, "dx", "x goes into four gates");
    draw.share(a.x + APART / 2 - LEAF, h.middle - 14 - room(lines.h), `dh_prev_${k}`, lines.h);
    draw.share(a.x - LEAF / 2, busX + 9, `dx_${k}`, lines.x);
  });
  forks(draw, problem, c, tanh_c, h, yX, t, T, 5);
  return draw.done(7, Math.max(x.bottom, busX + 13 + room(lines.x), yX + card) + 8, NEXT);
}

type Box = ReturnType<Drawing["put"]>;

/** Where a state's cotangent comes from: the next step, or what is given behind the last one. */
const fromNext = (name: string, t: number, T: number) =>
  t + 1 < T ? `from t=${t + 1}` : `d${name}_T`;

const fromOutside = ({ outside }: Problem) =>
  outside === "squares" || outside === "readout" ? "from loss" : "outside";

/** What comes after h, as cards of the last two columns. */
const AFTER: Partial<Record<Outside, string[]>> = { squares: ["y", "loss"], readout: ["y", "p"] };

/** The forks at c and at h: what goes on, what goes outside, and what comes back from there. */
function forks(
  draw: Drawing,
  problem: Problem,
  c: Box,
  tanh_c: Box,
  h: Box,
  yX: number,
  t: number,
  T: number,
  column: number,
) {
  const right = draw.at(column + 1) + NEXT;
  const end = right + CARD / 2 + 6;
  const last = t + 1 === T;
  const x = c.right + 9;
  draw.edge(`M${c.right} ${c.middle}H${end}`, "c", "dc_from_next", last);
  draw.edge(`M${x} ${c.middle}V${tanh_c.middle}H${tanh_c.right}`, "c", "dc_from_h");
  draw.pill(right, c.middle - draw.told - 5, fromNext("c", t, T), "dc_from_next");
  draw.pill(right, c.middle + 10, "from h", "dc_from_h");
  draw.edge(`M${h.right} ${h.middle}H${end}`, "h", "dh_from_next", last);
  draw.pill(right, h.middle - draw.told - 5, fromNext("h", t, T), "dh_from_next");
  draw.pill(right, h.middle + 9, fromOutside(problem), "dh_from_outside");
  draw.fork(x, c.middle, "dc", "c goes into tanh(c), and into the next step");
  draw.fork(x, h.middle, "dh", "h goes outside, and into the next step");
  const [first] = AFTER[problem.outside] ?? [];
  if (!first) {
    draw.edge(`M${x} ${h.middle}V${yX + 24}`, "h", "dh_from_outside");
    return;
  }
  const y = draw.put(column, yX + 6, first, "");
  const loss = draw.put(column + 1, yX + 6, "loss", "");
  draw.edge(`M${x} ${h.middle}V${y.top - 7}H${loss.x - 14}V${loss.top}`, "h", "dh_from_outside");
  draw.edge(`M${y.right} ${y.middle}H${loss.left}`, "y", "");
}

function layOutClosed(draw: Drawing, problem: Problem, t: number, T: number): Layout {
  const { card, at, lines } = draw;
  const yC = HEAD;
  const yG = yC + Math.max(card + 36, card / 2 + draw.told + 26);
  const high = Math.max(card, 74);
  const yH = yG + high + 30 + Math.max(0, draw.told - card / 2);
  const yX = yH + card / 2 + Math.max(card / 2, 9 + draw.told) + 12;
  const c_prev = draw.put(0, yC, "c_prev", "dc_prev");
  const c = draw.put(2, yC, "c", "dc");
  draw.edge(`M0 ${c.middle}H${c_prev.left}`, "c_prev", "dc_prev");
  draw.edge(`M${c_prev.right} ${c.middle}H${at(1) - 9}`, "c_prev", "dc_prev");
  draw.edge(`M${at(1) + 9} ${c.middle}H${c.left}`, "c", "dc");
  draw.operation(at(1), c.middle, "+", "c = f ⊙ c_prev + i ⊙ g");
  const tanh_c = draw.put(2, yG, "tanh_c", "", "tanh(c)");
  const box = { x: at(1), y: yG, wide: CARD, high: 74, label: "gates" };
  draw.nodes.push({ kind: "gates", ...box, value: "i", back: "di", lines: lines.h });
  const h = draw.put(2, yH, "h", "dh");
  const h_prev = draw.put(0, yH, "h_prev", "dh_prev");
  const x = draw.put(0, yX, "x", "dx", "x", lines.x);
  draw.edge(`M${at(1)} ${yG}V${c.middle + 9}`, "i", "di");
  const yO = yG + high + 14;
  draw.edge(`M${at(1) + 16} ${yG + 74}V${yO}H${at(2) - 9}`, "o", "do");
  draw.edge(`M${at(2)} ${tanh_c.bottom}V${yO - 9}`, "tanh_c", "dc_from_h");
  draw.edge(`M${at(2)} ${yO + 9}V${h.top}`, "h", "dh");
  draw.operation(at(2), yO, "×", "o ⊙ tanh(c)");
  draw.edge(`M0 ${h.middle}H${h_prev.left}`, "h_prev", "dh_prev");
  draw.edge(`M${h_prev.right} ${h.middle}H${at(1) - 13}V${yG + 74}`, "h_prev", "dh_prev");
  draw.edge(`M${x.right} ${yX + 14}H${at(1)}V${yG + 74}`, "x", "dx");
  forks(draw, problem, c, tanh_c, h, yX, t, T, 2);
  return draw.done(4, Math.max(x.bottom, yX + card) + 8, NEXT);
}

function layOutElman(draw: Drawing, problem: Problem, t: number, T: number): Layout {
  const readout = problem.outside === "readout";
  const { card, at, lines, told } = draw;
  const yH = HEAD + Math.max(0, told - card / 2) + 8;
  const yX = yH + card / 2 + Math.max(card / 2 + 30, 9 + told) + 14;
  const h_prev = draw.put(0, yH, "h_prev", "dh_prev");
  const a = draw.put(1, yH, "a", "da");
  const h = draw.put(2, yH, "h", "dh");
  const x = draw.put(0, yX, "x", "dx", "x", lines.x);
  draw.edge(`M0 ${h.middle}H${h_prev.left}`, "h_prev", "dh_prev");
  const xW = a.x - LEAF / 2;
  draw.edge(`M${h_prev.right} ${h.middle}H${a.left - 22}`, "h_prev", "dh_prev");
  draw.edge(`M${x.right} ${yX + 14}H${xW}V${a.bottom + 20}`, "x", "dx");
  draw.edge(`M${a.right} ${h.middle}H${h.left}`, "a", "da");
  draw.small(a.left - 13, h.middle - 7, "U", "dU");
  draw.small(xW, a.bottom + 5, "W", "dW");
  draw.small(xW + LEAF, a.bottom + 5, "b", "db");
  const right = at(3) + NEXT;
  const end = right + CARD / 2 + 6;
  const fork = h.right + 9;
  draw.edge(`M${h.right} ${h.middle}H${end}`, "h", "dh_from_next", t + 1 === T);
  draw.pill(right, h.middle - told - 5, fromNext("h", t, T), "dh_from_next");
  draw.pill(right, h.middle + 9, fromOutside(problem), "dh_from_outside");
  let low = yX + card;
  if (readout) {
    const y = draw.put(2, yX, "y", "dy");
    const p = draw.put(3, yX, "p", "");
    const target = draw.put(2, y.bottom + 14, "target", "");
    const loss = draw.put(3, y.bottom + 14, "loss", "");
    draw.small(y.x, y.top - 19, "V", "dV");
    draw.edge(`M${fork} ${h.middle}V${y.top - 28}H${y.x}V${y.top - 19}`, "h", "dh_from_outside");
    draw.edge(`M${y.right} ${p.middle}H${p.left}`, "y", "dy");
    draw.edge(`M${p.x} ${p.bottom}V${loss.top}`, "p", "dy");
    draw.edge(`M${target.right} ${target.middle}H${loss.left}`, "target", "");
    low = loss.bottom;
  } else if (AFTER[problem.outside]) {
    const y = draw.put(2, yX, "y", "");
    const loss = draw.put(3, yX, "loss", "");
    const to = `V${loss.top - 9}H${loss.x}V${loss.top}`;
    draw.edge(`M${fork} ${h.middle}${to}`, "h", "dh_from_outside");
    draw.edge(`M${y.right} ${y.middle}H${loss.left}`, "y", "");
  } else {
    draw.edge(`M${fork} ${h.middle}V${yX + 24}`, "h", "dh_from_outside");
  }
  draw.fork(fork, h.middle, "dh", "h goes outside, and into the next step");
  return draw.done(4, Math.max(low, x.bottom) + 8, NEXT);
}

function layOutDense(draw: Drawing): Layout {
  const { card } = draw;
  const y = HEAD;
  const boxes = ["x", "a1", "h", "a2", "y"].map((name, n) => draw.put(n, y, name, `d${name}`));
  boxes.slice(1).forEach((box, n) => {
    const name = ["x", "a1", "h", "a2"][n];
    draw.edge(`M${boxes[n].right} ${box.middle}H${box.left}`, name, `d${name}`);
  });
  const low = y + card + 40;
  const loss = draw.put(5, y, "loss", "");
  const target = draw.put(5, low, "target", "");
  draw.edge(`M${boxes[4].right} ${loss.middle}H${loss.left}`, "y", "dy");
  draw.edge(`M${target.x} ${target.top}V${loss.bottom}`, "target", "");
  for (const n of [1, 2]) {
    const a = boxes[2 * n - 1];
    const box = draw.put(2 * n - 1, low, `W${n}`, `dW${n}`, `W${n}`, 2 * draw.lines.h);
    const offset = draw.put(2 * n, low, `b${n}`, `db${n}`);
    draw.edge(`M${box.x} ${box.top}V${a.bottom}`, `W${n}`, `dW${n}`);
    draw.edge(`M${offset.x} ${offset.top}V${low - 14}H${a.x + 10}V${a.bottom}`, `b${n}`, `db${n}`);
  }
  return draw.done(6, low + card + 8 + 2 * draw.lines.h * LINE);
}

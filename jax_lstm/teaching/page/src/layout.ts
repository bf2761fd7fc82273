/**
 * Where the stages and forks of one step stand: forward from left to right and from the bottom to
 * the top. c runs along the upper line, h and x come in below, what comes next is on the right.
 */
import type { Problem } from "./problem";

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

const PITCH = 62; // from column to column
const CARD = 56;
const HEAD = 30; // above: the step's name
export const LINE = 13; // a line of digits
export const STRIP = 16; // a heat map in a card

/** How high a card is with so many lines of digits; 0 lines are a heat map. */
export const cardHeight = (lines: number) => 18 + 2 * (lines ? lines * LINE : STRIP);

class Drawing {
  nodes: Node[] = [];
  edges: Edge[] = [];
  constructor(readonly card: number) {}

  at = (column: number) => 6 + CARD / 2 + column * PITCH;

  put(column: number, y: number, value: string, back: string, label = value) {
    const x = this.at(column);
    this.nodes.push({ kind: "card", x, y, wide: CARD, high: this.card, label, value, back });
    return {
      x,
      y,
      top: y,
      bottom: y + this.card,
      middle: y + this.card / 2,
      left: x - CARD / 2,
      right: x + CARD / 2,
    };
  }
  pill(x: number, y: number, label: string, name: string, wide = CARD) {
    this.nodes.push({ kind: "pill", x, y, wide, high: this.card - LINE - 5, label, back: name });
  }
  fork(x: number, y: number, back: string, title: string) {
    this.nodes.push({ kind: "fork", x, y, wide: 10, high: 10, label: "", back, title });
  }
  operation(x: number, y: number, label: string, title: string) {
    this.nodes.push({ kind: "operation", x, y, wide: 18, high: 18, label, title });
  }
  small(x: number, y: number, label: string, name: string) {
    this.nodes.push({ kind: "pill", x, y, wide: 17, high: 15, label, back: name });
  }
  edge(path: string, value: string, back: string, arrow = true) {
    this.edges.push({ path, value, back, arrow });
  }
  done(columns: number, high: number): Layout {
    return { wide: 12 + CARD + (columns - 1) * PITCH, high, nodes: this.nodes, edges: this.edges };
  }
}

/** lines: of digits in a card, 0 for heat maps. */
export function layout(
  problem: Problem,
  lines: number,
  gates: boolean,
  t: number,
  T: number,
): Layout {
  const draw = new Drawing(cardHeight(lines));
  if (problem.cell === "dense") return layOutDense(draw);
  if (problem.cell === "elman") return layOutElman(draw, problem.outside === "readout", t, T);
  return gates ? layOutOpen(draw, problem, t, T) : layOutClosed(draw, problem, t, T);
}

const letters = (t: number, T: number) => (t + 1 < T ? "next" : "last");

function layOutOpen(draw: Drawing, problem: Problem, t: number, T: number): Layout {
  const { card, at } = draw;
  const yC = HEAD;
  const yG = yC + card + 44;
  const yA = yG + card + 30;
  const yW = yA + card + 5;
  const yH = yW + 40;
  const yX = yH + Math.max(card, 50) + 14;
  const middle = (at(2) + at(3)) / 2;
  const c_prev = draw.put(0, yC, "c_prev", "dc_prev");
  const c = draw.put(5, yC, "c", "dc");
  draw.edge(`M0 ${c.middle}H${c_prev.left}`, "c_prev", "dc_prev");
  draw.edge(`M${c_prev.right} ${c.middle}H${at(1) - 9}`, "c_prev", "dc_prev");
  draw.edge(`M${at(1) + 9} ${c.middle}H${middle - 9}`, "c", "dc");
  draw.edge(`M${middle + 9} ${c.middle}H${c.left}`, "c", "dc");
  const product = c.bottom + 20;
  const gate = ["f", "i", "g", "o"].map((k, n) => draw.put(n + 1, yG, k, `d${k}`));
  const tanh_c = draw.put(5, yG, "tanh_c", "dc_from_h", "tanh(c)");
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
  const x = draw.put(0, yX, "x", "dx");
  const busX = x.middle;
  draw.edge(`M0 ${h.middle}H${h_prev.left}`, "h_prev", "dh_prev");
  draw.edge(`M${h_prev.right} ${h.middle}H${at(4) - 12}`, "h_prev", "dh_prev", false);
  draw.edge(`M${x.right} ${busX}H${at(4) + 12}`, "x", "dx", false);
  ["f", "i", "g", "o"].forEach((k, n) => {
    const a = draw.put(n + 1, yA, `a_${k}`, `da_${k}`);
    draw.edge(`M${a.x} ${a.top}V${gate[n].bottom}`, `a_${k}`, `da_${k}`);
    draw.edge(`M${a.x - 12} ${h.middle}V${a.bottom}`, "h_prev", `dh_prev_${k}`);
    draw.edge(`M${a.x + 12} ${busX}V${a.bottom}`, "x", `dx_${k}`);
    ["W", "U", "b"].forEach((w, m) => draw.small(a.x + 19 * (m - 1), yW, w, `d${w}_${k}`));
    draw.fork(a.x - 12, h.middle, "dh_prev", "h_prev goes into four gates");
    draw.fork(a.x + 12, busX, "dx", "x goes into four gates");
    draw.pill(a.x - 2, h.middle + 7, "", `dh_prev_${k}`, 54);
    draw.pill(a.x - 2, busX + 7, "", `dx_${k}`, 54);
  });
  forks(draw, problem, c, tanh_c, h, yX, t, T, 5);
  return draw.done(7, Math.max(yX + card, busX + 7 + card) + 8);
}

type Box = ReturnType<Drawing["put"]>;

/** The forks at c and at h: what goes on, what goes outside, and what comes back from there. */
function forks(
  draw: Drawing,
  problem: Problem,
  c: Box | null,
  tanh_c: Box | null,
  h: Box,
  yX: number,
  t: number,
  T: number,
  column: number,
) {
  const right = draw.at(column + 1);
  const end = right + CARD / 2 + 6;
  const next = letters(t, T);
  if (c && tanh_c) {
    const x = c.right + 7;
    draw.edge(`M${c.right} ${c.middle}H${end}`, "c", "dc_from_next", t + 1 === T);
    draw.edge(`M${x} ${c.middle}V${tanh_c.middle}H${tanh_c.right}`, "c", "dc_from_h");
    draw.fork(x, c.middle, "dc", "c goes into tanh(c), and into the next step");
    draw.pill(right + 2, c.middle - draw.card / 2 - 4, next, "dc_from_next");
    draw.pill(right + 2, c.bottom + 8, "from h", "dc_from_h");
  }
  const x = h.right + 7;
  const below =
    problem.outside === "squares" ? ["y", "loss"] : problem.outside === "readout" ? ["y", "p"] : [];
  draw.edge(`M${h.right} ${h.middle}H${end}`, "h", "dh_from_next", t + 1 === T);
  draw.fork(x, h.middle, "dh", "h goes outside, and into the next step");
  draw.pill(right + 2, h.middle - draw.card + LINE + 1, next, "dh_from_next");
  const out = draw.put(column, yX, below[0] ?? "outside", "dh_from_outside", below[0] ?? "outside");
  draw.edge(`M${x} ${h.middle}V${out.middle}H${out.right}`, "h", "dh_from_outside");
  if (below.length) {
    draw.put(
      column + 1,
      yX,
      "loss",
      below[0] === "y" && problem.outside === "readout" ? "dy" : "",
      "loss",
    );
  }
}

function layOutClosed(draw: Drawing, problem: Problem, t: number, T: number): Layout {
  const { card, at } = draw;
  const yC = HEAD;
  const yG = yC + card + 36;
  const yH = yG + Math.max(card, 74) + 30;
  const yX = yH + card + 26;
  const c_prev = draw.put(0, yC, "c_prev", "dc_prev");
  const c = draw.put(2, yC, "c", "dc");
  draw.edge(`M0 ${c.middle}H${c_prev.left}`, "c_prev", "dc_prev");
  draw.edge(`M${c_prev.right} ${c.middle}H${at(1) - 9}`, "c_prev", "dc_prev");
  draw.edge(`M${at(1) + 9} ${c.middle}H${c.left}`, "c", "dc");
  draw.operation(at(1), c.middle, "+", "c = f ⊙ c_prev + i ⊙ g");
  const tanh_c = draw.put(2, yG, "tanh_c", "dc_from_h", "tanh(c)");
  draw.nodes.push({
    kind: "gates",
    x: at(1),
    y: yG,
    wide: CARD,
    high: 74,
    label: "gates",
    value: "i",
    back: "di",
  });
  const h = draw.put(2, yH, "h", "dh");
  const h_prev = draw.put(0, yH, "h_prev", "dh_prev");
  const x = draw.put(0, yX, "x", "dx");
  draw.edge(`M${at(1)} ${yG}V${c.middle + 9}`, "i", "di");
  const yO = yG + Math.max(card, 74) + 14;
  draw.edge(`M${at(1) + 14} ${yG + 74}V${yO}H${at(2) - 9}`, "o", "do");
  draw.edge(`M${at(2)} ${tanh_c.bottom}V${yO - 9}`, "tanh_c", "dc_from_h");
  draw.edge(`M${at(2)} ${yO + 9}V${h.top}`, "h", "dh");
  draw.operation(at(2), yO, "×", "o ⊙ tanh(c)");
  draw.edge(`M0 ${h.middle}H${h_prev.left}`, "h_prev", "dh_prev");
  draw.edge(`M${h_prev.right} ${h.middle}H${at(1) - 12}V${yG + 74}`, "h_prev", "dh_prev");
  draw.edge(`M${x.right} ${x.middle}H${at(1)}V${yG + 74}`, "x", "dx");
  forks(draw, problem, c, tanh_c, h, yX, t, T, 2);
  return draw.done(4, yX + card + 8);
}

function layOutElman(draw: Drawing, readout: boolean, t: number, T: number): Layout {
  const { card } = draw;
  const yH = HEAD + 30;
  const yX = yH + card + 44;
  const h_prev = draw.put(0, yH, "h_prev", "dh_prev");
  const a = draw.put(1, yH, "a", "da");
  const h = draw.put(2, yH, "h", "dh");
  const x = draw.put(0, yX, "x", "dx");
  draw.edge(`M0 ${h.middle}H${h_prev.left}`, "h_prev", "dh_prev");
  draw.edge(`M${h_prev.right} ${h.middle}H${a.left}`, "h_prev", "dh_prev");
  draw.edge(`M${x.right} ${x.middle}H${a.x}V${a.bottom + 22}`, "x", "dx");
  draw.edge(`M${a.right} ${h.middle}H${h.left}`, "a", "da");
  ["W", "U", "b"].forEach((w, m) => draw.small(a.x + 19 * (m - 1), a.bottom + 5, w, `d${w}`));
  const right = draw.at(3);
  const end = right + CARD / 2 + 6;
  draw.edge(`M${h.right} ${h.middle}H${end}`, "h", "dh_from_next", t + 1 === T);
  draw.fork(h.right + 7, h.middle, "dh", "h goes outside, and into the next step");
  draw.pill(right + 2, h.middle - card + LINE + 1, letters(t, T), "dh_from_next");
  draw.pill(right + 2, h.middle + 12, "outside", "dh_from_outside");
  const down = (to: Box) =>
    draw.edge(
      `M${h.right + 7} ${h.middle}V${to.top - 12}H${to.x}V${to.top}`,
      "h",
      "dh_from_outside",
    );
  if (readout) {
    const y = draw.put(2, yX, "y", "dy");
    const p = draw.put(3, yX, "p", "");
    const target = draw.put(2, yX + card + 22, "target", "");
    const loss = draw.put(3, yX + card + 22, "loss", "");
    down(y);
    draw.small(y.left - 13, y.middle - 7, "V", "dV");
    draw.edge(`M${y.right} ${y.middle}H${p.left}`, "y", "dy");
    draw.edge(`M${p.x} ${p.bottom}V${loss.top}`, "p", "dy");
    draw.edge(`M${target.right} ${target.middle}H${loss.left}`, "target", "");
    return draw.done(4, loss.bottom + 8);
  }
  const y = draw.put(2, yX, "y", "");
  const loss = draw.put(3, yX, "loss", "");
  draw.edge(
    `M${h.right + 7} ${h.middle}V${loss.top - 12}H${loss.x}V${loss.top}`,
    "h",
    "dh_from_outside",
  );
  draw.edge(`M${y.right} ${y.middle}H${loss.left}`, "y", "");
  return draw.done(4, loss.bottom + 8);
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
    const box = draw.put(2 * n - 1, low, `W${n}`, `dW${n}`);
    const offset = draw.put(2 * n, low, `b${n}`, `db${n}`);
    draw.edge(`M${box.x} ${box.top}V${a.bottom}`, `W${n}`, `dW${n}`);
    draw.edge(`M${offset.x} ${offset.top}V${low - 14}H${a.x + 10}V${a.bottom}`, `b${n}`, `db${n}`);
  }
  return draw.done(6, low + card + 8);
}

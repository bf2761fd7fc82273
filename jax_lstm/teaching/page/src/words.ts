/** What each line is, in a sentence, and the local derivative that it uses. */
import type { Cell, Problem } from "./problem";
import type { Stage } from "./trace";

/** ∂of/∂by as an equation of names; "1" where a value is handed on. */
export interface Local {
  of: string;
  by: string;
  equation: string;
}

const GATE: Record<string, string> = {
  i: "input gate: how much of the candidate is written",
  f: "forget gate: how much of the old cell is kept",
  g: "candidate: what may be written",
  o: "output gate: how much of the cell is shown",
};

/** Of a forward line: its derivative by each thing it is made of. */
export function localsOf(name: string, cell: Cell): Local[] {
  const local = (by: string, equation: string): Local => ({ of: name, by, equation });
  const affine = (x: string, W: string, h: string, U: string, b: string) => [
    local(x, W),
    ...(h ? [local(h, U)] : []),
    local(b, "1"),
  ];
  const gate = /^a_([ifgo])$/.exec(name)?.[1];
  if (gate) return affine("x", `W_${gate}`, "h_prev", `U_${gate}`, `b_${gate}`);
  switch (`${cell} ${name}`) {
    case "lstm i":
    case "lstm f":
    case "lstm o":
      return [local(`a_${name}`, `${name} * (1 - ${name})`)];
    case "lstm g":
      return [local("a_g", "1 - g^2")];
    case "lstm c":
      return [local("f", "c_prev"), local("c_prev", "f"), local("i", "g"), local("g", "i")];
    case "lstm tanh_c":
      return [local("c", "1 - tanh_c^2")];
    case "lstm h":
      return [local("o", "tanh_c"), local("c", "o * (1 - tanh_c^2)")];
    case "elman a":
      return affine("x", "W", "h_prev", "U", "b");
    case "elman h":
      return [local("a", "1 - h^2")];
    case "elman y":
      return [local("h", "V")];
    case "dense a1":
      return affine("x", "W1", "", "", "b1");
    case "dense a2":
      return affine("h", "W2", "", "", "b2");
    case "dense h":
      return [local("a1", "h * (1 - h)")];
    case "dense y":
      return [local("a2", "y * (1 - y)")];
    case "dense loss":
      return [local("y", "y - target")];
    case "elman loss":
      return [local("y", "p - target")];
    case "lstm loss":
      return [local("h", "h - y")];
  }
  return [];
}

/** Of a backward line: what comes in, and the local derivative it is multiplied by. */
export function flowOf(s: Stage, cell: Cell): { into: string[]; local: Local } | null {
  if (s.part !== "backward" || s.branches.length) return null;
  const { name } = s;
  const find = (of: string, by: string): Local =>
    localsOf(of, cell).find((local) => local.by === by) ?? { of, by, equation: "1" };
  const [, weight, gate] = /^d([WUb])_?([ifgo]|\d)?$/.exec(name) ?? [];
  if (weight && cell !== "dense") {
    const a = gate ? `a_${gate}` : "a";
    const equation = { W: "x", U: "h_prev", b: "1" }[weight]!;
    return { into: [`d${a}`], local: { of: a, by: name.slice(1), equation } };
  }
  if (weight) {
    const equation = { W: gate === "1" ? "x" : "h" }[weight] ?? "1";
    return { into: [`da${gate}`], local: { of: `a${gate}`, by: name.slice(1), equation } };
  }
  const [, back, k] = /^d(x|h_prev)_([ifgo])$/.exec(name) ?? [];
  if (k) return { into: [`da_${k}`], local: find(`a_${k}`, back) };
  const net = /^da_([ifgo])$/.exec(name)?.[1];
  if (net) return { into: [`d${net}`], local: find(net, `a_${net}`) };
  switch (name) {
    case "di":
    case "df":
    case "dg":
      return { into: ["dc"], local: find("c", name[1]) };
    case "do":
      return { into: ["dh"], local: find("h", "o") };
    case "dc_prev":
      return { into: ["dc"], local: find("c", "c_prev") };
    case "dc_from_h":
      return { into: ["dh"], local: find("h", "c") };
    case "dh_from_next":
    case "dc_from_next":
      return { into: [s.equation], local: { of: `${name[1]}_prev`, by: name[1], equation: "1" } };
    case "da":
      return { into: ["dh"], local: find("h", "a") };
    case "dx":
      return cell === "dense"
        ? { into: ["da1"], local: find("a1", "x") }
        : { into: ["da"], local: find("a", "x") };
    case "dh_prev":
      return { into: ["da"], local: find("a", "h_prev") };
    case "dV":
      return { into: ["dy"], local: { of: "y", by: "V", equation: "h" } };
    case "dh":
      return { into: ["da2"], local: find("a2", "h") };
    case "da1":
      return { into: ["dh"], local: find("h", "a1") };
    case "da2":
      return { into: ["dy"], local: find("y", "a2") };
    case "dy":
      return { into: [], local: find("loss", "y") };
    case "dh_from_outside":
      if (s.equation === "dy @ V.T") return { into: ["dy"], local: find("y", "h") };
      return s.equation ? { into: [], local: find("loss", "h") } : null;
  }
  return null;
}

/** What the line does, for somebody who sees it for the first time. */
export function say(s: Stage, problem: Problem, T: number): string {
  const { name, part } = s;
  const { cell } = problem;
  if (part === "over time") {
    return `${name.slice(1)} is used at every time step: a fork into all of them. Each step sends its share back, and the shares are added.`;
  }
  if (s.branches.length) return `A fork: ${s.note}. Their sum is ${name}.`;
  if (part === "forward") {
    if (!s.equation)
      return `${name} is given${name === "y" || name === "target" ? ", the target" : ""}.`;
    const gate = /^[ifgo]$/.test(name) && cell === "lstm" ? GATE[name] : "";
    if (gate)
      return `The ${gate}. ${name === "g" ? "tanh" : "The sigmoid"} squashes its net input.`;
    if (/^a_?([ifgo]|\d)?$/.test(name))
      return "A net input: a weighted sum of what comes in, plus an offset.";
    const said: Record<string, string> = {
      h_prev: "The output that the step before handed on.",
      c_prev: "The cell that the step before handed on.",
      c: "The cell: part of the old one is kept, part of the candidate is written.",
      tanh_c: "The cell, squashed into (-1, 1).",
      h:
        cell === "lstm"
          ? "The output: what the output gate shows of the cell."
          : "The output of the layer.",
      loss: "How wrong this is. Everything that follows is the derivative of the loss, summed over time.",
      y: cell === "dense" ? "The network's answer." : "Logits: one number per class.",
      p: "Probabilities: they sum to one.",
    };
    return said[name] ?? "";
  }
  if (/^d[WUbV]/.test(name)) {
    return cell === "dense"
      ? `The gradient of ${name.slice(1)}.`
      : `The share of this step in the gradient of ${name.slice(1)}.`;
  }
  const said: Record<string, string> = {
    dh_from_outside: s.equation
      ? "Outside is whatever h goes into besides the next step: here this step's own loss. This is what it says about h."
      : "Outside is whatever h goes into besides the next step, such as a loss or another layer. What comes back from there is given here.",
    dh_from_next: fromNext("h", s, T),
    dc_from_next: fromNext("c", s, T),
    dc_from_h: "What h says about c, back through the output gate and tanh.",
    dc_prev: "What is handed to the step before: dc, as far as the forget gate kept the cell.",
    dh_prev: "What is handed to the step before.",
    dx: "What the input would have to change.",
  };
  if (said[name]) return said[name];
  return name.startsWith("da")
    ? "Back through the squashing: times its slope, taken from the output."
    : `How the loss changes with ${name.slice(1).replace(/_(\w)$/, ", by way of gate $1")}.`;
}

const fromNext = (name: string, s: Stage, T: number) =>
  s.t === T - 1
    ? `No step follows the last one. What comes back to its ${name} from the end is given as d${name}_T: zeros, unless the last state is used.`
    : `What the next step says about ${name}: the cotangent d${name}_prev of step ${s.t! + 1}.`;

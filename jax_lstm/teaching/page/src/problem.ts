/** What is traced: a cell, its numbers by name, and what comes after h_t. */
import { array, entry, offset, type Arr } from "./arrays";

export type Cell = "lstm" | "elman" | "dense";

/**
 * squares: L = ½ Σ (h - y)²; cotangents: dL/dh_t is given; readout: logits h V and a softmax; the
 * others: dL/dh_t follows from h and y, times a scale.
 */
export type Outside =
  | "squares"
  | "cotangents"
  | "readout"
  | "squared_error"
  | "binary_cross_entropy"
  | "softmax_cross_entropy";

export interface Problem {
  title: string;
  cell: Cell;
  order: string[];
  outside: Outside;
  scale: number;
  /** What is given: weights, h0, c0, dh_T, dc_T; x, y, ... with time first. */
  arrays: Record<string, Arr>;
}

/** As it stands in the page's data. */
export interface Packed {
  id: string;
  title: string;
  cell: Cell;
  order: string[];
  outside: Outside;
  scale: number;
  single: boolean;
  note: string;
  beside: [string, number | null, string][];
  below: string[];
  arrays: Record<string, { shape: number[]; data: string }>;
  mistakes: Record<string, string>;
}

/** Little-endian float64 in base64: eleven characters a number, and not a digit lost. */
export function unpack(text: string): Float64Array {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 8 }, (_, n) => view.getFloat64(8 * n, true));
}

/** An edit is the name of a number, "W_i[0][1]", and what it is now. */
export type Edits = Record<string, number>;

export const PLACE = /^(\w+?)((?:\[\d+\])*)$/;

/** "W_i[0][1]" as ["W_i", [0, 1]] */
export function readPlace(text: string): [string, number[]] | null {
  const match = PLACE.exec(text);
  return match && [match[1], (match[2].match(/\d+/g) ?? []).map(Number)];
}

export const writePlace = (name: string, place: number[]) =>
  name + place.map((n) => `[${n}]`).join("");

/** The problem of an example, with the edits put in. Edits of no number here are left out. */
export function problemOf(packed: Packed, edits: Edits = {}): Problem {
  const { title, cell, order, outside, scale } = packed;
  const arrays: Record<string, Arr> = {};
  for (const [name, { shape, data }] of Object.entries(packed.arrays)) {
    arrays[name] = array(shape, unpack(data));
  }
  for (const [text, value] of Object.entries(edits)) {
    const [name, place] = readPlace(text) ?? ["", []];
    const x = Object.hasOwn(arrays, name) ? arrays[name] : null;
    if (x && x.shape.length === place.length && place.every((n, axis) => n < x.shape[axis])) {
      x.data[offset(x.shape, place)] = value;
    }
  }
  return { title, cell, order, outside, scale, arrays };
}

export const at = (problem: Problem, name: string, t: number): Arr =>
  entry(problem.arrays[name], t);

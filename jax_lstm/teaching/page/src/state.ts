/** What the page shows, and how it stands in the fragment of its address. */
import type { Edits } from "./problem";

export interface State {
  example: string;
  at: number; // which line
  row: number; // which example of the batch
  mistake: string;
  edits: Edits;
  gates: boolean | null; // open; null: as they fit
  units: boolean | null; // digits, or heat maps; null: digits where there are few
  open: number[] | null; // steps; null: those around the one that is told
  all: boolean; // also the numbers that are not reached yet
  theme: "" | "light" | "dark";
}

/** `start` is how the page begins without a fragment. */
export const write = (s: State, start: State): string => {
  const q = new URLSearchParams();
  q.set("example", s.example);
  q.set("at", String(s.at));
  if (s.row || start.row) q.set("row", String(s.row));
  if (s.mistake) q.set("mistake", s.mistake);
  const edits = Object.entries(s.edits).map(([k, x]) => `${k}:${x}`);
  if (edits.length) q.set("edit", edits.join(";"));
  if (s.gates !== null) q.set("gates", s.gates ? "open" : "closed");
  if (s.units !== null) q.set("units", s.units ? "open" : "closed");
  if (s.open) q.set("open", s.open.join(","));
  if (s.all) q.set("numbers", "all");
  if (s.theme) q.set("theme", s.theme);
  return q.toString();
};

export function readState(fragment: string, start: State): State {
  const q = new URLSearchParams(fragment.replace(/^#/, ""));
  if (![...q.keys()].length) return start;
  const whole = (name: string, other: number) => {
    const n = Number(q.get(name) ?? NaN);
    return Number.isInteger(n) && n >= 0 ? n : other;
  };
  const edits: Edits = {};
  for (const one of (q.get("edit") ?? "").split(";")) {
    const [name, text] = one.split(":");
    const value = readNumber(text ?? "");
    if (value !== null) edits[name] = value;
  }
  const open = q.get("open");
  const theme = q.get("theme");
  return {
    example: q.get("example") ?? start.example,
    at: whole("at", 0),
    row: whole("row", 0),
    mistake: q.get("mistake") ?? "",
    edits,
    gates: q.has("gates") ? q.get("gates") === "open" : null,
    units: q.has("units") ? q.get("units") === "open" : null,
    open: open === null ? null : open.split(",").filter(Boolean).map(Number),
    all: q.get("numbers") === "all",
    theme: theme === "dark" || theme === "light" ? theme : "",
  };
}

/** "0.5", "-1e-3", "NaN"; null is no number. */
export function readNumber(text: string): number | null {
  const trimmed = text.trim().replace("−", "-").replace(",", ".");
  if (/^nan$/i.test(trimmed)) return NaN;
  const infinite = /^([-+]?)(inf|infinity|∞)$/i.exec(trimmed);
  if (infinite) return infinite[1] === "-" ? -Infinity : Infinity;
  return trimmed === "" || Number.isNaN(Number(trimmed)) ? null : Number(trimmed);
}

/** The network unrolled: each stage a card with its value and its cotangent, each fork a dot. */
import { useMemo } from "preact/hooks";
import { digits } from "./equations";
import { Cells, largest } from "./heat";
import { layout, LINE, room, type Lines, type Node } from "./layout";
import type { View } from "./view";

const FEW = 3; // numbers that stand in a card as digits, if nobody says otherwise
const MOST = 12; // that do so if somebody does

/** Lines of digits in a card; 0 is a heat map. */
export function linesOf(view: View): Lines {
  const { problem, state } = view;
  const size = (name: string) => problem.arrays[name]?.shape.at(-1) ?? 0;
  const [h, x] = [Math.max(size("h0"), size("V"), size("b1"), size("b2")), size("x")];
  const lines = (n: number) => ((state.units ?? n <= FEW) ? Math.min(n, MOST) : 0);
  return { h: lines(h), x: lines(x) };
}

export const digitsByDefault = (view: View) =>
  Object.values(linesOf({ ...view, state: { ...view.state, units: null } })).every((n) => n > 0);

const INSIDE = /^d?(a_)?[ifgo]$|^d([WUbx]|h_prev)_[ifgo]$/; // lines that closed gates hold

const short = (x: number) => {
  if (Number.isNaN(x)) return "NaN";
  const fits = [digits(x, 4), digits(x, 3)].find((text) => text.length <= 8);
  return fits ?? x.toExponential(1); // -8.9e-4
};

export function Step({ view, t, gates }: { view: View; t: number; gates: boolean }) {
  const { problem, current, T } = view;
  const lines = linesOf(view);
  const plan = useMemo(
    () => layout(problem, lines, gates, t, T),
    [problem.cell, problem.outside, lines.h, lines.x, gates, t, T],
  );
  const here = current.t === t || problem.cell === "dense";
  const name = problem.cell === "dense" ? "the network" : `t = ${t}`;
  const reading = here && current.t !== null ? `, at ${current.name}` : "";
  return (
    <svg
      class={`step${here ? " here" : ""}`}
      viewBox={`0 0 ${plan.wide} ${plan.high}`}
      style={{ "--wide": `${plan.wide}px` }}
      role="img"
      aria-label={`Graph of ${name}${reading}: ${plan.nodes
        .filter((n) => n.kind === "card")
        .map((n) => n.label)
        .join(", ")}`}
    >
      {plan.edges.map((e, n) => {
        const back = e.back && view.reached(e.back, t);
        const now = here && [current.name].some((k) => k === e.value || k === e.back);
        const done = e.value && view.reached(e.value, t);
        return (
          <path
            key={n}
            d={e.path}
            data-value={e.value}
            class={`edge${done ? " done" : ""}${back ? " back" : ""}${now ? " now" : ""}`}
            marker-end={e.arrow ? "url(#arrow)" : undefined}
          />
        );
      })}
      {plan.nodes.map((node, n) => (
        <Stage key={n} node={node} view={view} t={t} />
      ))}
    </svg>
  );
}

function Stage({ node, view, t }: { node: Node; view: View; t: number }) {
  const { kind, x, y, wide, high, label, value, back, title, lines } = node;
  const time = view.problem.cell === "dense" ? null : t;
  const { current, uses } = view;
  const now = [value, back].some((k) => k && k === current.name && current.t === time);
  const used = [value, back].some((k) => k && uses.has(`${k}@${time}`));
  const names = [value, back].filter((k): k is string => !!k && view.index(k, time) >= 0);
  const spread = Math.max(0, ...names.map((k) => view.differs(k, time)));
  const first = names.some((k) => view.isFirst(k, time));
  const inGates = kind === "gates" && current.t === t && INSIDE.test(current.name);
  const css = `${kind}${now || inGates ? " now" : ""}${used ? " used" : ""}${spread ? ` differs d${spread}` : ""}${first ? " first" : ""}`;
  const go = () => {
    const order = current.part === "forward" && !now ? names : [...names].reverse();
    const to = order.find((k) => !(k === current.name && current.t === time)) ?? names[0];
    if (kind === "gates") view.set({ gates: true });
    else if (to) view.goTo(to, time);
  };
  const tell = title ?? names.join(", ");
  if (kind === "fork") {
    return (
      <g class={css} onClick={go}>
        <title>{`fork: ${tell}`}</title>
        <circle cx={x} cy={y} r={now ? 7 : 5} />
      </g>
    );
  }
  if (kind === "operation") {
    return (
      <g class={css}>
        <title>{tell}</title>
        <circle cx={x} cy={y} r={9} />
        <text x={x} y={y + 4.5}>
          {label}
        </text>
      </g>
    );
  }
  const left = x - wide / 2;
  const small = wide < 30;
  const shown = label !== "" || view.reached(back ?? "", time);
  return (
    <g
      class={css}
      onClick={names.length || kind === "gates" ? go : undefined}
      data-stage={label || back}
      data-t={t}
    >
      <title>{tell}</title>
      {shown && <rect class="box" x={left} y={y} width={wide} height={high} rx={small ? 3 : 6} />}
      {label && (
        <text class="label" x={x} y={y + (small ? 11 : 12)}>
          {small ? label : <Label of={label} />}
        </text>
      )}
      {kind === "gates" ? (
        ["f", "i", "g", "o"].map((k, n) => (
          <GateLine key={k} view={view} name={k} t={t} x={left} y={y + 16 + n * 14} />
        ))
      ) : small ? (
        view.reached(back ?? "", time) && <circle class="tick" cx={x} cy={y + high} r={2} />
      ) : (
        <>
          {value && (
            <Numbers
              view={view}
              name={value}
              t={time}
              x={left}
              y={y + 16}
              wide={wide}
              lines={lines}
              css="value"
            />
          )}
          {back && (
            <Numbers
              view={view}
              name={back}
              t={time}
              x={left}
              y={y + (kind === "pill" ? (label ? 14 : 1) : 16 + room(lines))}
              wide={wide}
              lines={lines}
              css="back"
            />
          )}
        </>
      )}
      {first && (
        <text class="first-mark" x={x} y={y - 3}>
          starts here
        </text>
      )}
    </g>
  );
}

const Label = ({ of }: { of: string }) => {
  const [letter, ...below] = of.split("_");
  return (
    <>
      {letter}
      {below.length > 0 && (
        <tspan class="below" dy="2">
          {below.join(" ")}
        </tspan>
      )}
    </>
  );
};

function GateLine({
  view,
  name,
  t,
  x,
  y,
}: {
  view: View;
  name: string;
  t: number;
  x: number;
  y: number;
}) {
  const shown = view.numbers(name, t);
  const one = shown?.length === 1;
  return (
    <>
      <text class="gate-name" x={x + 5} y={y + 10}>
        {name}
      </text>
      {shown && one && (
        <text class="value start" x={x + 16} y={y + 10}>
          {short(shown[0])}
        </text>
      )}
      {shown && !one && (
        <Cells
          data={shown}
          columns={Math.min(shown.length, 16)}
          x={x + 14}
          y={y + 2}
          wide={38}
          high={10}
          most={largest(shown)}
        />
      )}
    </>
  );
}

/** Digits below each other, or a heat map; nothing before they are reached. */
function Numbers(props: {
  view: View;
  name: string;
  t: number | null;
  x: number;
  y: number;
  wide: number;
  lines: number;
  css: string;
}) {
  const { view, name, t, x, y, wide, lines, css } = props;
  const shown = view.numbers(name, t);
  if (!shown) return null;
  const middle = x + wide / 2;
  if (lines && shown.length <= Math.max(lines, 4)) {
    return (
      <text class={css} data-name={name} data-value={Array.from(shown).join(" ")}>
        {Array.from(shown, (v, n) => (
          <tspan
            key={n}
            x={middle}
            y={y + 11 + n * (lines >= shown.length ? LINE : (LINE * lines) / shown.length)}
            class={Number.isNaN(v) ? "nan" : ""}
          >
            {short(v)}
          </tspan>
        ))}
      </text>
    );
  }
  if (shown.length === 1) {
    return (
      <text class={css} data-name={name} data-value={String(shown[0])} x={middle} y={y + 12}>
        {short(shown[0])}
      </text>
    );
  }
  const most = view.largest(name);

  return (
    <g class={css} data-name={name}>
      <Cells
        data={shown}
        columns={Math.min(16, shown.length)}
        x={x + 4}
        y={y + 1}
        wide={wide - 8}
        high={room(lines) - 4}
        most={most}
      />
    </g>
  );
}

/** Steps that are closed: a column each, h to the left and dh to the right. */
export function Fold({ view, from, to }: { view: View; from: number; to: number }) {
  const count = to - from + 1;
  const H = view.problem.arrays.h0.shape[1];
  const name = count > 1 ? `t = ${from} … ${to}` : `t = ${from}`;
  const pick = (event: MouseEvent) => {
    const box = (event.currentTarget as SVGElement).getBoundingClientRect();
    const t = from + Math.floor(((event.clientX - box.left) / box.width) * count);
    view.toggle(Math.min(to, Math.max(from, t)));
  };
  const turned = (name: string) => {
    const data = new Float64Array(count * H);
    for (let t = from; t <= to; t++) {
      const shown = view.numbers(name, t);
      for (let j = 0; j < H; j++) data[j * count + t - from] = shown ? shown[j] : 0;
    }
    return data;
  };
  const differs = Array.from({ length: count }, (_, n) =>
    Math.max(...["h", "dh", "dx", "dh_prev"].map((k) => view.differs(k, from + n))),
  );
  return (
    <div class="fold">
      <button class="quiet" onClick={() => view.toggle(from)} aria-expanded="false">
        ▸ {name}
      </button>
      {(["h", "dh"] as const).map((k) => (
        <figure key={k}>
          <svg
            viewBox="0 0 100 20"
            preserveAspectRatio="none"
            role="img"
            aria-label={`${k} of ${name}, closed: a heat map, a column per step`}
            onClick={pick}
          >
            <Cells
              data={turned(k)}
              columns={count}
              x={0}
              y={0}
              wide={100}
              high={view.other ? 18.5 : 20}
              most={view.largest(k)}
            />
            {differs.map((d, n) =>
              d ? (
                <rect
                  class="spread"
                  x={(100 * n) / count}
                  y={20 - 0.5 * d}
                  width={80 / count}
                  height={0.5 * d}
                />
              ) : null,
            )}
          </svg>
          <figcaption class={k === "h" ? "value" : "back"}>{k}</figcaption>
        </figure>
      ))}
    </div>
  );
}

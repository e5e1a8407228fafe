// Dead letters over time, as the API's histogram has them (GET /v1/dlq/histogram): a chart in
// which a time can be chosen, with the mouse or the keyboard, and small ones for rows.

import { h, svg, table } from "./dom.js";
import { clock, day, num, plural, zone } from "./format.js";

const MINUTE = 60_000, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const TALL = 110;
const DRAG = 4; // px: less is a click

// timeOf is the time of a histogram, in ms: {start, step, bars, end}.
function timeOf(hist) {
  const start = Date.parse(hist.since), end = Date.parse(hist.until), bars = Math.max(1, hist.buckets.length);
  return { start, end, bars, step: (end - start) / bars };
}

// moment is a time as precise as the bars are.
function moment(ms, { step, bars }) {
  const t = new Date(ms);
  if (step >= DAY) return day(t);
  return step * bars > 20 * HOUR ? `${day(t).slice(5)} ${clock(t)}` : clock(t);
}

const sum = (list, from = 0, to = list.length - 1) => list.slice(from, to + 1).reduce((n, c) => n + c, 0);

// added adds lists up, place by place.
const added = (lists, length) => lists.reduce((out, list) => out.map((n, i) => n + list[i]), new Array(length).fill(0));

// spark is one series as small bars: what is still there, and pale what came and is gone.
export function spark(hist, series, label) {
  const s = timeOf(hist), height = 26;
  const most = Math.max(1, ...series.arrived, ...series.counts);
  const bar = (kind, n, i) => {
    const tall = Math.max(1.5, (n / most) * (height - 2));
    return n > 0 && svg("rect", { class: kind, x: i + 0.1, y: height - tall, width: 0.8, height: tall });
  };
  return svg("svg", { class: "bars", role: "img", "aria-label": label, viewBox: `0 0 ${s.bars} ${height}`, preserveAspectRatio: "none", height, focusable: "false" },
    svg("rect", { class: "base", x: 0, y: height - 1, width: s.bars, height: 1 }),
    series.arrived.map((n, i) => [bar("gone", n, i), bar("fill", series.counts[i], i)]));
}

// chart draws a histogram's series on top of each other: [{name, counts, arrived, tone}]. open is
// called with what was chosen, {since, until}; link is the address of that. memory keeps what is
// chosen while the page is drawn anew, and says while somebody drags.
export function chart(hist, series, { label, open, link, memory }) {
  const s = timeOf(hist);
  const counts = added(series.map((x) => x.counts), s.bars), arrived = added(series.map((x) => x.arrived), s.bars);
  const most = Math.max(1, ...arrived.map((n, i) => Math.max(n, counts[i])));
  const y = (n) => (n / most) * (TALL - 4);
  const at = (i) => s.start + i * s.step;
  const range = ([from, to]) => ({ since: new Date(at(from)).toISOString(), until: new Date(at(to + 1)).toISOString() });
  const there = ([from, to]) => sum(counts, from, to);

  const stacks = counts.map((n, i) => {
    let below = 0;
    const rects = series.map((x) => {
      if (!x.counts[i]) return null;
      const tall = Math.max(1.5, y(x.counts[i]));
      below += tall;
      return svg("rect", { class: x.tone, x: i + 0.08, y: TALL - below, width: 0.84, height: tall });
    });
    const gone = Math.max(0, arrived[i] - n);
    return [rects, gone > 0 && svg("rect", { class: "gone", x: i + 0.08, y: TALL - below - Math.max(1.5, y(gone)), width: 0.84, height: Math.max(1.5, y(gone)) })];
  });
  const mark = svg("rect", { class: "mark", x: 0, y: 0, width: 0, height: TALL });
  const picture = svg("svg", { class: "bars", "aria-hidden": "true", viewBox: `0 0 ${s.bars} ${TALL}`, preserveAspectRatio: "none", height: TALL, focusable: "false" },
    mark, svg("rect", { class: "grid", x: 0, y: TALL - y(most) - 0.5, width: s.bars, height: 0.5 }), svg("rect", { class: "grid", x: 0, y: TALL - y(most / 2), width: s.bars, height: 0.5 }),
    svg("rect", { class: "base", x: 0, y: TALL - 1, width: s.bars, height: 1 }), stacks);
  const field = h("div", {
    class: "field", role: "slider", tabindex: "0", "data-key": "chart", "aria-label": label, "aria-describedby": "chart-help",
    "aria-valuemin": "0", "aria-valuemax": String(s.bars - 1), "aria-valuenow": "0",
  }, picture);
  const readout = h("p", { class: "readout small" });

  // words says what came in a time.
  const words = (chosen) => {
    const [from, to] = chosen;
    const came = sum(arrived, from, to), parts = series.map((x) => [x.name, sum(x.counts, from, to)]).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
    const when = `${moment(at(from), s)} to ${moment(at(to + 1), s)} ${zone(new Date(at(from)))}`;
    if (came === 0 && there(chosen) === 0) return `${when}: none`;
    return `${when}: ${num(came)} came, ${num(there(chosen))} still there${parts.length ? ` (${parts.slice(0, 4).map(([name, n]) => `${name} ${num(n)}`).join(", ")}${parts.length > 4 ? ", …" : ""})` : ""}`;
  };

  const show = (chosen, hover = null) => {
    const shown = chosen ?? hover;
    mark.setAttribute("x", shown ? shown[0] : 0);
    mark.setAttribute("width", shown ? shown[1] - shown[0] + 1 : 0);
    mark.setAttribute("class", chosen ? "mark chosen" : "mark");
    field.setAttribute("aria-valuenow", String(shown ? shown[1] : 0));
    field.setAttribute("aria-valuetext", shown ? words(shown) : "no time is chosen");
    readout.replaceChildren(...(shown
      ? [words(shown), ...(chosen && there(chosen) > 0 ? [" ", h("a", { href: link(range(chosen)), "data-key": "chosen" }, `Show ${plural(there(chosen), "dead letter")}`)] : [])]
      : [h("span", { class: "muted", id: "chart-help" }, "Drag over a time to see its dead letters. With the keyboard: arrow keys, Shift to widen, Enter.")]));
    // What the field is described by must be there.
    if (shown) readout.append(h("span", { class: "hidden", id: "chart-help" }, "Arrow keys choose a time, with Shift more of it; Enter shows its dead letters."));
  };
  const indexOf = (iso) => Math.round((Date.parse(iso) - s.start) / s.step);
  const remember = (chosen) => {
    memory.chosen = chosen && range(chosen);
    show(chosen);
  };
  const kept = () => {
    if (!memory.chosen) return null;
    const from = indexOf(memory.chosen.since), to = indexOf(memory.chosen.until) - 1;
    return from >= 0 && to < s.bars && from <= to ? [from, to] : null;
  };
  const go = (chosen) => {
    if (!chosen || there(chosen) === 0) return;
    memory.chosen = null;
    open(range(chosen));
  };

  const under = (e) => {
    const box = field.getBoundingClientRect();
    return Math.min(s.bars - 1, Math.max(0, Math.floor(((e.clientX - box.left) / box.width) * s.bars)));
  };
  let from = null, pressed = 0; // the bar at which the drag under way began, and where
  const between = (a, b) => [Math.min(a, b), Math.max(a, b)];
  field.addEventListener("pointerdown", (e) => {
    if (e.button !== 0) return;
    field.setPointerCapture(e.pointerId);
    memory.dragging = true;
    [from, pressed] = [under(e), e.clientX];
    remember([from, from]);
  });
  field.addEventListener("pointermove", (e) => {
    if (from !== null) remember(between(from, under(e)));
    else if (!kept()) show(null, [under(e), under(e)]);
  });
  field.addEventListener("pointerleave", () => { if (from === null) show(kept()); });
  field.addEventListener("pointerup", (e) => {
    if (from === null) return;
    const chosen = between(from, under(e)), dragged = Math.abs(e.clientX - pressed) >= DRAG;
    from = null;
    remember(chosen);
    if (dragged) go(chosen);
  });
  field.addEventListener("lostpointercapture", () => { from = null; memory.dragging = false; });
  let anchor = null; // the end that stays when the time is widened
  field.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const chosen = kept(), last = Math.max(0, arrived.findLastIndex((n) => n > 0));
    const head = chosen ? (anchor === chosen[1] ? chosen[0] : chosen[1]) : null;
    const to = { ArrowLeft: (head ?? last + 1) - 1, ArrowRight: (head ?? last - 1) + 1, Home: 0, End: s.bars - 1 }[e.key];
    if (to !== undefined) {
      const next = Math.min(s.bars - 1, Math.max(0, to));
      if (!e.shiftKey || anchor === null) anchor = e.shiftKey && head !== null ? head : next;
      remember(between(anchor, next));
    } else if (e.key === "Enter") go(chosen);
    else if (e.key === "Escape" && chosen) { anchor = null; remember(null); }
    else return;
    e.preventDefault();
    e.stopPropagation();
  });
  show(kept());
  const ticks = [0, 1, 2, 3].map((i) => moment(s.start + (i * (s.end - s.start)) / 4, s));
  return h("div", { class: "chart" },
    h("p", { class: "most small muted", "aria-hidden": "true" }, num(most)), field,
    h("div", { class: "axis", "aria-hidden": "true" }, [...ticks, `now, ${zone()}`].map((t) => h("span", {}, t))),
    readout);
}

// asTable is a histogram as a table: the times in which something came.
export function asTable(hist, series) {
  const s = timeOf(hist);
  const came = added(series.map((x) => x.arrived), s.bars);
  const columns = [{ name: `Time, ${zone()}`, head: true }, ...series.map((x) => ({ name: x.name, class: "n" })), { name: "Still there", class: "n" }, { name: "Came", class: "n" }];
  const rows = came.map((n, i) => ({ n, i })).filter(({ n }) => n > 0).reverse();
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Dead letters over time, as a table" },
    table("Dead letters over time, the newest first", columns, rows.map(({ n, i }) => ({
      cells: [`${moment(s.start + i * s.step, s)} to ${moment(s.start + (i + 1) * s.step, s)}`, ...series.map((x) => num(x.counts[i])), num(sum(series.map((x) => x.counts[i]))), num(n)],
    }))));
}

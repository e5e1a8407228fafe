// Failures over time, as bars. The chart says how far it looked: the time beyond is
// marked, not drawn as zero.

import { h, svg } from "./dom.js";
import { clock, day, num } from "./format.js";

const MINUTE = 60_000, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const STEPS = [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY, 30 * DAY];

// scale divides the time from from to to (ms) into at most most bars of an even length.
export function scale(from, to, most) {
  const step = STEPS.find((s) => (to - from) / s <= most - 1) ?? Math.ceil((to - from) / (most - 1));
  const offset = new Date(to).getTimezoneOffset() * MINUTE; // bars begin at the viewer's full hours
  const start = Math.floor((from - offset) / step) * step + offset;
  return { start, step, bars: Math.floor((to - start) / step) + 1 };
}

// count counts times (ms) per bar.
export function count(times, { start, step, bars }) {
  const counts = new Array(bars).fill(0);
  for (const t of times) {
    const i = Math.floor((t - start) / step);
    if (i >= 0 && i < bars) counts[i]++;
  }
  return counts;
}

// bars draws counts. looked is the time (ms) from which on all failures are known.
export function bars(counts, s, { label, looked, height, max = Math.max(1, ...counts) }) {
  const unknown = Math.min(Math.max(0, (looked - s.start) / s.step), s.bars);
  return svg("svg", {
    class: "bars", role: "img", "aria-label": label, viewBox: `0 0 ${s.bars} ${height}`, preserveAspectRatio: "none", height, focusable: "false",
  },
  unknown > 0.05 && svg("rect", { class: "unknown", x: 0, y: 0, width: unknown, height }),
  svg("rect", { class: "base", x: 0, y: height - 1, width: s.bars, height: 1 }),
  counts.map((n, i) => {
    if (n === 0) return null;
    const tall = Math.max(2, (n / max) * (height - 2));
    const from = new Date(s.start + i * s.step), until = new Date(s.start + (i + 1) * s.step);
    return svg("rect", { class: "fill", x: i + 0.1, y: height - tall, width: 0.8, height: tall },
      svg("title", {}, `${moment(from, s)} to ${moment(until, s)}: ${num(n)}`));
  }));
}

// axis names the beginning, the middle and the end of the time.
export function axis(s, to) {
  const middle = s.start + Math.floor(s.bars / 2) * s.step;
  return h("div", { class: "axis", "aria-hidden": "true" },
    h("span", {}, moment(new Date(s.start), s)), h("span", {}, moment(new Date(middle), s)), h("span", {}, `now, ${clock(new Date(to))}`));
}

// moment is a time as precise as the bars are.
function moment(t, s) {
  if (s.step >= DAY) return day(t);
  return s.step * s.bars > 20 * HOUR ? `${day(t).slice(5)} ${clock(t)}` : clock(t);
}

// What changed between two texts, line by line.

import { h } from "./dom.js";

const CONTEXT = 3; // lines that are shown around a change
const MOST = 4_000_000; // cells of the table; a larger change is shown as all old and all new

// lines compares two texts. It returns [{mark: " ", "-" or "+", text}].
export function lines(before, after) {
  const a = split(before), b = split(after);
  let head = 0, tail = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const same = (part) => part.map((text) => ({ mark: " ", text }));
  return [...same(a.slice(0, head)), ...between(a.slice(head, a.length - tail), b.slice(head, b.length - tail)), ...same(a.slice(a.length - tail))];
}

const split = (text) => (text === "" ? [] : text.split("\n"));

// between finds the longest common subsequence.
function between(a, b) {
  const out = [];
  const old = (text) => out.push({ mark: "-", text }), fresh = (text) => out.push({ mark: "+", text });
  if (a.length * b.length > MOST) {
    a.forEach(old);
    b.forEach(fresh);
    return out;
  }
  const width = b.length + 1;
  const best = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      best[i * width + j] = a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    }
  }
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push({ mark: " ", text: a[i] });
      i++;
      j++;
    } else if (i < a.length && (j === b.length || best[(i + 1) * width + j] >= best[i * width + j + 1])) old(a[i++]);
    else fresh(b[j++]);
  }
  return out;
}

// diff shows what changed in a part of a message; null where nothing did.
export function diff(name, before, after) {
  const all = lines(before, after);
  const changed = all.map((l) => l.mark !== " ");
  if (!changed.includes(true)) return null;
  const near = (i) => changed.slice(Math.max(0, i - CONTEXT), i + CONTEXT + 1).includes(true);
  const rows = [];
  let skipped = 0;
  const rest = () => {
    if (skipped) rows.push(h("div", { class: "skipped" }, `⋯ ${skipped} unchanged line${skipped === 1 ? "" : "s"}`));
    skipped = 0;
  };
  all.forEach((l, i) => {
    if (!near(i)) {
      skipped++;
      return;
    }
    rest();
    const said = { "-": "removed: ", "+": "added: " }[l.mark];
    rows.push(h(said ? { "-": "del", "+": "ins" }[l.mark] : "div", {}, h("span", { class: "mark", "aria-hidden": "true" }, l.mark), said && h("span", { class: "hidden" }, said), l.text.replaceAll("\r", "␍") || " "));
  });
  rest();
  return h("section", { class: "diff", "aria-label": `Changes: ${name}` }, h("h3", {}, name), h("div", { class: "lines", tabindex: "0", role: "region", "aria-label": `${name}, before and after` }, rows));
}

// Bulk operations: the newest ones, and one with its progress.

import { api } from "./api.js";
import { h, replace, table } from "./dom.js";
import { filterText, num, plural } from "./format.js";
import { empty, facts, panel, problemBox, tag, when } from "./parts.js";
import { cancelButton, doneOf, drop, final, follow, outcome, progressPanel, share, statusTag } from "./progress.js";
import { to } from "./router.js";

const LIMIT = 50;

// scopeText says what an operation works on.
function scopeText(op) {
  if (op.all) return "every dead letter";
  if (op.ids) return plural(op.ids.length, "selected dead letter");
  return op.filter ? filterText(op.filter) : `${num(op.total)} selected`;
}

export const operations = {
  title: () => "Operations",
  what: "operations",

  load: ({ signal }) => api.operations(LIMIT, signal),

  show(content, data) {
    if (data.operations.length === 0) {
      replace(content, empty("No operations yet.", "Replaying or discarding many dead letters at once makes one. It goes on after a crash, and is kept for 30 days."));
      return;
    }
    const columns = [{ name: "Created" }, { name: "What", head: true, class: "message" }, { name: "Status" }, { name: "Progress", class: "spark" }, { name: "Outcome" }, { name: "By" }];
    replace(content,
      h("p", { class: "muted" }, data.operations.length === LIMIT ? `The newest ${LIMIT}.` : `${plural(data.operations.length, "operation")}, newest first.`),
      h("div", { class: "panel" }, table("Bulk operations, newest first", columns, data.operations.map((op) => ({
        cells: [
          when(op.created_at, { stacked: true }),
          h("span", { class: "stacked" },
            h("a", { href: to(["operations", op.id]), "data-key": `operation ${op.id}` }, `${op.action === "replay" ? "Replay" : "Discard"} ${scopeText(op)}`),
            op.reason && h("small", {}, op.reason)),
          statusTag(op),
          h("span", { class: "stacked" }, h("progress", { max: Math.max(1, op.total), value: op.status === "completed" ? Math.max(1, op.total) : Math.min(doneOf(op), op.total), "aria-label": `Progress: ${share(op)}` }), h("small", { class: "muted" }, share(op))),
          outcome(op),
          op.actor ? h("small", {}, op.actor) : h("span", { class: "muted" }, "–"),
        ],
      })))));
  },
};

export const operation = {
  title: ({ parts }) => `Operation ${parts[1]}`,
  what: "the operation",
  still: true, // it follows by itself

  load: ({ parts, signal }) => api.operation(parts[1], signal),

  show(content, op, view) {
    const progress = progressPanel(`${op.action === "replay" ? "Replaying" : "Discarding"} ${plural(op.total, "dead letter")}`);
    const trouble = h("div");
    const sinks = h("div");
    const wrong = (err) => trouble.replaceChildren(problemBox(err));
    const shown = (now) => {
      progress.update(now);
      replace(sinks, bySink(now));
      if (final(now)) drop(cancel, document.querySelector("h1"));
    };
    const cancel = cancelButton(op.id, { signal: view.signal, onchange: shown, onproblem: wrong });
    replace(content,
      panel("Progress", { actions: final(op) ? null : cancel }, progress.node, trouble),
      h("div", { class: "columns" },
        panel("Request", {}, facts([
          ["Action", op.action],
          ["What", scopeText(op)],
          ["Reason", op.reason],
          ["By", op.actor],
          ["Created", when(op.created_at)],
          ["Started", op.started_at ? when(op.started_at) : null],
          ["Finished", op.finished_at ? when(op.finished_at) : null],
        ]), op.filter && h("p", {}, h("a", { href: to(["items"], op.filter) }, "Dead letters that match now"))),
        panel("By sink", {}, sinks)));
    shown(op);
    if (!final(op)) {
      follow(op, { signal: view.signal, onchange: shown, ontrouble: progress.trouble })
        .then((now) => { if (!view.signal.aborted && final(now)) view.reload(); }, (err) => { if (!view.signal.aborted) wrong(err); });
    }
  },
};

function bySink(op) {
  const rows = Object.entries(op.sinks ?? {}).sort(([a], [b]) => a.localeCompare(b));
  if (rows.length === 0) return empty("Not started yet.");
  const columns = [{ name: "Sink", head: true }, { name: op.action === "replay" ? "Delivered" : "Discarded", class: "n" }, { name: "Failed", class: "n" }, { name: "Skipped", class: "n" }, { name: "State" }];
  return table("Progress by sink", columns, rows.map(([name, s]) => ({
    cells: [
      name, num(op.action === "replay" ? s.delivered : s.discarded), num(s.failed), num(s.skipped),
      s.error ? tag("failed", "bad", s.error) : s.done ? tag("done", "good") : s.waiting ? tag(`${num(s.waiting)} held by a replay`, "warn") : tag("open"),
    ],
  })));
}

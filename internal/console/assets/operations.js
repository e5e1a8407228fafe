// Bulk operations: the newest ones, and one with its progress.

import { api } from "./api.js";
import { h, replace, table } from "./dom.js";
import { clock, filterText, num, plural } from "./format.js";
import { empty, facts, panel, problemBox, tag, when } from "./parts.js";
import { cancelButton, doneOf, drop, final, follow, outcome, progressPanel, resumeButton, share, statusTag, still } from "./progress.js";
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
      if (!final(now)) return;
      if (resume) drop(resume, cancel);
      drop(cancel, document.querySelector("h1"));
    };
    const cancel = cancelButton(op.id, { signal: view.signal, onchange: shown, onproblem: wrong });
    const resume = op.status === "stopped" && resumeButton(op.id, { signal: view.signal, onproblem: wrong, onchange: () => resumed(view) });
    replace(content,
      panel("Progress", { actions: final(op) ? null : h("span", { class: "buttons" }, resume, cancel) }, progress.node, trouble),
      h("div", { class: "columns" },
        panel("Request", {}, facts([
          ["Action", op.action],
          ["What", scopeText(op)],
          ["Reason", op.reason],
          ["By", op.actor],
          ["Stops after", op.action !== "replay" ? null : op.stop_after ? `${plural(op.stop_after, "failure")} in a row of a receiver` : "never"],
          ["Round", op.round > 1 ? num(op.round) : null],
          ["Created", when(op.created_at)],
          ["Started", op.started_at ? when(op.started_at) : null],
          [op.status === "stopped" ? "Stopped" : "Finished", op.finished_at ? when(op.finished_at) : null],
        ]), op.filter && h("p", {}, h("a", { href: to(["items"], op.filter) }, "Dead letters that match now"))),
        panel("By sink", {}, sinks)));
    shown(op);
    if (!still(op)) {
      follow(op, { signal: view.signal, onchange: shown, ontrouble: progress.trouble })
        .then((now) => { if (!view.signal.aborted && still(now)) view.reload(); }, (err) => { if (!view.signal.aborted) wrong(err); });
    }
  },
};

// resumed shows the next round.
async function resumed(view) {
  await view.reload();
  document.querySelector("[data-key=cancel-operation]")?.focus();
}

function bySink(op) {
  const rows = Object.entries(op.sinks ?? {}).sort(([a], [b]) => a.localeCompare(b));
  if (rows.length === 0) return empty("Not started yet.");
  const columns = [{ name: "Sink", head: true }, { name: op.action === "replay" ? "Delivered" : "Discarded", class: "n" }, { name: "Failed", class: "n" }, { name: "Expired", class: "n" }, { name: "Skipped", class: "n" }, { name: "State" }];
  return table("Progress by sink", columns, rows.map(([name, s]) => ({
    cells: [
      name, num(op.action === "replay" ? s.delivered : s.discarded), num(s.failed), num(s.expired ?? 0), num(s.skipped),
      sinkTag(s),
    ],
  })));
}

function sinkTag(s) {
  if (s.stopped) return tag("stopped", "bad", s.error);
  if (s.error) return tag("failed", "bad", s.error);
  if (s.done) return tag("done", "good");
  if (s.waiting && s.waiting_until) return tag(`${num(s.waiting)} waiting until ${clock(new Date(s.waiting_until))}`, "warn", "Their receiver is left alone or asked to wait.");
  if (s.waiting) return tag(`${num(s.waiting)} held by a replay`, "warn");
  return tag("open");
}

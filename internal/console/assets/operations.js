// Bulk operations: the newest ones, and one with its progress.

import { api } from "./api.js";
import { h, replace, table } from "./dom.js";
import { absolute, clock, filterText, num, plural } from "./format.js";
import { empty, facts, panel, problemBox, tag, when } from "./parts.js";
import { cancelButton, countsOf, doneOf, drop, final, follow, onJournal, outcome, progressPanel, resumeButton, share, statusTag, still, sinksDone } from "./progress.js";
import { to } from "./router.js";

const LIMIT = 50;

// ACTIONS are the actions of operations: what they do, and what they are doing.
const ACTIONS = {
  replay: { verb: "Replay", running: "Replaying" },
  discard: { verb: "Discard", running: "Discarding" },
  restore: { verb: "Restore", running: "Restoring" },
  audit: { verb: "Audit", running: "Auditing" },
  erase: { verb: "Erase", running: "Erasing" },
};

// scopeText says what an operation works on.
function scopeText(op) {
  switch (op.action) {
    case "restore": return `what the queue lacks${op.since ? `, since ${absolute(new Date(op.since))}` : ""}`;
    case "audit": return "queue and journal";
    case "erase": return "a recipient's dead letters";
  }
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
            h("a", { href: to(["operations", op.id]), "data-key": `operation ${op.id}` }, `${ACTIONS[op.action]?.verb ?? op.action} ${scopeText(op)}${op.sink ? `, through ${op.sink}` : ""}`),
            op.reason && h("small", {}, op.reason)),
          statusTag(op),
          h("span", { class: "stacked" }, bar(op), h("small", { class: "muted" }, share(op))),
          outcome(op),
          op.actor ? h("small", {}, op.actor) : h("span", { class: "muted" }, "–"),
        ],
      })))));
  },
};

// bar is an operation's progress. Of one on the journal nobody knows how many there are: its sinks
// count.
function bar(op) {
  const [done, max] = onJournal(op) ? sinksDone(op) : [doneOf(op), op.total];
  return h("progress", { max: Math.max(1, max), value: op.status === "completed" ? Math.max(1, max) : Math.min(done, max), "aria-label": `Progress: ${share(op)}` });
}

export const operation = {
  title: ({ parts }) => `Operation ${parts[1]}`,
  what: "the operation",
  still: true, // it follows by itself

  load: ({ parts, signal }) => api.operation(parts[1], signal),

  show(content, op, view) {
    const progress = progressPanel(`${ACTIONS[op.action]?.running ?? op.action} ${onJournal(op) ? scopeText(op) : plural(op.total, "dead letter")}`);
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
      h("div", { class: onJournal(op) ? "rows" : "columns" }, // the counts of one on the journal need the width
        panel("Request", {}, facts([
          ["Action", op.action],
          ["What", scopeText(op)],
          ["Sent through", op.sink],
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
  if (onJournal(op)) {
    const counts = countsOf(op).map(({ name, word }) => ({ name: word[0].toUpperCase() + word.slice(1), of: name, class: "n" }));
    const columns = [{ name: "Sink", head: true }, ...counts, { name: "State" }];
    return table("Progress by sink", columns, rows.map(([name, s]) => {
      const found = Object.fromEntries(countsOf({ ...s, action: op.action }).map((c) => [c.name, c.count]));
      return { cells: [name, ...counts.map((c) => num(found[c.of] ?? 0)), sinkTag(s)] };
    }));
  }
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

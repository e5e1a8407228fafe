// Questions about one thing: replay, discard or unpark one dead letter, pause a sink.

import { api } from "./api.js";
import { buttons, closeButton, dialog } from "./dialog.js";
import { announce, h } from "./dom.js";
import { absolute, down, relative } from "./format.js";
import { button, loading, note, problemBox } from "./parts.js";

// ask opens a dialog with a question. act does the work and returns what to show; null
// closes the dialog. ondone is called when it closes after act was tried.
function ask({ title, text, fields = null, label, kind = "primary", act, ondone = () => {} }) {
  let tried = false;
  const box = dialog(title, { onclose: () => tried && ondone() });
  const work = async () => {
    tried = true;
    box.show(loading("the answer"));
    try {
      const shown = await act(box.signal);
      if (shown === null) box.close();
      else box.show(shown, buttons(closeButton(box)));
    } catch (err) {
      if (!box.signal.aborted) box.show(problemBox(err), buttons(button("Close", box.close)));
    }
  };
  box.show(h("form", { onsubmit: (e) => { e.preventDefault(); work(); } },
    text.map((t) => (typeof t === "string" ? h("p", {}, t) : t)), fields,
    buttons(button("Cancel", box.close), h("button", { type: "submit", class: kind, "data-focus": "" }, label))));
}

const late = (item) => item.state === "expired";

// replayOne sends one dead letter again.
export function replayOne(item, etag, sinks, ondone) {
  const through = h("select", { name: "through" }, h("option", { value: "" }, `${item.sink} (its own)`),
    sinks.filter((s) => s !== item.sink).map((s) => h("option", { value: s }, s)));
  const keep = h("input", { type: "checkbox", name: "keep" });
  ask({
    title: "Replay this dead letter",
    text: [
      "It is sent once, now. If that fails, it stays in the queue.",
      late(item) && note("warn", h("strong", {}, `It expired${item.expires_at ? ` ${relative(new Date(item.expires_at))}` : ""}. `), "This sends it all the same."),
      item.delivered_at && note("warn", h("strong", {}, "It was delivered already. "), "This sends it a second time."),
      item.reason === "ambiguous" && note("warn", h("strong", {}, "It may have arrived. "), "The last attempt was sent and got no answer."),
    ].filter(Boolean),
    fields: [h("label", {}, "Send through", through), h("label", { class: "check" }, keep, " Keep it, marked as delivered")],
    label: item.delivered_at ? "Send again" : late(item) ? "Send all the same" : "Replay 1",
    ondone,
    act: async (signal) => {
      const options = { on_success: keep.checked ? "keep" : "discard" };
      if (through.value) options.sink = through.value;
      if (item.delivered_at || late(item)) options.force = true;
      const r = await api.replay(item.id, options, etag, signal);
      if (r.status === "delivered") {
        announce("Delivered.");
        return note("good", h("strong", {}, `Delivered through ${r.sink}.`), keep.checked ? " It is kept, marked as delivered." : " It left the queue.");
      }
      announce(`Failed: ${r.error}`);
      const next = r.next_replay_at ? new Date(r.next_replay_at) : null;
      return note("bad", h("p", {}, h("strong", {}, r.status === "parked" ? "It failed again, and is parked now." : "It failed again, and stays in the queue.")),
        h("p", {}, r.error), next && h("p", { class: "muted" }, `The schedule tries again ${relative(next)} (${absolute(next)}).`));
    },
  });
}

// discardOne gives one dead letter up. ondone is called when it is gone.
export function discardOne(item, etag, ondone) {
  let gone = false;
  ask({
    title: "Discard this dead letter",
    text: ["It is removed for good, without being sent."],
    label: "Discard 1", kind: "danger",
    ondone: () => ondone(gone),
    act: async (signal) => {
      await api.discard(item.id, etag, signal);
      gone = true;
      announce("Discarded.");
      return null;
    },
  });
}

// unparkOne lets the schedule replay one dead letter.
export function unparkOne(item, etag, ondone) {
  ask({
    title: "Unpark this dead letter",
    text: ["It becomes due now, and the schedule replays it at its next tick."],
    label: "Unpark 1", ondone,
    act: async (signal) => {
      await api.unpark(item.id, etag, signal);
      announce("It is due now.");
      return null;
    },
  });
}

// pauseSink pauses a sink, or resumes one that is paused or whose receivers are left alone.
export function pauseSink(sink, pause, ondone) {
  const left = down(sink) || (sink.receivers ?? []).some(down);
  ask({
    title: `${pause ? "Pause" : "Resume"} ${sink.name}`,
    text: pause
      ? ["A message to it becomes a dead letter at once, without an attempt, and the schedule leaves it alone. Nothing is lost.", "A replay that you ask for still goes out."]
      : ["It is sent to again, and the schedule replays what is due from its next tick on.",
        left && "The next delivery to a receiver that is left alone is the probe. If it is answered, the others follow step by step; if not, it is left alone as before."].filter(Boolean),
    label: pause ? "Pause" : "Resume", ondone,
    act: async (signal) => {
      await api.pause(sink.name, pause, signal);
      announce(`${sink.name} is ${pause ? "paused" : "resumed"}.`);
      return null;
    },
  });
}

// Edit a dead letter, look at what changed, and send the result in its place.

import { api } from "./api.js";
import { replayByCurl, copyButton } from "./copy.js";
import { diff } from "./diff.js";
import { buttons, closeButton, dialog } from "./dialog.js";
import { h } from "./dom.js";
import { button, loading, note, problemBox } from "./parts.js";
import { isOver, outcome, warnings } from "./single.js";

const pretty = (value) => (value === undefined || value === null ? "" : JSON.stringify(value, null, 2));

// PARTS are what can be edited: how a text of it is made, and what is sent for one.
const PARTS = [
  { name: "Subject", of: (it) => it.message.subject ?? "", put: (options, text) => { message(options).subject = text; } },
  { name: "Body", rows: 10, of: (it) => it.message.body ?? "", put: (options, text) => { message(options).body = text; } },
  { name: "Metadata", rows: 4, hint: "a JSON object of texts", of: (it) => pretty(Object.keys(it.message.metadata ?? {}).length ? it.message.metadata : null), put: (options, text) => { message(options).metadata = metadata(text); } },
  { name: "Recipient", rows: 3, hint: "JSON; empty: the sink's own", of: (it) => pretty(it.recipient), put: (options, text) => { options.recipient = parsed("Recipient", text || "null"); } },
];

const message = (options) => (options.message ??= {});

function parsed(name, text) {
  try {
    return JSON.parse(text);
  } catch (err) {
    throw new Error(`${name} is not JSON: ${err.message}`);
  }
}

function metadata(text) {
  const value = parsed("Metadata", text.trim() || "{}");
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("Metadata must be a JSON object, such as {\"X-Tenant\": \"acme\"}.");
  const odd = Object.entries(value).find(([, v]) => typeof v !== "string");
  if (odd) throw new Error(`Metadata: the value of ${odd[0]} must be a text, in quotes.`);
  return value;
}

// editOne opens the dialog for one dead letter. sinks are those that it can be sent through.
export function editOne(item, etag, sinks, ondone) {
  let tried = false;
  const box = dialog("Edit and replay", { wide: true, onclose: () => tried && ondone() });
  const trouble = h("p", { class: "field-error", role: "alert" });
  const fields = PARTS.map((part) => {
    const before = part.of(item);
    const input = part.rows ? h("textarea", { rows: part.rows, spellcheck: "false", "data-focus": part.name === "Body" ? "" : null }) : h("input", { autocomplete: "off", spellcheck: "false" });
    input.value = before;
    return { ...part, before, input, first: input.value }; // a field may change line ends by itself
  });
  const through = h("select", {}, h("option", { value: "" }, `${item.sink} (its own)`), sinks.filter((s) => s !== item.sink).map((s) => h("option", { value: s }, s)));
  const form = h("form", { onsubmit: (e) => { e.preventDefault(); review(); } },
    note("", "Another dead letter is made with these changes and is sent in the place of this one, once, now. This one stays as it is, superseded: nobody sends it any more, but by force."),
    warnings(item),
    fields.map((f) => h("label", {}, f.hint ? `${f.name} (${f.hint})` : f.name, f.input)),
    h("label", {}, "Send through", through), trouble,
    buttons(button("Cancel", box.close), h("button", { type: "submit", class: "primary" }, "Review changes…")));

  // after is the text that is sent for a field. Where all line ends were CRLF they stay so.
  const after = (f) => {
    if (f.input.value === f.first) return f.before;
    return f.before.includes("\r\n") && !/(^|[^\r])\n/.test(f.before) ? f.input.value.replaceAll("\n", "\r\n") : f.input.value;
  };
  function review() {
    const options = { on_success: "discard" };
    const changed = fields.filter((f) => after(f) !== f.before);
    trouble.textContent = "";
    try {
      changed.forEach((f) => f.put(options, after(f)));
      if (through.value) options.sink = through.value;
      if (!changed.length && !through.value) throw new Error("Nothing is changed. Replay it as it is, or change something.");
    } catch (err) {
      trouble.textContent = err.message;
      return;
    }
    if (item.delivered_at || isOver(item)) options.force = true;
    box.show(h("form", { onsubmit: (e) => { e.preventDefault(); send(options); } },
      h("p", {}, "What changes:"),
      changed.map((f) => diff(f.name, f.before, after(f))),
      through.value && diff("Sink", item.sink, through.value),
      warnings(item),
      buttons(copyButton("as curl", () => replayByCurl(item.id, options), "Copy as curl"), button("Back to editing", () => box.show(form)),
        h("button", { type: "submit", class: "primary", "data-focus": "" }, "Replay edited"))));
  }
  async function send(options) {
    tried = true;
    box.show(loading("the answer"));
    try {
      box.show(outcome(await api.replay(item.id, options, etag, box.signal), options), buttons(closeButton(box)));
    } catch (err) {
      if (!box.signal.aborted) box.show(problemBox(err), buttons(button("Back to editing", () => box.show(form)), button("Close", box.close)));
    }
  }
  box.show(form);
}

// Keys: a list is walked through with j and k, and what can be done has a key. A single key does
// nothing while somebody types, while a dialog is open, or when they are switched off.

import { buttons, closeButton, dialog, open } from "./dialog.js";
import { h } from "./dom.js";
import { shortcuts } from "./settings.js";
import { go } from "./router.js";

const PREFIX = 1500; // ms in which the second key of two must follow

const VIEWS = { o: ["Overview", []], i: ["Dead letters", ["items"]], d: ["Deliveries", ["deliveries"]], p: ["Operations", ["operations"]] };

// HELP is what the overlay lists.
const HELP = [
  ["Lists", [
    [["j", "The next row"], ["k", "The row before"], ["Enter", "Open the row"], ["x", "Select the row"], ["r", "Replay the row, or what is selected (asks first)"]],
  ]],
  ["A dead letter", [[["r", "Replay it (asks first)"], ["e", "Edit and replay it"], ["u", "Back to the list"]]]],
  ["The chart", [[["←→", "Choose a time"], ["Shift+←→", "More of it"], ["Enter", "Show its dead letters"], ["Esc", "Choose none"]]]],
  ["Anywhere", [
    [["/", "Search"], ...Object.entries(VIEWS).map(([key, [name]]) => [`g ${key}`, name]), ["z", "Local time or UTC"], ["?", "This list"], ["Esc", "Close the dialog, or leave the field"]],
  ]],
];

// help opens the overlay.
export function help() {
  const box = dialog("Keyboard", { wide: true });
  const on = h("input", { type: "checkbox", checked: shortcuts.on, onchange: (e) => shortcuts.set(e.target.checked) });
  const name = (key) => h("dt", {}, key.split(" ").map((k, i) => [i > 0 && " then ", h("kbd", {}, k)]));
  box.show(
    h("div", { class: "keys" }, HELP.map(([title, [rows]]) => h("section", {}, h("h3", {}, title), h("dl", {}, rows.map(([key, what]) => h("div", {}, name(key), h("dd", {}, what))))))),
    h("p", { class: "muted" }, "Everything can be reached with Tab, too."),
    h("label", { class: "check" }, on, " Single keys do something"), buttons(closeButton(box)));
}

// listen starts. Its hooks: search() focuses the search, zone() changes the zone.
export function listen({ search, zone }) {
  let prefix = 0; // until when a g waits for its second key
  let last = ""; // the key of the row that was walked to last
  const rows = () => [...document.querySelectorAll("main tbody tr")].map((tr) => ({ tr, link: tr.querySelector("th a[data-key]") })).filter((r) => r.link);
  const row = () => rows().find((r) => r.tr.contains(document.activeElement));
  const press = (within, selector) => {
    const el = within?.querySelector(selector);
    if (el && !el.disabled && el.checkVisibility()) el.click();
    return Boolean(el);
  };

  function walk(by) {
    const all = rows();
    if (all.length === 0) return;
    let i = all.findIndex((r) => r.tr.contains(document.activeElement));
    if (i >= 0) i = Math.min(all.length - 1, Math.max(0, i + by));
    else i = Math.max(0, all.findIndex((r) => r.link.dataset.key === last)); // where one left off, or the first
    all[i].link.focus();
    all[i].tr.scrollIntoView({ block: "nearest" });
  }
  document.addEventListener("focusin", (e) => {
    if (e.target.dataset?.key && e.target.closest("tbody th")) last = e.target.dataset.key;
  });

  const main = () => document.getElementById("main");
  const does = {
    j: () => walk(1),
    k: () => walk(-1),
    x: () => press(row()?.tr, ".select input"),
    r: () => press(main(), "[data-key=replay-selected]") || press(row()?.tr, "[data-key^='replay ']") || press(main(), ".headline [data-key=replay]") || row()?.tr.dispatchEvent(new Event("replay", { bubbles: true })),
    e: () => press(main(), ".headline [data-key=edit]"),
    u: () => press(main(), ".crumbs a"),
    z: zone,
    "/": search,
    "?": help,
  };

  document.addEventListener("keydown", (e) => {
    if (e.defaultPrevented || e.isComposing || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "Escape" && typing(e.target) && !open()) {
      e.preventDefault(); // what was typed stays
      document.querySelector("h1")?.focus();
      return;
    }
    if (!shortcuts.on || typing(e.target) || open()) return;
    const second = prefix > e.timeStamp && VIEWS[e.key];
    prefix = 0;
    if (second) go(second[1]);
    else if (e.key === "g") prefix = e.timeStamp + PREFIX;
    else if (Object.hasOwn(does, e.key)) does[e.key]();
    else return;
    e.preventDefault();
  });
}

// typing reports whether keys are for an element: they make text there, or choose.
const typing = (el) => el.matches?.("textarea, select, input:not([type=checkbox])") || el.isContentEditable;

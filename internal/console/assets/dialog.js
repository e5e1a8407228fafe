// Dialogs: a native modal <dialog>, which keeps the focus inside, closes with Escape and
// gives the focus back.

import { focusKey, h, replace } from "./dom.js";

let serial = 0;

// dialog opens a dialog with a title. It returns {show, close, signal}: show replaces the
// content and focuses the element that has data-focus; signal is aborted when the dialog
// is closed.
export function dialog(title, { onclose, wide = false } = {}) {
  const opener = document.activeElement;
  const gone = new AbortController();
  const heading = h("h2", { id: `dialog-${++serial}`, tabindex: "-1" }, title);
  const content = h("div", { class: "dialog-content" });
  const el = h("dialog", { "aria-labelledby": heading.id, class: wide ? "wide" : null }, heading, content);
  document.body.append(el);
  el.addEventListener("close", () => {
    gone.abort();
    el.remove();
    // The page behind may have been drawn anew.
    if (!opener?.isConnected && !(opener?.dataset?.key && focusKey(opener.dataset.key))) document.querySelector("h1")?.focus();
    onclose?.();
  });
  el.showModal();
  return {
    signal: gone.signal,
    close: () => el.close(),
    show(...nodes) {
      if (!el.isConnected) return;
      replace(content, ...nodes);
      (content.querySelector("[data-focus]") ?? heading).focus();
    },
  };
}

// buttons is the row of buttons below a dialog's content.
export const buttons = (...all) => h("div", { class: "buttons" }, all);

// closeButton closes a dialog, and has the focus while it is the thing to do.
export const closeButton = (box) => h("button", { type: "button", onclick: box.close, "data-focus": "" }, "Close");

// closeAll closes every dialog.
export function closeAll() {
  for (const el of document.querySelectorAll("dialog[open]")) el.close();
}

// open reports whether a dialog is open.
export const open = () => document.querySelector("dialog[open]") !== null;

// Elements. Every text goes in as a text node: nothing that a message, a receiver or an
// error says can become markup.

const SVG = "http://www.w3.org/2000/svg";

// h makes an element. Properties: functions are listeners ("onclick"), true and false set
// and drop a boolean attribute, undefined and null are left out, the rest are attributes.
// Children: nodes, texts, numbers, arrays of them; null, undefined and false are left out.
export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

// svg makes an SVG element.
export function svg(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

function build(el, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (typeof value === "function") el.addEventListener(name.slice(2), value);
    else if (value === true) el.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) el.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) el.append(child);
  }
  return el;
}

// replace puts nodes in the place of el's children. The focus stays on the element with
// the same data-key, or where that is gone, goes to the one that its data-near names.
export function replace(el, ...nodes) {
  const { key, near } = el.contains(document.activeElement) ? document.activeElement.dataset : {};
  el.replaceChildren(...nodes.flat(Infinity).filter((n) => n !== null && n !== undefined && n !== false));
  if (key !== undefined && !focusKey(key) && near !== undefined) focusKey(near);
}

// focusKey focuses the element with a data-key, and reports whether there is one.
export function focusKey(key) {
  const el = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  el?.focus();
  return Boolean(el);
}

// announce tells a screen reader what happened elsewhere on the page.
export function announce(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  // A new task: the same text twice would otherwise be one change, and silent.
  setTimeout(() => { live.textContent = text; }, 50);
}

// table makes a table whose rows become cards on a narrow screen. Columns: {name, label,
// class, head (the row's header), hidden (the name is for screen readers only), bare (no
// name on a card)}. Rows: {key, cells, class}.
// The roles are spelt out because CSS takes the native ones away when it changes "display".
export function table(caption, columns, rows) {
  return h("table", { role: "table" },
    h("caption", { class: "hidden" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((c) =>
      h("th", { scope: "col", role: "columnheader", class: c.class }, c.hidden ? h("span", { class: "hidden" }, c.name) : c.label ?? c.name)))),
    h("tbody", { role: "rowgroup" }, rows.map((r) => h("tr", { role: "row", class: r.class }, r.cells.map((cell, i) => {
      const c = columns[i];
      const props = { class: c.class, "data-label": c.hidden || c.bare ? null : c.name };
      return c.head ? h("th", { ...props, scope: "row", role: "rowheader" }, cell) : h("td", { ...props, role: "cell" }, cell);
    })))));
}

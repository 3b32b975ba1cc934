// One page of the worklist. Every text is set as text, never as HTML; the server is asked for a page, an order or an exam.

const tables = new WeakMap();

function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

const DRAW = {
  text: (value) => element("td", value),
  wide: (value) => Object.assign(element("td", value, "wide"), { title: value }),
  done: (value) => element("td", value, "done"),
  tag: (value) => { const cell = element("td"); cell.append(element("span", value, `tag ${value}`)); return cell; },
  share: (value) => {
    const cell = element("td", value === null ? "—" : "");
    if (value === null) return cell;
    const share = element("span", "", "share");
    const bar = element("i");
    bar.style.setProperty("--part", `${value}%`);
    share.append(bar, element("span", `${value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)} %`));
    cell.append(share);
    return cell;
  },
};

class Rows {
  constructor(root) {
    this.root = root;
    this.one = (selector) => root.querySelector(selector);
    this.onKey = (event) => this.key(event);
    root.querySelectorAll("[data-turn]").forEach((button) => button.addEventListener("click", () => this.turn(button.dataset.turn)));
  }

  show(data, tell) {
    this.tell = tell;
    this.data = data;
    const heads = data.columns.map(({ name, order, help }) => {
      const head = element("th", order ? "" : name);
      head.scope = "col";
      if (help) head.title = help;
      if (order) {
        const button = element("button", name);
        button.addEventListener("click", () => tell("order", order));
        head.append(button);
        if (order === data.order) head.setAttribute("aria-sort", "descending");
      }
      return head;
    });
    this.one("thead tr").replaceChildren(...heads);
    const lines = data.rows.map(({ token, cells }, place) => {
      const line = element("tr");
      line.append(...cells.map((value, at) => DRAW[data.columns[at].kind](value)));
      line.addEventListener("click", () => this.open(place));
      return line;
    });
    this.one("tbody").replaceChildren(...lines);
    const { begin, total } = data;
    this.one(".where").textContent = `${(begin + 1).toLocaleString("en")}–${(begin + lines.length).toLocaleString("en")} of ${total.toLocaleString("en")}`;
    for (const name of ["first", "previous"]) this.one(`[data-turn=${name}]`).disabled = begin === 0;
    for (const name of ["next", "last"]) this.one(`[data-turn=${name}]`).disabled = begin + lines.length >= total;
    this.one(".search").hidden = !data.search;
    this.one(".frame").scrollTop = 0;
    this.at = -1;
    this.root.dataset.shown = data.shown;
  }

  turn(name) {
    if (!this.one(`[data-turn=${name}]`).disabled) this.tell("turn", name);
  }

  open(place) {
    const row = this.data.rows[place];
    if (row) this.tell("open", row.token);
  }

  move(step) {
    const lines = this.one("tbody").rows;
    lines[this.at]?.classList.remove("here");
    this.at = Math.max(0, Math.min(lines.length - 1, this.at + step));
    lines[this.at].classList.add("here");
    lines[this.at].scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const from = event.composedPath()[0];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (from.closest?.("input, textarea, select, [contenteditable], [role=dialog], [role=listbox], [role=combobox]")) return;
    const onButton = from.tagName === "BUTTON" || from.tagName === "A";
    const acts = {
      ArrowDown: () => this.move(1), j: () => this.move(1), ArrowUp: () => this.move(-1), k: () => this.move(-1),
      ArrowRight: () => this.turn("next"), ArrowLeft: () => this.turn("previous"),
      "/": () => document.querySelector('input[aria-label="Search"]')?.focus(),
    };
    if (event.key === "Enter" && this.at >= 0 && !onButton) acts.Enter = () => this.open(this.at);
    if (!acts[event.key] || (onButton && event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    acts[event.key]();
  }
}

export default function mount({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".rows");
  if (!tables.has(root)) tables.set(root, new Rows(root));
  const table = tables.get(root);
  const turn = (table.turns = (table.turns ?? 0) + 1);
  window.removeEventListener("keydown", table.onKey);
  window.addEventListener("keydown", table.onKey);
  if (table.root.dataset.shown !== data.shown) table.show(data, setTriggerValue);
  table.tell = setTriggerValue;
  return () => { if (table.turns === turn) window.removeEventListener("keydown", table.onKey); };
}

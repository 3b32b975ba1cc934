// A tour of the page for a first-time reader: one thing at a time, lit where it stands. It runs in the browser alone; a
// step whose thing is not on the page is left out. Begun on one page it goes on at the next one that has steps.

const PENDING = "workbench-tour"; // in this tab alone: which page's part comes next
const GUIDES = new Map(); // page → its guide: a rerun may mount the component anew, and the tour goes on
const FOLLOWED = ["resize", "scroll"];

function part(tag, className, words) {
  const made = document.createElement(tag);
  made.className = className;
  if (words) made.textContent = words;
  return made;
}

function found(selector) {
  // «host >>> inner»: the inner thing stands in the shadow root of what the host holds.
  const [outer, inner] = selector.split(" >>> ");
  const host = document.querySelector(outer);
  if (!inner || !host) return host;
  return [...host.querySelectorAll("*")].map((one) => one.shadowRoot?.querySelector(inner)).find(Boolean) ?? null;
}

class Guide {
  constructor() {
    this.begin = part("button", "begin");
    this.begin.type = "button";
    this.begin.addEventListener("click", () => this.start());
    this.place = () => this.light();
    this.onKey = (event) => this.key(event);
  }

  show(data, root) {
    this.data = data;
    if (this.begin.parentNode !== root) root.append(this.begin);
    this.begin.textContent = data.first ? "First time here? Take the two-minute tour" : "Tour of this page";
    this.begin.classList.toggle("first", data.first);
    if (sessionStorage.getItem(PENDING) === data.page && !this.sheet) this.start(); // began on the page before
  }

  start() {
    this.end();
    sessionStorage.removeItem(PENDING);
    this.sheet = part("div", "workbench-tour");
    this.sheet.setAttribute("role", "dialog");
    this.sheet.setAttribute("aria-modal", "true");
    this.sheet.setAttribute("aria-label", "Tour");
    this.hole = part("div", "hole");
    this.card = part("div", "card");
    this.title = part("h3", "");
    this.words = part("p", "");
    this.words.setAttribute("aria-live", "polite");
    this.count = part("span", "count");
    this.back = this.button("Back", () => this.go(-1));
    this.next = this.button("Next", () => this.go(1));
    this.next.classList.add("primary");
    const row = part("div", "row");
    row.append(this.count, this.button("End the tour", () => this.end()), this.back, this.next);
    this.card.append(this.title, this.words, row);
    const style = part("style", "", this.data.style);
    this.sheet.append(style, this.hole, this.card);
    document.body.append(this.sheet);
    // The page's own keys are off meanwhile: a digit must not grade an eye that the sheet covers.
    document.documentElement.dataset.tour = this.data.page;
    window.addEventListener("keydown", this.onKey, true);
    FOLLOWED.forEach((name) => window.addEventListener(name, this.place, true));
    this.step = null;
    this.go(1);
  }

  button(words, press) {
    const made = part("button", "", words);
    made.type = "button";
    made.addEventListener("click", press);
    return made;
  }

  // Parts of a page come late: what is there is looked up at each step.
  go(move) {
    const { steps, then } = this.data;
    const there = steps.filter(({ where }) => !where || found(where));
    const at = there.indexOf(this.step) + move;
    if (at >= there.length) {
      if (then) sessionStorage.setItem(PENDING, then);
      return this.end();
    }
    this.step = there[Math.max(at, 0)];
    const { title, words, where } = this.step;
    this.title.textContent = title;
    this.words.textContent = words;
    this.count.textContent = `${Math.max(at, 0) + 1} of ${there.length}`;
    this.back.disabled = at <= 0;
    this.next.textContent = at === there.length - 1 ? "Done" : "Next";
    if (where) found(where)?.scrollIntoView({ block: "nearest" });
    this.light();
    this.next.focus({ preventScroll: true });
  }

  // The lit thing may be drawn anew or scrolled: it is looked for each time.
  light() {
    const { where } = this.step;
    const box = where ? found(where)?.getBoundingClientRect() : null;
    const [wide, high] = [window.innerWidth, window.innerHeight];
    const lit = box ?? { left: wide / 2, top: high / 2, width: 0, height: 0 };
    Object.assign(this.hole.style, {
      left: `${lit.left - 6}px`, top: `${lit.top - 6}px`, width: `${lit.width + 12}px`, height: `${lit.height + 12}px`,
    });
    const { offsetWidth, offsetHeight } = this.card;
    const below = lit.top + lit.height + 18;
    const above = lit.top - offsetHeight - 18;
    let [left, top] = [lit.left, below + offsetHeight < high ? below : above];
    if (!box) [left, top] = [(wide - offsetWidth) / 2, (high - offsetHeight) / 2];
    else if (top < 8) { // too tall for either side: beside it, else over it
      const right = lit.left + lit.width + 18;
      left = right + offsetWidth < wide ? right : lit.left - offsetWidth - 18;
      top = lit.top + 24;
      if (left < 8) left = lit.left + 24;
    }
    this.card.style.left = `${Math.max(8, Math.min(left, wide - offsetWidth - 8))}px`;
    this.card.style.top = `${Math.max(8, Math.min(top, high - offsetHeight - 8))}px`;
  }

  key(event) {
    if (event.key === "Escape") this.end();
    else if (event.key === "ArrowRight") this.go(1);
    else if (event.key === "ArrowLeft") this.go(-1);
    else if (event.key === "Tab" || event.key === "Enter" || event.key === " ") return this.hold(event);
    event.preventDefault();
    event.stopPropagation();
  }

  // Tab stays within the card.
  hold(event) {
    event.stopPropagation();
    const buttons = [...this.card.querySelectorAll("button:not(:disabled)")];
    const at = buttons.indexOf(document.activeElement);
    if (event.key !== "Tab") {
      if (at < 0) event.preventDefault();
      return;
    }
    event.preventDefault();
    buttons[(at + (event.shiftKey ? -1 : 1) + buttons.length) % buttons.length].focus();
  }

  end() {
    if (!this.sheet) return;
    window.removeEventListener("keydown", this.onKey, true);
    FOLLOWED.forEach((name) => window.removeEventListener(name, this.place, true));
    delete document.documentElement.dataset.tour;
    this.sheet.remove();
    this.sheet = null;
    this.begin.focus({ preventScroll: true });
  }
}

export default function tour({ data, parentElement }) {
  if (!GUIDES.has(data.page)) GUIDES.set(data.page, new Guide());
  const guide = GUIDES.get(data.page);
  const turn = (guide.turn = (guide.turn ?? 0) + 1);
  guide.show(data, parentElement);
  // Left for good only if it is not shown again at once.
  return () => setTimeout(() => { if (guide.turn === turn) guide.end(); }, 500);
}

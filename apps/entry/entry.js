// Grades by keyboard, and the time that a reader was at work. Digits choose in the field that is marked and go on to the
// next one; the viewer takes no digit. Nothing is kept here: each key presses the page's own button.

const AWAY_AFTER = 30; // seconds without a hand on mouse or keys
const TOLD_EVERY = 20;
const FORM = ".st-key-entry";
const TOUCHES = ["pointermove", "pointerdown", "keydown", "wheel"];
const keepers = new WeakMap();

class Keeper {
  constructor() {
    this.place = this.seconds = this.told = 0;
    this.touched = Date.now();
    this.onKey = (event) => this.key(event);
    this.onTouch = () => { this.touched = Date.now(); };
    this.onPress = (event) => { if (event.target.closest?.(`${FORM} .stButton`)) this.tell(); };
    // The page may draw its fields after this component, or anew: the mark goes with the field, not with the element.
    this.drawn = new MutationObserver(() => this.markSoon());
  }

  wake() {
    if (this.clock) return;
    window.addEventListener("keydown", this.onKey, true);
    window.addEventListener("pointerdown", this.onPress, true);
    TOUCHES.forEach((name) => window.addEventListener(name, this.onTouch, { passive: true, capture: true }));
    this.drawn.observe(document.body, { childList: true, subtree: true });
    this.clock = setInterval(() => this.tick(), 1000);
  }

  sleep() {
    clearInterval(this.clock);
    this.clock = null;
    this.drawn.disconnect();
    window.removeEventListener("keydown", this.onKey, true);
    window.removeEventListener("pointerdown", this.onPress, true);
    TOUCHES.forEach((name) => window.removeEventListener(name, this.onTouch, { capture: true }));
    this.mark(-1);
  }

  show(data, tell) {
    this.wake();
    if (this.data?.draft !== data.draft) {
      this.place = 0;
      this.seconds = this.told = 0;
    }
    this.data = data;
    this.setActive = tell;
    this.markSoon();
  }

  tick() {
    if (document.visibilityState !== "visible" || Date.now() - this.touched > AWAY_AFTER * 1000) return;
    this.seconds += 1;
    if (this.seconds - this.told >= TOLD_EVERY) this.tell();
  }

  tell() {
    if (this.seconds === this.told) return;
    this.told = this.seconds;
    this.setActive({ draft: this.data.draft, seconds: this.seconds });
  }

  groups() {
    return [...document.querySelectorAll(`${FORM} [data-testid="stButtonGroup"]`)];
  }

  markSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.clock) this.mark(this.place);
    });
  }

  mark(place) {
    this.groups().forEach((group, number) => group.toggleAttribute("data-here", number === place));
  }

  // One place beyond the last field none is marked: a digit too many must not write over the first one.
  move(step) {
    const count = this.data.fields.length + 1;
    this.place = (this.place + step + count) % count;
    this.mark(this.place);
    this.groups()[this.place]?.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    if (document.documentElement.dataset.tour) return; // the tour covers the form
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") this.tell();
    if (event.ctrlKey || event.metaKey || event.altKey || !this.data) return;
    const target = event.composedPath()[0];
    if (target instanceof HTMLElement && (target.isContentEditable || target.matches("textarea, select, input:not([type=range])"))) return;
    if (event.key.toLowerCase() === "j") return this.move(event.shiftKey ? -1 : 1);
    const choice = this.data.fields[this.place]?.[event.key];
    if (choice === undefined) return;
    const button = this.groups()[this.place]?.querySelectorAll("button")[choice];
    if (!button) return;
    event.preventDefault();
    const chosen = button.getAttribute("aria-checked") === "true" || /Active/.test(button.getAttribute("data-testid") ?? button.getAttribute("kind") ?? "");
    if (!chosen) button.click();
    this.move(1);
  }
}

export default function entry({ data, parentElement, setStateValue }) {
  if (!keepers.has(parentElement)) keepers.set(parentElement, new Keeper());
  const keeper = keepers.get(parentElement);
  const turn = (keeper.turn = (keeper.turn ?? 0) + 1);
  keeper.show(data, (value) => setStateValue("active", value));
  return () => { if (keeper.turn === turn) keeper.sleep(); };
}

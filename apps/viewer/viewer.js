// Two eyes in one view. Everything here runs in the browser; the page hears only of a finished stroke.

const LARGEST_ZOOM = 40;
const MODES = ["blend", "contour", "regions", "steady", "beside"];
const HINTS = {
  pan: "",
  point: "Click to mark",
  outline: "Click corners or draw around it; Enter, double click or the first corner closes it",
  ruler: "Drag from end to end",
  grid: "Click the fovea; drag across the disc to set its diameter",
};
const FRESH = {
  zoom: 1, x: 0.5, y: 0.5, green: false, clahe: false, contrast: 100, brightness: 100, map: false, compare: "", other: false,
  tool: "pan", grid: false, eye: "OD",
};
const KEPT = { mirrored: false, mode: "blend", opacity: 70, kind: "microaneurysm" }; // a reader's habits go with them
const viewers = new WeakMap();

class Viewer {
  constructor(root) {
    this.root = root;
    this.one = (selector) => root.querySelector(selector);
    this.state = { ...FRESH, ...KEPT };
    this.pointers = new Map();
    this.onKey = (event) => this.key(event);
    this.onLeave = () => this.letGo();
    root.querySelectorAll("[data-act]").forEach((button) => button.addEventListener("click", () => this.act(button.dataset.act)));
    root.querySelectorAll("[data-tool]").forEach((button) => button.addEventListener("click", () => this.use(button.dataset.tool)));
    root.querySelectorAll("[data-set]").forEach((input) => input.addEventListener("input", () => this.set(input)));
    root.addEventListener("pointerdown", () => { this.byKeys = false; }, true);
    root.addEventListener("pointerleave", () => this.send());
    root.addEventListener("focusout", (event) => { if (!root.contains(event.relatedTarget)) this.send(); });
    this.sizes = new ResizeObserver(() => this.measure());
    this.bar = this.one(".bar-of-map");
    this.one(".legend .lines").append(...legendOf());
    document.addEventListener("fullscreenchange", () => this.measure());
  }

  wake() {
    window.addEventListener("keydown", this.onKey, true);
    window.addEventListener("keyup", this.onKey, true);
    window.addEventListener("blur", this.onLeave);
  }

  sleep() {
    this.send();
    window.removeEventListener("keydown", this.onKey, true);
    window.removeEventListener("keyup", this.onKey, true);
    window.removeEventListener("blur", this.onLeave);
    this.lanes?.forEach((lane) => lane.end());
    this.panes?.forEach((pane) => pane.close());
    this.lanes = this.panes = this.data = null;
  }

  file([begins, length]) {
    return this.files.subarray(begins, begins + length);
  }

  async show(message, tell) {
    this.wake();
    this.setValue = tell;
    const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
    const length = view.getUint32(4, true);
    const data = JSON.parse(new TextDecoder().decode(message.subarray(8, 8 + length)));
    if (this.data?.version === data.version) return;
    this.send();
    this.files = message.subarray(8 + length);
    const another = this.data?.draft !== data.draft || this.data?.exam !== data.exam;
    if (another) {
      this.drawing = new Drawing(data.drawn);
      const kept = Object.fromEntries(Object.keys(KEPT).map((name) => [name, this.state[name]]));
      this.state = { ...FRESH, ...kept, grid: Object.keys(data.drawn.grids).length > 0 }; // every exam is first seen clean
    }
    this.data = data;
    this.bounds();
    if (another) this.fit();
    this.codes = new Map(data.kinds.map(({ kind, code }) => [kind, code]));
    this.stroke = null;
    delete this.root.dataset.ready;
    this.lanes ??= data.panes.map(() => new PixelLane());
    this.lanes.forEach((lane) => lane.ask({ work: "forget" }));
    this.panes?.forEach((pane) => pane.close());
    this.panes = data.panes.map((pane) => new Pane(pane, this));
    this.one(".panes").replaceChildren(...this.panes.map((pane) => pane.root));
    (this.panes.findLast((pane) => pane.data.shown) ?? this.panes[1]).stage.append(this.bar);
    this.choices();
    this.sizes.disconnect();
    this.panes.forEach((pane) => {
      this.sizes.observe(pane.stage);
      this.listen(pane);
    });
    this.measure();
    await this.load(this.panes);
  }

  async load(shown) {
    await Promise.all(shown.map((pane, place) => Promise.resolve(pane.load(this.lanes[place])).catch(() => {
      pane.stage.append(element("div", "empty", "This photograph cannot be shown."));
    })));
    if (this.panes !== shown || !this.data) return;
    this.draw();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      if (this.panes !== shown || !this.data) return;
      this.root.dataset.ready = this.data.exam;
      if (this.lists.compare.length > 1) this.decodePair(this.lists.compare[1]); // so that the first flicker does not wait
    }));
  }

  // The lists to choose from: they come from the data, so they are filled with text alone.
  choices() {
    const { data, state } = this;
    const fill = (name, options) => this.one(`[data-set=${name}]`).replaceChildren(...options.map(([value, words]) => {
      const option = element("option", "", words);
      option.value = value;
      return option;
    }));
    const methods = new Map(data.panes.flatMap((pane) => pane.maps.map(({ method, name }) => [method, name])));
    const names = [...new Set(data.panes.flatMap((pane) => pane.comparisons.map(({ name }) => name)))];
    fill("method", [...methods]);
    fill("compare", [["", "nothing"], ...names.map((name) => [name, name])]);
    fill("kind", data.kinds.map(({ kind, name }) => [kind, name]));
    this.lists = { method: [...methods.keys()], compare: ["", ...names], kind: data.kinds.map(({ kind }) => kind), mode: MODES };
    // Until a reader has chosen, the first method that has a map to show: a withheld one would look like none at all.
    const maps = data.panes.flatMap((pane) => pane.maps);
    const shown = [...methods.keys()].find((name) => maps.some(({ method, file }) => method === name && file !== null));
    state.method = methods.has(state.method) ? state.method : shown ?? this.lists.method[0];
    const photographed = data.panes.filter((pane) => pane.shown);
    state.eye = (photographed.find((pane) => pane.eye === state.eye) ?? photographed[0] ?? data.panes[0]).eye;
    this.one(".maps").hidden = methods.size === 0;
    this.one(".compares").hidden = names.length === 0;
    this.root.querySelectorAll(".marking").forEach((part) => { part.hidden = !data.can_draw; });
  }

  measure() {
    this.panes?.forEach((pane) => { pane.size = [pane.stage.clientWidth, pane.stage.clientHeight]; });
    this.draw();
  }

  draw() {
    if (!this.panes || this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      if (!this.panes) return; // put to sleep before the frame came
      this.panes.forEach((pane) => pane.draw());
      this.controls();
    });
  }

  controls() {
    const { state, drawing } = this;
    const active = this.panes.find((pane) => pane.data.shown) ?? this.panes[0];
    setText(this.one(".zoom"), `${Math.round(100 * active.scale())} %`);
    const things = drawing.things();
    const { past, future, chosen } = drawing;
    const moved = { x: 0, y: 0, zoom: 0 }; // changes with every frame, and no button with it
    const key = JSON.stringify([{ ...state, ...moved }, past.length, future.length, chosen, things.length, Boolean(this.stroke), this.byKeys]);
    if (key === this.controlled) return;
    this.controlled = key;
    const press = (name, on) => this.one(name).setAttribute("aria-pressed", String(on));
    for (const name of ["green", "clahe", "map", "other", "mirrored", "grid"]) press(`[data-act=${name}]`, state[name]);
    for (const tool of Object.keys(HINTS)) press(`button[data-tool=${tool}]`, tool === state.tool);
    this.root.querySelectorAll("[data-set]").forEach((input) => {
      const value = String(state[input.dataset.set] ?? "");
      if (input.value !== value) input.value = value;
    });
    this.root.dataset.tool = state.tool;
    this.one(".of-map").hidden = this.bar.hidden = this.one(".caution").hidden = !state.map;
    this.one("[data-act=other]").disabled = !state.compare;
    this.one("[data-act=undo]").disabled = !drawing.past.length;
    this.one("[data-act=redo]").disabled = !drawing.future.length;
    this.one("[data-act=delete]").disabled = !drawing.chosen && !this.stroke;
    this.panes.forEach((pane) => pane.root.classList.toggle("active", this.aims(pane)));
    this.colourBar();
    this.listMarks(things);
  }

  colourBar() {
    const layer = this.panes.map((pane) => pane.map()).find((map) => map instanceof HeatMap);
    const number = (value) => Number(value.toPrecision(2)).toString();
    const say = (name, words) => setText(this.bar.querySelector(name), words);
    this.bar.hidden ||= !layer; // a reason stands in its place
    const steady = this.state.mode === "steady" && layer?.draws;
    this.bar.querySelector(".scale").hidden = Boolean(steady);
    this.bar.querySelector(".agreement").hidden = !steady;
    if (layer) {
      say(".solid", `matters in nearly all of ${layer.draws} draws`);
      say(".hatched", "flickers");
      say(".low", `against −${number(layer.largest)}`);
      say(".high", `+${number(layer.largest)} for ${layer.about}`);
      say(".units", steady ? `yellow for ${layer.about}, blue against` : layer.units);
    }
    setText(this.one(".contours"), this.state.mode === "contour" ? "Contours at 25, 50 and 75 % of the largest smoothed value." : "");
  }

  listMarks(things) {
    const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
    const marks = this.drawing.now.marks.length;
    setText(this.one(".list summary"), `${counted(marks, "mark")}, ${counted(things.length - marks, "measurement")}`);
    this.one(".list").hidden = things.length === 0;
    const names = new Map(this.data.kinds.map(({ kind, name }) => [kind, name]));
    this.one(".list .items").replaceChildren(...things.map((one) => {
      const pane = this.panes.find(({ eye }) => eye === one.eye);
      const what = one.points
        ? `${names.get(one.kind)}, ${one.points.length > 1 ? "outline" : "point"}`
        : rulerWords(one.start, one.end, pane, this.drawing);
      const item = element("button", "item", `${one.eye} · ${what}`);
      item.type = "button";
      item.setAttribute("aria-pressed", String(one.id === this.drawing.chosen));
      item.addEventListener("click", () => this.choose(one));
      return item;
    }));
  }

  // A word on what was done; after a while, what the tool is for stands there again.
  tell(words) {
    setText(this.one(".status"), words);
    clearTimeout(this.told);
    this.told = setTimeout(() => setText(this.one(".status"), HINTS[this.state.tool]), 4000);
  }

  // The largest smoothed value of both eyes: contours of one eye are comparable with the other's.
  contourScale() {
    const maps = this.panes.map((pane) => pane.map()).filter((map) => map instanceof HeatMap && map.canvas);
    return Math.max(0, ...maps.map((map) => map.smooth().largest));
  }

  set(input) {
    const name = input.dataset.set;
    this.state[name] = input.type === "range" ? Number(input.value) : input.value;
    if (name === "compare") this.compared();
    if (name === "kind" && !["point", "outline"].includes(this.state.tool)) this.use("point");
    if (input.matches("select")) this.root.focus({ preventScroll: true }); // so that keys are heard again
    this.draw();
  }

  nudge(name, by) {
    const { min, max } = this.one(`[data-set=${name}]`);
    this.state[name] = Math.max(Number(min), Math.min(Number(max), this.state[name] + by));
    this.tell(`${name[0].toUpperCase()}${name.slice(1)} ${this.state[name]} %`);
  }

  cycle(name, by = 1) {
    const list = this.lists[name];
    if (!list.length) return;
    this.state[name] = list[(list.indexOf(this.state[name]) + by + list.length) % list.length];
    if (name === "compare") this.compared();
    if (name === "kind") this.tell(this.data.kinds.find(({ kind }) => kind === this.state.kind).name);
  }

  compared() {
    this.state.other = false;
    this.decodePair(this.state.compare);
  }

  decodePair(name) {
    for (const pane of this.panes) {
      const pair = pane.pairs?.get(name);
      for (const photograph of [pair?.before, pair?.after]) photograph?.open(() => this.draw()).catch(() => {});
    }
  }

  hold(event) {
    if (event.repeat) return;
    if (!this.state.compare && this.lists.compare.length > 1) this.cycle("compare");
    if (!this.state.compare) this.tell("There is no other picture to compare with");
    else this.state.other = this.held = true;
  }

  letGo() {
    if (!this.held) return;
    this.state.other = this.held = false;
    this.draw();
  }

  act(name) {
    const { state, drawing } = this;
    const acts = {
      in: () => this.zoomAt(1.25),
      out: () => this.zoomAt(0.8),
      fit: () => this.fit(),
      actual: () => this.zoomAt(1 / (this.panes.find((pane) => pane.eye === state.eye) ?? this.panes[0]).scale()),
      plain: () => Object.assign(state, { green: false, clahe: false, contrast: 100, brightness: 100 }),
      map: () => { state.map = !state.map && Boolean(state.method); },
      other: () => { state.other = Boolean(state.compare) && !state.other; },
      undo: () => this.changed(drawing.undo() && "Undone"),
      redo: () => this.changed(drawing.redo() && "Done again"),
      delete: () => this.takeBack(),
      full: () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen?.()),
      keys: () => this.legend(this.one(".legend").hidden),
    };
    if (acts[name]) acts[name]();
    else state[name] = !state[name];
    if (name === "grid" && state.grid && !drawing.now.grids[state.eye]) this.use("grid");
    if (name === "mirrored") this.tell(state.mirrored ? "The left eye moves as in a mirror: nose to nose" : "Both eyes move the same way");
    this.draw();
  }

  legend(open) {
    this.one(".legend").hidden = !open;
    this.one("[data-act=keys]").setAttribute("aria-expanded", String(open));
    (open ? this.one(".legend button") : this.root).focus({ preventScroll: true });
  }

  use(tool) {
    if (!this.data.can_draw && (tool === "point" || tool === "outline")) return;
    this.state.tool = tool;
    this.stroke = null;
    if (tool === "grid") this.state.grid = true;
    this.tell(HINTS[tool]);
    this.draw();
  }

  escape() {
    if (!this.one(".legend").hidden) this.legend(false);
    else if (this.stroke) this.stroke = null;
    else this.use("pan");
  }

  key(event) {
    if (!this.root.isConnected || !this.data || document.documentElement.dataset.tour) return;
    if (event.type === "keyup") {
      if (event.key.toLowerCase() === "h") this.letGo();
      if (event.key === " ") this.spaced = false;
      return;
    }
    const target = event.composedPath()[0];
    const near = this.root.contains(target);
    const name = keyName(event);
    if (taken(event, target) || event.altKey || (!near && (!this.data.keys_everywhere || NEAR.has(event.key)))) return;
    if (name === " " && near) this.spaced = true;
    const action = ACTIONS.get(name);
    if (!action && name !== " ") return;
    if (!this.data.can_draw && DRAWING_KEYS.has(name)) return;
    if (name.startsWith("Ctrl") && !near) return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit runs the page again on R
    this.byKeys = true;
    action?.(this, event);
    this.draw();
  }

  arrow(event) {
    const step = (event.shiftKey ? 0.25 : 0.06) / this.state.zoom;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const [dx, dy] = ways[event.key];
    const pane = this.panes.find(({ eye }) => eye === this.state.eye);
    this.move(pane?.mirrored() ? -dx * step : dx * step, dy * step);
    if (this.stroke && !this.stroke.held) this.stroke.hover = this.middle(this.stroke.pane);
  }

  otherEye() {
    const other = this.panes.find((pane) => pane.eye !== this.state.eye && pane.data.shown);
    if (other) this.state.eye = other.eye;
    this.tell(`Working on the ${this.state.eye === "OD" ? "right" : "left"} eye`);
  }

  move(dx, dy) {
    const { state } = this;
    state.x = Math.max(0, Math.min(1, state.x + dx));
    state.y = Math.max(0, Math.min(1, state.y + dy));
  }

  // Keeps the point under the cursor where it is: u and v are its place in the square that the model saw.
  zoomAt(factor, pane, x, y) {
    const { state } = this;
    const zoom = Math.max(1, Math.min(LARGEST_ZOOM, state.zoom * factor));
    if (pane) {
      const [u, v] = pane.pointAt(x, y);
      const view = pane.viewAt(x);
      const grown = (view.side * zoom) / state.zoom;
      const centre = u - (x - view.start - view.width / 2) / grown;
      Object.assign(state, { x: pane.mirrored() ? 1 - centre : centre, y: v - (y - view.height / 2) / grown });
    }
    state.zoom = zoom;
    if (zoom === 1) this.fit();
    this.move(0, 0);
  }

  // The part of the square that both photographs fill between them: where a camera cuts the disc, the square is empty.
  bounds() {
    const boxes = this.data.panes.filter(({ shown }) => shown).map(({ shown: { crop: [x, y, side], width, height } }) => (
      [-x / side, -y / side, (width - x) / side, (height - y) / side].map((share) => Math.max(0, Math.min(1, share)))
    ));
    const [left, top] = [0, 1].map((at) => Math.min(...boxes.map((box) => box[at])));
    const [right, bottom] = [2, 3].map((at) => Math.max(...boxes.map((box) => box[at])));
    this.seen = right > left && bottom > top ? { left, top, right, bottom } : { left: 0, top: 0, right: 1, bottom: 1 };
  }

  fit() {
    const { left, top, right, bottom } = this.seen;
    Object.assign(this.state, { zoom: 1, x: (left + right) / 2, y: (top + bottom) / 2 });
  }
}

export default function mount({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".viewer");
  if (!viewers.has(root)) viewers.set(root, new Viewer(root));
  const viewer = viewers.get(root);
  const turn = (viewer.turn = (viewer.turn ?? 0) + 1);
  viewer.show(data, (drawn) => setStateValue("drawn", drawn));
  return () => { if (viewer.turn === turn) viewer.sleep(); };
}

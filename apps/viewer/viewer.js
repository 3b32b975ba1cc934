// Two eyes in one view: linked zoom and pan, red-free, contrast, brightness, heat map. Everything here runs in the
// browser; nothing is sent back, so no slider reruns the page. Text from data is only ever set as textContent.

const LARGEST_ZOOM = 40;
const AGAINST = [47, 123, 255]; // blue and yellow: told apart by colour-blind readers, and against an orange fundus
const FOR = [255, 226, 61];
const viewers = new WeakMap();

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

async function decode(base64, type) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type }), { colorSpaceConversion: "none" });
}

function canvasOf(bitmap, paint) {
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  paint(image.data);
  context.putImageData(image, 0, 0);
  return canvas;
}

function greenAlone(pixels) {
  for (let at = 0; at < pixels.length; at += 4) pixels[at] = pixels[at + 2] = pixels[at + 1];
}

// 128 is zero and stays transparent; the further from it, the more opaque.
function signedColours(pixels) {
  for (let at = 0; at < pixels.length; at += 4) {
    const share = Math.max(-1, Math.min(1, (pixels[at] - 128) / 127));
    const colour = share < 0 ? AGAINST : FOR;
    pixels[at] = colour[0];
    pixels[at + 1] = colour[1];
    pixels[at + 2] = colour[2];
    pixels[at + 3] = Math.round(255 * Math.sqrt(Math.abs(share)));
  }
}

class Pane {
  constructor(eye, viewer) {
    this.eye = eye;
    this.viewer = viewer;
    this.maps = {};
    this.root = element("section", "pane");
    this.root.dataset.eye = eye.eye;
    const title = element("div", "title");
    title.append(element("b", "", eye.title), element("span", "quiet", eye.about || ""));
    this.stage = element("div", "stage");
    this.photograph = element("canvas", "photograph");
    this.overlay = element("canvas", "overlay");
    this.corner = element("div", "corner");
    this.stage.append(this.photograph, this.overlay, this.corner);
    if (!eye.jpeg) {
      const empty = element("div", "empty");
      empty.append(element("b", "", eye.status || "missing"), element("span", "", eye.reason || ""));
      this.stage.append(empty);
    }
    this.root.append(title, this.stage, this.answer());
  }

  answer() {
    const box = element("div", "answer");
    const answer = this.eye.answer;
    if (!answer) {
      if (this.eye.no_answer) box.append(element("div", "quiet", this.eye.no_answer));
      return box;
    }
    const headline = element("div", "headline");
    headline.append(element("b", "", answer.grade), element("span", "", answer.referable));
    box.append(headline, element("div", "quiet", answer.uncertainty));
    const bars = element("div", "bars");
    answer.bars.forEach((bar) => {
      const chosen = bar.chosen ? " chosen" : "";
      const track = element("div", `track${chosen}`);
      const fill = element("div", "fill");
      fill.style.width = `${100 * bar.share}%`;
      track.append(fill);
      if (bar.low !== null) {
        const span = element("div", "span");
        span.style.left = `${100 * bar.low}%`;
        span.style.width = `${Math.max(0.4, 100 * (bar.high - bar.low))}%`;
        track.append(span);
      }
      track.title = bar.title;
      bars.append(element("span", chosen, bar.label), track, element("span", `number${chosen}`, bar.words));
    });
    box.append(bars);
    return box;
  }

  async load() {
    if (!this.eye.jpeg) return;
    this.colour = await decode(this.eye.jpeg, "image/jpeg");
  }

  source() {
    if (!this.viewer.state.redfree) return this.colour;
    this.green ??= this.colour && canvasOf(this.colour, greenAlone);
    return this.green;
  }

  async map(method) {
    const png = this.viewer.data.maps?.[method]?.[this.eye.eye];
    if (png && !(method in this.maps)) {
      this.maps[method] = null;
      this.maps[method] = canvasOf(await decode(png, "image/png"), signedColours);
      this.viewer.draw();
    }
    return this.maps[method];
  }

  // From the square that the model saw to the stage: both panes share zoom and centre, so they share this too.
  geometry() {
    const { zoom, x, y } = this.viewer.state;
    const width = this.stage.clientWidth;
    const height = this.stage.clientHeight;
    const side = Math.min(width, height) * zoom;
    return { width, height, side, left: width / 2 - x * side, top: height / 2 - y * side };
  }

  draw() {
    const { state } = this.viewer;
    const { width, height, side, left, top } = this.geometry();
    this.stage.dataset.transform = `${side.toFixed(3)} ${left.toFixed(3)} ${top.toFixed(3)}`;
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.photograph, this.overlay]) {
      const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    }
    const source = this.source();
    this.paint(this.photograph, (context) => {
      if (!source) return;
      const [cropX, cropY, cropSide] = this.eye.crop;
      const scale = side / cropSide;
      context.imageSmoothingEnabled = scale * ratio < 6;
      context.drawImage(source, left - cropX * scale, top - cropY * scale, source.width * scale, source.height * scale);
    });
    this.photograph.style.filter = `contrast(${state.contrast}%) brightness(${state.brightness}%)`;
    this.drawMap(side, left, top);
  }

  drawMap(side, left, top) {
    const { state, data } = this.viewer;
    const map = state.map ? this.maps[state.method] : null;
    if (state.map && map === undefined) this.map(state.method);
    this.overlay.style.opacity = state.map ? state.opacity / 100 : 0;
    this.paint(this.overlay, (context) => map && context.drawImage(map, left, top, side, side));
    const reason = state.map && data.withheld?.[this.eye.eye]?.[state.method];
    this.corner.textContent = reason ? `Map withheld: ${reason}` : "";
  }

  paint(canvas, drawing) {
    const context = canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingQuality = "high";
    drawing(context);
  }
}

class Viewer {
  constructor(root) {
    this.root = root;
    this.one = (selector) => root.querySelector(selector);
    this.pointers = new Map();
    this.onKey = (event) => this.key(event);
    root.querySelectorAll("[data-act]").forEach((button) => {
      button.addEventListener("click", () => this.act(button.dataset.act));
    });
    root.querySelectorAll("[data-set]").forEach((input) => {
      input.addEventListener("input", () => {
        this.state[input.dataset.set] = input.type === "range" ? Number(input.value) : input.value;
        this.draw();
      });
    });
    new ResizeObserver(() => this.draw()).observe(this.one(".panes"));
    document.addEventListener("fullscreenchange", () => this.draw());
  }

  wake() {
    document.addEventListener("keydown", this.onKey);
  }

  sleep() {
    document.removeEventListener("keydown", this.onKey);
  }

  async show(data) {
    this.wake();
    if (this.data?.exam === data.exam && this.data?.version === data.version) return;
    const kept = this.data?.exam === data.exam ? this.state : null;
    this.data = data;
    const methods = Object.keys({ ...data.maps, ...data.withheld?.OD, ...data.withheld?.OS });
    // Every exam is first seen clean: whole, in colour, without a map.
    this.state = kept ?? {
      zoom: 1, x: 0.5, y: 0.5, redfree: false, contrast: 100, brightness: 100, map: false, method: methods[0], opacity: 70,
    };
    this.one(".maps").hidden = methods.length === 0;
    this.one("[data-set=method]").replaceChildren(
      ...methods.map((method) => {
        const option = element("option", "", data.method_names?.[method] ?? method);
        option.value = method;
        return option;
      }),
    );
    delete this.root.dataset.ready;
    this.panes = data.eyes.map((eye) => new Pane(eye, this));
    this.one(".panes").replaceChildren(...this.panes.map((pane) => pane.root));
    this.panes.forEach((pane) => this.listen(pane));
    this.draw();
    const shown = this.panes;
    await Promise.all(shown.map((pane) => pane.load().catch(() => { pane.corner.textContent = "This photograph cannot be shown."; })));
    if (this.panes !== shown) return;
    this.draw();
    requestAnimationFrame(() => { this.root.dataset.ready = data.exam; });
  }

  draw() {
    if (!this.panes || this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.panes.forEach((pane) => pane.draw());
      this.controls();
    });
  }

  controls() {
    const { state } = this;
    this.one(".zoom").textContent = `${Math.round(100 * state.zoom)} %`;
    this.one("[data-act=redfree]").setAttribute("aria-pressed", String(state.redfree));
    this.one("[data-act=map]").setAttribute("aria-pressed", String(state.map));
    this.one("[data-set=opacity]").disabled = !state.map;
    this.one(".legend").hidden = this.one(".caution").hidden = !state.map;
    for (const name of ["contrast", "brightness", "opacity", "method"]) {
      const input = this.one(`[data-set=${name}]`);
      if (state[name] !== undefined && input.value !== String(state[name])) input.value = state[name];
    }
  }

  act(name) {
    const { state } = this;
    if (name === "in") this.zoomAt(1.25);
    if (name === "out") this.zoomAt(0.8);
    if (name === "fit") Object.assign(state, { zoom: 1, x: 0.5, y: 0.5, contrast: 100, brightness: 100 });
    if (name === "redfree") state.redfree = !state.redfree;
    if (name === "map" && state.method) state.map = !state.map;
    if (name === "full") {
      if (document.fullscreenElement) document.exitFullscreen();
      else this.root.requestFullscreen?.();
    }
    if (name === "keys") {
      const keys = this.one(".keys");
      keys.hidden = !keys.hidden;
      this.one("[data-act=keys]").setAttribute("aria-expanded", String(!keys.hidden));
    }
    this.draw();
  }

  key(event) {
    const target = event.composedPath()[0];
    const typing = target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !this.root.isConnected) return;
    const { state } = this;
    const step = 0.08 / state.zoom;
    const pressed = {
      "+": () => this.act("in"), "=": () => this.act("in"), "-": () => this.act("out"), "−": () => this.act("out"),
      0: () => this.act("fit"), g: () => this.act("redfree"), m: () => this.act("map"), f: () => this.act("full"),
      "?": () => this.act("keys"), n: () => this.nextMethod(),
      "[": () => { state.opacity = Math.max(0, state.opacity - 10); },
      "]": () => { state.opacity = Math.min(100, state.opacity + 10); },
    };
    // Arrows also turn pages and move between the answers of a form: they pan only when the viewer was touched last.
    if (this.root.contains(target)) {
      Object.assign(pressed, {
        ArrowLeft: () => this.move(-step, 0), ArrowRight: () => this.move(step, 0),
        ArrowUp: () => this.move(0, -step), ArrowDown: () => this.move(0, step),
      });
    }
    const action = pressed[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
    this.draw();
  }

  nextMethod() {
    const methods = [...this.one("[data-set=method]").options].map((option) => option.value);
    this.state.method = methods[(methods.indexOf(this.state.method) + 1) % methods.length];
  }

  move(dx, dy) {
    const { state } = this;
    state.x = Math.max(0, Math.min(1, state.x + dx));
    state.y = Math.max(0, Math.min(1, state.y + dy));
  }

  // Keeps the point under the cursor where it is: u and v are its place in the square that the model saw.
  zoomAt(factor, pane, offsetX, offsetY) {
    const { state } = this;
    const zoom = Math.max(1, Math.min(LARGEST_ZOOM, state.zoom * factor));
    if (pane) {
      const { side, left, top, width, height } = pane.geometry();
      const [u, v] = [(offsetX - left) / side, (offsetY - top) / side];
      const grown = (side * zoom) / state.zoom;
      Object.assign(state, { x: u - (offsetX - width / 2) / grown, y: v - (offsetY - height / 2) / grown });
    }
    state.zoom = zoom;
    if (zoom === 1) Object.assign(state, { x: 0.5, y: 0.5 });
    this.move(0, 0);
  }

  listen(pane) {
    const { stage } = pane;
    const place = (event) => {
      const box = stage.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), pane, ...place(event));
      this.draw();
    }, { passive: false });
    stage.addEventListener("dblclick", () => this.act("fit"));
    stage.addEventListener("pointerdown", (event) => {
      this.root.focus({ preventScroll: true });
      stage.setPointerCapture(event.pointerId);
      stage.classList.add("held");
      this.pointers.set(event.pointerId, place(event));
    });
    stage.addEventListener("pointermove", (event) => this.drag(event, pane, place(event)));
    for (const name of ["pointerup", "pointercancel"]) {
      stage.addEventListener(name, (event) => {
        this.pointers.delete(event.pointerId);
        stage.classList.remove("held");
      });
    }
  }

  drag(event, pane, now) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
    this.pointers.set(event.pointerId, now);
    if (others.length === 1) {
      const [other] = others;
      const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
      this.zoomAt(distance(now) / Math.max(1, distance(before)), pane, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else {
      const { side } = pane.geometry();
      this.move((before[0] - now[0]) / side, (before[1] - now[1]) / side);
    }
    this.draw();
  }
}

export default function mount({ data, parentElement }) {
  const root = parentElement.querySelector(".viewer");
  if (!viewers.has(root)) viewers.set(root, new Viewer(root));
  const viewer = viewers.get(root);
  viewer.show(data);
  return () => viewer.sleep();
}

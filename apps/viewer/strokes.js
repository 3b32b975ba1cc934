// The pointer and the strokes: pan, zoom and every tool. A finished stroke is told to the page, an unfinished one never.

const CLICK = 5; // screen pixels: less is a click, more is a drag
const REACH = 10; // screen pixels around a mark in which a click means it
const SEND_AFTER = 400; // milliseconds without a stroke, so that a quick run of marks reruns the page once
const FREEHAND = 4; // screen pixels between the corners of an outline drawn in one go

Object.assign(Viewer.prototype, {
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
    stage.addEventListener("dblclick", () => {
      if (this.stroke?.tool === "outline") this.finish();
      else if (this.state.tool === "pan") this.act("fit");
    });
    stage.addEventListener("pointerdown", (event) => this.down(event, pane, place(event)));
    stage.addEventListener("pointermove", (event) => this.drag(event, pane, place(event)));
    stage.addEventListener("pointerup", (event) => this.up(event, pane, place(event)));
    stage.addEventListener("pointercancel", (event) => {
      this.pointers.delete(event.pointerId);
      this.stroke = null;
      this.draw();
    });
  },

  down(event, pane, at) {
    this.root.focus({ preventScroll: true });
    pane.stage.setPointerCapture(event.pointerId);
    if (pane.data.shown) this.state.eye = pane.eye;
    const draws = event.button === 0 && !this.spaced && this.pointers.size === 0;
    this.pointers.set(event.pointerId, { at, from: at, draws, moved: false });
    pane.stage.classList.add("held");
    if (this.pointers.size > 1 && this.stroke?.held) this.stroke = null; // a second finger: it was a pinch
    if (draws) this.begin(pane, at);
    this.draw();
  },

  // Whether a point lies on the photograph: nothing is drawn beside it.
  onPhotograph(pane, [u, v]) {
    const { shown, square } = pane.data;
    if (!shown) return false;
    const [left, top, side] = shown.crop;
    const [x, y] = [left + u * side, top + v * side];
    return square[2] > 0 && x >= 0 && y >= 0 && x <= shown.width && y <= shown.height;
  },

  begin(pane, at) {
    const { tool } = this.state;
    const point = pane.pointAt(...at);
    if (!["outline", "ruler", "grid"].includes(tool) || !this.onPhotograph(pane, point)) return;
    if (this.stroke && this.stroke.pane !== pane) this.stroke = null;
    if (!this.stroke) this.stroke = { pane, tool, points: [point], held: true, fresh: true };
    else if (tool === "outline") this.corner(point);
    else Object.assign(this.stroke, { hover: point, held: true });
    if (this.stroke) this.stroke.last = at;
  },

  // Adds a corner to an outline; the first one again closes it.
  corner(point) {
    const { stroke } = this;
    const [{ side }] = stroke.pane.views();
    const [first] = stroke.points;
    if (stroke.points.length > 2 && Math.hypot(point[0] - first[0], point[1] - first[1]) * side < REACH) this.finish();
    else {
      stroke.points.push(point);
      stroke.held = true;
    }
  },

  drag(event, pane, now) {
    const pointer = this.pointers.get(event.pointerId);
    const { stroke } = this;
    if (stroke?.pane === pane && (!pointer || stroke.held)) this.trace(stroke, pane, now, Boolean(pointer));
    if (!pointer) return;
    pointer.moved ||= Math.hypot(now[0] - pointer.from[0], now[1] - pointer.from[1]) > CLICK;
    const before = pointer.at;
    pointer.at = now;
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, one]) => one.at);
    if (other) {
      const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
      this.zoomAt(distance(now) / Math.max(1, distance(before)), pane, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (!stroke?.held && pointer.moved) {
      const { side } = pane.viewAt(now[0]);
      this.move(((before[0] - now[0]) / side) * (pane.mirrored() ? -1 : 1), (before[1] - now[1]) / side);
    } else if (!stroke?.held) {
      pointer.at = before; // not yet a drag: what it moved so far is made up for when it becomes one
    }
    this.draw();
  },

  trace(stroke, pane, now, held) {
    const point = pane.pointAt(...now);
    stroke.hover = this.onPhotograph(pane, point) ? point : stroke.hover;
    const far = Math.hypot(now[0] - stroke.last[0], now[1] - stroke.last[1]);
    if (held && stroke.tool === "outline" && stroke.hover && far > (stroke.freehand ? FREEHAND : CLICK) && stroke.points.length < 1990) {
      Object.assign(stroke, { freehand: true, last: now });
      stroke.points.push(stroke.hover);
    }
    this.draw();
  },

  up(event, pane, at) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    pane.stage.classList.remove("held");
    if (!pointer) return;
    const point = pane.pointAt(...at);
    if (this.stroke?.held) this.release(this.stroke, pointer.moved);
    else if (pointer.draws && !pointer.moved) {
      if (this.state.tool === "point") this.put(pane, point);
      else if (this.state.tool === "pan") this.drawing.chosen = this.drawing.at(pane.eye, point, REACH / pane.viewAt(at[0]).side);
    }
    this.draw();
  },

  release(stroke, moved) {
    const second = !stroke.fresh;
    Object.assign(stroke, { held: false, fresh: false });
    if (stroke.tool === "outline") {
      if (stroke.freehand) this.finish();
    } else if (stroke.tool === "grid" && !moved && !second) this.put(stroke.pane, stroke.points[0]);
    else if ((moved || second) && stroke.hover) {
      stroke.points.push(stroke.hover);
      this.finish();
    }
  },

  middle(pane) {
    const { x, y } = this.state;
    return [pane.mirrored() ? 1 - x : x, y];
  },

  // Enter: what a click at the cross would do.
  enter(event) {
    const pane = this.panes.find(({ eye }) => eye === this.state.eye);
    const { tool } = this.state;
    const point = this.middle(pane);
    if (tool === "pan" || !this.onPhotograph(pane, point)) return;
    const { stroke } = this;
    if (tool === "point" || (tool === "grid" && !event.shiftKey && !stroke)) this.put(pane, point);
    else if (!stroke || stroke.pane !== pane) this.stroke = { pane, tool, points: [point], held: false, keyed: true, last: [0, 0] };
    else if (tool === "outline") {
      const last = stroke.points.at(-1);
      const again = last[0] === point[0] && last[1] === point[1];
      if (again || !stroke.keyed) this.finish(); // Enter twice at one place, or after clicked corners, closes it
      else stroke.points.push(point);
    } else {
      stroke.points.push(point);
      this.finish();
    }
  },

  // One click's worth: a point mark, or the fovea.
  put(pane, point) {
    if (!this.onPhotograph(pane, point)) return;
    this.stroke = null;
    const { tool, kind } = this.state;
    if (tool === "grid") {
      this.drawing.place(pane.eye, { fovea: point });
      this.changed("Fovea set; drag across the disc (keyboard: Shift Enter on both edges) to set its diameter");
    } else {
      this.drawing.add("marks", { eye: pane.eye, kind, points: [point] });
      this.changed(`${this.data.kinds.find((one) => one.kind === kind).name} marked, ${pane.eye}`);
    }
  },

  finish() {
    const { stroke } = this;
    this.stroke = null;
    const { pane, tool, points } = stroke;
    const spread = Math.max(...points.map(([x, y]) => Math.hypot(x - points[0][0], y - points[0][1])));
    if (!spread) return this.draw();
    if (tool === "outline") {
      const corners = points.filter(([x, y], place) => !place || x !== points[place - 1][0] || y !== points[place - 1][1]);
      if (corners.length < 3) return this.tell("An outline needs three corners");
      this.drawing.add("marks", { eye: pane.eye, kind: this.state.kind, points: corners });
    } else if (tool === "ruler") {
      this.drawing.add("measurements", { eye: pane.eye, start: points[0], end: points[1] });
    } else {
      const [[ax, ay], [bx, by]] = points;
      this.drawing.place(pane.eye, { disc: [(ax + bx) / 2, (ay + by) / 2], disc_diameter: Math.hypot(bx - ax, by - ay) });
    }
    return this.changed({ outline: "Outline marked", ruler: "Measured", grid: "Disc set" }[tool]);
  },

  takeBack() {
    if (this.stroke) {
      this.stroke.points.pop();
      if (!this.stroke.points.length) this.stroke = null;
    } else this.changed(this.drawing.remove() && "Deleted");
  },

  choose(one) {
    this.drawing.chosen = one.id;
    this.state.eye = one.eye;
    const [u, v] = one.points?.[0] ?? one.start;
    const pane = this.panes.find(({ eye }) => eye === one.eye);
    if (this.state.zoom > 1) Object.assign(this.state, { x: pane.mirrored() ? 1 - u : u, y: v });
    this.draw();
  },

  chooseNext(by) {
    const things = this.drawing.things();
    if (!things.length) return this.tell("Nothing is marked yet");
    const place = things.findIndex(({ id }) => id === this.drawing.chosen);
    return this.choose(things[place < 0 ? (by > 0 ? 0 : things.length - 1) : (place + by + things.length) % things.length]);
  },

  // Whether the cross that Enter acts on is shown in a pane.
  aims(pane) {
    return this.byKeys && this.state.tool !== "pan" && this.state.eye === pane.eye && Boolean(pane.data.shown);
  },

  changed(words) {
    if (!words) return;
    this.tell(words);
    this.unsent = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), SEND_AFTER);
    this.draw();
  },

  send() {
    if (!this.unsent || !this.data) return;
    clearTimeout(this.timer);
    if (this.stroke?.held || this.pointers.size) { // never while a hand draws
      this.timer = setTimeout(() => this.send(), SEND_AFTER);
      return;
    }
    this.unsent = false;
    this.setValue({ draft: this.data.draft, ...this.drawing.now });
  },
});

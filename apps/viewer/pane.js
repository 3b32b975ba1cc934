// One eye: its photograph, its map and what is drawn on it, on three canvases; below it, the model's answer.
// Text from data is only ever set as textContent.

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

class Pane {
  constructor(data, viewer) {
    Object.assign(this, { data, viewer, eye: data.eye, maps: new Map(), size: [0, 0] });
    this.root = element("section", "pane");
    this.root.dataset.eye = data.eye;
    this.root.setAttribute("aria-label", data.title);
    const title = element("div", "title");
    this.zoomWords = element("span", "quiet");
    title.append(element("b", "", data.title), element("span", "quiet about", data.about), this.zoomWords);
    this.stage = element("div", "stage");
    this.stage.setAttribute("role", "img");
    this.label = element("div", "label");
    this.corner = element("div", "corner");
    this.layers = ["photograph", "overlay", "drawn"].map((name) => element("canvas", name));
    this.stage.append(...this.layers, this.label, this.corner);
    if (!data.shown) {
      const empty = element("div", "empty");
      empty.append(element("b", "", data.status || "missing"), element("span", "", data.reason));
      this.stage.append(empty);
    }
    this.root.append(title, this.stage, this.answer());
  }

  answer() {
    const box = element("div", "answer");
    const { answer } = this.data;
    if (!answer) {
      if (this.data.no_answer) box.append(element("div", "quiet", this.data.no_answer));
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

  // Decodes the photograph; what is compared with it and its maps wait until they are asked for.
  load(lane) {
    const photograph = (shown) => shown && new Photograph(lane, shown, this.viewer.file(shown.file));
    this.own = photograph(this.data.shown);
    this.pairs = new Map(this.data.comparisons.map(({ name, before, after }) => (
      [name, { before: photograph(before) ?? this.own, after: photograph(after) }]
    )));
    for (const layer of this.data.maps) {
      const [map, agreement] = [layer.file, layer.agreement].map((place) => place && this.viewer.file(place));
      this.maps.set(layer.method, map ? new HeatMap(layer, map, agreement) : layer);
    }
    return this.own?.open(() => this.viewer.draw());
  }

  // Lets go of the pixels at once: two 15-megapixel pyramids are 160 MB.
  close() {
    const pairs = [...(this.pairs?.values() ?? [])];
    for (const photograph of new Set([this.own, ...pairs.flatMap(({ before, after }) => [before, after])])) photograph?.close();
  }

  // The photograph that stands here now; with a comparison on, one of its two.
  photograph() {
    const { compare, other } = this.viewer.state;
    const pair = compare && this.pairs?.get(compare);
    if (!pair) return this.own;
    if (other && (!pair.after || pair.after.count)) return pair.after;
    if (other) pair.after.open(() => this.viewer.draw()); // until it is decoded, the first one stays, under its own name
    return pair.before;
  }

  map() {
    const { map, method } = this.viewer.state;
    return map ? this.maps.get(method) : null;
  }

  mirrored() {
    return this.viewer.state.mirrored && this.eye === "OS";
  }

  // Where the square that the model saw lies in each view: both panes share zoom and centre, so they share this too.
  views() {
    const { zoom, x, y, mode } = this.viewer.state;
    const [width, height] = this.size;
    const beside = this.map() && mode === "beside";
    const wide = beside ? (width - 4) / 2 : width;
    const { left, top, right, bottom } = this.viewer.seen;
    const side = Math.min(wide / (right - left), height / (bottom - top)) * zoom;
    const u = this.mirrored() ? 1 - x : x;
    return (beside ? [[0, false], [wide + 4, true]] : [[0, true]]).map(([start, withMap]) => (
      { start, withMap, width: wide, height, side, left: start + wide / 2 - u * side, top: height / 2 - y * side }
    ));
  }

  viewAt(x) {
    const views = this.views();
    return views.findLast((view) => x >= view.start) ?? views[0];
  }

  // From the stage's pixels to shares of the square, and back.
  pointAt(x, y) {
    const view = this.viewAt(x);
    return [(x - view.left) / view.side, (y - view.top) / view.side];
  }

  // Screen pixels per pixel of the photograph as taken.
  scale() {
    return (this.views()[0].side * ratioOfScreen()) / this.data.square[2];
  }

  draw() {
    const [width, height] = this.size;
    if (!width) return;
    const ratio = ratioOfScreen();
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    for (const canvas of this.layers) if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const views = this.views();
    const [{ side, left, top }] = views;
    this.stage.dataset.transform = `${side.toFixed(3)} ${left.toFixed(3)} ${top.toFixed(3)}`;
    this.drawPhotograph(views, ratio);
    this.drawMap(views, ratio);
    this.drawDrawing(views, ratio);
    this.say();
  }

  drawPhotograph(views, ratio) {
    const { state } = this.viewer;
    const photograph = this.photograph();
    const plain = state.contrast === 100 && state.brightness === 100;
    const filter = plain ? "" : `contrast(${state.contrast}%) brightness(${state.brightness}%)`;
    const [canvas] = this.layers;
    if (canvas.style.filter !== filter) canvas.style.filter = filter;
    if (photograph && !photograph.count) photograph.open(() => this.viewer.draw());
    this.look = "";
    this.paint(0, views, ratio, (context, { side, left, top }) => {
      if (!photograph) return;
      const [cropX, cropY, cropSide] = photograph.crop;
      const scale = side / cropSide;
      const source = photograph.source(scale * ratio, state, () => this.viewer.draw());
      if (!source) return;
      this.look = source.look;
      this.stage.dataset.level = source.level;
      context.imageSmoothingEnabled = scale * ratio < 6; // far in, the camera's own pixels
      context.drawImage(source.bitmap, left - cropX * scale, top - cropY * scale, photograph.width * scale, photograph.height * scale);
    });
    this.stage.dataset.look = this.look;
  }

  drawMap(views, ratio) {
    const { state } = this.viewer;
    const map = this.map();
    const canvas = this.layers[1];
    const opacity = state.map ? String(state.opacity / 100) : "0";
    if (canvas.style.opacity !== opacity) canvas.style.opacity = opacity;
    if (map instanceof HeatMap && !map.canvas) map.open(() => this.viewer.draw());
    const shown = map instanceof HeatMap && map.canvas;
    if (!shown && !this.mapStands) return;
    this.mapStands = shown;
    this.paint(1, views, ratio, (context, view) => {
      if (!shown || !view.withMap) return;
      if (state.mode === "contour") this.drawContours(context, map, view);
      else if (state.mode === "steady" && map.levels) context.drawImage(map.steady(), view.left, view.top, view.side, view.side);
      else if (state.mode === "steady") return;
      else if (state.mode === "regions") context.drawImage(map.regions(), view.left, view.top, view.side, view.side);
      else context.drawImage(map.canvas, view.left, view.top, view.side, view.side);
    });
  }

  drawContours(context, map, { left, top, side }) {
    context.translate(left, top);
    context.scale(side, side);
    for (const { path, level, colour } of map.contours(this.viewer.contourScale())) {
      for (const [style, width] of [[HALO, 3.6], [css(colour), 1 + 2 * level]]) {
        Object.assign(context, { strokeStyle: style, lineWidth: width / side });
        context.stroke(path);
      }
    }
  }

  drawDrawing(views, ratio) {
    const { drawing, state } = this.viewer;
    const stroke = this.viewer.stroke?.pane === this ? this.viewer.stroke : null;
    const aim = this.viewer.aims(this);
    const things = drawing.things().filter((one) => one.eye === this.eye);
    const any = things.length || stroke || aim || state.grid;
    if (!any && !this.drawingStands) return;
    this.drawingStands = any;
    this.paint(2, views, ratio, (context, view) => {
      const ink = new Ink(context, ([u, v]) => [view.left + u * view.side, view.top + v * view.side]);
      if (state.grid) ink.grid(this.eye, drawing.now.grids[this.eye], drawing.disc(this.eye), view.side);
      for (const one of things) {
        const chosen = one.id === drawing.chosen;
        if (one.points) ink.mark(one, this.viewer.codes.get(one.kind) ?? "?", chosen);
        else ink.ruler(one.start, one.end, rulerWords(one.start, one.end, this, drawing), chosen);
      }
      if (stroke) this.drawStroke(ink, stroke, drawing, view.side);
      if (aim) this.drawAim(context, view);
    });
  }

  drawStroke(ink, { tool, points, hover }, drawing, side) {
    const ends = hover ? [...points, hover] : points;
    if (tool === "outline") {
      ink.path(ends, CHOSEN, { dash: [5, 5] });
      ink.circle(points[0], 5, CHOSEN);
    } else if (ends.length > 1) {
      if (tool === "ruler") ink.ruler(ends[0], ends[1], rulerWords(ends[0], ends[1], this, drawing), true);
      else if (tool === "grid") {
        const [[ax, ay], [bx, by]] = ends;
        ink.circle([(ax + bx) / 2, (ay + by) / 2], (Math.hypot(bx - ax, by - ay) / 2) * side, CHOSEN, [4, 5]);
      }
    }
  }

  // Where Enter would put a point: the middle of the view.
  drawAim(context, { start, width, height }) {
    const [x, y] = [start + width / 2, height / 2];
    new Ink(context, null).stroke((line) => {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        line.moveTo(x + 5 * dx, y + 5 * dy);
        line.lineTo(x + 16 * dx, y + 16 * dy);
      }
    }, CHOSEN);
  }

  paint(layer, views, ratio, drawing) {
    const canvas = this.layers[layer];
    const context = canvas.getContext("2d", { alpha: layer > 0 });
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (layer > 0) context.clearRect(0, 0, canvas.width, canvas.height);
    else context.fillRect(0, 0, canvas.width, canvas.height);
    for (const view of views) {
      context.save();
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.beginPath();
      context.rect(view.start, 0, view.width, view.height);
      context.clip();
      drawing(context, view);
      context.restore();
    }
  }

  // The label says at all times what is looked at; the corner says what cannot be.
  say() {
    const { state, drawing } = this.viewer;
    const photograph = this.photograph();
    const compared = state.compare && this.pairs?.get(state.compare);
    const tile = photograph && Math.round(photograph.tile);
    const clahe = `CLAHE, tiles of ${tile} px`;
    const looks = { green: "red-free", "colour clahe": clahe, "green clahe": `red-free, ${clahe}` };
    const label = photograph ? [photograph.label, looks[this.look]].filter(Boolean).join(" · ") : "";
    setText(this.label, label);
    this.label.classList.toggle("other", Boolean(compared && photograph && photograph === compared.after));
    const lines = [];
    if (this.data.shown && this.data.status) lines.push([this.data.status, this.data.reason].filter(Boolean).join(": "));
    if (compared && !photograph) lines.push(`${state.compare}: no photograph of this eye`);
    const map = this.map();
    if (state.map && this.data.shown && !(map instanceof HeatMap)) {
      lines.push(`Map withheld: ${map?.withheld || "none was made of this eye"}`);
    }
    if (map instanceof HeatMap && state.mode === "steady" && !map.agreement) {
      lines.push("Made without draws: what is stable and what flickers is not known");
    }
    if (state.grid && this.data.shown) lines.push(this.gridWords(drawing));
    setText(this.corner, lines.join("\n"));
    const scale = this.scale();
    setText(this.zoomWords, this.data.shown ? `${Math.round(100 * scale)} % of native` : "");
    const spoken = [this.data.title, label, ...lines].filter(Boolean).join(". ");
    if (this.spoken !== spoken) this.stage.setAttribute("aria-label", (this.spoken = spoken));
  }

  gridWords(drawing) {
    const place = drawing.now.grids[this.eye];
    const disc = drawing.disc(this.eye).assumed ? "disc assumed 1/7 of the field: drag across it to measure" : "disc as measured";
    if (!place?.fovea && !place?.disc) return "ETDRS grid: choose Place grid, then click the fovea and drag across the disc";
    return `ETDRS grid${place.fovea ? "" : " on the disc"}, approximate: 1 disc diameter = 1.5 mm; ${disc}`;
  }
}

const ratioOfScreen = () => window.devicePixelRatio || 1;

function setText(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

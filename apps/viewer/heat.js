// Heat maps as colours and as contours. Blue against, yellow for: told apart by colour-blind readers and against an
// orange fundus; nothing is drawn where a map says nothing.

const AGAINST = [64, 140, 255];
const FOR = [255, 230, 70];
const CONTOURS = [0.25, 0.5, 0.75]; // of the largest smoothed value of both eyes

const FINER = 4; // a hatched pixel of the map is so many across
const HATCH = 7; // of these finer pixels, from line to line
const [STEADY, FLICKERS] = [255, 128]; // levels of the picture of agreement

const css = (colour, alpha = 1) => `rgba(${colour.join(", ")}, ${alpha})`;

class HeatMap {
  constructor(layer, bytes, agreement) {
    const { name, largest, units, about, draws } = layer;
    Object.assign(this, { name, largest, units, about, draws });
    this.blob = new Blob([bytes], { type: "image/png" });
    this.agreement = agreement && new Blob([agreement], { type: "image/png" });
  }

  open(changed) {
    const decoded = (blob) => blob && createImageBitmap(blob, { colorSpaceConversion: "none" });
    this.opened ??= Promise.all([this.blob, this.agreement].map(decoded)).then(([bitmap, agreement]) => {
      if (agreement) this.levels = levelsOf(agreement);
      this.paint(bitmap);
      changed();
    });
    return this.opened;
  }

  paint(bitmap) {
    const { width, height } = bitmap;
    this.canvas = document.createElement("canvas");
    Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const image = context.getImageData(0, 0, width, height);
    this.shares = new Float32Array(width * height);
    for (let pixel = 0; pixel < this.shares.length; pixel++) {
      const share = Math.max(-1, Math.min(1, (image.data[4 * pixel] - 128) / 127)); // 128 is zero
      image.data.set(share < 0 ? AGAINST : FOR, 4 * pixel);
      image.data[4 * pixel + 3] = Math.round(255 * Math.sqrt(Math.abs(share)));
      this.shares[pixel] = share;
    }
    context.putImageData(image, 0, 0);
    this.size = [width, height];
  }

  // Single pixels have no outline: contours are those of the smoothed map.
  smooth() {
    if (this.smoothMap) return this.smoothMap;
    const [width, height] = this.size;
    const radius = Math.max(1, Math.round(width / 48));
    const values = smoothed(smoothed(this.shares, width, height, radius), width, height, radius);
    this.smoothMap = { values, largest: values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) };
    return this.smoothMap;
  }

  // The hottest twentieth of the field by the smoothed map, as where the workbench says *looked at*; nothing else is drawn.
  regions() {
    if (this.top) return this.top;
    const [width, height] = this.size;
    const { values } = this.smooth();
    const inside = values.filter((_, pixel) => (
      Math.hypot((pixel % width) + 0.5 - width / 2, Math.floor(pixel / width) + 0.5 - height / 2) < 0.49 * width
    ));
    const cutoff = Math.max(inside.sort()[Math.floor(0.95 * inside.length)], 1e-6);
    this.top = document.createElement("canvas");
    Object.assign(this.top, { width, height });
    const context = this.top.getContext("2d");
    const image = context.createImageData(width, height);
    values.forEach((value, pixel) => { if (value >= cutoff) image.data.set([...FOR, 190], 4 * pixel); });
    context.putImageData(image, 0, 0);
    return this.top;
  }

  // What matters in nearly all draws solid, what matters in some of them hatched; null for a map of no draws.
  steady() {
    if (this.drawn || !this.levels) return this.drawn ?? null;
    const [width, height] = this.size.map((side) => side * FINER);
    this.drawn = document.createElement("canvas");
    Object.assign(this.drawn, { width, height });
    const context = this.drawn.getContext("2d");
    const image = context.createImageData(width, height);
    for (let y = 0, at = 0; y < height; y++) {
      const row = Math.floor(y / FINER) * this.size[0];
      for (let x = 0; x < width; x++, at += 4) {
        const pixel = row + Math.floor(x / FINER);
        const level = this.levels[pixel];
        if (level < FLICKERS) continue;
        const line = (x + y) % HATCH;
        const colour = this.shares[pixel] < 0 ? AGAINST : FOR;
        if (level === STEADY) image.data.set([...colour, 205], at);
        else if (line < 2) image.data.set([...colour, 255], at);
        else if (line === 2) image.data.set([0, 0, 0, 190], at); // so that a line stands out on a bright fundus, too
      }
    }
    context.putImageData(image, 0, 0);
    return this.drawn;
  }

  // Lines of equal value in shares of the square, made once per scale.
  contours(scale) {
    if (this.lines?.scale === scale) return this.lines.paths;
    const [width, height] = this.size;
    const { values } = this.smooth();
    const paths = [];
    for (const sign of scale > 0 ? [1, -1] : []) {
      for (const level of CONTOURS) {
        const path = new Path2D();
        traceLevel(path, values, width, height, sign, level * scale);
        paths.push({ path, level, colour: sign > 0 ? FOR : AGAINST });
      }
    }
    this.lines = { scale, paths };
    return paths;
  }
}

function levelsOf(bitmap) {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height).data.filter((_, at) => at % 4 === 0);
}

function smoothed(values, width, height, radius) {
  const across = boxed(values, width, height, 1, width, radius);
  return boxed(across, height, width, width, 1, radius);
}

// Running means along lines of `length` values `step` apart; `lines` of them, `jump` apart.
function boxed(values, length, lines, step, jump, radius) {
  const out = new Float32Array(values.length);
  for (let line = 0; line < lines; line++) {
    const start = line * jump;
    const at = (place) => values[start + Math.max(0, Math.min(length - 1, place)) * step];
    let sum = 0;
    for (let place = -radius; place <= radius; place++) sum += at(place);
    for (let place = 0; place < length; place++) {
      out[start + place * step] = sum / (2 * radius + 1);
      sum += at(place + radius + 1) - at(place - radius);
    }
  }
  return out;
}

// Marching squares: in each cell, the ends of the lines lie where its sides cross the level.
function traceLevel(path, values, width, height, sign, level) {
  const value = (x, y) => sign * values[y * width + x] - level;
  for (let y = 0; y + 1 < height; y++) {
    for (let x = 0; x + 1 < width; x++) {
      const inside = (value(x, y) >= 0) + (value(x + 1, y) >= 0) + (value(x + 1, y + 1) >= 0) + (value(x, y + 1) >= 0);
      if (inside === 0 || inside === 4) continue;
      const corners = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]];
      const found = corners.map(([cx, cy]) => value(cx, cy));
      const ends = [];
      for (let side = 0; side < 4; side++) {
        const [a, b] = [found[side], found[(side + 1) % 4]];
        if (a < 0 === b < 0) continue;
        const share = a / (a - b);
        const [[ax, ay], [bx, by]] = [corners[side], corners[(side + 1) % 4]];
        ends.push([(ax + (bx - ax) * share + 0.5) / width, (ay + (by - ay) * share + 0.5) / height]);
      }
      for (let end = 0; end + 1 < ends.length; end += 2) {
        path.moveTo(...ends[end]);
        path.lineTo(...ends[end + 1]);
      }
    }
  }
}

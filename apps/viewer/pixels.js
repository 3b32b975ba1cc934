// Photographs as pixels. One worker per eye decodes, halves and changes them, so that the page never waits: a picture
// is a pyramid of halves, and a frame draws only the level that the screen can show.

const LOOK_TILES = 8; // CLAHE tiles along the square that the model saw
const LOOK_CLIP = 2; // as OpenCV's clipLimit

function pixelWorker() {
  const SMALLEST = 512; // a level below this side is not halved again
  const SENT = 2.5e6; // larger levels follow when they are asked for: to hand one over is to copy it
  const COUNTED = 1.5e6; // CLAHE counts its histograms on the first level with no more pixels than this
  const DARK = [6, 18]; // below the first value a pixel lies outside the fundus and stays as it is; above the second, all of it
  const pictures = new Map();
  let turn = 0;

  const canvasOf = (width, height) => {
    const context = new OffscreenCanvas(width, height).getContext("2d", { alpha: false, willReadFrequently: true });
    return context; // smoothing stays low: at exactly one half it is the mean of four pixels
  };

  async function open({ id, blob }) {
    const mine = turn;
    const whole = await createImageBitmap(blob);
    if (mine !== turn) throw new Error("another exam was opened meanwhile");
    const levels = [whole];
    while (Math.max(levels.at(-1).width, levels.at(-1).height) >= 2 * SMALLEST) {
      const last = levels.at(-1);
      const [width, height] = [Math.ceil(last.width / 2), Math.ceil(last.height / 2)];
      const context = canvasOf(width, height);
      context.drawImage(last, 0, 0, width, height);
      levels.push(context.canvas.transferToImageBitmap());
    }
    pictures.set(id, { levels, luts: new Map() });
    const ready = [...levels.keys()].filter((at) => levels[at].width * levels[at].height <= SENT || at === levels.length - 1);
    const copies = await Promise.all(ready.map((at) => createImageBitmap(levels[at])));
    return [{ count: levels.length, ready: ready.map((at, place) => [at, copies[place]]) }, copies];
  }

  // The tables of contrast-limited adaptive histogram equalisation (Zuiderveld 1994), with OpenCV's way of clipping:
  // one table of 256 per tile. Pixels outside the fundus are not counted; a tile without fundus borrows its neighbour's.
  function tablesOf(picture, look) {
    const key = `${look.green}`;
    if (picture.luts.has(key)) return picture.luts.get(key);
    const counted = picture.levels.find((level) => level.width * level.height <= COUNTED) ?? picture.levels.at(-1);
    const { width, height } = counted;
    const context = canvasOf(width, height);
    context.drawImage(counted, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const tile = (look.tile * width) / picture.levels[0].width;
    const [across, down] = [Math.ceil(width / tile - 0.01), Math.ceil(height / tile - 0.01)];
    const counts = new Uint32Array(across * down * 256);
    for (let y = 0, at = 0; y < height; y++) {
      const row = Math.min(down - 1, Math.floor(y / tile)) * across;
      for (let x = 0; x < width; x++, at += 4) {
        const r = data[at];
        const g = data[at + 1];
        const b = data[at + 2];
        if (r < DARK[1] && g < DARK[1] && b < DARK[1]) continue;
        const value = look.green ? g : (77 * r + 150 * g + 29 * b + 128) >> 8;
        counts[(row + Math.min(across - 1, Math.floor(x / tile))) * 256 + value]++;
      }
    }
    const tables = new Uint8Array(counts.length);
    const filled = [];
    for (let index = 0; index < across * down; index++) {
      const bins = counts.subarray(index * 256, index * 256 + 256);
      const total = bins.reduce((sum, count) => sum + count, 0);
      if (total < 0.02 * tile * tile) continue;
      tableOf(bins, total, look.clip, tables.subarray(index * 256, index * 256 + 256));
      filled.push(index);
    }
    for (let index = 0; index < across * down; index++) {
      if (filled.includes(index)) continue;
      const away = (other) => Math.hypot((other % across) - (index % across), Math.floor(other / across) - Math.floor(index / across));
      const from = filled.reduce((best, other) => (best < 0 || away(other) < away(best) ? other : best), -1);
      if (from < 0) for (let value = 0; value < 256; value++) tables[index * 256 + value] = value;
      else tables.copyWithin(index * 256, from * 256, from * 256 + 256);
    }
    const made = { tables, across, down };
    picture.luts.set(key, made);
    return made;
  }

  function tableOf(bins, total, clip, table) {
    const limit = Math.max(1, Math.floor((clip * total) / 256));
    let over = 0;
    for (let value = 0; value < 256; value++) {
      if (bins[value] > limit) {
        over += bins[value] - limit;
        bins[value] = limit;
      }
    }
    const each = Math.floor(over / 256);
    let rest = over - each * 256;
    for (let value = 0; value < 256; value++) bins[value] += each;
    const step = Math.max(1, rest ? Math.floor(256 / rest) : 1);
    for (let value = 0; value < 256 && rest > 0; value += step, rest--) bins[value]++;
    for (let value = 0, sum = 0; value < 256; value++) {
      sum += bins[value];
      table[value] = Math.min(255, Math.round((sum * 255) / total));
    }
  }

  // For each column or row: the tiles on both sides of it, and how near it is to the second.
  function between(length, tile, tiles) {
    const [low, high, share] = [new Int32Array(length), new Int32Array(length), new Float32Array(length)];
    for (let at = 0; at < length; at++) {
      const place = at / tile - 0.5;
      const first = Math.floor(place);
      share[at] = place - first;
      low[at] = Math.max(0, Math.min(tiles - 1, first));
      high[at] = Math.max(0, Math.min(tiles - 1, first + 1));
    }
    return { low, high, share };
  }

  function equalise(data, width, top, columns, rows, { tables, across }, green) {
    for (let at = 0; at < data.length; at += 4) {
      const pixel = at >> 2;
      const x = pixel % width;
      const y = top + ((pixel / width) | 0);
      const r = data[at];
      const g = data[at + 1];
      const b = data[at + 2];
      const brightest = Math.max(r, g, b);
      if (brightest <= DARK[0]) {
        if (green) data[at] = data[at + 2] = g;
        continue;
      }
      const value = green ? g : (77 * r + 150 * g + 29 * b + 128) >> 8;
      const upper = rows.low[y] * across;
      const lower = rows.high[y] * across;
      const before = columns.low[x];
      const after = columns.high[x];
      const share = columns.share[x];
      const above = tables[(upper + before) * 256 + value] * (1 - share) + tables[(upper + after) * 256 + value] * share;
      const below = tables[(lower + before) * 256 + value] * (1 - share) + tables[(lower + after) * 256 + value] * share;
      let change = above * (1 - rows.share[y]) + below * rows.share[y] - value;
      if (brightest < DARK[1]) change *= (brightest - DARK[0]) / (DARK[1] - DARK[0]);
      if (green) {
        data[at] = data[at + 1] = data[at + 2] = value + change;
      } else {
        // Half by adding and half by scaling: adding alone greys the colours, scaling alone burns the reds.
        const scale = 1 + (0.5 * change) / Math.max(1, value);
        data[at] = r * scale + 0.5 * change;
        data[at + 1] = g * scale + 0.5 * change;
        data[at + 2] = b * scale + 0.5 * change;
      }
    }
  }

  async function look({ id, level, look: wanted }) {
    const picture = pictures.get(id);
    const source = picture.levels[level];
    if (!wanted.green && !wanted.clahe) {
      const copy = await createImageBitmap(source);
      return [{ bitmap: copy }, [copy]];
    }
    const { width, height } = source;
    const context = canvasOf(width, height);
    context.drawImage(source, 0, 0);
    const tables = wanted.clahe ? tablesOf(picture, wanted) : null;
    const tile = (wanted.tile * width) / picture.levels[0].width;
    const columns = tables && between(width, tile, tables.across);
    const rows = tables && between(height, tile, tables.down);
    for (let top = 0; top < height; top += 256) { // in strips: a 15-megapixel picture is never held twice
      const strip = context.getImageData(0, top, width, Math.min(256, height - top));
      if (tables) equalise(strip.data, width, top, columns, rows, tables, wanted.green);
      else for (let at = 0; at < strip.data.length; at += 4) strip.data[at] = strip.data[at + 2] = strip.data[at + 1];
      context.putImageData(strip, 0, top);
    }
    const bitmap = context.canvas.transferToImageBitmap();
    return [{ bitmap }, [bitmap]];
  }

  function forget() {
    turn++;
    for (const { levels } of pictures.values()) levels.forEach((level) => level.close());
    pictures.clear();
    return [{}, []];
  }

  const works = { open, look, forget };
  self.onmessage = async ({ data }) => {
    try {
      const [answer, moved] = await works[data.work](data);
      self.postMessage({ ticket: data.ticket, answer }, moved);
    } catch (error) {
      self.postMessage({ ticket: data.ticket, failed: String(error) });
    }
  };
}

// The worker's code is this file's own text: nothing is fetched.
class PixelLane {
  constructor() {
    const address = URL.createObjectURL(new Blob([`(${pixelWorker})()`], { type: "text/javascript" }));
    this.worker = new Worker(address);
    URL.revokeObjectURL(address);
    this.waiting = new Map();
    this.tickets = 0;
    this.worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.waiting.get(data.ticket);
      this.waiting.delete(data.ticket);
      if (data.failed) reject(new Error(data.failed));
      else resolve(data.answer);
    };
  }

  ask(work) {
    const ticket = ++this.tickets;
    return new Promise((resolve, reject) => {
      this.waiting.set(ticket, { resolve, reject });
      this.worker.postMessage({ ...work, ticket });
    });
  }

  end() {
    this.worker.terminate();
  }
}

// One picture of an eye: its levels as they are, and the levels of the look that is on now.
class Photograph {
  constructor(lane, shown, bytes) {
    Object.assign(this, { lane, crop: shown.crop, label: shown.label, width: shown.width, height: shown.height });
    this.id = ++Photograph.count;
    this.blob = new Blob([bytes]); // JPEG, or a lossless PNG: the browser looks at the bytes
    this.plain = { key: "", levels: new Map(), asked: new Set() };
    this.looks = this.plain;
  }

  // Decodes once; `changed` is called when there is more to see.
  open(changed) {
    this.opened ??= this.lane.ask({ work: "open", id: this.id, blob: this.blob }).then(({ count, ready }) => {
      this.count = count;
      for (const [level, bitmap] of ready) this.plain.levels.set(level, bitmap);
      this.blob = null;
      changed();
    });
    return this.opened;
  }

  close() {
    for (const { levels } of [this.plain, this.looks]) {
      for (const bitmap of levels.values()) bitmap.close();
      levels.clear();
    }
    this.count = 0;
  }

  get tile() {
    return this.crop[2] / LOOK_TILES;
  }

  // What to draw at so many screen pixels per pixel: the level for it, or until that is there the nearest one, as it is
  // rather than in the look if the look has none yet.
  source(scale, look, changed) {
    if (!this.count) return null;
    const level = Math.max(0, Math.min(this.count - 1, Math.floor(Math.log2(1 / scale) + 0.02)));
    const key = look.green || look.clahe ? `${look.green ? "green" : "colour"}${look.clahe ? " clahe" : ""}` : "";
    if (key !== this.looks.key) {
      if (this.looks !== this.plain) for (const bitmap of this.looks.levels.values()) bitmap.close();
      this.looks = key ? { key, levels: new Map(), asked: new Set() } : this.plain;
    }
    if (!this.looks.levels.has(level)) this.request(level, look, changed);
    const { levels } = this.looks.levels.size ? this.looks : this.plain;
    const near = [...levels.keys()].sort((a, b) => Math.abs(a - level) - Math.abs(b - level))[0];
    return { bitmap: levels.get(near), level: near, look: levels === this.looks.levels ? key : "" };
  }

  request(level, look, changed) {
    const { looks } = this;
    for (const wanted of new Set([this.count - 1, level])) { // a coarse one is there in a moment
      if (looks.asked.has(wanted) || looks.levels.has(wanted)) continue;
      looks.asked.add(wanted);
      const order = { green: look.green, clahe: look.clahe, tile: this.tile, clip: LOOK_CLIP };
      this.lane.ask({ work: "look", id: this.id, level: wanted, look: order }).then(({ bitmap }) => {
        if (this.looks !== looks && looks !== this.plain) return bitmap.close();
        looks.levels.set(wanted, bitmap);
        return changed();
      }, () => {});
    }
  }
}
Photograph.count = 0;

// What a reader draws: marks, rulers, the place of the grid; all in shares of the eye's square. Every finished stroke
// is one step that can be undone. Nothing here is coloured by kind alone: a code stands beside each mark.

const ASSUMED_DISC = 1 / 7; // of the field: the median of the discs outlined in IDRiD's photographs
const RINGS = [1, 3, 6]; // millimetres across (ETDRS report 10)
const DISC_MILLIMETRES = 1.5; // the convention by which fundus photographs are measured
const INK = "#7fe9ff";
const CHOSEN = "#ffffff";
const HALO = "rgba(0, 0, 0, 0.85)";

class Drawing {
  constructor(opening) {
    this.now = { marks: opening.marks, measurements: opening.measurements, grids: opening.grids };
    this.past = [];
    this.future = [];
    this.chosen = null;
  }

  step(change) {
    this.past.push(this.now);
    this.future = [];
    this.now = { ...this.now, ...change };
  }

  add(list, thing) {
    const made = { id: crypto.getRandomValues(new Uint32Array(2)).reduce((text, part) => text + part.toString(36), ""), ...thing };
    this.step({ [list]: [...this.now[list], made] });
    this.chosen = made.id;
  }

  place(eye, change) {
    const before = this.now.grids[eye] ?? { fovea: null, disc: null, disc_diameter: null };
    this.step({ grids: { ...this.now.grids, [eye]: { ...before, ...change } } });
  }

  remove() {
    const without = (list) => list.filter((one) => one.id !== this.chosen);
    if (!this.things().some((one) => one.id === this.chosen)) return false;
    this.step({ marks: without(this.now.marks), measurements: without(this.now.measurements) });
    this.chosen = null;
    return true;
  }

  undo() {
    return this.swap(this.past, this.future);
  }

  redo() {
    return this.swap(this.future, this.past);
  }

  swap(from, to) {
    if (!from.length) return false;
    to.push(this.now);
    this.now = from.pop();
    if (!this.things().some((one) => one.id === this.chosen)) this.chosen = null;
    return true;
  }

  things() {
    return [...this.now.marks, ...this.now.measurements];
  }

  disc(eye) {
    const diameter = this.now.grids[eye]?.disc_diameter;
    return diameter ? { diameter, assumed: false } : { diameter: ASSUMED_DISC, assumed: true };
  }

  // The mark or ruler of an eye nearest to a point, if nearer than `reach`, or the outline around it.
  at(eye, point, reach) {
    let [best, nearest] = [null, reach];
    for (const one of this.things()) {
      if (one.eye !== eye) continue;
      const corners = one.points ?? [one.start, one.end];
      const away = Math.min(...sidesOf(corners).map(([from, to]) => awayFrom(point, from, to)));
      if (away < nearest) [best, nearest] = [one.id, away];
      else if (!best && corners.length > 2 && holds(corners, point)) best = one.id;
    }
    return best;
  }
}

const sidesOf = (corners) => corners.map((corner, place) => [corner, corners[(place + 1) % corners.length]]);

function awayFrom([x, y], [ax, ay], [bx, by]) {
  const length = (bx - ax) ** 2 + (by - ay) ** 2;
  const share = length ? Math.max(0, Math.min(1, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length)) : 0;
  return Math.hypot(x - ax - share * (bx - ax), y - ay - share * (by - ay));
}

function holds(corners, [x, y]) {
  let inside = false;
  for (const [[ax, ay], [bx, by]] of sidesOf(corners)) {
    if (ay > y !== by > y && x < ax + ((y - ay) * (bx - ax)) / (by - ay)) inside = !inside;
  }
  return inside;
}

// Length in the photograph's pixels and in disc diameters; ≈ where the disc is assumed.
function rulerWords(start, end, pane, drawing) {
  const share = Math.hypot(end[0] - start[0], end[1] - start[1]);
  const disc = drawing.disc(pane.eye);
  return `${Math.round(share * pane.data.square[2])} px · ${disc.assumed ? "≈ " : ""}${(share / disc.diameter).toFixed(2)} DD`;
}

class Ink {
  constructor(context, put) {
    Object.assign(this, { context, put });
    Object.assign(context, { lineJoin: "round", lineCap: "round", font: "600 12px system-ui, sans-serif", textBaseline: "middle" });
  }

  // Twice: a dark halo first, so that a line can be seen on any fundus.
  stroke(trace, colour, width = 1.6, dash = []) {
    const { context } = this;
    for (const [style, wide, dashes] of [[HALO, width + 2.4, []], [colour, width, dash]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: wide });
      context.setLineDash(dashes);
      context.beginPath();
      trace(context);
      context.stroke();
    }
    context.setLineDash([]);
  }

  path(points, colour, { closed = false, dash = [] } = {}) {
    this.stroke((context) => {
      points.forEach((point, place) => (place ? context.lineTo(...this.put(point)) : context.moveTo(...this.put(point))));
      if (closed) context.closePath();
    }, colour, 1.6, dash);
  }

  circle(centre, radius, colour, dash = []) {
    const [x, y] = this.put(centre);
    this.stroke((context) => context.arc(x, y, radius, 0, 2 * Math.PI), colour, 1.5, dash);
  }

  text(words, [x, y], colour, align = "left") {
    const { context } = this;
    Object.assign(context, { textAlign: align, strokeStyle: HALO, lineWidth: 3.5, fillStyle: colour });
    context.strokeText(words, x, y);
    context.fillText(words, x, y);
  }

  mark(mark, code, chosen) {
    const colour = chosen ? CHOSEN : INK;
    const [x, y] = this.put(mark.points[0]);
    if (mark.points.length > 1) {
      this.path(mark.points, colour, { closed: true });
      const top = mark.points.map(this.put).reduce((best, point) => (point[1] < best[1] ? point : best));
      this.text(code, [top[0], top[1] - 10], colour, "center");
      return;
    }
    this.stroke((context) => context.arc(x, y, chosen ? 9 : 7, 0, 2 * Math.PI), colour, chosen ? 2.4 : 1.6);
    this.text(code, [x + 12, y], colour);
  }

  ruler(start, end, words, chosen) {
    const colour = chosen ? CHOSEN : INK;
    const [[ax, ay], [bx, by]] = [this.put(start), this.put(end)];
    const length = Math.hypot(bx - ax, by - ay) || 1;
    const [nx, ny] = [(-(by - ay) / length) * 6, ((bx - ax) / length) * 6];
    this.stroke((context) => {
      for (const [x, y] of [[ax, ay], [bx, by]]) {
        context.moveTo(x - nx, y - ny);
        context.lineTo(x + nx, y + ny);
      }
      context.moveTo(ax, ay);
      context.lineTo(bx, by);
    }, colour);
    this.text(words, [(ax + bx) / 2 + nx * 2, (ay + by) / 2 + Math.abs(ny) * 2 + 6], colour, "center");
  }

  grid(eye, place, disc, side) {
    const centre = place?.fovea ?? place?.disc;
    if (place?.disc) this.circle(place.disc, (disc.diameter * side) / 2, INK, [4, 5]);
    if (!centre) return;
    const radii = RINGS.map((ring) => (ring / 2 / DISC_MILLIMETRES) * disc.diameter * side);
    for (const radius of radii) this.circle(centre, radius, INK);
    const [x, y] = this.put(centre);
    this.stroke((context) => {
      for (let quarter = 0; quarter < 4; quarter++) {
        const turn = Math.PI / 4 + (quarter * Math.PI) / 2;
        context.moveTo(x + radii[0] * Math.cos(turn), y + radii[0] * Math.sin(turn));
        context.lineTo(x + radii[2] * Math.cos(turn), y + radii[2] * Math.sin(turn));
      }
    }, INK, 1.2);
    // The disc lies on the nasal side; where it was not set, to the right in a right eye and to the left in a left one.
    const right = place.fovea && place.disc ? place.disc[0] > place.fovea[0] : eye === "OD";
    const letters = [["S", 0, -1], ["I", 0, 1], [right ? "N" : "T", 1, 0], [right ? "T" : "N", -1, 0]];
    for (const [letter, dx, dy] of letters) this.text(letter, [x + dx * radii[2] * 0.87, y + dy * radii[2] * 0.87], INK, "center");
    RINGS.forEach((ring, at) => this.text(`≈ ${ring} mm`, [x + radii[at] * 0.72 + 4, y - radii[at] * 0.72], INK));
  }
}

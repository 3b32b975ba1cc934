// Every key with what it does: one table makes both the legend and the dispatch. Letters alone, as brackets and commas
// lie elsewhere on other keyboards; no digits, which a page needs for grades.

const KEYS = [
  ["Move", [
    [["+", "="], "zoom in", (viewer) => viewer.zoomAt(1.25)],
    [["-", "−"], "zoom out", (viewer) => viewer.zoomAt(0.8)],
    [["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "pan (⇧ further)", (viewer, event) => viewer.arrow(event)],
    [["z"], "fit both eyes", (viewer) => viewer.act("fit")],
    [["a"], "actual pixels: 1 of the photograph on 1 of the screen", (viewer) => viewer.act("actual")],
    [["i"], "mirror the left eye’s movement", (viewer) => viewer.act("mirrored")],
    [["f"], "full screen", (viewer) => viewer.act("full")],
  ]],
  ["Look", [
    [["g"], "red-free (green channel)", (viewer) => viewer.act("green")],
    [["c"], "CLAHE", (viewer) => viewer.act("clahe")],
    [["k", "⇧k"], "contrast more, less", (viewer, event) => viewer.nudge("contrast", event.shiftKey ? -10 : 10)],
    [["b", "⇧b"], "brightness more, less", (viewer, event) => viewer.nudge("brightness", event.shiftKey ? -10 : 10)],
    [["x"], "back to the plain photograph", (viewer) => viewer.act("plain")],
    [["h"], "hold: the other picture (flicker)", (viewer, event) => viewer.hold(event)],
    [["⇧h"], "switch to the other picture", (viewer) => viewer.act("other")],
    [["d"], "next comparison", (viewer) => viewer.cycle("compare")],
  ]],
  ["Heat map", [
    [["m"], "on, off", (viewer) => viewer.act("map")],
    [["⇧m"], "overlay, contours, top regions, stable or flickering, side by side", (viewer) => viewer.cycle("mode")],
    [["n"], "next method", (viewer) => viewer.cycle("method")],
    [["o", "⇧o"], "opacity more, less", (viewer, event) => viewer.nudge("opacity", event.shiftKey ? -10 : 10)],
  ]],
  ["Draw", [
    [["v"], "hand: pan and choose", (viewer) => viewer.use("pan")],
    [["p"], "point", (viewer) => viewer.use("point")],
    [["l"], "outline", (viewer) => viewer.use("outline")],
    [["t", "⇧t"], "next, previous kind of lesion", (viewer, event) => viewer.cycle("kind", event.shiftKey ? -1 : 1)],
    [["r"], "ruler", (viewer) => viewer.use("ruler")],
    [["e"], "ETDRS grid on, off", (viewer) => viewer.act("grid")],
    [["⇧e"], "place the grid", (viewer) => viewer.use("grid")],
    [["y"], "work on the other eye", (viewer) => viewer.otherEye()],
    [["Enter"], "put a point at the cross", (viewer, event) => viewer.enter(event)],
    [["Backspace", "Delete"], "take back the last corner, delete the chosen mark", (viewer) => viewer.act("delete")],
    [["s", "⇧s"], "next, previous mark", (viewer, event) => viewer.chooseNext(event.shiftKey ? -1 : 1)],
    [["u", "Ctrl+z"], "undo", (viewer) => viewer.act("undo")],
    [["⇧u", "Ctrl+y"], "redo", (viewer) => viewer.act("redo")],
    [["Escape"], "leave the stroke, the tool, this list", (viewer) => viewer.escape()],
  ]],
  ["Help", [[["?"], "this list", (viewer) => viewer.act("keys")]]],
];

// Heard only while the focus is in the viewer: elsewhere they turn pages, press buttons and edit.
const NEAR = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Enter", "Backspace", "Delete", "Escape"]);
const NAMES = {
  ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Backspace: "⌫", Delete: "Del", Escape: "Esc", "-": "−",
};
const HIDDEN = new Set(["=", "−"]);
const DRAWING_KEYS = new Set(["p", "l", "t"]);

const ACTIONS = new Map(KEYS.flatMap(([, lines]) => lines.flatMap(([keys, , action]) => keys.map((key) => [key, action]))));

function keyName(event) {
  const letter = /^[a-z]$/i.test(event.key);
  const shift = event.shiftKey && letter ? "⇧" : "";
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${shift}${letter ? event.key.toLowerCase() : event.key}`;
}

// What the focus is in takes the key itself: a field its text, a list its letters, a slider its arrows, a button Enter.
function taken(event, target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.matches("textarea, select")) return true;
  if (target.matches("input")) return target.type !== "range" || NEAR.has(event.key);
  return target.matches("button, a, summary, [role=button], [role=tab], [role=option]") && ["Enter", " "].includes(event.key);
}

function legendOf() {
  return KEYS.map(([group, lines]) => {
    const box = element("section", "");
    box.append(element("h3", "", group));
    for (const [keys, words] of lines) {
      const line = element("div", "line");
      const names = element("span", "names");
      keys.filter((key) => !HIDDEN.has(key)).forEach((key) => {
        const upper = key.replace(/(^|[⇧+])[a-z]$/, (letter) => letter.toUpperCase());
        const name = NAMES[key] ?? upper.replace("Ctrl+", "Ctrl ");
        names.append(element("kbd", "", name));
      });
      line.append(names, element("span", "", words));
      box.append(line);
    }
    return box;
  });
}

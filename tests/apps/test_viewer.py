"""The viewer in a real Chromium, on a page of its own: what a reader does with two eyes, and what must never happen."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from workbench.review.drawn import Drawn
from workbench.schema.bundled import bundled

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTH, HEIGHT = 3000, 2250
SIDE = 1.2 * HEIGHT
SQUARE = ((WIDTH - SIDE) / 2, (HEIGHT - SIDE) / 2, SIDE)
CANARY = "PATIENT-NAME-CANARY"
PATIENCE = 120_000
"""Milliseconds: a bound for a busy machine, not a measurement."""
PAGE = Path(__file__).with_name("viewer_page.py")


def photograph(eye: str, lift: int = 0) -> Image.Image:
    """Return a disc with an optic disc, and stripes of two pixels in the middle, which only native resolution shows."""
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((WIDTH / 2 - 1100, 25, WIDTH / 2 + 1100, HEIGHT - 25), fill=(170 + lift, 80 + lift, 40 + lift))
    x = WIDTH / 2 + (600 if eye == "OD" else -600)
    draw.ellipse((x - 150, HEIGHT / 2 - 150, x + 150, HEIGHT / 2 + 150), fill=(240, 200, 120))
    for column in range(WIDTH // 2 - 100, WIDTH // 2 + 100, 4):
        draw.rectangle((column, HEIGHT // 2 - 100, column + 1, HEIGHT // 2 + 100), fill=(250, 250, 250))
    return picture


@pytest.fixture(scope="module")
def address(serve_command: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("photographs")
    exif = Image.Exif()
    exif[0x010E] = CANARY
    for eye in ("OD", "OS"):
        photograph(eye).save(folder / f"{eye}.jpg", quality=95, subsampling=0, exif=exif, comment=CANARY.encode())
        photograph(eye, lift=15).save(folder / f"{eye}_other.jpg", quality=95, exif=exif)
    settings = ["--server.address=127.0.0.1", "--server.headless=true", "--server.fileWatcherType=none"]
    settings += ["--browser.gatherUsageStats=false", "--client.toolbarMode=viewer"]
    command = ["streamlit", "run", str(PAGE), *settings, "--server.port"]
    return serve_command(command, WORKBENCH_VIEWER_FOLDER=str(folder))


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1366, "height": 768}, color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.faults, page.requests, page.sent, page.received = [], [], [], []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: page.faults.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: page.requests.append((request.url, request.resource_type)))
    page.on("websocket", lambda socket: _listen(page, socket))
    yield page
    assert page.faults == []
    context.close()


def _listen(page: Any, socket: Any) -> None:
    socket.on("framesent", lambda frame: page.sent.append(frame))
    socket.on("framereceived", lambda frame: page.received.append(frame))


def open_case(page: Any, address: str, case: str = "full", more: str = "") -> None:
    page.goto(f"{address}/?case={case}{more}")
    page.locator(".viewer[data-ready]").wait_for()
    page.wait_for_timeout(300)


def settle(page: Any) -> None:
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def transform(page: Any, eye: str) -> tuple[float, float, float]:
    settle(page)
    side, left, top = map(float, stage(page, eye).get_attribute("data-transform").split())
    return side, left, top


def stage(page: Any, eye: str) -> Any:
    return page.locator(f'.pane[data-eye="{eye}"] .stage')


def place(page: Any, eye: str, x: float, y: float) -> tuple[float, float]:
    """Return where a pixel of the photograph stands on the screen."""
    side, left, top = transform(page, eye)
    box = stage(page, eye).bounding_box()
    return box["x"] + left + (x - SQUARE[0]) / SIDE * side, box["y"] + top + (y - SQUARE[1]) / SIDE * side


def pixels(page: Any, canvas: str, eye: str = "OD") -> np.ndarray:
    """Return a canvas as height × width × RGBA."""
    one = page.locator(f'.pane[data-eye="{eye}"] canvas.{canvas}')
    png = one.evaluate("(canvas) => canvas.toDataURL('image/png').split(',')[1]")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"))


def runs(page: Any) -> int:
    return int(page.get_by_text(re.compile(r"^runs \d+$")).inner_text().split()[1])


def drawn(page: Any) -> Drawn:
    return Drawn.model_validate_json(page.get_by_text(re.compile(r"^drawn ")).inner_text().removeprefix("drawn "))


def until(page: Any, true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come true")


def shot(page: Any, name: str) -> None:
    """Keep a screenshot where WORKBENCH_SCREENSHOTS names a folder, to be looked at."""
    if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
        page.wait_for_timeout(500)
        page.screenshot(path=str(Path(folder) / f"viewer_{name}.png"))


def test_both_eyes_move_together_or_mirrored_and_no_move_asks_the_server(page: Any, address: str) -> None:
    open_case(page, address)
    assert stage(page, "OD").bounding_box()["x"] < stage(page, "OS").bounding_box()["x"]
    page.wait_for_timeout(1000)
    sent, at_rest = len(page.sent), transform(page, "OD")
    box = stage(page, "OD").bounding_box()
    x, y = box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4
    page.mouse.move(x, y)
    page.mouse.wheel(0, -900)
    zoomed = transform(page, "OD")
    assert zoomed == transform(page, "OS")
    under = box["width"] * 0.3
    assert (under - zoomed[1]) / zoomed[0] == pytest.approx((under - at_rest[1]) / at_rest[0], abs=0.005)
    page.mouse.down()
    page.mouse.move(x - 60, y + 30, steps=4)
    page.mouse.up()
    panned = transform(page, "OD")
    assert panned == transform(page, "OS")
    assert (panned[1] - zoomed[1], panned[2] - zoomed[2]) == pytest.approx((-60, 30), abs=1)
    page.keyboard.press("i")
    page.keyboard.press("Shift+ArrowRight")
    right, left = transform(page, "OD"), transform(page, "OS")
    middle = stage(page, "OD").bounding_box()["width"] / 2
    assert (middle - right[1]) / right[0] == pytest.approx(1 - (middle - left[1]) / left[0], abs=0.002)
    for key in "gckKbBxmMnoOiz":
        page.keyboard.press(f"Shift+{key}" if key.isupper() else key)
    page.locator("[data-set=contrast]").fill("180")
    assert transform(page, "OD") == at_rest
    page.wait_for_timeout(700)
    assert len(page.sent) == sent


def test_at_100_per_cent_every_pixel_of_the_photograph_is_there(page: Any, address: str) -> None:
    open_case(page, address)
    coarse = pixels(page, "photograph")
    page.keyboard.press("a")
    page.locator('.pane[data-eye="OD"] .stage[data-level="0"]').wait_for()
    settle(page)
    assert page.locator(".zoom").inner_text() == "100 %"
    assert transform(page, "OD")[0] == pytest.approx(SIDE, abs=1)
    fine = pixels(page, "photograph")
    height, width = fine.shape[:2]
    centre = fine[height // 2 - 20 : height // 2 + 20, width // 2 - 60 : width // 2 + 60, 2].astype(float)
    assert centre.std() > 50  # stripes of two pixels
    assert np.abs(np.diff(coarse[coarse.shape[0] // 2, :, 2].astype(float))).max() < 200
    assert page.locator('.pane[data-eye="OD"] .title').inner_text().endswith("100 % of native")


def test_looks_change_the_pixels_say_their_name_and_rerun_nothing(page: Any, address: str) -> None:
    open_case(page, address)
    before, plain = runs(page), pixels(page, "photograph")
    label = page.locator('.pane[data-eye="OD"] .label')
    page.keyboard.press("g")
    page.locator('.pane[data-eye="OD"] .stage[data-look="green"]').wait_for()
    settle(page)
    grey = pixels(page, "photograph")
    assert (grey[..., 0] == grey[..., 1]).all()
    assert np.abs(grey[..., 1].astype(int) - plain[..., 1]).max() <= 4  # halved, then greened: rounding
    assert label.inner_text() == "Photograph · red-free"
    page.keyboard.press("c")
    page.locator('.pane[data-eye="OD"] .stage[data-look="green clahe"]').wait_for()
    until(page, lambda: "CLAHE, tiles of 338 px" in label.inner_text())
    settle(page)
    assert np.abs(pixels(page, "photograph").astype(int) - grey).max() > 10
    assert page.locator("[data-act=clahe]").get_attribute("aria-pressed") == "true"
    page.keyboard.press("x")
    settle(page)
    assert (pixels(page, "photograph") == plain).all()
    page.locator("[data-set=contrast]").fill("180")
    page.keyboard.press("Shift+b")
    settle(page)
    style = page.locator('.pane[data-eye="OD"] canvas.photograph').evaluate("(canvas) => canvas.style.filter")
    assert style == "contrast(180%) brightness(90%)"
    assert runs(page) == before


def test_clahe_is_opencvs(page: Any) -> None:
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    green = 90 + 50 * np.sin(x / 40) * np.cos(y / 55) + 12 * generator.standard_normal((512, 512))
    green = green.clip(24, 250).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([green // 2, green, green // 3], axis=-1)).save(buffer, "PNG")
    page.goto("about:blank")
    page.add_script_tag(content=(bundled("apps") / "viewer" / "pixels.js").read_text(encoding="utf-8"))
    ours = page.evaluate(
        """async (bytes) => {
            const lane = new PixelLane();
            await lane.ask({ work: "open", id: 1, blob: await (await fetch(`data:image/png;base64,${bytes}`)).blob() });
            const look = { green: true, clahe: true, tile: 64, clip: 2 };
            const { bitmap } = await lane.ask({ work: "look", id: 1, level: 0, look });
            const canvas = Object.assign(document.createElement("canvas"), { width: 512, height: 512 });
            canvas.getContext("2d").drawImage(bitmap, 0, 0);
            lane.end();
            return canvas.toDataURL("image/png").split(",")[1];
        }""",
        base64.b64encode(buffer.getvalue()).decode("ascii"),
    )
    theirs = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(green)
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(ours))))[..., 1]
    away = np.abs(found.astype(int) - theirs)
    assert away.max() <= 1
    assert np.abs(theirs.astype(int) - green).max() > 20


def test_flicker_shows_the_other_picture_while_the_key_is_held_under_its_own_name(page: Any, address: str) -> None:
    open_case(page, address, "compare")
    before, clean = runs(page), pixels(page, "photograph")
    labels = [page.locator(f'.pane[data-eye="{eye}"] .label') for eye in ("OD", "OS")]
    assert [label.inner_text() for label in labels] == ["Clean", "Clean"]
    page.keyboard.down("h")
    until(page, lambda: [label.inner_text() for label in labels] == ["PGD attack, ε = 4/255"] * 2)
    settle(page)
    lift = pixels(page, "photograph").astype(int)[..., :3] - clean[..., :3]
    assert 10 < np.median(lift[clean[..., 0] > 100]) < 20
    shot(page, "flicker")
    page.keyboard.up("h")
    until(page, lambda: [label.inner_text() for label in labels] == ["Clean", "Clean"])
    assert (pixels(page, "photograph") == clean).all()
    page.get_by_role("button", name="Flicker").click()
    until(page, lambda: labels[1].inner_text() == "PGD attack, ε = 4/255")
    page.keyboard.press("Shift+h")
    until(page, lambda: labels[1].inner_text() == "Clean")
    page.keyboard.down("h")
    until(page, lambda: labels[1].inner_text() == "PGD attack, ε = 4/255")
    page.evaluate("() => window.dispatchEvent(new Event('blur'))")
    until(page, lambda: labels[1].inner_text() == "Clean")
    assert runs(page) == before


def test_the_map_is_off_at_first_and_its_modes_and_opacity_rerun_nothing(page: Any, address: str) -> None:
    open_case(page, address)
    before = runs(page)
    overlay = page.locator('.pane[data-eye="OD"] canvas.overlay')
    assert overlay.evaluate("(canvas) => canvas.style.opacity") == "0"
    assert page.locator(".bar-of-map").is_hidden()
    page.get_by_role("button", name="Heat map").click()
    until(page, lambda: bool(pixels(page, "overlay")[..., 3].any()))
    blend = pixels(page, "overlay")
    assert overlay.evaluate("(canvas) => canvas.style.opacity") == "0.7"
    page.locator("[data-set=opacity]").fill("35")
    settle(page)
    assert overlay.evaluate("(canvas) => canvas.style.opacity") == "0.35"
    for _ in range(3):
        page.keyboard.press("Shift+o")
    settle(page)
    assert overlay.evaluate("(canvas) => canvas.style.opacity") == "0.05"
    bar = page.locator(".bar-of-map")
    assert [bar.locator(name).inner_text() for name in (".low", ".high", ".units")] == [
        "against −0.012",
        "+0.012 for referable",
        "relative evidence",
    ]
    page.locator("[data-set=mode]").select_option("contour")
    settle(page)
    lines = pixels(page, "overlay")
    assert 0 < (lines[..., 3] > 0).mean() < 0.5 * (blend[..., 3] > 0).mean()
    page.locator("[data-set=mode]").select_option("steady")
    until(page, lambda: bar.locator(".agreement").is_visible())
    settle(page)
    assert bar.locator(".agreement").inner_text().split("\n")[0].startswith("matters in nearly all of 16 draws")
    assert bar.locator(".scale").is_hidden()
    steady = pixels(page, "overlay")[..., 3]
    assert 0 < (steady > 0).mean() < (blend[..., 3] > 0).mean(), "solid in one place, hatched around it"
    page.keyboard.press("n")
    corner = page.locator('.pane[data-eye="OD"] .corner')
    until(page, lambda: "Made without draws" in corner.inner_text())
    assert not pixels(page, "overlay").any()
    page.keyboard.press("n")
    page.locator("[data-set=mode]").select_option("beside")
    settle(page)
    beside = pixels(page, "overlay")[..., 3] > 0
    width = beside.shape[1]
    assert not beside[:, : width // 2 - 2].any()
    assert beside[:, width // 2 :].any()
    halves = pixels(page, "photograph")[:, :, 0] > 100
    assert halves[:, : width // 2].mean() == pytest.approx(halves[:, width // 2 :].mean(), rel=0.05)
    page.keyboard.press("n")
    until(page, lambda: bar.locator(".units").inner_text() == "log-odds per pixel")
    page.keyboard.press("m")
    settle(page)
    assert overlay.evaluate("(canvas) => canvas.style.opacity") == "0"
    assert not pixels(page, "overlay").any()
    assert runs(page) == before


def test_the_first_map_is_of_a_method_that_shows_one_and_no_bar_lies_over_a_reason(page: Any, address: str) -> None:
    open_case(page, address, "all_withheld")
    page.keyboard.press("m")
    until(page, lambda: bool(pixels(page, "overlay")[..., 3].any()))
    bar = page.locator(".bar-of-map")
    assert bar.locator(".units").inner_text() == "log-odds per pixel"
    page.locator("[data-set=method]").select_option("grad_cam")
    until(page, lambda: page.locator('.pane[data-eye="OS"] .corner').inner_text().startswith("Map withheld"))
    until(page, bar.is_hidden)


def test_a_withheld_map_says_why_and_a_missing_or_ungradable_eye_too(page: Any, address: str) -> None:
    open_case(page, address, "withheld")
    page.keyboard.press("m")
    corner = page.locator('.pane[data-eye="OD"] .corner')
    until(page, lambda: corner.inner_text() == 'Map withheld: <img src=x onerror="window.hacked=1">')
    until(page, lambda: bool(pixels(page, "overlay", "OS").any()))
    assert not pixels(page, "overlay", "OD").any()
    shot(page, "withheld")
    open_case(page, address, "missing")
    empty = page.locator('.pane[data-eye="OS"] .empty')
    assert empty.inner_text() == 'missing\nno photograph <img src=x onerror="window.hacked=1">'
    page.keyboard.press("p")
    page.mouse.click(*place(page, "OS", WIDTH / 2, HEIGHT / 2))
    page.wait_for_timeout(700)
    assert not drawn(page)
    shot(page, "missing")
    open_case(page, address, "ungradable")
    assert page.locator('.pane[data-eye="OS"] .corner').inner_text() == "ungradable: blurred"
    assert pixels(page, "photograph", "OS").any(axis=-1).any()
    assert page.evaluate("() => window.hacked") is None


def test_marks_come_back_in_the_photographs_pixels_once_a_stroke_is_finished(page: Any, address: str) -> None:
    open_case(page, address)
    before = runs(page)
    page.keyboard.press("p")
    page.mouse.click(*place(page, "OD", 1200, 900))
    until(page, lambda: len(drawn(page).marks) == 1)
    (mark,) = drawn(page).marks
    assert (mark.eye, mark.kind, mark.shape) == ("OD", "microaneurysm", "point")
    assert mark.points[0] == pytest.approx((1200, 900), abs=4)
    assert runs(page) == before + 1

    page.locator("[data-set=kind]").select_option("hard_exudate")
    page.keyboard.press("l")
    corners = [(1300, 1300), (1500, 1250), (1550, 1500), (1350, 1550)]
    for corner in corners:
        page.mouse.click(*place(page, "OS", *corner))
    page.wait_for_timeout(900)
    assert runs(page) == before + 1  # an outline with an open end is nobody's business yet
    page.keyboard.press("Enter")
    until(page, lambda: len(drawn(page).marks) == 2)
    outline = drawn(page).marks[1]
    assert (outline.eye, outline.kind, outline.shape) == ("OS", "hard_exudate", "outline")
    assert np.array(outline.points) == pytest.approx(np.array(corners), abs=4)
    shot(page, "marks")

    page.mouse.move(*place(page, "OD", 1700, 700))
    page.mouse.down()
    for turn in np.linspace(0, 6, 30):
        page.mouse.move(*place(page, "OD", 1600 + 100 * np.cos(turn), 700 + 100 * np.sin(turn)))
    runs_before = runs(page)
    page.wait_for_timeout(1200)
    assert runs(page) == runs_before  # a hand is drawing
    page.mouse.up()
    until(page, lambda: len(drawn(page).marks) == 3)
    assert len(drawn(page).marks[2].points) > 12


def test_undo_redo_delete_and_what_survives_a_rerun_another_exam_and_leaving_the_page(page: Any, address: str) -> None:
    open_case(page, address)
    page.keyboard.press("p")
    for x in (1200, 1400, 1600):
        page.mouse.click(*place(page, "OD", x, 900))
    until(page, lambda: len(drawn(page).marks) == 3)
    page.keyboard.press("u")
    page.keyboard.press("Control+z")
    until(page, lambda: len(drawn(page).marks) == 1)
    page.keyboard.press("Shift+u")
    until(page, lambda: len(drawn(page).marks) == 2)
    page.keyboard.press("v")
    page.mouse.click(*place(page, "OD", 1202, 902))
    page.keyboard.press("Delete")
    until(page, lambda: [round(mark.points[0][0], -2) for mark in drawn(page).marks] == [1400])
    page.get_by_role("button", name="Undo").click()
    until(page, lambda: len(drawn(page).marks) == 2)
    kept = drawn(page)

    received = sum(len(frame) for frame in page.received)
    count = runs(page)
    page.get_by_role("button", name="Run again").click()
    until(page, lambda: runs(page) == count + 1)
    assert drawn(page) == kept
    assert sum(len(frame) for frame in page.received) - received < 100_000  # no pixel is sent again
    assert page.locator("[data-act=undo]").is_enabled()

    page.get_by_role("button", name="Other exam").click()
    page.locator('.viewer[data-ready="two"]').wait_for()
    until(page, lambda: not drawn(page))  # the page's own text comes after the viewer
    assert page.locator("[data-act=undo]").is_disabled()
    page.get_by_role("button", name="Other exam").click()
    page.locator('.viewer[data-ready="one"]').wait_for()
    until(page, lambda: drawn(page) == kept)

    page.keyboard.press("p")
    page.mouse.click(*place(page, "OS", 1500, 500))
    page.get_by_text("Away").click()  # at once: the mark must not be lost
    page.locator(".viewer").wait_for(state="detached")
    page.get_by_text("Away").click()
    page.locator('.viewer[data-ready="one"]').wait_for()
    until(page, lambda: page.locator(".list summary").inner_text() == "3 marks, 0 measurements")
    assert len(drawn(page).marks) == 3


def test_a_frame_that_was_asked_for_before_the_page_was_left_finds_nothing_to_draw(page: Any, address: str) -> None:
    open_case(page, address)
    page.evaluate(
        """() => {
            window.requestAnimationFrame = (work) => setTimeout(() => work(performance.now()), 1500);
            window.cancelAnimationFrame = clearTimeout;
        }"""
    )
    page.locator(".viewer").focus()
    page.keyboard.press("+")
    page.get_by_text("Away", exact=True).click()
    page.locator(".viewer").wait_for(state="detached")
    page.wait_for_timeout(1600)  # the fixture finds a fault of the page


def test_keys_alone_place_a_point_an_outline_and_a_ruler(page: Any, address: str) -> None:
    open_case(page, address)
    page.locator(".viewer").focus()
    for key in ("p", "t", "Enter"):
        page.keyboard.press(key)
    until(page, lambda: len(drawn(page).marks) == 1)
    assert drawn(page).marks[0].kind == "haemorrhage"
    assert drawn(page).marks[0].points[0] == pytest.approx((WIDTH / 2, HEIGHT / 2), abs=1)
    page.keyboard.press("y")
    page.keyboard.press("l")
    for key in ("Enter", "ArrowRight", "Enter", "ArrowDown", "Enter", "Enter"):
        page.keyboard.press(key)
    until(page, lambda: len(drawn(page).marks) == 2)
    outline = drawn(page).marks[1]
    assert outline.eye == "OS"
    step = 0.06 * SIDE
    corners = np.array([(0, 0), (step, 0), (step, step)]) + np.array(outline.points[0])
    assert np.array(outline.points) == pytest.approx(corners, abs=1)
    page.keyboard.press("r")
    for key in ("Enter", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    until(page, lambda: len(drawn(page).measurements) == 1)
    assert drawn(page).measurements[0].pixels == pytest.approx(step, abs=1)
    shot(page, "keys")
    page.keyboard.press("s")
    page.keyboard.press("Backspace")
    until(page, lambda: len(drawn(page).marks) == 1)


def test_the_grid_is_scaled_by_the_disc_and_the_ruler_counts_in_it(page: Any, address: str) -> None:
    open_case(page, address)
    corner = page.locator('.pane[data-eye="OD"] .corner')
    page.keyboard.press("e")
    until(page, lambda: "click the fovea" in corner.inner_text())
    page.mouse.click(*place(page, "OD", 1400, 1125))
    until(page, lambda: "approximate" in corner.inner_text() and "assumed 1/7" in corner.inner_text())
    until(page, lambda: "OD" in drawn(page).grids)
    page.mouse.move(*place(page, "OD", 1950, 1125))
    page.mouse.down()
    page.mouse.move(*place(page, "OD", 2100, 1125), steps=3)
    page.mouse.move(*place(page, "OD", 2250, 1125), steps=3)
    page.mouse.up()
    until(page, lambda: drawn(page).grids["OD"].disc_diameter is not None)
    grid = drawn(page).grids["OD"]
    assert grid.fovea == pytest.approx((1400, 1125), abs=4)
    assert grid.disc == pytest.approx((2100, 1125), abs=4)
    assert grid.disc_diameter == pytest.approx(300, abs=6)
    assert "disc as measured" in corner.inner_text()
    # The ring of 6 mm is 4 disc diameters wide: 600 pixels of the photograph to each side of the fovea.
    settle(page)
    ink = pixels(page, "drawn")[..., 3] > 0
    box = stage(page, "OD").bounding_box()
    for x, wanted in ((1400 - 600, True), (1400 - 300, True), (1400 - 100, True), (1400 - 450, False)):
        column, row = (round(part) for part in np.array(place(page, "OD", x, 1160)) - (box["x"], box["y"]))
        assert ink[row - 2 : row + 3, column - 4 : column + 5].any() == wanted, x
    shot(page, "grid")
    page.keyboard.press("r")
    page.mouse.move(*place(page, "OD", 1000, 500))
    page.mouse.down()
    page.mouse.move(*place(page, "OD", 1600, 500), steps=4)
    page.mouse.up()
    until(page, lambda: len(drawn(page).measurements) == 1)
    page.locator(".list summary").click()
    words = page.locator(".list .item").inner_text()
    length, diameters = map(float, re.fullmatch(r"OD · (\d+) px · ([\d.]+) DD", words).groups())
    assert length == pytest.approx(600, abs=10)
    assert diameters == pytest.approx(2, abs=0.06)


VALUE = "document.querySelector('[data-set={}]').value"
PRESSED = "document.querySelector('button[data-{}]').getAttribute('aria-pressed')"
KEYS_THAT_SHOW = {
    "k": (VALUE.format("contrast"), "110"),
    "Shift+K": (VALUE.format("contrast"), "90"),
    "b": (VALUE.format("brightness"), "110"),
    "Shift+B": (VALUE.format("brightness"), "90"),
    "g": (PRESSED.format("act=green"), "true"),
    "c": (PRESSED.format("act=clahe"), "true"),
    "i": (PRESSED.format("act=mirrored"), "true"),
    "d": ("document.querySelector('[data-set=compare]').selectedOptions[0].text", "PGD attack"),
    "Shift+H": (PRESSED.format("act=other"), "true"),
    "m": (PRESSED.format("act=map"), "true"),
    "Shift+M": (VALUE.format("mode"), "contour"),
    "n": (VALUE.format("method"), "other"),
    "o": (VALUE.format("opacity"), "80"),
    "Shift+O": (VALUE.format("opacity"), "60"),
    "p": (PRESSED.format("tool=point"), "true"),
    "l": (PRESSED.format("tool=outline"), "true"),
    "r": (PRESSED.format("tool=ruler"), "true"),
    "Shift+E": (PRESSED.format("tool=grid"), "true"),
    "f": ("String(document.fullscreenElement !== null)", "true"),
    "?": ("document.querySelector('[data-act=keys]').getAttribute('aria-expanded')", "true"),
}
"""Key → what on the page it changes, and to what, each from a page as it is opened."""


def test_each_tool_of_a_reader_has_a_key_that_works_and_reruns_nothing(page: Any, address: str) -> None:
    open_case(page, address, "compare")
    before = runs(page)
    for key, (asked, expected) in KEYS_THAT_SHOW.items():
        page.locator(".viewer").focus()
        for opening in ("Escape", "v", "x", *("m" * (key in ("Shift+M", "n", "o", "Shift+O")))):
            page.keyboard.press(opening)
        was = page.evaluate(deep(asked))
        assert was != expected, key
        page.keyboard.press(key)
        until(page, lambda asked=asked, expected=expected: page.evaluate(deep(asked)) == expected)
        undo = {"f": "f", "o": "Shift+O", "Shift+O": "o", "m": "m", "g": "g", "c": "c", "i": "i", "Shift+H": "Shift+H"}
        if again := undo.get(key, "m" if key in ("Shift+M", "n") else None):
            page.keyboard.press(again)
        if key in ("o", "Shift+O"):
            page.keyboard.press("m")
    assert runs(page) == before


def deep(asked: str) -> str:
    """Return a question to the viewer's own tree, which may lie in a shadow root."""
    root = (
        "[...document.querySelectorAll('*')].map((one) => one.shadowRoot).find((one) => one?.querySelector('.viewer'))"
    )
    return f"(() => {{ const tree = {root} ?? document; return {asked.replace('document.query', 'tree.query')}; }})()"


def test_the_legend_lists_every_key_and_no_key_is_taken_from_a_text(page: Any, address: str) -> None:
    open_case(page, address)
    before = runs(page)
    page.keyboard.press("?")
    legend = page.get_by_role("dialog", name="Keys of the viewer")
    legend.wait_for()
    script = (bundled("apps") / "viewer" / "keys.js").read_text(encoding="utf-8")
    letters = set(re.findall(r'\[\["(⇧?[a-z])"', script)) | set(re.findall(r', "(⇧?[a-z])"\]', script))
    assert len(letters) > 25
    assert {letter.upper() for letter in letters} <= set(legend.locator("kbd").all_inner_texts())
    shot(page, "legend")
    page.keyboard.press("Escape")
    assert legend.is_hidden()
    note = page.get_by_label("Note")
    note.fill("")
    note.press_sequentially("gmr?")
    assert note.input_value() == "gmr?"
    assert page.locator("[data-act=green]").get_attribute("aria-pressed") == "false"
    page.locator(".viewer").focus()
    page.keyboard.press("r")  # in Streamlit this runs the page again
    page.wait_for_timeout(500)
    assert runs(page) <= before + 1  # that of the note losing the focus
    assert page.locator('button[data-tool="ruler"]').get_attribute("aria-pressed") == "true"


def test_every_control_has_a_name_and_a_visible_focus_and_nothing_moves_by_itself(page: Any, address: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    open_case(page, address, "compare")
    names = page.locator(".viewer button, .viewer select, .viewer input").evaluate_all(
        """(nodes) => nodes.map((node) => node.getAttribute("aria-label") || node.innerText.trim()
            || node.closest("label")?.innerText.trim() || node.outerHTML)"""
    )
    assert len(names) > 25
    assert not [name for name in names if not name or "<" in name]
    assert stage(page, "OD").get_attribute("aria-label") == "Right eye (OD). Clean"
    page.locator("[data-act=fit]").focus()
    page.keyboard.press("Tab")
    outline = page.locator("[data-act=actual]").evaluate("(node) => getComputedStyle(node).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("m")
    assert (
        page.evaluate("() => document.getAnimations().filter((one) => one.effect.target.closest('.viewer')).length")
        == 0
    )
    shown = pixels(page, "photograph")
    page.wait_for_timeout(1200)
    assert (pixels(page, "photograph") == shown).all()  # a flicker is the reader's alone


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_words_stand_out_in_both_themes(page: Any, address: str, theme: str) -> None:
    open_case(page, address, "compare", f"&embed=true&embed_options={theme}_theme")
    page.keyboard.press("m")
    settle(page)
    shot(page, f"{theme}_theme")
    ratios = page.locator(".viewer .title b, .viewer .quiet, .viewer button, .viewer label").evaluate_all(
        """(nodes) => {
            const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            const over = (colours) => {
                canvas.clearRect(0, 0, 1, 1);
                for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
                return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
            };
            const light = (rgb) => rgb.map((part) => part / 255)
                .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
                .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
            return nodes.filter((node) => node.checkVisibility() && !node.disabled).map((node) => {
                const behind = [];
                for (let at = node; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
                const [ink, paper] = [light(over([...behind, getComputedStyle(node).color])), light(over(behind))];
                return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
            });
        }"""
    )
    assert len(ratios) > 20
    assert min(ratios) >= 4.5  # WCAG 2.2, AA


def test_a_page_may_forbid_marks(page: Any, address: str) -> None:
    open_case(page, address, "no_marks")
    assert page.locator('[data-tool="point"]').is_hidden()
    page.keyboard.press("p")
    page.mouse.click(*place(page, "OD", 1200, 900))
    page.wait_for_timeout(700)
    assert not drawn(page)
    assert page.locator('button[data-tool="ruler"]').is_visible()


def test_pixels_have_no_address_and_nothing_of_the_file_but_pixels_leaves(page: Any, address: str) -> None:
    open_case(page, address, "compare")
    page.keyboard.press("c")
    page.locator('.pane[data-eye="OD"] .stage[data-look="colour clahe"]').wait_for()
    page.wait_for_timeout(1000)
    asked = [(urlsplit(url), kind) for url, kind in page.requests]
    assert {url.netloc for url, _ in asked if url.scheme in ("http", "https", "ws")} == {urlsplit(address).netloc}
    assert {url.scheme for url, _ in asked} <= {"http", "blob", "data"}
    images = [url.path for url, kind in asked if kind in ("image", "media") and url.scheme == "http"]
    assert [path for path in images if not path.endswith((".svg", ".ico", "favicon.png"))] == []
    ours = [url.path for url, _ in asked if url.scheme == "http" and not url.path.startswith("/static/")]
    assert {path for path in ours if not path.startswith("/_stcore/")} <= {"/", "/favicon.png", "/manifest.json"}
    jpegs = [frame for frame in page.received if isinstance(frame, bytes) and b"\xff\xd8\xff" in frame]
    assert jpegs
    assert not [
        frame for frame in page.received if CANARY.encode() in (frame if isinstance(frame, bytes) else frame.encode())
    ]

"""How fast the viewer opens two 15-megapixel photographs, and how many frames it holds, in headless Chromium.

Run ``python tests/benchmarks/viewer.py``. Photographs: the full-resolution ones of the folder of real data, scaled to
15 megapixels, or a drawn one. Chromium draws in software here, which is the floor of what a reader's machine does.
Frames are those of Chromium's own trace; input is the mouse's, one move or one turn of the wheel per step. To open is
from the press on the page's button to both eyes standing, decoded at native resolution; the rerun of the page, the
message over the websocket and the decoding are in it. Processor time is that of Chromium's processes and the server's:
it means the same on a busy machine. Without Chromium, it says so and ends.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH, HEIGHT = 4752, 3168
CATEGORIES = ["devtools.timeline", "disabled-by-default-devtools.timeline.frame"]


def write_photographs(folder: Path) -> str:
    """Write OD.jpg and OS.jpg of 15 megapixels, with their changed twins, and return what they are."""
    data = Path(os.environ.get("WORKBENCH_REAL_DATA") or ROOT.parent / "shared" / "data")
    found = [*sorted(data.glob("eyepacs_fullres/images/10_*")), *sorted(data.glob("idrid/images/*"))][:2]
    for place, eye in enumerate(("OD", "OS")):
        picture = Image.open(found[place]).convert("RGB") if len(found) == 2 else drawn(place)
        picture = (
            picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC) if picture.size != (WIDTH, HEIGHT) else picture
        )
        picture.save(folder / f"{eye}.jpg", quality=92)
    sizes = ", ".join(f"{(folder / f'{eye}.jpg').stat().st_size / 2**20:.1f} MiB" for eye in ("OD", "OS"))
    return f"two {'real' if len(found) == 2 else 'drawn'} photographs of {WIDTH} × {HEIGHT} pixels ({sizes})"


def drawn(seed: int) -> Image.Image:
    """Return a disc with grain, for where no real photograph is."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    away = np.hypot(x - WIDTH / 2, y - HEIGHT / 2) / (0.48 * HEIGHT)
    pixels = np.array([190, 90, 40], np.float32) * (1.1 - 0.5 * away[..., None] ** 2)
    pixels += 4 * generator.standard_normal((HEIGHT, WIDTH, 1), np.float32)
    pixels[away > 1] = 3
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@contextmanager
def page_served(folder: Path) -> Iterator[str]:
    """Serve the viewer's test page and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "server.address": "127.0.0.1",
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "tests" / "apps" / "viewer_page.py"), *options]
    environment = {**os.environ, "WORKBENCH_VIEWER_FOLDER": str(folder)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def seconds_to_open(page: Any, times: int) -> list[float]:
    """Return how long each change to another exam took, from the press to both eyes at native resolution."""
    taken = []
    for turn in range(times):
        exam = "two" if turn % 2 == 0 else "one"
        taken.append(
            page.evaluate(
                """(exam) => new Promise((done) => {
                    const hosts = [...document.querySelectorAll("*")].filter((node) => node.shadowRoot);
                    const root = hosts.map((host) => host.shadowRoot.querySelector(".viewer")).find(Boolean);
                    const buttons = [...document.querySelectorAll("button")];
                    const button = buttons.find((one) => one.innerText === "Other exam");
                    const watch = new MutationObserver(() => {
                        if (root.dataset.ready !== exam) return;
                        watch.disconnect();
                        done((performance.now() - started) / 1000);
                    });
                    watch.observe(root, { attributes: true });
                    const started = performance.now();
                    button.click();
                })""",
                exam,
            )
        )
        page.wait_for_timeout(500)
    return taken


def processor_seconds() -> float:
    """Return the processor time of everything that this process has started and that still runs, but not its own."""
    seconds: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            seconds[int(path.parent.name)] = (
                int(fields[1]),
                (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
            )
    family = found = {os.getpid()}
    while found:
        found = {one for one, (parent, _) in seconds.items() if parent in family} - family
        family = family | found
    return sum(seconds[one][1] for one in family - {os.getpid()} if one in seconds)


def frame_times(browser: Any, page: Any, moves: Any) -> tuple[list[float], float]:
    """Return the milliseconds between the frames that Chromium drew while ``moves`` went on, and of processor time."""
    browser.start_tracing(page=page, categories=CATEGORIES)
    before = processor_seconds()
    moves()
    busy = processor_seconds() - before
    events = json.loads(browser.stop_tracing())["traceEvents"]
    drawn_at = sorted(event["ts"] / 1000 for event in events if event["name"] == "DrawFrame")
    between = [later - earlier for earlier, later in pairwise(drawn_at) if later - earlier > 1]
    return between, 1e3 * busy / max(1, len(drawn_at))


def words(name: str, milliseconds: list[float], busy: float) -> str:
    """Return a line of the table."""
    middle, slow = float(np.median(milliseconds)), float(np.percentile(milliseconds, 95))
    return (
        f"{name:<34} {len(milliseconds):5d} frames   median {middle:5.1f} ms ({1000 / middle:4.0f} /s)   "
        f"95th percentile {slow:5.1f} ms ({1000 / slow:4.0f} /s)   "
        f"processor {busy:5.1f} ms per frame"
    )


def drag(page: Any, box: dict[str, float], steps: int) -> None:
    """Drag in a circle."""
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(steps):
        turn = step / 25 * 2 * np.pi
        page.mouse.move(x + 110 * np.sin(turn), y + 70 * (np.cos(turn) - 1))
    page.mouse.up()


def wheel(page: Any, box: dict[str, float], steps: int) -> None:
    """Zoom in and out, over all levels."""
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    for step in range(steps):
        page.mouse.wheel(0, -60 if step % 60 < 30 else 60)


def measure(browser: Any, address: str, times: int, steps: int) -> None:
    """Print the table."""
    page = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{address}/?case=full")
    page.locator('.viewer[data-ready="one"]').wait_for()
    page.wait_for_timeout(1000)
    before = processor_seconds()
    taken = seconds_to_open(page, times)
    busy = (processor_seconds() - before) / times
    print(
        f"to open: median {float(np.median(taken)):.2f} s, slowest of {times} {max(taken):.2f} s; "
        f"processor {busy:.2f} s each, of server and browser together"
    )
    box = page.locator('.pane[data-eye="OD"] .stage').bounding_box()
    looks = {"plain": "", "red-free and CLAHE": "gc", "with contrast": "xkkkk", "with the heat map": "xm"}
    for look, keys in looks.items():
        for key in keys:
            page.keyboard.press(key)
        page.keyboard.press("z")
        page.wait_for_timeout(1500)
        print(words(f"zoom, {look}", *frame_times(browser, page, lambda: wheel(page, box, steps))))
        page.keyboard.press("a")
        page.locator('.pane[data-eye="OD"] .stage[data-level="0"]').wait_for()
        page.wait_for_timeout(1500)
        print(words(f"pan at 100 %, {look}", *frame_times(browser, page, lambda: drag(page, box, steps))))


def main() -> None:
    """Serve, open, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=9, help="how often an exam is opened")
    parser.add_argument("--steps", type=int, default=240, help="moves of the mouse per line")
    given = parser.parse_args()
    if not CHROMIUM.exists():
        print(f"not measured: {CHROMIUM} is not installed")
        return
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        print(write_photographs(Path(name)))
        print(f"software rendering; load of this machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        with page_served(Path(name)) as address:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
            measure(browser, address, given.times, given.steps)
            browser.close()


if __name__ == "__main__":
    main()

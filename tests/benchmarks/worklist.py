"""How fast the worklist is with a million exams: the index, the first paint, each press, measured in Chromium.

Run ``python tests/benchmarks/worklist.py``. The run folder is invented and written straight to the analysis' Parquet
files, with parts of 1000 exams and without photographs, so an opened exam is timed without pictures (`viewer.py` times
those). 400 exams have been given out and 200 read before the app starts. Times are Chromium's own: from the press to
the frame after the one in which the new rows stand, found by a hash that the table carries. First paint is from the
navigation to that frame, on a system set to dark: the very first visit from a light one loads the page twice.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.run_folder import _manifest  # noqa: E402
from workbench.audit import layout, run_manifest, schemas  # noqa: E402
from workbench.audit.layout import CLEAN, AnalysisSummary  # noqa: E402
from workbench.audit.run_manifest import MeasurementSpec  # noqa: E402
from workbench.review.desk import Desk  # noqa: E402
from workbench.review.reads import Submission  # noqa: E402
from workbench.schema.files import write_json  # noqa: E402
from workbench.schema.grades import EYES  # noqa: E402
from workbench.schema.specs import StressSpec  # noqa: E402

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
CHUNK, DRAWS = 1000, 4
STRESS = StressSpec(name="defocus", strength=3)


def write_run(folder: Path, exams: int) -> None:
    """Write a run of invented answers: grades that lean on the truth, one stress, 4 % incomplete exams."""
    generator = np.random.default_rng(0)
    eyes = _eyes(exams, generator)
    manifest = _manifest(eyes.head(2), exams, 0).model_copy(
        update={
            "chunk": CHUNK,
            "draws": DRAWS,
            "measurements": (
                MeasurementSpec(id=CLEAN, kind="draws"),
                MeasurementSpec(id=STRESS.measurement_id, kind="draws", stress=STRESS),
            ),
        }
    )
    run_manifest.write_manifest(folder, manifest)
    layout.write_table(layout.exams_path(folder), eyes, schemas.EXAMS_SCHEMA)
    truth = eyes["icdr_grade"].to_numpy(dtype=float).reshape(-1, 2)
    present = (eyes["status"] == "ok").to_numpy().reshape(-1, 2)
    decisions, answers = [], []
    for measurement in manifest.measurements:
        pull = 0.0 if measurement.stress is None else 0.6
        p = _probabilities(truth, pull, generator)
        decisions.append(_decisions(measurement.id, eyes, truth, present, p))
        answers.append(_answers(measurement.id, eyes, present, p))
        _parts(folder, measurement.id, eyes, present, p)
    layout.write_table(layout.analysis_path(folder, "decisions"), pd.concat(decisions), schemas.DECISIONS_SCHEMA)
    layout.write_table(layout.analysis_path(folder, "eyes"), pd.concat(answers), schemas.EYES_SCHEMA)
    layout.write_table(layout.analysis_path(folder, "rows"), [], schemas.ROWS_SCHEMA)
    summary = AnalysisSummary(score_cutoff=1.2, resamples=0, done=4 * exams, failed=0, skipped=0)
    write_json(layout.summary_path(folder), summary.model_dump())


def _eyes(exams: int, generator: np.random.Generator) -> pd.DataFrame:
    number = np.repeat(np.arange(exams), 2)
    # A hash of the number, so that names do not stand in the order of the run, as real ones do not.
    mixed = (number.astype(np.uint64) * np.uint64(2654435761)) % np.uint64(2**32)
    grade = np.repeat(generator.choice(5, exams, p=[0.7, 0.1, 0.12, 0.04, 0.04]), 2)
    status = np.where(generator.random(2 * exams) < 0.02, "ungradable", "ok")
    columns: dict[str, Any] = {
        "exam_id": [f"exam-{one:010d}" for one in mixed],
        "patient_id": [f"patient-{one // 2:07d}" for one in number],
        "eye": np.tile(EYES, exams),
        "status": status,
        "reason": [None if one == "ok" else "no disc" for one in status],
        "icdr_grade": grade,
        "gradable": status == "ok",
        "camera": np.array(["Alpha 45", "Beta 50", "Gamma 55"])[number % 3],
        "site": np.array(["North", "South", "East", "West"])[number // 3 % 4],
        "age": 40.0 + number % 45,
        "sex": np.array(["F", "M"])[number // 2 % 2],
        "split": "test",
        "dataset": "invented",
    }
    return pd.DataFrame(columns).reindex(columns=schemas.EXAMS_SCHEMA.names)


def _probabilities(truth: np.ndarray, pull: float, generator: np.random.Generator) -> np.ndarray:
    """Return P (exam, eye, grade): a softmax whose true grade is lifted, less under a stress."""
    logits = generator.normal(0, 1, (*truth.shape, 5)).astype(np.float32)
    logits[np.arange(len(truth))[:, None], np.arange(2)[None], truth.astype(int)] += 2.5 - pull
    p = np.exp(logits)
    return p / p.sum(axis=-1, keepdims=True)


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(p)).sum(axis=-1)


def _decisions(name: str, eyes: pd.DataFrame, truth: np.ndarray, present: np.ndarray, p: np.ndarray) -> pd.DataFrame:
    referable = np.where(present, p[..., 2:].sum(axis=-1), np.nan)
    score = np.where(present, _entropy(p), np.nan)
    answered: np.ndarray = np.asarray(present.any(axis=1))
    p_referable = np.nanmax(np.where(answered[:, None], referable, 0), axis=1)
    score = np.where(answered, np.nanmax(np.where(answered[:, None], score, 0), axis=1), np.nan)
    called: np.ndarray = np.asarray(p_referable >= 0.5)
    true: np.ndarray = np.asarray((truth >= 2).any(axis=1))
    incomplete: np.ndarray = np.asarray(~present.all(axis=1))
    unsure: np.ndarray = np.asarray(score > 1.2)
    referred = incomplete | unsure
    per_exam = eyes.iloc[::2]
    table = pd.DataFrame(
        {
            "measurement": name,
            "exam_id": per_exam["exam_id"].to_numpy(),
            "patient_id": per_exam["patient_id"].to_numpy(),
            "referable": true,
            "p_referable": np.where(answered, p_referable, np.nan),
            "called_referable": pd.array(called, dtype="boolean"),
            "score": score,
            "referred": referred,
            "referred_why": [_why(*one) for one in zip(incomplete, unsure, strict=True)],
            "wrong": pd.array(called != true, dtype="boolean"),
            "silent_failure": pd.array((called != true) & ~referred, dtype="boolean"),
        }
    )
    table.loc[~answered, ["called_referable", "wrong", "silent_failure"]] = pd.NA
    return table


def _why(incomplete: bool, unsure: bool) -> str | None:
    return "incomplete" if incomplete else ("unsure" if unsure else None)


def _answers(name: str, eyes: pd.DataFrame, present: np.ndarray, p: np.ndarray) -> pd.DataFrame:
    flat, kept = p.reshape(-1, 5), present.ravel()
    table = eyes[["exam_id", "eye", "icdr_grade"]].assign(
        measurement=name,
        grade_predicted=flat.argmax(axis=1),
        p_referable=flat[:, 2:].sum(axis=1),
        predictive_entropy=_entropy(flat),
        **{f"p{grade}": flat[:, grade] for grade in range(5)},
    )
    return table[kept].reindex(columns=schemas.EYES_SCHEMA.names)


def _parts(folder: Path, name: str, eyes: pd.DataFrame, present: np.ndarray, p: np.ndarray) -> None:
    drawn = np.repeat(p.reshape(-1, 1, 5), DRAWS, axis=1).reshape(len(eyes), -1)
    for chunk, begin in enumerate(range(0, len(eyes), 2 * CHUNK)):
        here = slice(begin, begin + 2 * CHUNK)
        count = len(eyes.iloc[here])
        status = np.where(present.ravel()[here], "done", "skipped")
        lists = pa.FixedSizeListArray.from_arrays(drawn[here].ravel(), DRAWS * 5).cast(pa.list_(pa.float32()))
        columns = {field.name: pa.nulls(count, field.type) for field in schemas.DRAWS_SCHEMA}
        columns |= {"exam_id": pa.array(eyes["exam_id"].iloc[here]), "eye": pa.array(eyes["eye"].iloc[here])}
        columns |= {"status": pa.array(status), "probabilities": lists}
        path = layout.part_path(folder, name, chunk)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns, schema=schemas.DRAWS_SCHEMA), path)


def write_reads(folder: Path, reads: int) -> float:
    """Give out and read some exams through the store, as readers do, and return how long the run takes to open again.

    The first opening makes the index; how long that takes is printed.
    """
    started = time.perf_counter()
    desk = Desk(folder)
    size = (folder / "analysis" / "worklist.duckdb").stat().st_size / 2**20
    print(f"index made and opened in {time.perf_counter() - started:.1f} s, {size:.0f} MiB")
    pairs = desk.worklist("").first(2 * reads)
    desk.queues.assign(desk.run_id, pairs, "Dr A", by="Chief")
    for number, (patient_id, exam_id) in enumerate(pairs[:reads]):
        eyes = [{"eye": eye, "gradable": False} for eye in EYES]
        words = {"submission_key": f"benchmark-{number}", "reader": ("Dr A", "Dr B")[number % 2], "eyes": eyes}
        place = {"run_id": desk.run_id, "patient_id": patient_id, "exam_id": exam_id}
        desk.store.save(Submission.model_validate({**words, **place}))
    desk.queues.keep("Dr A", "Unsure, North", {"site": "North", "order": "uncertainty"})
    desk.close()
    started = time.perf_counter()
    desk = Desk(folder)
    desk.worklist("Dr A").page(0, 50)
    opened = time.perf_counter() - started
    desk.close()
    return opened


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """Run `workbench review` on a run; yield its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "workbench.cli.main", "review", str(folder), "--reader", "Dr A"]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address, process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


PATIENCE = 20_000
"""Milliseconds until a press is said to have changed nothing."""
SHOWN = """() => {
    for (const host of document.querySelectorAll("*")) {
        const rows = host.shadowRoot?.querySelector(".rows");
        if (rows?.dataset.shown) return rows.dataset.shown;
    }
    return "";
}"""
WATCH = f"""() => {{
    const shown = {SHOWN}, before = shown();
    window.took = null;
    {{
        const done = (milliseconds) => (window.took = milliseconds);
        let from = null;
        for (const kind of ["pointerdown", "keydown"]) {{
            window.addEventListener(kind, (event) => {{
                if (kind === "pointerdown" || event.key === "Enter") from ??= performance.now();
            }}, {{ capture: true, once: kind === "pointerdown" }});
        }}
        const look = () => {{
            const now = shown();
            if (from !== null && now && now !== before) requestAnimationFrame(() => done(performance.now() - from));
            else requestAnimationFrame(look);
        }};
        look();
    }}
}}"""
PAINT = f"""() => new Promise((done) => {{
    const look = () => ({SHOWN})() ? requestAnimationFrame(() => done(performance.now())) : requestAnimationFrame(look);
    look();
}})"""


def presses(page: Any) -> dict[str, Callable[[], None]]:
    """Return what is pressed, in order; each changes the rows that are shown."""

    def text(words: str) -> Callable[[], None]:
        return lambda: page.get_by_text(words, exact=True).click()

    def button(words: str) -> Callable[[], None]:
        return lambda: page.get_by_role("button", name=words, exact=True).click()

    def search(words: Callable[[], str]) -> Callable[[], None]:
        def work() -> None:
            page.get_by_label("Search").fill(words())
            page.get_by_label("Search").press("Enter")

        return work

    def cell(column: int) -> str:
        return str(page.locator(".rows tbody tr").first.locator("td").nth(column).inner_text())

    return {
        "filter on: eyes disagree": text("Eyes disagree"),
        "order: risk": button("Silent-failure risk"),
        "filter on: referred": text("Referred"),
        "filter off: referred": text("Referred"),
        "filter off: eyes disagree": text("Eyes disagree"),
        "next page": button("Next"),
        "last page": button("»"),
        "first page": button("«"),
        "order: uncertainty": button("Uncertainty"),
        "search: part of a patient's pseudonym": search(lambda: cell(0)[:4]),
        "search: one exam": search(lambda: cell(1)),
        "search: none": search(lambda: ""),
        "order: severity": button("OD"),
        "order: priority": button("Priority"),
    }


def measure(browser: Any, address: str, rounds: int) -> None:
    """Print first paint, each press and the opening of an exam."""
    from playwright.sync_api import TimeoutError as NothingChangedError

    page = browser.new_context(viewport={"width": 1366, "height": 768}, color_scheme="dark").new_page()
    page.set_default_timeout(60_000)
    painted = []
    for _ in range(rounds + 1):
        page.goto(address)
        painted.append(page.evaluate(PAINT))
    show("first paint of the rows (first visit, no cache)", painted[:1])
    show("first paint of the rows (later visits)", painted[1:])
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, press in presses(page).items():
            page.evaluate(WATCH)
            press()
            try:
                page.wait_for_function("() => window.took", timeout=PATIENCE)
            except NothingChangedError:
                sys.exit(f"{name}: the rows were the same {PATIENCE / 1000:.0f} s later; nothing can be timed")
            taken.setdefault(name, []).append(page.evaluate("() => window.took"))
            page.wait_for_timeout(300)
    for name, milliseconds in taken.items():
        show(f"  {name}", milliseconds)
    show("every interaction", [one for several in taken.values() for one in several])
    opened = []
    for place in range(rounds):
        page.locator(".rows tbody tr").nth(place).wait_for()
        page.evaluate(
            "() => { window.from = 0; addEventListener('pointerdown', () => window.from = performance.now(), true) }"
        )
        page.locator(".rows tbody tr").nth(place).click()
        page.locator(".who h2").wait_for()
        opened.append(page.evaluate("() => performance.now() - window.from"))
        page.get_by_role("button", name="Worklist", exact=True).click()
        page.locator(".rows[data-shown]").wait_for()
        page.wait_for_timeout(500)
    show("open an exam (its page stands, without photographs)", opened)


def show(name: str, milliseconds: list[float]) -> None:
    """Print a line of the table."""
    middle, slow = float(np.median(milliseconds)), float(np.percentile(milliseconds, 95))
    print(f"{name:<54} {len(milliseconds):4d}   median {middle:6.0f} ms   95th percentile {slow:6.0f} ms", flush=True)


def memory_of(leader: int) -> float:
    """Return the resident memory of the processes of one group, MiB."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == leader:
                pages = max(pages, int((folder / "statm").read_text().split()[1]))
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def main() -> None:
    """Write, serve, press, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exams", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=4, help="how often each press is made")
    parser.add_argument("--run", type=Path, help="a folder to keep the run in, or to find it in")
    given = parser.parse_args()
    if not CHROMIUM.exists():
        print(f"not measured: {CHROMIUM} is not installed")
        return
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = given.run or Path(name) / "run"
        if not layout.manifest_path(folder).exists():
            write_run(folder, given.exams)
        print(f"{given.exams:,} exams; load of this machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"opened again, with its first page, in {write_reads(folder, 200):.2f} s")
        with served(folder) as (address, leader):
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
            measure(browser, address, given.rounds)
            browser.close()
            print(f"memory of the app: {memory_of(leader):.0f} MiB")


if __name__ == "__main__":
    main()

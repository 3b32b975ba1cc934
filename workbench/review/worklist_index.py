"""The compact table behind the worklist: one row per exam, made once per analysis by DuckDB over the run's Parquet.

It is ``worklist.duckdb`` in the run's ``analysis`` folder, opened read-only; it holds a hash of what it was made
from, so an analysis made again makes it again. No true grade is in it, and no path or picture.
"""

from __future__ import annotations

import os
import threading
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int

from workbench.audit import layout
from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.review.forgotten import forgotten
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.worklist_names import write_pseudonyms
from workbench.review.worklist_risk import FOLDS, write_risk
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path, canonical_hash
from workbench.schema.progress import console

VERSION: Final = 4
REFERRED, AT_RISK, ROUTINE = 0, 1, 2
TIERS: Final = {REFERRED: "referred", AT_RISK: "check", ROUTINE: "routine"}
"""Referred by the policy; not referred, but with a sign of a silent failure; neither."""

ORDERS: Final = {
    "priority": "tier, score IS NOT NULL, "
    "IF(tier = 1, silent_flips + 0.5 * eyes_disagree::INTEGER, 0) DESC, score DESC NULLS LAST",
    "risk": "risk DESC NULLS LAST, silent_flips DESC, eyes_disagree DESC, score DESC NULLS LAST",
    "uncertainty": "score DESC NULLS FIRST",
    "disagreement": "eyes_disagree DESC, eyes_apart DESC NULLS LAST, score DESC NULLS LAST",
    "severity": "greatest(grade_OD, grade_OS) DESC NULLS LAST, p_referable DESC NULLS LAST",
    "patient": "patient_id",
    "shuffled": "sha256($run_id || exam_id)",
}
"""Name of an order → how it sorts; ties go by exam. Each is worked out once and kept as a column ``by_<name>``."""

BLIND_ORDER: Final = "shuffled"
"""The order that tells nothing of the model, nor of how the exams were imported."""

MEMORY: Final = {"serving": "1GB", "building": "4GB"}
_MANY: Final = 100_000
KEPT_LISTS: Final = 12
"""Filtered lists whose places are kept, 4 bytes an exam: paging through one, and going back to it, ask nothing anew."""

_EYES: Final = """
    CREATE TEMP TABLE people AS
    SELECT exam_id, arg_min(patient_id, file_row_number) AS patient_id, min(file_row_number) AS position,
        coalesce(max(status) FILTER (eye = 'OD'), 'missing') AS status_OD,
        coalesce(max(status) FILTER (eye = 'OS'), 'missing') AS status_OS,
        coalesce(arg_min(camera, file_row_number), '') AS camera,
        coalesce(arg_min(site, file_row_number), '') AS site
    FROM read_parquet($exams, file_row_number = true)
    WHERE len($erased) = 0 OR sha256($salt || patient_id) NOT IN (SELECT unnest($erased::VARCHAR[])) GROUP BY exam_id
"""
_DECISIONS: Final = f"""
    CREATE TEMP TABLE answered AS
    SELECT exam_id, patient_id, called_referable, referred, referred_why, wrong,
        known(p_referable) AS p_referable, known(score) AS score
    FROM read_parquet($decisions) WHERE measurement = '{CLEAN}' AND exam_id IN (SELECT exam_id FROM people)
"""
_FLIPS: Final = f"""
    CREATE TEMP TABLE flips AS
    SELECT s.exam_id, count(*) AS stresses,
        count(*) FILTER (s.called_referable <> c.called_referable AND NOT coalesce(s.referred, true)) AS silent_flips
    FROM read_parquet($decisions) s LEFT JOIN answered c USING (exam_id)
    WHERE s.measurement <> '{CLEAN}' GROUP BY s.exam_id
"""
_ANSWERS: Final = f"""
    CREATE TEMP TABLE answers AS
    WITH graded AS (
        SELECT exam_id, eye, grade_predicted AS grade, known(p_referable) AS p, {{flag}} AS flag,
            known({{score}}) AS score
        FROM read_parquet($eyes) WHERE measurement = '{CLEAN}'),
    ranked AS (
        SELECT *, IF(score IS NULL, NULL, (rank() OVER (ORDER BY score NULLS LAST)
            + (count(*) OVER (PARTITION BY score) - 1) / 2.0) / count(score) OVER ()) AS rank
        FROM graded)
    SELECT exam_id,
        max(grade) FILTER (eye = 'OD') AS grade_OD, max(grade) FILTER (eye = 'OS') AS grade_OS,
        max(p) FILTER (eye = 'OD') AS p_OD, max(p) FILTER (eye = 'OS') AS p_OS,
        max(rank) FILTER (eye = 'OD') AS rank_OD, max(rank) FILTER (eye = 'OS') AS rank_OS,
        nullif(concat_ws('; ', 'OD: ' || max(flag) FILTER (eye = 'OD'), 'OS: ' || max(flag) FILTER (eye = 'OS')), '')
            AS flag
    FROM ranked GROUP BY exam_id
"""
_JOINED: Final = """
    CREATE TEMP TABLE joined AS
    WITH found AS (
        SELECT people.* REPLACE (people.position // 2 AS position), answered.* EXCLUDE (exam_id, patient_id, referred),
            coalesce(answered.referred, true) AS referred,
            answers.* EXCLUDE (exam_id),
            coalesce(silent_flips, 0) AS silent_flips, coalesce(stresses, 0) AS stresses,
            status_OD <> 'ok' OR status_OS <> 'ok' AS incomplete,
            coalesce((p_OD >= $threshold) <> (p_OS >= $threshold) OR abs(grade_OD - grade_OS) >= 2, false)
                AND grade_OD IS NOT NULL AND grade_OS IS NOT NULL AS eyes_disagree,
            abs(grade_OD - grade_OS) + abs(p_OD - p_OS) AS eyes_apart,
            hash(people.patient_id) % $folds AS fold
        FROM people LEFT JOIN answered USING (exam_id) LEFT JOIN answers USING (exam_id)
            LEFT JOIN flips USING (exam_id)),
    risky AS (
        SELECT found.*, curve.risk AS chance FROM found ASOF LEFT JOIN risk curve
        ON found.fold = curve.fold AND found.called_referable = curve.called AND found.score >= curve.low)
    SELECT * EXCLUDE (chance, fold, wrong),
        IF(referred, NULL, chance) AS risk,
        CASE WHEN referred THEN 0 WHEN silent_flips > 0 OR eyes_disagree THEN 1 ELSE 2 END AS tier,
        IF(score IS NULL, NULL, (rank() OVER (ORDER BY score NULLS LAST)
            + (count(*) OVER (PARTITION BY score) - 1) / 2.0) / count(score) OVER ()) AS rank
    FROM risky
"""
_EXAMS: Final = """
    CREATE TABLE index.exams AS
    SELECT exam_id, patient_id, position::INTEGER AS position, left(sha256($run_id || '/' || exam_id), 16) AS token,
        lower(patient_id) || chr(10) || lower(exam_id) AS names, tier::UTINYINT AS tier, called_referable, p_referable,
        score, rank::FLOAT AS rank, risk::FLOAT AS risk, referred, referred_why, grade_OD::TINYINT AS grade_OD,
        grade_OS::TINYINT AS grade_OS, rank_OD, rank_OS, status_OD, status_OS, incomplete, eyes_disagree,
        flag IS NOT NULL AS flagged, flag, silent_flips::SMALLINT AS silent_flips, stresses::SMALLINT AS stresses,
        camera, site, places.* EXCLUDE (line)
    FROM joined JOIN places ON joined.rowid = places.line ORDER BY by_priority
"""
_TRUTH: Final = ("icdr_grade", "dme", "label_source", "label_level", "referable", "wrong", "silent_failure")
_LINES: Final = """
    CREATE TABLE index.{table} AS
    SELECT position, {columns} FROM read_parquet($path) source JOIN joined ON source.exam_id = joined.exam_id
    ORDER BY position
"""


class WorklistIndex:
    """The index of one run, opened; made first where it is not there or was made from another analysis.

    ``connection`` is a DuckDB connection with the index attached as ``index``: take a ``cursor()`` per query, and put
    what comes from elsewhere into tables of the connection's own memory.

    Args:
        run: finished.

    Raises:
        WorkbenchError: a table of the run is missing or damaged.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.path = run.folder / "analysis" / "worklist.duckdb"
        self.lock = threading.RLock()
        self._named = False
        self._asked: dict[str, Int[np.ndarray, " exam"]] = {}
        self.connection = connect()
        key = key_of(run)
        if not self._attach(key):
            self._make(key)
        counts = dict(self.all("SELECT tier, count(*) FROM index.exams GROUP BY tier"))
        self.tiers: tuple[int, ...] = tuple(int(counts.get(tier, 0)) for tier in TIERS)
        self.places: dict[str, tuple[str, ...]] = {name: self._values(name) for name in ("camera", "site")}
        self.has_flags: bool = self.one("SELECT coalesce(bool_or(flagged), false) FROM index.exams")[0]

    def __len__(self) -> int:
        """Return how many exams the run has."""
        return sum(self.tiers)

    def one(self, query: str, parameters: Any = None) -> tuple[Any, ...]:
        """Return the only row of a query."""
        found: tuple[Any, ...] = self.all(query, parameters)[0]
        return found

    def all(self, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.connection.cursor() as cursor:
            return list(cursor.execute(query, parameters).fetchall())

    def ready_for(self, names: Pseudonyms) -> None:
        """Make the exams searchable by pseudonym; done once."""
        with self.lock:
            if not self._named:
                write_pseudonyms(self.connection, names)
            self._named = True

    def places_of(
        self, where: str, given: dict[str, Any], place: str, stamp: tuple[int, int]
    ) -> Int[np.ndarray, " exam"]:
        """Return the places in an order of all exams that pass; the last few answers are kept.

        Args:
            where: the condition in SQL.
            given: what it is given.
            place: the column of the order.
            stamp: of the reads that the condition may ask for; another stamp is another question.
        """
        asked = canonical_hash([where, given, place, stamp])
        with self.lock:
            found = self._asked.pop(asked, None)
        if found is None:
            with self.connection.cursor() as cursor:
                found = cursor.execute(f"SELECT {place} FROM index.exams WHERE {where}", given).fetchnumpy()[place]
            found = np.sort(np.ma.getdata(found))
        with self.lock:
            self._asked[asked] = found
            while len(self._asked) > KEPT_LISTS:
                del self._asked[next(iter(self._asked))]
        return found

    def rows_of(self, table: Literal["exams", "decisions", "eyes"], exam_id: str) -> list[dict[str, Any]]:
        """Return the rows of one exam in a table of the run, without what is true of it; none for an unknown exam."""
        place = self.all("SELECT position FROM index.exams WHERE exam_id = ?", [exam_id])
        if not place:
            return []
        with self.connection.cursor() as cursor:
            # The tables lie in the order of the run: DuckDB passes over all but one block of rows.
            query = f"SELECT * EXCLUDE (position) FROM index.of_{table} WHERE position = {int(place[0][0])}"
            found = cursor.execute(query)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _values(self, column: str) -> tuple[str, ...]:
        query = f"SELECT {column} FROM index.exams WHERE {column} <> '' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 200"
        return tuple(str(row[0]) for row in self.all(query))

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()

    def _attach(self, key: str) -> bool:
        """Attach the file if it is there and was made from this analysis."""
        if not self.path.exists():
            return False
        try:
            self.connection.execute(f"ATTACH '{_quoted(self.path)}' AS index (READ_ONLY)")
            if self.one("SELECT value FROM index.facts WHERE name = 'key'") == (key,):
                return True
            self.connection.execute("DETACH index")
        except (duckdb.Error, IndexError):  # cut, damaged, or written by another version: it is made again
            self.connection.close()
            self.connection = connect()
        return False

    def _make(self, key: str) -> None:
        if self.run.manifest.exams >= _MANY:
            console.print(f"Making the worklist of {self.run.manifest.exams:,} exams (once per analysis)")
        try:
            with atomic_path(self.path) as temporary:
                build(self.run, key, temporary)
            self._attach(key)
        except WorkbenchError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            build(self.run, key, None, self.connection)  # a run that cannot be written is served from memory


def connect(work: Literal["serving", "building"] = "serving") -> Any:
    """Return a DuckDB connection of its own, which never asks the network and keeps to a bounded memory."""
    settings: dict[str, Any] = {
        "memory_limit": MEMORY[work],
        "threads": min(4, os.cpu_count() or 1),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    made = duckdb.connect(":memory:", config=settings)
    made.execute("SET enable_progress_bar = false")
    return made


def key_of(run: Run) -> str:
    """Return what names the analysis that an index is made from: sizes, times and ends of its files, cheap to have."""
    parts: list[Any] = [
        VERSION,
        duckdb.__version__,
        run.manifest.run_id,
        run.manifest.plan_hash,
        run.referable_threshold,
        forgotten(run.folder),
    ]
    for path in (*_sources(run).values(), layout.summary_path(run.folder)):
        try:
            state = path.stat()
        except FileNotFoundError:
            raise WorkbenchError(f"{path} is missing", "run the same audit command again: it only analyses") from None
        parts.append([path.name, state.st_size, state.st_mtime_ns])
    return canonical_hash(parts)


def build(run: Run, key: str, target: Path | None, connection: Any = None) -> None:
    """Make the index in a file, or in the memory of a connection where no file may be written.

    Raises:
        WorkbenchError: a table of the run is damaged.
    """
    with closing(connect("building")) if connection is None else nullcontext(connection) as made:
        made.execute(f"ATTACH '{':memory:' if target is None else _quoted(target)}' AS index")
        try:
            _fill(made, run)
        except duckdb.Error as error:
            line = " ".join(str(error).split())[:200]
            raise WorkbenchError(
                f"the analysis in {run.folder} cannot be read: {line}", "run the same audit command again"
            ) from None
        made.execute("CREATE TABLE index.facts AS SELECT 'key' AS name, $key AS value", {"key": key})
        if target is not None:
            made.execute("DETACH index")


def _fill(made: Any, run: Run) -> None:
    sources = {name: str(path) for name, path in _sources(run).items()}
    named = {name: {name: path} for name, path in sources.items()}
    made.execute("CREATE OR REPLACE TEMP MACRO known(x) AS IF(isnan(x), NULL, x)")
    gone = forgotten(run.folder)
    made.execute(_EYES, {**named["exams"], "salt": gone.get("salt", ""), "erased": gone.get("patients", [])})
    made.execute(_DECISIONS, named["decisions"])
    made.execute(_FLIPS, named["decisions"])
    columns = set(pq.read_schema(sources["eyes"]).names)
    score = run.manifest.policy.referral_score
    made.execute(
        _ANSWERS.format(
            flag="flag" if "flag" in columns else "NULL::VARCHAR",
            score=f'"{score}"' if score in columns else "predictive_entropy",
        ),
        named["eyes"],
    )
    write_risk(made)
    made.execute(_JOINED, {"threshold": run.referable_threshold, "folds": FOLDS})
    run_id = {"run_id": run.manifest.run_id}
    places = ", ".join(
        f"(row_number() OVER (ORDER BY {how}, exam_id) - 1)::INTEGER AS by_{name}" for name, how in ORDERS.items()
    )
    made.execute(f"CREATE TEMP TABLE places AS SELECT rowid AS line, {places} FROM joined", run_id)
    made.execute(_EXAMS, run_id)
    for name, path in sources.items():
        known = ", ".join(f'source."{column}"' for column in pq.read_schema(path).names if column not in _TRUTH)
        made.execute(_LINES.format(table=f"of_{name}", columns=known), {"path": path})
    for name in _TEMPORARY:
        made.execute(f"DROP TABLE temp.{name}")


_TEMPORARY: Final = ("people", "answered", "flips", "answers", "risk", "joined", "places")


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _sources(run: Run) -> dict[str, Path]:
    decisions, eyes = layout.analysis_path(run.folder, "decisions"), layout.analysis_path(run.folder, "eyes")
    return {"exams": layout.exams_path(run.folder), "decisions": decisions, "eyes": eyes}

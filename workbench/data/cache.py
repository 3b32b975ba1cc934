"""Prepared photographs in one memory-mapped file, made once per content and settings."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd
from jaxtyping import UInt8

from workbench.data.decode import NO_FILE, UnreadablePhotograph, read_photograph
from workbench.data.preprocess import ALGORITHM_VERSION, Preprocessed, preprocess_bytes
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import canonical_hash
from workbench.schema.progress import console, progress_bar
from workbench.schema.specs import PreprocessSpec

PIXELS_FILE: Final = "pixels.uint8"
INDEX_FILE: Final = "index.parquet"

CHANGED: Final = "file changed since import"

INDEX_TYPES: Final = {
    "slot": "Int64",
    "status": "string",
    "reason": "string",
    "crop_x": "Float64",
    "crop_y": "Float64",
    "crop_side": "Float64",
    "photo_width": "Int64",
    "photo_height": "Int64",
}
"""One row per photograph, in the order asked for; ``slot`` is null where there are no pixels."""


@dataclass(frozen=True)
class PixelCache:
    """A finished cache: its folder, how many eyes it stores at which size, and its index.

    It holds no open file, so it may be copied to another process.
    """

    folder: Path
    count: int
    size: int
    index: pd.DataFrame

    def open(self) -> UInt8[np.ndarray, "slot 3 height width"]:
        """Map the pixels, colour planes apart as models take them; what is touched is read, freed with the array."""
        shape = (self.count, 3, self.size, self.size)
        if self.count == 0:
            return np.zeros(shape, np.uint8)
        return np.memmap(self.folder / PIXELS_FILE, dtype=np.uint8, mode="r", shape=shape)


def build_cache(
    paths: Sequence[str],
    digests: Sequence[str],
    spec: PreprocessSpec,
    root: Path,
    *,
    workers: int | None = None,
) -> PixelCache:
    """Return the cache of these photographs below ``root``, made now unless it is there.

    Args:
        paths: the photographs.
        digests: their sha256 by the manifest; a file with another one becomes a row with the reason `CHANGED`.
        spec: the preprocessing.
        root: the folder of all caches.
        workers: threads (decoding and scaling run outside Python's lock); None: one per core.

    Raises:
        WorkbenchError: the folder cannot be written.
    """
    kinds = [Path(path).suffix.lower() for path in paths]
    key = canonical_hash([ALGORITHM_VERSION, spec.model_dump(), list(digests), kinds])[:24]
    folder = root / key
    found = _read(folder, spec)
    if found is not None and not _mended(found.index, paths, digests):
        return found
    try:
        with _sole_builder(root, key):
            # Another process may have made it while this one waited.
            found = _read(folder, spec)
            if found is None or _mended(found.index, paths, digests):
                _build(paths, digests, spec, folder, workers or os.cpu_count() or 1)
    except OSError as error:
        raise WorkbenchError(
            f"cannot write the cache {folder}: {error.strerror or error}", "free space or choose another cache folder"
        ) from error
    built = _read(folder, spec)
    if built is None:
        raise WorkbenchError(f"the cache {folder} cannot be read back", "check the disk, delete the folder and retry")
    return built


def _read(folder: Path, spec: PreprocessSpec) -> PixelCache | None:
    """Return the cache in ``folder``; None where there is none, or where a file was cut or lost."""
    try:
        index = pd.read_parquet(folder / INDEX_FILE).astype(INDEX_TYPES)
        stored = (folder / PIXELS_FILE).stat().st_size
    except (OSError, ValueError, KeyError):
        return None
    count = int(index["slot"].notna().sum())
    return PixelCache(folder, count, spec.size, index) if stored == count * spec.size**2 * 3 else None


def _mended(index: pd.DataFrame, paths: Sequence[str], digests: Sequence[str]) -> bool:
    """Tell whether a photograph that was absent or changed when the cache was made is now as the manifest says."""
    for row in index.index[index["reason"].isin([CHANGED, NO_FILE])]:
        try:
            data = read_photograph(Path(paths[row]))
        except UnreadablePhotograph:
            continue
        if hashlib.sha256(data).hexdigest() == digests[row]:
            return True
    return False


@contextmanager
def _sole_builder(root: Path, key: str) -> Iterator[None]:
    """Let one process at a time build this cache; the lock dies with its process."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{key}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own inside each of ours."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _build(paths: Sequence[str], digests: Sequence[str], spec: PreprocessSpec, folder: Path, workers: int) -> None:
    """Prepare every photograph into a folder with a temporary name, then rename it."""
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        started = time.perf_counter()
        rows: list[dict[str, Any]] = []
        with (building / PIXELS_FILE).open("wb") as pixels, _one_opencv_thread():
            for result in _in_order(paths, digests, spec, workers):
                rows.append(_row(result, slot=pixels.tell() // (spec.size**2 * 3)))
                if isinstance(result, Preprocessed):
                    pixels.write(result.pixels.transpose(2, 0, 1).tobytes())
            pixels.flush()
            os.fsync(pixels.fileno())
        index = pd.DataFrame(rows, columns=list(INDEX_TYPES)).astype(INDEX_TYPES)
        index.to_parquet(building / INDEX_FILE)
        shutil.rmtree(folder, ignore_errors=True)
        building.replace(folder)
        _tell(index, folder, time.perf_counter() - started)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _in_order(
    paths: Sequence[str], digests: Sequence[str], spec: PreprocessSpec, workers: int
) -> Iterator[Preprocessed | str]:
    """Yield each photograph's pixels, or the reason why there are none, in order, under a progress bar."""
    work = zip(paths, digests, strict=True)
    with ThreadPoolExecutor(workers) as pool, progress_bar() as bar:
        task = bar.add_task("Preparing photographs", total=len(paths), info="")
        # Only so many are under way at once, so that memory does not grow with the number of exams.
        ahead: deque[Future[Preprocessed | str]] = deque()
        refused = 0
        for path, digest in islice(work, 4 * workers):
            ahead.append(pool.submit(_prepare, Path(path), digest, spec))
        while ahead:
            result = ahead.popleft().result()
            for path, digest in islice(work, 1):
                ahead.append(pool.submit(_prepare, Path(path), digest, spec))
            refused += isinstance(result, str)
            bar.update(task, advance=1, info=f"{refused} not usable" if refused else "")
            yield result


def _prepare(path: Path, digest: str, spec: PreprocessSpec) -> Preprocessed | str:
    try:
        data = read_photograph(path)
        if hashlib.sha256(data).hexdigest() != digest:
            return CHANGED
        return preprocess_bytes(data, path.suffix, spec)
    except UnreadablePhotograph as error:
        return error.reason


def _row(result: Preprocessed | str, slot: int) -> dict[str, Any]:
    if isinstance(result, str):
        return {"status": "missing" if result == NO_FILE else "ungradable", "reason": result}
    lies = result.geometry
    return {
        "slot": slot,
        "status": "ok",
        "crop_x": lies.x,
        "crop_y": lies.y,
        "crop_side": lies.side,
        "photo_width": lies.photo_width,
        "photo_height": lies.photo_height,
    }


def _tell(index: pd.DataFrame, folder: Path, seconds: float) -> None:
    """Say once what was prepared and what was not, and why."""
    refused = index["reason"].dropna().value_counts()
    console.print(
        f"{len(index) - int(refused.sum())} of {len(index)} photographs prepared in {seconds:.1f} s: {folder}"
    )
    for reason, count in refused.items():
        console.print(f"  {count} × {reason}", markup=False)

"""The files themselves: where they lie, whether they are photographs, their sha256."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from PIL import Image, UnidentifiedImageError

from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import track

FORMATS: Final = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""Extension (lower case) → what the content must be."""

MAX_BYTES: Final = 1 << 30
"""A larger file is no fundus photograph; it is not read."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class FileFact:
    """A file's sha256, and why it cannot be used ('' when it can)."""

    sha256: str
    fault: str


def require_folder(folder: Path, flag: str) -> Path:
    """Return ``folder``.

    Raises:
        WorkbenchError: it is no folder.
    """
    if not folder.is_dir():
        raise WorkbenchError(f"no folder at {folder}", f"check {flag}")
    return folder


def files_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return every photograph's file directly in ``folder``, by its name without extension."""
    found: dict[str, list[Path]] = defaultdict(list)
    with os.scandir(folder) as entries:
        paths = sorted(folder / entry.name for entry in entries)
    for path in paths:
        if path.suffix.lower() in FORMATS:
            found[path.stem].append(path)
    return dict(found)


def the_file(candidates: list[Path] | None, name: str) -> tuple[Path | None, str]:
    """Return the one file of a name, or None and why."""
    if not candidates:
        return None, f"no such photograph: {name}"
    if len(candidates) > 1:
        return None, f"several files answer to one name: {', '.join(path.name for path in candidates)}"
    return candidates[0], ""


def inside(folder: Path, name: str) -> tuple[Path | None, str]:
    """Return ``folder/name``, or None and why: it leaves the folder, or is not there."""
    path = Path(os.path.normpath(folder / name))
    if "\0" in name or not path.is_relative_to(os.path.normpath(folder)):
        return None, f"the path leaves the images folder: {name!r}"
    return (path, "") if path.is_file() else (None, f"no such photograph: {name}")


def look_at(path: Path) -> FileFact:
    """Hash a file and judge by its content whether it is the photograph that its name promises."""
    try:
        if not path.is_file():
            return FileFact("", "no such file")
        if path.stat().st_size > MAX_BYTES:
            return FileFact("", f"larger than {MAX_BYTES >> 30} GiB")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        return FileFact("", f"cannot be read: {getattr(error, 'strerror', None) or error}")
    return FileFact(hashlib.sha256(content).hexdigest(), _fault(path, content))


def _fault(path: Path, content: bytes) -> str:
    if not content:
        return "empty file"
    expected = FORMATS.get(path.suffix.lower())
    if expected is None:
        return f"not a photograph's extension: {path.suffix or 'none'}"
    try:
        with Image.open(io.BytesIO(content)) as image:
            # Some fundus cameras write a preview after the photograph: a multi-picture JPEG.
            found = "JPEG" if image.format == "MPO" else str(image.format)
    except UnidentifiedImageError:
        return "not an image"
    except Image.DecompressionBombError:
        return "too many pixels to be a photograph"
    except Exception as error:
        # Pillow's plugins raise what they please on a damaged header (SyntaxError, struct.error, KeyError, ...).
        return f"not a readable image: {' '.join(str(error).split()) or type(error).__name__}"
    if found != expected:
        return f"its content is {found}, its name says {expected}"
    return "truncated" if _is_cut(content, found) else ""


def _is_cut(content: bytes, kind: str) -> bool:
    """Tell whether a JPEG or PNG lacks its end; other kinds are found out when they are decoded."""
    if kind == "JPEG":
        # Inside compressed data a marker cannot occur (bytes FF are stuffed), so the last scan of a whole file is
        # followed by an end marker; a thumbnail's end stands before it.
        return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")
    return kind == "PNG" and b"IEND" not in content[-4096:]


def in_threads(
    work: Callable[[Item], Outcome], items: Iterable[Item], description: str, workers: int | None = None
) -> list[Outcome]:
    """Apply ``work`` to each item, in order, under a progress bar; reading and hashing release Python's lock."""
    listed = list(items)
    threads = workers or min(8, os.cpu_count() or 1)
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        # Set here, not in the threads: the filters are the process's. Twice the limit is still an error.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        # A wrong EXIF block says nothing about the pixels.
        warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
        return list(track(pool.map(work, listed), description, total=len(listed)))

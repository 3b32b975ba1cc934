"""A JPEG reduced to what its pixels need: the same pixels bit by bit, and nothing that could name a patient."""

from __future__ import annotations

import re
from typing import Final

_TABLES_AND_FRAMES: Final = {0xDB, 0xC4, 0xDD, 0xC0, 0xC1, 0xC2}
"""Quantisation and Huffman tables, the restart interval, and the frames of baseline and progressive JPEG."""
_SCAN, _END, _JFIF, _ADOBE = 0xDA, 0xD9, 0xE0, 0xEE
_DROPPED: Final = {*range(0xE0, 0xF0), 0xFE}
"""Application segments (EXIF, XMP, thumbnails, profiles) and comments."""
_PLAIN_JFIF: Final = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_END_OF_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""In entropy-coded data, FF is followed by 00, by a restart marker or by padding; anything else ends it."""


def bare_jpeg(data: bytes) -> bytes | None:
    """Return the JPEG with its tables, its frame and its scans alone; whatever lies behind its end is cut off.

    Returns:
        None where the file is laid out in a way that this does not know (then it must be decoded and encoded anew).
    """
    if data[:2] != b"\xff\xd8":
        return None
    kept: list[bytes] = []
    at, colour_words = 2, b""
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
            continue
        if marker == _END:
            return b"".join([b"\xff\xd8", colour_words, *kept, b"\xff\xd9"])
        after = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at:after]
        if marker == _SCAN:
            found = _END_OF_SCAN.search(data, after)
            if found is None:
                return None
            after = found.start()
            kept.append(data[at:after])
        elif marker in _TABLES_AND_FRAMES:
            kept.append(segment)
        elif marker in _DROPPED:
            colour_words = _colours_of(marker, segment) or colour_words
        else:
            return None
        at = after
    # A lone end marker at the very end of the file is shorter than a segment's head.
    return b"".join([b"\xff\xd8", colour_words, *kept, b"\xff\xd9"]) if data[at : at + 2] == b"\xff\xd9" else None


def _colours_of(marker: int, segment: bytes) -> bytes:
    """Return a fresh segment that says what the dropped one said about colours: which decoders read as YCbCr or RGB."""
    if marker == _JFIF and segment[4:9] == b"JFIF\x00":
        return _PLAIN_JFIF
    if marker == _ADOBE and segment[4:9] == b"Adobe" and len(segment) >= 16:
        return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + segment[15:16]
    return b""

"""Pseudonyms beside the worklist's index, so that a million exams can be searched by the names that pages show."""

from __future__ import annotations

from typing import Any, Final

from workbench.review.pseudonyms import ALPHABET, Pseudonyms

_HASH: Final = (
    "sha256(outer_pad || unhex(sha256(inner_pad || encode('{letter}') || '\\x00'::BLOB || encode({column}))))"
)
_BITS: Final = f"('0x' || substr({_HASH}, 1, 15))::UBIGINT"
_LETTERS: Final = " || ".join(
    f"substr('{ALPHABET.lower()}', 1 + (({{bits}} >> {shift}) & 31)::INTEGER, 1)" for shift in range(55, -1, -5)
)
_TABLE: Final = f"""
    CREATE TABLE pseudonyms AS
    WITH hashed AS MATERIALIZED (
        SELECT by_priority AS place, {_BITS.format(letter="P", column="patient_id")} AS patient,
            {_BITS.format(letter="E", column="exam_id")} AS exam
        FROM index.exams, (SELECT $inner::BLOB AS inner_pad, $outer::BLOB AS outer_pad))
    SELECT place,
        'p-' || {_LETTERS.format(bits="patient")} || chr(10) || 'e-' || {_LETTERS.format(bits="exam")} AS shown
    FROM hashed
"""


def write_pseudonyms(connection: Any, names: Pseudonyms) -> None:
    """Make the table ``pseudonyms`` (place, shown) in the memory of a DuckDB connection with an index attached.

    The same names as `Pseudonyms` gives, in small letters: 60 bits of HMAC-SHA256 (RFC 2104), worked out on all cores.
    They are never written to a file: beside the true names they would undo themselves.
    """
    inner, outer = names.pads()
    with connection.cursor() as cursor:
        cursor.execute(_TABLE, {"inner": inner, "outer": outer})

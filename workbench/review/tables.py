"""The tables of `reviews.sqlite`, as SQLAlchemy sees them; the migrations say how they came to be."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData()

reads: Final = Table(
    "reads",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("submission_key", String(64), nullable=False),
    Column("saved_at", String(32), nullable=False),
    Column("reader", String(200), nullable=False),
    Column("protocol", String(40), nullable=False),
    Column("stage", String(40), nullable=False),
    Column("run_id", String(100), nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("exam_id", Text, nullable=False),
    Column("eye", String(2), nullable=False),
    Column("gradable", Boolean, nullable=False),
    Column("icdr_grade", Integer),
    Column("agreement", String(16)),
    Column("reason_code", String(40)),
    Column("note", Text, nullable=False),
    Column("model_answer", Text, nullable=False),
    Column("image_sha256", String(64), nullable=False),
    Column("supersedes", Integer, ForeignKey("reads.id")),
    UniqueConstraint("submission_key", "eye", name="one_read_per_submission_and_eye"),
    UniqueConstraint("supersedes", name="superseded_once"),
    CheckConstraint("eye IN ('OD', 'OS')", name="eye_known"),
    CheckConstraint("icdr_grade BETWEEN 0 AND 4", name="grade_in_scale"),
    CheckConstraint("gradable = (icdr_grade IS NOT NULL)", name="graded_or_ungradable"),
    CheckConstraint("agreement IN ('agree', 'disagree')", name="agreement_known"),
    CheckConstraint("agreement <> 'disagree' OR reason_code IS NOT NULL", name="disagreement_has_a_reason"),
    Index("reads_of_an_exam", "run_id", "exam_id"),
    Index("reads_of_a_reader", "reader", "run_id"),
)
"""One row per eye and submission. Rows are added, never changed: a correction names the row that it supersedes."""

"""The tables of the reviews, as SQLAlchemy sees them; the migrations say how they came to be."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
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

events: Final = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key", String(100), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("at", String(32), nullable=False),
    Column("actor", String(40), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("key", name="each_event_once"),
    UniqueConstraint("prev_hash", name="one_event_follows_another"),
)
"""The audit trail: numbered without a gap, each row sealed with the one before (`trail`); no personal content."""

chain: Final = Table(
    "chain",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("length", Integer, nullable=False),
    Column("head", String(64), nullable=False),
    CheckConstraint("id = 1", name="one_chain"),
)
"""The last row of the trail; whoever appends holds this row."""

salts: Final = Table(
    "salts",
    metadata,
    Column("event_id", Integer, ForeignKey("events.id"), primary_key=True, autoincrement=False),
    Column("salt", String(32), nullable=False),
)
"""Part of what each digest is made of: once it is erased, a digest cannot be guessed back to its content."""

users: Final = Table(
    "users",
    metadata,
    Column("event_id", Integer, ForeignKey("events.id"), primary_key=True, autoincrement=False),
    Column("subject", String(200), nullable=False),
    Column("display_name", String(200), nullable=False),
    Column("pseudonym", String(40), nullable=False),
    UniqueConstraint("subject", name="each_user_once"),
    UniqueConstraint("pseudonym", name="each_pseudonym_once"),
)
"""Who reads: the name typed on one's own machine, or the login's subject; nothing else is known of a person."""

grants: Final = Table(
    "grants",
    metadata,
    Column("event_id", Integer, ForeignKey("events.id"), primary_key=True, autoincrement=False),
    Column("subject", String(200), ForeignKey("users.subject"), nullable=False),
    Column("role", String(40), nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("by_subject", String(200), nullable=False),
    CheckConstraint("role IN ('reader', 'adjudicator', 'admin', 'auditor')", name="role_known"),
    Index("grants_of_a_user", "subject"),
)
"""A role given or taken; the last row for a person and a role holds."""

sessions: Final = Table(
    "sessions",
    metadata,
    Column("id_hash", String(64), primary_key=True),
    Column("subject", String(200), ForeignKey("users.subject"), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("last_seen_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("revoked_at", String(32)),
    Index("sessions_of_a_user", "subject"),
)
"""Logins. The token itself is only in the browser; its hash is here. Not part of the trail, its events are."""

submissions: Final = Table(
    "submissions",
    metadata,
    Column("event_id", Integer, ForeignKey("events.id"), primary_key=True, autoincrement=False),
    Column("submission_key", String(64), nullable=False),
    Column("saved_at", String(32), nullable=False),
    Column("reader", String(200), ForeignKey("users.subject"), nullable=False),
    Column("role", String(40), nullable=False),
    Column("protocol", String(40), nullable=False),
    Column("stage", String(40), nullable=False),
    Column("run_id", String(100), nullable=False),
    Column("model_hash", String(64), nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("exam_id", Text, nullable=False),
    Column("opened_at", String(40)),
    Column("seconds_active", Float),
    Column("disposition", String(16)),
    Column("rescreen_months", Integer),
    Column("note", Text, nullable=False),
    Column("shown", Text, nullable=False),
    Column("drawn", Text, nullable=False),
    Column("supersedes", Integer, ForeignKey("submissions.event_id")),
    UniqueConstraint("submission_key", name="each_submission_once"),
    UniqueConstraint("supersedes", name="submission_superseded_once"),
    CheckConstraint("disposition IN ('refer', 'rescreen')", name="disposition_known"),
    CheckConstraint("rescreen_months IS NULL OR disposition = 'rescreen'", name="months_belong_to_rescreen"),
    Index("submissions_of_an_exam", "run_id", "exam_id"),
    Index("submissions_of_a_reader", "reader", "run_id"),
    Index("submissions_of_a_patient", "patient_id"),
)
"""One row per press of *save*: who read what, under which protocol and stage, and what was shown."""

reads: Final = Table(
    "reads",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("event_id", Integer, ForeignKey("submissions.event_id"), nullable=False),
    Column("eye", String(2), nullable=False),
    Column("gradable", Boolean, nullable=False),
    Column("icdr_grade", Integer),
    Column("dme", Integer),
    Column("confidence", Integer),
    Column("agreement", String(16)),
    Column("reason_code", String(40)),
    Column("note", Text, nullable=False),
    Column("model_answer", Text, nullable=False),
    Column("image_sha256", String(64), nullable=False),
    Column("supersedes", Integer, ForeignKey("reads.id")),
    UniqueConstraint("event_id", "eye", name="one_read_per_submission_and_eye"),
    UniqueConstraint("supersedes", name="read_superseded_once"),
    CheckConstraint("eye IN ('OD', 'OS')", name="eye_known"),
    CheckConstraint("icdr_grade BETWEEN 0 AND 4", name="grade_in_scale"),
    CheckConstraint("dme BETWEEN 0 AND 3", name="dme_in_scale"),
    CheckConstraint("confidence BETWEEN 1 AND 5", name="confidence_in_scale"),
    CheckConstraint("gradable = (icdr_grade IS NOT NULL)", name="graded_or_ungradable"),
    CheckConstraint("agreement IN ('agree', 'disagree')", name="agreement_known"),
    CheckConstraint("agreement <> 'disagree' OR reason_code IS NOT NULL", name="disagreement_has_a_reason"),
)
"""One row per eye of a submission. Rows are added, never changed: a correction names the row that it supersedes."""

reveals: Final = Table(
    "reveals",
    metadata,
    Column("event_id", Integer, ForeignKey("events.id"), primary_key=True, autoincrement=False),
    Column("reader", String(200), ForeignKey("users.subject"), nullable=False),
    Column("run_id", String(100), nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("exam_id", Text, nullable=False),
    Column("protocol", String(40), nullable=False),
    Column("stage", String(40), nullable=False),
    Column("shown", Text, nullable=False),
    UniqueConstraint("run_id", "exam_id", "reader", "protocol", "stage", name="revealed_once"),
    Index("reveals_of_a_patient", "patient_id"),
)
"""What of the model was shown to whom and when; from the first one on, that reader's blinded read is closed."""

assignments: Final = Table(
    "assignments",
    metadata,
    Column("event_id", Integer, ForeignKey("events.id"), primary_key=True, autoincrement=False),
    Column("run_id", String(100), nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("exam_id", Text, nullable=False),
    Column("reader", String(200), ForeignKey("users.subject"), nullable=False),
    Column("protocol", String(40), nullable=False),
    Column("assigned", Boolean, nullable=False),
    Column("by_subject", String(200), nullable=False),
    Index("assignments_of_a_run", "run_id", "reader"),
    Index("assignments_of_a_patient", "patient_id"),
)
"""An exam given to a reader or taken back; the last row for an exam and a reader holds."""

facts: Final = Table(
    "facts",
    metadata,
    Column("event_id", Integer, ForeignKey("events.id"), primary_key=True, autoincrement=False),
    Column("run_id", String(100)),
    Column("patient_id", Text),
    Column("exam_id", Text),
    Column("content", Text, nullable=False),
    Index("facts_of_a_patient", "patient_id"),
)
"""What else happened (an export, a login, an opened exam); the event's kind says what."""

tombstones: Final = Table(
    "tombstones",
    metadata,
    Column("event_id", Integer, ForeignKey("events.id"), primary_key=True, autoincrement=False),
    Column("erased_by", Integer, ForeignKey("events.id"), nullable=False),
    Index("tombstones_of_an_erasure", "erased_by"),
)
"""Events whose content was erased, and the event that erased it. Their digests stay in the trail."""

drafts: Final = Table(
    "drafts",
    metadata,
    Column("reader", String(200), primary_key=True),
    Column("run_id", String(100), primary_key=True),
    Column("exam_id", Text, primary_key=True),
    Column("protocol", String(40), primary_key=True),
    Column("stage", String(40), primary_key=True),
    Column("patient_id", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("updated_at", String(32), nullable=False),
    Index("drafts_of_a_patient", "patient_id"),
)
"""What is typed and not yet saved; changed freely, no part of the trail."""

queues: Final = Table(
    "queues",
    metadata,
    Column("owner", String(200), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("shared", Boolean, nullable=False),
    Column("filters", Text, nullable=False),
    Column("updated_at", String(32), nullable=False),
)
"""Saved filters of the worklist; changed freely, no part of the trail."""

CONTENT: Final[dict[str, tuple[Table, str]]] = {
    "salts": (salts, "event_id"),
    "users": (users, "event_id"),
    "grants": (grants, "event_id"),
    "submissions": (submissions, "event_id"),
    "reads": (reads, "event_id"),
    "reveals": (reveals, "event_id"),
    "assignments": (assignments, "event_id"),
    "facts": (facts, "event_id"),
    "tombstones": (tombstones, "erased_by"),
}
"""What the trail seals: table → the column that says to which event a row belongs; parents before children."""

ERASABLE: Final = ("reads", "submissions", "reveals", "assignments", "facts", "salts")
"""Tables from which an erased patient's rows may go; children before parents."""

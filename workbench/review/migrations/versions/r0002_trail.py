"""Protocols, patients, people, worklists, and the hash-chained trail; the reads of 0001 are kept, with their ids."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from workbench.review.trail import GENESIS, appending

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TRAILED = (
    "events",
    "salts",
    "users",
    "grants",
    "submissions",
    "reads",
    "reveals",
    "assignments",
    "facts",
    "tombstones",
)
ERASABLE = ("salts", "submissions", "reads", "reveals", "assignments", "facts")


def upgrade() -> None:
    """Take the old reads out, make the tables, put the reads back as the first rows of the trail, then lock them."""
    connection = op.get_bind()
    old = [dict(row) for row in connection.execute(sa.text("SELECT * FROM reads ORDER BY id")).mappings()]
    op.drop_table("reads")  # its triggers and indexes go with it
    _make_trail()
    _make_people()
    _make_reads()
    _make_worklists()
    connection.execute(sa.text("INSERT INTO chain (id, length, head) VALUES (1, 0, :head)"), {"head": GENESIS})
    if old:
        _put_back(connection, old)
    if connection.dialect.name == "sqlite":
        _lock_sqlite()
    else:
        _lock_postgresql()


def downgrade() -> None:
    """Refuse: reads are never thrown away."""
    raise NotImplementedError("reads are append-only; restore a backup instead")


def _event_id(target: str = "events.id") -> sa.Column[int]:
    return sa.Column("event_id", sa.Integer, sa.ForeignKey(target), primary_key=True, autoincrement=False)


def _make_trail() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(40), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("key", name="each_event_once"),
        sa.UniqueConstraint("prev_hash", name="one_event_follows_another"),
    )
    op.create_table(
        "chain",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
        sa.CheckConstraint("id = 1", name="one_chain"),
    )
    op.create_table("salts", _event_id(), sa.Column("salt", sa.String(32), nullable=False))
    op.create_table(
        "tombstones", _event_id(), sa.Column("erased_by", sa.Integer, sa.ForeignKey("events.id"), nullable=False)
    )
    op.create_index("tombstones_of_an_erasure", "tombstones", ["erased_by"])
    op.create_table(
        "facts",
        _event_id(),
        sa.Column("run_id", sa.String(100)),
        sa.Column("patient_id", sa.Text),
        sa.Column("exam_id", sa.Text),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_index("facts_of_a_patient", "facts", ["patient_id"])


def _make_people() -> None:
    op.create_table(
        "users",
        _event_id(),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("display_name", sa.String(200), nullable=False),
        sa.Column("pseudonym", sa.String(40), nullable=False),
        sa.UniqueConstraint("subject", name="each_user_once"),
        sa.UniqueConstraint("pseudonym", name="each_pseudonym_once"),
    )
    op.create_table(
        "grants",
        _event_id(),
        sa.Column("subject", sa.String(200), sa.ForeignKey("users.subject"), nullable=False),
        sa.Column("role", sa.String(40), nullable=False),
        sa.Column("granted", sa.Boolean, nullable=False),
        sa.Column("by_subject", sa.String(200), nullable=False),
        sa.CheckConstraint("role IN ('reader', 'adjudicator', 'admin', 'auditor')", name="role_known"),
    )
    op.create_index("grants_of_a_user", "grants", ["subject"])
    op.create_table(
        "sessions",
        sa.Column("id_hash", sa.String(64), primary_key=True),
        sa.Column("subject", sa.String(200), sa.ForeignKey("users.subject"), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("last_seen_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("revoked_at", sa.String(32)),
    )
    op.create_index("sessions_of_a_user", "sessions", ["subject"])


def _make_reads() -> None:
    op.create_table(
        "submissions",
        _event_id(),
        sa.Column("submission_key", sa.String(64), nullable=False),
        sa.Column("saved_at", sa.String(32), nullable=False),
        sa.Column("reader", sa.String(200), sa.ForeignKey("users.subject"), nullable=False),
        sa.Column("role", sa.String(40), nullable=False),
        sa.Column("protocol", sa.String(40), nullable=False),
        sa.Column("stage", sa.String(40), nullable=False),
        sa.Column("run_id", sa.String(100), nullable=False),
        sa.Column("model_hash", sa.String(64), nullable=False),
        sa.Column("patient_id", sa.Text, nullable=False),
        sa.Column("exam_id", sa.Text, nullable=False),
        sa.Column("opened_at", sa.String(40)),
        sa.Column("seconds_active", sa.Float),
        sa.Column("disposition", sa.String(16)),
        sa.Column("rescreen_months", sa.Integer),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("drawn", sa.Text, nullable=False),
        sa.Column("supersedes", sa.Integer, sa.ForeignKey("submissions.event_id")),
        sa.UniqueConstraint("submission_key", name="each_submission_once"),
        sa.UniqueConstraint("supersedes", name="submission_superseded_once"),
        sa.CheckConstraint("disposition IN ('refer', 'rescreen')", name="disposition_known"),
        sa.CheckConstraint("rescreen_months IS NULL OR disposition = 'rescreen'", name="months_belong_to_rescreen"),
    )
    op.create_index("submissions_of_an_exam", "submissions", ["run_id", "exam_id"])
    op.create_index("submissions_of_a_reader", "submissions", ["reader", "run_id"])
    op.create_index("submissions_of_a_patient", "submissions", ["patient_id"])
    op.create_table(
        "reads",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.Integer, sa.ForeignKey("submissions.event_id"), nullable=False),
        sa.Column("eye", sa.String(2), nullable=False),
        sa.Column("gradable", sa.Boolean, nullable=False),
        sa.Column("icdr_grade", sa.Integer),
        sa.Column("dme", sa.Integer),
        sa.Column("confidence", sa.Integer),
        sa.Column("agreement", sa.String(16)),
        sa.Column("reason_code", sa.String(40)),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("model_answer", sa.Text, nullable=False),
        sa.Column("image_sha256", sa.String(64), nullable=False),
        sa.Column("supersedes", sa.Integer, sa.ForeignKey("reads.id")),
        sa.UniqueConstraint("event_id", "eye", name="one_read_per_submission_and_eye"),
        sa.UniqueConstraint("supersedes", name="read_superseded_once"),
        sa.CheckConstraint("eye IN ('OD', 'OS')", name="eye_known"),
        sa.CheckConstraint("icdr_grade BETWEEN 0 AND 4", name="grade_in_scale"),
        sa.CheckConstraint("dme BETWEEN 0 AND 3", name="dme_in_scale"),
        sa.CheckConstraint("confidence BETWEEN 1 AND 5", name="confidence_in_scale"),
        sa.CheckConstraint("gradable = (icdr_grade IS NOT NULL)", name="graded_or_ungradable"),
        sa.CheckConstraint("agreement IN ('agree', 'disagree')", name="agreement_known"),
        sa.CheckConstraint("agreement <> 'disagree' OR reason_code IS NOT NULL", name="disagreement_has_a_reason"),
    )
    op.create_table(
        "reveals",
        _event_id(),
        sa.Column("reader", sa.String(200), sa.ForeignKey("users.subject"), nullable=False),
        sa.Column("run_id", sa.String(100), nullable=False),
        sa.Column("patient_id", sa.Text, nullable=False),
        sa.Column("exam_id", sa.Text, nullable=False),
        sa.Column("protocol", sa.String(40), nullable=False),
        sa.Column("stage", sa.String(40), nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", "exam_id", "reader", "protocol", "stage", name="revealed_once"),
    )
    op.create_index("reveals_of_a_patient", "reveals", ["patient_id"])


def _make_worklists() -> None:
    op.create_table(
        "assignments",
        _event_id(),
        sa.Column("run_id", sa.String(100), nullable=False),
        sa.Column("patient_id", sa.Text, nullable=False),
        sa.Column("exam_id", sa.Text, nullable=False),
        sa.Column("reader", sa.String(200), sa.ForeignKey("users.subject"), nullable=False),
        sa.Column("protocol", sa.String(40), nullable=False),
        sa.Column("assigned", sa.Boolean, nullable=False),
        sa.Column("by_subject", sa.String(200), nullable=False),
    )
    op.create_index("assignments_of_a_run", "assignments", ["run_id", "reader"])
    op.create_index("assignments_of_a_patient", "assignments", ["patient_id"])
    op.create_table(
        "drafts",
        sa.Column("reader", sa.String(200), primary_key=True),
        sa.Column("run_id", sa.String(100), primary_key=True),
        sa.Column("exam_id", sa.Text, primary_key=True),
        sa.Column("protocol", sa.String(40), primary_key=True),
        sa.Column("stage", sa.String(40), primary_key=True),
        sa.Column("patient_id", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("updated_at", sa.String(32), nullable=False),
    )
    op.create_index("drafts_of_a_patient", "drafts", ["patient_id"])
    op.create_table(
        "queues",
        sa.Column("owner", sa.String(200), primary_key=True),
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("shared", sa.Boolean, nullable=False),
        sa.Column("filters", sa.Text, nullable=False),
        sa.Column("updated_at", sa.String(32), nullable=False),
    )


def _put_back(connection: sa.Connection, old: list[dict[str, Any]]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in old:
        grouped.setdefault(row["submission_key"], []).append(row)
    pseudonyms: dict[str, str] = {}
    last: dict[tuple[str, ...], int] = {}
    with appending(connection) as trail:
        for key, rows in grouped.items():
            reader = rows[0]["reader"]
            if reader not in pseudonyms:
                pseudonyms[reader] = f"R-{secrets.token_hex(5).upper()}"
                user = {"event_id": trail.next_id, "subject": reader, "display_name": reader}
                user["pseudonym"] = pseudonyms[reader]
                trail.append(f"user:{secrets.token_hex(16)}", "user", "system", now, {"users": [user]})
            place = tuple(rows[0][name] for name in ("run_id", "exam_id", "reader", "protocol", "stage"))
            content = {
                "submissions": [_submission(rows[0], trail.next_id, last.get(place))],
                "reads": [_read(row, trail.next_id) for row in rows],
            }
            last[place] = trail.append(f"submission:{key}", "submission", pseudonyms[reader], now, content)


_KEPT = ("submission_key", "saved_at", "reader", "protocol", "stage", "run_id", "patient_id", "exam_id")
_KEPT_OF_EYE = ("id", "eye", "icdr_grade", "agreement", "reason_code", "note", "model_answer", "image_sha256")


def _submission(row: dict[str, Any], event_id: int, supersedes: int | None) -> dict[str, Any]:
    kept = {name: row[name] for name in _KEPT}
    made = {"event_id": event_id, "role": "reader", "model_hash": "", "note": "", "shown": "{}", "drawn": "{}"}
    return {**kept, **made, "supersedes": supersedes}


def _read(row: dict[str, Any], event_id: int) -> dict[str, Any]:
    kept = {name: row[name] for name in (*_KEPT_OF_EYE, "supersedes")}
    return {**kept, "gradable": bool(row["gradable"]), "event_id": event_id}


def _lock_sqlite() -> None:
    for table in TRAILED:
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"
        op.execute(f"CREATE TRIGGER {table}_refuse_update BEFORE UPDATE ON {table} {refuse}")
        unless = (
            "WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE event_id = OLD.event_id) " if table in ERASABLE else ""
        )
        op.execute(f"CREATE TRIGGER {table}_refuse_delete BEFORE DELETE ON {table} {unless}{refuse}")
    refuse = "BEGIN SELECT RAISE(ABORT, 'the trail only grows'); END"
    op.execute(f"CREATE TRIGGER chain_refuse_delete BEFORE DELETE ON chain {refuse}")
    op.execute(f"CREATE TRIGGER chain_only_grows BEFORE UPDATE ON chain WHEN NEW.length <= OLD.length {refuse}")


def _lock_postgresql() -> None:
    refuse = "RAISE EXCEPTION '% are append-only', TG_TABLE_NAME USING ERRCODE = '23000';"
    op.execute(f"CREATE FUNCTION workbench_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refuse} END $$")
    op.execute(
        "CREATE FUNCTION workbench_refuse_unless_erased() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NOT EXISTS (SELECT 1 FROM tombstones WHERE event_id = OLD.event_id) THEN {refuse} END IF; "
        "RETURN OLD; END $$"
    )
    op.execute(
        "CREATE FUNCTION workbench_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.length <= OLD.length THEN RAISE EXCEPTION 'the trail only grows' USING ERRCODE = '23000'; END IF; "
        "RETURN NEW; END $$"
    )
    for table in (*TRAILED, "chain"):
        op.execute(
            f"CREATE TRIGGER {table}_refuse_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION workbench_refuse()"
        )
        row = f"ON {table} FOR EACH ROW EXECUTE FUNCTION"
        delete = "workbench_refuse_unless_erased" if table in ERASABLE else "workbench_refuse"
        update = "workbench_only_grows" if table == "chain" else "workbench_refuse"
        op.execute(f"CREATE TRIGGER {table}_refuse_delete BEFORE DELETE {row} {delete}()")
        op.execute(f"CREATE TRIGGER {table}_refuse_update BEFORE UPDATE {row} {update}()")

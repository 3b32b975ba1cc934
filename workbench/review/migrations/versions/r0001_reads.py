"""The reads, and the triggers that keep them append-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, its indexes and the refusal of UPDATE and DELETE."""
    op.create_table(
        "reads",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("submission_key", sa.String(64), nullable=False),
        sa.Column("saved_at", sa.String(32), nullable=False),
        sa.Column("reader", sa.String(200), nullable=False),
        sa.Column("protocol", sa.String(40), nullable=False),
        sa.Column("stage", sa.String(40), nullable=False),
        sa.Column("run_id", sa.String(100), nullable=False),
        sa.Column("patient_id", sa.Text, nullable=False),
        sa.Column("exam_id", sa.Text, nullable=False),
        sa.Column("eye", sa.String(2), nullable=False),
        sa.Column("gradable", sa.Boolean, nullable=False),
        sa.Column("icdr_grade", sa.Integer),
        sa.Column("agreement", sa.String(16)),
        sa.Column("reason_code", sa.String(40)),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("model_answer", sa.Text, nullable=False),
        sa.Column("image_sha256", sa.String(64), nullable=False),
        sa.Column("supersedes", sa.Integer, sa.ForeignKey("reads.id")),
        sa.UniqueConstraint("submission_key", "eye", name="one_read_per_submission_and_eye"),
        sa.UniqueConstraint("supersedes", name="superseded_once"),
        sa.CheckConstraint("eye IN ('OD', 'OS')", name="eye_known"),
        sa.CheckConstraint("icdr_grade BETWEEN 0 AND 4", name="grade_in_scale"),
        sa.CheckConstraint("gradable = (icdr_grade IS NOT NULL)", name="graded_or_ungradable"),
        sa.CheckConstraint("agreement IN ('agree', 'disagree')", name="agreement_known"),
        sa.CheckConstraint("agreement <> 'disagree' OR reason_code IS NOT NULL", name="disagreement_has_a_reason"),
    )
    op.create_index("reads_of_an_exam", "reads", ["run_id", "exam_id"])
    op.create_index("reads_of_a_reader", "reads", ["reader", "run_id"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER reads_refuse_{verb.lower()} BEFORE {verb} ON reads "
                "BEGIN SELECT RAISE(ABORT, 'reads are append-only'); END"
            )


def downgrade() -> None:
    """Refuse: reads are never thrown away."""
    raise NotImplementedError("reads are append-only; restore a backup instead")

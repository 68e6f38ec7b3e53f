"""The ledger: the table as it was before there were revisions, taken over where it is there already."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table unless an installation of that time has it."""
    op.create_table(
        "ledger",
        sa.Column("exchange_id", sa.String(32), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(255), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("target", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("usage_source", sa.String(16), nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("first_text_seconds", sa.Float),
        sa.Column("guards", sa.String(512), nullable=False),
        sa.Column("error", sa.String(128)),
        if_not_exists=True,
    )
    for column in ("request_id", "at", "tenant"):
        op.create_index(f"ix_ledger_{column}", "ledger", [column], if_not_exists=True)


def downgrade() -> None:
    """Remove the table and all that was written down."""
    op.drop_table("ledger")

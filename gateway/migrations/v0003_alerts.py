"""Alerts: the budgets of which so many percent are spent, and which receiver has been told so."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table; what was crossed before is told when it is seen next."""
    op.create_table(
        "alerts",
        sa.Column("scope", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(256), primary_key=True),
        sa.Column("measure", sa.String(64), primary_key=True),
        sa.Column("window", sa.String(32), primary_key=True),
        sa.Column("percent", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("receiver", sa.String(64), primary_key=True),
        sa.Column("message", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_try", sa.DateTime(timezone=True)),
        sa.Column("sent_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_alerts_at", "alerts", ["at"])
    op.create_index("ix_alerts_receiver_next_try", "alerts", ["receiver", "next_try"])


def downgrade() -> None:
    """Remove it: whoever goes forward again is told again."""
    op.drop_table("alerts")

"""Money: what each row cost, what it saved, its share of a machine's time, and the API key it came with.

What somebody has spent since the first of the month is asked for while a request waits: hence the indexes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
_SPENDERS = ("tenant", "subject", "key", "model")


def upgrade() -> None:
    """Add the columns; what was written down before cost nothing that is known."""
    with op.batch_alter_table("ledger") as ledger:
        ledger.add_column(sa.Column("key", sa.String(36)))
        ledger.add_column(sa.Column("busy_seconds", sa.Float, nullable=False, server_default="0"))
        ledger.add_column(sa.Column("cost", sa.BigInteger, nullable=False, server_default="0"))
        ledger.add_column(sa.Column("avoided", sa.BigInteger, nullable=False, server_default="0"))
    for column in _SPENDERS:
        op.create_index(f"ix_ledger_{column}_at", "ledger", [column, "at"])
    op.drop_index("ix_ledger_tenant", "ledger")


def downgrade() -> None:
    """Remove them; requests and tokens stay."""
    op.create_index("ix_ledger_tenant", "ledger", ["tenant"])
    for column in _SPENDERS:
        op.drop_index(f"ix_ledger_{column}_at", "ledger")
    with op.batch_alter_table("ledger") as ledger:
        for column in ("key", "busy_seconds", "cost", "avoided"):
            ledger.drop_column(column)

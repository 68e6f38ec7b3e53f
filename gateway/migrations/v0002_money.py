"""Money: what each row cost, what it saved, its share of a machine's time, and the API key it came with."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; what was written down before cost nothing that is known."""
    with op.batch_alter_table("ledger") as ledger:
        ledger.add_column(sa.Column("key", sa.String(36)))
        ledger.add_column(sa.Column("busy_seconds", sa.Float, nullable=False, server_default="0"))
        ledger.add_column(sa.Column("cost", sa.BigInteger, nullable=False, server_default="0"))
        ledger.add_column(sa.Column("avoided", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    """Remove them; requests and tokens stay."""
    with op.batch_alter_table("ledger") as ledger:
        for column in ("key", "busy_seconds", "cost", "avoided"):
            ledger.drop_column(column)

"""Tenants, service clients, API keys, sessions with refresh tokens, revocations, the audit."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TIME = sa.DateTime(timezone=True)
_HOUSE = "default"


def upgrade() -> None:
    """Add the tables; every tenant that has users becomes a row, and administrators keep what they could do."""
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("generation", sa.Integer, nullable=False, server_default="0"))
    _people()
    _credentials()
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", _TIME, nullable=False, index=True),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("actor_tenant", sa.String(255), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=True),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(255), nullable=False, index=True),
        sa.Column("object", sa.String(255), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    _fill()


def downgrade() -> None:
    """Remove the tables; users keep their names and passwords, and scopes of now are taken from them."""
    connection = op.get_bind()
    users = sa.table("users", sa.column("id", sa.String), sa.column("scopes", sa.String))
    for row in connection.execute(sa.select(users.c.id, users.c.scopes)).all():
        kept = [scope for scope in row.scopes.split() if scope in ("chat", "models", "usage", "admin")]
        # `admin` was power over every tenant then: whoever has it in one tenant only must not get it.
        if "tenants" not in row.scopes.split():
            kept = [scope for scope in kept if scope != "admin"]
        connection.execute(users.update().where(users.c.id == row.id).values(scopes=" ".join(kept)))
    # There are no closed tenants then: whoever is shut out stays so.
    tenants = sa.table("tenants", sa.column("name", sa.String), sa.column("disabled", sa.Boolean))
    closed = sa.select(tenants.c.name).where(tenants.c.disabled)
    people = sa.table("users", sa.column("tenant", sa.String), sa.column("disabled", sa.Boolean))
    connection.execute(people.update().where(people.c.tenant.in_(closed)).values(disabled=True))
    for table in ("audit", "revocations", "refresh_tokens", "sessions", "api_keys", "clients", "tenants"):
        op.drop_table(table)
    with op.batch_alter_table("users") as altered:
        altered.drop_column("generation")


def _people() -> None:
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_table(
        "clients",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(150), nullable=False),
        sa.Column("secret_digest", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(255), nullable=False),
        sa.Column("scopes", sa.String(1024), nullable=False),
        sa.Column("may_leave", sa.Boolean, nullable=False),
        sa.Column("requests_per_minute", sa.Integer, nullable=True),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.UniqueConstraint("tenant", "name", name="uq_clients_tenant_name"),
    )


def _credentials() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("hint", sa.String(16), nullable=False),
        sa.Column("name", sa.String(150), nullable=False),
        sa.Column("tenant", sa.String(255), nullable=False, index=True),
        sa.Column("owner", sa.String(36), sa.ForeignKey("users.id"), nullable=True, index=True),
        sa.Column("scopes", sa.String(1024), nullable=False),
        sa.Column("models", sa.Text, nullable=True),
        sa.Column("may_leave", sa.Boolean, nullable=False),
        sa.Column("requests_per_minute", sa.Integer, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("last_used_at", _TIME, nullable=True),
        sa.Column("revoked_at", _TIME, nullable=True),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(36), sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("scopes", sa.String(1024), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False, index=True),
        sa.Column("ended_at", _TIME, nullable=True),
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column(
            "session_id", sa.String(36), sa.ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("used_at", _TIME, nullable=True),
    )
    op.create_table(
        "revocations",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False, index=True),
    )


def _fill() -> None:
    connection, now = op.get_bind(), datetime.now(UTC)
    users = sa.table("users", *(sa.column(name, sa.String) for name in ("id", "tenant", "scopes")))
    tenants = sa.table(
        "tenants", sa.column("name", sa.String), sa.column("disabled", sa.Boolean), sa.column("created_at", _TIME)
    )
    names = set(connection.execute(sa.select(users.c.tenant).distinct()).scalars()) | {_HOUSE}
    op.bulk_insert(tenants, [{"name": name, "disabled": False, "created_at": now} for name in sorted(names)])
    for row in connection.execute(sa.select(users.c.id, users.c.scopes)).all():
        held = set(row.scopes.split())
        # To administer meant every tenant until now, and whoever may ask a model may from now on make keys for that.
        more = {"operate", "tenants"} if "admin" in held else set()
        more |= {"keys"} if {"chat", "models", "usage"} <= held else set()
        connection.execute(users.update().where(users.c.id == row.id).values(scopes=" ".join(sorted(held | more))))

"""The tables of this package. `auth/migrations` says how a database came to have them; a test holds the two together."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

from auth.database import UtcDateTime

MAX_NAME = 150  # characters, as typed and as stored

metadata = MetaData()

tenants = Table(
    "tenants",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", String(36), primary_key=True),  # UUID; the `sub` of tokens, so a name can change hands
    Column("username", String(MAX_NAME), nullable=False, unique=True),
    Column("password_hash", String(255), nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("role", String(32), nullable=False),
    Column("scopes", String(1024), nullable=False),  # space-separated (RFC 6749 §3.3)
    Column("may_leave", Boolean, nullable=False),
    Column("requests_per_minute", Integer, nullable=True),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("generation", Integer, nullable=False, server_default="0"),  # tokens of an earlier one are void
)

clients = Table(
    "clients",
    metadata,
    Column("id", String(36), primary_key=True),  # the client_id of RFC 6749, and the `sub` of its tokens
    Column("name", String(MAX_NAME), nullable=False),
    Column("secret_digest", String(64), nullable=False),
    Column("tenant", String(255), nullable=False),
    Column("scopes", String(1024), nullable=False),
    Column("may_leave", Boolean, nullable=False),
    Column("requests_per_minute", Integer, nullable=True),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("generation", Integer, nullable=False),
    UniqueConstraint("tenant", "name", name="uq_clients_tenant_name"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),  # HMAC-SHA256 of the key, hexadecimal
    Column("hint", String(16), nullable=False),  # how the key begins, to tell it from others
    Column("name", String(MAX_NAME), nullable=False),
    Column("tenant", String(255), nullable=False, index=True),
    Column("owner", String(36), ForeignKey("users.id"), nullable=True, index=True),  # none: a key of the tenant itself
    Column("scopes", String(1024), nullable=False),
    Column("models", Text, nullable=True),  # a JSON list; none: every model
    Column("may_leave", Boolean, nullable=False),
    Column("requests_per_minute", Integer, nullable=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("expires_at", UtcDateTime, nullable=True),
    Column("last_used_at", UtcDateTime, nullable=True),
    Column("revoked_at", UtcDateTime, nullable=True),
)

sessions = Table(
    "sessions",
    metadata,
    Column(
        "id", String(36), primary_key=True
    ),  # the family of a login's refresh tokens, and the `sid` of its access tokens
    Column("user_id", String(36), ForeignKey("users.id"), nullable=False, index=True),
    Column("scopes", String(1024), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
    Column("ended_at", UtcDateTime, nullable=True),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the token, hexadecimal: it holds 256 random bits
    Column("session_id", String(36), ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime, nullable=True),
)

revocations = Table(
    "revocations",
    metadata,
    Column("id", String(255), primary_key=True),  # a token's `jti`, its `sid`, or a subject
    Column("generation", Integer, nullable=False),  # of a subject: tokens of an earlier generation are void
    Column("expires_at", UtcDateTime, nullable=False, index=True),  # when the last token it concerns has expired
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("actor", String(255), nullable=False),  # the subject who did it
    Column("actor_tenant", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    Column("request_id", String(128), nullable=True),
    Column("action", String(64), nullable=False),
    Column("tenant", String(255), nullable=False, index=True),  # whose rights have changed
    Column("object", String(255), nullable=False),
    Column("detail", Text, nullable=False),  # a JSON object; never a secret
)

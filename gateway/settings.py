"""The configuration: a TOML file, overridden by environment variables, checked once at start.

`PASSERELLE_CONFIG` or `--config` names the file; `PASSERELLE_SERVER__PORT=8080` overrides `[server] port`. A wrong key or
value stops the start with one sentence (`BadSettings`): which key, what it held, what is allowed.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from gateway.bounds import Limits
from gateway.fail_policy import FailPolicy
from gateway.faults import fault
from gateway.guard_settings import Guards
from gateway.identity import Auth
from gateway.money import Tariff
from gateway.target import BadKeyFile, Count, Part, Seconds, Target
from gateway.tokenizer import BadTokenizer, Tokenizer
from gateway.trace_settings import Tracing
from gateway.webhooks import Alerting


class BadSettings(Exception):
    """The configuration cannot be used; the message is the one sentence an operator needs."""


def _distinct(entries: list[str]) -> list[str]:
    """The list, in which nothing stands twice."""
    for place, entry in enumerate(entries):
        if entry in entries[:place]:
            raise ValueError(f"entry {place + 1} stands there twice")
    return entries


class Server(Part):
    """Where the gateway listens, what it accepts, and how it stops. Sizes in bytes, times in seconds.

    From the signal to stop on, new connections are served for `drain_seconds`, and open streams go on for `shutdown_seconds`. A
    worker that gives no sign of life for `hang_seconds` is killed and replaced. No `metrics_token`: /metrics is open.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    body_limit_bytes: Count = 4 * 1024 * 1024
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 0
    shutdown_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    hang_seconds: Annotated[float, Field(ge=2, le=3600)] = 30
    trusted_proxies: list[str] = Field(default_factory=list)
    cors_origins: list[str] = Field(default_factory=list)
    metrics_token: Annotated[SecretStr, Field(min_length=16)] | None = None

    @model_validator(mode="after")
    def _drains_before_it_stops(self) -> Self:
        if self.drain_seconds > self.shutdown_seconds:
            raise ValueError(
                f"has drain_seconds = {self.drain_seconds:g}, but shutdown_seconds, which holds it, is {self.shutdown_seconds}"
            )
        return self


class State(Part):
    """Where users, ledger and journal are kept. Without a Redis URL limits are counted in each process.

    Installations that share one Redis have a `redis_prefix` each. `statement_seconds` bounds each statement on PostgreSQL.
    """

    directory: Path = Path(".passerelle")
    database_url: SecretStr | None = None
    statement_seconds: Seconds = 15
    redis_url: SecretStr | None = None
    redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "passerelle"

    def database(self) -> str:
        """The database's URL; by default an SQLite file in `directory`."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.directory.absolute() / 'passerelle.db'}"


class Times(Part):
    """Time limits towards a model server, in seconds; `keep_alive` is how long a stream to a caller is silent at most."""

    connect: Seconds = 3
    first_content: Seconds = 60
    idle: Seconds = 30
    total: Seconds = 600
    keep_alive: Seconds = 15


class Routing(Part):
    """Which replica of a pool is asked, and when one is left alone.

    `failures` in a row open a replica's breaker for `cool_down_seconds`. `affinity`: conversations that begin with the same so
    many characters go to the same replica while it is not clearly busier than the others; 0 switches that off. Each replica
    that is not outside is asked for its models every `probe_seconds`; 0 switches that off.
    """

    failures: Count = 5
    cool_down_seconds: Seconds = 5
    scrape_seconds: Seconds = 1
    probe_seconds: Annotated[float, Field(ge=0, le=86_400)] = 5
    affinity: Annotated[int, Field(ge=0)] = 0


class Money(Part):
    """`reference` names the target whose price is saved where one of our own answers; `currency` is what reports call it."""

    currency: Annotated[str, Field(min_length=1, max_length=8)] = "EUR"
    reference: str | None = None


class Model(Part):
    """A published model: the targets that may answer for it, in the order they are asked.

    For callers of other tenants than `tenants` it is as if it were not there; by default it is there for everybody.
    """

    targets: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
    owned_by: str = "passerelle"
    tenants: Annotated[list[str], Field(min_length=1)] | None = None


class Settings(BaseSettings):
    """Everything the gateway is told."""

    model_config = SettingsConfigDict(
        env_prefix="PASSERELLE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    server: Server = Server()
    state: State = State()
    auth: Auth = Auth()
    limits: Limits = Limits()
    times: Times = Times()
    routing: Routing = Routing()
    guards: Guards = Guards()
    fail_policy: FailPolicy = FailPolicy()
    money: Money = Money()
    alerts: Alerting = Alerting()
    tracing: Tracing = Tracing()
    targets: dict[str, Target] = {}
    models: dict[str, Model] = {}

    @model_validator(mode="after")
    def _known_targets(self) -> Self:
        for name, model in self.models.items():
            for target in model.targets:
                if target not in self.targets:
                    allowed = ", ".join(sorted(self.targets)) or "none is configured"
                    raise ValueError(f"models.{name}.targets holds {target!r}, which is no target (allowed: {allowed})")
        if unpublished := sorted(set(self.limits.models) - set(self.models)):
            allowed = ", ".join(sorted(self.models)) or "none is published"
            raise ValueError(
                f"limits.models holds {unpublished[0]!r}, which is no published model (allowed: {allowed})"
            )
        reference = self.money.reference
        if reference is not None and (reference not in self.targets or self.targets[reference].price is None):
            raise ValueError(f"money.reference holds {reference!r}, which is no target with a price")
        for name, entry in self.targets.items():
            if entry.api_key_env and entry.api_key_file:
                raise ValueError(f"targets.{name} has both api_key_env and api_key_file, but a target has one key")
            if entry.kind != "openai" and entry.api_key_env and entry.key() is None:
                raise ValueError(
                    f"targets.{name}.api_key_env holds {entry.api_key_env!r}, a variable that is not set in the environment"
                )
        return self

    @model_validator(mode="after")
    def _known_guards(self) -> Self:
        if unpublished := sorted(set(self.guards.models) - set(self.models)):
            allowed = ", ".join(sorted(self.models)) or "none is published"
            raise ValueError(
                f"guards.models holds {unpublished[0]!r}, which is no published model (allowed: {allowed})"
            )
        judges = ", ".join(sorted(name for name, target in self.targets.items() if target.kind == "vllm")) or "none"
        for place, tables in self.guards.every().items():
            moderation = tables.moderation
            judge = self.targets.get(moderation.judge or "")
            if moderation.judge is not None and (judge is None or judge.kind != "vllm"):
                held = f"{place}.moderation.judge holds {moderation.judge!r}"
                raise ValueError(f"{held}, which is no target of the kind vllm (allowed: {judges})")
            if (
                moderation.grey is not None
                and moderation.threshold is not None
                and moderation.grey > moderation.threshold
            ):
                raise ValueError(
                    f"{place}.moderation.grey holds {moderation.grey:g}, which is over its threshold, {moderation.threshold:g}"
                )
        return self

    def tariff(self) -> Tariff:
        """What each target costs, and what is saved."""
        reference = self.targets.get(self.money.reference or "")
        return Tariff(self.targets, reference.price if reference else None, self.money.currency)

    def require_models(self) -> None:
        """Raises BadSettings where nothing is published: a gateway would have nothing to do."""
        if not self.models:
            raise BadSettings("models is empty: publish at least one, as passerelle.example.toml shows.")

    def keys(self) -> dict[str, str | None]:
        """The upstream key of each target, read now.

        Raises:
            BadSettings: a key's file cannot be used.
        """
        found = {}
        for name, target in self.targets.items():
            try:
                found[name] = target.key()
            except BadKeyFile as error:
                path = str(target.api_key_file)
                raise BadSettings(f"targets.{name}.api_key_file holds {path!r}, which {error}.") from None
        return found

    def tokenizers(self, known: Mapping[Path, Tokenizer]) -> dict[Path, Tokenizer]:
        """The targets' tokenizers by their files, read now unless they are `known` and have not changed.

        Raises:
            BadSettings: a file cannot be used.
        """
        found: dict[Path, Tokenizer] = {}
        for name, target in self.targets.items():
            path = target.tokenizer
            if path is None or path in found:
                continue
            try:
                found[path] = known[path] if path in known and known[path].unchanged() else Tokenizer(path)
            except BadTokenizer as error:
                raise BadSettings(f"targets.{name}.tokenizer holds {str(path)!r}, which {error}.") from None
        return found

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file: a container's operator need not edit it."""
        return env_settings, init_settings


def load(path: Path | None = None) -> Settings:
    """The settings from a file and the environment.

    Raises:
        BadSettings: the file is missing, is no TOML, or holds a wrong key or value.
    """
    path = path or (Path(os.environ["PASSERELLE_CONFIG"]) if "PASSERELLE_CONFIG" in os.environ else None)
    _refuse_unknown_variables()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
        return Settings(**table)
    except OSError as error:
        raise BadSettings(f"--config holds {str(path)!r}, which cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"--config holds {str(path)!r}, which is not a TOML file: {error}.") from None
    except SettingsError:
        raise BadSettings(_no_json()) from None
    except ValidationError as error:
        raise BadSettings(fault(error)) from None


def _refuse_unknown_variables() -> None:
    # pydantic-settings passes over a variable whose first word it does not know: a typo would be silent.
    for name in os.environ:
        table, nested, _ = name.removeprefix("PASSERELLE_").lower().partition("__")
        known, single, _ = table.partition("_")  # PASSERELLE_SERVER_PORT: half a separator
        if name.startswith("PASSERELLE_") and (
            (nested and table not in Settings.model_fields) or (single and known in Settings.model_fields)
        ):
            allowed = ", ".join(f"PASSERELLE_{known.upper()}__..." for known in Settings.model_fields)
            raise BadSettings(f"{name} is set in the environment, but is not a setting (allowed: {allowed}).")


def _no_json() -> str:
    tables = tuple(f"PASSERELLE_{table.upper()}" for table in Settings.model_fields)
    names = sorted(name for name in os.environ if name.startswith(tables))
    return f"{' or '.join(names)} holds no JSON, but lists and tables are written as JSON in the environment."

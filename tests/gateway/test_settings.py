import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.bounds import OwnBounds
from gateway.identity import OutsideIssuer
from gateway.settings import BadSettings, Model, Settings, load
from gateway.target import Target

EXAMPLE = Path(__file__).parents[2] / "passerelle.example.toml"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PASSERELLE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def written(folder: Path, content: str) -> Path:
    path = folder / "passerelle.toml"
    path.write_text(content, encoding="utf-8")
    return path


def bad(folder: Path, content: str = "") -> str:
    with pytest.raises(BadSettings) as caught:
        load(written(folder, content))
    return str(caught.value)


OF_LIMITS = tuple(f"limits.{kind}" for kind in ("addresses", "keys", "users", "tenants", "models"))
NAMED = ("targets", "models", "auth.issuers", *OF_LIMITS, "guards.models", "guards.tenants")


def leaves(model: BaseModel, above: str = "") -> dict[str, Any]:
    """Every setting below `model`, as "server.port": value; catalogues are not walked."""
    found: dict[str, Any] = {}
    for name in type(model).model_fields:
        value, key = getattr(model, name), f"{above}{name}"
        if isinstance(value, BaseModel):
            found |= leaves(value, f"{key}.")
        elif key not in NAMED:
            found[key] = value
    return found


def example_keys() -> set[str]:
    """The keys of the example's tables, commented ones included."""
    keys, table = set(), ""
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if head := re.match(r"(?:# )?\[([\w.\"/…-]+)\]", line):
            table = head.group(1)
        elif key := re.match(r"(?:# )?(\w+) = ", line):
            keys.add(f"{table}.{key.group(1)}")
    return keys


def test_every_key_of_the_example_is_a_setting_and_holds_its_default() -> None:
    example = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    tables = {key: value for key, value in example.items() if key not in ("targets", "models")}
    assert leaves(Settings(**tables)) == leaves(Settings())


def test_every_setting_is_in_the_example() -> None:
    keys = {key for key in example_keys() if not key.startswith(NAMED)}
    assert keys == set(leaves(Settings()))


@pytest.mark.parametrize(
    ("table", "model"),
    [("targets", Target), ("models", Model), ("auth.issuers", OutsideIssuer), ("limits.tenants", OwnBounds)],
)
def test_every_key_of_a_table_with_a_name_of_its_own_is_in_the_example(table: str, model: type[BaseModel]) -> None:
    keys = {key.rpartition(".")[2] for key in example_keys() if key.startswith(table)}
    assert keys == set(model.model_fields)


def test_the_example_as_it_is_can_be_used() -> None:
    settings = load(EXAMPLE)
    assert list(settings.models) == ["tiiuae/falcon-7b-instruct"]


def test_without_file_and_environment_the_defaults_hold() -> None:
    assert leaves(load()) == leaves(Settings())


ISSUER = "[auth.issuers.acme]\nissuer = 'https://i'\naudience = 'a'\njwks_url = 'https://i/jwks'\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[server]\nport = 70000", "server.port holds 70000, but input should be less than or equal to 65535."),
        ("[server]\nport = 'x'", "server.port holds 'x', but input should be a valid integer"),
        ("[server]\nworkers = 0", "server.workers holds 0, but input should be greater than or equal to 1."),
        ("[server]\nprot = 1", "server.prot is not a setting (see passerelle.example.toml"),
        ("[sevrer]\nport = 1", "sevrer is not a setting (see passerelle.example.toml"),
        ("server = 8000", "server holds 8000, but this must be a table."),
        ("[auth]\ntoken_seconds = 0", "auth.token_seconds holds 0, but input should be greater than"),
        (
            "[server]\nmetrics_token = 'hunter2'",
            "server.metrics_token holds a value, but value should have at least 16 items",
        ),
        ("[auth]\npublic_url = 'http://ia.example'", "auth.public_url holds a value, but must be an https:// address"),
        (
            "[auth]\nsigning_key = 'x'\nsigning_keys = 'y'",
            "auth has both signing_key and signing_keys, but the keys are in one place.",
        ),
        (ISSUER, "auth.issuers.acme needs either tenant or tenant_claim, and not both."),
        (
            "[auth]\napi_key_secret = 'short'",
            "auth.api_key_secret holds a value, but value should have at least 32 items",
        ),
        ("[auth]\nsigning_key = 'abc'", "auth has a signing_key that holds no P-256 private key (PEM or JWK)."),
        (
            ISSUER + "tenant = 'a'\ntenants = ['b']",
            "auth.issuers.acme has both tenant and tenants: the list belongs to",
        ),
        (
            ISSUER + "tenant_claim = 'org'",
            "auth.issuers.acme has a tenant_claim, but tenants, the names it may give, is",
        ),
        (ISSUER + "tenant = 'acme'", "auth.issuers.acme gives nobody a scope: set scopes or default_scopes."),
        (
            ISSUER + "tenant = 'acme'\ndefault_scopes = ['tenants']",
            "auth.issuers.acme.default_scopes.0 holds 'tenants', but input should be 'chat', 'languages', 'models'",
        ),
        (
            ISSUER.replace("https://i/jwks", "http://i/jwks") + "tenant = 'acme'",
            "auth.issuers.acme.jwks_url holds a value, but must be an https:// address (http:// only on this machine).",
        ),
        (
            ISSUER.replace("issuer = 'https://i'", "issuer = 'passerelle'") + "tenant = 'a'\ndefault_scopes = ['chat']",
            "auth has the issuer 'passerelle' twice: nobody could tell whose token one is.",
        ),
        (
            ISSUER.replace("acme", "client"),
            "auth.issuers.client.[key] holds a value, but must not be user, client or key.",
        ),
        ("[limits]\nrequests_per_minute = -1", "limits.requests_per_minute holds -1, but input should be greater"),
        ("[times]\nidle = 0", "times.idle holds 0, but input should be greater than 0."),
        ("[times]\ntotal = 1e9", "times.total holds 1000000000.0, but input should be less than"),
        (
            "[guards.language]\nmode = 'on'",
            "guards.language.mode holds 'on', but input should be 'enforce', 'annotate'",
        ),
        (
            "[guards.language]\nmargin = 2",
            "guards.language.margin holds 2, but input should be less than or equal to 1.",
        ),
        ("[guards.language]\nhold_characters = 5", "guards.language.hold_characters holds 5, but input should be"),
        ("[guards.terms]\nterms = ['']", "guards.terms.terms.0 holds '', but string should have at least 1 character."),
        (
            "[alerts]\npercents = [80, 101]",
            "alerts.percents.1 holds 101, but input should be less than or equal to 100.",
        ),
        ("[alerts]\npercents = [0]", "alerts.percents.0 holds 0, but input should be greater than or equal to 1."),
        ("[alerts]\npercents = []", "alerts.percents holds a value, but list should have at least 1 item"),
        ("[alerts]\npercents = [100, 80]", "alerts.percents holds a value, but must be in rising order, each once."),
        ("[alerts]\npercents = [80, 80]", "alerts.percents holds a value, but must be in rising order, each once."),
        ("[alerts]\nurls = ['ftp://h']", "alerts.urls.0 holds a value, but URL scheme should be 'http' or 'https'."),
        (
            "[alerts]\nsecret = 'abc'",
            "alerts.secret holds a value, but must be whsec_ and the base64 of 24 to 64 random",
        ),
        ("[alerts]\nsecret = 'whsec_abcd'", "alerts.secret holds a value, but must be whsec_ and the base64 of 24"),
        ("[targets.a]\nkind = 'tgi'", "targets.a.kind holds 'tgi', but input should be 'vllm' or 'openai'."),
        ("[targets.a]\nkind = 'vllm'\nmodel = 'm'", "targets.a.urls is missing (see passerelle.example.toml)."),
        ("[targets.a]\nkind = 'vllm'\nurls = []\nmodel = 'm'", "targets.a.urls holds a value, but list should have"),
        ("[models.m]\ntargets = []", "models.m.targets holds a value, but list should have at least 1 item"),
        (
            "[models.m]\ntargets = ['x']",
            "models.m.targets holds 'x', which is no target (allowed: none is configured).",
        ),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence_with_key_value_and_what_is_allowed(
    tmp_path: Path, content: str, sentence: str
) -> None:
    told = bad(tmp_path, content)
    assert told.startswith(sentence)
    assert told.endswith(".")
    assert "\n" not in told


def test_an_unknown_target_is_told_with_the_known_ones(tmp_path: Path) -> None:
    tables = "".join(
        f'[targets.{name}]\nkind = "vllm"\nurls = ["http://h/v1"]\nmodel = "m"\n' for name in ("two", "one")
    )
    assert bad(tmp_path, tables + "[models.m]\ntargets = ['three']").endswith("(allowed: one, two).")


SECRET = "hunter2"


@pytest.mark.parametrize(
    "content",
    [
        f"[state]\ndatabase_url = ['{SECRET}']",
        f"[state]\nredis_url = [1, '{SECRET}']",
        f"state = ['postgresql://u:{SECRET}@h/d']",
        f"state = 'postgresql://u:{SECRET}@h/d'",
        f"[server]\nport = 'postgresql://u:{SECRET}@h/d'",
        f"[targets.a]\nkind = 'vllm'\nmodel = 'm'\nurls = ['ftp://u:{SECRET}@h']",
        f"[targets.a]\nkind = 'vllm'\nurls = ['http://u:{SECRET}@h']",
        f"[alerts]\nurls = ['ftp://h/{SECRET}', 'h/{SECRET}', 1]",
        f"[alerts]\nurls = 'https://h/{SECRET}'",
        f"[alerts]\nsecret = 'whsec_{SECRET}'",
        f"[alerts]\nsecret = ['{SECRET}']",
        f"[alerts]\npercents = ['https://h/{SECRET}']",
        f"[targets]\na = ['http://u:{SECRET}@h']",
        f"[targets.a]\nkind = 'vllm'\nmodel = 'm'\nurls = ['http://h']\napi_key_env = ['{SECRET}']",
    ],
)
def test_a_secret_and_an_address_are_never_repeated(tmp_path: Path, content: str) -> None:
    assert SECRET not in bad(tmp_path, content)


def test_a_secret_does_not_show_when_settings_are_printed(tmp_path: Path) -> None:
    settings = load(written(tmp_path, f"[state]\ndatabase_url = 'postgresql://u:{SECRET}@h/d'"))
    assert SECRET not in repr(settings)
    assert settings.state.database() == f"postgresql://u:{SECRET}@h/d"


def test_where_alerts_go_does_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSERELLE_ALERTS__URLS", f'["https://u:{SECRET}@h/{SECRET}?t={SECRET}"]')
    monkeypatch.setenv("PASSERELLE_ALERTS__SECRET", f"whsec_{'hunter20' * 4}")
    settings = load()
    assert SECRET not in f"{settings!r} {settings} {settings.alerts.model_dump()} {settings.alerts.model_dump_json()}"
    assert str(settings.alerts.urls[0].get_secret_value()) == f"https://u:{SECRET}@h/{SECRET}?t={SECRET}"


def test_the_environment_wins_over_the_file_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "[server]\nport = 1\nworkers = 2\n[guards.language]\nmode = 'off'")
    monkeypatch.setenv("PASSERELLE_SERVER__PORT", "3")
    monkeypatch.setenv("PASSERELLE_GUARDS__TERMS__TERMS", '["zorglub"]')
    settings = load(path)
    assert (settings.server.port, settings.server.workers) == (3, 2)
    assert (settings.guards.language.mode, settings.guards.terms.terms) == ("off", ["zorglub"])


def test_a_variable_can_name_the_file_and_an_argument_wins_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSERELLE_CONFIG", str(written(tmp_path, "[server]\nport = 1")))
    assert load().server.port == 1
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 2")
    assert load(other).server.port == 2


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PASSERELLE_SEVRER__PORT", "1", "PASSERELLE_SEVRER__PORT is set in the environment, but is not a setting"),
        ("PASSERELLE_SERVER_PORT", "1", "PASSERELLE_SERVER_PORT is set in the environment, but is not a setting"),
        ("PASSERELLE_SERVER__PROT", "1", "server.prot is not a setting"),
        ("PASSERELLE_SERVER__PORT", "x", "server.port holds 'x', but input should be a valid integer"),
        ("PASSERELLE_SERVER__TRUSTED_PROXIES", "10.0.0.1", "PASSERELLE_SERVER__TRUSTED_PROXIES holds no JSON"),
        ("PASSERELLE_TARGETS", "falcon", "PASSERELLE_TARGETS holds no JSON"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    assert bad(tmp_path).startswith(told)


def test_variables_of_other_parts_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PASSERELLE_TOKEN", "PASSERELLE_CACHE", "PASSERELLE_VLLM_PYTHON", "PASSERELLE_TEST_REDIS_URL"):
        monkeypatch.setenv(name, "x")
    load()


def test_a_file_that_is_missing_or_no_toml_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"gone\.toml', which cannot be read: No such file"):
        load(tmp_path / "gone.toml")
    with pytest.raises(BadSettings, match="cannot be read: Is a directory"):
        load(tmp_path)
    assert "which is not a TOML file" in bad(tmp_path, "port: 8000")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(BadSettings, match="which is not a TOML file"):
        load(tmp_path / "latin.toml")


def test_a_key_that_is_named_must_be_there_but_for_an_outside_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    table = "[targets.a]\nkind = '{}'\nurls = ['http://h/v1']\nmodel = 'm'\napi_key_env = 'SOME_KEY'"
    told = bad(tmp_path, table.format("vllm"))
    assert told == "targets.a.api_key_env holds 'SOME_KEY', a variable that is not set in the environment."
    assert load(written(tmp_path, table.format("openai"))).targets["a"].key() is None
    monkeypatch.setenv("SOME_KEY", "k")
    assert load(written(tmp_path, table.format("vllm"))).targets["a"].key() == "k"


def test_settings_do_not_change_after_the_start() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().server.port = 1


def test_users_lie_in_the_state_directory_unless_told_otherwise(tmp_path: Path) -> None:
    settings = load(written(tmp_path, "[state]\ndirectory = 'here'"))
    assert settings.state.database() == f"sqlite:///{tmp_path}/here/passerelle.db"


PUBLISHED = """
[targets.a]
kind = "vllm"
urls = ["http://127.0.0.1:1/v1"]
model = "m"
[models.m]
targets = ["a"]
"""


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            '[limits.models."nope"]\nconcurrent = 1',
            "limits.models holds 'nope', which is no published model (allowed: m).",
        ),
        ('[limits.addresses."1.2.3"]\nconcurrent = 1', "limits.addresses"),
        ('[limits.addresses."10.0.0.0/8"]\nconcurrent = 1', "an address, or an IPv6 network of 64 bits, is wanted"),
        ("[limits.tenants.acme]\nconcurent = 1", "limits.tenants.acme.concurent is not a setting"),
        ("[limits]\ntokens_per_minute = -1", "limits.tokens_per_minute holds -1, but"),
        ("[limits.key]\nmoney_per_month = 1e30", "limits.key.money_per_month holds 1e+30, but"),
        ('[money]\nreference = "a"', "money.reference holds 'a', which is no target with a price."),
        ('[fail_policy]\nredis = "open"', "fail_policy.redis holds 'open', but"),
        ('[state]\nredis_prefix = "a b"', "state.redis_prefix holds 'a b', but"),
    ],
)
def test_limits_and_prices_that_cannot_hold_stop_the_start(tmp_path: Path, table: str, sentence: str) -> None:
    assert sentence in bad(tmp_path, PUBLISHED + table)

from collections.abc import Callable

import pytest

from tests.architecture.sources import Module, modules, top

# The gateway's layers, lowest first: a module imports only from layers below its own.
LAYERS = (
    {
        "errors",
        "target",
        "documented",
        "browsers",
        "migrations",
        "upkeep",
        "degraded",
        "strings",
        "steering",
        "multiprocess",
        "metrics_folder",
        "gauges",
        "dependencies",
        "siblings",
        "spans",
        "logs",
        "faults",
        "ids",
        "batch",
    },
    {"identity", "money", "busy", "bounds", "fail_policy", "guard_settings", "webhooks", "tokenizer", "trace_settings"},
    {"parameters", "settings", "exchange", "sse", "deadline", "pace", "journal", "outbox", "posting"},
    {"protocol", "failure", "counts", "live"},
    {"metrics", "events"},
    {"guardrails", "upstream", "limits", "ledger", "alerts", "disconnect", "access", "telemetry", "payload"}
    | {"recorded", "stopping"},
    {"breaker", "load", "admission", "tracing", "choice"},
    {"pool"},
    {"reckoning"},
    {"routing", "fit", "probe"},
    {"judge"},
    {"estimates", "limiting"},
    {"ask", "answer", "collect", "health", "usage", "erasure", "stages", "reload", "watching"},
    {"investment"},
    {"reports"},
    {"completions"},
    {"surface", "wording"},
    {"tries"},
    {"delivery"},
    {"embeddings", "moderations"},
    {"chat"},
    {"status"},
    {"administration"},
    {"routes", "identities", "lane"},
    {"running"},
    {"app"},
    {"commands"},
    {"cli"},
)
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

# package -> the packages of ours it may import beside itself
MAY_IMPORT = {
    "auth": frozenset[str](),
    "serving": frozenset[str](),
    "gateway": frozenset({"auth"}),
    "loadtests": frozenset[str](),
    "evaluation": frozenset({"gateway"}),
}
MEASURED_AS_LIBRARY = {"gateway.guardrails", "gateway.steering", "gateway.tokenizer"}  # the evaluation's whole gateway
MEASURES_PARTS = "loadtests.bench"  # benchmarks run the gateway's parts in their own process
STARTS_SERVING = {"gateway.cli", "gateway.commands.up"}

WEB = {
    f"gateway.{name}"
    for name in (
        *(
            "app",
            "chat",
            "delivery",
            "routes",
            "access",
            "telemetry",
            "recorded",
            "tracing",
            "disconnect",
            "payload",
            "browsers",
            "identities",
            "moderations",
            "stopping",
            "lane",
        ),
        *(
            f"administration{part}"
            for part in ("", ".http", ".users", ".tenants", ".keys", ".clients", ".audit", ".usage", ".status")
        ),
    )
} | {"auth.routes", "loadtests.bench.sidebyside.bare"}


def wrong_direction(module: Module) -> list[str]:
    """Imports inside the gateway that do not point downwards; a part in several files may import itself."""
    parts = module.name.split(".")
    if parts[0] != "gateway" or len(parts) == 1:
        return []
    if parts[1] not in RANKS:
        return [f"{module.name} has no layer: add it to LAYERS"]
    inside = [name.split(".")[1] for name in module.imports() if name.startswith("gateway.")]
    return [
        f"{module.name} imports gateway.{name}"
        for name in inside
        if name != parts[1] and RANKS.get(name, len(LAYERS)) >= RANKS[parts[1]]
    ]


def wrong_package(module: Module) -> list[str]:
    """Imports of packages of ours that the module's package knows nothing of."""
    allowed = MAY_IMPORT[module.package] | {module.package}
    allowed |= {"serving"} if module.name in STARTS_SERVING else set()
    allowed |= {"auth", "gateway"} if module.name.startswith(MEASURES_PARTS) else set()
    ours = {*MAY_IMPORT, "tests"}
    return [f"{module.name} imports {name}" for name in module.imports() if top(name) in ours - allowed]


def more_than_a_library(module: Module) -> list[str]:
    """The evaluation measures parts of the gateway; the service it asks over HTTP."""
    inside = [name for name in module.imports() if top(name) == "gateway"]
    return [
        f"{module.name} imports {name}" for name in inside if ".".join(name.split(".")[:2]) not in MEASURED_AS_LIBRARY
    ]


def web_outside_its_place(module: Module) -> list[str]:
    web = {"fastapi", "starlette"}
    return [f"{module.name} imports {name}" for name in module.imports() if top(name) in web and module.name not in WEB]


def model_server_imported(module: Module) -> list[str]:
    """The model server is talked to over HTTP and lives in another environment."""
    return [f"{module.name} imports {name}" for name in module.imports() if top(name) == "vllm"]


def load_tests_imported(module: Module) -> list[str]:
    """Importing locust patches sockets and threads, so nobody but the load tests' own tests may."""
    if module.name.startswith(("loadtests", "tests.loadtests")):
        return []
    return [
        f"{module.name} imports {name}" for name in module.imports() if top(name) in ("loadtests", "locust", "gevent")
    ]


Rule = Callable[[Module], list[str]]
RULES: dict[Rule, tuple[str, ...]] = {
    wrong_direction: ("gateway",),
    wrong_package: ("auth", "gateway", "serving", "loadtests", "evaluation"),
    more_than_a_library: ("evaluation",),
    web_outside_its_place: ("auth", "gateway", "serving", "loadtests", "evaluation"),
    model_server_imported: ("auth", "gateway", "serving", "loadtests", "evaluation"),
    load_tests_imported: ("auth", "gateway", "serving", "evaluation", "tests"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_program_keeps_the_rule(rule: Rule) -> None:
    assert [problem for module in modules(*RULES[rule]) for problem in rule(module)] == []


def test_every_layer_names_modules_that_exist() -> None:
    present = {module.name.split(".")[1] for module in modules("gateway") if "." in module.name}
    assert set(RANKS) == present


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (wrong_direction, "gateway.errors", "import gateway.protocol"),
        (wrong_direction, "gateway.settings", "from gateway import errors, journal"),
        (wrong_direction, "gateway.limits", "def f():\n    from gateway.ledger import Ledger"),
        (wrong_direction, "gateway.guardrails.gate", "from gateway.routing import Ladder"),
        (wrong_direction, "gateway.routing", "from .chat import Chat"),
        (wrong_direction, "gateway.chat", "from gateway.app import create_app"),
        (wrong_direction, "gateway.app", "if TYPE_CHECKING:\n    from gateway.commands import up"),
        (wrong_direction, "gateway.brand_new", ""),
        (wrong_direction, "gateway.cli", "import gateway.brand_new"),
        (wrong_package, "auth.tokens", "from gateway.settings import Settings"),
        (wrong_package, "auth.tokens", "import serving.plan"),
        (wrong_package, "serving.plan", "from auth import Principal"),
        (wrong_package, "gateway.app", "def f():\n    import serving"),
        (wrong_package, "gateway.commands.chat", "from serving.plan import Plan"),
        (wrong_package, "gateway.chat", "import loadtests"),
        (wrong_package, "gateway.chat", "from tests.upstream import says"),
        (wrong_package, "loadtests.user", "import gateway.sse"),
        (wrong_package, "gateway.chat", "from evaluation.french import judge"),
        (wrong_package, "evaluation.steering", "from serving.profiles import find_profile"),
        (more_than_a_library, "evaluation.steering", "from gateway.ask import body"),
        (more_than_a_library, "evaluation.guards.run", "def f():\n    import gateway.app"),
        (web_outside_its_place, "gateway.limits", "from fastapi import Request"),
        (web_outside_its_place, "auth.tokens", "import starlette.requests"),
        (model_server_imported, "serving.plan", "def f():\n    import vllm"),
        (load_tests_imported, "tests.gateway.test_chat", "from loadtests.user import User"),
        (load_tests_imported, "gateway.app", "import gevent.monkey"),
    ],
)
def test_a_broken_rule_is_noticed(rule: Rule, name: str, source: str) -> None:
    assert len(rule(Module(name, source))) == 1


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (wrong_direction, "gateway.chat", "from gateway import ask as asking, errors\nfrom gateway.routing import Ask"),
        (
            wrong_direction,
            "gateway.guardrails.gate",
            "from gateway.guardrails.terms import Terms\nfrom . import language",
        ),
        (wrong_package, "gateway.commands.up", "from serving.plan import Plan"),
        (wrong_package, "gateway.access", "from auth import Principal"),
        (wrong_package, "loadtests.bench.balancing", "from gateway.pool import Pool"),
        (more_than_a_library, "evaluation.french", "from gateway.guardrails.language import Detector"),
        (web_outside_its_place, "gateway.routes", "from fastapi import APIRouter"),
        (load_tests_imported, "tests.loadtests.test_parts", "from loadtests.profile import Profile"),
    ],
)
def test_what_the_rules_allow_is_let_be(rule: Rule, name: str, source: str) -> None:
    assert rule(Module(name, source)) == []

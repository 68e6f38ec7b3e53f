"""Rules about the code itself. Each is a function from a module to what is wrong with it, tried on strings too."""

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.architecture.sources import PACKAGES, Module, modules

FILE_LINES, FUNCTION_LINES = 300, 60

# What must be made by a function, so that a test gets what is shipped and an import does nothing.
MADE = {
    *("FastAPI", "APIRouter", "create_app", "create_engine", "create_async_engine", "engine"),
    *("ClientSession", "AsyncClient", "Redis", "from_url", "OpenAI", "AsyncOpenAI", "Settings", "load", "Limiter"),
    *("limiter", "Upstream", "Detector", "CollectorRegistry", "Popen"),
}
NAMES = {"app", "engine", "client", "settings", "session", "redis", "router"}


def made_at_import(module: Module) -> Iterator[str]:
    for node in module.tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        calls = {_called(call) for call in ast.walk(node.value) if isinstance(call, ast.Call)}
        if names & NAMES or calls & MADE:
            yield f"{module.name}:{node.lineno} makes {', '.join(sorted(names & NAMES | calls & MADE))} at import"


def catches_everything(module: Module) -> Iterator[str]:
    """A catch-all ends by raising what it caught, or a comment on its line or the next says why it does not."""
    lines = module.source.splitlines()
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler) or not _broad(node.type):
            continue
        last = node.body[-1]
        reraises = isinstance(last, ast.Raise) and last.exc is None
        explained = any("#" in line for line in lines[node.lineno - 1 : node.lineno + 1])
        if not reraises and not explained:
            yield f"{module.name}:{node.lineno} catches everything without a reason"


def too_long(module: Module) -> Iterator[str]:
    if (size := len(module.source.splitlines())) > FILE_LINES:
        yield f"{module.name} has {size} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LINES:
                yield f"{module.name}.{node.name} has {size} lines"


def keeps_globals(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            yield f"{module.name}:{node.lineno} uses global {', '.join(node.names)}"


def raises_for_the_web(module: Module) -> Iterator[str]:
    """Errors are raised as ours and rendered in one place."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _called(node.exc) == "HTTPException":
            yield f"{module.name}:{node.lineno} raises HTTPException"


def base_middleware(module: Module) -> Iterator[str]:
    """Behind it a client's disconnect is never seen."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.alias) and getattr(node, "id", getattr(node, "name", "")) == (
            "BaseHTTPMiddleware"
        ):
            yield f"{module.name}:{node.lineno} uses BaseHTTPMiddleware"


Rule = Callable[[Module], Iterator[str]]
RULES: list[Rule] = [
    made_at_import, catches_everything, too_long, keeps_globals, raises_for_the_web, base_middleware,
]  # fmt: skip


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def _broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(ast.unparse(each) in ("Exception", "BaseException") for each in kinds)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_program_keeps_the_rule(rule: Rule) -> None:
    assert [problem for module in modules(*PACKAGES) for problem in rule(module)] == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (made_at_import, "app = object()"),
        (made_at_import, "x = FastAPI()"),
        (made_at_import, "x: object = redis.asyncio.Redis.from_url('')"),
        (made_at_import, "x = wrap(create_async_engine('sqlite://'))"),
        (made_at_import, "conf = load()"),
        (catches_everything, "try:\n    f()\nexcept Exception:\n    pass"),
        (catches_everything, "try:\n    f()\nexcept (ValueError, BaseException) as error:\n    g(error)"),
        (catches_everything, "try:\n    f()\nexcept:\n    raise ValueError"),
        (too_long, "\n" * 301),
        (too_long, "def f():\n" + "    pass\n" * 60),
        (too_long, "class A:\n    async def f(self):\n" + "        pass\n" * 60),
        (keeps_globals, "def f():\n    global x"),
        (raises_for_the_web, "raise HTTPException(404)"),
        (raises_for_the_web, "raise fastapi.HTTPException(404) from None"),
        (base_middleware, "from starlette.middleware.base import BaseHTTPMiddleware"),
    ],
)
def test_a_broken_rule_is_noticed(rule: Rule, source: str) -> None:
    assert len(list(rule(Module("gateway.x", source)))) == 1


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (made_at_import, "def make():\n    app = FastAPI()\n    return app"),
        (made_at_import, "log = structlog.get_logger()\nrows = Table('ledger', MetaData())"),
        (catches_everything, "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
        (catches_everything, "try:\n    f()\nexcept Exception:  # a guard of a stranger's making\n    g()"),
        (catches_everything, "try:\n    f()\nexcept ValueError:\n    g()"),
        (too_long, "def f():\n" + "    pass\n" * 59),
    ],
)
def test_what_the_rules_allow_is_let_be(rule: Rule, source: str) -> None:
    assert list(rule(Module("gateway.x", source))) == []

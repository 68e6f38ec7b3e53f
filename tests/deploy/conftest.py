"""What the checks of the deployment share: the repository, and what a gateway shows after traffic of every kind."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.deploy.document import ROOT
from tests.gateway.figures import Figures, scraped
from tests.house import MODEL, House, house
from tests.upstream import refuses, says

FRENCH = says(
    "Vous pouvez suivre votre avis sur cette page. ",
    "Écrivez à jean.dupont@exemple.fr pour en savoir plus.",
    pause=0.02,  # between tokens that come together nobody measures a time
)
ENGLISH = says("This is an answer that nobody wanted in English. ", "You may follow your feedback there.")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository, whose files the deployment names."""
    return ROOT


async def ask(home: House, content: str = "Comment suivre mon avis ?", subject: str = "alice") -> None:
    async with home.client(subject=subject) as client:
        question: list[Any] = [{"role": "user", "content": content}]
        with suppress(openai.APIError):
            await client.chat.completions.create(model=MODEL, messages=question)


@pytest.fixture(scope="session")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """The metrics of a gateway that has met all of it: answers, drifts, failures, limits, personal data, money."""
    folder = tmp_path_factory.mktemp("shown")
    changes: dict[str, Any] = {
        "limits": {"users": {"bob": {"requests_per_minute": 1}}},
        "guards": {"personal_data": {"own": "mask", "answers": "mask"}},
        "targets": {"local": {"price_per_hour": "2"}, "outside": {"price": {"input": "1", "output": "2"}}},
        "money": {"reference": "outside"},
    }
    async with house(folder, **changes) as home:
        home.local.answers(FRENCH, ENGLISH, FRENCH, refuses(503))
        await ask(home, "Mon adresse est marie.curie@exemple.fr : comment suivre mon avis ?")
        await ask(home)
        await ask(home)
        for _ in range(2):
            await ask(home, subject="bob")
        return await scraped(home.url)

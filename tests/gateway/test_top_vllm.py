"""`passerelle top` over a real vLLM: its own queue, cache and tokens are shown."""

import asyncio
import re
from pathlib import Path

import pytest

from serving.server import ModelServer
from tests.gateway.test_status import ROOT, status
from tests.gateway.test_top import FAST, top
from tests.gateway.test_vllm import QUESTION, served_by
from tests.house import house

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]


async def test_vllm_s_own_figures_are_shown(tmp_path: Path, tiny_falcon_server: ModelServer) -> None:
    name = tiny_falcon_server.served_name
    seldom = {"scrape_seconds": 5}  # its figures count for three times as long: this machine is busy
    async with house(tmp_path, routing=seldom, **served_by(tiny_falcon_server, language="annotate")) as home:
        root = home.token(**ROOT)

        async def generated() -> float:
            told = await status(home.url, root)
            return float(told["installation"]["targets"][0]["replicas"][0]["generated"] or 0)

        before = await generated()
        answer = await home.client().chat.completions.create(
            model=name, messages=QUESTION, max_tokens=12, extra_body={"ignore_eos": True}
        )
        assert answer.usage is not None
        async with asyncio.timeout(60):
            while await generated() < before + answer.usage.completion_tokens:  # noqa: ASYNC110  # vLLM is asked seldom
                await asyncio.sleep(0.2)
        code, out, err = await top("--url", home.url, *FAST, token=root)
    assert (code, err) == (0, "")
    assert re.search(rf"local +\S+, {name} +0 +0 +256", out), out
    assert re.search(r"local/0 +\S+ +closed +up +0 +0 +0 +0% +\d+", out), out

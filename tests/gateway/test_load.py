import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from gateway.load import Figures, Load, WrongNames, parse, watch
from tests.gateway.requests import Clock


def metrics(running: float = 3, waiting: float = 2, cache: float = 0.25, engine: int = 0) -> str:
    """What vLLM 0.32 shows, cut to what matters and what resembles it."""
    labels = f'{{engine="{engine}",model_name="tiny-falcon"}}'
    return f"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{labels} {running}
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{labels} {waiting}
vllm:num_requests_waiting_by_reason{{engine="{engine}",model_name="tiny-falcon",reason="capacity"}} 99.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{labels} {cache}
vllm:prompt_tokens_total{labels} 12345.0
process_open_fds 42.0
"""


WITHOUT = "\n".join(line for line in metrics().splitlines() if "kv_cache" not in line)
OLD = metrics().replace("kv_cache", "gpu_cache")


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        (metrics(), Figures(3, 2, 0.25)),
        (metrics(0, 0, 0), Figures(0, 0, 0)),
        (metrics().replace(" 2\n", " 2.0\n"), Figures(3, 2, 0.25)),
        (metrics() + metrics(1, 5, 0.75, engine=1), Figures(4, 7, 0.5)),  # data parallel engines
    ],
    ids=["one engine", "idle", "floats", "two engines"],
)
def test_the_figures_are_read_over_all_engines(text: str, figures: Figures) -> None:
    assert parse(text) == figures


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "vllm:num_requests_running, vllm:num_requests_waiting, vllm:kv_cache_usage_perc"),
        ("process_open_fds 42.0\n", "vllm:num_requests_running"),
        (WITHOUT, "no vllm:kv_cache_usage_perc among"),
        (OLD, "no vllm:kv_cache_usage_perc among"),
    ],
    ids=["nothing", "another program", "one lacks", "an old version"],
)
def test_wrong_names_are_an_error_that_says_which(text: str, missing: str) -> None:
    with pytest.raises(WrongNames, match=missing):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        metrics(-1),
        metrics(float("nan")),
        metrics(float("inf")),
        "vllm:num_requests_running{x\n",
        "vllm:num_requests_running many\n",
    ],
)
def test_nonsense_is_no_figure(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse(text)


def test_figures_are_believed_for_three_readings() -> None:
    clock = Clock()
    load = Load("local", 0, 2.0, clock)
    assert load.figures() is None
    load.take(metrics())
    clock.now += 6
    assert load.figures() == Figures(3, 2, 0.25)
    load.take(None)
    clock.now += 0.1
    assert load.figures() is None


def test_wrong_names_are_logged_once_and_noted_until_they_are_right() -> None:
    load = Load("local", 1, 1.0, Clock())
    with capture_logs() as logs:
        load.take(OLD)
        load.take(OLD)
        load.take(None)
    assert [(entry["event"], entry["log_level"], entry["target"], entry["replica"]) for entry in logs] == [
        ("metrics_unusable", "error", "local", 1)
    ]
    assert load.figures() is None
    assert load.problem is not None
    load.take(metrics())
    assert load.problem is None
    assert load.figures() is not None


async def test_all_replicas_are_read_again_and_again() -> None:
    loads = {url: Load("local", index, 1.0, Clock()) for index, url in enumerate(("a", "b"))}
    rounds = asyncio.Semaphore(0)

    async def read(url: str) -> str | None:
        rounds.release()
        return metrics() if url == "a" else None

    watching = asyncio.create_task(watch(loads.items(), read, 0.001))
    for _ in range(6):
        await rounds.acquire()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    assert loads["a"].figures() == Figures(3, 2, 0.25)
    assert loads["b"].figures() is None

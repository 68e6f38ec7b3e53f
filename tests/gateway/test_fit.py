"""Which targets can take a request: what it asks for, its images, its length."""

from typing import Any

import orjson
import pytest

from gateway import completions, embeddings
from gateway.errors import ContextLengthExceeded, InvalidRequest, WrongTask
from gateway.fit import fitting, least_tokens
from gateway.pool import Pool
from gateway.protocol import Request
from tests.gateway.requests import pool_of, request

FRENCH = "Comment puis-je suivre l'avis que j'ai déposé la semaine dernière sur votre plateforme ? "
WORDS = 5000 * "mot "
INLINE, ADDRESS = "data:image/png;base64,AAAA", "https://exemple.fr/photo.png"


def shows(*urls: str) -> Request:
    """A message with images."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return request(messages=[{"role": "user", "content": [{"type": "text", "text": "Que vois-tu ?"}, *images]}])


def says(text: str, **fields: Any) -> Request:
    return request(messages=[{"role": "user", "content": text}], **fields)


def continues(*prompts: str, **fields: Any) -> Request:
    return completions.parse(orjson.dumps({"model": "m", "prompt": list(prompts), **fields}), max_choices=8)


def embeds(*texts: str) -> Request:
    return embeddings.parse(orjson.dumps({"model": "m", "input": list(texts)}), max_choices=8)


SMALL, LARGE, UNKNOWN = (
    pool_of(name="small", context_length=2048),
    pool_of(name="large", context_length=16385, kind="openai", outside=True),
    pool_of(name="unknown"),
)


def names(pools: tuple[Pool, ...]) -> list[str]:
    return [pool.name for pool in pools]


@pytest.mark.parametrize(
    ("asked", "taking"),
    [
        (says(FRENCH), ["small", "large"]),
        (says(FRENCH * 40), ["small", "large"]),  # perhaps too long, perhaps not: the model server is the judge
        (says(WORDS), ["large"]),
        (says(FRENCH, max_tokens=2000), ["small", "large"]),
        (says(FRENCH, max_tokens=2048), ["large"]),
        (says(FRENCH, max_completion_tokens=9000), ["large"]),
        (says("=" * 30_000), ["small", "large"]),  # a run may be a handful of tokens
        (continues(WORDS), []),
    ],
)
def test_a_request_goes_to_targets_it_may_fit(asked: Request, taking: list[str]) -> None:
    if taking:
        assert names(fitting((SMALL, LARGE), asked)) == taking
    else:
        with pytest.raises(ContextLengthExceeded):
            fitting((SMALL, LARGE), asked)


def test_a_target_of_unknown_length_is_its_own_judge() -> None:
    assert names(fitting((SMALL, UNKNOWN), says(WORDS))) == ["unknown"]


@pytest.mark.parametrize(
    ("asked", "param", "numbers"),
    [
        (says(WORDS), "messages", ["2048", "3076"]),
        (says(WORDS, max_tokens=100), "messages", ["2048", "3076", "100"]),
        (says("Bonjour", max_tokens=4000), "max_tokens", ["2048", "4000"]),
        (continues(WORDS), "prompt", ["2048", "3076"]),
    ],
)
def test_a_request_that_fits_nowhere_is_refused_with_the_numbers(
    asked: Request, param: str, numbers: list[str]
) -> None:
    with pytest.raises(ContextLengthExceeded) as refused:
        fitting((SMALL,), asked)
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "context_length_exceeded", param)
    assert all(number in str(refused.value) for number in numbers)


def test_the_least_a_prompt_can_be_is_of_the_longest_text_where_each_stands_alone() -> None:
    assert least_tokens(continues("mot " * 65, "mot")) == least_tokens(embeds("mot", "mot " * 65)) == 40
    assert least_tokens(says("mot " * 65)) == 40


def test_a_target_is_asked_only_for_what_it_does() -> None:
    vectors = pool_of(name="vectors", tasks=["embeddings"])
    assert names(fitting((SMALL, LARGE, vectors), says(FRENCH))) == ["small", "large"]
    assert names(fitting((LARGE, SMALL, vectors), continues(FRENCH))) == ["small"]
    assert names(fitting((SMALL, vectors), embeds(FRENCH))) == ["vectors"]
    with pytest.raises(WrongTask) as refused:
        fitting((SMALL, LARGE), embeds(FRENCH))
    assert (refused.value.status, refused.value.param) == (404, "model")


def test_vectors_of_another_model_are_no_replacement() -> None:
    first, same, other = (
        pool_of(name=name, model=model, tasks=["embeddings"])
        for name, model in (("first", "e5"), ("same", "e5"), ("other", "ada"))
    )
    assert names(fitting((first, other, same), embeds(FRENCH))) == ["first", "same"]


def test_images_go_only_where_they_are_taken() -> None:
    seeing = pool_of(name="seeing", images=True)
    assert names(fitting((SMALL, seeing), shows(INLINE))) == ["seeing"]
    with pytest.raises(InvalidRequest, match="takes no images") as refused:
        fitting((SMALL, LARGE), shows(INLINE))
    assert refused.value.param == "messages"


def test_no_model_server_of_ours_is_made_to_fetch_an_address() -> None:
    inside, outside = pool_of(name="inside", images=True), pool_of(name="outside", images=True, outside=True)
    assert names(fitting((inside, outside), shows(INLINE, ADDRESS))) == ["outside"]
    with pytest.raises(InvalidRequest, match="data: URLs"):
        fitting((inside,), shows(ADDRESS))

"""A model server in a process of its own that drifts: `python -m tests.deploy.drilled` prints its URL and answers for ever.

Every other answer is English. One of more than 100 tokens takes two seconds.
"""

import asyncio
from itertools import cycle

from tests.upstream import Exchange, chunk, upstream, usage

ENGLISH = "You can leave a comment on the page of the service that you have used. "
FRENCH = "Vous pouvez laisser un avis sur la page du service que vous avez utilisé. "


async def serve() -> None:
    turns = cycle([ENGLISH, FRENCH])

    async def speaks(exchange: Exchange) -> None:
        long = exchange.body.get("max_tokens", 0) > 100
        sentences = [FRENCH] * 20 if long else [next(turns)]
        await exchange.head()
        for sentence in sentences:
            await exchange.text(sentence)
            await asyncio.sleep(0.1 if long else 0)
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event(usage(7, len(sentences)))
        await exchange.event("[DONE]")
        await exchange.end()

    async with upstream() as fake:
        fake.answers(speaks)
        print(fake.url, flush=True)  # noqa: T201  # how the test learns the address
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())

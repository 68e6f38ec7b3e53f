"""A model server in a process of its own, to be killed: `python -m tests.gateway.dying NAME` prints its URL and answers for ever.

Each answer names the server word by word, and takes about two seconds.
"""

import asyncio
import sys

from tests.upstream import Exchange, chunk, upstream, usage

WORDS = 40


async def serve(name: str) -> None:
    async def speaks(exchange: Exchange) -> None:
        await exchange.head()
        for _ in range(WORDS):
            await exchange.text(f"{name} ")
            await asyncio.sleep(0.05)
        await exchange.event(chunk({}, finish="stop"))
        await exchange.event(usage(7, WORDS))
        await exchange.event("[DONE]")
        await exchange.end()

    async with upstream() as fake:
        fake.answers(speaks)
        print(fake.url, flush=True)  # noqa: T201  # how the test learns the address
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))

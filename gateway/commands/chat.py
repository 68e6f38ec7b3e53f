"""`passerelle chat`: a terminal chat through the official OpenAI SDK, as any caller would."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionMessageParam

    from gateway.commands.typing import Subparsers

_EXAMPLE = """examples:
  PASSERELLE_TOKEN=psl_... passerelle chat --model gemma-3-270m "Comment suivre mon avis ?"
  passerelle chat --model gemma-3-270m --user alice        (asks for the password, then goes on until Ctrl-D)
"""


def add_command(commands: Subparsers) -> None:
    """Register the command."""
    command = commands.add_parser(
        "chat",
        help="chat with a model in the terminal",
        description="Asks through the official OpenAI SDK. API key or token: $PASSERELLE_TOKEN, or by logging in.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("question", nargs="?", help="one question; without it the chat goes on until Ctrl-D")
    command.add_argument("--base-url", default="http://127.0.0.1:8000", help="the gateway (default: %(default)s)")
    command.add_argument("--model", help="a published model (default: the first one)")
    command.add_argument("--user", help="log in under this name; the password is asked for")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Ask, print as it comes, keep the conversation."""
    import openai

    from gateway.commands.login import Login
    from gateway.settings import BadSettings

    url = args.base_url.rstrip("/").removesuffix("/v1")
    login = Login(url, args.user) if args.user else None
    key = login.token if login else os.environ.get("PASSERELLE_TOKEN")
    if not key:
        raise BadSettings("PASSERELLE_TOKEN is not set: set it, or log in with --user NAME.")
    # The SDK asks for the key at each request: a login of minutes goes on for as long as the chat.
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=login.current if login else key)
    conversation: list[ChatCompletionMessageParam] = []
    try:
        model = args.model or client.models.list().data[0].id
        for question in [args.question] if args.question else _questions():
            conversation.append({"role": "user", "content": question})
            conversation.append({"role": "assistant", "content": _answer(client, model, conversation)})
    except openai.APIConnectionError:
        raise BadSettings(f"{url} cannot be reached: is the gateway running?") from None
    except openai.OpenAIError as error:
        print(f"passerelle: {error}", file=sys.stderr)
        return 1
    return 0


def _questions() -> Iterator[str]:
    while True:
        try:
            question = input("vous > ").strip()
        except EOFError:
            return
        if question:
            yield question


def _answer(client: OpenAI, model: str, conversation: list[ChatCompletionMessageParam]) -> str:
    text = ""
    for chunk in client.chat.completions.create(model=model, messages=conversation, stream=True):
        piece = chunk.choices[0].delta.content if chunk.choices else None
        if piece:
            print(piece, end="", flush=True)
            text += piece
    print()
    return text

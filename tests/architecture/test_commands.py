import argparse
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway.cli import main, parser


def commands(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it."""
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in {id(choice): choice for choice in action.choices.values()}.values():
                yield from commands(below)


COMMANDS = list(commands(parser()))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.prog)
def test_the_help_of_every_command_shows_an_example(command: argparse.ArgumentParser) -> None:
    assert "example" in command.format_help()
    assert command.prog in command.format_help().partition("example")[2] or len(command.prog.split()) > 2


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.prog)
def test_every_option_says_what_it_is_for(command: argparse.ArgumentParser) -> None:
    silent = [action.dest for action in command._actions if not action.help and not isinstance(action, _WITH_TITLE)]
    assert silent == []


_WITH_TITLE = argparse._SubParsersAction  # its choices have their own help


def test_the_commands_of_the_design_are_there() -> None:
    names = {command.prog.split()[1] for command in COMMANDS if " " in command.prog}
    assert {"up", "serve", "plan", "gateway", "users", "chat", "config"} <= names


def test_without_a_command_the_help_is_shown_and_the_exit_code_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: passerelle" in capsys.readouterr().out


def test_help_needs_none_of_the_heavy_packages() -> None:
    heavy = ("fastapi", "sqlalchemy", "openai", "aiohttp", "eldc", "redis", "pydantic", "passlib", "uvicorn")
    program = f"import sys; from gateway.cli import parser; parser(); print([n for n in {heavy} if n in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert shown.stdout.strip() == "[]"

from __future__ import annotations


def add_command(commands: object) -> None: ...

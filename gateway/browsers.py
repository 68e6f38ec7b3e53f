"""Pages of other origins: none may read an answer unless it is configured, and no cookie is ever read or set."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

_READABLE: Final = (
    "retry-after",
    "x-request-id",
    "x-passerelle-attempts",
    "x-passerelle-degraded",
    "x-passerelle-guards",
    "x-passerelle-repairs",
    "x-passerelle-target",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)


def allow(app: FastAPI, origins: list[str]) -> None:
    """Let pages of these origins call the API with a token in the header (Fetch standard, "CORS protocol")."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            allow_credentials=False,
            expose_headers=_READABLE,
            max_age=600,
        )

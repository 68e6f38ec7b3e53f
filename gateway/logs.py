"""The log: one JSON object a line on standard error, whoever has something to say, and also when something breaks."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from select import PIPE_BUF
from types import TracebackType
from typing import Any

import orjson
import structlog

log = structlog.get_logger()


def configure_logging(level: str = "INFO") -> Callable[[str, list[dict[str, Any]]], None]:
    """structlog, the standard library and warnings as JSON through one handler, to standard error.

    Lines of ours spare themselves the way through `logging`. What is bound to the context of a request, such as its trace, is on
    every line that is written there. Returned is what writes lines of requests, which are nearly all there are: it takes an event
    and the fields of some lines, and writes what structlog's `info` would, without its chain of processors.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(serializer=_line),
        ],
    )
    handler = _Lines(sys.stderr)
    handler.setFormatter(formatter)
    ours = _Ours(handler)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True  # our own line says more
    structlog.configure(
        processors=[*shared, _whole],
        logger_factory=lambda *_: ours,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=False,
    )
    return handler.info if root.level <= logging.INFO else lambda _, __: None


def log_the_unforeseen() -> None:
    """Have what Python itself would print of warnings and of errors that nobody catches written to the log.

    For processes whose whole output is the log.
    """
    logging.captureWarnings(capture=True)
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed
    sys.unraisablehook = _unraisable


class _Lines(logging.StreamHandler[Any]):
    """Writes lines; one that cannot be written is told of in a line too, not by a traceback between the lines."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        self._told(sys.exc_info()[1], record.name)

    def info(self, event: str, lines: list[dict[str, Any]]) -> None:
        """Lines of ours, as structlog would have them, but for the context."""
        more = {"event": event, "level": "info", "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
        self.write(*[{**fields, **more} for fields in lines])

    def write(self, *lines: dict[str, Any]) -> None:
        """Write what are lines already but for their form; as `handle` does for a record."""
        with self.lock or nullcontext():
            try:
                for text in _together([_line(fields) + self.terminator for fields in lines]):
                    self.stream.write(text)
                    self.flush()
            except RecursionError:
                raise
            except Exception as error:  # noqa: BLE001  # as `emit`: nothing fails for its log
                self._told(error, structlog.stdlib.LoggerFactory([__name__])().name)

    def _told(self, error: BaseException | None, logger: str) -> None:
        if isinstance(error, OSError):  # nobody reads
            return
        told = {"event": "unloggable", "logger": logger, "level": "error", "reason": type(error).__name__}
        self.stream.write(_line(told) + self.terminator)


class _Ours:
    """What structlog gives its lines to, by the name of their level, which is among their fields."""

    def __init__(self, handler: _Lines) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = handler.write


def _whole(_logger: Any, _level: str, fields: structlog.typing.EventDict) -> tuple[tuple[Any], dict[str, Any]]:
    """The fields as one argument."""
    return (fields,), {}


def _together(lines: list[str]) -> Iterator[str]:
    """Lines joined as far as a pipe takes them in one piece: other workers write to the same."""
    text, size = "", 0
    for line in lines:
        more = len(line.encode(errors="replace"))
        if text and size + more > PIPE_BUF:
            yield text
            text, size = "", 0
        text, size = text + line, size + more
    if text:
        yield text


def _line(value: Any, **_: Any) -> str:
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:  # a lone surrogate, a number of more than 64 bits, a key that is no text
        return json.dumps(value, default=str, skipkeys=True)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log.critical("crashed", exc_info=(kind, error, trace))


def _thread_crashed(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None:
        thread = told.thread.name if told.thread else None
        log.error("thread_crashed", thread=thread, exc_info=told.exc_value)


def _unraisable(told: Any) -> None:
    log.error("error_ignored", where=told.err_msg or "nobody could be told", exc_info=told.exc_value)

"""How the server logs: one line an event on standard error, for people on a terminal and JSON for machines."""

import logging
import sys
import threading
import traceback as traceback_module
from collections.abc import Callable, MutableMapping
from functools import lru_cache, partial, wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, ParamSpec

import orjson
import structlog

from service.process.log_stream import LogStream
from service.process.shortage import in_words, is_shortage

_P = ParamSpec("_P")

LineRenderer = Callable[[dict[str, Any]], bytes]
"""Makes a line of the log from its fields, the time among them."""

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def is_for_people(log_format: str) -> bool:
    """Whether this format, `auto` perhaps, is the console's rather than JSON."""
    return log_format == "console" or (log_format != "json" and sys.stderr.isatty())


def line_renderer(log_format: str) -> LineRenderer:
    """For lines of this format that are too many to go through structlog, which takes ten times as long for JSON."""
    if not is_for_people(log_format):
        return partial(orjson.dumps, option=orjson.OPT_APPEND_NEWLINE)
    console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return lambda fields: f"{console(None, 'info', fields)}\n".encode()


@lru_cache
def log_stream() -> LogStream:
    """That of this process and of those that are forked from it."""
    return LogStream(lambda lost: structlog.get_logger().warning("log not read in time", lines_lost=lost))


def configure_logs(log_format: Literal["auto", "console", "json"], level: str) -> None:
    """Send our events, every library's log records, warnings and crashes to standard error in one format."""
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if is_for_people(log_format)
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(log_stream())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _tell_shortage, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_crash
    threading.excepthook = lambda crash: _log_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)
    for name in ("uvicorn.error", "litserve"):
        library = logging.getLogger(name)
        library.setLevel(logging.WARNING)  # what they log of starting and stopping repeats our events
        library.handlers, library.propagate = [], True  # LitServe's own writes plain text to standard output


def log_crash(function: Callable[_P, None]) -> Callable[_P, None]:
    """The main function of a forked process; multiprocessing would write its traceback as plain text."""

    @wraps(function)
    def logged(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            _log_crash(type(error), error, error.__traceback__)
            raise SystemExit(1) from error

    return logged


def _tell_shortage(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say why in words where the system was short of something: a traceback is for a fault of the program's."""
    error = fields.get("exc_info")
    error = sys.exc_info() if error is True else error
    error = error[1] if isinstance(error, tuple) else error
    if isinstance(error, BaseException) and is_shortage(error):
        del fields["exc_info"]
        fields.setdefault("why", in_words(error))
        if error.__traceback__:
            fields["where"] = _place(error.__traceback__)
    return fields


def _place(traceback: TracebackType) -> str:
    """The innermost function that a traceback leads to."""
    *_, frame = traceback_module.extract_tb(traceback)
    return f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"


def _log_crash(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    """An exception that nothing has caught (sys.excepthook)."""
    structlog.get_logger().critical("crashed", exc_info=(kind, error, traceback))

# SPDX-License-Identifier: Apache-2.0
"""Lines for people and machines, on standard error.

The contract: start, stop, a reload, a refused connection, a broken stream and a bug of the broker are lines; a
correct client never causes a line at the default level. What a client can cause is said once for each uid and
reason, then only counted.

structlog writes the lines. It takes longer to import than the broker takes to start, so it is imported when
the first line is written. What lines say of the current task is kept in a context variable of ours.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

# syslog(3)'s, which journald takes from the head of a line (sd-daemon(3)).
PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3}
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_REASONS: Final = 10_000  # (uid, reason) pairs remembered; above it, a new pair is only counted

# What every line of the current task says about it: the connection, the peer, the request.
bound: ContextVar[Mapping[str, Any] | None] = ContextVar("bound", default=None)


class Log:
    """The broker's log. Safe to share between threads."""

    def __init__(self, level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
        self._threshold = LEVELS[level]
        self._form = form
        self._stream = stream if stream is not None else sys.stderr
        self._logger: Any = None
        self._said: Counter[tuple[int, str]] = Counter()
        self.n_suppressed = 0

    def set_level(self, level: str) -> None:
        """Write lines of this level and above from now on."""
        self._threshold = LEVELS[level]

    def debug(self, event: str, **about: Any) -> None:
        """Write a line that helps to find a bug."""
        self._write("debug", event, about)

    def info(self, event: str, **about: Any) -> None:
        """Write a line about the broker's own course: start, stop, reload."""
        self._write("info", event, about)

    def warning(self, event: str, **about: Any) -> None:
        """Write a line about an error of a client or of the host."""
        self._write("warning", event, about)

    def error(self, event: str, **about: Any) -> None:
        """Write a line about a bug of the broker; ``exc_info=exception`` adds the traceback."""
        self._write("error", event, about)

    def once(self, uid: int, reason: str, event: str, **about: Any) -> None:
        """Write a warning about a uid the first time that it has this reason; count the later ones."""
        key = (uid, reason)
        if self._said[key] or len(self._said) > MAX_REASONS:
            self.n_suppressed += 1
        else:
            self._write("warning", event, about | {"uid": uid, "reason": reason})
        if len(self._said) <= MAX_REASONS:
            self._said[key] += 1

    def _write(self, level: str, event: str, about: dict[str, Any]) -> None:
        if LEVELS[level] < self._threshold or self._stream is None:  # started without a standard error
            return
        # A log that cannot be written (a full disk, a reader that has gone, no descriptor left to import
        # structlog with) must not end the broker.
        try:
            if self._logger is None:
                self._logger = _make(self._form, self._stream)
            getattr(self._logger, level)(event, **about)
        except BrokenPipeError:
            self.n_suppressed += 1
            self._abandon()
        except (OSError, ValueError, ImportError):
            self.n_suppressed += 1

    def _abandon(self) -> None:
        """Drop what is buffered. The reader has gone; writing must not fail again when the interpreter ends."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def coloured(stream: TextIO) -> bool:
    """Whether to use colour: on a terminal, unless NO_COLOR is set or the terminal is dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _make(form: str, stream: TextIO) -> Any:
    import structlog  # noqa: PLC0415 - see the module's docstring

    processors: list[Any] = [
        _add_bound,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: Callable[[Any, str, MutableMapping[str, Any]], Any]
    if form == "console" or (form == "auto" and stream.isatty()):
        render = structlog.dev.ConsoleRenderer(colors=coloured(stream))
    else:
        processors.append(structlog.processors.format_exc_info)
        render = structlog.processors.JSONRenderer(default=str)
    processors.append(_for_journal(render) if _is_journal(stream) else render)
    return structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["debug"]),
        cache_logger_on_first_use=True,
    )


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream is the one that JOURNAL_STREAM names (systemd.exec(5)), and not one it was replaced by."""
    try:
        about = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def _for_journal(render: Callable[[Any, str, MutableMapping[str, Any]], Any]) -> Callable[..., str]:
    """The same, with its priority at the head of each line, so that ``journalctl -p warning`` finds it."""

    def rendered(logger: object, name: str, event: MutableMapping[str, Any]) -> str:
        head = f"<{PRIORITIES[event['level']]}>"
        return "\n".join(head + line for line in str(render(logger, name, event)).split("\n"))

    return rendered


def _add_bound(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in (bound.get() or {}).items():
        event.setdefault(name, value)
    return event

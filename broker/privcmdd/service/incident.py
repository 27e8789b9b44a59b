# SPDX-License-Identifier: Apache-2.0
"""An incident: a bug of our own that a session met, and all that helps to find its cause.

It is an exception that is no refusal: ``LawBroken``, or any other. It ends the session that met it and not the broker.
``describe`` gathers what a report of it says; ``server/report.py`` writes the report.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from privcmdd import __version__
from privcmdd.model.errors import LawBroken
from privcmdd.wire.messages import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.service.session import Session
    from privcmdd.service.settings import Settings
    from privcmdd.wire.messages import BadRequest

ABOUT: Final = (
    "A bug of privcmdd. Please report it and attach this file, after a look at what it tells: names and uids "
    "of clients, what they had mapped, and of what the request carried the first bytes of each string of bytes."
)
# The most that a report holds of a long value.
MOST_BYTES: Final = 32
MOST_CHARACTERS: Final = 256
MOST_ITEMS: Final = 64
MOST_TRACE_CHARACTERS: Final = 32_768


@dataclass(frozen=True, slots=True, eq=False)
class Incident:
    """The exception that was raised, the session that met it, and functions that return the rest of a report.

    Attributes:
        exception: The exception that was raised.
        session: The session that met it.
        request: The request that met it; None when the connection was ending, or no request was being performed.
        instance: The broker's run.
        settings: The broker's configuration.
        space: Describes the session's address space; returns None when the session has none.
        counters: Returns all counters of the broker.
    """

    exception: BaseException
    session: Session
    request: Request | BadRequest | None
    instance: str
    settings: Settings
    space: Callable[[], dict[str, Any] | None]
    counters: Callable[[], dict[str, Any]]

    @property
    def kind(self) -> str:
        """A text that is the same for each occurrence of one bug: the broken law, or the exception's type and place."""
        if isinstance(self.exception, LawBroken):
            return f"law {self.exception.law}"
        frames = traceback.extract_tb(self.exception.__traceback__)
        where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        return type(self.exception).__name__ + where


def describe(incident: Incident) -> dict[str, Any]:
    """The content of an incident's report, as values that JSON can hold; no longer than a few hundred KiB.

    The state may be broken: a part that cannot be described says why, and the other parts are there all the same.
    """
    session = incident.session
    return {
        "about": ABOUT,
        "version": __version__,
        "python": sys.version,
        "instance": incident.instance,
        "incident": _part(lambda: _exception(incident)),
        "session": _part(lambda: _session(session)),
        "request": _part(lambda: _request(incident.request)),
        "recent": _part(lambda: [list(row) for row in session.recent]),
        "space": _part(incident.space),
        "stats": _part(incident.counters),
        "settings": _part(lambda: _settings(incident.settings)),
    }


def _part(tell: Callable[[], Any]) -> Any:
    try:
        return tell()
    except Exception as problem:  # noqa: BLE001 - see describe
        return f"cannot be told: {problem!r}"[:MOST_CHARACTERS]


def _exception(incident: Incident) -> dict[str, Any]:
    exception = incident.exception
    trace = "".join(traceback.format_exception(exception))
    if len(trace) > MOST_TRACE_CHARACTERS:
        half = MOST_TRACE_CHARACTERS // 2
        trace = f"{trace[:half]}\n[... {len(trace) - 2 * half} characters ...]\n{trace[-half:]}"
    law = exception.law if isinstance(exception, LawBroken) else None
    return {"kind": incident.kind, "law": law, "text": shortened(str(exception)), "traceback": trace.splitlines()}


def _session(session: Session) -> dict[str, Any]:
    identity = session.identity
    return {
        "number": session.number,
        "uid": identity.uid,
        "gid": identity.gid,
        "pid": identity.pid,
        "client": shortened(session.client_name),
        "features": sorted(session.features),
        "restricted_to": session.restricted_to,
        "requests": session.n_requests,
        "forked": [child.space.number for child in islice(session.forked, MOST_ITEMS)],
    }


def _request(request: Request | BadRequest | None) -> dict[str, Any] | None:
    if request is None:
        return None
    told = {"method": shortened(request.method), "msgid": request.msgid}
    if isinstance(request, Request):
        return {**told, "params": shortened(request.params)}
    return {**told, "refused": shortened(request.text)}


def _settings(settings: Settings) -> dict[str, Any]:
    told = asdict(settings)
    del told["access"]  # access rules are confidential
    return told


def shortened(value: Any) -> Any:
    """A value from a message as JSON can hold it, of bounded size: of a long value its beginning and its length."""
    if isinstance(value, bytes | bytearray | memoryview):
        return _shortened_bytes(bytes(value))
    if isinstance(value, str):
        return value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}... ({len(value)} characters)"
    if isinstance(value, dict):
        pairs = {shortened(str(key)): shortened(inner) for key, inner in islice(value.items(), MOST_ITEMS)}
        return {**pairs, "...": f"{len(value)} in all"} if len(value) > MOST_ITEMS else pairs
    if isinstance(value, list | tuple):
        rows = [shortened(inner) for inner in islice(value, MOST_ITEMS)]
        return [*rows, f"... {len(value)} in all"] if len(value) > MOST_ITEMS else rows
    return value if value is None or isinstance(value, bool | int | float) else shortened(str(value))


def _shortened_bytes(data: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {"bytes": len(data), "begins": data[:MOST_BYTES].hex()}
    if len(data) > MOST_BYTES:
        told["sha256"] = hashlib.sha256(data).hexdigest()
    return told

# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as exceptions that are also :class:`OSError`.

Every exception has ``errno`` (Linux's number), ``name`` ("ESRCH"), ``text`` (a sentence for people) and ``details``
(a map for programs), whether the error is of the broker, the kernel or this library. So ``except OSError`` works as it
does around the real ``/dev/xen/privcmd``.
"""

from __future__ import annotations

import errno as _errno

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BrokerConfused", "BrokerGone", "FrameError", "GuestsGone", "NoAnswer", "NoBroker", "PrivcmdError"]


def errno_name(number: int) -> str:
    """The name of an errno: ``errno_name(3) == "ESRCH"``; numbers without one become "errno 4000"."""
    return _errno.errorcode.get(number, f"errno {number}")


class PrivcmdError(OSError):
    """A request was refused, and nothing was changed unless the method says otherwise.

    Attributes:
        errno: Linux's number of the error.
        name: The name of the errno, as "EINVAL".
        text: One sentence: what was wrong, and the value.
        details: More for programs, such as ``{"key": "dom"}``.
    """

    def __init__(self, errno: int, text: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(errno, text)
        self.name: str = errno_name(errno)
        self.text = text
        self.details: dict[str, Any] = details if details is not None else {}

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.errno, self.text, self.details))


class FrameError(PrivcmdError):
    """One frame of a mapping failed; ``errno`` is the frame's.

    Raised by an all-or-nothing ``map`` for the first failed frame, when the whole mapping has been undone,
    and by ``Mapping.page`` for a page without a frame. ``details`` has ``index`` (in the request), ``frame``
    (its gfn or mfn), ``dom`` and, from ``map``, ``n_failed``.
    """

    @property
    def index(self) -> int:
        """The index of the frame in the request, counted from 0."""
        return int(self.details["index"])


class NoBroker(PrivcmdError, ConnectionError):  # noqa: N818 - what happened, as in ProcessLookupError
    """Nothing answers at the socket: ``errno`` is connect's (ENOENT, ECONNREFUSED, EACCES, ...)."""


class NoAnswer(PrivcmdError, TimeoutError):  # noqa: N818
    """The broker did not answer in time (ETIMEDOUT); whether the request was done is not known."""


class BrokerGone(PrivcmdError, ConnectionError):  # noqa: N818
    """The connection has ended; requests that were under way may or may not have been done.

    Memory that is mapped stays readable and writable here, but no broker keeps track of it any more. When the guests
    outlive their broker, the next call of a ``Client`` goes to the one that follows.
    """

    def again(self) -> BrokerGone:
        """A copy of this error, to be raised once more without the traceback of the first time."""
        return type(self)(self.errno or 0, self.text, self.details)


class GuestsGone(BrokerGone):
    """Another broker answers there, with other guests (ENOTCONN): make a new ``Client``."""


class BrokerConfused(BrokerGone):
    """The broker sent what the protocol does not allow (EPROTO); the connection was closed."""

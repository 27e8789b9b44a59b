# SPDX-License-Identifier: Apache-2.0
"""The answer to a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from privcmdd.wire.codec import pack
from privcmdd.wire.messages import response_ok, response_packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Reply(NamedTuple):
    """The answer to one request.

    Attributes:
        data: The encoded response.
        fds: Descriptors that are sent with its first byte; the receiver of the reply owns and closes them.
        close: End the session after the answer is sent.
        incident: The bug of our own that the request met, if it met one.
    """

    data: bytes
    fds: tuple[int, ...] = ()
    close: bool = False
    incident: BaseException | None = None


@dataclass(frozen=True, slots=True)
class WithDescriptors:
    """A handler's result, and a function that opens the descriptors to send with it, called when all else is done."""

    result: dict[str, Any]
    open: Callable[[], tuple[int, ...]]

    def reply(self, msgid: int) -> Reply:
        """The reply to a request, with the descriptors."""
        return Reply(response_ok(msgid, self.result), self.open())


@dataclass(frozen=True, slots=True)
class Packed:
    """A handler's result that is encoded already.

    Attributes:
        n_pairs: How many keys the result has.
        pairs: Its keys and values, encoded, in any pieces.
    """

    n_pairs: int
    pairs: tuple[bytes, ...]

    def reply(self, msgid: int) -> Reply:
        """The reply to a request."""
        return Reply(response_packed(msgid, self.n_pairs, self.pairs))

    def with_more(self, more: Mapping[str, Any]) -> Packed:
        """This result with more keys."""
        return Packed(self.n_pairs + len(more), (*self.pairs, *encoded(more)))


def encoded(pairs: Mapping[str, Any]) -> Iterable[bytes]:
    """Keys and values as ``Packed`` has them."""
    for key, value in pairs.items():
        yield pack(key)
        yield pack(value)

# SPDX-License-Identifier: Apache-2.0
"""What comes back from a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from privcmdd.wire.messages import response_ok

if TYPE_CHECKING:
    from collections.abc import Callable


class Reply(NamedTuple):
    """The answer to one request.

    Attributes:
        data: The encoded response.
        fds: Descriptors that go with its first byte; the receiver of the reply owns and closes them.
        close: End this session once it is sent.
        incident: The bug of our own that made it so.
    """

    data: bytes
    fds: tuple[int, ...] = ()
    close: bool = False
    incident: BaseException | None = None


@dataclass(frozen=True, slots=True)
class WithDescriptors:
    """A handler's result, and how to open the descriptors to send beside it: last, when nothing else can fail."""

    result: dict[str, Any]
    open: Callable[[], tuple[int, ...]]

    def reply(self, msgid: int) -> Reply:
        """The reply, with the descriptors."""
        return Reply(response_ok(msgid, self.result), self.open())

# SPDX-License-Identifier: Apache-2.0
"""The blocking face: a connection whose requests are methods with types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from privcmd._connect import job_name
from privcmd._connection import Connection
from privcmd._methods import Domains, Events, Methods
from privcmd._protocol import result_of
from privcmd._standing import Standing
from privcmd.errors import PrivcmdError
from privcmd.faults import Faults

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from privcmd._call import Call


__all__ = ["Client"]

T = TypeVar("T")


class Client(Connection, Methods):
    """A connection to a broker, with an address space of its own.

    Args:
        path: The broker's socket; by default $PRIVCMDD_SOCKET, then $XDG_RUNTIME_DIR/privcmdd/broker.sock if
            it exists, then /run/privcmdd/broker.sock.
        timeout_s: How long connecting, and each call, waits for the broker, in seconds; None is for ever. After one
            (ETIMEDOUT) while a request is only sent in part, or while mapping, the connection is closed, because
            its state is unknown; otherwise it stays usable and the late answer is dropped.
        job: The job that the connection belongs to, made if there is none of this name; by default $PRIVCMDD_JOB, and
            none where that is not set or empty. What was made for a job ends with its last connection.

    Raises:
        NoBroker: Nothing listens there; ``errno`` is connect's, or ETIMEDOUT when its queue stays full.

    When guests outlive their broker (``server.state_dir``), or another broker takes over, the next call goes to the
    broker that follows, and waits up to ``timeout_s`` for it (10 s without one). A request that was under way when a
    broker crashed raises `BrokerGone`, because its outcome is unknown; when it hands over, one of the two does it.
    What a `ForeignMemory` has mapped is mapped again; ports of domain 0 and rules without ``keep`` have ended.

    To close it gives back all that the connection held, unless other connections share its address space.

    Attributes:
        lock: Held during every call; hold it to make several calls one step for this client's threads.
        notices: The broker's notifications, after ``subscribe``; they are read while other calls are answered.
        listeners: Called with each notice as it is read, with the lock held.
        followed: Called, with the lock held, when the connection is one to the broker that follows.
        left: Ranges (address, bytes) that closed mappings left behind, to be unmapped with the next mapping.
        pid: The process that this client belongs to.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, timeout_s: float | None = None, job: str | None = None
    ) -> None:
        super().__init__(path, timeout_s=timeout_s)
        self._standing = Standing(job_name(job))
        self.events: Events = Events(self)
        self.domains: Domains = Domains(self)
        self.faults: Faults = Faults(self)

    def perform(self, call: Call[T]) -> T:
        """Perform one typed call. Returns its value, raises as `call` does."""
        answer = self.exchange((call,))[0]
        if isinstance(answer, PrivcmdError):
            raise answer
        return answer  # type: ignore[no-any-return]

    def exchange(self, requests: Sequence[Call[Any]], *, to_the_end: bool = False) -> list[Any]:
        """Send these calls at once. Returns all answers; an error is in its call's place, not raised.

        Args:
            requests: Performed by the broker in this order.
            to_the_end: Close the connection when the answers do not come in time.
        """
        with self.lock:
            answers = self.ask([(call.method, call.params) for call in requests], to_the_end=to_the_end)
            return [result_of(call.read, answer) for call, answer in zip(requests, answers, strict=True)]

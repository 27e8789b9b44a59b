# SPDX-License-Identifier: Apache-2.0
"""A simulated client: what it has said, what it was promised, and a check of every byte that it gets."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgpack

from privcmdd.wire.codec import pack

if TYPE_CHECKING:
    from privcmdd.server.peer import Peer
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from sim.kernel import Task
    from sim.transport import BrokerEnd
    from sim.vocabulary import Ask

IDLE: Final = "nothing under way"


class Violation(AssertionError):  # noqa: N818 - says what happened
    """Something that a client may rely on did not hold."""


@dataclass(slots=True)
class Record:
    """A request of a history.

    Attributes:
        client: Whose; connections are numbered from 1 and no number is used twice.
        sent: When it was said, in events of the run.
        received: When its answer was there; None as long as it is not.
        reply: The answer as it was decoded.
    """

    client: int
    sent: int
    msgid: int
    method: str
    params: dict[str, Any]
    received: int | None = None
    reply: Any = None


@dataclass(slots=True, eq=False)
class Client:
    """One connection, seen from both ends.

    Attributes:
        says: What it is about to say.
        outgoing: What it has said and has not arrived.
        asked: Requests without an answer yet, in order.
        promised: Answers that the broker has given and this client has not read.
        told: Notifications likewise.
        n_missed: Notifications that did not come.
        doing: The method under way in the broker.
        pause: Where that stands still; ``...`` when it does not.
        silent: It says nothing any more.
        closes: It shuts its side down once all has arrived.
        ended: What happened that allows or obliges the broker to end the connection.
        may_lose: What ended it also allows that answers get lost.
        log: Reasons that the broker gave for closing it.
    """

    number: int
    uid: int
    end: BrokerEnd
    session: Session
    peer: Peer = field(init=False)
    task: Task = field(init=False)
    says: deque[Ask] = field(default_factory=deque)
    outgoing: deque[bytes] = field(default_factory=deque)
    asked: deque[Record] = field(default_factory=deque)
    promised: deque[bytes] = field(default_factory=deque)
    told: deque[bytes] = field(default_factory=deque)
    n_missed: int = 0
    doing: str | None = None
    pause: Pause | object = ...
    silent: bool = False
    closes: bool = False
    delayed_until_s: float = 0.0
    stalled_until_s: float = 0.0
    ended: set[str] = field(default_factory=set)
    may_lose: bool = False
    left: bool = False
    log: list[str] = field(default_factory=list)
    msgid: int = 0
    _received: bytearray = field(default_factory=bytearray)

    def say(self, ask: Ask, now: int) -> Record:
        """Ask for something."""
        self.msgid += 1
        record = Record(self.number, now, self.msgid, ask.method, ask.params)
        self.asked.append(record)
        self.outgoing.append(pack((0, self.msgid, ask.method, [ask.params])))
        return record

    def deliver(self, n_bytes: int) -> bytes:
        """Let the first bytes of what was said arrive, at most one message; which."""
        data = self.outgoing.popleft()
        arriving, rest = data[:n_bytes], data[n_bytes:]
        self.end.arrive(arriving)
        if rest:
            self.outgoing.appendleft(rest)
        return arriving

    def read(self, n_bytes: int, now: int) -> tuple[bytes, list[Record]]:
        """Read; which bytes, and which requests are answered now.

        Raises:
            Violation: An answer is missing, comes twice, out of order, changed, or is not this client's.
        """
        data = self.end.take(n_bytes)
        self._received += data
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(self._received)
        answered = []
        at = 0
        for message in unpacker:
            raw = bytes(self._received[at : unpacker.tell()])
            at = unpacker.tell()
            if message[0] == 2:
                self._notified(raw)
            else:
                answered.append(self._answered(raw, message, now))
        del self._received[:at]
        return data, answered

    def forget(self) -> None:
        """What has not arrived never will."""
        self.outgoing.clear()
        self.says.clear()
        self.silent = True

    def check_end(self) -> None:
        """The broker has closed the connection, and all that it sent is read.

        Raises:
            Violation: It had no reason to, or it owes an answer.
        """
        if not self.ended:
            raise Violation(f"client {self.number}: connection closed for no reason; {self.log}")
        if not self.may_lose and self.promised:
            raise Violation(f"client {self.number}: {len(self.promised)} answers lost at {sorted(self.ended)}")
        if self.ended == {"half-close"} and self.asked:
            raise Violation(f"client {self.number}: {self.asked[0].method} unanswered after half-close")

    def _answered(self, raw: bytes, message: Any, now: int) -> Record:
        if not self.promised or raw != self.promised.popleft():
            raise Violation(f"client {self.number}: an answer that was not given, or not now: {message!r:.200}")
        record = self.asked.popleft()
        if message[0] != 1 or message[1] != record.msgid:
            raise Violation(f"client {self.number}: {message!r:.200} answers no request {record.msgid}")
        record.received = now
        record.reply = message
        return record

    def _notified(self, raw: bytes) -> None:
        while self.told:
            if self.told.popleft() == raw:
                return
            self.n_missed += 1
        raise Violation(f"client {self.number}: a notification that was not for it: {raw!r:.200}")

# SPDX-License-Identifier: Apache-2.0
"""A whole broker without sockets, and a hand to drive requests with, step by step when wanted."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from privcmdd.service.broker import Broker
from privcmdd.service.keeper import Keeper
from privcmdd.service.session import Identity, Session
from privcmdd.service.settings import AccessRule, Limits, MachineSize, Settings
from privcmdd.service.steps import Ticket
from privcmdd.wire.codec import decode
from privcmdd.wire.messages import Request
from support.backing import MemoryBacking

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from privcmdd.service.keeping import RecordStore
    from privcmdd.service.reply import Reply
    from privcmdd.service.steps import Pause

    Steps = Generator[Pause, None, Reply]

BASE = 0x10_0000_0000
PAGE = 4096
ROOT, USER, OTHER = 0, 1000, 1001
SMALL = Settings(
    limits=Limits(slice_frames=2),
    machine=MachineSize(memory_mib=8, domains=8, gfns_per_domain=4096),
    access=(AccessRule("admin", uids=(ROOT, USER)),),
    paranoid=True,
)


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request was answered with an error."""

    def __init__(self, number: int, text: str, details: dict[str, Any]) -> None:
        super().__init__(text)
        self.errno = number
        self.name = errno.errorcode[number]
        self.text = text
        self.details = details


class Event(NamedTuple):
    """What a subscriber was told."""

    session: int
    topic: str
    params: Any


def settings(*, access: Iterable[AccessRule] = SMALL.access, paranoid: bool = True, **limits: Any) -> Settings:
    """Small settings with other limits or rules."""
    return replace(SMALL, limits=replace(SMALL.limits, **limits), access=tuple(access), paranoid=paranoid)


def frames(*names: int) -> bytes:
    """A frame list as it travels."""
    return struct.pack(f"<{len(names)}Q", *names)


class Desk:
    """A broker, its memory, and what it said unasked."""

    def __init__(
        self, chosen: Settings = SMALL, backing: MemoryBacking | None = None, store: RecordStore | None = None
    ) -> None:
        """Open it.

        Args:
            chosen: Its settings.
            backing: Its memory files.
            store: Where its state is kept; None: nowhere.
        """
        self.backing = backing or MemoryBacking()
        self.events: list[Event] = []
        self.now_s = 0.0
        """The time that the broker has; a test sets it."""
        keeper = Keeper(store) if store is not None else None
        line = keeper.begin("instance-1") if keeper is not None else None
        self.broker = Broker(chosen, self.backing, "instance-1", self._on_event, lambda: self.now_s, line=line)
        self.lost = keeper.load(self.broker.world) if keeper is not None else []
        self.evicted: list[tuple[Session, str]] = []
        """Connections that the broker wanted to be closed, and why; a test disconnects them."""
        self.broker.world.hang_up = lambda session, why: self.evicted.append((session, why))
        self.broker.world.pass_on = lambda _pid: (os.open(os.devnull, os.O_CLOEXEC | os.O_RDWR),)
        self._msgid = 0

    def _on_event(self, session: Session, data: bytes) -> None:
        message: Any = decode(data)
        kind, topic, params = message
        assert kind == 2
        self.events.append(Event(session.number, topic, params))

    def connect(self, uid: int = USER, gid: int = 100, groups: Iterable[int] = ()) -> Session:
        """A client connects."""
        return self.broker.connect(Identity(uid, gid, frozenset(groups), pid=1))

    def start(self, session: Session, method: str, /, **params: Any) -> Steps:
        """A request that is driven by hand."""
        self._msgid += 1
        return self.broker.perform(session, Request(self._msgid, method, params))

    def reply(self, session: Session, method: str, /, **params: Any) -> Reply:
        """A request to its end, which nobody else keeps waiting."""
        return finish(self.start(session, method, **params))

    def reply_of(self, session: Session, method: str, params: Any) -> Reply:
        """As ``reply``, with parameters that may be nonsense."""
        self._msgid += 1
        return finish(self.broker.perform(session, Request(self._msgid, method, params)))

    @staticmethod
    def said(reply: Reply) -> Any:
        """The result of a reply; None when it was refused."""
        if not reply.data:
            return None
        message: Any = decode(reply.data)
        return message[3] if message[2] is None else None

    def call(self, session: Session, method: str, /, **params: Any) -> Any:
        """The result of a request. Raises Refused."""
        return result(self.reply(session, method, **params))

    def domain(self, admin: Session, kind: str = "hvm", max_pages: int = 64, **params: Any) -> int:
        """Make a domain."""
        domid: int = self.call(admin, "domain.create", kind=kind, max_pages=max_pages, **params)["dom"]
        return domid

    def reserve(self, session: Session, n_pages: int, addr: int = BASE, prot: int = 3) -> int:
        """Reserve a range of an address space."""
        at: int = self.call(session, "mmap", addr=addr, len=n_pages * PAGE, prot=prot, fixed=True)["addr"]
        return at


def finish(steps: Steps) -> Reply:
    """Take a request to its end; its turn must have come."""
    while True:
        try:
            pause = next(steps)
        except StopIteration as stop:
            reply: Reply = stop.value
            return reply
        assert not isinstance(pause, Ticket) or pause.granted, "the request waits for its turn"


def result(reply: Reply) -> Any:
    """What a reply says. Raises Refused."""
    message: Any = decode(reply.data)
    kind, _, error, answer = message
    assert kind == 1
    if error is not None:
        number, text, details = error
        raise Refused(number, text, details)
    return answer


def errnos(err: bytes | list[int] | None) -> list[int]:
    """Errors of an answer in either form."""
    if isinstance(err, bytes):
        return [number for (number,) in struct.iter_unpack("<i", err)]
    return err or []


def triples(extents: bytes) -> list[tuple[int, int, int]]:
    """Extents of an answer."""
    return [(first, page, n) for first, page, n in struct.iter_unpack("<III", extents)]


def only_channels(usage: dict[str, dict[str, int]]) -> bool:
    """Whether nobody pays for anything but the events of channels, which stay as long as a guest's port."""
    return all(slot == "fds" or not amount for used in usage.values() for slot, amount in used.items())

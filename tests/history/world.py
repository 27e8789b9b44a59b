# SPDX-License-Identifier: Apache-2.0
"""The naive machine as clients meet it over the protocol: connections, address spaces, turns, what was told.

What the broker is free to choose (domids, addresses, machine frames, pages of memory files) is taken from its
replies and checked for legality; everything else is expected. Names of parameters and results, and which
parameters are well-formed, are the table's of the protocol; what requests mean is the naive model's alone.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from history.order import Wrong
from support.naive.host import FIRST_RAM_MFN, Frame, Host, Refused
from support.naive.spaces import Space

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from history.order import Kind
    from history.record import Record, Setting
    from support.naive.host import Domain

    Steps = Generator[Kind, None, Mapping[str, Any]]

PAGE: Final = 4096
NOBODY: Final = 0x7FF4  # DOMID_INVALID
HOLE: Final = 2**64 - 1


class Undecided(Exception):  # noqa: N818 - no verdict, and no bug of this program
    """From here on it cannot be said what the right answers are."""

    def __init__(self, record: Record | None, text: str) -> None:
        super().__init__(text if record is None else f"{record}: {text}")


@dataclass(eq=False)
class Home:
    """An address space, who lives there, and who has or awaits the turn in it, first come first."""

    number: int
    naive: Space
    files: dict[int, int]  # restricted files -> their domain; children share it
    threads: set[int] = field(default_factory=set)
    turn: list[Record] = field(default_factory=list)


@dataclass(eq=False)
class Guest:
    """A connection."""

    home: Home | None = None
    forked: list[Home] = field(default_factory=list)
    restricted_to: int | None = None


class World:
    """The naive machine and what is known of the broker's choices."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.host = Host(setting.n_frames, setting.max_gfns)
        self.guests: dict[int, Guest] = {}
        self.homes: dict[int, Home] = {}
        self.last_home = 0
        self.bytes: dict[Frame, bytearray] = {}
        self.by_mfn: dict[int, Frame] = {}
        self.by_place: dict[tuple[int, int], Frame] = {}
        self.generations: dict[int, Domain] = {}
        self.shared: set[Domain] = set()  # clients may write to them past the broker
        self.n_compared = 0

    # --- connections and address spaces ---------------------------------------------------------------

    def guest(self, client: int) -> Guest:
        return self.guests.setdefault(client, Guest())

    def home(self, record: Record) -> Home:
        """Where a client lives; a space of its own from now on when it had none."""
        guest = self.guest(record.client)
        if guest.home is None:
            chosen = self.setting
            guest.home = self.move_in(record, self.last_home + 1, chosen.personality, chosen.probe, merge=chosen.merge)
        return guest.home

    def move_in(self, record: Record, number: int, personality: str, probe: str, *, merge: bool) -> Home:
        """A new space for a client."""
        home = self.add(record, number, Space(self.host, personality, probe, merge=merge), {})
        home.threads.add(record.client)
        self.guest(record.client).home = home
        return home

    def add(self, record: Record, number: int, naive: Space, files: dict[int, int]) -> Home:
        """A new space."""
        if number <= self.last_home:
            raise Wrong(record, f"the new space has number {number}, and there was a space {self.last_home} before")
        self.last_home = number
        self.homes[number] = home = Home(number, naive, files)
        return home

    def leave(self, client: int) -> None:
        """A connection ends: spaces without threads give everything back."""
        guest = self.guests.pop(client, Guest())
        for home in [*([guest.home] if guest.home else []), *guest.forked]:
            home.threads.discard(client)
            if not home.threads and home.number in self.homes:
                home.naive.close()
                del self.homes[home.number]

    def in_turn(self, record: Record, home: Home, steps: Steps) -> Steps:
        """One request at a time in each space, first come first served."""
        home.turn.append(record)
        try:
            if home.turn[0] is not record:
                yield "queued"
            if home.turn[0] is not record:
                raise Wrong(record, f"it was not its turn in space {home.number}: {home.turn[0]} came before")
            return (yield from steps)
        finally:
            home.turn.remove(record)

    def may(self, record: Record, domid: int | None) -> None:
        """Whether RESTRICT lets a client name a domain; rights beyond that are taken as given."""
        held = self.guest(record.client).restricted_to
        if held is not None and held != domid:
            raise Refused(errno.EPERM)

    def may_map(self, record: Record, home: Home, domid: int, file: int) -> None:
        """The same for a request that maps, through one open file of the device."""
        if file and home.files.get(file, domid) != domid:
            raise Refused(errno.EPERM)
        self.may(record, domid)

    # --- what is learned from replies -----------------------------------------------------------------

    def learn_mfn(self, record: Record, frame: Frame, mfn: int) -> None:
        """A machine frame never changes under a frame, and no two live frames have the same."""
        other = self.by_mfn.get(mfn)
        if frame.mfn is None:
            if not FIRST_RAM_MFN <= mfn < self.host.n_frames:
                raise Wrong(record, f"{mfn:#x} is no frame of RAM")
            if other is not None and other in self.host.frames():
                raise Wrong(record, f"frame {mfn:#x} is given to domain {frame.domid} while {other.domid} has it")
            frame.mfn = mfn
            self.by_mfn[mfn] = frame
        elif frame.mfn != mfn:
            raise Wrong(record, f"gfn {frame.gfn:#x} of domain {frame.domid} is frame {mfn:#x}, was {frame.mfn:#x}")

    def learn_place(self, record: Record, frame: Frame, page: int) -> None:
        """Neither does its page of the memory file, and no two live frames of a domain share one."""
        other = self.by_place.get((frame.domid, page))
        if frame.place is None:
            if other is not None and other is not frame and other in self.host.frames():
                raise Wrong(record, f"page {page:#x} of domain {frame.domid}'s memory holds gfn {other.gfn:#x} still")
            frame.place = page
            self.by_place[frame.domid, page] = frame
        elif frame.place != page:
            raise Wrong(
                record, f"gfn {frame.gfn:#x} of domain {frame.domid} lay at page {frame.place:#x}, not {page:#x}"
            )

    def learn_generation(self, record: Record, domid: int, generation: int | None) -> None:
        """A domain keeps its generation, and no other ever has it."""
        domain = self.host.domains.get(domid)
        if generation is None or domain is None:
            return
        if self.generations.setdefault(generation, domain) is not domain:
            raise Wrong(record, f"generation {generation} was another domain's than the {domid} of now")

    def check_known(self, record: Record, domid: int, gmfns: Iterable[int]) -> None:
        """Whether it is known what frames of a PV domain these names are.

        Raises:
            Undecided: A client named a machine frame before any reply had.
        """
        domain = self.host.domains.get(domid)
        if domain is None or domain.kind != "pv":
            return
        own = [frame for frame in self.host.frames() if frame.domid == domid]
        unknown = [name for name in gmfns if FIRST_RAM_MFN <= name < self.host.n_frames and name not in self.by_mfn]
        if unknown and any(frame.mfn is None for frame in own):
            text = f"it names frame {unknown[0]:#x} of PV domain {domid}, whose frames no reply has told (domain.info)"
            raise Undecided(record, text)

    def content(self, frame: Frame) -> bytearray:
        """The bytes of a frame; zeros at first."""
        return self.bytes.setdefault(frame, bytearray(PAGE))


def numbers(data: Any, code: str) -> list[int]:
    """A list of numbers as it travels, in either form; none for nil."""
    if isinstance(data, bytes):
        return [number for (number,) in struct.iter_unpack(f"<{code}", data)]
    return list(data or ())


def travelling(values: Sequence[int], code: str, *, listed: bool) -> bytes | list[int]:
    """A list of numbers in the form of the question."""
    return list(values) if listed else struct.pack(f"<{len(values)}{code}", *values)


def chosen(record: Record, key: str, expected: Any = None) -> Any:
    """What the broker chose; what it would have to for a request that nobody was answered.

    Raises:
        Wrong: It refused, and there was no reason to.
        Undecided: Nobody knows.
    """
    if record.result is not None:
        return record.result[key]
    if record.error is not None:
        raise Wrong(record, f"it was refused, {record.error[1]!r}, expected an answer")
    if expected is None:
        raise Undecided(record, f"nobody knows its {key}")
    return expected

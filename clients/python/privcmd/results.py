# SPDX-License-Identifier: Apache-2.0
"""What the broker answers, as values. Keys that a newer broker adds are ignored."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

HOLE = 2**64 - 1
"""Stands in ``DomainInfo.frames`` for a p2m position without a frame."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One domain as ``domain.list`` shows it; ``state`` is running, paused or dying."""

    dom: int
    kind: str
    state: str
    name: str
    tot_pages: int
    max_pages: int


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """A domain in detail.

    Attributes:
        held_pages: Pages that something still refers to; what keeps a dying domain from going.
        gfn_limit: One more than the highest p2m position in use.
        frames: The names by which a foreign mapping asks for each position (gfns; a PV domain: mfns),
            `HOLE` where there is none; None when not asked for.
    """

    dom: int
    kind: str
    state: str
    name: str
    tot_pages: int
    max_pages: int
    held_pages: int
    gfn_limit: int
    frames: array[int] | None = None


@dataclass(frozen=True, slots=True)
class MapEntry:
    """One entry of an address space's vm_map: bytes ``start`` to ``end``; counts are pages."""

    start: int
    end: int
    prot: int
    max_prot: int
    inherit: str
    file: str | None
    object: int | None
    dom: int | None
    offset: int
    wired: int
    present: int
    failed: int
    request: str | None


@dataclass(frozen=True, slots=True)
class Space:
    """An address space as ``space.attach`` describes it."""

    space: int
    personality: str
    probe: str
    merge: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """What a fault found: the frame, and whether the fault had to enter it."""

    dom: int | None
    frame: int | None
    entered: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """A domain's memory file: the descriptor is the receiver's to close."""

    fd: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SharedPages:
    """Pages of domain 0's own that another domain may map.

    Attributes:
        refs: Their grants, side by side in the file.
        fd: The memory file, to be mapped shared; the descriptor is the receiver's to close.
        page: The page of the file that the first is.
        prot: What they may be mapped for.
    """

    refs: list[int]
    fd: int
    page: int
    prot: int


@dataclass(frozen=True, slots=True)
class IoreqServer:
    """An ioreq server: a device model's connection to a domain.

    Attributes:
        id: Its number; of those that emulate the same Xen asks the highest.
        bufioreq_port: The guest's port for buffered requests, or 0.
        ports: The guest's port for each vcpu's requests.
        ranges: ``port``, ``memory`` and ``pci``: pairs of first and last.
    """

    id: int
    enabled: bool
    bufioreq: int
    bufioreq_port: int
    ports: list[int]
    ranges: dict[str, list[list[int]]]


@dataclass(frozen=True, slots=True)
class Interrupts:
    """The interrupt lines of a domain.

    Attributes:
        n_changes: How often anything of this has changed.
        isa: ISA interrupts that are asserted, directly or through a PCI link.
        intx: Asserted pins of PCI devices: ``device``, ``pin``.
        routes: The ISA interrupt that each PCI link leads to, or 0.
        msis: The last messages: ``number``, ``address``, ``data``.
    """

    n_changes: int
    isa: list[int]
    intx: list[dict[str, int]]
    routes: list[int]
    msis: list[dict[str, int]]


@dataclass(frozen=True, slots=True)
class PortRow:
    """One port of an event channel, as ``evtchn.list`` shows it.

    Attributes:
        state: unbound, interdomain or virq.
        dom: The domain at the other end, or the one that may bind there.
        remote_port: The port at the other end, or 0.
        for_xen: Xen's own: an ioreq server's or a pager's.
    """

    port: int
    state: str
    dom: int
    remote_port: int
    virq: int
    vcpu: int
    for_xen: bool


@dataclass(frozen=True, slots=True)
class Populated:
    """How many frames were populated, and the new mfns of a PV domain."""

    done: int
    frames: array[int] | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer to a batch: ``ret`` as the ioctl's (0, or -2 when a frame is paged out).

    Attributes:
        n_failed: How many frames failed.
        frames: V2: a negative errno per frame; V1: the array with its nibbles; None when none failed.
        extents: Good frames as (first index, page in the memory file, n_pages) runs, flat; None when not
            asked for.
    """

    ret: int
    n_failed: int
    frames: array[int] | None
    extents: array[int] | None


@dataclass(frozen=True, slots=True)
class Finding:
    """Harm that a real host does without a word, as ``findings.list`` shows it.

    Attributes:
        kind: Its id; the page of findings describes it under that.
        count: How often it was made.
        text: A sentence that explains it.
        dom: The domain concerned; None without.
        addr: Where in the client's address space, in bytes; None when nowhere.
        uid: Whose client it was.
        pid: The client's process.
        client: What the client called itself.
        connection: The number of the client's connection.
        method: The request that did it.
        request: The how manieth of its connection that was.
    """

    kind: str
    count: int
    text: str
    dom: int | None
    addr: int | None
    uid: int
    pid: int
    client: str
    connection: int
    method: str
    request: int


def pick(kind: type[_T], answer: Mapping[str, Any]) -> _T:
    """Build ``kind`` from the keys of ``answer`` that it knows; the broker leaves out what is unset."""
    return kind(**{f.name: answer.get(f.name) for f in fields(kind)})  # type: ignore[arg-type]


def numbers(data: bytes | list[int] | None, code: str) -> array[int] | None:
    """A list of integers as it travels (little-endian ``bin`` or plain array) as an ``array``."""
    if data is None:
        return None
    values = array(code)
    if isinstance(data, bytes):
        values.frombytes(data)
    else:
        values.extend(data)
    return values

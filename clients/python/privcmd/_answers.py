# SPDX-License-Identifier: Apache-2.0
# Made by clients/protocol/generate.py from the table of methods.
"""What methods answer, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from array import array


@dataclass(frozen=True, slots=True)
class Health:
    """What ``health`` answers.

    Attributes:
        state: ready, or draining: it answers what has arrived, and then ends.
        connections: Clients that are connected.
    """

    state: str
    connections: int


@dataclass(frozen=True, slots=True)
class Space:
    """What ``space.attach`` answers.

    Attributes:
        space: The address space's number.
        personality: uvm or linux.
        probe: load or scratch.
        merge: Whether adjacent entries share an object.
    """

    space: int
    personality: str
    probe: str
    merge: bool


@dataclass(frozen=True, slots=True)
class SpaceRow:
    """One row of what ``space.list`` answers.

    Attributes:
        space: Number of the address space.
        uid: The uid that it belongs to.
        pid: The process that made it, as the kernel named it.
        client: what that process called itself in hello.
        job: the job that it belongs to; empty for none.
        personality: uvm or linux.
        threads: Connections that live in it.
        dom: The domain; None when the space has mapped none.
        entries: Map entries with frames of the domain.
        present: Pages with a page table entry.
        writable: Those of them that lie in entries which allow writes (pages).
        failed: Pages whose frame failed.
    """

    space: int
    uid: int
    pid: int
    client: str
    job: str
    personality: str
    threads: int
    dom: int | None
    entries: int
    present: int
    writable: int
    failed: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What ``fault`` answers.

    Attributes:
        dom: The domain whose frame is mapped there.
        frame: The frame's number, as the mapping named it.
        entered: Whether this page fault made the page table entry; false when the entry was there already.
    """

    dom: int
    frame: int
    entered: bool


@dataclass(frozen=True, slots=True)
class MapEntry:
    """One row of what ``maps`` answers.

    Attributes:
        start: First address (bytes).
        end: The address after the last (bytes).
        prot: Protection.
        max_prot: Maximum protection.
        inherit: what a fork's child gets: none, copy or share.
        file: anon, privcmd, hypercall or gntdev.
        object: Number of the uvm object; None when there is none.
        dom: Domain whose frames are mapped; None when there is none.
        offset: Offset in the object at which the entry begins (bytes).
        wired: Wired count.
        present: Pages with a page table entry.
        failed: Pages whose frame failed.
        request: the last request that mapped frames here; None when there was none.
    """

    start: int
    end: int
    prot: int
    max_prot: int
    inherit: str
    file: str
    object: int | None
    dom: int | None
    offset: int
    wired: int
    present: int
    failed: int
    request: str | None


@dataclass(frozen=True, slots=True)
class PortRow:
    """One row of what ``evtchn.list`` answers.

    Attributes:
        port: Its number.
        state: unbound, interdomain or virq.
        dom: The domain at the other end, or the domain that may bind to the port.
        remote_port: The port at the other end, or 0.
        virq: The virtual interrupt, or 0.
        vcpu: The vcpu that is told.
        for_xen: Whether it is Xen's own: of an ioreq server or a pager.
    """

    port: int
    state: str
    dom: int
    remote_port: int
    virq: int
    vcpu: int
    for_xen: bool


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One row of what ``domain.list`` answers.

    Attributes:
        dom: Its domain id.
        kind: pv, hvm or pvh.
        state: running, paused or dying.
        name: as given to domain.create.
        tot_pages: Frames it holds (pages).
        max_pages: Frames it may hold (pages).
    """

    dom: int
    kind: str
    state: str
    name: str
    tot_pages: int
    max_pages: int


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """What ``domain.info`` answers.

    Attributes:
        dom: Its domain id.
        kind: pv, hvm or pvh.
        state: running, paused or dying.
        name: as given to domain.create.
        tot_pages: Frames it holds (pages).
        max_pages: Frames it may hold (pages).
        lease: Who it was made for; None when that is not known.
        held_pages: Frames not given back yet; the mapped frames of a dying domain are among them (pages).
        gfn_limit: The first position after the end of the p2m (pages).
        generation: A number that no two domains of one broker share, even if they have the same domain id.
        frames: Only with num: for each position the number by which a foreign mapping asks for its frame (gfn for
            hvm and pvh, mfn for pv), little-endian u64; 2^64-1 for a hole.
    """

    dom: int
    kind: str
    state: str
    name: str
    tot_pages: int
    max_pages: int
    lease: dict[str, Any] | None
    held_pages: int
    gfn_limit: int
    generation: int
    frames: array[int] | None = None


@dataclass(frozen=True, slots=True)
class Populated:
    """What ``domain.populate`` answers.

    Attributes:
        done: Frames populated; fewer than asked for when a frame fails.
        why: why the request stopped at the first frame not done; None when all are done.
        frames: The new mfns of a pv domain, little-endian u64; None for others.
    """

    done: int
    why: str | None
    frames: array[int] | None


@dataclass(frozen=True, slots=True)
class IoreqServer:
    """One row of what ``ioreq.servers`` answers.

    Attributes:
        id: Its number, the ``id`` of privcmd.mmap_resource for its pages.
        enabled: Whether requests go to it.
        bufioreq: How it takes buffered requests: 0 not at all, 1 legacy, 2 atomic.
        bufioreq_port: The guest's port for them, or 0.
        ports: The guest's port for each vcpu's requests.
        ranges: ``port``, ``memory`` and ``pci``: ranges as pairs of first and last; a PCI function is segment << 16
            | bus << 8 | device << 3 | function.
    """

    id: int
    enabled: bool
    bufioreq: int
    bufioreq_port: int
    ports: list[int]
    ranges: dict[str, list[list[int]]]


@dataclass(frozen=True, slots=True)
class Interrupts:
    """What ``guest.interrupts`` answers.

    Attributes:
        n_changes: How often any of this has changed.
        isa: ISA interrupts that are asserted, directly or through a PCI link.
        intx: Asserted pins of PCI devices.
        routes: The ISA interrupt that each of the four PCI links leads to, or 0.
        msis: The last 256 message-signalled interrupts.
    """

    n_changes: int
    isa: list[int]
    intx: list[dict[str, int]]
    routes: list[int]
    msis: list[dict[str, int]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of what ``findings.list`` answers.

    Attributes:
        kind: the kind of finding; the page of findings describes each kind under this name.
        count: How often the finding was made.
        text: a sentence that explains it.
        dom: The domain concerned; None when there is none.
        addr: Where in the address space; None when nowhere (bytes).
        uid: The uid of the client.
        job: the job of the client; empty for none.
        pid: The client's process, as the kernel named it.
        client: what the client called itself in hello.
        connection: The number of the client's connection, from 1 on in the order in which connections came.
        method: the method of the request that caused it.
        request: The number of the request within its connection, from 1 on.
    """

    kind: str
    count: int
    text: str
    dom: int | None
    addr: int | None
    uid: int
    job: str
    pid: int
    client: str
    connection: int
    method: str
    request: int


@dataclass(frozen=True, slots=True)
class JobRow:
    """One row of what ``job.list`` answers.

    Attributes:
        uid: Whose job it is: two uids may have jobs of one name.
        job: its name.
        pid: The process that made it, as the kernel named it.
        client: what that process called itself in hello.
        age_s: How long ago it was made.
        connections: Its connections.
        requests: Requests of all connections that it has had.
        spaces: Address spaces of its processes.
        frames: Frames that these have mapped (pages).
        doms: The domains that were made in it.
    """

    uid: int
    job: str
    pid: int
    client: str
    age_s: int
    connections: int
    requests: int
    spaces: int
    frames: int
    doms: list[int]

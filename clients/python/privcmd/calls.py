# SPDX-License-Identifier: Apache-2.0
"""Every method of the broker as a typed call: what to send, and how to read the answer.

A `Call` is a value and does nothing by itself. Both faces, ``privcmd.Client`` and ``privcmd.aio.AsyncClient``,
have these functions as methods under the same names, and perform what they build. Addresses and lengths
are in bytes, frames are gfns (HVM, PVH) or mfns (PV), protections are the ``PROT_*`` of :mod:`mmap`.

Besides the errnos that each names, any call may raise `BrokerGone`, EPERM (no right to that domain),
EDQUOT (the caller's uid or connection holds too much) and EIO (the broker failed; it ends the connection).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from privcmd.evtchn import EventChannel
from privcmd.names import as_names
from privcmd.results import (
    Batch,
    DomainInfo,
    DomainRow,
    Fault,
    Finding,
    Interrupts,
    IoreqServer,
    MapEntry,
    Memory,
    Populated,
    PortRow,
    SharedPages,
    Space,
    numbers,
    pick,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request: method, parameters, and what makes a value of the answer and its descriptors."""

    method: str
    params: Mapping[str, Any]
    read: Callable[[Any, tuple[int, ...]], T]


def _as_is(answer: Any, _fds: tuple[int, ...]) -> Any:
    return answer


def _nothing(_answer: Any, _fds: tuple[int, ...]) -> None:
    return None


def plain(method: str, params: Mapping[str, Any]) -> Call[Any]:
    """Any method by its name; the answer as it comes."""
    return Call(method, params, _as_is)


# --- the connection ---------------------------------------------------------------------------------------


def ping() -> Call[str]:
    """Whether the broker answers: returns its instance, another one after every restart."""
    return Call("ping", {}, lambda answer, _: answer["instance"])


def hello(*, features: Sequence[str] = (), client: str | None = None) -> Call[dict[str, Any]]:
    """Agree on protocol 1 and on features, by name; optional.

    Returns:
        ``protocol``, ``features`` (those both sides have), ``instance``, ``version``, ``limits``.
    """
    params: dict[str, Any] = {"protocol": [1], "features": list(features)}
    if client is not None:
        params["client"] = client
    return Call("hello", params, _as_is)


def describe() -> Call[dict[str, Any]]:
    """The broker's own table of methods, with limits and features."""
    return Call("describe", {}, _as_is)


def stats() -> Call[dict[str, Any]]:
    """All counters, as a tree."""
    return Call("stats", {}, _as_is)


def subscribe(*topics: str) -> Call[list[str]]:
    """Be told of changes: topic "domain" brings every domain's changes of state.

    Raises:
        PrivcmdError: EINVAL, there is no such topic.
    """
    return Call("subscribe", {"topics": list(topics)}, lambda answer, _: answer["topics"])


def findings() -> Call[list[Finding]]:
    """What this uid's clients did that a real host lets pass in silence; of all uids, for an administrator."""
    return Call("findings.list", {}, lambda answer, _: [pick(Finding, row) for row in answer["findings"]])


def clear_findings() -> Call[int]:
    """Forget what ``findings`` would show; returns how many there were."""
    return Call("findings.clear", {}, lambda answer, _: answer["cleared"])


# --- the address space ------------------------------------------------------------------------------------


def attach(
    space: int | None = None,
    *,
    personality: str | None = None,
    probe: str | None = None,
    merge: bool | None = None,
) -> Call[Space]:
    """Join an address space of the same uid, as one more of its threads; or make one with these settings.

    A connection that does not attach gets a space of its own when it first needs one.

    Args:
        space: The number of another connection's space; None for a new one.
        personality: "uvm" (NetBSD's) or "linux"; like the others, as configured when left out.
        probe: "load" (enter and wire at once) or "scratch" (try each frame elsewhere first).
        merge: Whether adjoining entries of one MMAP share an object.

    Raises:
        PrivcmdError: ESRCH (no such space), EPERM (another uid's), EBUSY (the connection has one already),
            EINVAL (the space to join has other settings).
    """
    params = {"space": space, "personality": personality, "probe": probe, "merge": merge}
    given = {key: value for key, value in params.items() if value is not None}
    return Call("space.attach", given, lambda answer, _: pick(Space, answer))


def fork() -> Call[int]:
    """What the system call does to an address space; foreign mappings are left out. Returns the copy's number."""
    return Call("space.fork", {}, lambda answer, _: answer["space"])


def mmap(addr: int, length: int, prot: int, *, fixed: bool = False, file: str | None = None) -> Call[int]:
    """Reserve addresses in the broker's picture of this process; returns where.

    ``ForeignMemory`` does this together with the real mmap; alone it is for tests and other languages.

    Args:
        addr: Where, or a hint; 0 lets the broker choose.
        length: Bytes; rounded up to pages.
        prot: Bits of ``PROT_*``.
        fixed: Replace what is at ``addr``.
        file: "anon" or "privcmd"; by default what suits the space's personality.

    Raises:
        PrivcmdError: EINVAL (addr, length), ENOMEM (no room), ENODEV ("privcmd" in a uvm space), EDQUOT.
    """
    params: dict[str, Any] = {"addr": addr, "len": length, "prot": prot, "fixed": fixed}
    if file is not None:
        params["file"] = file
    return Call("mmap", params, lambda answer, _: answer["addr"])


def munmap(addr: int, length: int) -> Call[None]:
    """Take a range out of the address space and give back what it held; holes in it are no error.

    Raises:
        PrivcmdError: EINVAL (addr, length), EDQUOT (clipping would make too many entries).
    """
    return Call("munmap", {"addr": addr, "len": length}, _nothing)


def mprotect(addr: int, length: int, prot: int) -> Call[None]:
    """Change the protection of a mapped range.

    Raises:
        PrivcmdError: EINVAL, ENOMEM (not all of it is mapped), EACCES (beyond the maximum protection).
    """
    return Call("mprotect", {"addr": addr, "len": length, "prot": prot}, _nothing)


def read(addr: int, length: int) -> Call[bytes]:
    """Read up to 8 MiB through the address space, in one step: never half of a replacement.

    Raises:
        PrivcmdError: EFAULT (not mapped, not readable, or a failed frame), E2BIG.
    """
    return Call("read", {"addr": addr, "len": length}, lambda answer, _: answer["data"])


def write(addr: int, data: bytes) -> Call[int]:
    """Write through the address space, in one step; returns the number of bytes.

    Raises:
        PrivcmdError: EFAULT (not mapped, read-only, or a failed frame; nothing is written), E2BIG.
    """
    return Call("write", {"addr": addr, "data": bytes(data)}, lambda answer, _: answer["n"])


def fault(addr: int, access: str = "read") -> Call[Fault]:
    """Touch one page as the processor would ("read" or "write"); says which frame is there.

    Raises:
        PrivcmdError: EFAULT (nothing there, against the protection, or a failed frame).
    """
    return Call("fault", {"addr": addr, "access": access}, lambda answer, _: pick(Fault, answer))


def maps() -> Call[list[MapEntry]]:
    """The vm_map's entries in order of address."""
    return Call("maps", {}, lambda answer, _: [pick(MapEntry, entry) for entry in answer["entries"]])


# --- the ioctls, at the broker only -----------------------------------------------------------------------


def privcmd_mmap(dom: int, entry: Sequence[tuple[int, int, int]], *, extents: bool = False) -> Call[array[int] | None]:
    """IOCTL_PRIVCMD_MMAP: each entry maps ``npages`` frames from ``mfn`` on at ``va``, in order.

    The first bad entry stops the call; those before it stay mapped.

    Returns:
        The extents as in `Batch`, or None when not asked for.

    Raises:
        PrivcmdError: That of the first bad entry; ``details`` has ``entry`` (its index), ``done``.
    """
    entries = [{"va": va, "mfn": mfn, "npages": n_pages} for va, mfn, n_pages in entry]
    params = {"dom": dom, "entry": entries, "extents": extents}
    return Call("privcmd.mmap", params, lambda answer, _: numbers(answer.get("extents"), "I"))


def privcmd_mmapbatch(dom: int, addr: int, arr: Iterable[int], *, extents: bool = False) -> Call[Batch]:
    """IOCTL_PRIVCMD_MMAPBATCH: failed frames are marked in the top nibble of their array slots.

    Raises:
        PrivcmdError: EINVAL (no frames; the range is not mapped or may not be replaced), E2BIG, ENOMEM.
    """
    params = {"dom": dom, "addr": addr, "arr": as_names(arr), "extents": extents}
    return Call("privcmd.mmapbatch", params, _batch_v1)


def privcmd_mmapbatch_v2(dom: int, addr: int, arr: Iterable[int], *, extents: bool = False) -> Call[Batch]:
    """IOCTL_PRIVCMD_MMAPBATCH_V2: the errors of frames come in an array of their own.

    Raises:
        PrivcmdError: EINVAL (no frames; the range is not mapped or may not be replaced), E2BIG, ENOMEM.
    """
    params = {"dom": dom, "addr": addr, "arr": as_names(arr), "extents": extents}
    return Call("privcmd.mmapbatch_v2", params, _batch_v2)


def restrict(dom: int) -> Call[None]:
    """IOCTL_PRIVCMD_RESTRICT: from now on this connection may name this domain only; there is no way back.

    Raises:
        PrivcmdError: EINVAL, restricted to another domain already.
    """
    return Call("privcmd.restrict", {"dom": dom}, _nothing)


def mmap_resource(
    dom: int, kind: int, number: int, *, idx: int = 0, num: int = 0, addr: int = 0, extents: bool = False
) -> Call[Any]:
    """IOCTL_PRIVCMD_MMAP_RESOURCE: map part of a resource; without ``num`` and ``addr``, ask for its size.

    Returns:
        ``num``, and when asked for ``extents`` and ``prot``, as they come.

    Raises:
        PrivcmdError: EINVAL, ESRCH, EOPNOTSUPP (no such type), ENOENT (no such ioreq server), EBUSY (dying), ENOMEM.
    """
    params = {"dom": dom, "type": kind, "id": number, "idx": idx, "num": num, "addr": addr, "extents": extents}
    return plain("privcmd.mmap_resource", params)


def hypercall(op: int, *args: int) -> Call[int]:
    """IOCTL_PRIVCMD_HYPERCALL: a value, or a negative errno; pointers lead into mappings of file ``hypercall``.

    Raises:
        PrivcmdError: EPERM, restricted.
    """
    words = b"".join(arg.to_bytes(8, "little") for arg in args)
    return Call("privcmd.hypercall", {"op": op, "arg": words.ljust(40, b"\0")}, lambda answer, _: answer["ret"])


def dm_op(dom: int, bufs: Sequence[bytes]) -> Call[tuple[int, list[bytes]]]:
    """IOCTL_PRIVCMD_DM_OP: a value or a negative errno, and the buffers as they are afterwards.

    Raises:
        PrivcmdError: E2BIG, too many buffers or one too long.
    """
    params = {"dom": dom, "bufs": list(bufs)}
    return Call("privcmd.dm_op", params, lambda answer, _: (answer["ret"], answer["bufs"]))


def map_grants(dom: int, addr: int, refs: Sequence[int], *, extents: bool = False) -> Call[Any]:
    """Map grants of a domain, all or none, into a mapping of file ``gntdev``.

    Returns:
        ``num``, and when asked for ``extents`` and ``prot``, as they come.

    Raises:
        PrivcmdError: EINVAL, the range is no such mapping, or one of them is no grant to domain 0; EPERM; E2BIG.
    """
    return plain("gntdev.map", {"dom": dom, "addr": addr, "arr": list(refs), "extents": extents})


def copy_grants(segments: Sequence[Mapping[str, int]], data: bytes = b"") -> Call[tuple[list[int], bytes]]:
    """Copy bytes from and to grants, each segment by itself.

    Args:
        segments: ``flags`` (1: the source is a grant, 2: the destination is one), ``len``, and of each end that is a
            grant ``source_dom``, ``source_ref``, ``source_offset``, ``dest_dom``, ``dest_ref``, ``dest_offset``.
        data: The bytes of those whose source is no grant, one after another.

    Returns:
        Of each segment 0 or Xen's negative GNTST number, and the bytes of those whose destination is no grant.

    Raises:
        PrivcmdError: EINVAL, neither end of one is a grant, one runs over the end of its page, or ``data`` is not as
            long as they say; EPERM; E2BIG.
    """
    rows = [{**_NO_GRANTS, **segment} for segment in segments]
    params = {"segments": rows, "data": data}
    return Call("gntdev.copy", params, lambda answer, _: (answer["status"], answer["data"]))


_NO_GRANTS = dict.fromkeys(("source_dom", "source_ref", "source_offset", "dest_dom", "dest_ref", "dest_offset"), 0)


def notify_unmapped(addr: int, action: int, port: int = 0) -> Call[None]:
    """Say what is to be done when the page at an address is unmapped, or this process ends.

    Args:
        addr: A byte of a page that maps a grant.
        action: 1 to clear that byte, 2 to notify the other end of ``port``, or-ed.
        port: A port of domain 0.

    Raises:
        PrivcmdError: ENOENT, no grant is mapped there; EINVAL.
    """
    return Call("gntdev.notify", {"addr": addr, "action": action, "port": port}, _nothing)


def share_pages(dom: int, num: int = 1, *, writable: bool = True) -> Call[SharedPages]:
    """Make pages that another domain may map, as /dev/xen/gntalloc does.

    They stay granted until ``unshare_pages`` or the end of this connection.

    Raises:
        PrivcmdError: EPERM; EINVAL; ENOSPC, this uid has 1024 already; ENOMEM.
    """
    params = {"dom": dom, "num": num, "writable": writable}
    return Call("gntalloc.alloc", params, lambda answer, fds: SharedPages(answer["refs"], fds[0], 0, 3))


def unshare_pages(refs: Sequence[int]) -> Call[None]:
    """Let go of shared pages, as their maker or as who has mapped them.

    Raises:
        PrivcmdError: ENOENT, one of them is none of this connection's; all stay.
    """
    return Call("gntalloc.free", {"refs": list(refs)}, _nothing)


def notify_unshared(ref: int, action: int, *, offset: int = 0, port: int = 0) -> Call[None]:
    """Say what is to be done when this connection lets go of a page that it shares, or ends.

    Args:
        ref: The page's grant.
        action: 1 to clear a byte, 2 to notify the other end of ``port``, or-ed.
        offset: Which byte of the page.
        port: A port of domain 0.

    Raises:
        PrivcmdError: ENOENT, it is none of this connection's; EINVAL.
    """
    return Call("gntalloc.notify", {"ref": ref, "action": action, "offset": offset, "port": port}, _nothing)


def map_shared(refs: Sequence[int], *, on: int = 0, addr: int = 0, own: bool = False) -> Call[SharedPages]:
    """Have pages that a process of domain 0 shares: as many from the first on as lie side by side.

    Args:
        refs: Their grants.
        on: The domain that they are shared with, on whose behalf this is done.
        addr: Inside a mapping of file ``gntdev``: they are held until that is unmapped; 0: until ``unshare_pages``.
        own: Hold them as their maker.

    Raises:
        PrivcmdError: ENOENT, there is no such grant; EINVAL, it is not to that domain; EPERM.
    """

    def read(answer: Any, fds: tuple[int, ...]) -> SharedPages:
        return SharedPages(list(refs[: answer["num"]]), fds[0], answer["page"], answer["prot"])

    return Call("gntalloc.map", {"refs": list(refs), "on": on, "addr": addr, "own": own}, read)


def buffers() -> Call[Memory]:
    """The file of the address space's hypercall buffers; the descriptor is the caller's to close."""
    return Call("space.buffers", {}, _memory)


def _memory(answer: Any, fds: tuple[int, ...]) -> Memory:
    return Memory(fds[0], answer["size_bytes"])


def _batch_v1(answer: Any, _fds: tuple[int, ...]) -> Batch:
    return Batch(answer["ret"], answer["n_failed"], numbers(answer["arr"], "Q"), numbers(answer.get("extents"), "I"))


def _batch_v2(answer: Any, _fds: tuple[int, ...]) -> Batch:
    return Batch(answer["ret"], answer["n_failed"], numbers(answer["err"], "i"), numbers(answer.get("extents"), "I"))


# --- event channels ---------------------------------------------------------------------------------------


def evtchn_alloc_unbound(remote: int, *, on: int = 0) -> Call[EventChannel]:
    """Take a port that another domain may bind to; closed with the connection, unless it is a guest's.

    Args:
        remote: The domain that may bind to it.
        on: Whose port: 0 the caller's own, else a guest's.

    Raises:
        PrivcmdError: ESRCH, EPERM, EACCES (restricted), ENOSPC, ENOMEM.
    """
    return _channel("evtchn.alloc_unbound", on, remote=remote)


def evtchn_bind_interdomain(dom: int, port: int, *, on: int = 0) -> Call[EventChannel]:
    """Take a port for the other end of an unbound one; it has an event at once.

    Raises:
        PrivcmdError: EINVAL (not in use, bound already, or for another domain), ESRCH, EPERM, EACCES, ENOSPC, ENOMEM.
    """
    return _channel("evtchn.bind_interdomain", on, dom=dom, port=port)


def evtchn_bind_virq(virq: int, *, vcpu: int = 0, on: int = 0) -> Call[EventChannel]:
    """Take a port for a virtual interrupt; 3 says that a domain died, is gone or crashed.

    Raises:
        PrivcmdError: EEXIST (bound already), EINVAL (no such interrupt), EPERM, EACCES, ENOSPC, ENOMEM.
    """
    return _channel("evtchn.bind_virq", on, virq=virq, vcpu=vcpu)


def evtchn_attach(port: int, *, on: int = 0) -> Call[EventChannel]:
    """The events of a port that is there already, such as a guest's.

    Raises:
        PrivcmdError: EINVAL (not in use), ENOTCONN (another connection's), ESRCH, EPERM, ENOMEM.
    """
    return _channel("evtchn.attach", on, port=port)


def evtchn_close(port: int, *, on: int = 0) -> Call[None]:
    """Give a port up; the other end waits for somebody else.

    Raises:
        PrivcmdError: EINVAL (not in use, or Xen's own), ENOTCONN (another connection's), ESRCH, EPERM.
    """
    return Call("evtchn.close", {"port": port, "on": on}, _nothing)


def evtchn_notify(port: int, *, on: int = 0) -> Call[None]:
    """Notify the other end through the broker; with the port's descriptors no request is needed.

    Raises:
        PrivcmdError: EINVAL, ENOTCONN, ESRCH, EPERM.
    """
    return Call("evtchn.notify", {"port": port, "on": on}, _nothing)


def evtchn_pending(port: int, *, on: int = 0) -> Call[bool]:
    """Whether a port has had an event since it was last asked, without its descriptors.

    Raises:
        PrivcmdError: EINVAL, ENOTCONN, ESRCH, EPERM.
    """
    return Call("evtchn.pending", {"port": port, "on": on}, lambda answer, _: answer["pending"])


def evtchn_list(*, on: int = 0) -> Call[list[PortRow]]:
    """The ports in use of a guest, or of this connection.

    Raises:
        PrivcmdError: ESRCH, EPERM.
    """
    return Call("evtchn.list", {"on": on}, lambda answer, _: [pick(PortRow, row) for row in answer["ports"]])


def evtchn_restrict(dom: int) -> Call[None]:
    """From now on this connection binds nothing but ports of this domain; there is no way back.

    Raises:
        PrivcmdError: EACCES (restricted already), EINVAL (no guest).
    """
    return Call("evtchn.restrict", {"dom": dom}, _nothing)


def _channel(method: str, on: int, **params: int) -> Call[EventChannel]:
    def channel(answer: Any, fds: tuple[int, ...]) -> EventChannel:
        return EventChannel(answer.get("port", params.get("port")), on, fds)

    return Call(method, {**params, "on": on}, channel)


# --- guests -----------------------------------------------------------------------------------------------


def ioreq_servers(dom: int) -> Call[list[IoreqServer]]:
    """The ioreq servers of a domain, by number; of those that emulate the same Xen asks the highest.

    Raises:
        PrivcmdError: ESRCH, EPERM.
    """
    return Call("ioreq.servers", {"dom": dom}, lambda answer, _: [pick(IoreqServer, row) for row in answer["servers"]])


def interrupts(dom: int, *, after: int = 0) -> Call[Interrupts]:
    """The interrupt lines of a domain, as its device models drive them.

    Args:
        dom: The domain.
        after: Leave out messages up to this number.

    Raises:
        PrivcmdError: ESRCH, EPERM.
    """
    return Call("guest.interrupts", {"dom": dom, "after": after}, lambda answer, _: pick(Interrupts, answer))


# --- domains ----------------------------------------------------------------------------------------------


def domain_create(
    kind: str,
    max_pages: int,
    *,
    ranges: Sequence[tuple[int, int]] | None = None,
    dom: int | None = None,
    name: str | None = None,
) -> Call[int]:
    """Make a domain and populate it; returns its domid.

    Args:
        kind: "pv", "hvm" or "pvh".
        max_pages: The most it may ever have.
        ranges: (first gfn, n_pages) pieces to populate; by default all of ``max_pages`` from 0 on.
        dom: The domid wanted; by default the next free one.
        name: For people.

    Raises:
        PrivcmdError: ENOMEM (the machine has no such memory), EEXIST (domid taken), EINVAL, E2BIG, EPERM.
    """
    params: dict[str, Any] = {"kind": kind, "max_pages": max_pages}
    if ranges is not None:
        params["ranges"] = [{"gfn": gfn, "npages": n_pages} for gfn, n_pages in ranges]
    if dom is not None:
        params["dom"] = dom
    if name is not None:
        params["name"] = name
    return Call("domain.create", params, lambda answer, _: answer["dom"])


def domain_destroy(dom: int) -> Call[str]:
    """End a domain; returns its state: "dying" while something still maps it, else "gone".

    Raises:
        PrivcmdError: ESRCH, EPERM.
    """
    return Call("domain.destroy", {"dom": dom}, lambda answer, _: answer["state"])


def domain_list() -> Call[list[DomainRow]]:
    """The domains that the caller has a right to, in order of domid."""
    return Call("domain.list", {}, lambda answer, _: [pick(DomainRow, row) for row in answer["domains"]])


def domain_info(dom: int, *, start: int = 0, num: int | None = None) -> Call[DomainInfo]:
    """One domain; with ``num`` also the frames at p2m positions ``start`` to ``start + num``.

    Raises:
        PrivcmdError: ESRCH, EPERM, E2BIG (num above 1,048,576).
    """
    params = {"dom": dom} if num is None else {"dom": dom, "start": start, "num": num}

    def info(answer: Any, _fds: tuple[int, ...]) -> DomainInfo:
        return pick(DomainInfo, {**answer, "frames": numbers(answer.get("frames"), "Q")})

    return Call("domain.info", params, info)


def domain_memory(dom: int, *, write: bool = False) -> Call[Memory]:
    """The domain's memory file; the descriptor is the caller's to close.

    Raises:
        PrivcmdError: ESRCH, EPERM (``write`` without the right to write).
    """
    return Call("domain.memory", {"dom": dom, "write": write}, _memory)


def domain_populate(dom: int, gfns: Iterable[int]) -> Call[Populated]:
    """Give frames to these gfns, in order, until one fails (machine or reservation is full, gfn taken).

    Raises:
        PrivcmdError: ESRCH, EPERM, EINVAL (the domain is dying), E2BIG.
    """
    params = {"dom": dom, "arr": as_names(gfns)}

    def populated(answer: Any, _fds: tuple[int, ...]) -> Populated:
        return Populated(answer["done"], numbers(answer["frames"], "Q"))

    return Call("domain.populate", params, populated)


def domain_decrease_reservation(dom: int, frames: Iterable[int]) -> Call[int]:
    """Take frames away (ballooning): gfns, or mfns of a PV domain; returns how many, up to the first not there.

    Raises:
        PrivcmdError: ESRCH, EPERM, EINVAL (the domain is dying), E2BIG.
    """
    params = {"dom": dom, "arr": as_names(frames)}
    return Call("domain.decrease_reservation", params, lambda answer, _: answer["done"])


def domain_page_out(dom: int, gfns: Iterable[int]) -> Call[Batch]:
    """Page frames out: mapping them answers ENOENT until they are back; errors per frame.

    Raises:
        PrivcmdError: ENODEV (a PV domain cannot be paged), ESRCH, EPERM, EINVAL (dying), E2BIG.
    """
    return Call("domain.page_out", {"dom": dom, "arr": as_names(gfns)}, _paging)


def domain_page_in(dom: int, gfns: Iterable[int]) -> Call[Batch]:
    """Bring paged frames back; errors per frame.

    Raises:
        PrivcmdError: ENODEV (a PV domain cannot be paged), ESRCH, EPERM, EINVAL (dying), E2BIG.
    """
    return Call("domain.page_in", {"dom": dom, "arr": as_names(gfns)}, _paging)


def _paging(answer: Any, _fds: tuple[int, ...]) -> Batch:
    return Batch(0, answer["n_failed"], numbers(answer["err"], "i"), None)

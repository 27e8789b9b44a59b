# SPDX-License-Identifier: Apache-2.0
# Made by clients/protocol/generate.py from the table of methods.
"""Every method of the broker as a typed call: what to send, and how to read the answer.

A `Call` is a value and does nothing by itself. Both faces, ``privcmd.Client`` and ``privcmd.trio.AsyncClient``,
have these functions as methods, and perform what they build. Addresses and lengths are in bytes, frames are gfns
(HVM, PVH) or mfns (PV), protections are the ``PROT_*`` of :mod:`mmap`.

Besides the errnos that each names, any call may raise `BrokerGone`, EDQUOT (the caller's uid or connection holds too
much) and EIO (the broker failed; it ends the connection).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from privcmd._answers import (
    DomainInfo,
    DomainRow,
    Fault,
    Finding,
    Health,
    Interrupts,
    IoreqServer,
    JobRow,
    MapEntry,
    Populated,
    PortRow,
    Space,
    SpaceRow,
)
from privcmd._call import Call, given, nothing, whole
from privcmd._forms import as_maps, frames_as_bytes, grant_segments, hypercall_arguments, numbers, pick
from privcmd._rules import PPM, InjectedFault, errno_name, runs
from privcmd.evtchn import EventChannel
from privcmd.results import Batch, MemoryFile, SharedPages

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Mapping, Sequence


def hello(*, features: Sequence[str] = (), client: str | None = None, job: str | None = None) -> Call[dict[str, Any]]:
    """Say the client's name and choose features; optional.

    Args:
        features: Features that the caller wants; the answer leaves out unknown ones.
        client: The caller's name and version, for logs.
        job: The job of its uid that the connection belongs to from now on, made if there is none.

    Returns:
        The answer as it comes: ``protocol``, ``features``, ``instance``, ``lineage``, ``epoch``, ``lasting``,
        ``version``, ``limits``, ``host``.

    Raises:
        PrivcmdError:
            EPROTONOSUPPORT: the broker speaks none of the caller's protocols.
            EBUSY: the connection belongs to another job already.
    """
    return Call("hello", {"protocol": [1], "features": list(features), **given(client=client, job=job)}, whole)


def ping() -> Call[str]:
    """Ask whether the broker answers.

    Returns:
        This run of the broker; another value means that nothing is mapped any more.
    """
    return Call("ping", {}, lambda answer, _: answer["instance"])


def health() -> Call[Health]:
    """Ask whether the broker takes new clients."""
    return Call("health", {}, lambda answer, _: pick(Health, answer))


def describe() -> Call[dict[str, Any]]:
    """Get the broker's table of methods, for programs.

    Returns:
        The answer as it comes: ``protocol``, ``version``, ``features``, ``topics``, ``limits``, ``types``,
        ``result_types``, ``errors``, ``methods``.
    """
    return Call("describe", {}, whole)


def subscribe(*topics: str) -> Call[list[str]]:
    """Get events as notifications.

    Without a subscription the broker sends nothing but answers. A subscriber that does not read loses notifications,
    which are counted; other subscribers lose none.

    Args:
        topics: Topics, of: domain, space, finding.

    Returns:
        All topics that the connection is subscribed to now.

    Raises:
        PrivcmdError:
            EINVAL: a topic is unknown.
    """
    return Call("subscribe", {"topics": list(topics)}, lambda answer, _: answer["topics"])


def stats() -> Call[dict[str, Any]]:
    """Get the broker's counters.

    A map of maps of numbers; names end in their unit. Later brokers have more counters: look counters up by name, and
    do not rely on how many there are.

    Returns:
        The answer as it comes.
    """
    return Call("stats", {}, whole)


def hand_over(form: int) -> Call[int]:
    """Pass all guests on to another broker, and end.

    ``privcmdd serve --take-over`` asks this. The broker then ends all connections, as after SIGTERM, and sends its
    sockets, memory files and records through the descriptor of the answer. It ends when the other broker has them, and
    goes on when the other broker closes the descriptor before.

    Args:
        form: The form of what is passed on; both brokers have to know it.

    Raises:
        PrivcmdError:
            EPROTONOSUPPORT: the broker passes on another form.
            EBUSY: the broker is handing over already, or stopping.
            EOPNOTSUPP: the broker has no sockets and files to pass on.
    """
    return Call("hand_over", {"form": form}, lambda _answer, fds: fds[0])


def attach(
    space: int | None = None, *, personality: str | None = None, probe: str | None = None, merge: bool | None = None
) -> Call[Space]:
    """Join an address space, or make one with settings of its own.

    A connection that does not attach gets a new space, with the configured settings, when it first needs one.
    Connections attached to one space are like threads of a process; when the last of them ends, all that the space
    holds is given back.

    Args:
        space: The space to join; a new one when left out.
        personality: The personality; the configured default when left out. One of "uvm", "linux".
        probe: How frames are probed; the configured default when left out. One of "load", "scratch".
        merge: Whether adjacent entries of one MMAP share an object; the configured default when left out.

    Raises:
        PrivcmdError:
            ESRCH: there is no such space.
            EPERM: the space belongs to another uid.
            EBUSY: the connection already has another space.
            EINVAL: a setting differs from that of the space to join.
    """
    return Call(
        "space.attach",
        given(space=space, personality=personality, probe=probe, merge=merge),
        lambda answer, _: pick(Space, answer),
    )


def fork() -> Call[int]:
    """Copy the connection's address space, as a fork does.

    Foreign mappings are not inherited (inheritance NONE). The new space waits for one connection to attach.

    Returns:
        The address space's number.
    """
    return Call("space.fork", {}, lambda answer, _: answer["space"])


def spaces(*, dom: int | None = None) -> Call[list[SpaceRow]]:
    """List who maps what: the address spaces, and the domains whose frames each has mapped.

    A client sees the spaces of its own uid, or in a job those of that job; outside, a client that may administer all
    domains sees all. After ``privcmd.restrict`` it sees mappings of the domain that is left to it.

    Args:
        dom: Only mappings of this domain; all when left out.

    Returns:
        A `SpaceRow` each, a row for each domain that a space has mapped, in the order of spaces and domains; without
        dom a space that has mapped none has one row too.
    """
    return Call("space.list", given(dom=dom), lambda answer, _: [pick(SpaceRow, row) for row in answer["spaces"]])


def mmap(addr: int, length: int, prot: int, *, fixed: bool = False, file: str | None = None) -> Call[int]:
    """Reserve a range of the address space.

    Args:
        addr: Where; only a hint unless fixed is true.
        length: Length of the range, rounded up to whole pages; not 0 (bytes).
        prot: Bits of ```PROT_*```.
        fixed: Whether to replace what is at addr.
        file: What backs the range: anonymous memory, the privcmd or gntdev device, or hypercall buffers
            (space.buffers); anon for uvm and privcmd for linux when left out. One of "anon", "privcmd", "hypercall",
            "gntdev".

    Returns:
        First address of the range (bytes).

    Raises:
        PrivcmdError:
            EINVAL: length is 0, addr is fixed and not page-aligned, or the range leaves user addresses.
            ENOMEM: there is no room.
            ENODEV: file is privcmd and the personality is uvm, where the device cannot be mapped.
    """
    return Call(
        "mmap",
        {"addr": addr, "len": length, "prot": prot, "fixed": fixed, **given(file=file)},
        lambda answer, _: answer["addr"],
    )


def munmap(addr: int, length: int) -> Call[None]:
    """Unmap all that is mapped in a range.

    A range in which nothing is mapped is not an error, as in munmap(2).

    Args:
        addr: First address of the range; page-aligned.
        length: Length of the range, rounded up to whole pages; not 0 (bytes).

    Raises:
        PrivcmdError:
            EINVAL: length is 0, addr is not page-aligned, the range leaves user addresses, or it would cut a device
                mapping that cannot be cut (linux).
    """
    return Call("munmap", {"addr": addr, "len": length}, nothing)


def mprotect(addr: int, length: int, prot: int) -> Call[None]:
    """Change the protection of a range.

    Args:
        addr: First address of the range; page-aligned.
        length: Length of the range, rounded up to whole pages; not 0 (bytes).
        prot: Bits of ```PROT_*```.

    Raises:
        PrivcmdError:
            EINVAL: length is 0, addr is not page-aligned, the range leaves user addresses, or it would cut a device
                mapping that cannot be cut (linux).
            ENOMEM: part of the range is not mapped.
            EACCES: prot is more than the maximum protection of the mapping.
    """
    return Call("mprotect", {"addr": addr, "len": length, "prot": prot}, nothing)


def read(addr: int, length: int) -> Call[bytes]:
    """Read bytes through the address space.

    For clients that cannot receive descriptors; other clients map the memory file.

    Args:
        addr: First address, aligned or not.
        length: How many bytes.

    Returns:
        The bytes.

    Raises:
        PrivcmdError:
            EFAULT: a page is not mapped, anonymous (the client's own), protected, or its frame failed; nothing is
                answered.
            EINVAL: length is 0, or the range leaves user addresses.
            E2BIG: more than 8388608 bytes.
    """
    return Call("read", {"addr": addr, "len": length}, lambda answer, _: answer["data"])


def write(addr: int, data: bytes) -> Call[int]:
    """Write bytes through the address space.

    Args:
        addr: First address, aligned or not.
        data: The bytes.

    Returns:
        Bytes written: all of them.

    Raises:
        PrivcmdError:
            EFAULT: a page is not mapped, anonymous (the client's own), protected, or its frame failed; nothing is
                written.
            EINVAL: data is empty, or the range leaves user addresses.
            E2BIG: more than 8388608 bytes.
    """
    return Call("write", {"addr": addr, "data": bytes(data)}, lambda answer, _: answer["n"])


def fault(addr: int, access: str = "read") -> Call[Fault]:
    """Touch one page, as a processor does.

    Args:
        addr: An address in the page.
        access: How it is touched. One of "read", "write".

    Raises:
        PrivcmdError:
            EFAULT: a page is not mapped, anonymous (the client's own), protected, or its frame failed; nothing changes.
    """
    return Call("fault", {"addr": addr, "access": access}, lambda answer, _: pick(Fault, answer))


def maps() -> Call[list[MapEntry]]:
    """List the entries of the address space.

    Returns:
        A `MapEntry` each, in the order of addresses.
    """
    return Call("maps", {}, lambda answer, _: [pick(MapEntry, row) for row in answer["entries"]])


def buffers() -> Call[MemoryFile]:
    """Get the file that holds the hypercall buffers of the address space.

    A memfd of fixed size comes with the first byte of the answer. ``mmap`` with file ``hypercall`` says which pages of
    it to map where. The child of space.fork shares the file of its parent.

    Raises:
        PrivcmdError:
            ENOMEM: the broker has no descriptor left.
    """
    return Call("space.buffers", {}, lambda answer, fds: MemoryFile(fds[0], answer["size_bytes"]))


def privcmd_mmap(dom: int, entry: Sequence[tuple[int, int, int]], *, extents: bool = False) -> Call[array[int] | None]:
    """IOCTL_PRIVCMD_MMAP: map runs of frames at addresses of their own.

    Entries are applied in order. The first bad entry ends the call, and the entries before it stay mapped. The details
    of the error then have ``entry``, the index of the bad entry, ``done``, and, when asked for, ``extents`` and
    ``prot`` of the entries that are mapped.

    Args:
        dom: The domain.
        entry: Runs: npages frames, from mfn on, mapped at va.
        extents: Whether to answer where the good frames lie in the memory file.

    Returns:
        Only when asked for: the good frames as runs contiguous both in the request and in the memory file.

    Raises:
        PrivcmdError:
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EINVAL: an entry has npages 0, leaves user addresses, or names a frame that is not there.
            ENOENT: a frame is paged out.
            ESRCH: there is no such domain (linux).
            E2BIG: more than 1024 entries, or together more frames than one batch may have.
    """
    return Call(
        "privcmd.mmap",
        {"dom": dom, "entry": as_maps(entry, "va", "mfn", "npages"), "extents": extents},
        lambda answer, _: numbers(answer.get("extents"), "I"),
    )


def privcmd_mmapbatch(dom: int, addr: int, arr: Iterable[int], *, extents: bool = False) -> Call[Batch]:
    """IOCTL_PRIVCMD_MMAPBATCH: map single frames over one range, errors in the array.

    The failure of a single frame is a result, not an error. The whole range is replaced in one step, or, when the
    request fails, not at all.

    Args:
        dom: The domain.
        addr: First address of the range; page-aligned.
        arr: The frames, one a page.
        extents: Whether to answer where the good frames lie in the memory file.

    Raises:
        PrivcmdError:
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EINVAL: no frames, addr not page-aligned, the range not mapped or not replaceable, num not as arr.
            E2BIG: more frames than one batch may have.
    """
    return Call(
        "privcmd.mmapbatch",
        {"dom": dom, "addr": addr, "arr": frames_as_bytes(arr), "extents": extents},
        lambda answer, _: Batch(
            answer["ret"], answer["n_failed"], numbers(answer["arr"], "Q"), numbers(answer.get("extents"), "I")
        ),
    )


def privcmd_mmapbatch_v2(dom: int, addr: int, arr: Iterable[int], *, extents: bool = False) -> Call[Batch]:
    """IOCTL_PRIVCMD_MMAPBATCH_V2: map single frames over one range, errors beside the array.

    The failure of a single frame is a result, not an error. The whole range is replaced in one step, or, when the
    request fails, not at all. An error that comes after the real driver has cleared the caller's array of errors
    carries ``cleared`` in its details.

    Args:
        dom: The domain.
        addr: First address of the range; page-aligned.
        arr: The frames, one a page.
        extents: Whether to answer where the good frames lie in the memory file.

    Raises:
        PrivcmdError:
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EINVAL: no frames, addr not page-aligned, the range not mapped or not replaceable, num not as arr.
            E2BIG: more frames than one batch may have.
    """
    return Call(
        "privcmd.mmapbatch_v2",
        {"dom": dom, "addr": addr, "arr": frames_as_bytes(arr), "extents": extents},
        lambda answer, _: Batch(
            answer["ret"], answer["n_failed"], numbers(answer["err"], "i"), numbers(answer.get("extents"), "I")
        ),
    )


def restrict(dom: int) -> Call[None]:
    """IOCTL_PRIVCMD_RESTRICT: give up all domains but one; this cannot be undone.

    Afterwards a request that names another domain is answered EPERM, and so is every hypercall. With a file, this
    applies only to requests that name the same file; a child (space.fork) shares the files of its parent.

    Args:
        dom: The domain.

    Raises:
        PrivcmdError:
            EINVAL: the connection, or the file, is restricted to another domain already.
            EDQUOT: the uid has restricted too many files.
    """
    return Call("privcmd.restrict", {"dom": dom}, nothing)


def mmap_resource(
    dom: int, kind: int, number: int, *, idx: int = 0, num: int = 0, addr: int = 0, extents: bool = False
) -> Call[dict[str, Any]]:
    """IOCTL_PRIVCMD_MMAP_RESOURCE: map a resource of a domain, or ask how large it is.

    This replaces what is mapped there. The pages are behind all guest frames in the domain's memory file and do not
    count in its tot_pages, but a dying domain stays until the last of them is unmapped.

    Args:
        dom: The domain.
        kind: 0 ioreq server, 1 grant table, 2 vmtrace; Xen looks at 16 bits of it.
        number: Which resource: the number of the ioreq server; for the grant table 0 shared frames, 1 status frames.
        idx: The first of its frames.
        num: How many frames; 0, together with addr 0, asks for the size.
        addr: Where to map them; its last 12 bits are dropped.
        extents: Whether to answer where the good frames lie in the memory file.

    Returns:
        The answer as it comes: ``num``, ``extents``, ``prot``, ``generation``.

    Raises:
        PrivcmdError:
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EINVAL: only one of addr and num is 0, addr is not mapped from the device, or there is no such frame.
            ENOENT: there is no such ioreq server.
            EOPNOTSUPP: there is no such kind of resource (xen 4.17).
            EBUSY: the domain is dying.
            ENOMEM: num is too large for the real driver to take memory for.
    """
    return Call(
        "privcmd.mmap_resource",
        {"dom": dom, "type": kind, "id": number, "idx": idx, "num": num, "addr": addr, "extents": extents},
        whole,
    )


def hypercall(op: int, *args: int) -> Call[int]:
    """IOCTL_PRIVCMD_HYPERCALL: call the hypervisor.

    Pointers among the arguments, and in the structures that they point to, are addresses in the caller's address space;
    they must be in mappings of file ``hypercall``. Else the answer is -EFAULT and says which bytes were to be read: the
    caller may ask again and lend them. An operation that the caller has no right to is -EPERM, an operation that the
    broker does not have -ENOSYS.

    Args:
        op: The number of the hypercall.
        args: Its arguments, at most five.

    Returns:
        What the ioctl returns: a value, or a negative errno.

    Raises:
        PrivcmdError:
            EPERM: the file, or the connection, is restricted.
    """
    return Call("privcmd.hypercall", {"op": op, "arg": hypercall_arguments(args)}, lambda answer, _: answer["ret"])


def dm_op(dom: int, bufs: Sequence[bytes]) -> Call[tuple[int, list[bytes]]]:
    """IOCTL_PRIVCMD_DM_OP: a device model's request about its domain.

    Without buffers the answer only says whether such a request is allowed: ret is 0. Requests that change a domain need
    the right to map it writable.

    Args:
        dom: The domain.
        bufs: The buffers of the request; the first is a struct xen_dm_op.

    Returns:
        What the ioctl returns: 0 or a negative errno; the buffers, as they are after the request.

    Raises:
        PrivcmdError:
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            E2BIG: more than 16 buffers, or one of more than 4096 bytes.
    """
    return Call("privcmd.dm_op", {"dom": dom, "bufs": list(bufs)}, lambda answer, _: (answer["ret"], answer["bufs"]))


def unknown_ioctl(device: str, number: int) -> Call[int]:
    """An ioctl that a device does not have: refuse it as its driver does, and count it.

    A client that stands in for the devices asks this for each ioctl that it does not know, so that ``stats`` counts it
    among what was not answered.

    Args:
        device: The device. One of "privcmd", "gntdev", "gntalloc", "evtchn".
        number: The number of the ioctl.

    Returns:
        What the ioctl returns: -25 (ENOTTY), of evtchn -38 (ENOSYS).
    """
    return Call("privcmd.unknown_ioctl", {"device": device, "number": number}, lambda answer, _: answer["ret"])


def map_grants(dom: int, addr: int, refs: Sequence[int], *, extents: bool = False) -> Call[dict[str, Any]]:
    """Map grants of a domain, into a mapping of the gntdev device.

    All grants are mapped, or none. The grant table, in the domain's own memory, is read once, at the time of the
    request. Until they are unmapped the table says that the grants are in use.

    Args:
        dom: The domain.
        addr: Where, inside a mapping of file gntdev.
        refs: The grants' numbers, one a page.
        extents: Whether to answer where the good frames lie in the memory file.

    Returns:
        The answer as it comes: ``num``, ``extents``, ``prot``, ``generation``.

    Raises:
        PrivcmdError:
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EINVAL: no grants, the range is not in a mapping of file gntdev, or a grant is not for domain 0.
            E2BIG: more grants than one batch may have frames.
    """
    return Call("gntdev.map", {"dom": dom, "addr": addr, "arr": list(refs), "extents": extents}, whole)


def copy_grants(segments: Sequence[Mapping[str, int]], data: bytes = b"") -> Call[tuple[list[int], bytes]]:
    """Copy bytes from and to grants: IOCTL_GNTDEV_GRANT_COPY.

    When a segment fails, its status says so, and the others are copied all the same. To copy from a domain needs the
    right to map it, to copy to it the right to map it writable.

    Args:
        segments: What to copy: ``flags`` (1: the source is a grant, 2: the destination is one), ``len``, and of each
            end that is a grant ``source_dom``, ``source_ref``, ``source_offset``, ``dest_dom``, ``dest_ref``,
            ``dest_offset``.
        data: The bytes of the segments whose source is the caller's own memory, one after another.

    Returns:
        For each segment Xen's GNTST_*: 0, or a negative number; the bytes of the segments whose destination is the
        caller's own memory, one after another; zeros for a segment that failed.

    Raises:
        PrivcmdError:
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EINVAL: neither end of a segment is a grant, a segment runs over the end of its page, or data is not as long
                as the segments say.
            E2BIG: more than 256 segments.
    """
    return Call(
        "gntdev.copy",
        {"segments": grant_segments(segments), "data": bytes(data)},
        lambda answer, _: (answer["status"], answer["data"]),
    )


def notify_unmapped(addr: int, action: int, port: int = 0) -> Call[None]:
    """Set what is done when a page of grants is unmapped, in whatever way: IOCTL_GNTDEV_SET_UNMAP_NOTIFY.

    Each page has one such setting: the last. The event is sent even if the port is closed by then.

    Args:
        addr: A byte of a page that maps a grant.
        action: 1 clear that byte, 2 send an event, or-ed; 0: do nothing.
        port: With action 2: the port of domain 0 whose other end is notified.

    Raises:
        PrivcmdError:
            ENOENT: no grant is mapped there.
            EINVAL: there is no such action or port, or the byte is to be cleared and the page is mapped read-only.
    """
    return Call("gntdev.notify", {"addr": addr, "action": action, "port": port}, nothing)


def share_pages(dom: int, num: int = 1, *, writable: bool = True) -> Call[SharedPages]:
    """Make pages that another domain may map: IOCTL_GNTALLOC_ALLOC_GREF.

    One descriptor comes with the answer: a memory file of these pages and no others, to be mapped shared. The
    connection holds the pages until gntalloc.free or its end; a page that is mapped stays as long as it is mapped.

    Args:
        dom: The domain that may map them; 0: another process of domain 0.
        num: How many pages.
        writable: Whether the domain may write to them too.

    Raises:
        PrivcmdError:
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EINVAL: num is 0 or more than 1024.
            ENOSPC: the uid has 1024 such pages already.
            ENOMEM: the broker has no descriptors left.
    """
    return Call(
        "gntalloc.alloc",
        {"dom": dom, "num": num, "writable": writable},
        lambda answer, fds: SharedPages(answer["refs"], fds[0], 0, 3),
    )


def unshare_pages(refs: Sequence[int]) -> Call[None]:
    """Give up such pages, as their maker or as the other side: IOCTL_GNTALLOC_DEALLOC_GREF.

    Pages that gntalloc.map holds at an address are given up when that address is unmapped.

    Args:
        refs: The grants' numbers.

    Raises:
        PrivcmdError:
            ENOENT: the connection does not hold one of them; then none is given up.
            E2BIG: more than 1024.
    """
    return Call("gntalloc.free", {"refs": list(refs)}, nothing)


def notify_unshared(ref: int, action: int, *, offset: int = 0, port: int = 0) -> Call[None]:
    """Set what is done when the maker of a page gives it up: IOCTL_GNTALLOC_SET_UNMAP_NOTIFY.

    Args:
        ref: The grant's number.
        action: 1 clear a byte, 2 send an event, or-ed; 0: do nothing.
        offset: The byte of the page that is cleared (bytes).
        port: With action 2: the port of domain 0 whose other end is notified.

    Raises:
        PrivcmdError:
            ENOENT: the connection does not hold the page.
            EINVAL: there is no such action or port, or offset is past the page.
    """
    return Call("gntalloc.notify", {"ref": ref, "action": action, "offset": offset, "port": port}, nothing)


def map_shared(refs: Sequence[int], *, on: int = 0, addr: int = 0, own: bool = False) -> Call[SharedPages]:
    """Map such pages, on the other side or as their maker.

    One descriptor of the memory file comes with the answer; it is open for reading only when the pages may not be
    written. Ask again for the rest of refs.

    Args:
        refs: The grants' numbers.
        on: Who maps: 0 a process of domain 0, else this guest, for which the caller acts.
        addr: Inside a mapping of file gntdev; 0: the connection holds them instead.
        own: Whether to hold them as their maker.

    Raises:
        PrivcmdError:
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            ENOENT: there is no such grant.
            EINVAL: refs is empty, a grant is not for that domain, or the range is not in a mapping that may hold them.
            E2BIG: more than 1024.
    """
    return Call(
        "gntalloc.map",
        {"refs": list(refs), "on": on, "addr": addr, "own": own},
        lambda answer, fds: SharedPages(list(refs[: answer["num"]]), fds[0], answer["page"], answer["prot"]),
    )


def evtchn_alloc_unbound(remote: int, *, on: int = 0) -> Call[EventChannel]:
    """Take a port that another domain may bind to: EVTCHNOP_alloc_unbound, IOCTL_EVTCHN_BIND_UNBOUND_PORT.

    A port of domain 0 belongs to the connection and is closed with it; one of a guest stays.

    Args:
        remote: The domain that may bind to it.
        on: Whose port it is: 0 the caller's own, else the port of this guest, for which the caller acts.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            ENOSPC: the domain has as many ports as a domain may have.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EACCES: evtchn.restrict has named another domain.
            ENOMEM: the broker has no descriptors left.
    """
    return Call(
        "evtchn.alloc_unbound", {"remote": remote, "on": on}, lambda answer, fds: EventChannel(answer["port"], on, fds)
    )


def evtchn_bind_interdomain(dom: int, port: int, *, on: int = 0) -> Call[EventChannel]:
    """Take a port for the other end of an unbound one: EVTCHNOP_bind_interdomain, IOCTL_EVTCHN_BIND_INTERDOMAIN.

    The new port has an event at once, as on Xen, so an event that was sent before the port was bound is not lost.

    Args:
        dom: The domain whose port it is.
        port: The port's number.
        on: Whose port it is: 0 the caller's own, else the port of this guest, for which the caller acts.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            ENOSPC: the domain has as many ports as a domain may have.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EACCES: evtchn.restrict has named another domain.
            ENOMEM: the broker has no descriptors left.
            EINVAL: that port is not in use, is bound already, or waits for another domain.
    """
    return Call(
        "evtchn.bind_interdomain",
        {"dom": dom, "port": port, "on": on},
        lambda answer, fds: EventChannel(answer["port"], on, fds),
    )


def evtchn_bind_virq(virq: int, *, vcpu: int = 0, on: int = 0) -> Call[EventChannel]:
    """Take a port for a virtual interrupt: EVTCHNOP_bind_virq, IOCTL_EVTCHN_BIND_VIRQ.

    For domain 0 the caller needs the right to administer all domains. The port has no other end, so writing to the
    second descriptor notifies nobody.

    Args:
        virq: Its number; 3 (VIRQ_DOM_EXC) is raised when a domain dies, is gone or crashes.
        vcpu: The vcpu that is told; 0 for a global interrupt.
        on: Whose port it is: 0 the caller's own, else the port of this guest, for which the caller acts.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            ENOSPC: the domain has as many ports as a domain may have.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            EACCES: evtchn.restrict has named another domain.
            ENOMEM: the broker has no descriptors left.
            EINVAL: there is no such interrupt of that vcpu.
            EEXIST: the guest, or this connection, has bound it already.
    """
    return Call(
        "evtchn.bind_virq",
        {"virq": virq, "vcpu": vcpu, "on": on},
        lambda answer, fds: EventChannel(answer["port"], on, fds),
    )


def evtchn_attach(port: int, *, on: int = 0) -> Call[EventChannel]:
    """Get the events of a port that exists already.

    A program that plays a guest needs this: others make the ports of the guest's ioreq servers, console and xenstore
    ring.

    Args:
        port: The port's number.
        on: Whose port it is: 0 the caller's own, else the port of this guest, for which the caller acts.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EINVAL: there is no such port.
            ENOTCONN: a port of domain 0 that this connection has not taken.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            ENOMEM: the broker has no descriptors left.
    """
    return Call("evtchn.attach", {"port": port, "on": on}, lambda _answer, fds: EventChannel(port, on, fds))


def evtchn_close(port: int, *, on: int = 0) -> Call[None]:
    """Give up a port: EVTCHNOP_close, IOCTL_EVTCHN_UNBIND.

    The other end becomes unbound: another program may bind to it.

    Args:
        port: The port's number.
        on: Whose port it is: 0 the caller's own, else the port of this guest, for which the caller acts.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EINVAL: there is no such port, or it is Xen's own (an ioreq server's).
            ENOTCONN: a port of domain 0 that this connection has not taken.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
    """
    return Call("evtchn.close", {"port": port, "on": on}, nothing)


def evtchn_notify(port: int, *, on: int = 0) -> Call[None]:
    """Notify the other end of a port: EVTCHNOP_send, IOCTL_EVTCHN_NOTIFY.

    For clients that cannot receive descriptors. When nobody is at the other end, nothing happens.

    Args:
        port: The port's number.
        on: Whose port it is: 0 the caller's own, else the port of this guest, for which the caller acts.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EINVAL: there is no such port, or it is of a kind through which nobody can be notified.
            ENOTCONN: a port of domain 0 that this connection has not taken.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
    """
    return Call("evtchn.notify", {"port": port, "on": on}, nothing)


def evtchn_pending(port: int, *, on: int = 0) -> Call[bool]:
    """Take the event of a port.

    For clients that cannot receive descriptors.

    Args:
        port: The port's number.
        on: Whose port it is: 0 the caller's own, else the port of this guest, for which the caller acts.

    Returns:
        Whether there was an event since one was last taken.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EINVAL: there is no such port.
            ENOTCONN: a port of domain 0 that this connection has not taken.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
    """
    return Call("evtchn.pending", {"port": port, "on": on}, lambda answer, _: answer["pending"])


def evtchn_list(*, on: int = 0) -> Call[list[PortRow]]:
    """List the ports in use: EVTCHNOP_status of each.

    Args:
        on: Whose port it is: 0 the caller's own, else the port of this guest, for which the caller acts.

    Returns:
        A `PortRow` each, in the order of their numbers; of domain 0 only the connection's own.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
    """
    return Call("evtchn.list", {"on": on}, lambda answer, _: [pick(PortRow, row) for row in answer["ports"]])


def evtchn_restrict(dom: int) -> Call[None]:
    """IOCTL_EVTCHN_RESTRICT_DOMID: from now on bind only ports of one domain; this cannot be undone.

    Ports that are bound already go on working.

    Args:
        dom: The domain.

    Raises:
        PrivcmdError:
            EACCES: the connection is restricted already.
            EINVAL: dom is not a guest.
    """
    return Call("evtchn.restrict", {"dom": dom}, nothing)


def domain_create(
    kind: str,
    max_pages: int,
    *,
    ranges: Sequence[tuple[int, int]] | None = None,
    dom: int | None = None,
    name: str | None = None,
    until: str | None = None,
    ttl_s: int | None = None,
) -> Call[int]:
    """Make a domain, its memory populated.

    Args:
        kind: How its frames are named: pv by mfn, hvm and pvh by gfn. One of "pv", "hvm", "pvh".
        max_pages: Frames it may hold (pages).
        ranges: Frames to populate; all from 0 to max_pages when left out.
        dom: Its domain id; a free one when left out.
        name: A name for people.
        until: What it is destroyed with, or destroyed for domain.destroy alone; when left out, the job of the caller,
            and destroyed for a caller without a job. One of "connection", "job", "destroyed".
        ttl_s: After how long it is destroyed in any case; never when left out.

    Returns:
        Its domain id.

    Raises:
        PrivcmdError:
            EINVAL: until is job and the caller has none, dom is a number that Xen keeps for itself, ranges overlap, or
                a range begins past the last frame that a domain may have.
            EEXIST: the domain id is taken.
            ENOMEM: more frames than max_pages, than are free, or than a memory file may hold; or too many domains.
            EPERM: the caller does not have the right to administer the domain.
            E2BIG: more than 1024 ranges.
    """
    return Call(
        "domain.create",
        {
            "kind": kind,
            "max_pages": max_pages,
            **given(
                ranges=None if ranges is None else as_maps(ranges, "gfn", "npages"),
                dom=dom,
                name=name,
                until=until,
                ttl_s=ttl_s,
            ),
        },
        lambda answer, _: answer["dom"],
    )


def domain_destroy(dom: int) -> Call[str]:
    """Destroy a domain.

    Args:
        dom: The domain.

    Returns:
        Dying while a frame of the domain is still mapped, else gone.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller does not have the right to administer the domain.
    """
    return Call("domain.destroy", {"dom": dom}, lambda answer, _: answer["state"])


def domain_list() -> Call[list[DomainRow]]:
    """List the domains that the caller has a right to.

    Returns:
        A `DomainRow` each, in the order of domain ids.
    """
    return Call("domain.list", {}, lambda answer, _: [pick(DomainRow, row) for row in answer["domains"]])


def domain_info(dom: int, *, start: int = 0, num: int | None = None) -> Call[DomainInfo]:
    """Describe one domain, and name its frames.

    Args:
        dom: The domain.
        start: First position of the p2m (pages).
        num: How many positions to answer; when left out, no frames are answered (pages).

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            E2BIG: num is more than 1048576.
    """
    return Call(
        "domain.info",
        {"dom": dom, "start": start, **given(num=num)},
        lambda answer, _: pick(DomainInfo, answer, frames=numbers(answer.get("frames"), "Q")),
    )


def domain_memory(dom: int, *, write: bool = False) -> Call[MemoryFile]:
    """Get the memory file of a domain.

    One descriptor comes with the first byte of the answer: a memfd, sealed against changes of its size, and open for
    reading only unless write is true. The extents of a mapping name pages of this file.

    Args:
        dom: The domain.
        write: Whether the descriptor is to be writable.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
            ENOMEM: the broker has no descriptors left.
    """
    return Call(
        "domain.memory", {"dom": dom, "write": write}, lambda answer, fds: MemoryFile(fds[0], answer["size_bytes"])
    )


def domain_populate(dom: int, gfns: Iterable[int]) -> Call[Populated]:
    """Give a domain frames: populate_physmap.

    Args:
        dom: The domain.
        gfns: The gfns (pv: pfns) to populate.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller does not have the right to administer the domain.
            EINVAL: the domain is dying: its memory can no longer be changed.
            E2BIG: more frames than one batch may have.
    """
    return Call(
        "domain.populate",
        {"dom": dom, "arr": frames_as_bytes(gfns)},
        lambda answer, _: pick(Populated, answer, frames=numbers(answer["frames"], "Q")),
    )


def domain_decrease_reservation(dom: int, frames: Iterable[int]) -> Call[int]:
    """Take frames from a domain: ballooning.

    Args:
        dom: The domain.
        frames: The gfns (pv: mfns) to take.

    Returns:
        Frames taken; fewer than asked for when a frame is not there.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller does not have the right to administer the domain.
            EINVAL: the domain is dying: its memory can no longer be changed.
            E2BIG: more frames than one batch may have.
    """
    return Call(
        "domain.decrease_reservation", {"dom": dom, "arr": frames_as_bytes(frames)}, lambda answer, _: answer["done"]
    )


def domain_page_out(dom: int, gfns: Iterable[int]) -> Call[Batch]:
    """Page frames out; from then on mapping one of them answers ENOENT.

    Args:
        dom: The domain.
        gfns: The frames, named as a mapping names them.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller does not have the right to administer the domain.
            EINVAL: the domain is dying: its memory can no longer be changed.
            E2BIG: more frames than one batch may have.
            ENODEV: the domain is pv, and only hvm and pvh domains can be paged.
    """
    return Call(
        "domain.page_out",
        {"dom": dom, "arr": frames_as_bytes(gfns)},
        lambda answer, _: Batch(0, answer["n_failed"], numbers(answer["err"], "i"), None),
    )


def domain_page_in(dom: int, gfns: Iterable[int]) -> Call[Batch]:
    """Page frames in again, with the same contents.

    Args:
        dom: The domain.
        gfns: The frames, named as a mapping names them.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller does not have the right to administer the domain.
            EINVAL: the domain is dying: its memory can no longer be changed.
            E2BIG: more frames than one batch may have.
            ENODEV: the domain is pv, and only hvm and pvh domains can be paged.
    """
    return Call(
        "domain.page_in",
        {"dom": dom, "arr": frames_as_bytes(gfns)},
        lambda answer, _: Batch(0, answer["n_failed"], numbers(answer["err"], "i"), None),
    )


def ioreq_servers(dom: int) -> Call[list[IoreqServer]]:
    """List the ioreq servers of a domain: which device model emulates what.

    Args:
        dom: The domain.

    Returns:
        A `IoreqServer` each, in the order of their numbers; of servers that emulate the same, Xen asks the highest.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
    """
    return Call("ioreq.servers", {"dom": dom}, lambda answer, _: [pick(IoreqServer, row) for row in answer["servers"]])


def interrupts(dom: int, *, after: int = 0) -> Call[Interrupts]:
    """Get the interrupt lines of a domain.

    The simulated guest runs no code, so it acknowledges no interrupt: levels are as the device models set them.

    Args:
        dom: The domain.
        after: MSIs up to this number are left out.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller does not have this right on the domain, or RESTRICT named another domain.
    """
    return Call("guest.interrupts", {"dom": dom, "after": after}, lambda answer, _: pick(Interrupts, answer))


def faults_add(
    *,
    frame_errno: str | int | None = None,
    paged: int | None = None,
    errno: str | int | None = None,
    delay_ms: int | None = None,
    drop: bool = False,
    when: str = "before",
    client: str | None = None,
    connection: int | None = None,
    pid: int | None = None,
    uid: int | None = None,
    dom: int | None = None,
    gfns: Iterable[int | range] | None = None,
    method: str | None = None,
    nth: int = 1,
    times: int | None = None,
    probability: float | None = None,
    seed: int | None = None,
    keep: bool = False,
) -> Call[int]:
    """Add a rule that makes requests or frames fail.

    Rules about frames (frame_errno, paged) count the good frames that match, wherever a frame is looked up: in a batch,
    at a page fault, for a grant or resource; MMAP looks at none behind the one at which it stops. Frames that a rule
    takes fail as bad frames do. The other rules count requests. Rules are asked in the order of their ids; when a rule
    answers or drops a request, no further rule is asked. No rule applies to the methods faults.*. A rule that is added
    by a client in a job is about clients of that job alone, and ends with the job at the latest.

    Args:
        frame_errno: What happens: a frame fails with this errno, by its name or number.
        paged: What happens: a frame is paged out (ENOENT) for this many look-ups.
        errno: What happens: the request fails with this errno, by its name or number, before it does anything.
        delay_ms: What happens: the request waits (milliseconds).
        drop: What happens: the connection is closed, and the request has no answer.
        when: Of a delay or a drop: before the work is done, or after it. One of "before", "after".
        client: Only requests of clients with this name in hello; * stands for any characters.
        connection: Only requests of the connection with this number (connections).
        pid: Only requests of this process.
        uid: Only requests of this user.
        dom: Only requests that name this domain, and its frames.
        gfns: Only these frames, as a mapping names them (pv: mfns): a range, or any integers and ranges, in at most 64
            runs; in a rule about requests: only requests that name one.
        method: Only this method; a name that ends in a dot (privcmd.) means all methods that begin with it; without it
            all methods but hello, which libraries say.
        nth: The first match that the rule takes, counted from 1 (matches).
        times: How many matches it takes at most; all when left out.
        probability: The probability that it takes a match, above 0 and up to 1.
        seed: Decides which matches it takes, when it does not take all: the same seed takes the same matches.
        keep: Whether the rule stays, until it is cleared, when the connection that adds it ends.

    Returns:
        The rule's number; no number is used twice.

    Raises:
        PrivcmdError:
            EINVAL: not exactly one of frame_errno, paged, errno, delay_ms and drop; no such errno or method; a number
                out of its range.
            EPERM: the caller does not have the right to administer the domain; a rule without dom needs that right on
                all domains.
            ENOSPC: there are too many rules.
            E2BIG: more than 64 ranges.
    """
    return Call(
        "faults.add",
        {
            "drop": drop,
            "when": when,
            "nth": nth,
            "keep": keep,
            **given(
                frame_errno=None if frame_errno is None else errno_name(frame_errno),
                paged=paged,
                errno=None if errno is None else errno_name(errno),
                delay_ms=delay_ms,
                client=client,
                connection=connection,
                pid=pid,
                uid=uid,
                dom=dom,
                gfns=None if gfns is None else runs(gfns),
                method=method,
                times=times,
                probability_ppm=None if probability is None else round(probability * PPM),
                seed=seed,
            ),
        },
        lambda answer, _: answer["id"],
    )


def faults_list() -> Call[list[InjectedFault]]:
    """List the rules that the caller could have added; in a job, those of the job."""
    return Call("faults.list", {}, lambda answer, _: [pick(InjectedFault, row) for row in answer["faults"]])


def faults_clear(id: int | None = None) -> Call[int]:  # noqa: A002 - the protocol's word
    """End one rule, or all rules that the caller could have added.

    Args:
        id: The rule; all of them when left out (rules).

    Returns:
        Rules that ended.

    Raises:
        PrivcmdError:
            ENOENT: there is no such rule, or the caller could not have added it.
    """
    return Call("faults.clear", given(id=id), lambda answer, _: answer["cleared"])


def findings() -> Call[list[Finding]]:
    """List the requests that do harm on a real host, which reports no error.

    A finding changes no answer. A client sees the findings of its own uid, or in a job those of that job; outside, a
    client that may administer all domains sees all. Equal findings of a connection are counted, not listed again. Of
    each job at most 256 are kept, until it ends; of what belongs to no job, 256 of each uid.

    Returns:
        A `Finding` each, in the order in which they were made.
    """
    return Call("findings.list", {}, lambda answer, _: [pick(Finding, row) for row in answer["findings"]])


def clear_findings() -> Call[int]:
    """Forget the findings that findings.list would list.

    Returns:
        How many findings there were.
    """
    return Call("findings.clear", {}, lambda answer, _: answer["cleared"])


def jobs() -> Call[list[JobRow]]:
    """List jobs, and what each has.

    A connection belongs to the job that it named in ``hello``. A job ends with its last connection, and what was made
    for it ends with it. A client in a job sees that job; others see those of their uid, and a client that may
    administer all domains sees all.

    Returns:
        A `JobRow` each, in the order in which they were made.
    """
    return Call("job.list", {}, lambda answer, _: [pick(JobRow, row) for row in answer["jobs"]])


def evict(*, connection: int | None = None, job: str | None = None, uid: int | None = None) -> Call[dict[str, Any]]:
    """End a connection, a job, or all connections and jobs of a uid, and what was made for them.

    The connections are closed without a further answer, and before the next request of the caller is done they hold
    nothing any more. A domain that was made until it is destroyed stays.

    Args:
        connection: The connection of this number.
        job: The job of this name, of the uid that is given, or else of the caller's.
        uid: Whose job it is; without job and connection: all that this uid has connected.

    Returns:
        The answer as it comes: ``connections``, ``jobs``, ``doms``.

    Raises:
        PrivcmdError:
            EPERM: it belongs to another uid, and the caller may not administer all domains; or the caller is in a job,
                and it belongs to another one or to none.
            ESRCH: there is no such connection or job.
            EINVAL: none of the three is given, or a connection and one of the others.
    """
    return Call("evict", given(connection=connection, job=job, uid=uid), whole)

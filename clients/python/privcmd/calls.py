# SPDX-License-Identifier: Apache-2.0
# Made by clients/protocol/generate.py from the table of methods.
"""Every method of the broker as a typed call: what to send, and how to read the answer.

A `Call` is a value and does nothing by itself. Both faces, ``privcmd.Client`` and ``privcmd.aio.AsyncClient``,
have these functions as methods, and perform what they build. Addresses and lengths are in bytes, frames are gfns
(HVM, PVH) or mfns (PV), protections are the ``PROT_*`` of :mod:`mmap`.

Besides the errnos that each names, any call may raise `BrokerGone`, EDQUOT (the caller's uid or connection holds too
much) and EIO (the broker failed; it ends the connection).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from privcmd.answers import (
    DomainInfo,
    DomainRow,
    Fault,
    Finding,
    Interrupts,
    IoreqServer,
    MapEntry,
    Populated,
    PortRow,
    Space,
)
from privcmd.call import Call, given, nothing, whole
from privcmd.evtchn import EventChannel
from privcmd.forms import as_maps, frames_as_bytes, grant_segments, hypercall_arguments, numbers, pick
from privcmd.results import Batch, Memory, SharedPages
from privcmd.rules import PPM, InjectedFault, errno_name, runs

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Mapping, Sequence


def hello(*, features: Sequence[str] = (), client: str | None = None) -> Call[dict[str, Any]]:
    """Say who you are and agree on features; optional.

    Args:
        features: Features the caller would like; unknown ones are left out of the answer.
        client: The caller's name and version, for logs.

    Returns:
        The answer as it comes: ``protocol``, ``features``, ``instance``, ``version``, ``limits``, ``host``.

    Raises:
        PrivcmdError:
            EPROTONOSUPPORT: none of the caller's protocols is spoken here.
    """
    return Call("hello", {"protocol": [1], "features": list(features), **given(client=client)}, whole)


def ping() -> Call[str]:
    """Ask whether the broker answers.

    Returns:
        This run of the broker; another value means that all state is new.
    """
    return Call("ping", {}, lambda answer, _: answer["instance"])


def describe() -> Call[dict[str, Any]]:
    """Get the broker's own table of methods, for programs.

    Returns:
        The answer as it comes: ``protocol``, ``version``, ``features``, ``topics``, ``limits``, ``types``,
        ``result_types``, ``errors``, ``methods``.
    """
    return Call("describe", {}, whole)


def stats() -> Call[dict[str, Any]]:
    """Get the broker's counters.

    A map of maps of numbers; names end in their unit. What it holds grows with the broker: look names up, do not count
    on their number.

    Returns:
        The answer as it comes.
    """
    return Call("stats", {}, whole)


def subscribe(*topics: str) -> Call[list[str]]:
    """Be told of events, as notifications.

    Until then the broker never speaks unasked. A subscriber that does not read loses notifications, which are counted,
    and nobody else does.

    Args:
        topics: Topics, of: domain, space, finding.

    Returns:
        All that the connection is subscribed to now.

    Raises:
        PrivcmdError:
            EINVAL: a topic is not known.
    """
    return Call("subscribe", {"topics": list(topics)}, lambda answer, _: answer["topics"])


def attach(
    space: int | None = None, *, personality: str | None = None, probe: str | None = None, merge: bool | None = None
) -> Call[Space]:
    """Join an address space, or make one with settings of its own.

    A connection that does not attach gets a space of its own, with the configured settings, when it first needs one.
    Connections attached to one space are its threads; when the last goes, all it held is given back.

    Args:
        space: The space to join; a new one when left out.
        personality: Whose rules hold; the configured default when left out. One of "uvm", "linux".
        probe: How frames are tried; the configured default when left out. One of "load", "scratch".
        merge: Whether adjacent entries of one MMAP share an object; the configured default when left out.

    Raises:
        PrivcmdError:
            ESRCH: there is no such space.
            EPERM: the space belongs to another uid.
            EBUSY: the connection already has another space.
            EINVAL: a setting differs from what the space to join has.
    """
    return Call(
        "space.attach",
        given(space=space, personality=personality, probe=probe, merge=merge),
        lambda answer, _: pick(Space, answer),
    )


def fork() -> Call[int]:
    """Copy the connection's address space as fork does.

    Foreign mappings are not inherited (inheritance NONE). The new space waits for one connection to attach.

    Returns:
        The address space's number.
    """
    return Call("space.fork", {}, lambda answer, _: answer["space"])


def mmap(addr: int, length: int, prot: int, *, fixed: bool = False, file: str | None = None) -> Call[int]:
    """Reserve a range of the address space.

    Args:
        addr: Where; a hint unless fixed.
        length: Length of the range, rounded up to whole pages; not 0 (bytes).
        prot: Bits of ```PROT_*```.
        fixed: Whether to replace what is at addr.
        file: What backs it: anonymous memory, the privcmd or gntdev device, or hypercall buffers (space.buffers); anon
            for uvm and privcmd for linux when left out. One of "anon", "privcmd", "hypercall", "gntdev".

    Returns:
        First address of the range (bytes).

    Raises:
        PrivcmdError:
            EINVAL: length is 0, addr is fixed and not page-aligned, or the range leaves user addresses.
            ENOMEM: no room.
            ENODEV: file is privcmd and the personality uvm, whose device cannot be mapped.
    """
    return Call(
        "mmap",
        {"addr": addr, "len": length, "prot": prot, "fixed": fixed, **given(file=file)},
        lambda answer, _: answer["addr"],
    )


def munmap(addr: int, length: int) -> Call[None]:
    """Remove whatever is mapped in a range.

    A range with nothing in it is no error, as in munmap(2).

    Args:
        addr: First address of the range; a page's first.
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
        addr: First address of the range; a page's first.
        length: Length of the range, rounded up to whole pages; not 0 (bytes).
        prot: Bits of ```PROT_*```.

    Raises:
        PrivcmdError:
            EINVAL: length is 0, addr is not page-aligned, the range leaves user addresses, or it would cut a device
                mapping that cannot be cut (linux).
            ENOMEM: part of the range is not mapped.
            EACCES: more than the mapping's maximum protection.
    """
    return Call("mprotect", {"addr": addr, "len": length, "prot": prot}, nothing)


def read(addr: int, length: int) -> Call[bytes]:
    """Read bytes through the address space.

    For clients that cannot receive descriptors; the others map the memory file.

    Args:
        addr: First address, aligned or not.
        length: How many (bytes).

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
        Bytes written: all.

    Raises:
        PrivcmdError:
            EFAULT: a page is not mapped, anonymous (the client's own), protected, or its frame failed; nothing is
                written.
            EINVAL: data is empty, or the range leaves user addresses.
            E2BIG: more than 8388608 bytes.
    """
    return Call("write", {"addr": addr, "data": bytes(data)}, lambda answer, _: answer["n"])


def fault(addr: int, access: str = "read") -> Call[Fault]:
    """Touch one page, as the processor would.

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


def buffers() -> Call[Memory]:
    """Get the file in which the address space keeps its hypercall buffers.

    A memfd of fixed size comes with the answer's first byte. ``mmap`` with file ``hypercall`` says which pages of it to
    map where. The child of space.fork shares the file of its parent.

    Raises:
        PrivcmdError:
            ENOMEM: the broker has no descriptor left.
    """
    return Call("space.buffers", {}, lambda answer, fds: Memory(fds[0], answer["size_bytes"]))


def privcmd_mmap(dom: int, entry: Sequence[tuple[int, int, int]], *, extents: bool = False) -> Call[array[int] | None]:
    """IOCTL_PRIVCMD_MMAP: map runs of frames at addresses of their own.

    Entries are applied in order. The first bad one ends the call, and the earlier ones stay mapped: the error's details
    then carry ``entry``, its index, ``done``, and ``extents`` and ``prot`` of those mapped when asked for.

    Args:
        dom: The domain.
        entry: Runs: npages frames from mfn on at va.
        extents: Whether to answer where the good frames lie in the memory file.

    Returns:
        Only when asked for: the good frames as runs contiguous both in the request and in the memory file.

    Raises:
        PrivcmdError:
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            EINVAL: an entry has npages 0, leaves user addresses, or names a frame that is not there.
            ENOENT: a frame is paged out.
            ESRCH: there is no such domain (linux).
            E2BIG: more than 1024 entries, or than a batch of frames together.
    """
    return Call(
        "privcmd.mmap",
        {"dom": dom, "entry": as_maps(entry, "va", "mfn", "npages"), "extents": extents},
        lambda answer, _: numbers(answer.get("extents"), "I"),
    )


def privcmd_mmapbatch(dom: int, addr: int, arr: Iterable[int], *, extents: bool = False) -> Call[Batch]:
    """IOCTL_PRIVCMD_MMAPBATCH: map single frames over one range, errors in the array.

    Failures of single frames are results, not errors. The whole range is replaced in one step, or, when the request
    fails, not at all.

    Args:
        dom: The domain.
        addr: First address of the range; a page's first.
        arr: The frames, one a page.
        extents: Whether to answer where the good frames lie in the memory file.

    Raises:
        PrivcmdError:
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
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

    Failures of single frames are results, not errors. The whole range is replaced in one step, or, when the request
    fails, not at all. An error that comes after the real driver has cleared the caller's array of errors carries
    ``cleared`` in its details.

    Args:
        dom: The domain.
        addr: First address of the range; a page's first.
        arr: The frames, one a page.
        extents: Whether to answer where the good frames lie in the memory file.

    Raises:
        PrivcmdError:
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
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
    """IOCTL_PRIVCMD_RESTRICT: give up all domains but one, for good.

    Afterwards a request that names another domain is EPERM, and so is every hypercall. With a file, only requests that
    name the same file are meant; a child (space.fork) shares the files of its parent.

    Args:
        dom: The domain.

    Raises:
        PrivcmdError:
            EINVAL: the connection, or the file, is restricted to another domain.
            EDQUOT: the address space has restricted too many files.
    """
    return Call("privcmd.restrict", {"dom": dom}, nothing)


def mmap_resource(
    dom: int, kind: int, number: int, *, idx: int = 0, num: int = 0, addr: int = 0, extents: bool = False
) -> Call[dict[str, Any]]:
    """IOCTL_PRIVCMD_MMAP_RESOURCE: map a resource of a domain, or ask how large it is.

    Replaces what is mapped there. The pages lie behind all guest frames in the domain's memory file and do not count
    for its tot_pages, but a dying domain stays until the last of them is unmapped.

    Args:
        dom: The domain.
        kind: 0 ioreq server, 1 grant table, 2 vmtrace; Xen looks at 16 bits of it.
        number: Which one: the ioreq server's, or 0 shared and 1 status frames of the grant table.
        idx: The first frame of it (frames).
        num: How many; 0, together with addr, asks for the size (frames).
        addr: Where; its last 12 bits are dropped.
        extents: Whether to answer where the good frames lie in the memory file.

    Returns:
        The answer as it comes: ``num``, ``extents``, ``prot``, ``generation``.

    Raises:
        PrivcmdError:
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            EINVAL: only one of addr and num is 0, addr is not mapped from the device, or there is no such frame.
            ENOENT: there is no such ioreq server.
            EOPNOTSUPP: there is no such kind of resource (xen 4.17).
            EBUSY: the domain is dying.
            ENOMEM: num is absurd.
    """
    return Call(
        "privcmd.mmap_resource",
        {"dom": dom, "type": kind, "id": number, "idx": idx, "num": num, "addr": addr, "extents": extents},
        whole,
    )


def hypercall(op: int, *args: int) -> Call[int]:
    """IOCTL_PRIVCMD_HYPERCALL: call the hypervisor.

    Pointers among the arguments, and inside what they point to, are addresses of the caller's; they must lie in
    mappings of file ``hypercall``, else the answer is -EFAULT, with what was to be read: the caller may ask again and
    lend that. What the caller has no right to is -EPERM, an operation that is not there -ENOSYS.

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

    Without buffers it only says whether the request would be allowed: ret is 0. Changes of a domain need the right to
    map it writable.

    Args:
        dom: The domain.
        bufs: Its buffers, the first a struct xen_dm_op.

    Returns:
        What the ioctl returns: 0 or a negative errno; the buffers as they are afterwards.

    Raises:
        PrivcmdError:
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            E2BIG: more than 16 buffers, or one of more than 4096 bytes.
    """
    return Call("privcmd.dm_op", {"dom": dom, "bufs": list(bufs)}, lambda answer, _: (answer["ret"], answer["bufs"]))


def map_grants(dom: int, addr: int, refs: Sequence[int], *, extents: bool = False) -> Call[dict[str, Any]]:
    """Map grants of a domain, into a mapping of the gntdev device.

    All or none. What the grant table, in the domain's own memory, says when this is asked counts. From then on until
    they are unmapped it says that they are in use.

    Args:
        dom: The domain.
        addr: Where, inside a mapping of file gntdev.
        refs: The grants' numbers, one a page.
        extents: Whether to answer where the good frames lie in the memory file.

    Returns:
        The answer as it comes: ``num``, ``extents``, ``prot``, ``generation``.

    Raises:
        PrivcmdError:
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            EINVAL: no grants, the range is no mapping of file gntdev, or one of them is not granted to domain 0.
            E2BIG: more grants than one batch may have frames.
    """
    return Call("gntdev.map", {"dom": dom, "addr": addr, "arr": list(refs), "extents": extents}, whole)


def copy_grants(segments: Sequence[Mapping[str, int]], data: bytes = b"") -> Call[tuple[list[int], bytes]]:
    """Copy bytes from and to grants: IOCTL_GNTDEV_GRANT_COPY.

    A segment that fails has a status and keeps none of the others from being copied. Copying from a domain needs the
    right to map it, copying to it the right to map it writable.

    Args:
        segments: What to copy: ``flags`` (1: the source is a grant, 2: the destination is one), ``len``, and of each
            end that is a grant ``source_dom``, ``source_ref``, ``source_offset``, ``dest_dom``, ``dest_ref``,
            ``dest_offset``.
        data: Bytes of the segments whose source is the caller's own, one after another.

    Returns:
        Of each segment Xen's GNTST_*: 0, or a negative number; the bytes of those segments whose destination is the
        caller's own, one after another; zeros for one that failed.

    Raises:
        PrivcmdError:
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            EINVAL: neither end of a segment is a grant, one runs over the end of its page, or data is not as long as
                the segments say.
            E2BIG: more than 256 segments.
    """
    return Call(
        "gntdev.copy",
        {"segments": grant_segments(segments), "data": bytes(data)},
        lambda answer, _: (answer["status"], answer["data"]),
    )


def notify_unmapped(addr: int, action: int, port: int = 0) -> Call[None]:
    """Say what is to be done when a page of grants is unmapped, however: IOCTL_GNTDEV_SET_UNMAP_NOTIFY.

    One for each page, the last counts. The event is sent though the port may be closed by then.

    Args:
        addr: A byte of a page that maps a grant.
        action: 1 clear that byte, 2 send an event, or-ed; 0 nothing any more.
        port: With action 2: the port of domain 0 whose other end is notified.

    Raises:
        PrivcmdError:
            ENOENT: no grant is mapped there.
            EINVAL: there is no such action or port, or the byte is to be cleared and the page mapped read-only.
    """
    return Call("gntdev.notify", {"addr": addr, "action": action, "port": port}, nothing)


def share_pages(dom: int, num: int = 1, *, writable: bool = True) -> Call[SharedPages]:
    """Make pages that another domain may map: IOCTL_GNTALLOC_ALLOC_GREF.

    One descriptor comes with the answer: the memory file, of these pages and no others, to be mapped shared. The
    connection holds the pages until gntalloc.free or its end; who has them mapped keeps them longer.

    Args:
        dom: The domain that may map them; 0 another process here.
        num: How many (pages).
        writable: Whether it may write to them too.

    Raises:
        PrivcmdError:
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            EINVAL: num is 0 or more than 1024.
            ENOSPC: the uid has 1024 such pages.
            ENOMEM: the broker has no descriptors left.
    """
    return Call(
        "gntalloc.alloc",
        {"dom": dom, "num": num, "writable": writable},
        lambda answer, fds: SharedPages(answer["refs"], fds[0], 0, 3),
    )


def unshare_pages(refs: Sequence[int]) -> Call[None]:
    """Give such pages up, on either side: IOCTL_GNTALLOC_DEALLOC_GREF.

    What gntalloc.map holds at an address goes when that is unmapped.

    Args:
        refs: The grants' numbers.

    Raises:
        PrivcmdError:
            ENOENT: one of them is none of this connection's; all stay.
            E2BIG: more than 1024.
    """
    return Call("gntalloc.free", {"refs": list(refs)}, nothing)


def notify_unshared(ref: int, action: int, *, offset: int = 0, port: int = 0) -> Call[None]:
    """Set what is done when its maker gives a page up: IOCTL_GNTALLOC_SET_UNMAP_NOTIFY.

    Args:
        ref: The grant's number.
        action: 1 clear a byte, 2 send an event, or-ed; 0 nothing any more.
        offset: Which byte of the page (bytes).
        port: With action 2: the port of domain 0 whose other end is notified.

    Raises:
        PrivcmdError:
            ENOENT: the page is none of this connection's.
            EINVAL: there is no such action or port, or offset is past the page.
    """
    return Call("gntalloc.notify", {"ref": ref, "action": action, "offset": offset, "port": port}, nothing)


def map_shared(refs: Sequence[int], *, on: int = 0, addr: int = 0, own: bool = False) -> Call[SharedPages]:
    """Map such pages, on the other side or as their maker.

    One descriptor comes with the answer, the memory file; one to be read only when they may not be written. Ask again
    for what is left.

    Args:
        refs: The grants' numbers.
        on: Who maps: 0 a process here, else a guest, on whose behalf this is done.
        addr: Inside a mapping of file gntdev; 0: the connection holds them instead.
        own: Whether to hold them as their maker.

    Raises:
        PrivcmdError:
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            ENOENT: there is no such grant.
            EINVAL: refs is empty, one is not granted to that domain, or the range is no mapping that may hold them.
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
        on: Whose port: 0 the caller's own, else a guest's, on whose behalf this is done.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            ENOSPC: the domain has as many ports as there may be.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            EACCES: evtchn.restrict has named another domain.
            ENOMEM: the broker has no descriptors left.
    """
    return Call(
        "evtchn.alloc_unbound", {"remote": remote, "on": on}, lambda answer, fds: EventChannel(answer["port"], on, fds)
    )


def evtchn_bind_interdomain(dom: int, port: int, *, on: int = 0) -> Call[EventChannel]:
    """Take a port for the other end of an unbound one: EVTCHNOP_bind_interdomain, IOCTL_EVTCHN_BIND_INTERDOMAIN.

    The new port has an event at once, as on Xen: what was sent before anybody was there is not lost.

    Args:
        dom: The domain whose port it is.
        port: The port's number.
        on: Whose port: 0 the caller's own, else a guest's, on whose behalf this is done.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            ENOSPC: the domain has as many ports as there may be.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            EACCES: evtchn.restrict has named another domain.
            ENOMEM: the broker has no descriptors left.
            EINVAL: that port is not in use, bound already, or waits for another domain.
    """
    return Call(
        "evtchn.bind_interdomain",
        {"dom": dom, "port": port, "on": on},
        lambda answer, fds: EventChannel(answer["port"], on, fds),
    )


def evtchn_bind_virq(virq: int, *, vcpu: int = 0, on: int = 0) -> Call[EventChannel]:
    """Take a port for a virtual interrupt: EVTCHNOP_bind_virq, IOCTL_EVTCHN_BIND_VIRQ.

    For domain 0 it takes the right to administer all domains. Nobody is at the other end, and the second descriptor
    leads nowhere.

    Args:
        virq: Its number; 3 (VIRQ_DOM_EXC) is raised when a domain dies, is gone or crashes.
        vcpu: Which vcpu is told; of a global interrupt 0.
        on: Whose port: 0 the caller's own, else a guest's, on whose behalf this is done.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            ENOSPC: the domain has as many ports as there may be.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
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
    """Get the events of a port that is there already.

    This is how a guest is played: the ports of its ioreq servers, its console and its xenstore ring are made by others.

    Args:
        port: The port's number.
        on: Whose port: 0 the caller's own, else a guest's, on whose behalf this is done.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EINVAL: there is no such port.
            ENOTCONN: a port of domain 0 that another connection took, or nobody.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            ENOMEM: the broker has no descriptors left.
    """
    return Call("evtchn.attach", {"port": port, "on": on}, lambda _answer, fds: EventChannel(port, on, fds))


def evtchn_close(port: int, *, on: int = 0) -> Call[None]:
    """Give a port up: EVTCHNOP_close, IOCTL_EVTCHN_UNBIND.

    The other end waits for somebody else to bind to it.

    Args:
        port: The port's number.
        on: Whose port: 0 the caller's own, else a guest's, on whose behalf this is done.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EINVAL: there is no such port, or it is Xen's own (an ioreq server's).
            ENOTCONN: a port of domain 0 that another connection took, or nobody.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
    """
    return Call("evtchn.close", {"port": port, "on": on}, nothing)


def evtchn_notify(port: int, *, on: int = 0) -> Call[None]:
    """Notify the other end of a port: EVTCHNOP_send, IOCTL_EVTCHN_NOTIFY.

    For clients that cannot receive descriptors. When nobody is at the other end nothing happens.

    Args:
        port: The port's number.
        on: Whose port: 0 the caller's own, else a guest's, on whose behalf this is done.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EINVAL: there is no such port, or nobody can be notified through it.
            ENOTCONN: a port of domain 0 that another connection took, or nobody.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
    """
    return Call("evtchn.notify", {"port": port, "on": on}, nothing)


def evtchn_pending(port: int, *, on: int = 0) -> Call[bool]:
    """Take the event of a port.

    For clients that cannot receive descriptors.

    Args:
        port: The port's number.
        on: Whose port: 0 the caller's own, else a guest's, on whose behalf this is done.

    Returns:
        Whether there was one since it was last taken.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EINVAL: there is no such port.
            ENOTCONN: a port of domain 0 that another connection took, or nobody.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
    """
    return Call("evtchn.pending", {"port": port, "on": on}, lambda answer, _: answer["pending"])


def evtchn_list(*, on: int = 0) -> Call[list[PortRow]]:
    """List the ports in use: EVTCHNOP_status of each.

    Args:
        on: Whose port: 0 the caller's own, else a guest's, on whose behalf this is done.

    Returns:
        A `PortRow` each, in order; of domain 0 only the connection's own.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain, or it is dying.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
    """
    return Call("evtchn.list", {"on": on}, lambda answer, _: [pick(PortRow, row) for row in answer["ports"]])


def evtchn_restrict(dom: int) -> Call[None]:
    """IOCTL_EVTCHN_RESTRICT_DOMID: bind nothing but ports of one domain from now on, for good.

    What is bound already goes on working.

    Args:
        dom: The domain.

    Raises:
        PrivcmdError:
            EACCES: the connection is restricted already.
            EINVAL: dom is no guest.
    """
    return Call("evtchn.restrict", {"dom": dom}, nothing)


def domain_create(
    kind: str,
    max_pages: int,
    *,
    ranges: Sequence[tuple[int, int]] | None = None,
    dom: int | None = None,
    name: str | None = None,
) -> Call[int]:
    """Make a domain, its memory populated.

    Args:
        kind: How frames are named: pv by mfn, hvm and pvh by gfn. One of "pv", "hvm", "pvh".
        max_pages: Frames it may hold (pages).
        ranges: Frames to populate; 0 to max_pages when left out.
        dom: Its domain id; a free one when left out.
        name: A name for people.

    Returns:
        Its domain id.

    Raises:
        PrivcmdError:
            EINVAL: dom is one of Xen's own numbers, ranges overlap, or one begins past what a domain may have.
            EEXIST: the domain id is taken.
            ENOMEM: more than max_pages, than there is free, than a memory file may hold, or too many domains.
            EPERM: the caller has no administration right on the domain.
            E2BIG: more than 1024 ranges.
    """
    return Call(
        "domain.create",
        {
            "kind": kind,
            "max_pages": max_pages,
            **given(ranges=None if ranges is None else as_maps(ranges, "gfn", "npages"), dom=dom, name=name),
        },
        lambda answer, _: answer["dom"],
    )


def domain_destroy(dom: int) -> Call[str]:
    """Destroy a domain.

    Args:
        dom: The domain.

    Returns:
        Dying while a frame of it is still mapped, else gone.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller has no administration right on the domain.
    """
    return Call("domain.destroy", {"dom": dom}, lambda answer, _: answer["state"])


def domain_list() -> Call[list[DomainRow]]:
    """List the domains that the caller has a right to.

    Returns:
        A `DomainRow` each, in the order of domain ids.
    """
    return Call("domain.list", {}, lambda answer, _: [pick(DomainRow, row) for row in answer["domains"]])


def domain_info(dom: int, *, start: int = 0, num: int | None = None) -> Call[DomainInfo]:
    """Look at one domain, and at the names of its frames.

    Args:
        dom: The domain.
        start: First position of the p2m (pages).
        num: How many positions to answer; no frames when left out (pages).

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            E2BIG: num more than 1048576.
    """
    return Call(
        "domain.info",
        {"dom": dom, "start": start, **given(num=num)},
        lambda answer, _: pick(DomainInfo, answer, frames=numbers(answer.get("frames"), "Q")),
    )


def domain_memory(dom: int, *, write: bool = False) -> Call[Memory]:
    """Get the domain's memory file.

    One descriptor comes with the answer's first byte: a memfd, sealed against changes of its size, opened read-only
    unless write is true. The pages that a mapping's extents name are pages of this file.

    Args:
        dom: The domain.
        write: Whether it is to be writable.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
            ENOMEM: the broker has no descriptors left.
    """
    return Call("domain.memory", {"dom": dom, "write": write}, lambda answer, fds: Memory(fds[0], answer["size_bytes"]))


def domain_populate(dom: int, gfns: Iterable[int]) -> Call[Populated]:
    """Give a domain frames: populate_physmap.

    Args:
        dom: The domain.
        gfns: The gfns (pv: pfns) to populate.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller has no administration right on the domain.
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
        Frames taken; fewer than asked for when one is not there.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller has no administration right on the domain.
            EINVAL: the domain is dying: its memory can no longer be changed.
            E2BIG: more frames than one batch may have.
    """
    return Call(
        "domain.decrease_reservation", {"dom": dom, "arr": frames_as_bytes(frames)}, lambda answer, _: answer["done"]
    )


def domain_page_out(dom: int, gfns: Iterable[int]) -> Call[Batch]:
    """Page frames out: mapping one answers ENOENT from then on.

    Args:
        dom: The domain.
        gfns: The frames, named as a mapping names them.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller has no administration right on the domain.
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
    """Page frames in again, their contents as they were.

    Args:
        dom: The domain.
        gfns: The frames, named as a mapping names them.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller has no administration right on the domain.
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
        A `IoreqServer` each, by number; of those that emulate the same Xen asks the highest.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
    """
    return Call("ioreq.servers", {"dom": dom}, lambda answer, _: [pick(IoreqServer, row) for row in answer["servers"]])


def interrupts(dom: int, *, after: int = 0) -> Call[Interrupts]:
    """Look at the interrupt lines of a domain.

    Nothing here runs, so no line is ever acknowledged: levels are as the device models drive them.

    Args:
        dom: The domain.
        after: Messages up to this number are left out.

    Raises:
        PrivcmdError:
            ESRCH: there is no such domain.
            EPERM: the caller has not this right on the domain, or RESTRICT named another domain.
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
    """Let requests or frames fail from now on.

    Rules about frames (frame_errno, paged) count the good frames that match, wherever one is looked up: in a batch, at
    a page fault, for a grant or resource. MMAP looks up a whole entry before it stops. Those that a rule takes fail as
    real ones do. The other rules count requests. Rules are asked in the order of their ids; the first that answers or
    drops a request is the last one asked. Requests of the methods named faults. meet no rule.

    Args:
        frame_errno: What happens: a frame fails with this errno, by its name or number.
        paged: What happens: a frame is paged out (ENOENT) for so many look-ups.
        errno: What happens: the request fails with this errno, by its name or number, before it does anything.
        delay_ms: What happens: the request waits (milliseconds).
        drop: What happens: the connection is closed where the answer would be.
        when: Of a delay or a drop: before the work is done, or after it. One of "before", "after".
        client: Only requests of clients that call themselves so in hello; * stands for anything.
        connection: Only those of the connection of this number (connections).
        pid: Only those of this process.
        uid: Only those of this user.
        dom: Only those that name this domain, and its frames.
        gfns: Only these frames, as a mapping names them (pv: mfns): a range, or any integers and ranges, in at most 64
            runs; of a rule about requests: only those that name one.
        method: Only this method; with a dot at its end, all that begin so: privcmd.
        nth: The first match that the rule takes, counted from 1 (matches).
        times: How many it takes at most; without end when left out (matches).
        probability: How probable it is that it takes one, above 0 and up to 1.
        seed: Which ones, when it does not take all: the same seed, the same matches.
        keep: Stay when the connection that adds it ends, until it is cleared.

    Returns:
        The rule's number; never used twice.

    Raises:
        PrivcmdError:
            EINVAL: not exactly one of frame_errno, paged, errno, delay_ms and drop; no such errno or method; a number
                out of its range.
            EPERM: the caller has no administration right on the domain; a rule without dom takes that right on all
                domains.
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
    """List the rules that the caller could have added."""
    return Call("faults.list", {}, lambda answer, _: [pick(InjectedFault, row) for row in answer["faults"]])


def faults_clear(id: int | None = None) -> Call[int]:  # noqa: A002 - the protocol's word
    """End one rule, or all that the caller could have added.

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
    """List what was done that a real host would have let pass in silence, and that does harm there.

    A finding changes no answer. One sees those of one's own uid; who may administer all domains sees all. Equal ones of
    a connection are counted, not listed again, and of each uid at most 256 are kept.

    Returns:
        A `Finding` each, in the order in which they were made.
    """
    return Call("findings.list", {}, lambda answer, _: [pick(Finding, row) for row in answer["findings"]])


def clear_findings() -> Call[int]:
    """Forget the findings that findings.list would list.

    Returns:
        How many there were.
    """
    return Call("findings.clear", {}, lambda answer, _: answer["cleared"])

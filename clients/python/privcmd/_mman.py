# SPDX-License-Identifier: Apache-2.0
"""This process's real memory: the few system calls that :mod:`mmap` does not offer, through ctypes.

Everything here works on addresses inside reservations that a `Mapping` owns. How its promises are kept:

- Pages without a frame are pages of an empty file, so touching one raises a real SIGBUS, as on Linux.
- Foreign memory is not inherited by fork(2) (MADV_DONTFORK, which has to be set again after every MAP_FIXED).
- The kernel allows a process ``vm.max_map_count`` mappings, and each run of frames is one. `check_room`
  refuses before anything is touched, because at the limit even replacing a mapping fails.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from privcmd.errors import PrivcmdError

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE_SIZE = 4096

MAPPINGS_SPARE = 512
"""Kernel mappings left to the rest of the process: its heap, stacks and libraries that it loads later."""

_UNCOUNTED = 1024
"""For fewer runs the mappings of the process are not counted: reading /proc/self/maps costs more than the runs."""

_MAP_FIXED = 0x10
_MAP_FIXED_NOREPLACE = 0x100000
_MAP_NORESERVE = 0x4000
_MADV_DONTFORK = 10
_MAP_FAILED = ctypes.c_void_p(-1).value


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int64,
    )
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return libc


def _refused(what: str) -> PrivcmdError:
    number = ctypes.get_errno()
    if number == errno.ENOMEM:
        return _no_room(f"{what} failed")
    return PrivcmdError(number, f"{what}: {os.strerror(number)}")


def _no_room(what: str, details: dict[str, int] | None = None) -> PrivcmdError:
    return PrivcmdError(
        errno.ENOMEM,
        f"{what}: a process may have vm.max_map_count = {max_mappings()} kernel mappings, and every run of "
        f"frames that do not follow each other in the guest needs one; map fewer, or raise the limit",
        {"max_map_count": max_mappings(), **(details or {})},
    )


def map_runs(base: int, prot: int, fd: int, runs: memoryview) -> None:
    """Map runs of a file into a reservation, by one mmap with MAP_SHARED|MAP_FIXED each.

    Args:
        base: Address of page 0.
        prot: ``PROT_*`` bits.
        fd: The file.
        runs: u32 triples (page of the reservation, page of the file, n_pages).

    Raises:
        PrivcmdError: ENOMEM at the kernel's limit; the runs before are mapped.
    """
    kernel_mmap, flags = _libc().mmap, mmap.MAP_SHARED | _MAP_FIXED
    at = iter(runs.tolist())
    for page, file_page, n_pages in zip(at, at, at, strict=True):
        addr = base + page * PAGE_SIZE
        if kernel_mmap(addr, n_pages * PAGE_SIZE, prot, flags, fd, file_page * PAGE_SIZE) != addr:
            raise _refused("mmap of guest memory")


def map_failed(base: int, prot: int, gaps: Iterable[tuple[int, int]]) -> None:
    """Make pages fail: an access raises SIGBUS, as at a hole of a foreign mapping on Linux.

    Args:
        base: Address of page 0.
        prot: ``PROT_*`` bits.
        gaps: (page, n_pages) pieces.

    Raises:
        PrivcmdError: ENOMEM, EMFILE.
    """
    kernel_mmap, flags = _libc().mmap, mmap.MAP_SHARED | _MAP_FIXED
    try:
        empty = os.memfd_create("privcmd-failed-frames", os.MFD_CLOEXEC)
    except OSError as error:
        raise PrivcmdError(error.errno or errno.EMFILE, "no descriptor for the failed frames' file") from error
    try:
        for page, n_pages in gaps:
            addr = base + page * PAGE_SIZE
            if kernel_mmap(addr, n_pages * PAGE_SIZE, prot, flags, empty, 0) != addr:
                raise _refused("mmap of failed frames")
    finally:
        os.close(empty)


def forbid_fork(addr: int, size_bytes: int) -> None:
    """Keep a range from being inherited."""
    if _libc().madvise(addr, size_bytes, _MADV_DONTFORK):
        raise _refused("madvise(MADV_DONTFORK)")


@functools.cache
def max_mappings() -> int:
    """vm.max_map_count."""
    return int(Path("/proc/sys/vm/max_map_count").read_text(encoding="ascii"))


def count_mappings() -> int:
    """The number of kernel mappings that this process has now."""
    with Path("/proc/self/maps").open("rb") as maps:
        return sum(block.count(b"\n") for block in iter(lambda: maps.read(1 << 16), b""))


def has_room(n_more: int) -> bool:
    """Whether the kernel would allow this many more mappings; for a few they are not counted."""
    return n_more <= _UNCOUNTED or count_mappings() + n_more + MAPPINGS_SPARE <= max_mappings()


def check_room(n_more: int) -> None:
    """Refuse at once what the kernel would refuse after a part is done.

    Raises:
        PrivcmdError: ENOMEM, with the limit and the numbers in ``details``.
    """
    if not has_room(n_more):
        n_now = count_mappings()
        raise _no_room(f"{n_more} more kernel mappings beside {n_now}", {"n_needed": n_more, "n_mappings": n_now})


class _Buffer(ctypes.Structure):
    """The head of Py_buffer and room for the rest of it."""

    _fields_ = (("buf", ctypes.c_void_p), ("rest", ctypes.c_void_p * 15))


def address_of(reservation: mmap.mmap) -> int:
    """The address of an mmap object; also of a read-only one, for which ctypes has no other way."""
    view = _Buffer()
    api = ctypes.pythonapi
    api.PyObject_GetBuffer(ctypes.py_object(reservation), ctypes.byref(view), 0)
    address = view.buf
    api.PyBuffer_Release(ctypes.byref(view))
    assert address is not None
    return int(address)


# --- fork -------------------------------------------------------------------------------------------------

_inherited: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
_kept_for_ever: list[mmap.mmap] = []


def guard_after_fork(reservation: mmap.mmap) -> None:
    """Give a forked child inaccessible pages at the addresses of this reservation.

    The child has the Python object but not the pages. If the child mapped something else there, the end of the
    object would unmap that.
    """
    if not _inherited and not _kept_for_ever:
        _register_fork_hook()
    _inherited.add(reservation)


@functools.cache
def _register_fork_hook() -> None:
    os.register_at_fork(after_in_child=_reserve_in_child)


def _reserve_in_child() -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED_NOREPLACE
    for reservation in list(_inherited):
        if reservation.closed:
            continue
        addr, size_bytes = address_of(reservation), len(reservation)
        if _libc().mmap(addr, size_bytes, 0, flags, -1, 0) != addr:
            _kept_for_ever.append(reservation)


if sys.byteorder != "little":  # pragma: no cover - Xen runs on little-endian processors only
    raise ImportError("privcmd needs a little-endian machine")

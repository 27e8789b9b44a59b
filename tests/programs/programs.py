# SPDX-License-Identifier: Apache-2.0
"""Unmodified programs, under ``privcmdctl run``."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from privcmd import _tools as tools

GUARD_S = 120
CTL = [sys.executable, "-W", "error", "-m", "privcmdd.cli.ctl"]
RELEASE = tools.release() or "4.17"
XEN_UTILS = f"xen-utils-{RELEASE}"
XEN = Path(f"/usr/lib/xen-{RELEASE}")
PLACES = f"/usr/sbin:{XEN}/bin:{os.environ.get('PATH', '')}"
PACKAGES = {
    "xl": "xen-utils-common",
    "xen-hvmctx": XEN_UTILS,
    "xen-cpuid": XEN_UTILS,
    "xenstored": XEN_UTILS,
    "xen-mfndump": XEN_UTILS,
    "test-resource": XEN_UTILS,
    "test-paging-mempool": XEN_UTILS,
    "test-xenstore": XEN_UTILS,
    "xenstore-ls": "xenstore-utils",
    "xenstore-read": "xenstore-utils",
    "cc": "gcc",
}

# What a program does with the device, by ctypes: no compiler is needed, and no library of ours.
DEVICE = """
import ctypes, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
PAGE = 4096
fd = os.open("/dev/xen/privcmd", os.O_RDWR | os.O_CLOEXEC)

def mmap_pages(n):
    at = libc.mmap(None, n * PAGE, 3, 1, fd, 0)
    assert at != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    return at

def batch(dom, at, gfns):  # IOCTL_PRIVCMD_MMAPBATCH_V2: the errno, and the errors of the frames
    arr = (ctypes.c_uint64 * len(gfns))(*gfns)
    err = (ctypes.c_int * len(gfns))()
    asked = struct.pack("=IHxxQQQ", len(gfns), dom, at, ctypes.addressof(arr), ctypes.addressof(err))
    ret = libc.ioctl(fd, 0x205004, ctypes.create_string_buffer(asked))
    return (ctypes.get_errno() if ret else 0), list(err)
"""


def needs(name: str) -> str:
    """Where a program is; the test is skipped, with its package's name, when it is not there."""
    path = shutil.which(name, path=PLACES)
    if path is None:
        pytest.skip(f"NOT TESTED: {name} is missing (apt-get install {PACKAGES.get(name, name)})")
    return path


def command(*arguments: str) -> list[str]:
    """The command line of ``privcmdctl run``."""
    return [*CTL, "run", *arguments]


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """``privcmdctl run`` to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=GUARD_S, check=False, **more)


def python(source: str, *arguments: object) -> list[str]:
    """The command line of a Python program that has what is in ``DEVICE``."""
    return [sys.executable, "-c", DEVICE + textwrap.dedent(source), *map(str, arguments)]


def children(pid: int) -> dict[str, int]:
    """The children of a process, by name."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {Path(f"/proc/{child}/comm").read_text().strip(): int(child) for child in pids}


def sections(core: bytes) -> dict[str, bytes]:
    """The sections of an ELF64 file of x86-64, by name."""
    assert core[:6] == b"\x7fELF\x02\x01"
    (at,) = struct.unpack_from("<Q", core, 40)
    entry_bytes, n_entries, names_index = struct.unpack_from("<3H", core, 58)
    headers = [struct.unpack_from("<IIQQQQ", core, at + index * entry_bytes) for index in range(n_entries)]
    names = core[headers[names_index][4] :]
    found = {}
    for name, kind, _, _, offset, size in headers:
        if kind:
            found[names[name : names.index(b"\0", name)].decode()] = core[offset : offset + size]
    return found

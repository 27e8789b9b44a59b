# SPDX-License-Identifier: Apache-2.0
"""Checks before a program is started that preloading reaches it: a program that it does not reach fails silently."""

from __future__ import annotations

import errno
import os
import stat
import struct

from privcmd.errors import PrivcmdError

PT_INTERP = 3
ELF_MAGIC = b"\x7fELF"
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
MAX_SCRIPTS = 4  # as many interpreters of interpreters as the kernel follows


class Unreachable(PrivcmdError):  # noqa: N818 - says what is so, as FileNotFoundError does
    """The program cannot be preloaded into, or is not there. ``errno`` is ENOENT, EACCES, ENOEXEC or EPERM."""


def check(program: str) -> str:
    """Find a program and make sure that a preloaded library reaches it.

    Args:
        program: A path, or a name to be found on PATH.

    Returns:
        Its path.

    Raises:
        Unreachable: It is not there, cannot be executed, is statically linked, setuid or setgid; the text says what
            else can be done.
    """
    path = which(program)
    if path is None:
        raise missing(program)
    binary = path
    for _ in range(MAX_SCRIPTS):
        with open(binary, "rb") as file:
            head = file.read(256)
        if not head.startswith(b"#!"):
            break
        binary = which(head[2:].split(b"\n", 1)[0].split()[0].decode()) or binary
    status = os.stat(binary)
    other_user = status.st_mode & stat.S_ISUID and status.st_uid != os.getuid()
    other_group = status.st_mode & stat.S_ISGID and status.st_gid != os.getgid()
    if other_user or other_group:
        raise Unreachable(
            errno.EPERM,
            f"{path} is setuid or setgid: the dynamic linker ignores LD_PRELOAD for it. Run a copy without the bit, or "
            "let it speak the protocol",
        )
    if head.startswith(ELF_MAGIC) and not has_interpreter(binary):
        raise Unreachable(
            errno.ENOEXEC,
            f"{path} is statically linked: nothing can be preloaded into it. Link it dynamically, link it with our "
            "libxenforeignmemory, or let it speak the protocol",
        )
    return path


def which(program: str) -> str | None:
    """Find a program as ``shutil.which`` does, and also in the directories of programs for root; None without it."""
    places = with_sbin().split(os.pathsep) if os.sep not in program else [""]
    for path in (os.path.join(place, program) for place in places):
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def with_sbin() -> str:
    """PATH, and behind it the directories of programs for root, which many users' PATH lacks: xl is there."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*places, *(place for place in SBIN if place not in places)])


def missing(program: str) -> Unreachable:
    """The error about a program that is not found."""
    if os.sep in program:
        if os.path.exists(program):
            return Unreachable(errno.EACCES, f"{program}: not executable")
        return Unreachable(errno.ENOENT, f"{program}: there is no such file")
    here = f"; there is one in this directory: ./{program}" if os.access(program, os.X_OK) else ""
    return Unreachable(errno.ENOENT, f"{program}: no such program on PATH{here}")


def has_interpreter(path: str) -> bool:
    """Whether an ELF file asks for a dynamic linker (a PT_INTERP program header)."""
    with open(path, "rb") as file:
        ident = file.read(16)
        order = "<" if ident[5] == 1 else ">"
        layout = struct.Struct(order + ("HHIQQQIHHH" if ident[4] == 2 else "HHIIIIIHHH"))
        _, _, _, _, at, _, _, _, entry_bytes, n_entries = layout.unpack(file.read(layout.size))
        for index in range(n_entries):
            file.seek(at + index * entry_bytes)
            if struct.unpack(order + "I", file.read(4))[0] == PT_INTERP:
                return True
    return False

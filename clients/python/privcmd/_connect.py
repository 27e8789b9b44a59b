# SPDX-License-Identifier: Apache-2.0
"""Where the broker's socket is, and what both faces need to connect to it and to read from it."""

from __future__ import annotations

import array
import errno
import os
import socket

from privcmd._protocol import MAX_FDS_PER_READ
from privcmd.errors import BrokerConfused, NoBroker

READ_BYTES = 64 * 1024
"""The size of one read: enough for all answers of a pipeline of small requests, and cheap to allocate."""

SYSTEM_SOCKET = "/run/privcmdd/broker.sock"

_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_FDS_PER_READ * array.array("i").itemsize)
_SUN_PATH_BYTES = 107


def socket_path(path: str | os.PathLike[str] | None = None) -> str:
    """The path of the socket to connect to: ``path``, else $PRIVCMDD_SOCKET, else the user's, else the system's.

    The user's socket is $XDG_RUNTIME_DIR/privcmdd/broker.sock; when only the system's exists, it is the system's.
    """
    if path is not None:
        return os.fspath(path)
    named = os.environ.get("PRIVCMDD_SOCKET")
    if named:
        return named
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        own = f"{runtime}/privcmdd/broker.sock"
        if os.path.exists(own) or not os.path.exists(SYSTEM_SOCKET):
            return own
    return SYSTEM_SOCKET


def job_name(job: str | None = None) -> str:
    """The job to belong to: ``job``, else $PRIVCMDD_JOB; empty for none."""
    return os.environ.get("PRIVCMDD_JOB", "") if job is None else job


def connect_error(path: str, error: OSError, timeout_s: float | None = None) -> NoBroker:
    """The exception for a failed connect, with a sentence that says what to do."""
    number = error.errno or errno.ECONNREFUSED
    if len(os.fsencode(path)) > _SUN_PATH_BYTES:
        return NoBroker(
            errno.ENAMETOOLONG, f"{path} is longer than the {_SUN_PATH_BYTES} bytes a socket's name may have"
        )
    why = {
        errno.ENOENT: "there is no such socket; start one with `privcmdd serve`, or set PRIVCMDD_SOCKET",
        errno.ECONNREFUSED: "nobody listens there any more; start it with `privcmdd serve`",
        errno.EACCES: "you may not connect to it; ask for access to the socket or its directory",
        errno.EAGAIN: "its queue of new connections is full; try again",
        errno.ETIMEDOUT: f"its queue of new connections was full for {timeout_s} s; see whether it is stopped",
    }.get(number, os.strerror(number))
    if path == SYSTEM_SOCKET and not os.environ.get("XDG_RUNTIME_DIR"):
        why += "; XDG_RUNTIME_DIR is not set, so that none was looked for there"
    return NoBroker(number, f"no broker at {path}: {why}", {"path": path})


def fds_of(ancillary: list[tuple[int, int, bytes]], flags: int) -> list[int]:
    """The descriptors that a recvmsg(2) brought.

    Raises:
        BrokerConfused: EMFILE, the kernel had to drop some; the ones that came are closed.
    """
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if flags & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise BrokerConfused(errno.EMFILE, "a descriptor from the broker was lost: this process may have too many open")
    return list(fds)


def read_some(sock: socket.socket, *, with_fds: bool, flags: int = 0) -> tuple[bytes, list[int]]:
    """Read once from a blocking socket. Returns bytes, and descriptors if asked for (else the kernel drops them)."""
    if not with_fds:
        return sock.recv(READ_BYTES, flags), []
    data, ancillary, came, _ = sock.recvmsg(READ_BYTES, _ANCILLARY_BYTES, flags | socket.MSG_CMSG_CLOEXEC)
    return data, fds_of(ancillary, came)

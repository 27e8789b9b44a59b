# SPDX-License-Identifier: Apache-2.0
"""Descriptors and identities over Unix sockets."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from privcmdd.service.session import Identity
from privcmdd.wire import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it
FEW_GROUPS: Final = 64
MAX_GROUPS: Final = 65_536  # NGROUPS_MAX
FD_BYTES: Final = 4

_CONTROL_BYTES: Final = socket.CMSG_SPACE(limits.FDS_PER_MESSAGE * FD_BYTES)
# Plain numbers: arithmetic with the enumeration's members costs a microsecond at each read.
_CLOEXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC: Final = int(socket.MSG_CTRUNC)
# All reads use this one buffer: to allocate a new one at each read costs more than to copy what has arrived.
MOST_BYTES: Final = 256 * 1024
_BUFFER: Final = memoryview(bytearray(MOST_BYTES))


class DescriptorsLost(ConnectionError):  # noqa: N818 - says what happened, as BrokenPipeError's siblings do
    """More descriptors came than a message may have, or than we have room for: which message each is for is unknown."""


def receive(sock: socket.socket, size_bytes: int) -> tuple[bytes, Sequence[int]]:
    """Read what has arrived, and the descriptors that came with it, which the caller owns.

    Args:
        sock: Non-blocking.
        size_bytes: The most to read; no more than ``MOST_BYTES``.

    Returns:
        The bytes, none at the end of the stream, and the descriptors.

    Raises:
        BlockingIOError: Nothing has arrived.
        DescriptorsLost: The kernel had to drop descriptors (MSG_CTRUNC). The ones that did come are closed.
        OSError: As recvmsg(2).
    """
    n_bytes, control, flags, _ = sock.recvmsg_into([_BUFFER[:size_bytes]], _CONTROL_BYTES, _CLOEXEC)
    data = bytes(_BUFFER[:n_bytes])
    if not control and not flags & _CTRUNC:
        return data, ()
    fds: list[int] = []
    for level, kind, payload in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = len(payload) - len(payload) % FD_BYTES
            fds.extend(array.array("i", payload[:whole]))
    if flags & _CTRUNC:
        close_all(fds)
        raise DescriptorsLost(
            errno.EPROTO,
            f"descriptors were lost: more than {limits.FDS_PER_MESSAGE} in a message, or no room here",
        )
    return data, fds


def send(sock: socket.socket, data: bytes | memoryview, fds: Sequence[int]) -> int:
    """Send as much as fits, the descriptors with its first byte. The caller still owns the descriptors.

    Returns:
        How many bytes were sent.

    Raises:
        BlockingIOError: Nothing fits; no descriptor was sent either.
        OSError: As sendmsg(2).
    """
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    return sock.sendmsg([data], [rights])


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors, which the caller owns."""
    for fd in fds:
        os.close(fd)


def identity(sock: socket.socket) -> Identity:
    """The identity that the peer had when it connected, as the kernel says (unix(7), SO_PEERCRED).

    Raises:
        OSError: The peer has gone already.
    """
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    pid, uid, gid = struct.unpack("iII", credentials)
    return Identity(uid=uid, gid=gid, groups=_groups(sock), pid=pid)


def _groups(sock: socket.socket) -> frozenset[int]:
    try:
        return frozenset(array.array("I", sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, FEW_GROUPS * 4)))
    except OSError as problem:
        if problem.errno != errno.ERANGE:
            raise
    # Python's getsockopt stops at 1024 bytes.
    room = (ctypes.c_uint32 * MAX_GROUPS)()
    size = ctypes.c_uint32(ctypes.sizeof(room))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(sock.fileno(), socket.SOL_SOCKET, SO_PEERGROUPS, room, ctypes.byref(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return frozenset(room[: size.value // 4])

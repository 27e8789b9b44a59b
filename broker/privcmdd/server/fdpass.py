# SPDX-License-Identifier: Apache-2.0
"""Descriptors and identities over Unix sockets."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import functools
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from privcmdd.service.session import Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it
SIOCOUTQ: Final = 0x5411  # asm-generic/sockios.h
FEW_GROUPS: Final = 64
MAX_GROUPS: Final = 65_536  # NGROUPS_MAX
FD_BYTES: Final = 4
# The most that one message brings (SCM_MAX_FD). What has no room here is closed inside recvmsg(2), which may wait.
MOST_FDS: Final = 253

_CONTROL_BYTES: Final = socket.CMSG_SPACE(MOST_FDS * FD_BYTES)
# Plain numbers: arithmetic with the enumeration's members costs a microsecond at each read.
_CLOEXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC: Final = int(socket.MSG_CTRUNC)
# All reads use this one buffer: to allocate a new one at each read costs more than to copy what has arrived.
MOST_BYTES: Final = 256 * 1024
_BUFFER: Final = memoryview(bytearray(MOST_BYTES))


class DescriptorsCame(ConnectionError):  # noqa: N818 - says what happened, as BrokenPipeError's siblings do
    """The peer has sent descriptors, which the protocol forbids.

    Attributes:
        fds: Those that came; whoever catches this owns them. To close one may take as long as its sender likes.
    """

    def __init__(self, fds: list[int]) -> None:
        super().__init__(errno.EPROTO, "descriptors came; the broker takes none")
        self.fds = fds


def receive_bytes(sock: socket.socket, size_bytes: int) -> bytes:
    """Read what has arrived on a socket where no descriptors can come (``listen.bar_descriptors``). As ``receive``."""
    n_bytes = sock.recv_into(_BUFFER, size_bytes)
    return bytes(_BUFFER[:n_bytes])


def receive(sock: socket.socket, size_bytes: int) -> bytes:
    """Read what has arrived.

    Args:
        sock: Non-blocking.
        size_bytes: The most to read; no more than ``MOST_BYTES``.

    Returns:
        The bytes; none at the end of the stream.

    Raises:
        BlockingIOError: Nothing has arrived.
        DescriptorsCame: Descriptors came with the bytes, or the kernel had no room for them (MSG_CTRUNC).
        OSError: As recvmsg(2).
    """
    n_bytes, control, flags, _ = sock.recvmsg_into([_BUFFER[:size_bytes]], _CONTROL_BYTES, _CLOEXEC)
    if control or flags & _CTRUNC:
        fds: list[int] = []
        for level, kind, payload in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(payload) - len(payload) % FD_BYTES
                fds.extend(array.array("i", payload[:whole]))
        raise DescriptorsCame(fds)
    return bytes(_BUFFER[:n_bytes])


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


def unread(sock: socket.socket) -> bool:
    """Whether the peer has not read all that it was sent (unix(7), SIOCOUTQ)."""
    n_bytes = array.array("i", [0])
    fcntl.ioctl(sock, SIOCOUTQ, n_bytes)
    return bool(n_bytes[0])


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
    return Identity(uid=uid, gid=gid, groups=_shared(_groups(sock)), pid=pid)


@functools.lru_cache(maxsize=64)
def _shared(groups: frozenset[int]) -> frozenset[int]:
    """One object for equal sets: most clients of a machine are in the same groups."""
    return groups


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

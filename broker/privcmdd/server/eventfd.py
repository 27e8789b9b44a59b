# SPDX-License-Identifier: Apache-2.0
"""Raising and clearing eventfds that clients hold too, without ever waiting.

Each holder of an eventfd may change its flags and its count: all of them share one open file description. So a plain
write(2) waits, for as long as a client likes, when the client has cleared O_NONBLOCK and the count is the largest
possible; and a plain read(2) waits when the count is zero. Neither of these is used here:

- An event is cleared by preadv2(2) with RWF_NOWAIT, which does not look at O_NONBLOCK (Linux 5.8).
- An event is raised by the kernel itself, when an asynchronous read of one byte of a file of ours ends
  (io_submit(2), IOCB_FLAG_RESFD): the kernel adds to the count as far as it goes and never waits. A read of a memfd
  ends before io_submit returns.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

# Numbers of io_setup, io_destroy, io_submit, io_getevents: asm/unistd.h.
_CALLS: Final = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4)}
_SETUP, _DESTROY, _SUBMIT, _GETEVENTS = _CALLS.get(platform.machine(), _CALLS["x86_64"])
# linux/aio_abi.h.
_PREAD: Final = 0
_RESFD: Final = 1
_EVENT_BYTES: Final = 32
_MOST_EVENTS: Final = 8


class _Iocb(ctypes.Structure):
    """``struct iocb`` of linux/aio_abi.h, on a little-endian machine."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("reqprio", ctypes.c_int16),
        ("fildes", ctypes.c_uint32),
        ("buf", ctypes.c_uint64),
        ("nbytes", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("resfd", ctypes.c_uint32),
    )


class Raiser:
    """Raises eventfds. It holds a memfd and an AIO context of the kernel, until ``close``."""

    def __init__(self) -> None:
        """Set up the context.

        Raises:
            OSError: As io_setup(2): EAGAIN, the host has no more contexts (fs.aio-max-nr); ENOSYS, a kernel without
                asynchronous I/O; EMFILE, no descriptor is left.
        """
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._file = os.memfd_create("privcmdd-event", os.MFD_CLOEXEC)
        self._context = ctypes.c_ulong(0)
        try:
            os.ftruncate(self._file, 1)
            if self._call(_SETUP, _MOST_EVENTS, ctypes.byref(self._context)):
                number = ctypes.get_errno()
                raise OSError(number, f"io_setup: {os.strerror(number)}")
        except OSError:
            os.close(self._file)
            raise
        self._byte = ctypes.create_string_buffer(1)
        self._iocb = _Iocb(opcode=_PREAD, fildes=self._file, buf=ctypes.addressof(self._byte), nbytes=1, flags=_RESFD)
        self._list = (ctypes.c_void_p * 1)(ctypes.addressof(self._iocb))
        self._ended = ctypes.create_string_buffer(_EVENT_BYTES * _MOST_EVENTS)
        self._at_once = (ctypes.c_long * 2)(0, 0)

    def raise_event(self, fd: int) -> None:
        """Add one to an eventfd's count, unless it is the largest possible.

        Raises:
            OSError: As io_submit(2): EBADF or EINVAL, the descriptor is no eventfd; ENOMEM.
        """
        self._iocb.resfd = fd
        if self._call(_SUBMIT, self._context, 1, self._list) != 1:
            number = ctypes.get_errno()
            raise OSError(number, f"io_submit: {os.strerror(number)}")
        # What has ended is taken out of the context, which has room for a few only.
        self._call(_GETEVENTS, self._context, 0, _MOST_EVENTS, self._ended, self._at_once)

    def close(self) -> None:
        """Give the context and the file back."""
        self._call(_DESTROY, self._context)
        os.close(self._file)


def take_event(fd: int) -> bool:
    """Clear an eventfd. Returns whether it was raised."""
    try:
        return os.preadv(fd, [bytearray(8)], -1, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False

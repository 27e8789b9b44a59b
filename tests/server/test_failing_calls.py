# SPDX-License-Identifier: Apache-2.0
"""Every system call of the broker may fail, the first time, the second time, and so on: it goes on (promise D1)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from typing import TYPE_CHECKING

import msgpack
import pytest

from support.process import Process, eventually
from support.rawclient import Ended, RawClient, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

NTH = range(1, 6)
OF_TRIO = 3  # epoll_ctl(2) of trio itself at its start, without which it cannot go on
CALLS = (
    ("accept4", "EPERM"),
    ("accept4", "EPROTO"),
    ("accept4", "ENOMEM"),
    ("accept4", "ECONNABORTED"),
    ("epoll_ctl", "ENOMEM"),
    ("epoll_ctl", "ENOSPC"),
    ("recvfrom", "ENOMEM"),
    ("recvfrom", "ENOBUFS"),
    ("recvmsg", "ENOMEM"),
    ("sendmsg", "ETOOMANYREFS"),
    ("memfd_create", "EMFILE"),
    ("eventfd2", "ENFILE"),
    ("io_setup", "EAGAIN"),
    ("ftruncate", "ENOMEM"),
    ("fchmod", "EPERM"),
    ("pwrite64", "ENOSPC"),
    ("fallocate", "ENOMEM"),
    ("setsockopt", "ENOMEM"),
    ("getsockopt", "ENOBUFS"),
)


@contextlib.contextmanager
def broker(call: str, error: str, nth: int) -> Iterator[Process]:
    """A broker one of whose system calls fails once."""
    inject = f"inject={call}:error={error}:when={nth}"
    # -D: the broker is our child, and strace its grandchild.
    wrapper = ["strace", "-D", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", inject]
    with Process(wrapper=wrapper) as process:
        yield process


def attempt(client: RawClient, method: str, n_fds: int = 0, **params: object) -> None:
    """Ask for something that may be refused, or that ends the connection."""
    with contextlib.suppress(Refused, Ended, msgpack.UnpackException):
        if not n_fds:
            client.call(method, **params)
            return
        client.post(method, [params])
        _, fds, _, _ = socket.recv_fds(client.sock, 65_536, n_fds)
        for fd in fds:
            os.close(fd)


def works(process: Process) -> bool:
    """Whether a new client is answered."""
    with contextlib.suppress(Ended, OSError), process.client() as client:
        return isinstance(client.call("ping"), dict)
    return False


@pytest.mark.skipif(shutil.which("strace") is None, reason="NOT TESTED: failing system calls; missing: strace")
@pytest.mark.parametrize(("call", "error"), CALLS)
def test_a_call_that_fails_once_ends_nothing_but_what_asked_for_it(call: str, error: str) -> None:
    """Law: whichever call of its kind fails, the broker answers the next client, and stops in order."""
    for nth in (n + (OF_TRIO if call == "epoll_ctl" else 0) for n in NTH):
        with broker(call, error, nth) as process:
            try:
                process.ready()
            except AssertionError:
                assert process.wait() > 0, process.output()
                assert "Traceback" not in process.output(), process.output()
                continue
            for _ in range(2):
                with contextlib.suppress(OSError), process.client() as client:
                    attempt(client, "domain.create", kind="hvm", max_pages=16, dom=1)
                    attempt(client, "domain.memory", 1, dom=1)
                    attempt(client, "evtchn.alloc_unbound", 2, on=1, remote=0)
                    attempt(client, "mmap", len=4096, prot=3, addr=1 << 32, fixed=True)
                    attempt(client, "privcmd.mmapbatch_v2", dom=1, addr=1 << 32, arr=[1])
                    attempt(client, "write", addr=1 << 32, data=b"x")
                    attempt(client, "domain.destroy", dom=1)
            assert eventually(lambda: works(process)), f"{call} {nth}: {process.output()}"
            assert process.stop() == 0
            assert "Traceback" not in process.output(), f"{call} {nth}: {process.output()}"

# SPDX-License-Identifier: Apache-2.0
"""Connections that are never idle, in a process of their own. Usage: crowd.py PATH KIND N.

``batches`` maps a million frames again and again on each connection; ``describe`` keeps a hundred requests in flight.
The process lets others go first, so that what is measured beside it waits for the broker and not for this process.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
from array import array

from measure import call, request

N_FRAMES = 1 << 20
IN_FLIGHT = 100
# Every reply of these requests ends so: its last value is an empty or a short one.
READ_BYTES = 1 << 20


class Busy:
    """One connection: sends the same bytes again, as often as it has had answers for them."""

    def __init__(self, path: str, kind: str, number: int) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        if kind == "batches":
            address = call(self.sock, "mmap", len=N_FRAMES * 4096, prot=3)["addr"]
            arr = array("Q", range(N_FRAMES)).tobytes()
            self.message = memoryview(request("privcmd.mmapbatch_v2", dom=1, addr=address, arr=arr, extents=False))
            self.n_ahead = 1
        else:
            self.message = memoryview(request("describe"))
            self.n_ahead = IN_FLIGHT
        self.sock.setblocking(False)
        self.reply_bytes = 0
        self.left = memoryview(b"")
        self.n_read = 0
        self.number = number

    def go_on(self) -> None:
        """Send as much as fits; read what has come."""
        try:
            while self.n_ahead or self.left:
                if not self.left:
                    self.left = self.message
                    self.n_ahead -= 1
                self.left = self.left[self.sock.send(self.left) :]
        except BlockingIOError:
            pass
        try:
            self.n_read += len(self.sock.recv(READ_BYTES))
        except BlockingIOError:
            return
        while self.n_read >= self.reply_bytes:
            self.n_read -= self.reply_bytes
            self.n_ahead += 1


def reply_bytes(path: str, kind: str) -> int:
    """The size of one reply."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        if kind == "describe":
            sock.sendall(request("describe"))
        else:
            address = call(sock, "mmap", len=4096, prot=3)["addr"]
            arr = array("Q", [0]).tobytes()
            sock.sendall(request("privcmd.mmapbatch_v2", dom=1, addr=address, arr=arr, extents=False))
        sock.settimeout(1.0)
        n_bytes = 0
        try:
            while True:
                n_bytes += len(sock.recv(READ_BYTES))
        except TimeoutError:
            return n_bytes


def below() -> None:
    """Let the clients that are measured go first, under whichever policy this runs."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    else:
        os.nice(10)


def main(path: str, kind: str, n: int) -> None:
    """Connect, say so on standard output, and go on until killed."""
    below()
    size = reply_bytes(path, kind)
    selector = selectors.DefaultSelector()
    for number in range(n):
        busy = Busy(path, kind, number)
        busy.reply_bytes = size
        selector.register(busy.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, busy)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for key, _ in selector.select():
            busy = key.data
            busy.go_on()
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if busy.left or busy.n_ahead else 0)
            if key.events != wanted:
                selector.modify(busy.sock, wanted, busy)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

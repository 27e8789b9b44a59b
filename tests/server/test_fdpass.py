# SPDX-License-Identifier: Apache-2.0
"""Descriptors arrive with their message, never leak, never slip into children; identities are the kernel's."""

import array
import os
import socket
from collections.abc import Iterator

import pytest

from privcmdd.server import fdpass
from privcmdd.wire import limits
from support import descriptors

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def send_fds(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    """Send as a client would."""
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def n_open() -> int:
    """How many descriptors this process has."""
    return len(descriptors.open_now())


def test_descriptors_come_with_their_bytes_and_are_not_inherited(pair: Pair) -> None:
    """Up to the bound, in order, close-on-exec from the first moment."""
    ours, theirs = pair
    send_fds(theirs, b"abc", [theirs.fileno()] * limits.FDS_PER_MESSAGE)
    data, fds = fdpass.receive(ours, 100)
    inherited = [fd for fd in fds if os.get_inheritable(fd)]
    fdpass.close_all(fds)

    assert (data, len(fds), inherited) == (b"abc", limits.FDS_PER_MESSAGE, [])


def test_bytes_alone_bring_no_descriptors(pair: Pair) -> None:
    """The common case."""
    ours, theirs = pair
    theirs.send(b"abc")

    assert fdpass.receive(ours, 100) == (b"abc", ())
    with pytest.raises(BlockingIOError):
        fdpass.receive(ours, 100)


@pytest.mark.parametrize("n_fds", [limits.FDS_PER_MESSAGE + 1, 100, 253])
def test_more_descriptors_than_allowed_break_the_stream_and_leak_nothing(pair: Pair, n_fds: int) -> None:
    """The kernel says that it dropped some (MSG_CTRUNC); then none is kept."""
    ours, theirs = pair
    before = n_open()
    send_fds(theirs, b"abc", [theirs.fileno()] * n_fds)
    with pytest.raises(fdpass.DescriptorsLost):
        fdpass.receive(ours, 100)

    assert n_open() == before


def test_descriptors_go_with_the_first_byte_and_stay_ours(pair: Pair) -> None:
    """What is sent is a copy; the sender closes its own."""
    ours, theirs = pair
    n_sent = fdpass.send(ours, b"abc", [0, 1])
    data, fds, _, _ = socket.recv_fds(theirs, 1, 4)
    for fd in fds:
        os.close(fd)

    assert (n_sent, data, len(fds)) == (3, b"a", 2)
    os.fstat(0)


def test_the_identity_is_what_the_kernel_says(pair: Pair) -> None:
    """uid, gid, groups and pid of whoever made the other end."""
    found = fdpass.identity(pair[0])

    assert (found.uid, found.gid, found.pid) == (os.geteuid(), os.getegid(), os.getpid())
    assert found.groups == frozenset(os.getgroups())


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a peer of many groups; missing: root")
def test_a_thousand_groups_are_all_seen() -> None:
    """The first buffer is small; a user in many groups is not cut short."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(range(5000, 6000))
            one, other = socket.socketpair()
            with one, other:
                seen = fdpass.identity(one).groups
            os.write(writer, b"%d" % len(seen & set(range(5000, 6000))))
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    answer = os.read(reader, 100)
    os.close(reader)

    assert answer == b"1000"

# SPDX-License-Identifier: Apache-2.0
"""What is no message ends its own connection, and only that one; memory and descriptors stay bounded."""

from collections.abc import Iterator

import msgpack
import pytest

from hostile.conftest import Target
from support.bombs import BOMBS
from support.rawclient import RawClient

MIB = 1 << 20
PING = bytes(msgpack.packb([0, 7, "ping", [{}]]))


@pytest.fixture(scope="module")
def bystander(target: Target) -> Iterator[RawClient]:
    """An honest client who must be answered throughout."""
    with target.connect() as client:
        client.call("domain.create", kind="hvm", max_pages=16, dom=7)  # what is imported for it is in memory now
        yield client


def settled(bystander: RawClient, target: Target, n_fds: int) -> bool:
    """Whether the broker has closed all but so many descriptors, after at most a thousand turns of its loop.

    Fewer are fine: while it starts, it has files of modules open.
    """
    return any(bystander.call("ping") and target.n_fds <= n_fds for _ in range(1000))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_its_connection_only(name: str, target: Target, bystander: RawClient) -> None:
    """What came before it is answered, then the stream ends; the other client is served, memory is bounded."""
    data, _ = BOMBS[name]
    bystander.call("ping")
    before_bytes, n_fds = target.rss_bytes, target.n_fds

    with target.connect() as client:
        client.send(PING)
        client.send(data)
        assert client.message()[:3] == [1, 7, None]
        assert client.ended()

    assert bystander.call("ping")
    assert target.rss_bytes < before_bytes + 40 * MIB
    assert settled(bystander, target, n_fds)


def test_many_bombs_leave_nothing(target: Target, bystander: RawClient) -> None:
    """The whole corpus ten times over costs no more memory than once."""
    bystander.call("ping")
    n_fds = target.n_fds
    before_bytes = target.rss_bytes

    for _ in range(10):
        for data, _reason in BOMBS.values():
            with target.connect() as client:
                client.send(data)

    assert settled(bystander, target, n_fds)
    assert target.rss_bytes < before_bytes + 40 * MIB


@pytest.mark.parametrize("cut", range(len(PING)))
def test_half_a_message_and_then_the_end(cut: int, target: Target, bystander: RawClient) -> None:
    """A client that goes away inside a message leaves nothing behind."""
    n_fds = target.n_fds

    with target.connect() as client:
        client.send(PING + PING[:cut])
        assert client.message()[0] == 1

    assert settled(bystander, target, n_fds)


def test_a_byte_at_a_time(target: Target) -> None:
    """However a request is cut by the sender, it is answered as if it had come whole."""
    with target.connect() as client:
        for byte in PING * 3:
            client.send(bytes([byte]))
        assert [client.message()[:3] for _ in range(3)] == [[1, 7, None]] * 3


def test_who_asks_and_never_reads_is_bounded(target: Target, bystander: RawClient) -> None:
    """Its answers fill a bounded queue, then its requests are read no more; others are served meanwhile."""
    ask = bytes(msgpack.packb([0, 1, "describe", [{}]])) * 100
    bystander.call("ping")
    n_fds, before_bytes = target.n_fds, target.rss_bytes

    with target.connect() as client:
        client.flood(ask, 8 * MIB)
        assert bystander.call("ping")
        assert target.rss_bytes < before_bytes + 40 * MIB

    assert settled(bystander, target, n_fds)


def test_who_says_much_that_wants_no_answer_is_served(target: Target, bystander: RawClient) -> None:
    """Notifications that nobody knows are counted and ignored, a hundred thousand of them too."""
    with target.connect() as client:
        client.send(bytes(msgpack.packb([2, "nvim_set_client_info", ["x", {}]])) * 100_000)
        assert client.call("ping")
    assert bystander.call("ping")


def test_many_connections_with_half_a_large_message(target: Target, bystander: RawClient) -> None:
    """A declared length is not memory: only what was sent is kept."""
    bystander.call("ping")
    n_fds, before_bytes = target.n_fds, target.rss_bytes
    head = b"\x94\x00\x01\xa4ping\x91\x81\xa1a\xc6\x01\x00\x00\x00"  # a bin of 16 MiB
    clients = [target.connect() for _ in range(64)]
    for client in clients:
        client.send(head + bytes(1000))
    assert bystander.call("ping")
    assert target.rss_bytes < before_bytes + 40 * MIB
    for client in clients:
        client.close()
    assert settled(bystander, target, n_fds)

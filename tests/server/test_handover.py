# SPDX-License-Identifier: Apache-2.0
"""A broker that takes over from another one: guests, memory, events and the socket are the same; or nothing happens."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import pytest

from privcmd import Client, DomainInfo, PrivcmdError
from privcmd._calls import domain_memory
from support.kills import storm
from support.process import Process, eventually
from support.rawclient import Ended, RawClient, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
SMALL = "[machine]\nmemory_mib = 64\n"


@contextlib.contextmanager
def successor(of: Process, *args: str, config: str = SMALL) -> Iterator[Process]:
    """A broker that takes over from another one."""
    with Process("--take-over", *args, config=config, path=of.path) as process:
        yield process


@pytest.fixture(params=["in memfds", "in a directory"])
def keeping(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """How both brokers keep state."""
    return [] if request.param == "in memfds" else ["--set", f"server.state_dir={tmp_path}/state"]


def test_c7_guests_memory_events_rules_and_the_socket_are_passed_on(keeping: list[str]) -> None:
    """Promise C7: all is there under the next epoch; mapped memory and events are the same; the first one ends well."""
    with Process("--paranoid", *keeping, config=SMALL) as first:
        first.ready()
        with Client(first.path) as client:
            before = client.call("hello")
            for dom in (1, 2):
                client.domains.create("hvm", 64, dom=dom, ranges=[(1, 20)])
            port = client.events.alloc_unbound(2, on=1)
            other = client.events.bind_interdomain(1, port.port, on=2)
            select.select([other], [], [], 0)
            client.call("faults.add", frame_errno="EINVAL", keep=True, nth=7)
            about = ageless(client)
            fd = client.perform(domain_memory(1, write=True)).fd
            with mmap.mmap(fd, 21 * PAGE) as memory:
                memory[20 * PAGE : 20 * PAGE + 8] = b"remember"
                inode = Path(first.path).stat().st_ino
                with successor(first, "--paranoid", *keeping) as second:
                    second.ready()
                    assert first.wait() == 0
                    assert Path(first.path).stat().st_ino == inode
                    with Client(first.path) as again:
                        after = again.call("hello")
                        assert ageless(again) == about
                        mapped = again.call("mmap", len=PAGE, prot=3)["addr"]
                        again.call("privcmd.mmapbatch_v2", dom=1, addr=mapped, arr=[20])
                        again.call("write", addr=mapped, data=b"REMEMBER")
                        assert memory[20 * PAGE : 20 * PAGE + 8] == b"REMEMBER"
                        drain(other.fileno())
                        again.call("evtchn.notify", on=1, port=port.port)
                        assert select.select([other], [], [], 30)[0]
                        assert again.call("faults.list")["faults"][0]["rule"]["nth"] == 7
                    assert second.stop() == 0
                    assert not Path(first.path).exists()
            os.close(fd)
    assert (after["lineage"], after["epoch"]) == (before["lineage"], before["epoch"] + 1)
    assert after["instance"] != before["instance"]


def ageless(client: Client) -> DomainInfo:
    """What the broker says of domain 1, without how old it is."""
    about = client.domains.info(1, start=0, num=64)
    assert about.lease is not None
    del about.lease["age_s"]
    return about


def drain(fd: int) -> None:
    """Clear an event."""
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 8)


def test_c3_what_has_arrived_is_answered_and_who_comes_meanwhile_is_served_by_the_next(tmp_path: Path) -> None:
    """Promise C3: what was sent before is answered by the first broker, who connects later is served by the second.

    A client that wants to know it is told that nothing of what has no answer was done.
    """
    with Process(config=SMALL) as first:
        first.ready()
        with first.client() as client, first.client() as deaf:
            client.call("hello", features=["closing"])
            before = deaf.call("hello")
            for number in range(200):
                client.post("domain.create", [{"kind": "hvm", "max_pages": 1, "name": str(number)}])
            with successor(first) as second:
                said = []
                with contextlib.suppress(Ended):
                    while True:
                        said.append(client.message())
                answers = [message for message in said if message[0] == 1]
                assert said[-1] == [2, "closing", [{"why": "hand-over", "lineage": before["lineage"]}]]
                assert [message[2] for message in answers if message[2] is not None] == []
                assert deaf.ended()
                with RawClient(first.path) as late:
                    there = late.call("domain.list")["domains"]
                    assert late.call("hello")["epoch"] == 2
                assert len(there) == len(answers)
                assert first.wait() == 0
                assert second.ready().stop() == 0
    assert tmp_path.exists()


REFUSED: dict[str, tuple[list[str], str]] = {
    "another directory": (["--set", "server.state_dir={tmp}/other"], "has to go on in the same directory"),
    "another machine": (["--set", "machine.memory_mib=128"], "set machine.memory_mib back"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_successor_that_cannot_go_on_changes_nothing(name: str, tmp_path: Path) -> None:
    """It ends with 2 and says why; the first broker goes on with its guests, and another one can take over later."""
    args, text = REFUSED[name]
    with Process(config=SMALL) as first:
        first.ready()
        with first.client() as client:
            client.call("domain.create", kind="hvm", max_pages=4, dom=7)
        with successor(first, *(arg.format(tmp=tmp_path) for arg in args)) as second:
            assert second.wait() == 2
            assert text in second.output()
        with first.client() as client:
            assert [row["dom"] for row in client.call("domain.list")["domains"]] == [7]
        with successor(first) as third:
            third.ready()
            assert first.wait() == 0
            with third.client() as client:
                assert [row["dom"] for row in client.call("domain.list")["domains"]] == [7]
            third.stop()


@pytest.mark.parametrize("how", ["closes at once", "reads and closes", "sends something else"])
def test_a_successor_that_dies_leaves_the_first_broker_as_it_was(how: str) -> None:
    """Whenever it ends before it has said that it has everything: nobody has to know."""
    with Process(config=SMALL) as first:
        first.ready()
        with Client(first.path) as client:
            client.domains.create("hvm", 4, dom=7)
            with socket.socket(fileno=client.hand_over(1)) as ours:
                if how != "closes at once":
                    while "end" not in msgpack.unpackb(received(ours)):
                        pass
                if how == "sends something else":
                    ours.send(b"nothing")
        with first.client() as again:
            assert [row["dom"] for row in again.call("domain.list")["domains"]] == [7]
        assert eventually(lambda: "the other broker has not taken over; this one goes on" in first.events())
        assert first.stop() == 0


def received(sock: socket.socket) -> bytes:
    """A message, its descriptors closed."""
    data, fds, _, _ = socket.recv_fds(sock, 1 << 16, 253)
    for fd in fds:
        os.close(fd)
    return data


def test_who_may_not_administrate_cannot_take_over() -> None:
    """EPERM, and nobody's connection ends."""
    config = SMALL + f'[[access]]\nrights = "write"\nuids = [{os.getuid()}]\n'
    with Process(config=config) as first:
        first.ready()
        with first.client() as client:
            with pytest.raises(Refused, match="EPERM"):
                client.call("hand_over", form=1)
            with pytest.raises(Refused, match=r"EPROTONOSUPPORT|EPERM"):
                client.call("hand_over", form=2)
            assert client.call("ping")


def test_without_a_broker_there_is_nothing_to_take_over(tmp_path: Path) -> None:
    """Exit code 2, and a sentence with the path."""
    with Process("--take-over", path=str(tmp_path / "none")) as process:
        assert process.wait() == 2
        assert f"cannot take over from a broker at {tmp_path}/none: No such file or directory" in process.output()


def test_the_sockets_come_from_the_other_broker() -> None:
    """``--fd`` beside ``--take-over`` is an error that says so."""
    with Process("--take-over", "--fd", "7", listen=False) as process:
        assert process.wait() == 2
        assert "leave --fd out" in process.output()


def test_a_second_successor_is_refused_meanwhile() -> None:
    """EBUSY, while the first one has not said yet that it has everything."""
    with Process("--set", "server.drain_timeout_s=1000", config=SMALL) as first:
        first.ready()
        with Client(first.path) as client, Client(first.path) as other:
            os.close(client.hand_over(1))
            with pytest.raises(PrivcmdError, match=r"EBUSY|ECONNRESET|closed"):
                other.hand_over(1)
        assert eventually(lambda: "the other broker has not taken over; this one goes on" in first.events())
        assert first.stop() == 0


def test_sigterm_while_handing_over_stops(tmp_path: Path) -> None:
    """A successor that hangs does not keep the broker from ending: one SIGTERM is enough, two may arrive as one."""
    with Process(config=SMALL) as first:
        first.ready()
        with Client(first.path) as client, socket.socket(fileno=client.hand_over(1)):
            assert eventually(lambda: "handing over" in first.events())
            first.signal(signal.SIGTERM)
            assert first.wait() == 0
    assert tmp_path.exists()


def test_c8_under_load_nothing_that_was_answered_is_lost(tmp_path: Path) -> None:
    """Promise C8 for hand-overs: clients at work, brokers that follow each other, and no doubt about any request."""
    tally = storm(4, tmp_path / "state", how="take over")

    assert (tally.n_kills, tally.n_lost, tally.n_bytes_lost, tally.unanswered["done"]) == (4, 0, 0, 0)
    assert tally.n_answered > 0

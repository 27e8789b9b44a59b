# SPDX-License-Identifier: Apache-2.0
"""What a client held is given back before anybody who knows of its end is answered."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from privcmdd.server import hangups
from privcmdd.server.hangups import HangUps
from support.process import Process, eventually

TESTS = str(Path(__file__).resolve().parent.parent)
ROUNDS = 30
# Maps a frame, and holds it. It can be killed any time.
HOLDER = """
import sys, time
from support.rawclient import RawClient
client = RawClient(sys.argv[1])
addr = client.call("mmap", len=4096, prot=3)["addr"]
client.call("privcmd.mmapbatch_v2", dom=1, addr=addr, arr=[3])
print("mapped", flush=True)
time.sleep(3600)
"""


class Client:
    """A connection that ends some turns after it was told to, or when its owner likes."""

    def __init__(self, hang_ups: HangUps) -> None:
        self._hang_ups = hang_ups
        self.ours, self.theirs = socket.socketpair()
        self.n_told = 0
        hang_ups.join(self.ours, self)

    def give_up(self) -> None:
        """It is told that its client has hung up."""
        self.n_told += 1
        if self.n_told == 3:
            self.end()

    def end(self) -> None:
        """It ends."""
        self._hang_ups.leave(self.ours)
        self.ours.close()
        self.theirs.close()


async def test_all_others_that_have_hung_up_are_waited_for() -> None:
    """Law: ``ended`` returns when every other client that had hung up is closed; those that live do not matter."""
    hang_ups = HangUps()
    living, gone, asking = Client(hang_ups), Client(hang_ups), Client(hang_ups)
    assert not hang_ups.any()

    gone.theirs.close()
    assert hang_ups.any()
    await hang_ups.ended(asking)
    assert (gone.n_told, living.n_told, asking.n_told) == (3, 0, 0)
    assert not hang_ups.any()

    asking.theirs.close()
    gone_too = Client(hang_ups)
    gone_too.theirs.close()
    await hang_ups.ended(asking)
    assert (asking.n_told, gone_too.n_told) == (0, 0), "two that have hung up wait for each other"
    gone_too.end()
    living.theirs.shutdown(socket.SHUT_WR)
    await hang_ups.ended(asking)
    assert living.n_told == 0
    asking.end()
    living.end()
    hang_ups.close()


async def test_a_connection_that_does_not_end_holds_others_up_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Law: one that never ends, by a bug of ours, costs others a bounded time."""
    monkeypatch.setattr(hangups, "PATIENCE_S", 0.01)
    hang_ups = HangUps()
    stuck, asking = Client(hang_ups), Client(hang_ups)
    stuck.n_told = 3
    stuck.theirs.close()

    await hang_ups.ended(asking)

    assert stuck.n_told > 3
    for one in (stuck, asking):
        one.end()
    hang_ups.close()


@pytest.mark.parametrize("n_others", [0, 40])
def test_what_a_killed_process_held_is_gone_when_wait_returns(n_others: int) -> None:
    """Law: a domain whose last holder was killed is gone for whoever has waited for that process (C1)."""
    with Process() as process:
        process.ready()
        with process.client() as toolstack:
            others = [process.client() for _ in range(n_others)]
            for other in others:
                other.call("ping")
            for _ in range(ROUNDS):
                toolstack.call("domain.create", kind="hvm", max_pages=16, dom=1)
                with subprocess.Popen(
                    [sys.executable, "-c", HOLDER, process.path],
                    env={**os.environ, "PYTHONPATH": TESTS},
                    stdout=subprocess.PIPE,
                ) as holder:
                    assert holder.stdout is not None
                    assert holder.stdout.readline() == b"mapped\n"
                    assert toolstack.call("domain.destroy", dom=1)["state"] == "dying"
                    holder.kill()
                    holder.wait()
                    assert toolstack.call("domain.list")["domains"] == []
            for other in others:
                other.close()


def test_a_killed_process_that_waits_for_its_turn_is_gone_too() -> None:
    """Law: also a client whose request waits, here in a delay, is ended before others are answered."""
    with Process() as process:
        process.ready()
        with process.client() as toolstack:
            toolstack.call("faults.add", method="ping", delay_ms=60_000)
            waiting = process.client()
            waiting.post("ping", [])
            assert eventually(lambda: toolstack.call("stats")["broker"]["connections"] == 2)
            waiting.close()
            assert toolstack.call("stats")["broker"]["connections"] == 1

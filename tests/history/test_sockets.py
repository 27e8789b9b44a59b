# SPDX-License-Identifier: Apache-2.0
"""A real broker, real sockets, clients that run at once and some of which break off: what they saw has an order."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from history.record import Recorder, Setting
from history.replay import check
from history.workload import Workload
from support.process import Process
from support.profiles import PROFILE

if TYPE_CHECKING:
    from support.rawclient import RawClient

CONFIG = """
[machine]
memory_mib = 8
domains = 8
gfns_per_domain = 4096

[limits]
slice_frames = 16
"""
SETTING = Setting(n_frames=8 * 256, max_gfns=4096, max_domains=8, slice_frames=16)
N_CLIENTS, N_ROUNDS = 6, 40 if PROFILE.name == "default" else 400


class Client:
    """A connection that writes down what it says and hears."""

    def __init__(self, raw: RawClient, number: int, recorder: Recorder, workload: Workload) -> None:
        self.raw, self.number, self.recorder, self.workload = raw, number, recorder, workload
        assert raw.call("hello", protocol=[1], features=["seq"], client=f"{number}")["features"] == ["seq"]

    def ask(self, requests: list[tuple[str, dict[str, Any]]]) -> None:
        """Send requests, all at once, and hear what comes back."""
        sent = [(*request, self.recorder.send(self.number, *request)) for request in requests]
        self.raw.send(b"".join(msgpack.packb([0, index, method, [params]]) for method, params, index in sent))
        for method, params, index in sent:
            _, msgid, error, result = self.raw.message()
            assert msgid == index
            self.recorder.receive(index, error, result)
            if error is None:
                self.workload.heard(method, params, result)

    def break_off(self, requests: list[tuple[str, dict[str, Any]]]) -> None:
        """Send requests and go without waiting for what comes back."""
        for method, params in requests:
            index = self.recorder.send(self.number, method, params)
            self.raw.send(msgpack.packb([0, index, method, [params]]))
        self.recorder.end(self.number)
        self.raw.close()

    def live(self, seed: int, breaks_off: bool) -> None:
        """Ask for this and that, some requests in one go."""
        chance = random.Random(seed)
        for _ in range(N_ROUNDS):
            self.ask([self.workload.request(chance.randrange) for _ in range(chance.choice((1, 1, 1, 2, 4)))])
        if breaks_off:
            self.break_off([self.workload.request(chance.randrange)])


@pytest.mark.parametrize("seed", range(3))
def test_clients_at_once_see_one_order(seed: int) -> None:
    """Six clients, two of them threads of one space, one of which breaks off: the history is that of a right broker."""
    recorder, workload = Recorder(SETTING), Workload()
    with Process("--paranoid", config=CONFIG) as process:
        process.ready()
        clients = [Client(process.client(), n, recorder, workload) for n in range(1, N_CLIENTS + 1)]
        clients[0].ask(workload.setup())
        for client in clients[:-1]:
            client.ask(workload.greet(client.number + seed))
        clients[-1].ask([("space.attach", {"space": N_CLIENTS - 1})])
        threads = [
            threading.Thread(target=client.live, args=(100 * seed + client.number, client is clients[1]))
            for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clients[0].ask([("stats", {}), ("domain.list", {})])
        for client in clients:
            client.raw.close()
        assert process.stop() == 0
    history = recorder.history()
    summary = check(history)
    assert summary.undecided is None
    assert summary.n_steps > N_CLIENTS * N_ROUNDS
    assert any(record.slices for record in history.records)

# SPDX-License-Identifier: Apache-2.0
"""What simulated runs have found, each as the smallest case that shows it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.units import DOMID_IO
from privcmdd.service.machine_files import VECTORS
from sim import faults
from sim.stage import Stage
from support import descriptors
from support.desk import BASE, PAGE, USER, Desk, Refused, finish, frames, result, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.client import Client


def die(_: Stage, client: Client) -> None:
    """Hang up before anything is answered."""
    faults.hang_up(client)


def stop(stage: Stage, client: Client) -> None:
    """Read nothing, so that answers wait, until the broker ends the connection."""
    client.end.room_bytes = 4
    stage.run_all()
    assert client.task.wait is not None
    assert client.task.wait.what == "event"
    faults.cancel(stage, client)


@pytest.mark.parametrize("ends", [die, stop])
def test_a_descriptor_is_closed_when_the_answers_before_it_cannot_be_sent(
    ends: Callable[[Stage, Client], None],
) -> None:
    """``domain.memory`` behind another request, to a client that dies or a broker that is told to end at once."""
    with Stage(settings(connection_queued_bytes=8)) as stage:
        client = stage.client(USER)
        stage.ask(client, "domain.create", kind="hvm", max_pages=16, dom=1)
        before = descriptors.open_now()
        stage.say(client, "ping")
        stage.say(client, "domain.memory", dom=1)

        ends(stage, client)
        stage.run_all()

        assert client.task.done
        assert descriptors.left_since(before) == {}


def test_a_batch_gives_back_what_it_took_when_the_answers_before_it_cannot_be_sent() -> None:
    """It has begun when the broker finds that it must wait, and is told to end meanwhile."""
    with Stage(settings(connection_queued_bytes=8)) as stage:
        client, thread = stage.client(USER), stage.client(USER)
        stage.ask(client, "domain.create", kind="hvm", max_pages=64, dom=1, ranges=[{"gfn": 0, "npages": 64}])
        space = stage.ask(client, "space.attach")["space"]
        stage.ask(client, "mmap", addr=BASE, len=64 * PAGE, prot=3, fixed=True)
        stage.ask(thread, "space.attach", space=space)
        stage.say(client, "ping")
        stage.say(client, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(*range(64)))

        stop(stage, client)

        stage.check()
        assert stage.ask(thread, "stats")["space"]["waiting"] == 0
        assert stage.ask(thread, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1])["n_failed"] == 0


@pytest.mark.parametrize("method", ["privcmd.mmap", "privcmd.mmapbatch", "privcmd.mmapbatch_v2"])
def test_no_page_is_mapped_when_the_host_has_no_file_for_it(method: str) -> None:
    """I/O frames have a file of their own, made when they are first mapped: when it cannot be had, nothing changes."""
    desk = Desk()
    session = desk.connect()
    desk.call(session, "space.attach", personality="linux")
    desk.reserve(session, 2)
    params: dict[str, Any] = {"addr": BASE, "arr": frames(0, 1)}
    if method == "privcmd.mmap":
        params = {"entry": [{"va": BASE, "mfn": 0, "npages": 2}]}
    desk.backing.broken = ModelError(errno.ENOMEM, "no file")

    with pytest.raises(Refused, match="ENOMEM"):
        desk.call(session, method, dom=DOMID_IO, **params)

    assert desk.call(session, "stats")["mappings"]["frames"] == 0
    desk.call(session, method, dom=DOMID_IO, **params)
    assert desk.call(session, "read", addr=BASE, len=4)["data"] == VECTORS[:4]


def test_merged_entries_stay_paid_for_while_the_next_is_prepared() -> None:
    """The first cuts the map in three, both together only in two: what the first needs alone is not given away.

    The second is bad in the end, and somebody else has asked for an entry meanwhile.
    """
    desk = Desk(settings(entries=4))
    session, other = desk.connect(), desk.connect()
    dom = desk.domain(session, ranges=[{"gfn": 0, "npages": 32}])
    desk.call(session, "space.attach", personality="uvm", merge=True)
    desk.reserve(session, 64)
    desk.reserve(other, 1)
    entries = [(16, 0, 16), (32, 0, 32)]
    desk.call(session, "domain.decrease_reservation", dom=dom, arr=[31])
    request = desk.start(
        session,
        "privcmd.mmap",
        dom=dom,
        entry=[{"va": BASE + at * PAGE, "mfn": mfn, "npages": n} for at, mfn, n in entries],
    )
    for _ in range(10):  # two frames a step
        assert next(request) is None

    with pytest.raises(Refused, match="EDQUOT"):
        desk.call(other, "mmap", addr=BASE + 64 * PAGE, len=PAGE, prot=1, fixed=True)
    with pytest.raises(Refused) as refused:
        result(finish(request))

    assert refused.value.details["done"] == 1
    assert len(desk.call(session, "maps")["entries"]) == 3

# SPDX-License-Identifier: Apache-2.0
"""The face for trio: the same names, and what cancellation leaves behind."""

from __future__ import annotations

import errno
import inspect
import os
from typing import TYPE_CHECKING

import pytest
import trio

import privcmd.trio
from privcmd import PAGE_SIZE, BrokerGone, Client, FrameError, NoBroker, PrivcmdError
from privcmd._methods import Domains, Events
from privcmd.broker import PrivateBroker
from privcmd.faults import AsyncFaults, Faults
from privcmd.trio import AsyncClient, AsyncForeignMemory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ABSENT = 17
GUARD_S = 60


@pytest.fixture
async def aclient(broker: PrivateBroker) -> AsyncIterator[AsyncClient]:
    """A connection for tasks."""
    async with AsyncClient(broker.path) as connected:
        yield connected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (AsyncClient, privcmd.Client),
        (AsyncForeignMemory, privcmd.ForeignMemory),
        (privcmd.trio.AsyncDomains, Domains),
        (privcmd.trio.AsyncEvents, Events),
        (AsyncFaults, Faults),
    ],
    ids=["client", "foreign", "domains", "events", "faults"],
)
def test_both_faces_have_the_same_names(ours: type, theirs: type) -> None:
    """Law: whatever one face can do the other can, with the same parameters."""
    public = {name for name in dir(theirs) if not name.startswith("_")} - {"ask", "fileno", "timeout_s"}
    public -= {"close"} if theirs is not Events else set()

    assert public <= set(dir(ours)) | {"aclose"}
    for name in public:
        member = getattr(theirs, name)
        if callable(member) and name != "exchange":
            assert list(inspect.signature(getattr(ours, name)).parameters) == list(inspect.signature(member).parameters)


async def test_tasks_map_guest_memory(client: Client, guest: int, aclient: AsyncClient) -> None:
    """Law: mapping, replacing, keeping errors and closing do what they do in the blocking face."""
    with trio.fail_after(GUARD_S):
        async with AsyncForeignMemory(aclient) as foreign:
            async with await foreign.map(guest, [1, 2, 3]) as mapping, await foreign.map(guest, [3]) as third:
                mapping[2 * PAGE_SIZE] = 3
                assert third[0] == 3
                same = await foreign.map(guest, [5], addr=mapping.address)
                assert same is mapping
                assert await aclient.read(mapping.address, len(mapping)) == mapping[:]
                with pytest.raises(FrameError, match="EINVAL"):
                    await foreign.map(guest, [1, ABSENT])
            kept = await foreign.map(guest, [ABSENT, 1], errors="keep")
            assert list(kept.errors) == [-errno.EINVAL, 0]
            area = await foreign.reserve(2)
            assert list(await foreign.mmapbatch_v2(guest, area.address, [1, ABSENT])) == [0, -errno.EINVAL]
            await foreign.mmap_entries(guest, [(area.address, 4, 2)])
            assert list(await foreign.mmapbatch(guest, area.address, [7])) == [7]
            kept.close()
            assert foreign.mappings() == [area]
        assert (await aclient.stats())["mappings"]["frames"] == 0
        assert client.stats()["objects"]["alive"] == 0


async def test_tasks_take_turns(guest: int, aclient: AsyncClient) -> None:
    """Law: many tasks on one connection each get their own answers, and replacements keep one order."""
    async with AsyncForeignMemory(aclient) as foreign:
        whole = await foreign.map(guest, range(20, 36))
        for page in range(16):
            whole[page * PAGE_SIZE] = page + 20
        target = await foreign.map(guest, [20])

        async def ask(number: int) -> None:
            for _ in range(10):
                addr = whole.address + number * PAGE_SIZE
                assert await aclient.read(addr, 1) == bytes([number + 20])
                await foreign.map(guest, [20 + number], addr=target.address)

        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery:
                for number in range(16):
                    nursery.start_soon(ask, number)
        assert await aclient.read(target.address, 1) == target[:1] == bytes([target.gfns[0]])


async def test_a_cancelled_call_leaves_the_stream_in_step(guest: int, aclient: AsyncClient) -> None:
    """Law: wherever a call is cancelled, the next one gets its own answer, and no descriptor is kept."""
    for n_checkpoints in range(6):
        scope = trio.CancelScope()

        async def call(scope: trio.CancelScope = scope) -> None:
            with scope:
                memory = await aclient.domains.memory(guest)
                os.close(memory.fd)

        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                for _ in range(n_checkpoints):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
            assert (await aclient.domains.info(guest)).dom == guest
    assert not aclient.closed


async def test_a_mapping_is_not_cancelled_half_way(guest: int, aclient: AsyncClient) -> None:
    """Law: a cancelled map either never began or is wholly undone or wholly made; nothing leaks."""
    async with AsyncForeignMemory(aclient) as foreign:
        for n_checkpoints in range(6):
            scope = trio.CancelScope()

            async def call(scope: trio.CancelScope = scope) -> None:
                with scope:
                    await (await foreign.map(guest, range(20, 40))).aclose()

            with trio.fail_after(GUARD_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call)
                    for _ in range(n_checkpoints):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
                await foreign.settle()
                assert (await aclient.stats())["mappings"]["frames"] == 0


async def test_waiting_for_paged_frames_can_be_cancelled(guest: int, aclient: AsyncClient) -> None:
    """Law: a map that waits for a pager that never comes can be cancelled, and is undone."""
    await aclient.domains.page_out(guest, [2])
    async with AsyncForeignMemory(aclient) as foreign:
        with trio.fail_after(GUARD_S):
            with trio.move_on_after(0.02) as scope:
                await foreign.map(guest, [1, 2], paged_retries=10**9)
            assert scope.cancelled_caught
            assert (await aclient.stats())["mappings"]["frames"] == 0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(aclient.domains.page_in, guest, [2])
                await (await foreign.map(guest, [1, 2], paged_retries=10**9)).aclose()


async def test_a_pipeline_larger_than_the_buffers(guest: int, aclient: AsyncClient) -> None:
    """Law: sending and receiving go on together, so that neither side can block the other."""
    async with AsyncForeignMemory(aclient) as foreign:
        mapping = await foreign.map(guest, range(20, 36))
        requests = [
            request
            for n in range(64)
            for request in (
                ("write", {"addr": mapping.address, "data": bytes([n]) * len(mapping)}),
                ("read", {"addr": mapping.address, "len": len(mapping)}),
            )
        ]
        with trio.fail_after(GUARD_S):
            answers = await aclient.call_many(requests)
    assert [answer["data"][-1] for answer in answers[1::2]] == list(range(64))


async def test_errors_are_raised_and_unraised(aclient: AsyncClient) -> None:
    """Law: a refused call raises, in call_many its error stands in its place."""
    with pytest.raises(PrivcmdError, match="ENOSYS"):
        await aclient.call("no.such")
    refused, answered = await aclient.call_many([("no.such", {}), ("ping", {})])
    assert isinstance(refused, PrivcmdError)
    assert answered["instance"] == await aclient.ping()


async def test_notices_arrive_with_answers(client: Client, aclient: AsyncClient) -> None:
    """Law: after subscribe, changes of domains are told before later answers."""
    assert await aclient.subscribe("domain") == ["domain"]
    domid = client.domains.create("hvm", 1)
    client.domains.destroy(domid)
    await aclient.ping()

    states = [notice.body["state"] for notice in aclient.notices if notice.body["dom"] == domid]
    assert states[-1] == "gone"


async def test_when_the_broker_goes() -> None:
    """Law: nobody there is NoBroker, gone is BrokerGone for all who wait and all who come."""
    with PrivateBroker() as broker:
        async with AsyncClient(broker.path) as client, AsyncForeignMemory(client) as foreign:
            guest = await client.domains.create("hvm", 1)
            mapping = await foreign.map(guest, [0])
            broker.kill()
            with trio.fail_after(GUARD_S):
                with pytest.raises(BrokerGone):
                    await client.ping()
                with pytest.raises(BrokerGone):
                    await foreign.map(guest, [0])
            mapping[0] = 1
            await mapping.aclose()
        with pytest.raises(NoBroker, match="ECONNREFUSED"):
            async with AsyncClient(broker.path):
                pass
    with pytest.raises(BrokerGone, match="not connected"):
        await AsyncClient(broker.path).ping()


def test_the_former_name_goes_on_working() -> None:
    """Law: ``privcmd.aio`` has what ``privcmd.trio`` has."""
    import privcmd.aio  # noqa: PLC0415 - beside the other, as a program that has not followed yet

    assert privcmd.aio.__all__ == privcmd.trio.__all__
    assert all(getattr(privcmd.aio, name) is getattr(privcmd.trio, name) for name in privcmd.trio.__all__)

# SPDX-License-Identifier: Apache-2.0
"""Guests and device models that write rubbish where they meet, or die there, harm themselves and nobody else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privcmd import Client, PrivateBroker
from privcmd.errors import PrivcmdError
from privcmd.guest import Guest
from privcmd.guest._ioreq import BITS_OFFSET, IoreqState
from support.device_model import PORT, DeviceModel
from support.profiles import PROFILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmd.evtchn import EventChannel

GUARD_S = 60
PAGE = 4096
HOSTILE, HONEST = 1, 2
CONFIG = "[machine]\nmemory_mib = 64\n"
RUBBISH = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0, 4, 8, 16, 24, 30, 31, 4000]), st.binary(min_size=1, max_size=96)),
    max_size=4,
)
LAW = settings(PROFILE.law, suppress_health_check=[HealthCheck.function_scoped_fixture])
# A device model in a process of its own, which never answers.
SILENT = """
import sys
from support.device_model import PORT, DeviceModel

class Here:
    path = sys.argv[1]

model = DeviceModel(Here, 1)
model.claim(PORT, 0x60, 0x6F)
model.silent = True
with model:
    print("ready", flush=True)
    sys.stdin.read()
"""


class Writer(DeviceModel):
    """A device model that answers, and writes rubbish into both pages before.

    Attributes:
        rubbish: (page, offset, bytes) each; page 0 is the one of buffered requests.
    """

    rubbish: list[tuple[int, int, bytes]]

    def _answer(self, channel: EventChannel) -> None:
        if self._page[BITS_OFFSET] & 0xF != IoreqState.READY:
            return
        for page, offset, data in self.rubbish:
            (self._buffers, self._page)[page][offset : offset + len(data)] = data[: PAGE - offset]
        self._page[BITS_OFFSET] = self._page[BITS_OFFSET] & 0xF0 | IoreqState.ANSWERED
        channel.notify()

    def _drain(self) -> None:
        """Rubbish is not looked at."""


class Pair:
    """A guest with its device model, in use throughout."""

    def __init__(self, broker: PrivateBroker) -> None:
        self.model = DeviceModel(broker, HONEST)
        self.model.claim(PORT, 0x60, 0x6F)
        self.guest = Guest(HONEST, Client(broker.path), timeout_s=GUARD_S)
        self._n = 0

    def works(self) -> bool:
        """Whether what the guest writes to a port and to its memory is there; every law is held against the state."""
        self._n += 1
        self.guest.port_write(0x60, self._n, 4)
        self.guest.write(0x3000, b"%d" % self._n)
        broker = self.guest.client.stats()["broker"]
        assert (broker["faults"], broker["broken"]) == (0, {})
        return self.guest.port_read(0x60, 4) == self._n and self.guest.read(0x3000, 9).startswith(b"%d" % self._n)


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateBroker]:
    """A broker that checks every law after each request, and two domains."""
    with PrivateBroker(CONFIG, ("--paranoid",)) as private:
        with Client(private.path) as client:
            for dom in (HOSTILE, HONEST):
                client.domains.create("hvm", 64, ranges=[(0, 32)], dom=dom)
        yield private
        assert private.terminate() == 0, private.output


@pytest.fixture(scope="module")
def pair(broker: PrivateBroker) -> Iterator[Pair]:
    """The honest ones."""
    made = Pair(broker)
    with made.model, made.guest.client, made.guest:
        assert made.works()
        yield made


@pytest.fixture(scope="module")
def writer(broker: PrivateBroker, pair: Pair) -> Iterator[tuple[Writer, Guest]]:
    """The hostile device model, and its guest."""
    assert pair.works()
    model = Writer(broker, HOSTILE)
    model.claim(PORT, 0x60, 0x6F)
    model.claim(1, 0xA0000, 0xBFFFF)
    with model, Client(broker.path) as client, Guest(HOSTILE, client, timeout_s=GUARD_S) as guest:
        model.rubbish = []
        guest.port_read(0x60)
        yield model, guest


@given(RUBBISH, st.sampled_from([1, 2, 4, 8]))
@LAW
def test_rubbish_of_a_device_model(
    writer: tuple[Writer, Guest], pair: Pair, rubbish: list[tuple[int, int, bytes]], size: int
) -> None:
    """Its own guest reads numbers of the size that it asked for, whatever they are; the others notice nothing."""
    model, guest = writer
    model.rubbish = rubbish

    assert 0 <= guest.port_read(0x60, size) < 1 << 8 * size
    assert guest.buffered_write(0xA0000, 1) in (True, False)
    assert guest.port_read(0x60, size) >= 0
    assert pair.works()


@given(RUBBISH)
@LAW
def test_rubbish_of_a_guest(writer: tuple[Writer, Guest], pair: Pair, rubbish: list[tuple[int, int, bytes]]) -> None:
    """What the broker says of a server does not come from its pages; one that is enabled finds its port there again."""
    model, guest = writer
    before = guest.client.ioreq_servers(HOSTILE)
    (server,) = before
    for page, offset, data in rubbish:
        (model._buffers, model._page)[page][offset : offset + len(data)] = data[: PAGE - offset]

    for enabled in (0, 1):
        model.op(5, "<HBB", model.id, enabled, 0)
    assert int.from_bytes(model._page[24:28], "little") == server.ports[0]
    model._page[BITS_OFFSET] = IoreqState.NONE
    assert guest.client.ioreq_servers(HOSTILE) == before
    assert guest.port_read(0x60) <= 0xFF
    assert pair.works()


def held(broker: PrivateBroker, client: Client) -> object:
    """What the broker holds."""
    stats = client.stats()
    n_fds = len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))
    return stats["mappings"], stats["uids"], stats["objects"]["alive"], n_fds


def test_one_that_dies_in_the_middle_of_a_request(broker: PrivateBroker, pair: Pair) -> None:
    """Its guest is told which request waits for whom; what it had is given back; another one takes over."""
    tests = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-c", SILENT, broker.path]
    environment = {**os.environ, "PYTHONPATH": tests}
    with Client(broker.path) as client, Guest(HOSTILE, client, timeout_s=0.2) as guest:
        guest.read(0, 1)  # has an address space from now on
        before = held(broker, client)
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as model:
            assert model.stdout is not None
            assert model.stdout.readline() == b"ready\n"
            number = max(server.id for server in client.ioreq_servers(HOSTILE))
            with pytest.raises(PrivcmdError, match="PIO read at 0x60") as refused:
                guest.port_read(0x60)
            model.kill()
            with pytest.raises(PrivcmdError, match="an earlier request that was given up") as again:
                guest.port_read(0x60)
            for told in (refused.value, again.value):
                assert told.errno == errno.ETIMEDOUT
                assert f"from ioreq server {number} of domain {HOSTILE} has not come within 0.2 s" in str(told)
        assert pair.works()

        heir = DeviceModel(broker, HOSTILE)
        heir.claim(PORT, 0x60, 0x6F)
        with heir:
            guest.port_write(0x60, 7)
            assert guest.port_read(0x60) == 7
        for server in (number, heir.id):
            pair.model.client.dm_op(HOSTILE, [bytes([6] + 7 * [0] + [server] + 7 * [0])])
        guest.close()
        assert any(held(broker, client) == before for _ in range(1000)), (held(broker, client), before)
    assert pair.works()

# SPDX-License-Identifier: Apache-2.0
"""Requests of a guest to its device model, and DMA into its memory, beside the same without anything of Xen's.

The guest is a C program on one processor, device models, broker and xenstored are on the other.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from measure import on_cpus

from privcmd import Client, PrivcmdError
from privcmd.guest import Guest, bdf
from privcmd.run import _qemu as qemu
from privcmd.run import host

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).resolve().parent
CLIENT: Final = HERE.parent / "clients" / "c"
CPU: Final = 1  # of device models and all that they need
BARE: Final = "bare device model: two processes, two eventfds"
DOM: Final = 1
N_CALLS: Final = 2000
PAGE: Final = 4096
ADDRESS: Final = 0x7000_0000
SECTOR: Final = 512
LAST: Final = 0x8000  # of a table of transfers
N_PAGES: Final = 16_384
MIB: Final = 1 << 20
LARGE: Final = 16 * MIB
PIECE: Final = 1 << 16
BUCKETS: Final = range(2, 2 + 28)  # MiB of guest memory, each in a bucket of QEMU's map cache
TABLES: Final = 0x8000
SECTORS_PORT: Final = 0x1F2
IDE: Final = bdf(1, 1)


def rows(n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: what, figure, ratio, goal."""
    try:
        qemu.find()
    except PrivcmdError as missing:
        yield "requests to a device model", f"not measured: {missing}", "", ""
        return
    with tempfile.TemporaryDirectory(prefix="pb-") as directory:
        program = Path(directory) / "ioreq"
        disk = Path(directory) / "disk"
        disk.write_bytes(os.urandom(LARGE))
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-o", program, HERE / "ioreq.c"], check=True)
        subprocess.run(["make", "-s", "-C", CLIENT, f"BUILD={directory}"], check=True)
        os.environ["PRIVCMDD_PRELOAD"] = f"{directory}/libprivcmdd-preload.so"
        yield from measured(program, disk, n_rounds)


def measured(program: Path, disk: Path, n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """All contestants, on two processors and on one."""
    taken: dict[tuple[str, int], int] = {}
    cpus = {"two cores": 0, "one core": CPU}

    def reads(who: str, vcpu: Vcpu) -> None:
        for cpu in cpus.values():
            words = (*vcpu.words, SECTORS_PORT, N_CALLS, n_rounds)
            taken[who, cpu] = run(program, "reads", *words, fds=vcpu.fds, cpu=cpu)["read"]

    for cpu in cpus.values():
        taken[BARE, cpu] = run(program, "bare", CPU, N_CALLS, n_rounds, cpu=cpu)["read"]
    with machine() as up, serving(program, up.client) as vcpu:
        reads("the same through /dev/xen/evtchn", vcpu)
    with machine("-drive", f"file={disk},format=raw,if=ide,snapshot=on") as up:
        prepare(up.client)
        with playing(up.client) as vcpu:
            before = n_requests(up.client)
            reads("QEMU: read of an IDE port", vcpu)
            meanwhile = n_requests(up.client) - before - 1
            for where, cpu in cpus.items():
                for (who, on), ns in taken.items():
                    if on == cpu:
                        figure = f"{ns / 1000:.1f} us, {1e9 / ns:,.0f} a second"
                        yield f"{who}, {where}", figure, f"{ns / taken[BARE, cpu]:.2f} x bare", ""
            yield f"requests to the broker in {2 * N_CALLS * (n_rounds + 1):,} reads of QEMU", f"{meanwhile}", "", "0"
            yield from transfers(program, up.client, vcpu, disk, n_rounds)


def transfers(
    program: Path, client: Client, vcpu: Vcpu, disk: Path, n_rounds: int
) -> Iterator[tuple[str, str, str, str]]:
    """DMA, large and small."""
    plain = run(program, "pread", disk, LARGE, n_rounds)["pread"]
    table = TABLES + 16 * len(BUCKETS)
    ns = run(program, "large", *vcpu.words, table, LARGE // SECTOR, n_rounds, fds=vcpu.fds)["large"]
    rate, plain_rate = (LARGE / MIB / (one / 1e9) for one in (ns, plain))
    yield f"pread of {LARGE // MIB} MiB into shared memory", f"{plain_rate:,.0f} MiB/s", "1 x pread", ""
    yield f"QEMU: DMA of {LARGE // MIB} MiB into guest memory", f"{rate:,.0f} MiB/s", f"{ns / plain:.2f} x pread", ""
    n_transfers = len(BUCKETS) * (n_rounds + 1)
    hit = 0
    for what, empty in (("its MiB mapped already", 0), ("its MiB to be mapped first", 1)):
        before = n_requests(client)
        words = (*vcpu.words, TABLES, len(BUCKETS), empty, n_rounds)
        ns = run(program, "small", *words, fds=vcpu.fds)["small"]
        asked = (n_requests(client) - before - 1) / n_transfers
        hit = hit or ns
        figure = f"{ns / 1000:.0f} us, {asked:.1f} requests to the broker"
        yield f"QEMU: DMA of one sector, {what}", figure, f"{ns / hit:.1f} x mapped", ""


@dataclass(frozen=True)
class Vcpu:
    """What it takes to be a vcpu of a guest: the page of requests, and its port's events.

    Attributes:
        words: Arguments of the C program.
        fds: Descriptors that they name.
    """

    words: tuple[str, ...]
    fds: tuple[int, ...]


@contextlib.contextmanager
def playing(client: Client) -> Iterator[Vcpu]:
    """Be the first vcpu of the only guest, for its only device model."""
    (server,) = client.ioreq_servers(DOM)
    client.mmap(ADDRESS, PAGE, 3, fixed=True)
    extents = client.mmap_resource(DOM, 0, server.id, idx=1, num=1, addr=ADDRESS, extents=True)["extents"]
    client.munmap(ADDRESS, PAGE)
    _, file_page, _ = struct.unpack("<3I", extents)
    fd = client.domains.memory(DOM, write=True).fd
    try:
        with client.events.attach(server.ports[0], on=DOM) as channel:
            fds = (fd, *channel.fds)
            yield Vcpu((f"{fd}:{file_page * PAGE}", *map(str, channel.fds)), fds)
    finally:
        os.close(fd)


@contextlib.contextmanager
def serving(program: Path, client: Client) -> Iterator[Vcpu]:
    """The C program as device model of one port."""

    def op(number: int, layout: str, *values: int) -> bytes:
        done, buffers = client.dm_op(DOM, [struct.pack("<II", number, 0) + struct.pack(layout, *values)])
        assert done == 0
        return buffers[0]

    (number,) = struct.unpack_from("<H", op(1, "<B3xH2x", 0, 0), 12)
    op(5, "<HBB", number, 1, 0)
    (server,) = client.ioreq_servers(DOM)
    env = {**os.environ, "LD_PRELOAD": os.environ["PRIVCMDD_PRELOAD"], "PRIVCMDD_SOCKET": client.path}
    with playing(client) as vcpu, on_cpus({CPU}):
        command = [str(program), "model", vcpu.words[0], str(DOM), str(server.ports[0])]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, pass_fds=vcpu.fds) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                yield vcpu
            finally:
                process.kill()


@contextlib.contextmanager
def machine(*device_model: str) -> Iterator[host.Host]:
    """A guest of 64 MiB, with a QEMU when there are arguments for one."""
    with contextlib.ExitStack() as stack:
        with on_cpus({CPU}):
            guests = [host.DomainConfig("hvm", N_PAGES)]
            up = stack.enter_context(host.running(guests, store=bool(device_model), device_model=device_model or None))
        yield up


def prepare(client: Client) -> None:
    """Set the controller up, and have tables of transfers in the guest's memory: of a sector each, and a large one."""
    with Guest(DOM, Client(client.path)) as guest:
        guest.pci_write(IDE, 0x20, 0xC000 | 1)
        guest.pci_write(IDE, 4, 5, 2)
        small = b"".join(struct.pack("<IHH8x", bucket * MIB, SECTOR, LAST) for bucket in BUCKETS)
        first = BUCKETS[0] * MIB
        pieces = [struct.pack("<IHH", at, 0, 0) for at in range(first, first + LARGE - PIECE, PIECE)]
        large = b"".join([*pieces, struct.pack("<IHH", first + LARGE - PIECE, 0, LAST)])
        guest.write(TABLES, small + large)


def n_requests(client: Client) -> int:
    """How many requests the broker has had."""
    number: int = client.stats()["broker"]["requests"]
    return number


def run(program: Path, *words: object, fds: tuple[int, ...] = (), cpu: int = 0) -> dict[str, int]:
    """The C program as a guest; what it has measured."""
    with on_cpus({cpu}):
        done = subprocess.run(
            [program, *map(str, words)], stdout=subprocess.PIPE, text=True, check=True, timeout=120, pass_fds=fds
        )
    return {name: int(value) for name, value in map(str.split, done.stdout.splitlines())}

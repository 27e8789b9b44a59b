# SPDX-License-Identifier: Apache-2.0
"""QEMU's Xen device model, unmodified: a scripted guest uses its devices, which do DMA into guest memory."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from privcmd.errors import PrivcmdError
from privcmd.guest import Guest, bdf
from privcmd.run import _qemu as qemu
from privcmd.run import host
from programs import ide, virtio
from programs.programs import GUARD_S, needs, run, sections

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from privcmd.run.host import Host

N_PAGES = 8192
PAGE = 4096
DISK_BYTES = 1 << 20
CONTENT = random.Random(1).randbytes(DISK_BYTES)
VGA, BLOCK = bdf(3), bdf(4)
FRAMEBUFFER, ROM, BLOCK_PORTS = 0xF000_0000, 0xF100_0000, 0xC100
# Where the controller's data may go: all over the guest, and not always at the beginning of a page.
BUFFERS = (0x10_0000, 0x1F_FE00, 0x70_0400, 0x123_4000)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Nothing here can be tested without these."""
    needs("xenstored")
    try:
        qemu.find()
    except PrivcmdError as missing:
        pytest.skip(f"NOT TESTED: QEMU as a device model; {missing} (apt-get install qemu-system-xen)")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of random bytes."""
    path = tmp_path_factory.mktemp("disk") / "disk"
    path.write_bytes(CONTENT)
    return path


@contextmanager
def machine(*arguments: str, config: str | None = None) -> Iterator[tuple[Host, Guest]]:
    """A guest with a QEMU, and somebody to play it."""
    guests = [host.DomainConfig("hvm", N_PAGES, "guest")]
    with (
        host.running(guests, config=config, device_model=arguments) as up,
        Client(up.socket) as client,
        Guest(up.doms[0], client, timeout_s=10) as guest,
    ):
        yield up, guest


def drive(path: Path, interface: str, *more: str) -> tuple[str, ...]:
    """A disk that forgets what is written to it."""
    return ("-drive", f"file={path},format=raw,snapshot=on,{interface}", *more)


@pytest.fixture(scope="module")
def common(disk: Path) -> Iterator[tuple[Host, Guest]]:
    """One machine with an IDE disk and a virtio disk, for all tests that leave it as it is."""
    arguments = (
        *drive(disk, "if=ide,index=0"),
        *drive(disk, "if=none,id=d"),
        *("-device", "virtio-blk-pci,drive=d,disable-modern=on,addr=4"),
    )
    with machine(*arguments) as made:
        made[1].pci_read(bdf(0), 0)  # connects to QEMU, which keeps descriptors open
        assert made[0].client.ping()
        yield made


@pytest.fixture
def guest(common: tuple[Host, Guest]) -> Guest:
    """The guest of that machine."""
    return common[1]


def found(guest: Guest) -> dict[int, int]:
    """The PCI functions that answer: vendor and device by number."""
    ids = {number: guest.pci_read(number, 0) for number in range(bdf(8))}
    return {number: value for number, value in ids.items() if value != 0xFFFF_FFFF}


@pytest.mark.parametrize("more", [(), ("-xen-domid-restrict",)])
def test_it_comes_up_and_shows_its_devices(more: tuple[str, ...]) -> None:
    """As on a Xen host: it says that it is running, and a guest finds the chip set; restricted to its domain too."""
    with machine(*more) as (up, guest):
        assert found(guest) == {
            bdf(0): 0x1237_8086,
            bdf(1): 0x7000_8086,
            bdf(1, 1): 0x7010_8086,
            bdf(1, 3): 0x7113_8086,
            bdf(2): 0x0001_5853,
        }
        assert up.client.stats()["broker"]["unanswered"] == {}
        assert up.client.ioreq_servers(up.doms[0])[0].enabled


def test_restricted_to_its_domain_it_does_its_work(disk: Path) -> None:
    """After -xen-domid-restrict every device that it has open knows one domain only; DMA and interrupts go on."""
    with machine(*drive(disk, "if=ide"), "-xen-domid-restrict") as (_, guest):
        ide.Disk(guest).dma(ide.READ_DMA, 7, [(BUFFERS[0], 4096)])

        assert guest.read(BUFFERS[0], 4096) == CONTENT[7 * 512 : 7 * 512 + 4096]


def test_the_command_does_all_of_it(disk: Path, tmp_path: Path) -> None:
    """``privcmdctl run --qemu`` waits until it is running, and the program finds a guest to play."""
    script = tmp_path / "script.py"
    script.write_text(
        "from privcmd.guest import Guest, bdf\nwith Guest(1) as guest:\n    print(hex(guest.pci_read(bdf(1, 1), 0)))\n"
    )
    arguments = f"--qemu=-drive file={disk},format=raw,snapshot=on,if=ide"

    done = run("--domain", "hvm:32M", arguments, "--leaks=error", "--", sys.executable, str(script))

    assert (done.returncode, done.stdout, done.stderr) == (0, "0x70108086\n", "")


def test_what_keeps_it_from_running_is_said(disk: Path) -> None:
    """QEMU's own words, and status 1; without an HVM domain there is nothing to attach to."""
    done = run("--domain", "hvm:32M", "--qemu=-no-such-option", "--", "true")
    assert done.returncode == 1
    assert "-no-such-option: invalid option" in done.stderr
    done = run("--domain", "pv:32M", f"--qemu=-drive file={disk},format=raw", "--", "true")
    assert done.returncode == 1
    assert "needs an HVM domain" in done.stderr


def test_a_disks_sectors_are_in_guest_memory_after_dma(guest: Guest) -> None:
    """Bus-master DMA: whatever the pieces are, each byte is where the table said, and none is elsewhere."""
    dice = random.Random(2)
    controller = ide.Disk(guest)
    for _ in range(12):
        sector = dice.randrange(DISK_BYTES // 512 - 128)
        pieces = [(addr + 512 * dice.randrange(8), 512 * dice.randint(1, 24)) for addr in BUFFERS]
        for addr, size in pieces:
            guest.write(addr - 16, bytes(size + 32))

        status = controller.dma(ide.READ_DMA, sector, pieces)

        assert status & (ide.ERROR | ide.INTERRUPT) == ide.INTERRUPT
        at = sector * 512
        for addr, size in pieces:
            assert guest.read(addr - 16, size + 32) == bytes(16) + CONTENT[at : at + size] + bytes(16)
            at += size


def test_dma_reads_guest_memory(guest: Guest) -> None:
    """What the guest has written to its memory is on the disk, and comes back."""
    controller = ide.Disk(guest)
    data = random.Random(3).randbytes(16 * 512)
    guest.write(BUFFERS[0], data)

    controller.dma(ide.WRITE_DMA, 100, [(BUFFERS[0], 4096), (BUFFERS[0] + 4096, 4096)])
    controller.dma(ide.READ_DMA, 98, [(BUFFERS[3], 20 * 512)])

    assert guest.read(BUFFERS[3], 20 * 512) == CONTENT[98 * 512 : 100 * 512] + data + CONTENT[116 * 512 : 118 * 512]


def test_string_instructions_read_a_sector(guest: Guest) -> None:
    """Rep insw from the data port: QEMU writes the guest's memory itself, across a page's end too."""
    controller = ide.Disk(guest)

    for sector, addr in ((300, 0x40_0000), (301, 0x40_1F00)):
        controller.read_by_ports(sector, addr)
        assert guest.read(addr, 512) == CONTENT[sector * 512 : sector * 512 + 512]


def test_the_frame_buffer_is_guest_memory(disk: Path) -> None:
    """QEMU populates its memory and moves it to where the guest puts the BAR; the ROM answers as emulated memory."""
    with machine(*drive(disk, "if=ide"), "-device", "VGA,addr=3") as (up, guest):
        moved(up, guest)


def moved(up: Host, guest: Guest) -> None:
    """Set the VGA up, as a BIOS does, and look."""
    before = up.client.domains.info(up.doms[0])
    guest.pci_write(VGA, 0x10, FRAMEBUFFER)
    guest.pci_write(VGA, 0x30, ROM | 1)
    guest.pci_write(VGA, 4, 3, 2)

    guest.write(FRAMEBUFFER, b"pixels")
    assert guest.read(FRAMEBUFFER, 6) == b"pixels"
    assert guest.mmio_read(ROM, 2) == 0xAA55
    after = up.client.domains.info(up.doms[0])
    assert after.tot_pages == before.tot_pages > N_PAGES
    assert before.gfn_limit < FRAMEBUFFER // PAGE < after.gfn_limit


def test_a_virtio_disk_answers_through_its_rings(guest: Guest) -> None:
    """virtio-blk-pci: rings and buffers in guest memory; reads, writes, and a sector that is not there."""
    guest.pci_write(BLOCK, 0x10, BLOCK_PORTS | 1)
    guest.pci_write(BLOCK, 4, 5, 2)
    block = virtio.Disk(guest, BLOCK_PORTS)

    assert block.n_sectors == DISK_BYTES // 512
    for sector, pieces in ((0, [(0x50_0000, 512)]), (77, [(0x50_0200, 1024), (0x60_0E00, 4096)])):
        assert block.transfer(virtio.IN, sector, pieces) == 0
        at = sector * 512
        for addr, size in pieces:
            assert guest.read(addr, size) == CONTENT[at : at + size]
            at += size
    guest.write(0x50_0000, b"written" + bytes(505))
    assert block.transfer(virtio.OUT, 9, [(0x50_0000, 512)]) == 0
    assert block.transfer(virtio.IN, 9, [(0x51_0000, 512)]) == 0
    assert guest.read(0x51_0000, 7) == b"written"
    assert block.transfer(virtio.IN, DISK_BYTES // 512, [(0x50_0000, 512)]) == 1


def held(up: Host) -> int:
    """Foreign pages that are mapped now."""
    frames: int = up.client.stats()["mappings"]["frames"]
    return frames


def test_a_guest_has_the_map_cache_let_go(common: tuple[Host, Guest]) -> None:
    """QEMU keeps guest memory mapped in buckets of 1 MiB; the guest's request makes it unmap them, and map anew.

    Releases from 9.1 on keep fewer: they unmap a bucket when the last transfer to it is done.
    """
    up, guest = common
    controller = ide.Disk(guest)
    controller.dma(ide.READ_DMA, 0, [(addr, 512) for addr in BUFFERS])
    before = held(up)

    guest.invalidate_mapcache()

    assert held(up) < before
    guest.write(BUFFERS[2], bytes(512))
    controller.dma(ide.READ_DMA, 5, [(BUFFERS[2], 512)])
    assert guest.read(BUFFERS[2], 512) == CONTENT[5 * 512 : 6 * 512]


def test_another_tool_dumps_the_domain_meanwhile(common: tuple[Host, Guest], tmp_path: Path) -> None:
    """Xl dump-core beside the device model: all of the guest's memory, what DMA wrote included."""
    up, guest = common
    xl = needs("xl")
    core = tmp_path / "core"
    ide.Disk(guest).dma(ide.READ_DMA, 11, [(BUFFERS[0], 4096)])

    environment = up.environment("dump")
    done = subprocess.run(
        [xl, "dump-core", str(up.doms[0]), str(core)],
        env=environment, capture_output=True, text=True, timeout=GUARD_S, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    pages = sections(core.read_bytes())
    numbers = memoryview(pages[".xen_pfn"]).cast("Q").tolist()
    at = numbers.index(BUFFERS[0] // PAGE) * PAGE
    assert pages[".xen_pages"][at : at + PAGE] == CONTENT[11 * 512 : 11 * 512 + PAGE]


def test_a_frame_that_fails_while_qemu_runs(disk: Path) -> None:
    """Of a bucket with a failed frame QEMU uses the others; DMA into the failed one never ends, and nothing is said.

    It asks for the mapping again and again; when the frame is mended, the same QEMU goes on.
    """
    arguments = drive(disk, "if=ide,index=0")
    with machine(*arguments) as (up, guest):
        dom = up.doms[0]
        controller = ide.Disk(guest)
        bad = BUFFERS[2] // PAGE
        rule = up.client.faults.add(dom=dom, gfns=[bad], frame_errno="EINVAL")

        controller.dma(ide.READ_DMA, 3, [((bad + 1) * PAGE, PAGE)])
        assert guest.read((bad + 1) * PAGE, PAGE) == CONTENT[3 * 512 : 3 * 512 + PAGE]
        with Client(up.socket) as client, Guest(dom, client, timeout_s=0.5) as hurried:
            stuck = ide.Disk(hurried)
            with pytest.raises(PrivcmdError, match="has not come within"):
                stuck.dma(ide.READ_DMA, 4, [(bad * PAGE, PAGE)])
            asked = client.stats()["done"]["batches"]
            deadline = time.monotonic() + GUARD_S
            while client.stats()["done"]["batches"] < asked + 10:
                assert time.monotonic() < deadline, "it does not spin: then it must have failed, and said so"
            client.faults.clear(rule)
        guest.wait_interrupt(ide.IRQ)
        assert guest.read(bad * PAGE, PAGE) == CONTENT[4 * 512 : 4 * 512 + PAGE]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without QEMU the error names the package."""
    monkeypatch.setattr(qemu, "PLACES", ())
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with pytest.raises(PrivcmdError, match="qemu-system-xen"):
        qemu.find()

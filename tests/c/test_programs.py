# SPDX-License-Identifier: Apache-2.0
"""Xen's own programs, as the distribution built them, run unmodified."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from privcmd import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from c_guests import Guests
    from privcmd.broker import PrivateBroker

PRELOAD = "libprivcmdd-preload.so"
TIMEOUT_S = 60


def xen_program(name: str) -> str:
    """Where a program of xen-utils is."""
    found = sorted(Path("/usr/lib").glob(f"xen-*/bin/{name}"))
    if not found:
        pytest.skip(f"NOT TESTED: {name}; xen-utils is missing (apt-get install xen-utils-4.17)")
    return str(found[-1])


def run(libraries: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``privcmdctl run``."""
    script = Path(sysconfig.get_path("scripts")) / "privcmdctl"
    return subprocess.run(
        [sys.executable, str(script), "run", *arguments],
        env={**os.environ, "PRIVCMDD_PRELOAD": str(libraries / PRELOAD)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_test_resource_passes(libraries: Path) -> None:
    """Grant tables of PV and PVH domains are mapped, written and granted pages mapped through gntdev."""
    done = run(libraries, "--", xen_program("test-resource"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Test x86 PVH" in done.stdout
    assert "Fail" not in done.stdout


def test_test_paging_mempool_passes(libraries: Path) -> None:
    """Sizes of a domain's paging pool."""
    done = run(libraries, "--", xen_program("test-paging-mempool"))

    assert (done.returncode, done.stderr) == (0, "")
    assert "Fail" not in done.stdout


def test_xl_lists_domains(libraries: Path) -> None:
    """Domain 0 and the guest, its memory, its state."""
    if shutil.which("xenstored") is None:
        xen_program("xenstored")

    done = run(libraries, "--domain", "hvm:64M", "--domain", "pv:8M", "--", xen_program("xl"), "list")

    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [(row[1], row[2], row[4]) for row in rows[1:]] == [("1", "64", "--p---"), ("2", "8", "--p---")]


def test_mfndump_compares_frames(libraries: Path, guests: Guests) -> None:
    """memcmp-mfns says that frames with the same content are the same, and others are not."""
    program = xen_program("xen-mfndump")
    dom = str(guests.dom)
    with Client(guests.broker.path) as client:
        addr = client.call("mmap", len=4096, prot=3)["addr"]
        client.call("privcmd.mmapbatch_v2", dom=guests.dom, addr=addr, arr=[9])
        client.call("write", addr=addr, data=bytes([3]) * 4096)
        client.call("munmap", addr=addr, len=4096)

    same, other = (
        run(libraries, "--socket", guests.broker.path, "--", program, "memcmp-mfns", dom, "3", dom, frame)
        for frame in ("9", "5")
    )

    assert "memcpy(1, 2) = 0" in same.stdout
    assert "memcpy(1, 2) = 0" not in other.stdout
    assert other.returncode == 0


def sections(core: bytes) -> dict[str, bytes]:
    """The sections of an ELF file, by name."""
    (at,), (n, names) = struct.unpack_from("<Q", core, 0x28), struct.unpack_from("<HH", core, 0x3C)
    headers = [struct.unpack_from("<IIQQQQ", core, at + 64 * i) for i in range(n)]
    text = core[headers[names][4] :]
    return {
        text[name : text.index(b"\0", name)].decode(): core[offset : offset + size]
        for name, _, _, _, offset, size in headers
    }


def test_xl_dump_core_holds_the_populated_pages(libraries: Path, broker: PrivateBroker, tmp_path: Path) -> None:
    """The file has exactly the pages that a sparsely populated domain has, each with its content."""
    ranges = [(0, 160), (256, 700), (2000, 1)]
    populated = [gfn for start, n in ranges for gfn in range(start, start + n)]
    with Client(broker.path) as client:
        spec = [{"gfn": start, "npages": n} for start, n in ranges]
        dom = client.call("domain.create", kind="hvm", max_pages=4096, ranges=spec)["dom"]
        addr = client.call("mmap", len=4096, prot=3)["addr"]
        client.call("privcmd.mmapbatch_v2", dom=dom, addr=addr, arr=[2000])
        client.call("write", addr=addr, data=b"the last one")
        core = tmp_path / "core"

        done = run(libraries, "--socket", broker.path, "--", xen_program("xl"), "dump-core", str(dom), str(core))

        assert done.returncode == 0, done.stderr
    found = sections(core.read_bytes())
    gfns = struct.unpack(f"<{len(found['.xen_pfn']) // 8}Q", found[".xen_pfn"])
    assert list(gfns) == populated
    assert len(found[".xen_pages"]) == 4096 * len(populated)
    assert found[".xen_pages"][-4096:].startswith(b"the last one")


def test_one_of_two_programs_is_killed(libraries: Path, compiled: Callable[..., Path], guests: Guests) -> None:
    """The other goes on, and what the dead one had mapped is given back: the guests can go afterwards."""
    environment = guests.environment(LD_PRELOAD=str(libraries / PRELOAD))
    program = str(compiled("raw.c"))

    def start(dom: int) -> subprocess.Popen[str]:
        command = [program, str(dom), str(guests.other), "hold"]
        return subprocess.Popen(command, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)

    with start(guests.dom) as dying, start(guests.dom) as other, Client(guests.broker.path) as client:
        for program_ in (dying, other):
            assert program_.stdout is not None
            assert program_.stdout.readline() == "ready\n"
        dying.send_signal(signal.SIGKILL)
        dying.wait(TIMEOUT_S)
        while client.stats()["broker"]["connections"] > 3:  # the fixture's, this one's, the other program's
            client.ping()
        _, said = other.communicate("go on\n", timeout=TIMEOUT_S)

    assert (other.returncode, said) == (0, "")

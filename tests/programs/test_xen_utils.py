# SPDX-License-Identifier: Apache-2.0
"""Xen's own tools and tests, as the distribution built them, find the host that they expect."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from privcmd.errors import PrivcmdError
from privcmd.run import _xenstore as xenstore
from privcmd.run import host
from programs.programs import needs, run, sections

if TYPE_CHECKING:
    from pathlib import Path

    from privcmd import Client
    from privcmd.broker import PrivateBroker

PAGE = 4096


def put(client: Client, dom: int, gfn: int, data: bytes) -> None:
    """Write to a guest's page."""
    addr = client.mmap(0, PAGE, 3)
    client.privcmd_mmapbatch_v2(dom, addr, [gfn])
    client.write(addr, data)
    client.munmap(addr, PAGE)


def test_resources_of_pv_and_pvh(broker: PrivateBroker, client: Client) -> None:
    """test-resource: a grant table is mapped and written, 40 grants of it are mapped; PV and PVH; nothing is left."""
    done = run("--socket", broker.path, "--leaks=error", "--findings=error", "--", needs("test-resource"))

    assert (done.returncode, done.stderr) == (0, "")
    said = [line.strip() for line in done.stdout.splitlines()]
    tests = [line for line in said if line.startswith("Test")]
    assert tests == ["Test x86 PV", "Test grant table", "Test x86 PVH", "Test grant table"]
    assert "Fail" not in done.stdout
    assert client.domains.list() == []
    assert client.stats()["mappings"]["frames"] == 0


def test_pools_of_page_tables() -> None:
    """test-paging-mempool: sizes are kept, bad ones refused, long ones continued."""
    done = run("--findings=error", "--", needs("test-paging-mempool"))

    assert (done.returncode, done.stderr) == (0, "")
    assert "Test set continuation" in done.stdout
    assert "Fail" not in done.stdout


def test_xl_lists_domains() -> None:
    """Xl list: every domain with its name and memory in whole MiB, and domain 0 before them; HVM lacks the VGA's."""
    xl = needs("xl")
    needs("xenstored")

    done = run("--domain", "hvm:16M:disk", "--domain", "pv:8M:net", "--domain", "pvh:32M", "--", xl, "list")

    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split()[:3] for line in done.stdout.splitlines()[1:]]
    assert rows == [["Domain-0", "0", "1024"], ["disk", "1", "15"], ["net", "2", "8"], ["(null)", "3", "32"]]


def test_xl_dumps_what_is_populated_and_nothing_else(broker: PrivateBroker, client: Client, tmp_path: Path) -> None:
    """Xl dump-core of a domain with holes: its populated frames, each once and in order, with their bytes."""
    xl = needs("xl")
    needs("xenstored")
    dom = client.domains.create("hvm", 64, ranges=[(0, 16), (0x100, 9), (0x7F0, 3)], name="sparse")
    client.domains.decrease_reservation(dom, [5, 0x104])
    populated = [*range(5), *range(6, 16), *range(0x100, 0x104), *range(0x105, 0x109), *range(0x7F0, 0x7F3)]
    for gfn in populated:
        put(client, dom, gfn, gfn.to_bytes(8, "little") * 512)
    core = tmp_path / "core"

    done = run("--socket", broker.path, "--leaks=error", "--findings=error", "--", xl, "dump-core", "sparse", str(core))

    assert (done.returncode, done.stderr) == (0, "")
    found = sections(core.read_bytes())
    gfns = struct.unpack(f"<{len(found['.xen_pfn']) // 8}Q", found[".xen_pfn"])
    assert list(gfns) == populated
    assert found[".xen_pages"] == b"".join(gfn.to_bytes(8, "little") * 512 for gfn in populated)
    assert len(found[".xen_prstatus"]) == 5168


def test_frames_are_compared(broker: PrivateBroker, client: Client) -> None:
    """xen-mfndump memcmp-mfns: frames of two domains, alike and different; absent ones are said to be."""
    mfndump = needs("xen-mfndump")
    one, other = (client.domains.create("hvm", 16) for _ in range(2))
    put(client, one, 3, b"alike")
    put(client, other, 4, b"alike")

    def compared(first: int, second: int) -> tuple[int, str]:
        words = [str(one), hex(first), str(other), hex(second)]
        done = run("--socket", broker.path, "--leaks=error", "--findings=error", "--", mfndump, "memcmp-mfns", *words)
        return done.returncode, done.stdout + done.stderr

    assert "memcpy(1, 2) = 0\n" in compared(3, 4)[1]
    assert "memcpy(1, 2) = 0\n" not in compared(3, 5)[1]
    status, said = compared(3, 0x50)
    assert (status, said) == (1, f"Failed to map either 0x3[dom {one}] or 0x50[dom {other}]\n")


def test_the_store_knows_the_names() -> None:
    """xenstore-ls: xenstored runs beside the program, and has the domains' names."""
    needs("xenstored")

    done = run("--domain", "hvm:16M:disk", "--findings=error", "--", needs("xenstore-ls"), "/local")

    assert (done.returncode, done.stderr) == (0, "")
    assert 'name = "Domain-0"' in done.stdout
    assert 'name = "disk"' in done.stdout


def test_xenstored_is_as_good_as_elsewhere() -> None:
    """test-xenstore: reads, writes, directories and transactions through xenstored's socket."""
    needs("xenstored")

    done = run("--findings=error", "--", needs("test-xenstore"), "-i", "10")

    assert done.returncode == 0, done.stderr
    assert "fail" not in (done.stdout + done.stderr).lower()


def test_xen_diag_says_how_large_a_grant_table_is() -> None:
    """Xen-diag gnttab_query_size, of a domain whose table has not been looked at, and of none."""
    done = run("--domain", "pvh:8M", "--", needs("xen-diag"), "gnttab_query_size", "1")

    assert done.returncode == 0, done.stderr
    assert "nr_frames=0" in done.stdout
    assert "max_nr_frames=64" in done.stdout


def test_a_xenstore_that_is_needed_is_there_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--xenstore``: it runs, or the run ends before the program begins, and says what is missing."""
    needs("xenstored")
    done = run("--xenstore", "--", needs("xenstore-ls"), "/local")
    assert done.returncode == 0, done.stderr
    assert "Domain-0" in done.stdout

    named = run("--xenstore", "--", "echo", "begun", env={**os.environ, "XENSTORED_RUNDIR": "/elsewhere"})
    assert (named.returncode, named.stdout) == (1, "")
    assert "XENSTORED_RUNDIR names a xenstored already" in named.stderr
    monkeypatch.setattr(xenstore, "find", lambda: None)
    with (
        pytest.raises(PrivcmdError, match="Debian has it in xen-utils"),
        host.running(store=True),
    ):
        pass


def test_the_processor_is_shown() -> None:
    """xen-cpuid: the features of the simulated processor, and six policies of it."""
    tool = needs("xen-cpuid")

    def shown(*words: str) -> str:
        done = run("--findings=error", "--no-xenstore", "--", tool, *words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    features, policies = shown("detail"), shown("-p")

    assert features.startswith("nr_features: 19\n")
    assert features.count(" 178bfbff:80002000:2993fbff:00000001:00000000:") == 6
    assert policies.startswith("Xen reports there are maximum 120 leaves and 2 MSRs\n")
    assert policies.count("policy: 13 leaves, 2 MSRs") == 6


def test_the_context_of_a_domain_is_shown(broker: PrivateBroker, client: Client) -> None:
    """xen-hvmctx: every record of virtual hardware that an HVM domain has."""
    tool = needs("xen-hvmctx")
    dom = client.domains.create("hvm", 16)

    done = run("--socket", broker.path, "--findings=error", "--", tool, str(dom))

    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout
    assert "Header: magic 0x54381286, version 1" in shown
    names = ("CPU:", "PIC:", "IOAPIC:", "LAPIC:", "PIT:", "RTC:", "HPET:", "MTRR:")
    assert [name for name in names if name not in shown] == []

# SPDX-License-Identifier: Apache-2.0
"""libxenguest, unmodified: a domain saved into a file and restored from it is the same domain."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from privcmd.broker import PrivateBroker
from privcmd.errors import PrivcmdError
from privcmd.guest import PvKernel
from privcmd.results import HOLE
from programs.programs import GUARD_S, XEN, XEN_UTILS, needs, run, sections
from support.profiles import PROFILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmd import Client

SOURCE = Path(__file__).with_name("saverestore.c")
VERIFY = XEN / "bin/verify-stream-v2"
PAGE = 4096
HVM_OP, PARAM = 34, struct.Struct("<HHIQ")
STORE_PFN, CONSOLE_PFN, IDENT_PT, VM86_TSS_SIZED = 1, 17, 12, 37
# A few examples: each is two runs of a program.
FEW = settings(
    PROFILE.law,
    phases=[Phase.explicit, Phase.generate],
    max_examples=PROFILE.law.max_examples // 12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Our program on libxenguest, built."""
    program = tmp_path_factory.mktemp("bin") / "saverestore"
    libraries = ("-lxenguest", "-lxenctrl")
    command = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-o", str(program), str(SOURCE), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "xenguest.h: No such file" in done.stderr or "cannot find -lxenguest" in done.stderr:
        pytest.skip("NOT TESTED: libxenguest; its header is missing (apt-get install libxen-dev)")
    assert done.returncode == 0, done.stderr
    return str(program)


def mapped(client: Client, dom: int, gfns: Sequence[int]) -> int:
    """Map pages of a guest; the address."""
    addr = client.mmap(0, len(gfns) * PAGE, 3)
    assert client.privcmd_mmapbatch_v2(dom, addr, gfns).n_failed == 0
    return addr


def fill(client: Client, dom: int, gfns: Sequence[int], seed: int) -> None:
    """Random bytes into every other page; the rest stays zero."""
    frames = client.domains.info(dom, num=client.domains.info(dom).gfn_limit).frames
    assert frames is not None
    chosen = [frames[gfn] for gfn in gfns[::2]]
    addr = mapped(client, dom, chosen)
    client.write(addr, random.Random(seed).randbytes(len(chosen) * PAGE))
    client.munmap(addr, len(chosen) * PAGE)


def content(client: Client, dom: int) -> dict[int, bytes]:
    """The bytes of each page that is populated, by guest frame number (of a PV guest: pseudo-physical)."""
    frames = client.domains.info(dom, num=client.domains.info(dom).gfn_limit).frames
    assert frames is not None
    names = {gfn: name for gfn, name in enumerate(frames) if name != HOLE}
    addr = mapped(client, dom, list(names.values()))
    pages = {gfn: client.read(addr + index * PAGE, PAGE) for index, gfn in enumerate(names)}
    client.munmap(addr, len(names) * PAGE)
    return pages


def param(client: Client, dom: int, index: int, value: int | None = None) -> int:
    """Set an HVM parameter, or get it."""
    addr = client.mmap(0, PAGE, 3, file="hypercall")
    client.write(addr, PARAM.pack(dom, 0, index, value or 0))
    assert client.hypercall(HVM_OP, 0 if value is not None else 1, addr) == 0
    found: int = PARAM.unpack(client.read(addr, PARAM.size))[3]
    client.munmap(addr, PAGE)
    return found


def save(broker: PrivateBroker, driver: str, dom: int, stream: Path, *more: str) -> str:
    """Save a domain; what the program said."""
    done = run(
        *("--socket", broker.path, "--leaks=error", "--findings=error"),
        "--",
        driver,
        "save",
        str(dom),
        str(stream),
        *more,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def restore(broker: PrivateBroker, driver: str, kind: str, max_pages: int, stream: Path) -> int:
    """Restore it; the number of the new domain."""
    words = ["restore", kind, str(max_pages), str(stream)]
    done = run("--socket", broker.path, "--keep", "--leaks=error", "--findings=error", "--", driver, *words)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def verified(stream: Path) -> str:
    """What Xen's own verifier says of a stream that it accepts."""
    if not VERIFY.exists():
        pytest.skip(f"NOT TESTED: {VERIFY} is missing (apt-get install {XEN_UTILS})")
    modules = {**os.environ, "PYTHONPATH": str(VERIFY.parent.parent / "lib" / "python")}
    command = [shutil.which("python3") or sys.executable, str(VERIFY), "--verbose", "--in", str(stream)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=False, env=modules)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@given(
    kind=st.sampled_from(["hvm", "pvh"]),
    sizes=st.lists(st.tuples(st.integers(0, 0x80), st.integers(1, 0xC0)), min_size=1, max_size=4),
    spare=st.integers(0, 100),
    seed=st.integers(0, 2**32),
)
@FEW
def test_what_is_restored_is_what_was_saved(
    tmp_path: Path, driver: str, kind: str, sizes: list[tuple[int, int]], spare: int, seed: int
) -> None:
    """Any kind, any holes, any pages ballooned out, any bytes: the pages are the same, and so is what Xen says."""
    needs("xenstored")
    ranges, at = [], 0
    for hole, n_pages in sizes:
        ranges.append((at + hole, n_pages))
        at += hole + n_pages
    max_pages = sum(n_pages for _, n_pages in ranges) + spare
    gfns = [gfn for first, n_pages in ranges for gfn in range(first, first + n_pages)]
    ballooned = random.Random(seed).sample(gfns[:-1], (len(gfns) - 1) // 5)
    stream = tmp_path / "stream"
    with PrivateBroker() as broker, broker.client() as client:
        dom = client.domains.create(kind, max_pages, ranges=ranges)
        fill(client, dom, gfns, seed)
        client.domains.decrease_reservation(dom, ballooned)
        param(client, dom, IDENT_PT, 0xFEFF_E000)
        param(client, dom, VM86_TSS_SIZED, seed + 1)

        save(broker, driver, dom, stream)
        new = restore(broker, driver, kind, max_pages, stream)

        verified(stream)
        assert content(client, new) == content(client, dom)
        assert sorted(content(client, new)) == sorted(set(gfns) - set(ballooned))
        assert [param(client, new, index) for index in (IDENT_PT, VM86_TSS_SIZED)] == [0xFEFF_E000, seed + 1]
        before, after = (next(row for row in client.domains.list() if row.dom == one) for one in (dom, new))
        assert (after.kind, after.tot_pages, after.max_pages) == (kind, before.tot_pages, max_pages)
        assert client.stats()["broker"]["unanswered"] == {}


def test_pages_for_xenstore_and_console_are_emptied(
    broker: PrivateBroker, client: Client, tmp_path: Path, driver: str
) -> None:
    """As libxenguest does it: who restores a domain introduces it anew; every other page is as it was."""
    dom = client.domains.create("hvm", 32)
    fill(client, dom, range(32), 1)
    param(client, dom, STORE_PFN, 2)
    param(client, dom, CONSOLE_PFN, 4)
    stream = tmp_path / "stream"

    save(broker, driver, dom, stream)
    new = restore(broker, driver, "hvm", 32, stream)

    assert content(client, new) == {**content(client, dom), 2: bytes(PAGE), 4: bytes(PAGE)}
    assert [param(client, new, index) for index in (STORE_PFN, CONSOLE_PFN)] == [2, 4]


WRITER = """
import struct, sys
from privcmd import Client

with Client() as client:
    addr = client.mmap(0, 2 * 4096, 3)
    client.privcmd_mmapbatch_v2(int(sys.argv[1]), addr, [3, 5])
    client.write(addr, b"new" * 2)
    client.write(addr + 4096, b"new" * 2)
    told = struct.pack("<4I", 11, 0, 1, 0), struct.pack("<2IQ", 1, 0, 3)  # XEN_DMOP_modified_memory of gfn 3
    assert client.dm_op(int(sys.argv[1]), told)[0] == 0
    client.munmap(addr, 2 * 4096)
"""


def test_pages_that_change_in_a_live_save_are_sent_again(
    broker: PrivateBroker, client: Client, tmp_path: Path, driver: str
) -> None:
    """A device model writes and tells Xen: the page is sent anew. A write that nobody tells of is lost, as on Xen."""
    dom = client.domains.create("hvm", 64)
    fill(client, dom, range(64), 2)
    before = content(client, dom)
    stream, script = tmp_path / "stream", tmp_path / "writer.py"
    script.write_text(WRITER)

    said = save(broker, driver, dom, stream, "live", f"{sys.executable} {script} {dom}")
    new = restore(broker, driver, "hvm", 64, stream)

    rounds = [line for line in said.splitlines() if line.startswith("round")]
    assert rounds == ["round 0: 64 dirty", "round 1: -1 dirty", "round 1: 1 dirty", "round 2: -1 dirty"]
    after = content(client, dom)
    assert after[3][:6] == after[5][:6] == b"newnew"
    assert content(client, new) == {**after, 5: before[5]}
    assert client.stats()["broker"]["unanswered"] == {}
    verified(stream)


def pv_guest(client: Client) -> tuple[int, PvKernel, list[int]]:
    """A PV domain with holes, pages that were ballooned out and a kernel; its pages that are not the kernel's."""
    dom = client.domains.create("pv", 2048, ranges=[(0, 100), (120, 1000)], name="guest")
    pfns = [*range(100), *range(120, 1120)]
    fill(client, dom, pfns, 3)
    frames = client.domains.info(dom, num=1120).frames
    assert frames is not None
    client.domains.decrease_reservation(dom, [frames[pfn] for pfn in (7, 500)])
    kernel = PvKernel(client, dom)
    left = [pfn for pfn in pfns if pfn not in (7, 500)]
    assert (kernel.start_info, len(left) - left.index(kernel.start_info)) == (1111, kernel.n_pages)
    return dom, kernel, left[: -kernel.n_pages]


def test_a_pv_guest_is_restored(broker: PrivateBroker, client: Client, tmp_path: Path, driver: str) -> None:
    """All pages but those that hold frame numbers are the same; its p2m has the new numbers, its tables are pinned."""
    dom, kernel, pfns = pv_guest(client)
    kernel.suspend()
    stream = tmp_path / "stream"

    save(broker, driver, dom, stream)
    new = restore(broker, driver, "pv", 2048, stream)

    before, after = content(client, dom), content(client, new)
    assert sorted(after) == sorted(before)
    assert [pfn for pfn in pfns if after[pfn] != before[pfn]] == []
    frames = client.domains.info(new, num=1120).frames
    assert frames is not None
    leaves = sorted(before)[-3:]
    assert struct.unpack("<1536Q", b"".join(after[pfn] for pfn in leaves))[:1120] == tuple(frames)
    start_info = after[kernel.start_info]
    assert struct.unpack_from("<Q", start_info, 56) == (frames[kernel.store],)
    assert client.stats()["broker"]["unanswered"] == {}
    assert "vcpu0 basic context, 5168 bytes" in verified(stream)


def test_a_pv_guest_is_dumped(broker: PrivateBroker, client: Client, tmp_path: Path) -> None:
    """Xl dump-core goes by the p2m of the guest: every page that is there, with its frame number and its bytes."""
    xl = needs("xl")
    needs("xenstored")
    dom, _, _ = pv_guest(client)
    core = tmp_path / "core"

    done = run("--socket", broker.path, "--leaks=error", "--findings=error", "--", xl, "dump-core", "guest", str(core))

    assert (done.returncode, done.stderr) == (0, "")
    found = sections(core.read_bytes())
    pages = content(client, dom)
    frames = client.domains.info(dom, num=1120).frames
    assert frames is not None
    assert list(struct.iter_unpack("<2Q", found[".xen_p2m"])) == [(pfn, frames[pfn]) for pfn in sorted(pages)]
    assert found[".xen_pages"] == b"".join(pages[pfn] for pfn in sorted(pages))


def test_only_a_pv_guest_with_room_has_such_a_kernel(client: Client) -> None:
    """EINVAL and ENOMEM, and nothing is written."""
    hvm, small = client.domains.create("hvm", 64), client.domains.create("pv", 6)

    for dom, name in ((hvm, "EINVAL"), (small, "ENOMEM")):
        with pytest.raises(PrivcmdError) as refused:
            PvKernel(client, dom)
        assert refused.value.name == name
    assert set(content(client, small).values()) == {bytes(PAGE)}


def test_a_stream_that_is_cut_short_is_refused(
    broker: PrivateBroker, client: Client, tmp_path: Path, driver: str
) -> None:
    """The verifier and libxenguest both say so; what was made of it can be destroyed."""
    dom = client.domains.create("hvm", 64)
    stream = tmp_path / "stream"
    save(broker, driver, dom, stream)
    stream.write_bytes(stream.read_bytes()[:-100])

    done = run("--socket", broker.path, "--", driver, "restore", "hvm", "64", str(stream))

    assert done.returncode == 1
    assert "xc_domain_restore" in done.stderr
    for row in client.domains.list():
        assert client.call("domain.destroy", dom=row.dom) == {"state": "gone"}


def test_a_domain_that_is_too_small_is_refused(
    broker: PrivateBroker, client: Client, tmp_path: Path, driver: str
) -> None:
    """What is restored must fit into the maximum reservation; the broker gives no page beyond it."""
    dom = client.domains.create("hvm", 64)
    save(broker, driver, dom, tmp_path / "stream")

    done = run("--socket", broker.path, "--keep", "--", driver, "restore", "hvm", "63", str(tmp_path / "stream"))

    assert done.returncode == 1
    assert "Failed to populate physmap" in done.stderr
    assert [row.tot_pages for row in client.domains.list()] == [64, 63]


def test_a_pv_guest_is_restored_from_a_live_save(
    broker: PrivateBroker, client: Client, tmp_path: Path, driver: str
) -> None:
    """Nobody writes to it meanwhile: the second round is empty, and its pages are the same."""
    dom, kernel, pfns = pv_guest(client)
    kernel.suspend()
    stream = tmp_path / "stream"

    said = save(broker, driver, dom, stream, "live", "true")
    new = restore(broker, driver, "pv", 2048, stream)

    assert "round 1: 0 dirty" in said
    before, after = content(client, dom), content(client, new)
    assert [pfn for pfn in pfns if after[pfn] != before[pfn]] == []

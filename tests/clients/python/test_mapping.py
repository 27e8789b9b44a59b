# SPDX-License-Identifier: Apache-2.0
"""Foreign mappings in this process: what they hold, refuse, undo and give back."""

from __future__ import annotations

import errno
import gc
import itertools
import threading
from array import array
from typing import TYPE_CHECKING

import numpy as np
import pytest

import privcmd
from privcmd import PAGE_SIZE, PROT_READ, Client, ForeignMemory, FrameError, PrivcmdError

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT = 17


@pytest.fixture(params=["uvm", "linux"])
def personality(request: pytest.FixtureRequest) -> str:
    """Both sets of rules."""
    return str(request.param)


@pytest.fixture
def foreign(client: Client, personality: str) -> Iterator[ForeignMemory]:
    """Foreign memory in a space of that personality."""
    client.attach(personality=personality)
    with ForeignMemory(client) as memory:
        yield memory


def held(client: Client) -> tuple[int, int, int]:
    """Frames mapped, map entries and objects alive at the broker."""
    stats = client.stats()
    return stats["mappings"]["frames"], stats["mappings"]["entries"], stats["objects"]["alive"]


def test_what_is_written_is_in_the_guest(client: Client, foreign: ForeignMemory, guest: int) -> None:
    """Law: pages come in the order asked for, and two mappings of a frame are the same memory."""
    with foreign.map(guest, [3, 1, 3]) as one, foreign.map(guest, [1]) as other:
        one[:5] = b"three"
        one[PAGE_SIZE : PAGE_SIZE + 3] = b"one"

        assert one[2 * PAGE_SIZE : 2 * PAGE_SIZE + 5] == b"three"
        assert other[:3] == b"one"
        assert client.read(one.address, 5) == b"three"
        client.write(other.address, b"ONE")
        assert one[PAGE_SIZE : PAGE_SIZE + 3] == b"ONE"


def test_a_mapping_is_a_buffer(foreign: ForeignMemory, guest: int) -> None:
    """Law: a mapping has a length, slices, and serves numpy and memoryview without a copy."""
    with foreign.map(guest, range(4)) as mapping:
        words = np.frombuffer(mapping, np.uint32)
        words[:] = 7

        assert len(mapping) == mapping.n_pages * PAGE_SIZE == 4 * PAGE_SIZE
        assert mapping[-4:] == b"\7\0\0\0"
        assert list(mapping.errors) == [0] * 4
        assert list(mapping.gfns) == [0, 1, 2, 3]
        del words


def test_pv_frames_are_named_by_mfn(client: Client, foreign: ForeignMemory) -> None:
    """Law: a PV domain's frames are asked for by the machine numbers that info gives."""
    pv = client.domains.create("pv", 8)
    mfns = client.domains.info(pv, start=0, num=8).frames
    assert mfns is not None

    with foreign.map(pv, mfns) as mapping, foreign.map(pv, [mfns[5]]) as fifth:
        mapping[5 * PAGE_SIZE] = 0x55
        assert fifth[0] == 0x55


def test_all_or_nothing_undoes_everything(client: Client, foreign: ForeignMemory, guest: int) -> None:
    """Law: with errors=None the first failed frame is raised, by index, and nothing stays mapped anywhere."""
    before = held(client)

    with pytest.raises(FrameError) as caught:
        foreign.map(guest, [1, 2, ABSENT, 3, ABSENT + 1])

    assert caught.value.errno == errno.EINVAL
    assert caught.value.index == 2
    assert caught.value.details == {"index": 2, "frame": ABSENT, "dom": guest, "n_failed": 2}
    assert held(client) == before
    assert foreign.mappings() == []


def test_errors_are_kept_per_frame(client: Client, foreign: ForeignMemory, guest: int) -> None:
    """Law: errors="keep" keeps the good frames; a failed page has an error, no frame, and no view."""
    with foreign.map(guest, [1, ABSENT, 2, ABSENT], errors="keep") as mapping:
        assert list(mapping.errors) == [0, -errno.EINVAL, 0, -errno.EINVAL]
        mapping.page(2)[:4] = b"good"
        assert mapping[2 * PAGE_SIZE : 2 * PAGE_SIZE + 4] == b"good"
        with pytest.raises(FrameError) as caught:
            mapping.page(1)
        assert (caught.value.errno, caught.value.index) == (errno.EINVAL, 1)
        with pytest.raises(IndexError):
            mapping.page(4)
        with pytest.raises(PrivcmdError, match="EFAULT"):
            client.fault(mapping.address + PAGE_SIZE)


def test_a_domain_that_is_not_there(foreign: ForeignMemory) -> None:
    """Law: an unknown domain is ESRCH for every frame: raised, or kept in the errors."""
    with pytest.raises(FrameError, match="ESRCH"):
        foreign.map(77, [0, 1])
    with foreign.map(77, [0, 1], errors="keep") as mapping:
        assert list(mapping.errors) == [-errno.ESRCH] * 2


def test_read_only_means_read_only(client: Client, foreign: ForeignMemory, guest: int) -> None:
    """Law: a PROT_READ mapping refuses writes in Python, through its views, and at the broker."""
    with foreign.map(guest, [1]) as writable, foreign.map(guest, [1], PROT_READ) as mapping:
        writable[:2] = b"ro"
        assert mapping[:2] == b"ro"
        with pytest.raises(TypeError):
            mapping[0] = 1
        assert memoryview(mapping).readonly
        with pytest.raises(PrivcmdError, match="EFAULT"):
            client.write(mapping.address, b"x")


@pytest.mark.parametrize(("frames", "name"), [([], "EINVAL"), ([2**64 - 1], "EINVAL"), ([-1], "EINVAL")], ids=repr)
def test_bad_requests_change_nothing(
    client: Client, foreign: ForeignMemory, guest: int, frames: list[int], name: str
) -> None:
    """Law: a request that is refused leaves nothing behind, here or at the broker."""
    before = held(client)

    with pytest.raises(PrivcmdError, match=name):
        foreign.map(guest, frames)

    assert held(client) == before
    with pytest.raises(PrivcmdError, match="EINVAL"):
        foreign.map(guest, [1], prot=0)
    with pytest.raises(ValueError, match="errors must be"):
        foreign.map(guest, [1], errors="ignore")  # type: ignore[arg-type]


def test_closing_gives_back_here_and_there(client: Client, foreign: ForeignMemory, guest: int) -> None:
    """Law: close is idempotent, tells the broker at once, and refuses while a view is in use."""
    before = held(client)
    mapping = foreign.map(guest, range(8))
    view = memoryview(mapping)

    with pytest.raises(BufferError):
        mapping.close()
    assert held(client) != before
    assert mapping[:1] == b"\0"

    view.release()
    mapping.close()
    mapping.close()
    assert held(client) == before
    with pytest.raises(ValueError, match="closed"):
        mapping[0]
    assert "closed" in repr(mapping)


def test_a_page_view_keeps_the_mapping(foreign: ForeignMemory, guest: int) -> None:
    """Law: while a page's view lives the memory under it does."""
    mapping = foreign.map(guest, range(2))
    page = mapping.page(1)

    with pytest.raises(BufferError):
        mapping.close()
    page[0] = 9
    page.release()
    mapping.close()


def test_a_dropped_mapping_is_given_back(client: Client, foreign: ForeignMemory, guest: int) -> None:
    """Law: a mapping that is garbage is given back with the next mapping request, before its addresses are reused."""
    before = held(client)
    foreign.map(guest, range(8))
    gc.collect()

    for _ in range(3):
        with foreign.map(guest, [1]) as mapping:
            assert client.read(mapping.address, 1) == mapping[:1]

    assert held(client) == before


def test_two_users_of_one_client_share_its_addresses(client: Client, guest: int) -> None:
    """Law: addresses that one leaves behind are given back before another announces them, never after."""
    with ForeignMemory(client) as one, ForeignMemory(client) as two:
        for _ in range(8):
            one.map(guest, range(8))  # dropped at once
            gc.collect()
            mapping = two.map(guest, range(20, 28))  # where the other was, as kernels go
            one.map(guest, [1]).close()
            assert client.read(mapping.address, 8 * PAGE_SIZE) == mapping[:]
            mapping.close()
        assert one.mappings() == two.mappings() == []


def test_a_mapping_has_no_other_size(foreign: ForeignMemory, guest: int) -> None:
    """Law: resize is refused: it would move the memory from under the broker's picture."""
    with foreign.map(guest, [1]) as mapping, pytest.raises(PrivcmdError, match="ENOTSUP"):
        mapping.resize(2 * PAGE_SIZE)


def test_closing_the_whole_closes_all(client: Client, guest: int) -> None:
    """Law: leaving ForeignMemory closes its mappings and descriptors; its client stays open."""
    before = held(client)
    with ForeignMemory(client) as foreign:
        mappings = [foreign.map(guest, [n]) for n in range(5)]
        foreign.map(guest, [7])  # dropped at once

        assert foreign.mappings() == sorted(mappings, key=lambda mapping: mapping.address)

    assert all(mapping.closed for mapping in mappings)
    assert held(client) == before


def test_it_can_open_its_own_client(broker: privcmd.PrivateBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: without a client it opens one where PRIVCMDD_SOCKET says, and closes it."""
    monkeypatch.setenv("PRIVCMDD_SOCKET", broker.path)

    with ForeignMemory() as foreign:
        client = foreign.client
        domid = client.domains.create("pvh", 1)
        foreign.map(domid, [0])

    assert client.closed


def test_paged_frames_are_asked_for_again(client: Client, foreign: ForeignMemory, guest: int) -> None:
    """Law: frames at ENOENT are tried again until they are in; other threads get their turn meanwhile."""
    client.domains.page_out(guest, [2, 3, 5])
    with foreign.map(guest, [1, 2, 3, 4, 5], errors="keep", paged_retries=2) as mapping:
        assert list(mapping.errors) == [0, -errno.ENOENT, -errno.ENOENT, 0, -errno.ENOENT]

    pager = threading.Thread(target=lambda: client.domains.page_in(guest, [2, 3, 5]))
    with client.lock:
        pager.start()  # it gets the lock when the mapping first pauses
        with pytest.raises(FrameError, match="ENOENT"):
            foreign.map(guest, [1, 2], paged_retries=0)
    with foreign.map(guest, [1, 2, 3, 4, 5], paged_retries=1_000_000) as mapping:
        mapping[: len(mapping)] = bytes(len(mapping))
        assert not any(mapping.errors)
    pager.join()


def test_new_incarnation_has_its_own_memory(client: Client, foreign: ForeignMemory, guest: int) -> None:
    """Law: when a domid is used again, its mappings show the new domain's memory, never the old one's."""
    with foreign.map(guest, [0]) as mapping:
        mapping[:3] = b"old"
    with Client(client.path) as toolstack:
        toolstack.domains.destroy(guest)
        toolstack.domains.create("hvm", 4, dom=guest)

    with foreign.map(guest, [0]) as mapping:
        assert mapping[:3] == bytes(3)
        mapping[:3] = b"new"
        assert client.read(mapping.address, 3) == b"new"


@pytest.mark.parametrize("n_pages", [1, 2, 48])
def test_every_permutation_of_runs(foreign: ForeignMemory, guest: int, n_pages: int) -> None:
    """Law: whatever runs the frames fall into, page i is frame gfns[i]."""
    with foreign.map(guest, range(20, 68)) as whole:
        for page in range(48):
            whole[page * PAGE_SIZE] = page + 1
        rng = np.random.default_rng(n_pages)
        for _ in range(8):
            gfns = rng.integers(20, 68, n_pages)
            with foreign.map(guest, gfns, PROT_READ) as mapping:
                assert [mapping[page * PAGE_SIZE] for page in range(n_pages)] == [gfn - 19 for gfn in gfns]


def test_batches_by_the_ioctls_names(client: Client, guest: int) -> None:
    """Law: V1 answers nibbles, V2 errors; both apply what the broker did to real memory, undoing nothing."""
    with ForeignMemory(client) as foreign, foreign.map(guest, range(16)) as whole, foreign.reserve(6) as area:
        for page in range(16):
            whole[page * PAGE_SIZE] = page + 1
        with pytest.raises(FrameError, match="EFAULT"):
            area.page(0)

        assert list(foreign.mmapbatch(guest, area.address, [3, ABSENT, 4])) == [3, ABSENT | 0xF0000000, 4]
        assert list(foreign.mmapbatch_v2(guest, area.address + 3 * PAGE_SIZE, [5, 6, ABSENT])) == [0, 0, -errno.EINVAL]

        assert list(area.errors) == [0, -errno.EINVAL, 0, 0, 0, -errno.EINVAL]
        assert [area[page * PAGE_SIZE] for page in (0, 2, 3, 4)] == [4, 5, 6, 7]
        client.domains.page_out(guest, [30])
        assert foreign.mmapbatch(guest, area.address, array("Q", [30]))[0] in (30 | 0xF0000000, 30 | 0x80000000)


def test_entries_apply_up_to_the_bad_one(client: Client, guest: int) -> None:
    """Law: MMAP applies entries in order; the first bad one raises, those before it are mapped here too."""
    with ForeignMemory(client) as foreign, foreign.map(guest, range(16)) as whole, foreign.reserve(8) as area:
        for page in range(16):
            whole[page * PAGE_SIZE] = page + 1
        entries = [
            (area.address, 2, 2),
            (area.address + 4 * PAGE_SIZE, 4, 1),
            (area.address + 6 * PAGE_SIZE, ABSENT, 1),
        ]

        with pytest.raises(PrivcmdError) as caught:
            foreign.mmap_entries(guest, entries)

        assert caught.value.details["entry"] == 2
        assert [area[page * PAGE_SIZE] for page in (0, 1, 4)] == [3, 4, 5]
        assert client.read(area.address + 4 * PAGE_SIZE, 1) == b"\5"
        foreign.mmap_entries(guest, [(area.address + 6 * PAGE_SIZE, 9, 2)])
        assert [area[page * PAGE_SIZE] for page in (6, 7)] == [10, 11]


def test_addresses_must_be_inside_a_mapping(client: Client, guest: int) -> None:
    """Law: addr= that is unaligned, unmapped, or reaches past a mapping's end is EINVAL, and nothing changes."""
    with ForeignMemory(client) as foreign, foreign.map(guest, range(4)) as mapping:
        before = held(client)
        for addr, frames in itertools.product((mapping.address + 1, 4096, mapping.address - PAGE_SIZE), ([1],)):
            with pytest.raises(PrivcmdError, match="EINVAL"):
                foreign.map(guest, frames, addr=addr)
        with pytest.raises(PrivcmdError, match="EINVAL"):
            foreign.map(guest, range(2), addr=mapping.address + 3 * PAGE_SIZE)
        with pytest.raises(PrivcmdError, match="EACCES"):
            foreign.map(guest, [1], PROT_READ, mapping.address)

        assert held(client) == before

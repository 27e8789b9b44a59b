# SPDX-License-Identifier: Apache-2.0
"""vm.max_map_count: how many runs of frames a process may map, and what happens beyond."""

from __future__ import annotations

import errno

import pytest

from privcmd import PAGE_SIZE, Client, ForeignMemory, PrivcmdError
from privcmd import _mman as mman

N_PAGES = 2 * 65536


@pytest.fixture
def big(client: Client) -> int:
    """A domain with more frames than the kernel allows mappings."""
    if mman.max_mappings() > N_PAGES // 2:
        pytest.skip(f"NOT TESTED: too many mappings; this machine allows {mman.max_mappings()}")
    return client.domains.create("hvm", N_PAGES)


def test_too_many_runs_are_refused_and_undone(client: Client, big: int) -> None:
    """Law: ENOMEM before the kernel is touched, naming limit and number; nothing stays anywhere."""
    client.attach()
    before, n_mappings = client.stats()["mappings"], mman.count_mappings()
    with ForeignMemory(client) as foreign:
        with pytest.raises(PrivcmdError, match=r"vm\.max_map_count") as caught:
            foreign.map(big, range(0, N_PAGES, 2))

        assert caught.value.errno == errno.ENOMEM
        assert caught.value.details["max_map_count"] == mman.max_mappings()
        assert caught.value.details["n_needed"] > N_PAGES // 2
        assert client.stats()["mappings"] == before
        assert mman.count_mappings() <= n_mappings + 8


def test_as_many_frames_in_runs_are_fine(client: Client, big: int) -> None:
    """Law: it is runs that count, not frames."""
    with ForeignMemory(client) as foreign, foreign.map(big, range(N_PAGES)) as mapping:
        mapping[-1] = 9
        assert client.read(mapping.address + len(mapping) - 1, 1) == b"\x09"


def test_a_replacement_without_room_leaves_the_old(client: Client, big: int) -> None:
    """Law: neither mode replaces at the broker what the kernel would not follow."""
    with ForeignMemory(client) as foreign, foreign.map(big, range(N_PAGES // 2 + 1024)) as mapping:
        mapping[:3] = b"old"
        for errors in (None, "keep"):
            with pytest.raises(PrivcmdError, match="ENOMEM"):
                foreign.map(big, range(0, N_PAGES, 2), addr=mapping.address, errors=errors)

        assert mapping[:3] == client.read(mapping.address, 3) == b"old"
        assert mapping[: 8 * PAGE_SIZE] == client.read(mapping.address, 8 * PAGE_SIZE)


def test_the_kernels_own_refusal_is_explained(client: Client, big: int) -> None:
    """Law: when nobody counted and the kernel says ENOMEM, the error still names the limit."""
    with ForeignMemory(client) as foreign:
        n_most = mman.max_mappings() - mman.count_mappings() - 2 * mman.MAPPINGS_SPARE
        held = [foreign.map(big, range(0, 2 * (n_most // 2), 2)), foreign.map(big, range(1, 2 * (n_most // 2), 2))]
        # Each is below what is worth counting for; that they are too many is found by the kernel.
        small = (foreign.map(big, range(0, 2000, 2)) for _ in range(4))
        with pytest.raises(PrivcmdError, match=r"vm\.max_map_count"):
            held.extend(small)
        assert client.ping()
        assert held[0][0] == 0

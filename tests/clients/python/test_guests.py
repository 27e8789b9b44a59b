# SPDX-License-Identifier: Apache-2.0
"""What a run asks the broker for, and what it tells its programs of."""

from __future__ import annotations

import pytest

from privcmd.run import _guests as guests
from privcmd.run import host
from privcmd.run.host import DomainConfig


@pytest.mark.parametrize(
    ("guest", "ranges"),
    [
        (DomainConfig("hvm", 512), [(0, 0xA0), (0xC0, 512 - 0xC0)]),
        (DomainConfig("hvm", 0xA0), [(0, 0xA0)]),
        (DomainConfig("hvm", 0xB0), [(0, 0xA0)]),
        (DomainConfig("hvm", 512, vga_hole=False), [(0, 512)]),
        (DomainConfig("pvh", 512), [(0, 512)]),
        (DomainConfig("pv", 512, holes=((8, 2), (4, 1))), [(0, 4), (5, 3), (10, 505)]),
        (DomainConfig("hvm", 0xA0, holes=((0xA0, 0x100),)), [(0, 0xA0)]),
        (DomainConfig("hvm", 0xA1, holes=((0xA0, 0x100),)), [(0, 0xA0), (0x1A0, 1)]),
        (DomainConfig("hvm", 32, holes=((0, 0x90),)), [(0x90, 0x10)]),
    ],
)
def test_where_a_guest_has_memory(guest: DomainConfig, ranges: list[tuple[int, int]]) -> None:
    """Law: memory jumps over holes that are asked for, and lacks the VGA's hole where builders make one."""
    assert guest.ranges == ranges


def test_a_guest_with_a_device_model_may_have_more() -> None:
    """Law: what is populated is the same with and without a device model, which has room for the memory of devices."""
    plain, emulated = (
        guests.request(DomainConfig("hvm", 512, "a"), dom=3, emulated=emulated) for emulated in (False, True)
    )

    assert plain == {**emulated, "max_pages": 512}
    assert emulated["max_pages"] == 512 + guests.DEVICE_PAGES
    assert (plain["dom"], plain["name"], plain["kind"]) == (3, "a", "hvm")


def test_a_program_is_told_of_its_domains_and_of_no_others() -> None:
    """Law: the first number, and all by name; numbers alone where a name is missing or would be misread."""
    names = ("web", "", "a,b", "c=d", "db")
    env = {"PRIVCMDD_DOMID": "9", "PRIVCMDD_DOMAINS": "old=9", "HOME": "/"}

    assert guests.told(env, [1, 2, 3, 4, 5], [DomainConfig("pv", 1, name) for name in names]) == {
        "HOME": "/",
        "PRIVCMDD_DOMID": "1",
        "PRIVCMDD_DOMAINS": "web=1,2,3,4,db=5",
    }
    assert guests.told(env, [], []) == {"HOME": "/"}


def test_the_old_name_still_works_and_warns() -> None:
    """Law: a name that goes is deprecated first; other names that are not there are AttributeErrors as ever."""
    with pytest.warns(DeprecationWarning, match=r"run\.host\.Guest is privcmd\.run\.host\.DomainConfig now"):
        assert host.Guest is DomainConfig
    with pytest.raises(AttributeError, match="has no attribute 'Guests'"):
        _ = host.Guests

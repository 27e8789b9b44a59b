# SPDX-License-Identifier: Apache-2.0
"""gntalloc: pages of domain 0's own, in files of their own, for as long as anybody holds them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privcmdd.model.errors import LawBroken
from privcmdd.model.machine.gntalloc import Holder
from support.desk import BASE, PAGE, USER, Desk, Refused, result

AT = BASE + (1 << 24)


class Shop:
    """A maker, and somebody on the other side."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.maker = self.desk.connect()
        self.other = self.desk.connect()
        for session in (self.maker, self.other):
            self.desk.call(session, "space.attach", personality="linux")
            self.desk.call(session, "mmap", addr=AT, len=8 * PAGE, prot=3, fixed=True, file="gntdev")

    def ask(self, session: Any, method: str, /, **params: Any) -> Any:
        """The answer, without its descriptor. Raises Refused."""
        reply = self.desk.reply(session, f"gntalloc.{method}", **params)
        for fd in reply.fds:
            os.close(fd)
        return result(reply)

    @property
    def files(self) -> int:
        """Memory files that are there."""
        return len(self.desk.backing.files)

    def fds(self) -> int:
        """Descriptors that the uid pays for."""
        n: int = self.desk.broker.world.usage()[str(USER)]["fds"]
        return n


def test_a_page_is_there_as_long_as_anybody_holds_it() -> None:
    """Freed while its maker or the other side has it mapped it stays granted; with the last of them its file goes."""
    shop = Shop()
    before = shop.fds()
    assert shop.ask(shop.maker, "alloc", dom=0, num=3) == {"refs": [8, 9, 10]}
    assert shop.ask(shop.maker, "map", refs=[8, 9, 10], addr=AT, own=True) == {"num": 3, "page": 0, "prot": 3}
    shop.ask(shop.maker, "free", refs=[8, 9, 10])
    assert (shop.files, shop.fds()) == (1, before + 1)

    assert shop.ask(shop.other, "map", refs=[9, 10], addr=AT) == {"num": 2, "page": 1, "prot": 3}
    shop.desk.call(shop.maker, "munmap", addr=AT, len=8 * PAGE)
    with pytest.raises(Refused, match="by number 8"):
        shop.ask(shop.other, "map", refs=[8])
    shop.desk.broker.disconnect(shop.other)

    assert (shop.files, shop.fds()) == (0, before - 1)


def test_who_maps_keeps_it_when_its_maker_ends() -> None:
    """And what a connection holds for a guest goes with the connection, or when it says so."""
    shop = Shop()
    dom = shop.desk.domain(shop.maker)
    refs = shop.ask(shop.maker, "alloc", dom=dom, num=1, writable=False)["refs"]
    assert shop.ask(shop.other, "map", refs=refs, on=dom) == {"num": 1, "page": 0, "prot": 1}
    with pytest.raises(Refused, match="EINVAL: one of these grants is not to domain 0"):
        shop.ask(shop.other, "map", refs=refs, addr=AT)

    shop.desk.broker.disconnect(shop.maker)
    assert shop.files == 2
    shop.ask(shop.other, "free", refs=refs)

    assert shop.files == 1


def test_several_allocations_are_mapped_one_after_the_other() -> None:
    """An answer has one file: as many as lie side by side in it."""
    shop = Shop()
    first = shop.ask(shop.maker, "alloc", dom=0, num=2)["refs"]
    second = shop.ask(shop.maker, "alloc", dom=0, num=2)["refs"]

    for asked, num in ((first + second, 2), (first[:1] + second, 1), (second[::-1], 1), (second * 2, 2)):
        assert shop.ask(shop.other, "map", refs=asked)["num"] == num


def test_what_was_said_is_done_when_its_maker_lets_go() -> None:
    """A byte is cleared for who still has the page, though that one goes on."""
    shop = Shop()
    (ref,) = shop.ask(shop.maker, "alloc", dom=0, num=1)["refs"]
    (file,) = shop.desk.backing.files
    shop.desk.backing.write(file, 0, 0, b"\xff" * 8)
    shop.ask(shop.maker, "notify", ref=ref, action=1, offset=2)
    shop.ask(shop.other, "map", refs=[ref], addr=AT)
    shop.desk.call(shop.other, "gntdev.notify", addr=AT + 4, action=1)

    shop.ask(shop.maker, "free", refs=[ref])
    assert shop.desk.backing.read(file, 0, 0, 8) == b"\xff\xff\0\xff\xff\xff\xff\xff"
    (again,) = shop.ask(shop.maker, "alloc", dom=0, num=1)["refs"]
    assert again != ref
    other = shop.desk.connect()
    shop.ask(other, "map", refs=[ref])
    shop.desk.call(shop.other, "munmap", addr=AT, len=PAGE)
    assert shop.desk.backing.read(file, 0, 0, 8) == b"\xff\xff\0\xff\0\xff\xff\xff"


@pytest.mark.parametrize(
    ("method", "asked", "name"),
    [
        ("alloc", {"dom": 0, "num": 0}, "EINVAL"),
        ("alloc", {"dom": 0, "num": 1025}, "EINVAL"),
        ("alloc", {"dom": 0, "num": 1023}, "ENOSPC"),
        ("map", {"refs": []}, "EINVAL"),
        ("map", {"refs": [7]}, "ENOENT"),
        ("map", {"refs": [8], "addr": AT + 1}, "EINVAL"),
        ("map", {"refs": [8], "addr": BASE}, "EINVAL"),
        ("map", {"refs": [9], "addr": AT}, "EINVAL"),
        ("map", {"refs": [8], "own": True}, "ENOENT"),
        ("free", {"refs": [8]}, "ENOENT"),
        ("notify", {"ref": 8, "action": 1}, "ENOENT"),
    ],
)
def test_what_cannot_be_had_is_refused(method: str, asked: dict[str, Any], name: str) -> None:
    """And changes nothing: no file is left, none is lost."""
    shop = Shop()
    shop.ask(shop.maker, "alloc", dom=0, num=1)
    shop.ask(shop.maker, "alloc", dom=0, num=1, writable=False)

    with pytest.raises(Refused) as refused:
        shop.ask(shop.other, method, **asked)

    assert (refused.value.name, shop.files) == (name, 2)
    shop.desk.broker.check()


def test_a_holder_that_does_not_hold_is_found() -> None:
    """Law 12, in both directions."""
    shop = Shop()
    shop.ask(shop.maker, "alloc", dom=0, num=1)
    shop.ask(shop.other, "map", refs=[8], addr=AT)
    mappers = shop.desk.broker.world.machine.shares.refs[8].mappers
    (holder,) = mappers

    for wrong in (set(), {Holder("page", holder.number, 1)}, {holder, Holder("page", 999, holder.page)}):
        shop.desk.broker.world.machine.shares.refs[8].mappers = wrong
        with pytest.raises(LawBroken, match="12 shared pages"):
            shop.desk.broker.check()
    shop.desk.broker.world.machine.shares.refs[8].mappers = mappers
    shop.desk.broker.check()


STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(8, 13), st.integers(0, 7), st.booleans()), max_size=20)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_nothing_breaks_the_law_of_shares(steps: list[tuple[int, int, int, bool]]) -> None:
    """Made, mapped, freed, unmapped in any order: law 12 after every step, and no file is left at the end."""
    shop = Shop()
    for what, ref, page, flag in steps:
        session, addr = shop.maker if flag else shop.other, AT + page * PAGE
        calls: list[tuple[str, dict[str, Any]]] = [
            ("gntalloc.alloc", {"dom": 0, "num": 1 + page % 3, "writable": page != 3}),
            ("gntalloc.map", {"refs": [ref, ref + 1], "addr": addr, "own": flag}),
            ("gntalloc.map", {"refs": [ref], "addr": 0}),
            ("gntalloc.free", {"refs": [ref]}),
            ("munmap", {"addr": addr, "len": PAGE}),
            ("mmap", {"addr": addr, "len": PAGE, "prot": 3, "fixed": True, "file": "gntdev"}),
        ]
        method, params = calls[what]
        reply = shop.desk.reply(session, method, **params)
        assert not reply.close, reply.incident
        for fd in reply.fds:
            os.close(fd)
    shop.desk.broker.disconnect(shop.maker)
    shop.desk.broker.disconnect(shop.other)
    shop.desk.broker.check()
    assert shop.files == 0

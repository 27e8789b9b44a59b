# SPDX-License-Identifier: Apache-2.0
"""Hypercalls that the broker does not have are counted by their names."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

import privcmdd
from privcmdd.service.hypercalls import memory_op
from privcmdd.service.world import MOST_NAMES, OTHERS
from support.desk import Refused
from support.tool import XEN_VERSION, Tool

PACKAGE = Path(privcmdd.__file__).parent


def test_what_is_not_answered_is_counted(tool: Tool) -> None:
    """By name, in stats, so that one can see what a program wanted."""
    tool.call(60)
    tool.call(60)
    tool.call(27)
    tool.domctl(9999, tool.build())
    tool.domctl(22, tool.build())

    counted = tool.desk.call(tool.session, "stats")["broker"]["unanswered"]
    assert counted == {"hypercall 60": 2, "hypercall xsm_op": 1, "domctl 9999": 1, "domctl hypercall_init": 1}


def test_who_asked_is_told_at_the_end_of_its_space(tool: Tool) -> None:
    """Law: the notification of a space's end says what its own process asked for and did not get, and how often."""
    watcher, other = tool.desk.connect(), Tool(tool.desk, tool.desk.connect())
    tool.desk.call(watcher, "subscribe", topics=["space"])
    other.call(61)
    for _ in range(2):
        tool.call(60)
    tool.desk.broker.disconnect(tool.session)

    (told,) = (event.params[0] for event in tool.desk.events)
    assert (told["state"], told["unanswered"]) == ("gone", {"hypercall 60": 2})


def test_names_that_nobody_expected_are_counted_together(tool: Tool) -> None:
    """However many numbers a client makes up, a bounded number of names is kept, and no call goes uncounted."""
    for number in range(1000, 1000 + 2 * MOST_NAMES):
        tool.call(number)

    counted = tool.desk.call(tool.session, "stats")["broker"]["unanswered"]
    assert (len(counted), counted[OTHERS], sum(counted.values())) == (MOST_NAMES + 1, MOST_NAMES, 2 * MOST_NAMES)


def test_an_ioctl_that_no_device_has_is_counted(tool: Tool) -> None:
    """Refused as its driver does, and counted: by its name where newer kernels have it."""

    def ask(device: str, number: int) -> tuple[int, str]:
        answer = tool.desk.call(tool.session, "privcmd.unknown_ioctl", device=device, number=number)
        return answer["ret"], answer["why"]

    assert ask("privcmd", 0x5063) == (-errno.ENOTTY, "ENOTTY: privcmd ioctl 0x5063 is not answered here")
    assert ask("evtchn", 0x4_4507)[0] == -errno.ENOSYS
    assert ask("gntdev", 0x14_4709)[0] == -errno.ENOTTY

    assert tool.desk.call(tool.session, "stats")["broker"]["unanswered"] == {
        "privcmd ioctl 0x5063": 1,
        "evtchn ioctl BIND_STATIC (0x44507)": 1,
        "gntdev ioctl DMABUF_EXP_FROM_REFS (0x144709)": 1,
    }


def test_every_enosys_is_counted(tool: Tool) -> None:
    """Law: no refusal is ENOSYS that is not counted, of requests as of hypercalls and of operations below them."""
    with pytest.raises(Refused, match=r"there is no method privcmd\.map"):
        tool.desk.call(tool.session, "privcmd.map")
    dom = tool.build()
    assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, domid=dom, space=9)[0] == -errno.ENOSYS
    assert tool.call(XEN_VERSION, 99) == -errno.ENOSYS

    assert tool.desk.call(tool.session, "stats")["broker"]["unanswered"] == {
        "method privcmd.map": 1,
        "memory_op add_to_physmap of space 9": 1,
        "xen_version 99": 1,
    }
    raisers = {path.name for path in PACKAGE.rglob("*.py") if "errno.ENOSYS" in path.read_text(encoding="utf-8")}
    assert raisers == {"errors.py", "privcmd.py"}  # Unanswered, and evtchn's ENOSYS for an Unanswered

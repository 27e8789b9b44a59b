# SPDX-License-Identifier: Apache-2.0
"""The caller's memory: pointers into hypercall buffers, and the file that the buffers are pages of."""

from __future__ import annotations

import errno

import pytest

from support.desk import PAGE
from support.tool import (
    BUFFERS,
    DOMCTL,
    EVENTS,
    HVM_OP,
    MEMORY_OP,
    MULTICALL,
    N_BUFFERS,
    SYSCTL,
    XEN_VERSION,
    Tool,
)


@pytest.mark.parametrize(
    "address",
    [0, 1, BUFFERS - 1, BUFFERS + N_BUFFERS * PAGE - 1, BUFFERS + N_BUFFERS * PAGE, 2**47, 2**63, 2**64 - 1],
    ids=hex,
)
@pytest.mark.parametrize("op", [MEMORY_OP, MULTICALL, XEN_VERSION, EVENTS, HVM_OP, SYSCTL, DOMCTL])
def test_bad_pointers_are_efault(tool: Tool, op: int, address: int) -> None:
    """Not mapped, not a buffer, or running past its end: EFAULT, and nothing is touched."""
    before = {key: {page: bytes(data) for page, data in file.items()} for key, file in tool.desk.backing.files.items()}
    args = {
        MEMORY_OP: (3, address),
        MULTICALL: (address, 1),
        XEN_VERSION: (3, address),
        EVENTS: (6, address),
        HVM_OP: (1, address),
    }.get(op, (address,))

    assert tool.call(op, *args) == -errno.EFAULT

    assert tool.desk.backing.files == before


def test_buffers_are_pages_of_a_file(tool: Tool) -> None:
    """Mmap says which; they are shared with the children of a fork, and empty when they are mapped anew."""
    desk, session = tool.desk, tool.session
    size = desk.call(session, "maps")["entries"]
    assert [(entry["file"], entry["inherit"]) for entry in size] == [("hypercall", "copy")]
    more = desk.call(session, "mmap", len=2 * PAGE, prot=3, file="hypercall")
    assert more["page"] == N_BUFFERS
    tool.put(b"shared", more["addr"])
    child = desk.connect()
    desk.call(child, "space.attach", space=desk.call(session, "space.fork")["space"])

    assert desk.call(child, "read", addr=more["addr"], len=6)["data"] == b"shared"
    desk.call(session, "munmap", addr=more["addr"], len=2 * PAGE)
    assert desk.call(child, "read", addr=more["addr"], len=6)["data"] == b"shared"
    desk.call(child, "munmap", addr=more["addr"] + PAGE, len=PAGE)
    desk.call(child, "munmap", addr=more["addr"], len=PAGE)
    again = desk.call(child, "mmap", len=PAGE, prot=3, file="hypercall")
    assert again["page"] == N_BUFFERS
    assert desk.call(child, "read", addr=again["addr"], len=6)["data"] == bytes(6)
    assert len(desk.backing.files) == 1
    desk.broker.disconnect(session)
    assert len(desk.backing.files) == 1
    desk.broker.disconnect(child)
    assert desk.backing.files == {}

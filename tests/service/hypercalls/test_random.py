# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes a hypercall finds: it answers a value or an errno, every law holds, a refusal changes nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from privcmdd.service.hypercalls import createdomain, domctl, event_channel_op, hvm_op, sysctl
from support.desk import PAGE, Refused
from support.profiles import PROFILE
from support.random_arguments import DOMAINS, MEMORY_LAYOUTS, NUMBERS, built, check, state, values_of
from support.tool import ARRAY, BUFFERS, DOMCTL, EVENTS, HVM_OP, MEMORY_OP, SYSCTL

if TYPE_CHECKING:
    from privcmdd.service.layout import Layout

PLACE = 0x30_0000_0000


@given(st.integers(0, 60), st.lists(NUMBERS, max_size=5), st.binary(max_size=256))
@PROFILE.law
def test_random_calls(op: int, args: list[int], data: bytes) -> None:
    """Any number, any arguments, any bytes behind them."""
    tool = built()
    if data:
        tool.put(data)
    before = state(tool)

    ret = tool.call(op, *args)

    if op != 13:  # of several calls in one, those before the bad pointer are done
        check(tool, before, ret)


@given(st.data())
@PROFILE.law
def test_random_memory_operations(data: st.DataObject) -> None:
    """Structures of the right shape, with anything in them."""
    tool = built()
    command = data.draw(st.sampled_from(sorted(MEMORY_LAYOUTS)))
    layout = MEMORY_LAYOUTS[command]
    tool.put(data.draw(st.binary(min_size=64, max_size=64)), ARRAY)
    tool.put(layout.pack(data.draw(values_of(layout))))
    before = state(tool)

    check(tool, before, tool.call(MEMORY_OP, command, BUFFERS))


@given(st.data())
@PROFILE.law
def test_random_domctls_and_sysctls(data: st.DataObject) -> None:
    """Of the right version, with anything in them."""
    tool = built()
    is_domctl = data.draw(st.booleans())
    head, commands = (domctl.HEAD, domctl.COMMANDS) if is_domctl else (sysctl.HEAD, sysctl.COMMANDS)
    layouts: dict[int, Layout] = {number: layout for number, (layout, _) in commands.items()}
    if is_domctl:
        layouts[domctl.CREATEDOMAIN] = createdomain.CREATE["4.17"]
    command = data.draw(st.sampled_from(sorted(layouts)))
    first = head.pack({"cmd": command, "interface_version": 0x15, "domain": data.draw(DOMAINS)})
    tool.put((first + layouts[command].pack(data.draw(values_of(layouts[command])))).ljust(144, b"\0"))
    before = state(tool)

    check(tool, before, tool.call(DOMCTL if is_domctl else SYSCTL, BUFFERS))


@given(st.sampled_from([0, 1, 15]), values_of(hvm_op.PARAM), values_of(event_channel_op.ALLOC_UNBOUND))
@PROFILE.law
def test_random_parameters_and_ports(command: int, param: dict[str, Any], port: dict[str, Any]) -> None:
    """The rest."""
    tool = built()
    before = state(tool)
    tool.put(hvm_op.PARAM.pack(param))
    check(tool, before, tool.call(HVM_OP, command, BUFFERS))
    before = state(tool)
    tool.put(event_channel_op.ALLOC_UNBOUND.pack(port))
    check(tool, before, tool.call(EVENTS, 6, BUFFERS))


@given(
    DOMAINS,
    st.lists(st.binary(max_size=64), max_size=3),
    st.sampled_from([0, 1, 6, 11, 12, 20, 99]),
    st.lists(NUMBERS, max_size=4),
)
@PROFILE.law
def test_random_requests_of_device_models(dom: int, bufs: list[bytes], op: int, words: list[int]) -> None:
    """Any bytes in any number of buffers, and likely ones in the first."""
    tool = built()
    first = op.to_bytes(8, "little") + b"".join(word.to_bytes(8, "little") for word in words)
    before = state(tool)

    answer = tool.desk.call(tool.session, "privcmd.dm_op", dom=dom, bufs=[first, *bufs])

    assert [len(buf) for buf in answer["bufs"]] == [len(first), *map(len, bufs)]
    check(tool, before, answer["ret"])


@given(
    st.sampled_from(["uvm", "linux"]),
    st.lists(
        st.fixed_dictionaries(
            {
                "dom": DOMAINS,
                "type": st.sampled_from([0, 1, 2, 3, 0x10001]),
                "id": st.integers(0, 2),
                "idx": st.sampled_from([0, 1, 3, 4, 2**32 - 1]),
                "num": st.sampled_from([0, 1, 2, 4, 5, 2**20, 2**53 - 1]),
                "addr": st.sampled_from([0, 1, PLACE - PAGE, PLACE, PLACE + 8, PLACE + 2 * PAGE, 2**47, 2**53 - 1]),
            }
        ),
        max_size=4,
    ),
)
@PROFILE.law
def test_random_resources(personality: str, requests: list[dict[str, Any]]) -> None:
    """Over a mapping of three pages, below it, past it; unmapped afterwards, nothing is left."""
    tool = built()
    desk = tool.desk
    session = desk.connect()
    desk.call(session, "space.attach", personality=personality)
    desk.call(session, "mmap", addr=PLACE, len=3 * PAGE, prot=3, fixed=True)
    desk.call(session, "mmap", addr=PLACE + 3 * PAGE, len=PAGE, prot=3, fixed=True, file="anon")
    desk.call(tool.session, "privcmd.dm_op", dom=1, bufs=[bytes([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])])

    for params in requests:
        with contextlib.suppress(Refused):
            desk.call(session, "privcmd.mmap_resource", **params, extents=True)
        desk.broker.check()

    desk.broker.disconnect(session)
    desk.broker.check()
    assert tool.domctl(2, 1)[0] == 0
    assert 1 not in desk.broker.world.machine.domains

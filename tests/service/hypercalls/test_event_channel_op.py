# SPDX-License-Identifier: Apache-2.0
"""``event_channel_op``: ports made for domains."""

from __future__ import annotations

from privcmdd.service.hypercalls import event_channel_op
from support.tool import (
    BUFFERS,
    EVENTS,
    Tool,
)


def test_event_channels_are_numbered(tool: Tool) -> None:
    """alloc_unbound: the next port of that domain."""
    dom = tool.build()

    ports = []
    for _ in range(2):
        tool.put(event_channel_op.ALLOC_UNBOUND.pack({"dom": dom, "remote_dom": 0}))
        assert tool.call(EVENTS, 6, BUFFERS) == 0
        ports.append(event_channel_op.ALLOC_UNBOUND.unpack(tool.get(8))["port"])

    assert ports == [1, 2]

# SPDX-License-Identifier: Apache-2.0
"""Any stream of bytes: however it is cut it gives the same events, and parameters are taken or refused in words."""

from __future__ import annotations

import zlib

from privcmdd.wire.connection import Connection
from privcmdd.wire.messages import Request
from privcmdd.wire.methods import METHODS, ParamError, validate
from support.documents import feed, plain


def one(data: bytes) -> None:
    """Feed a stream whole and in pieces that its own bytes decide, and hold each request against the table."""
    whole = feed([data])
    size = zlib.crc32(data) % 7 + 1
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [plain(event) for event in feed(pieces)] == [plain(event) for event in whole]
    for event in whole:
        method = METHODS.get(event.method) if isinstance(event, Request) else None
        if isinstance(event, Request) and method is not None:
            try:
                values = validate(method, event.params)
            except ParamError as error:
                assert error.text
                continue
            assert values.keys() == method.checks.keys()
    connection = Connection()
    connection.receive(data)
    counted = connection.statistics()
    assert counted.bytes_received == len(data)
    assert counted.buffered_bytes <= len(data)
    connection.receive_end()

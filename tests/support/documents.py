# SPDX-License-Identifier: Apache-2.0
"""Strategies: documents that msgpack can hold, messages that a client might send, and streams of both."""

from typing import Any

import msgpack
from hypothesis import strategies as st

from privcmdd.wire.connection import Connection, Event, ProtocolError
from privcmdd.wire.messages import BadRequest, Notification, Request

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.text(max_size=40),
    st.binary(max_size=300),
)

DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=8), inner, max_size=6)),
    max_leaves=20,
)

MAPS = st.dictionaries(st.text(max_size=8), st.one_of(SCALARS, st.lists(SCALARS, max_size=4)), max_size=5)

MESSAGES: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just(0), st.integers(0, 2**32 - 1), st.text(max_size=12), st.tuples(MAPS)),
    st.tuples(st.just(0), st.integers(0, 2**32 - 1), st.just(b"ping"), st.just([])),
    st.tuples(st.just(0), st.integers(0, 2**32 - 1), st.just("ping"), st.lists(SCALARS, max_size=3)),
    st.tuples(st.just(2), st.text(max_size=12), st.lists(SCALARS, max_size=3)),
)

# Streams: mostly what a client sends, now and then anything at all.
STREAMS = st.lists(
    st.one_of(
        MESSAGES.map(msgpack.packb),
        MESSAGES.map(msgpack.packb),
        MESSAGES.map(msgpack.packb),
        DOCUMENTS.map(msgpack.packb),
        st.binary(max_size=12),
    ),
    max_size=6,
).map(b"".join)


def feed(pieces: list[bytes]) -> list[Event]:
    """All events of a stream that comes in these pieces."""
    connection = Connection()
    return [event for piece in pieces for event in connection.receive(piece)]


def plain(event: Event) -> tuple[Any, ...]:
    """An event as a tuple whose comparison tells 1 from true."""
    match event:
        case Request():
            return ("request", event.msgid, event.method, repr(event.params))
        case BadRequest():
            return ("bad request", event.msgid, event.method, event.errno, event.text)
        case Notification():
            return ("notification", event.method, repr(event.params))
        case ProtocolError():
            return ("protocol error", event.reason, event.text)

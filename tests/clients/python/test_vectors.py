# SPDX-License-Identifier: Apache-2.0
"""The golden vectors, seen from the client: what we send is theirs byte for byte, what they send is understood."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from privcmd import _calls as calls
from privcmd._descriptors import DESCRIPTORS
from privcmd._protocol import Answer, Conversation, Notification, close_all, result_of
from privcmd.errors import PrivcmdError
from privcmd.evtchn import EventChannel
from privcmdd.wire.methods import METHODS, validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmd._call import Call

VECTORS = json.loads((Path(__file__).parents[3] / "clients/protocol/vectors.json").read_text(encoding="utf-8"))[
    "vectors"
]

SAMPLES: dict[str, Any] = {
    "int": 1,
    "str": "hvm",
    "device": "privcmd",
    "bytes": b"x",
    "Iterable[int]": [1],
    "Sequence[int]": [1],
    "Sequence[bytes]": [b"x"],
    "Sequence[tuple[int, int, int]]": [(0, 0, 1)],
    "Sequence[Mapping[str, int]]": [{"flags": 1, "len": 1}],
}
"""A value for each annotation that a required parameter has; first for parameters by their name."""


def called(make: Callable[..., Call[Any]]) -> Call[Any]:
    """What a call builds, with a value for each parameter that needs one."""
    given = [
        SAMPLES.get(param.name, SAMPLES[param.annotation])
        for param in inspect.signature(make).parameters.values()
        if param.default is param.empty and param.kind is not param.VAR_POSITIONAL
    ]
    return make(*given)


CALLS = {
    call.method: call
    for call in (
        called(make) for _, make in inspect.getmembers(calls, inspect.isfunction) if make.__module__ == calls.__name__
    )
}


def of(*kinds: str) -> list[Any]:
    """Vectors of some kinds, as test parameters."""
    return [
        pytest.param(vector, id=vector["name"])
        for vector in VECTORS
        if vector["kind"] in kinds and not is_for_nvim(vector)
    ]


def is_for_nvim(vector: dict[str, Any]) -> bool:
    """Whether it is an error in the form of a feature that this client never asks for."""
    return vector["kind"] == "error" and len(vector["value"][2]) == 2


def from_json(value: Any) -> Any:
    """The notation of the vectors as values."""
    if isinstance(value, dict):
        if set(value) == {"$bin"}:
            return bytes.fromhex(value["$bin"])
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value


def asked(msgid: int, method: str) -> Conversation:
    """A conversation in which this request is open."""
    conversation = Conversation()
    conversation._next_msgid = msgid
    conversation.request(method, {})
    return conversation


@pytest.mark.parametrize("vector", of("request"))
def test_requests_are_sent_byte_for_byte(vector: dict[str, Any]) -> None:
    """Law: the client's encoding of a request is the vector's."""
    _, msgid, method, params = from_json(vector["value"])
    conversation = Conversation()
    conversation._next_msgid = msgid

    assert conversation.request(method, params[0] if params else {}) == (msgid, bytes.fromhex(vector["bytes"]))


@pytest.mark.parametrize("vector", of("response", "numbered"))
def test_answers_are_understood(vector: dict[str, Any]) -> None:
    """Law: every answer of every method can be read by the typed call for it."""
    _, msgid, _, _ = vector["value"]
    method = vector["name"].partition(":")[0]
    conversation = asked(msgid, method)
    fds = [os.open(os.devnull, os.O_RDWR) for _ in range(DESCRIPTORS.get(method, 0))]

    (answer,) = conversation.receive(bytes.fromhex(vector["bytes"]), fds)

    assert isinstance(answer, Answer)
    value = result_of(CALLS[method].read, answer)
    assert not isinstance(value, PrivcmdError)
    if isinstance(value, EventChannel):
        value.close()
    else:
        close_all(fds)


@pytest.mark.parametrize("vector", of("error"))
def test_errors_become_exceptions(vector: dict[str, Any]) -> None:
    """Law: an error triple becomes an OSError with the same errno, text and details."""
    _, msgid, error, _ = from_json(vector["value"])

    (answer,) = asked(msgid, "ping").receive(bytes.fromhex(vector["bytes"]))

    assert isinstance(answer, Answer)
    assert answer.error is not None
    assert (answer.error.errno, str(answer.error), answer.error.details) == (error[0], error[1], error[2])


@pytest.mark.parametrize("vector", of("notification"))
def test_notices_are_understood(vector: dict[str, Any]) -> None:
    """Law: a notification becomes a notice with its topic and body."""
    _, topic, params = from_json(vector["value"])

    assert Conversation().receive(bytes.fromhex(vector["bytes"])) == [Notification(topic, params[0])]


def test_every_method_of_the_table_has_a_call() -> None:
    """Law: the library can do all that the broker can, and knows which answers bring descriptors."""
    with_fds = {name: method.fds_out for name, method in METHODS.items() if method.fds_out}

    assert set(CALLS) == set(METHODS)
    assert with_fds == DESCRIPTORS


@pytest.mark.parametrize("method", sorted(CALLS))
def test_calls_send_what_the_table_takes(method: str) -> None:
    """Law: the broker's own check of parameters has nothing to say about a typed call's."""
    validate(METHODS[method], dict(CALLS[method].params))

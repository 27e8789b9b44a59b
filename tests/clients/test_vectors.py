# SPDX-License-Identifier: Apache-2.0
"""The golden vectors, seen from the client: what we send is theirs byte for byte, what they send is understood."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from privcmd import calls, faults
from privcmd.errors import PrivcmdError
from privcmd.evtchn import EventChannel
from privcmd.protocol import DESCRIPTORS, Answer, Conversation, Notice, close_all, result_of
from privcmdd.wire.methods import METHODS, validate

if TYPE_CHECKING:
    from privcmd.calls import Call

VECTORS = json.loads((Path(__file__).parents[2] / "clients/protocol/vectors.json").read_text(encoding="utf-8"))[
    "vectors"
]

CALLS: dict[str, Call[Any]] = {
    call.method: call
    for call in (
        calls.hello(),
        calls.ping(),
        calls.describe(),
        calls.stats(),
        calls.subscribe("domain"),
        calls.findings(),
        calls.clear_findings(),
        calls.attach(),
        calls.fork(),
        calls.mmap(0, 4096, 1),
        calls.munmap(0, 4096),
        calls.mprotect(0, 4096, 1),
        calls.read(0, 1),
        calls.write(0, b"x"),
        calls.fault(0),
        calls.maps(),
        calls.privcmd_mmap(1, [(0, 0, 1)]),
        calls.privcmd_mmapbatch(1, 0, [1]),
        calls.privcmd_mmapbatch_v2(1, 0, [1]),
        calls.restrict(1),
        calls.mmap_resource(1, 1, 0),
        calls.hypercall(17, 0),
        calls.dm_op(1, [b"x"]),
        calls.map_grants(1, 0, [1]),
        calls.copy_grants([]),
        calls.notify_unmapped(0, 0),
        calls.share_pages(1, 1),
        calls.unshare_pages([8]),
        calls.notify_unshared(8, 1),
        calls.map_shared([8]),
        calls.buffers(),
        calls.evtchn_alloc_unbound(0, on=1),
        calls.evtchn_bind_interdomain(1, 1),
        calls.evtchn_bind_virq(3),
        calls.evtchn_attach(1, on=1),
        calls.evtchn_close(1),
        calls.evtchn_notify(1),
        calls.evtchn_pending(1),
        calls.evtchn_list(on=1),
        calls.evtchn_restrict(1),
        calls.ioreq_servers(1),
        calls.interrupts(1),
        calls.domain_create("hvm", 1),
        calls.domain_destroy(1),
        calls.domain_list(),
        calls.domain_info(1),
        calls.domain_memory(1),
        calls.domain_populate(1, [1]),
        calls.domain_decrease_reservation(1, [1]),
        calls.domain_page_out(1, [1]),
        calls.domain_page_in(1, [1]),
        faults.add(errno="EIO"),
        faults.listed(),
        faults.clear(),
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

    assert Conversation().receive(bytes.fromhex(vector["bytes"])) == [Notice(topic, params[0])]


def test_every_method_of_the_table_has_a_call() -> None:
    """Law: the library can do all that the broker can, and knows which answers bring descriptors."""
    with_fds = {name: method.fds_out for name, method in METHODS.items() if method.fds_out}

    assert set(CALLS) == set(METHODS)
    assert with_fds == DESCRIPTORS


@pytest.mark.parametrize("method", sorted(CALLS))
def test_calls_send_what_the_table_takes(method: str) -> None:
    """Law: the broker's own check of parameters has nothing to say about a typed call's."""
    validate(METHODS[method], dict(CALLS[method].params))

# SPDX-License-Identifier: Apache-2.0
"""The golden vectors hold on the broker's side, fit the schema, and are fresh."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from privcmdd.wire.connection import Connection, ProtocolError
from privcmdd.wire.messages import Notification, Request, notification, response_error, response_ok
from privcmdd.wire.methods import METHODS, validate
from support.vectors import PROTOCOL, SCHEMA, VECTORS, complaint


def of(*kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test once for each vector of these kinds."""
    chosen = [vector for vector in VECTORS if vector["kind"] in kinds]
    return pytest.mark.parametrize("vector", chosen, ids=[vector["name"] for vector in chosen])


def real(value: Any) -> Any:
    """Turn the notation of the vectors into values."""
    if isinstance(value, dict):
        return bytes.fromhex(value["$bin"]) if list(value) == ["$bin"] else {k: real(v) for k, v in value.items()}
    return [real(item) for item in value] if isinstance(value, list) else value


def receive(vector: dict[str, Any]) -> Any:
    """Decode a vector's bytes; the one event they make."""
    (event,) = Connection().receive(bytes.fromhex(vector["bytes"]))
    return event


def test_nothing_made_from_the_table_is_stale() -> None:
    """The page, the schema and the vectors are what the table makes today."""
    done = subprocess.run(
        [sys.executable, PROTOCOL / "generate.py", "--check"], capture_output=True, text=True, check=False
    )

    assert done.stdout == ""
    assert done.returncode == 0, done.stderr


def test_every_method_has_its_vectors() -> None:
    """At least one request and one response each."""
    names = {vector["name"] for vector in VECTORS}

    assert {f"{name}: {kind}" for name in METHODS for kind in ("request", "response")} <= names


@of("request")
def test_a_request_is_understood(vector: dict[str, Any]) -> None:
    """The bytes are the request that they say, and its parameters hold against the table."""
    _, msgid, method, (params,) = real(vector["value"])

    assert receive(vector) == Request(msgid, method, params)
    assert set(validate(METHODS[method], params)) == {param.name for param in METHODS[method].params}


@of("accepted")
def test_other_forms_mean_the_same(vector: dict[str, Any]) -> None:
    """What other clients' libraries write is understood as the request that it means."""
    _, msgid, method, (params,) = real(vector["meaning"])

    assert receive(vector) == Request(msgid, method, params)
    validate(METHODS[method], params)


@of("response", "numbered")
def test_a_result_is_written_so(vector: dict[str, Any]) -> None:
    """Our encoder makes exactly the golden bytes."""
    _, msgid, _, result = real(vector["value"])

    assert response_ok(msgid, result).hex() == vector["bytes"]


@of("error")
def test_an_error_is_written_so(vector: dict[str, Any]) -> None:
    """Both error forms, to the byte."""
    _, msgid, (errno, line, *details), _ = real(vector["value"])
    if details:
        made = response_error(msgid, errno, line.partition(": ")[2], details[0])
    else:
        made = response_error(msgid, 3, line.partition(": ")[2], nvim=True)

    assert made.hex() == vector["bytes"]


@of("notification")
def test_a_notification_is_written_so(vector: dict[str, Any]) -> None:
    """One map in an array, to the byte."""
    _, topic, (body,) = real(vector["value"])

    assert notification(topic, body).hex() == vector["bytes"]


@of("ignored")
def test_greetings_are_told_apart(vector: dict[str, Any]) -> None:
    """A client's notification is one, whatever it says."""
    assert isinstance(receive(vector), Notification)


@of("refused")
def test_a_refusal_has_its_reason(vector: dict[str, Any]) -> None:
    """The stream ends, for the reason beside the bytes."""
    event = receive(vector)

    assert isinstance(event, ProtocolError)
    assert event.reason == vector["reason"]


@of("request", "response", "error", "notification")
def test_the_schema_describes_the_message(vector: dict[str, Any]) -> None:
    """A golden message fits the schema, and one with a key too many does not."""
    value = vector["value"]
    assert complaint(value, SCHEMA) is None
    if vector["kind"] == "request":
        spoilt = [*value[:3], [{**value[3][0], "nonsense": 1}]]
        assert complaint(spoilt, SCHEMA) is not None


@of("response")
def test_the_schema_describes_the_result(vector: dict[str, Any]) -> None:
    """Not just some method's result: this one's."""
    name = vector["name"].removesuffix(": response")

    assert complaint(vector["value"][3], SCHEMA["$defs"][f"{name}.result"]) is None

# SPDX-License-Identifier: Apache-2.0
"""The C client writes each request of the protocol's vectors, and counts the keys of its maps itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CLIENT = Path(__file__).resolve().parents[3] / "clients"
SOURCES = (str(CLIENT / "c" / "request.c"), str(CLIENT / "c" / "msgpack.c"))
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TIMEOUT_S = 60
# A map's head is one byte.
KEYS_MOST = 15
UINT_MOST = 2**53 - 1


def run(compiled: Callable[..., Path], steps: Sequence[str]) -> list[str]:
    """What requests.c prints: the bytes of each request, or ``failed``."""
    done = subprocess.run(
        [compiled("requests.c", *SOURCES, *SANITIZERS)],
        input="".join(step + "\n" for step in steps),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def element(value: Any) -> Iterator[str]:
    """The steps that write an element of a list."""
    match value:
        case bytes():
            yield f"element {value.hex()}"
        case dict():
            yield "map"
            yield from pairs(value)
            yield "end"
        case _:
            raise NotImplementedError(value)


def pairs(params: Mapping[str, Any]) -> Iterator[str]:
    """The steps that write keys with their values."""
    for key, value in params.items():
        match value:
            case None:
                yield f"nil {key} 0102"
            case bool():
                yield f"bool {key} {int(value)}"
            case int():
                yield f"uint {key} {value}"
            case str():
                yield f"str {key} {value}"
            case bytes():
                yield f"{'room' if len(value) % 2 else 'bin'} {key} {value.hex()}"
            case [int(), *_]:
                yield f"uints {key} {' '.join(map(str, value))}"
            case list():
                yield f"list {key} {len(value)}"
                for inner in value:
                    yield from element(inner)
            case _:
                raise NotImplementedError(value)


def steps(msgid: int, method: str, params: Mapping[str, Any]) -> list[str]:
    """The steps that write a request."""
    return [f"begin {msgid} {method}", *pairs(params), "done"]


def can_be_said(message: Sequence[Any]) -> bool:
    """Whether the client can write it: one map of parameters, no text outside one, nothing negative."""
    _, _, _, arguments = message
    try:
        lines = [line for params in arguments for line in pairs(params)]
    except (AttributeError, NotImplementedError):
        return False
    return len(arguments) == 1 and not any(" -" in line for line in lines)


def test_every_request_of_the_vectors_is_written(compiled: Callable[..., Path]) -> None:
    """Byte for byte, where a head has one form only; the order of keys too."""
    document = json.loads((CLIENT / "protocol" / "vectors.json").read_text())
    whole = [bytes.fromhex(vector["bytes"]) for vector in document["vectors"] if vector["kind"] == "request"]
    said = [raw for raw in whole if can_be_said(msgpack.unpackb(raw))]
    assert len(said) > 0.8 * len(whole)

    asked = [line for raw in said for line in steps(*message_of(raw))]
    for raw, line in zip(said, run(compiled, asked), strict=True):
        written = bytes.fromhex(line)
        assert ordered(written) == ordered(raw)
        if not any(head in raw for head in (b"\xd9", b"\xdc")):  # the client knows only the longer of these heads
            assert written == raw


def message_of(raw: bytes) -> tuple[int, str, dict[str, Any]]:
    """A request's msgid, method and parameters."""
    _, msgid, method, (params,) = msgpack.unpackb(raw)
    return msgid, method, params


def ordered(raw: bytes) -> Any:
    """What a message says, with the order of keys."""
    return msgpack.unpackb(raw, object_pairs_hook=list)


def test_keys_are_counted(compiled: Callable[..., Path]) -> None:
    """A map's head says how many keys were written, as far as one byte holds it; more is a failure."""
    sizes = range(KEYS_MOST + 3)
    many = [{f"key{i}": i for i in range(size)} for size in sizes]

    lines = run(compiled, [line for params in many for line in steps(1, "x", params)])

    for size, params, line in zip(sizes, many, lines, strict=True):
        assert line == ("failed" if size > KEYS_MOST else msgpack.packb([0, 1, "x", [params]]).hex())


def test_keys_after_an_inner_map_are_the_outer_ones(compiled: Callable[..., Path]) -> None:
    """Each of two maps in a list has its own keys, and what is written after them is the parameters'."""
    params = {"entry": [{"va": 1, "mfn": 2}, {"va": 3, "inner": [{"deep": 4}]}], "last": True}

    (line,) = run(compiled, steps(7, "privcmd.mmap", params))

    assert line == msgpack.packb([0, 7, "privcmd.mmap", [params]]).hex()


def test_large_numbers_travel_as_the_largest(compiled: Callable[..., Path]) -> None:
    """What is above 2^53 - 1 is wrong in the same way there."""
    lines = run(compiled, [line for n in (UINT_MOST, UINT_MOST + 1, 2**64 - 1) for line in steps(1, "x", {"addr": n})])

    assert lines == [msgpack.packb([0, 1, "x", [{"addr": UINT_MOST}]]).hex()] * 3


def test_a_request_that_failed_is_followed_by_a_good_one(compiled: Callable[..., Path]) -> None:
    """A failure is remembered until the next request begins."""
    too_many = {f"key{i}": i for i in range(KEYS_MOST + 1)}

    lines = run(compiled, [*steps(1, "x", too_many), *steps(2, "x", {})])

    assert lines == ["failed", msgpack.packb([0, 2, "x", [{}]]).hex()]

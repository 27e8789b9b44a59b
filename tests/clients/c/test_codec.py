# SPDX-License-Identifier: Apache-2.0
"""The C client's own codec reads and writes what the protocol's vectors hold, and stays inside what it is given."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLIENT = Path(__file__).resolve().parents[3] / "clients"
SOURCES = (str(CLIENT / "c" / "msgpack.c"),)
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TIMEOUT_S = 60


def run(compiled: Callable[..., Path], messages: Sequence[bytes]) -> list[str]:
    """What codec.c says of each."""
    done = subprocess.run(
        [compiled("codec.c", *SOURCES, *SANITIZERS)],
        input="".join(message.hex() + "\n" for message in messages),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def shown(value: Any) -> str:
    """A value as codec.c says it."""
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return "'" + value.encode().hex()
        case bytes():
            return "b" + value.hex()
        case list():
            return "[" + "".join(" " + shown(item) for item in value) + "]"
        case _:
            return "{" + "".join(f" {shown(key)} {shown(item)}" for key, item in value.items()) + "}"


def vectors() -> list[bytes]:
    """The messages of the protocol's vectors."""
    document = json.loads((CLIENT / "protocol" / "vectors.json").read_text())
    kinds = ("request", "response", "error", "notification")
    return [bytes.fromhex(vector["bytes"]) for vector in document["vectors"] if vector["kind"] in kinds]


def test_every_vector_is_read_and_written(compiled: Callable[..., Path]) -> None:
    """Each message has its length, is too short when cut, and reads as msgpack's own reader reads it."""
    messages = [*vectors(), msgpack.packb([0, 1, "x", [{"a": 2**53 - 1, "b": bytes(70_000), "c": "y" * 300}]])]
    assert len(messages) > 20

    for message, line in zip(messages, run(compiled, messages), strict=True):
        length, rest = line.split(" ", 1)
        said, written = rest.rsplit(" ", 1)
        value = msgpack.unpackb(message, strict_map_key=False)

        assert int(length) == len(message)
        assert said == shown(value)
        if "-" not in said:  # the client sends no negative numbers
            assert msgpack.unpackb(bytes.fromhex(written), strict_map_key=False) == value


def test_anything_is_read_without_harm(compiled: Callable[..., Path]) -> None:
    """Bytes that are no message are bad or too short; nothing is read past their end, and nothing hangs."""
    chance = random.Random(2007)
    known = vectors()
    garbage = [chance.randbytes(chance.randrange(1, 60)) for _ in range(2000)]
    for _ in range(2000):
        broken = bytearray(chance.choice(known))
        broken[chance.randrange(len(broken))] = chance.randrange(256)
        garbage.append(bytes(broken))
    # Heads that promise more than there can be.
    garbage += [
        bytes.fromhex(head) for head in ("ddffffffff", "dfffffffff", "c6ffffffff", "dbffffffff", "c1", "ca", "d4")
    ]
    garbage.append(b"\x91" * 100_000)

    lines = run(compiled, garbage)

    assert len(lines) == len(garbage)
    for message, line in zip(garbage, lines, strict=True):
        assert -1 <= int(line.split(" ", 1)[0]) <= len(message)
    assert [line.split(" ")[0] for line in lines[-8:]] == ["-1"] * 8

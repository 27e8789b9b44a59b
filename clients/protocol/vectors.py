# SPDX-License-Identifier: Apache-2.0
"""Golden byte vectors: every message of the protocol, its value beside its bytes.

Values are JSON, in the order in which a map's keys travel; a bin is written `{"$bin": "hex"}`. Made from the
examples, by msgpack's own packer, so that both sides are held against a third party.
"""

import errno
import json
from pathlib import Path
from typing import Any, Final

import msgpack

from privcmdd.wire.methods import METHODS

EXAMPLES: Final[dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "examples.json").read_text(encoding="utf-8")
)
"""Method -> params, result, and a note where the result is shortened."""

_NOTATION: Final = (
    'Values are JSON in the order in which keys travel; {"$bin": "hex"} is a bin. `bytes` is the message in hex. '
    "`kind` request and response: what we send and answer; numbered: "
    "an answer after the feature seq was agreed on; accepted: also understood, as this request; error and "
    "notification: what the broker says; ignored: counted only; refused: ends the connection, for this reason."
)


def from_json(value: Any) -> Any:
    """Turn the notation into what msgpack packs."""
    if isinstance(value, dict):
        if list(value) == ["$bin"]:
            return bytes.fromhex(value["$bin"])
        return {key: from_json(item) for key, item in value.items()}
    return [from_json(item) for item in value] if isinstance(value, list) else value


def encode(value: Any) -> bytes:
    """Pack a value given in the notation."""
    return bytes(msgpack.packb(from_json(value)))


def _vector(name: str, kind: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "value": value, "bytes": encode(value).hex(), **more}


def request_of(method: str, msgid: int) -> list[Any]:
    """Make the example request of a method."""
    return [0, msgid, method, [EXAMPLES[method]["params"]]]


def response_of(method: str, msgid: int) -> list[Any]:
    """Make the answer to it."""
    return [1, msgid, None, EXAMPLES[method]["result"]]


def _errors() -> list[dict[str, Any]]:
    def error(name: str, number: int, text: str, details: dict[str, Any], **more: Any) -> dict[str, Any]:
        value = [1, 99, [number, f"{errno.errorcode[number]}: {text}", details], None]
        return _vector(name, "error", value, **more)

    return [
        error("no such method", errno.ENOSYS, "no.such: unknown method", {}),
        error("a bad parameter", errno.EINVAL, 'dom: "seven"; expected a domain id 0..65535', {"key": "dom"}),
        error("no such domain", errno.ESRCH, "there is no domain 7", {"dom": 7}),
        error(
            "MMAP that stopped at its second entry",
            errno.EINVAL,
            "entry 1: npages is 0; the 1 before it stay mapped",
            {"entry": 1, "done": 1, "extents": {"$bin": "000000000001000001000000"}},
        ),
        _vector(
            "an error after nvim-errors was agreed on",
            "error",
            [1, 99, [0, "ESRCH: there is no domain 7"], None],
            feature="nvim-errors",
        ),
        error("an error after seq was agreed on", errno.ESRCH, "there is no domain 7", {"dom": 7, "seq": 41}),
    ]


def _accepted() -> list[dict[str, Any]]:
    meant = [0, 0, "ping", [{}]]
    return [
        _vector("params without the map", "accepted", [0, 0, "ping", []], meaning=meant),
        _vector("the method in bin", "accepted", [0, 0, {"$bin": b"ping".hex()}, [{}]], meaning=meant),
        {
            "name": "keys in bin, numbers wider than they need be",
            "kind": "accepted",
            "meaning": [0, 1, "domain.destroy", [{"dom": 7}]],
            "bytes": (b"\x94\x00\xce\0\0\0\x01\xaedomain.destroy\x91\x81\xc4\x03dom\xcd\0\x07").hex(),
        },
        _vector("the array form of frames", "accepted", _listed := [
            0, 5, "privcmd.mmapbatch_v2", [{"dom": 7, "addr": 123145302310912, "arr": [256, 524288]}]
        ], meaning=_listed),
    ]  # fmt: skip


def _refused() -> list[dict[str, Any]]:
    bad = {
        "a float": ("type", b"\x94\x00\x01\xa4ping\x91\x81\xa1a\xcb" + bytes(8)),
        "an extension type": ("type", b"\x94\x00\x01\xa4ping\x91\x81\xa1a\xd4\x01\x00"),
        "the byte that is never used": ("type", b"\xc1"),
        "a number as key": ("key", b"\x94\x00\x01\xa4ping\x91\x81\x01\x02"),
        "a key twice": ("duplicate", b"\x94\x00\x01\xa4ping\x91\x82\xa1a\x01\xa1a\x01"),
        "text that is not UTF-8": ("utf8", b"\x94\x00\x01\xa2\xc3\x28\x90"),
        "nine arrays inside each other": ("depth", b"\x91" * 9),
        "2^32-1 items": ("nodes", b"\xdd" + b"\xff" * 4),
        "a string of 4,097 bytes": ("str", b"\xda\x10\x01"),
        "a bin of 2^32-1 bytes": ("bin", b"\xc6" + b"\xff" * 4),
        "a response": ("shape", b"\x94\x01\x01\xc0\xc0"),
        "no message": ("shape", b"\x07"),
    }
    return [
        {"name": name, "kind": "refused", "reason": reason, "bytes": data.hex()} for name, (reason, data) in bad.items()
    ]


def vectors() -> dict[str, Any]:
    """Make all vectors, in a stable order."""
    made: list[dict[str, Any]] = []
    for msgid, (name, method) in enumerate(METHODS.items(), 1):
        fds = {"fds": method.fds_out} if method.fds_out else {}
        made.append(_vector(f"{name}: request", "request", request_of(name, msgid)))
        made.append(_vector(f"{name}: response", "response", response_of(name, msgid), **fds))
    made.append(_vector("the largest msgid", "request", [0, 2**32 - 1, "ping", [{}]]))
    numbered = {**EXAMPLES["ping"]["result"], "seq": 43, "queued": 40, "slices": [41, 42]}
    made.append(_vector("ping: after seq was agreed on", "numbered", [1, 2, None, numbered], feature="seq"))
    made += _errors()
    made.append(_vector("a domain's state", "notification", [2, "domain", [{"dom": 7, "state": "dying"}]]))
    made.append(_vector("pynvim's greeting", "ignored", [2, {"$bin": b"nvim_set_client_info".hex()}, ["x", {}]]))
    return {"protocol": 1, "notation": _NOTATION, "vectors": made + _accepted() + _refused()}

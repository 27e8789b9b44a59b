# SPDX-License-Identifier: Apache-2.0
"""The messages of MessagePack-RPC, as values.

There are two kinds of mistake that a client can make. If the broker can still tell which request a mistake belongs to,
the request is a `BadRequest` and gets an answer; if not, the mistake is a `CodecError` and ends the connection.
"""

import errno as errnos
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from privcmdd.wire.codec import CodecError, array_header, map_header, pack

REQUEST: Final = 0
RESPONSE: Final = 1
NOTIFICATION: Final = 2

_U32_MAX: Final = 2**32 - 1


class Request(NamedTuple):
    """A call that wants an answer. `params` is the map that came, not validated yet."""

    msgid: int
    method: str
    params: dict[str, object]


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A call whose number and method can be read but whose parameters cannot; it is answered with this error."""

    msgid: int
    method: str
    errno: int
    text: str
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notification:
    """A message that wants no answer. Protocol 1 has no notifications from clients, so they are only counted."""

    method: str
    params: list[object]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, for the tests and the vectors."""

    msgid: int
    error: object
    result: object


def errno_name(errno: int) -> str:
    """Return the name of an errno, `EINVAL` for 22; the number as text when it has no name."""
    return errnos.errorcode.get(errno, str(errno))


def _method_name(value: object) -> str:
    """Return a method's name as text. It may come as bin, as pynvim sends it; no method has a name beyond ASCII."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    raise CodecError("shape", f"a method's name is {type(value).__name__}, expected a string")


def interpret(message: Any) -> Request | BadRequest | Notification:
    """Return what a decoded message is.

    Raises:
        CodecError: it is not a message of MessagePack-RPC, or it is a response, and the broker sends no requests.
    """
    if message.__class__ is not list:
        raise CodecError("shape", f"a message is {type(message).__name__}, expected an array")
    kind = message[0] if message else None
    if kind.__class__ is int:
        if kind == REQUEST and len(message) == 4:
            return _request(message[1], message[2], message[3])
        if kind == NOTIFICATION and len(message) == 3 and isinstance(message[2], list):
            return Notification(_method_name(message[1]), message[2])
        if kind == RESPONSE and len(message) == 4:
            raise CodecError("shape", "a response came; this side asks nothing")
    raise CodecError(
        "shape",
        f"an array of {len(message)} that begins with {str(kind)[:40]}; "
        "expected [0, msgid, method, params] or [2, method, params]",
    )


def _request(msgid: Any, method: Any, params: Any) -> Request | BadRequest:
    if msgid.__class__ is not int or not 0 <= msgid <= _U32_MAX:
        raise CodecError("shape", f"a request's msgid is {str(msgid)[:40]}, expected 0..{_U32_MAX}")
    name = method if method.__class__ is str else _method_name(method)
    if params.__class__ is list:
        if len(params) == 1 and params[0].__class__ is dict:
            return Request(msgid, name, params[0])
        if not params:  # clients with positional arguments send no parameters so: session.request("ping")
            return Request(msgid, name, {})
        got = f"a list of {len(params)} ({', '.join(_kind(value) for value in params[:4])})"
    else:
        got = _kind(params)
    text = f'params: {got}; expected an array of exactly one map, [{{"name": value, ...}}]'
    return BadRequest(msgid, name, errnos.EINVAL, text, {"key": "params"})


def _kind(value: object) -> str:
    names = {dict: "map", list: "array", bytes: "bin", type(None): "nil"}
    return names.get(type(value), type(value).__name__)


def response_ok(msgid: int, result: object) -> bytes:
    """Encode `[1, msgid, nil, result]`."""
    return pack((RESPONSE, msgid, None, result))


def response_packed(msgid: int, n_pairs: int, pairs: Iterable[bytes]) -> bytes:
    """Encode `[1, msgid, nil, result]`, where result is a map whose keys and values are encoded already.

    Args:
        msgid: of the request.
        n_pairs: how many keys the map has.
        pairs: its keys and values, in any pieces.
    """
    return b"".join((array_header(4), pack(RESPONSE), pack(msgid), pack(None), map_header(n_pairs), *pairs))


def response_error(
    msgid: int, errno: int, text: str, details: Mapping[str, object] | None = None, *, nvim: bool = False
) -> bytes:
    """Encode `[1, msgid, [errno, "ENAME: text", {details}], nil]`.

    Args:
        msgid: of the request that failed.
        errno: Linux's number.
        text: what was wrong, with the offending value and what was expected; the name is put in front.
        details: values for programs, such as `key` or `done`.
        nvim: the form that the `nvim-errors` feature asks for, `[0, "ENAME: text"]`.
    """
    line = f"{errno_name(errno)}: {text}"
    error: list[object] = [0, line] if nvim else [errno, line, dict(details or {})]
    return pack((RESPONSE, msgid, error, None))


def notification(method: str, params: Mapping[str, object]) -> bytes:
    """Encode `[2, method, [params]]`: an event of a topic has one map as its parameters."""
    return pack((NOTIFICATION, method, (dict(params),)))

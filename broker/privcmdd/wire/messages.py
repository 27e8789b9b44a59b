# SPDX-License-Identifier: Apache-2.0
"""What can be said: the messages of MessagePack-RPC, as values.

A client's mistake is of one of two kinds. If we can still tell which request it belongs to, it is a
`BadRequest` and gets an answer; if not, it is a `CodecError` and ends the connection.
"""

import errno as errnos
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from privcmdd.wire.codec import CodecError, pack

REQUEST: Final = 0
RESPONSE: Final = 1
NOTIFICATION: Final = 2

_U32_MAX: Final = 2**32 - 1


class Request(NamedTuple):
    """A call that wants an answer. `params` is the one map that came, not yet validated."""

    msgid: int
    method: str
    params: dict[str, object]


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A call that is recognisable but cannot be one of ours; answer it with this error."""

    msgid: int
    method: str
    errno: int
    text: str
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notification:
    """Something said without wanting an answer; protocol 1 knows none from clients, so they are counted."""

    method: str
    params: list[object]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, as the tests and the vectors see it."""

    msgid: int
    error: object
    result: object


def errno_name(errno: int) -> str:
    """`EINVAL` for 22; the number itself where there is no name."""
    return errnos.errorcode.get(errno, str(errno))


def _method_name(value: object) -> str:
    """Method names may be bin: pynvim sends its notification's so. One that is not ASCII will be unknown."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    raise CodecError("shape", f"a method's name is {type(value).__name__}, expected a string")


def interpret(message: Any) -> Request | BadRequest | Notification:
    """Tell what a decoded message is.

    Raises:
        CodecError: it is none of MessagePack-RPC's, or a response, which nobody asked for.
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
        if not params:  # how clients with positional calls say "nothing": session.request("ping")
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


def response_error(
    msgid: int, errno: int, text: str, details: Mapping[str, object] | None = None, *, nvim: bool = False
) -> bytes:
    """Encode `[1, msgid, [errno, "ENAME: text", {details}], nil]`.

    Args:
        msgid: of the request that failed.
        errno: Linux's number.
        text: what was wrong, with the offending value and what was expected; the name is put in front.
        details: values a program may want, such as `key` or `done`.
        nvim: the form that the `nvim-errors` feature asks for, `[0, "ENAME: text"]`.
    """
    line = f"{errno_name(errno)}: {text}"
    error: list[object] = [0, line] if nvim else [errno, line, dict(details or {})]
    return pack((RESPONSE, msgid, error, None))


def notification(method: str, params: Mapping[str, object]) -> bytes:
    """Encode `[2, method, [params]]`: the one map that a topic's event is."""
    return pack((NOTIFICATION, method, (dict(params),)))

# SPDX-License-Identifier: Apache-2.0
"""What is a message, what is answerable, and what our answers look like."""

import errno

import msgpack
import pytest

from privcmdd.wire.codec import CodecError
from privcmdd.wire.messages import (
    BadRequest,
    Notification,
    Request,
    interpret,
    notification,
    response_error,
    response_ok,
)


def test_a_request_has_one_map() -> None:
    """The only form of params is an array of one map."""
    assert interpret([0, 5, "mmap", [{"len": 4096}]]) == Request(5, "mmap", {"len": 4096})


def test_no_params_are_an_empty_map() -> None:
    """`session.request("ping")` of a client with positional calls sends an empty array."""
    assert interpret([0, 5, "ping", []]) == Request(5, "ping", {})


def test_a_method_may_be_named_in_bin() -> None:
    """As pynvim does; a name that is not ASCII becomes one that nobody knows, not a fault."""
    assert interpret([0, 5, b"ping", []]) == Request(5, "ping", {})
    assert interpret([0, 5, b"p\xff", []]) == Request(5, "p\\xff", {})
    assert interpret([2, b"nvim_set_client_info", [1]]) == Notification("nvim_set_client_info", [1])


@pytest.mark.parametrize("params", [[1], [{}, {}], ["dom", 3], {}, None, "x", 7, [[{}]], [None]])
def test_other_params_are_answered(params: object) -> None:
    """We know which request it is, so it is answered EINVAL and the connection lives."""
    event = interpret([0, 9, "mmap", params])

    assert isinstance(event, BadRequest)
    assert (event.msgid, event.method, event.errno) == (9, "mmap", errno.EINVAL)
    assert "exactly one map" in event.text


@pytest.mark.parametrize(
    "message",
    [
        {},
        7,
        None,
        [],
        [0],
        [0, 1, "ping"],
        [0, 1, "ping", [], 5],
        [3, 1, "ping", []],
        [False, 1, "ping", []],
        [0, -1, "ping", []],
        [0, 2**32, "ping", []],
        [0, True, "ping", []],
        [0, None, "ping", []],
        [0, 1, 7, []],
        [0, 1, None, []],
        [1, 1, None, None],
        [2, "x", {}],
        [2, 5, []],
    ],
)
def test_anything_else_ends_the_connection(message: object) -> None:
    """No request can be told from it, so there is nothing to answer."""
    with pytest.raises(CodecError) as caught:
        interpret(message)

    assert caught.value.reason == "shape"


def test_answers_have_the_one_error_shape() -> None:
    """`[errno, "ENAME: text", {details}]`, with a nil result."""
    answer = msgpack.unpackb(response_error(3, errno.ESRCH, "dom: 7; no such domain", {"key": "dom"}))

    assert answer == [1, 3, [errno.ESRCH, "ESRCH: dom: 7; no such domain", {"key": "dom"}], None]


def test_nvims_error_shape() -> None:
    """With `nvim-errors`, exactly two items, the only form that nvim prints."""
    assert msgpack.unpackb(response_error(3, errno.EIO, "oops", {"a": 1}, nvim=True)) == [
        1,
        3,
        [0, "EIO: oops"],
        None,
    ]


def test_results_and_notifications() -> None:
    """A result comes with a nil error; a notification carries one map."""
    assert msgpack.unpackb(response_ok(2**32 - 1, {"ret": 0})) == [1, 2**32 - 1, None, {"ret": 0}]
    assert msgpack.unpackb(notification("domain", {"dom": 1})) == [2, "domain", [{"dom": 1}]]

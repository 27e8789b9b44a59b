# SPDX-License-Identifier: Apache-2.0
"""The client's protocol core, without a socket."""

from __future__ import annotations

import errno
import os
import pickle
from array import array
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import pytest

from privcmd._forms import frames_as_bytes
from privcmd._protocol import MAX_MESSAGE_BYTES, Answer, Conversation, Notification
from privcmd.errors import BrokerConfused, FrameError, PrivcmdError

if TYPE_CHECKING:
    from collections.abc import Iterable


def conversation(n_requests: int, method: str = "ping") -> Conversation:
    """One with requests 0 to n open."""
    begun = Conversation()
    for _ in range(n_requests):
        begun.request(method, {})
    return begun


def answers(*messages: Any) -> bytes:
    """Messages as the broker would send them, one after another."""
    return b"".join(msgpack.packb(message) for message in messages)


def test_whole_and_bytewise_feeding_are_the_same() -> None:
    """Law: how the stream is cut does not matter; answers may come in any order."""
    data = answers(
        [1, 2, None, {"instance": "a"}],
        [2, "domain", [{"dom": 1, "state": "gone"}]],
        [1, 0, [3, "ESRCH: no domain 7", {"dom": 7}], None],
        [1, 1, None, {"data": bytes(3000)}],
    )
    one_by_one: list[Answer | Notification] = []
    bytewise = conversation(3)
    for i in range(len(data)):
        one_by_one += bytewise.receive(data[i : i + 1])

    whole = conversation(3).receive(data)

    assert [repr(event) for event in one_by_one] == [repr(event) for event in whole]
    assert bytewise.n_open == 0


def test_a_forgotten_answer_is_dropped_with_its_descriptor() -> None:
    """Law: giving up on a request never puts the stream out of step, nor keeps a descriptor."""
    talk = conversation(1, "domain.memory")
    later, _ = talk.request("ping", {})
    talk.forget([0])
    fd = os.open(os.devnull, os.O_RDONLY)

    events = talk.receive(answers([1, 0, None, {"size_bytes": 1}], [1, later, None, {}]), [fd])

    assert [event.msgid for event in events if isinstance(event, Answer)] == [later]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(fd)


def test_descriptors_go_to_the_answers_that_declare_them() -> None:
    """Law: descriptors are handed out in order, to good answers of methods that bring one."""
    talk = Conversation()
    for method in ("domain.memory", "ping", "domain.memory", "domain.memory"):
        talk.request(method, {})
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    assert talk.expects_fds

    events = talk.receive(
        answers(
            [1, 0, None, {"size_bytes": 1}],
            [1, 1, None, {}],
            [1, 2, [3, "ESRCH: x", {}], None],
            [1, 3, None, {"size_bytes": 2}],
        ),
        fds,
    )

    assert [event.fds for event in events if isinstance(event, Answer)] == [(fds[0],), (), (), (fds[1],)]
    assert talk.n_open == 0
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        answers(7),
        answers([]),
        answers([1, 99, None, None]),
        answers([1, 0, "no triple", None]),
        answers([1, 0, ["x", "y", "z"], None]),
        answers([2, "domain", ["no map"]]),
        answers([0, 1, "ping", []]),
        answers([1, 0, None, {1: 2}]),
        b"\x94\x01\x00\xc0\xdd\xff\xff\xff\xff",
    ],
    ids=repr,
)
def test_what_is_no_answer_ends_the_conversation(data: bytes) -> None:
    """Law: anything that is not the protocol is BrokerConfused (EPROTO), and descriptors held are closed."""
    talk = conversation(1, "domain.memory")
    fd = os.open(os.devnull, os.O_RDONLY)

    with pytest.raises(BrokerConfused) as caught:
        talk.receive(data, [fd])

    assert caught.value.errno == errno.EPROTO
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(fd)


def test_an_endless_message_is_refused() -> None:
    """Law: a message may not be longer than the protocol's longest."""
    talk = conversation(1)
    piece = bytes(1 << 20)
    talk.receive(b"\x94\x01\x00\xc0\xc6\xff\xff\xff\xff")
    for _ in range(MAX_MESSAGE_BYTES // len(piece)):
        talk.receive(piece)

    with pytest.raises(BrokerConfused, match="more than"):
        talk.receive(piece)


def test_what_cannot_be_sent_opens_nothing() -> None:
    """Law: a request with a parameter that has no encoding is EINVAL, and none of its pipeline is open."""
    talk = Conversation()

    with pytest.raises(PrivcmdError) as caught:
        talk.requests([("ping", {}), ("ping", {"x": object()})])

    assert caught.value.errno == errno.EINVAL
    assert talk.n_open == 0


@pytest.mark.parametrize(
    "frames",
    [
        [1, 2, 2**63],
        (1, 2, 2**63),
        array("Q", [1, 2, 2**63]),
        np.array([1, 2, 2**63], np.uint64),
        array("Q", [1, 2, 2**63]).tobytes(),
        (n for n in (1, 2, 2**63)),
    ],
    ids=["list", "tuple", "array", "numpy", "bytes", "generator"],
)
def test_frames_come_in_any_form(frames: Iterable[int]) -> None:
    """Law: all forms of a list of frames travel as the same little-endian u64."""
    assert frames_as_bytes(frames) == array("Q", [1, 2, 2**63]).tobytes()


@pytest.mark.parametrize("kind", [np.int32, np.uint16, np.int64, ">u8"])
def test_numpy_frames_of_any_integer_type(kind: Any) -> None:
    """Law: the type and byte order of a numpy array do not matter, its numbers do."""
    assert frames_as_bytes(np.arange(5).astype(kind)) == array("Q", range(5)).tobytes()
    assert frames_as_bytes(range(5)) == array("Q", range(5)).tobytes()


@pytest.mark.parametrize("frames", [[-1], [2**64], [1.5], ["1"], 7, b"1234567", None], ids=repr)
def test_what_is_no_frame_list_is_einval(frames: Any) -> None:
    """Law: a frame that is no integer of 64 bits is EINVAL before anything is sent."""
    with pytest.raises(PrivcmdError) as caught:
        frames_as_bytes(frames)

    assert caught.value.errno == errno.EINVAL


def test_errors_read_well_and_travel() -> None:
    """Law: an error shows its errno's name and its sentence, is an OSError, and survives pickling."""
    error = FrameError(errno.ENOENT, "frame 7 is paged out", {"index": 3})
    copy = pickle.loads(pickle.dumps(error))

    assert isinstance(error, OSError)
    assert str(copy) == "ENOENT: frame 7 is paged out"
    assert (copy.errno, copy.name, copy.index) == (errno.ENOENT, "ENOENT", 3)

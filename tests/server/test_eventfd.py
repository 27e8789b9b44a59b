# SPDX-License-Identifier: Apache-2.0
"""Whatever a client does to an eventfd that it shares with the broker, the broker never waits (promise B8)."""

from __future__ import annotations

import errno
import os
import resource
import select
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.server.event_files import EventFiles
from privcmdd.server.eventfd import Raiser, take_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GUARD_S = 30
FULL = 2**64 - 2


@pytest.fixture
def raiser() -> Iterator[Raiser]:
    """What raises events."""
    made = Raiser()
    yield made
    made.close()


@pytest.fixture
def blocking() -> Iterator[int]:
    """An eventfd whose O_NONBLOCK is clear."""
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


def ends(step: Callable[[], object]) -> object:
    """What a step returns that must not wait. A step that waits fails the test, and its thread is left behind."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(step()), daemon=True)
    thread.start()
    thread.join(GUARD_S)
    assert results, "it waits"
    return results[0]


def test_an_event_that_is_not_raised_is_not_waited_for(blocking: int) -> None:
    """Law: to look whether an event is raised does not wait, whatever its flags say."""
    assert ends(lambda: take_event(blocking)) is False


def test_a_full_count_is_not_waited_for(raiser: Raiser, blocking: int) -> None:
    """Law: to raise an event whose count has no room does not wait, whatever its flags say; the event stays raised."""
    os.eventfd_write(blocking, FULL)

    assert ends(lambda: raiser.raise_event(blocking)) is None
    assert take_event(blocking)
    assert not take_event(blocking)


def test_a_raised_event_is_like_a_written_one(raiser: Raiser, blocking: int) -> None:
    """Law: what polls sees it, each raise counts one, and many are raised one after another."""
    poll = select.poll()
    poll.register(blocking, select.POLLIN)
    for _ in range(100):
        raiser.raise_event(blocking)

    assert poll.poll(0) == [(blocking, select.POLLIN)]
    assert os.eventfd_read(blocking) == 100


def test_what_is_no_eventfd_is_refused(raiser: Raiser) -> None:
    """Law: a descriptor that is no eventfd cannot be raised."""
    with Path("/dev/null").open("rb") as file, pytest.raises(OSError, match="io_submit") as refused:
        raiser.raise_event(file.fileno())

    assert refused.value.errno == errno.EINVAL


def test_a_client_that_fills_its_event_stops_nobody() -> None:
    """Law: flags and counts that a client sets on its descriptors change nothing for the broker's side."""
    files = EventFiles()
    files.make_events(7)
    own, remote = files.events(7)
    try:
        for fd in (own, remote):
            os.set_blocking(fd, True)
        os.eventfd_write(own, FULL)

        assert ends(lambda: files.raise_event(7, 0)) is None
        assert ends(lambda: files.take_event(7, 0)) is True
        assert ends(lambda: files.take_event(7, 1)) is False
    finally:
        os.close(own)
        os.close(remote)
        files.close_all_events()


def test_no_descriptor_for_the_first_event_is_enomem() -> None:
    """Law: a channel that cannot have events is refused with ENOMEM, and nothing is left of it."""
    files = EventFiles()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    for room in range(3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
        try:
            with pytest.raises(ModelError) as refused:
                files.make_events(7)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert refused.value.errno == errno.ENOMEM
        files.close_all_events()

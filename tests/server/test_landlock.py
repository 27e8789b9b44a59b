# SPDX-License-Identifier: Apache-2.0
"""A descriptor that was opened under the rule maps, reads and writes, and changes no size, whoever has it."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from privcmdd.server.landlock import Opener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE = 4096

made = Opener.of_this_kernel()
if made is None:
    pytest.skip(
        "NOT TESTED: sizes of files that clients cannot change; Landlock of Linux 6.2 is missing",
        allow_module_level=True,
    )
made.close()


@pytest.fixture
def opener() -> Iterator[Opener]:
    """One that is closed at the end."""
    opener = Opener()
    yield opener
    opener.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of two pages."""
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * PAGE))
    return path


def refusal(step: Callable[[], object]) -> int:
    """The errno that a step ends with; 0 when it works."""
    try:
        step()
    except OSError as problem:
        return problem.errno or -1
    return 0


def test_b10_a_size_cannot_be_changed_through_the_descriptor(opener: Opener, file: Path) -> None:
    """Neither here, nor in a process that gets the descriptor over a socket; bytes can be written in both."""
    fd = opener.open(str(file), os.O_RDWR | os.O_CLOEXEC)
    try:
        assert refusal(lambda: os.ftruncate(fd, 0)) == errno.EACCES
        assert refusal(lambda: os.ftruncate(fd, 3 * PAGE)) == errno.EACCES
        assert os.pwrite(fd, b"x", 0) == 1
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(ours, [b"."], [fd])
            child = os.fork()
            if not child:
                _, (received,), _, _ = socket.recv_fds(theirs, 1, 1)
                os._exit(refusal(lambda: os.ftruncate(received, 0)) + 100 * (os.pwrite(received, b"y", 1) != 1))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EACCES
    finally:
        os.close(fd)
    assert file.read_bytes()[:2] == b"xy"
    assert file.stat().st_size == 2 * PAGE


@pytest.mark.usefixtures("opener")
def test_only_the_thread_that_opens_is_bound(file: Path) -> None:
    """The rest of the process truncates and opens as before."""
    with file.open("r+b") as whole:
        whole.truncate(PAGE)
    assert file.stat().st_size == PAGE


def test_an_error_of_open_comes_back(opener: Opener, tmp_path: Path) -> None:
    """As os.open raises it, and the next one is answered."""
    with pytest.raises(FileNotFoundError):
        opener.open(str(tmp_path / "none"), os.O_RDWR)
    fd = opener.open(str(tmp_path), os.O_RDONLY)
    os.close(fd)

# SPDX-License-Identifier: Apache-2.0
"""Memory files: of one size for ever, given back in pages, and not writable through what is read-only."""

import contextlib
import errno
import fcntl
import mmap
import os
import resource
from collections.abc import Iterator

import numpy as np
import pytest

from privcmdd.model.errors import ModelError
from privcmdd.server.memory_files import MemoryFiles
from sim.scarcity import SCARCITY

PAGE = 4096
NOBODY = 65534


@pytest.fixture
def files() -> Iterator[MemoryFiles]:
    """Memory files, with domain 1 of 16 pages among them."""
    made = MemoryFiles()
    made.create(1, 16)
    yield made
    made.close_all()
    made.close_all()


@contextlib.contextmanager
def descriptor(files: MemoryFiles, *, writable: bool) -> Iterator[int]:
    """A client's descriptor of domain 1, closed afterwards."""
    fd = files.descriptor(1, writable=writable)
    try:
        yield fd
    finally:
        os.close(fd)


def errno_of(step: str, fd: int) -> int:
    """The errno that a step on a descriptor ends with; 0 when it works."""
    try:
        match step:
            case "shrink":
                os.ftruncate(fd, 0)
            case "grow":
                os.ftruncate(fd, 17 * PAGE)
            case "extend":
                os.pwrite(fd, b"x", 16 * PAGE)
            case "seal":
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
            case "write":
                os.pwrite(fd, b"x", 0)
            case "map writable":
                mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE).close()
            case "reopen for writing":
                os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
            case "widen the mode":
                os.fchmod(fd, 0o666)
            case _:
                raise AssertionError(step)
    except OSError as problem:
        return problem.errno or -1
    return 0


def errno_as_nobody(step: str, fd: int) -> int:
    """The same, in a child that is another user and has no privileges."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os._exit(errno_of(step, fd))
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("step", ["shrink", "grow", "extend", "seal"])
def test_the_size_is_sealed(files: MemoryFiles, step: str) -> None:
    """Nobody can make a file smaller under a mapping (SIGBUS), or larger, or forbid that we write it."""
    with descriptor(files, writable=True) as fd:
        assert errno_of(step, fd) == errno.EPERM
        assert os.fstat(fd).st_size == 16 * PAGE


@pytest.mark.parametrize(
    ("step", "expected"), [("write", errno.EBADF), ("map writable", errno.EACCES), ("shrink", errno.EINVAL)]
)
def test_a_read_only_descriptor_cannot_be_written_through(files: MemoryFiles, step: str, expected: int) -> None:
    """Read means read, whoever holds the descriptor."""
    with descriptor(files, writable=False) as fd:
        assert errno_of(step, fd) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a descriptor in another user's hands; missing: root")
@pytest.mark.parametrize(("step", "expected"), [("reopen for writing", errno.EACCES), ("widen the mode", errno.EPERM)])
def test_another_user_cannot_turn_read_into_write(files: MemoryFiles, step: str, expected: int) -> None:
    """The way through /proc is closed by the file's mode, which is not theirs to change."""
    with descriptor(files, writable=False) as fd:
        assert errno_as_nobody(step, fd) == expected


@pytest.mark.parametrize("writable", [True, False])
def test_descriptors_are_not_inherited(files: MemoryFiles, writable: bool) -> None:
    """A child of the broker has no guest's memory."""
    with descriptor(files, writable=writable) as fd:
        assert not os.get_inheritable(fd)


def test_what_is_written_is_read_and_mapped(files: MemoryFiles) -> None:
    """The broker's view and a client's mapping are the same bytes, over page boundaries too."""
    files.write(1, 2, PAGE - 2, b"abcd")
    with descriptor(files, writable=False) as fd:
        view = mmap.mmap(fd, 16 * PAGE, mmap.MAP_SHARED, mmap.PROT_READ)

        assert view[3 * PAGE - 2 : 3 * PAGE + 2] == b"abcd"
        view.close()
    assert files.read(1, 2, PAGE - 3, 6) == b"\0abcd\0"


def test_discarded_pages_read_as_zeros_and_cost_nothing(files: MemoryFiles) -> None:
    """Pages given back are empty for everybody, and exactly those are, in whatever order they are named."""
    files.write(1, 0, 0, b"x" * 16 * PAGE)
    gone = {0, 3, 4, 5, 9, 15}
    with descriptor(files, writable=True) as fd:
        view = mmap.mmap(fd, 16 * PAGE)
        before = os.fstat(fd).st_blocks
        files.discard(1, np.array([5, 3, 15, 0, 4, 9, 4], dtype=np.uint32))
        after = os.fstat(fd).st_blocks

        assert [page for page in range(16) if view[page * PAGE] == 0] == sorted(gone)
        assert (before - after) * 512 == len(gone) * PAGE
        view.close()


def test_discarding_nothing_does_nothing(files: MemoryFiles) -> None:
    """No page named, no page gone."""
    files.write(1, 0, 0, b"x")
    files.discard(1, np.zeros(0, dtype=np.uint32))

    assert files.read(1, 0, 0, 1) == b"x"


def test_an_untouched_file_costs_nothing(files: MemoryFiles) -> None:
    """64 GiB of holes are free."""
    files.create(2, 16_777_216)
    fd = files.descriptor(2, writable=False)
    found = os.fstat(fd)
    os.close(fd)

    assert (found.st_size, found.st_blocks) == (64 * 2**30, 0)


@pytest.mark.parametrize("n_pages", [2**51, 2**52, 2**63])
def test_a_file_too_large_is_refused(files: MemoryFiles, n_pages: int) -> None:
    """ENOMEM with the size in it, and no descriptor is lost."""
    with pytest.raises(ModelError, match=f"ENOMEM: a memory file of {n_pages} pages for domain.2"):
        files.create(2, n_pages)
    files.create(2, 1)


def test_running_out_of_descriptors_is_an_answer(files: MemoryFiles) -> None:
    """ENOMEM for the client who asked; nothing is half made."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        with pytest.raises(ModelError, match=r"ENOMEM: no memory file for domain.2: Too many open files"):
            files.create(2, 1)
        for writable in (True, False):
            with pytest.raises(ModelError, match=r"ENOMEM: no descriptor .*: Too many open files"):
                files.descriptor(1, writable=writable)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    files.create(2, 1)


def test_discarding_needs_no_memory(files: MemoryFiles) -> None:
    """Without any, each page is punched out on its own: none of them is left with what it held."""
    pages = np.array([3, 4, 5, 14], dtype=np.uint32)
    for page in pages.tolist():
        files.write(1, page, 0, b"secret")

    with SCARCITY.running_out(1, for_good=True):
        files.discard(1, pages)

    assert SCARCITY.n_refused > 0
    assert [files.read(1, page, 0, 6) for page in pages.tolist()] == [bytes(6)] * 4

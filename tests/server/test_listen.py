# SPDX-License-Identifier: Apache-2.0
"""A socket path has one owner, is never wider open than asked, and never takes a living one's place."""

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from privcmdd.server import listen
from privcmdd.server.listen import Listener, ListenError


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory with a short name: a socket's address has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="pv") as name:
        yield Path(name)


def bound(path: Path, mode: int = 0o600) -> Listener:
    """Listen with what the tests do not care about."""
    return listen.bind(str(path), mode=mode, backlog=8)


def connects(path: Path) -> bool:
    """Whether somebody listens at the path."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o700])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_is_exactly_what_was_asked_whatever_the_umask(folder: Path, mode: int, umask: int) -> None:
    """The file's permissions are server.socket_mode's, not the umask's."""
    old = os.umask(umask)
    try:
        listener = bound(folder / "b", mode)
        umask_afterwards = os.umask(umask)
    finally:
        os.umask(old)

    found = stat.S_IMODE((folder / "b").stat().st_mode)
    listener.close()

    assert found == mode
    assert umask_afterwards == umask


def test_a_missing_directory_is_made_for_us_alone(folder: Path) -> None:
    """What we make, nobody else can look into."""
    listener = bound(folder / "new" / "b")

    mode = stat.S_IMODE((folder / "new").stat().st_mode)
    listener.close()

    assert mode == 0o700


def test_a_stale_socket_is_replaced(folder: Path) -> None:
    """A socket that a dead process left over is no obstacle."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "b"))

    listener = bound(folder / "b")
    alive = connects(folder / "b")
    listener.close()

    assert alive


def test_a_socket_left_over_between_bind_and_rename_is_no_obstacle(folder: Path) -> None:
    """Dying at the worst moment leaves nothing that stops the next start."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "b~"))

    bound(folder / "b").close()

    assert sorted(path.name for path in folder.iterdir()) == ["b.lock"]


def test_a_living_owner_is_named_and_left_alone(folder: Path) -> None:
    """The second start fails with the pid of the first, whose socket stays."""
    first = bound(folder / "b")
    with pytest.raises(ListenError, match=f"EADDRINUSE: process {os.getpid()} listens") as refused:
        bound(folder / "b")
    alive = connects(folder / "b")
    first.close()

    assert refused.value.errno == errno.EADDRINUSE
    assert alive


def test_a_living_stranger_without_a_lock_is_left_alone(folder: Path) -> None:
    """A program that does not know our lock file keeps its socket all the same."""
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(folder / "b"))
        stranger.listen(1)
        with pytest.raises(ListenError, match=f"EADDRINUSE: process {os.getpid()}"):
            bound(folder / "b")

        assert connects(folder / "b")


def test_a_stranger_with_a_full_backlog_is_alive(folder: Path) -> None:
    """Being too busy to accept is not being dead."""
    with socket.socket(socket.AF_UNIX) as stranger, socket.socket(socket.AF_UNIX) as queued:
        stranger.bind(str(folder / "b"))
        stranger.listen(0)
        queued.connect(str(folder / "b"))
        with pytest.raises(ListenError, match="EADDRINUSE: another process"):
            bound(folder / "b")


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_what_is_not_a_socket_is_never_replaced(folder: Path, kind: str) -> None:
    """A path given by mistake costs nobody a file, and leaves none beside it."""
    target = folder / "b"
    if kind == "file":
        target.write_text("precious")
    elif kind == "directory":
        target.mkdir()
    else:
        target.symlink_to(folder / "nowhere")
    before = target.lstat()
    with pytest.raises(ListenError, match=r"EEXIST: .* is not a socket"):
        bound(target)

    assert target.lstat() == before
    assert list(folder.iterdir()) == [target]


def test_a_lock_that_is_a_symlink_is_not_followed(folder: Path) -> None:
    """Nobody makes us write into a file of theirs."""
    victim = folder / "victim"
    victim.write_text("precious")
    (folder / "b.lock").symlink_to(victim)
    with pytest.raises(ListenError, match="ELOOP"):
        bound(folder / "b")

    assert victim.read_text() == "precious"


def test_a_path_too_long_is_refused_with_its_length(folder: Path) -> None:
    """The limit is the kernel's, and the message says it."""
    path = folder / ("x" * 120)
    with pytest.raises(ListenError, match=rf"ENAMETOOLONG: socket path of {len(str(path))} bytes, at most 106"):
        bound(path)


def test_the_longest_path_works(folder: Path) -> None:
    """The limit is not off by one."""
    path = folder / ("x" * (106 - len(str(folder)) - 1))
    listener = bound(path)
    alive = connects(path)
    listener.close()

    assert alive


def test_a_directory_that_is_not_there_is_named(folder: Path) -> None:
    """Only the last directory is made; a mistyped path is an error."""
    with pytest.raises(ListenError, match=r"ENOENT: cannot listen at .*/no/such/b"):
        bound(folder / "no" / "such" / "b")


def test_closing_removes_our_socket(folder: Path) -> None:
    """After a clean stop nothing but the lock file is left, and closing again does nothing."""
    listener = bound(folder / "b")
    listener.close()
    listener.close()

    assert sorted(path.name for path in folder.iterdir()) == ["b.lock"]


def test_closing_leaves_a_socket_that_is_no_longer_ours(folder: Path) -> None:
    """Somebody who replaced our file keeps theirs."""
    listener = bound(folder / "b")
    (folder / "b").unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / "b"))
        other.listen(1)
        listener.close()

        assert connects(folder / "b")


def test_the_path_is_free_after_closing(folder: Path) -> None:
    """The lock goes with its owner."""
    bound(folder / "b").close()
    bound(folder / "b").close()


def test_a_handed_socket_is_adopted(folder: Path) -> None:
    """--fd: a listening Unix stream socket is served, and no child inherits it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(folder / "b"))
    sock.listen(1)
    fd = sock.detach()
    os.set_inheritable(fd, True)

    listener = listen.adopt(fd)
    inheritable, blocking = os.get_inheritable(fd), listener.sock.getblocking()
    ours = listener.ours
    listener.close()

    assert not inheritable
    assert not blocking
    assert not ours
    assert (folder / "b").exists()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: socket.socket(socket.AF_INET), "EINVAL: descriptor .* is not a Unix socket"),
        (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), "EINVAL: descriptor .* is not a stream"),
        (lambda: socket.socket(socket.AF_UNIX), "EINVAL: descriptor .* is not listening"),
        (Path("/dev/null").open, "ENOTSOCK: descriptor"),
    ],
    ids=["inet", "datagram", "not listening", "not a socket"],
)
def test_what_cannot_be_served_is_refused(make: object, expected: str) -> None:
    """Each thing that a descriptor must be is checked, and named when it is not so."""
    assert callable(make)
    with make() as thing, pytest.raises(ListenError, match=expected):
        listen.adopt(thing.fileno())


def test_a_connected_client_is_taken_over() -> None:
    """--first-fd: a connected Unix stream socket becomes non-blocking, and no child inherits it."""
    ours, theirs = socket.socketpair()
    with ours:
        fd = theirs.detach()
        os.set_inheritable(fd, True)
        with listen.connected(fd) as sock:
            assert not os.get_inheritable(fd)
            assert not sock.getblocking()


def test_a_client_that_is_not_connected_is_refused() -> None:
    """--first-fd: a socket without another end, and one that listens, are named as such."""
    with socket.socket(socket.AF_UNIX) as alone, pytest.raises(ListenError, match="is not connected; a connected"):
        listen.connected(alone.fileno())


@pytest.mark.parametrize("fd", [999, -1])
def test_a_number_that_names_nothing_is_refused(fd: int) -> None:
    """No such descriptor is EBADF, whatever the number."""
    with pytest.raises(ListenError, match=f"EBADF: descriptor {fd}"):
        listen.adopt(fd)


@pytest.mark.parametrize("pid", ["", "1", "x"])
def test_sockets_meant_for_another_process_are_left_alone(pid: str) -> None:
    """LISTEN_PID says whose they are; the variables go either way, so that no child takes them."""
    environ = {"LISTEN_PID": pid, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "HOME": "/"}

    assert listen.activated(environ) == []
    assert environ == {"HOME": "/"}


def test_a_nonsensical_count_is_refused() -> None:
    """A broken service manager is reported, not guessed at."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}
    with pytest.raises(ListenError, match="LISTEN_FDS is 'many'"):
        listen.activated(environ)

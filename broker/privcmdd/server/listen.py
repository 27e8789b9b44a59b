# SPDX-License-Identifier: Apache-2.0
"""Listening sockets: made at a path without a race, or adopted from the process that started us.

A path has one owner: the process that holds the lock of the file ``PATH.lock`` beside it. The lock ends with the
process. So a socket that the next owner finds at the path either is left over (connecting is refused; it is
replaced) or belongs to a program that does not know the lock (connecting works; it is left alone). The new socket
is bound and listens under another name before it is renamed to the path, so a client that sees it can connect. A
broker that ends renames it once more, to a name at which no client looks for it: while somebody listens there, that
broker drains.

Plain sockets, no trio: the broker listens before it has imported its slower half, and clients that come
early wait in the backlog.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

# sun_path has 108 bytes with the terminating zero; the names beside the path are one longer.
MAX_PATH_BYTES: Final = 106
TEMPORARY: Final = "~"
ASIDE: Final = "-"
FIRST_ACTIVATED_FD: Final = 3  # SD_LISTEN_FDS_START
# asm-generic/socket.h; Python has no names for these.
SO_ACCEPTCONN: Final = 30
SO_DOMAIN: Final = 39
SO_PASSRIGHTS: Final = 83


class ListenError(Exception):
    """No socket to listen on. The text says which, why, and what to do.

    Attributes:
        errno: The Linux errno, as in EADDRINUSE when the path has a living owner.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"{errno.errorcode.get(number, number)}: {text}")
        self.errno = number


class Listener:
    """A listening Unix stream socket.

    Attributes:
        sock: The socket; non-blocking, not inherited by children.
        name: For people: the path, or the name of the descriptor.
        ours: True: made by this process, which then answers the connections in its backlog. False: handed in.
    """

    def __init__(self, sock: socket.socket, name: str, path: str | None = None, lock: int | None = None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.name = name
        self._at = path  # where the file is, if we are to remove it
        self._path = path
        self._lock = lock
        self._inode = _inode(path) if path is not None else None

    @property
    def ours(self) -> bool:
        """Whether this process made the socket."""
        return self._lock is not None

    def about(self) -> list[Any]:
        """What ``of`` takes, for a broker that takes over."""
        return [self.name, self._path, self._lock is not None]

    def descriptors(self) -> list[int]:
        """The socket's descriptor, and that of the lock of its path, if it has one."""
        return [self.sock.fileno()] if self._lock is None else [self.sock.fileno(), self._lock]

    @classmethod
    def of(cls, about: list[Any], fds: list[int]) -> Listener:
        """A listener that another broker has passed on.

        Args:
            about: As ``about`` returned it there.
            fds: Begins with its descriptors, which are taken out.
        """
        name, path, has_lock = about
        sock = socket.socket(fileno=fds.pop(0))
        return cls(sock, name, path, fds.pop(0) if has_lock else None)

    def forget(self) -> None:
        """Leave the path to the broker that has taken over: ``close`` closes descriptors only."""
        self._at = None

    def withdraw(self) -> None:
        """Take the socket away from its path, if it is still there, so that no new client can connect."""
        if path := self._file():
            self._at = path + ASIDE
            Path(path).rename(self._at)

    def release(self) -> None:
        """Leave the path to its next owner. Idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def close(self) -> None:
        """Remove the socket's file, close it and release the lock for the next owner. Idempotent."""
        if path := self._file():
            Path(path).unlink()
        self._at = None
        self.sock.close()
        self.release()

    def _file(self) -> str | None:
        """Where the socket's file is, if there still is one."""
        return self._at if self._at and _inode(self._at) == self._inode else None


def bind(path: str, *, mode: int, backlog: int) -> Listener:
    """Listen at a path.

    Args:
        path: Absolute or relative. Its directory is made, for us alone (0700), when it is missing.
        mode: Permissions of the socket file, exactly these whatever the umask, from its first moment on.
        backlog: Connections that wait to be accepted.

    Raises:
        ListenError: EADDRINUSE, a living process listens there; EEXIST, there is something that is not a
            socket; ENAMETOOLONG; or what the system says about the directory (ENOENT, EACCES, EROFS, ...).
    """
    n_bytes = len(os.fsencode(path))
    if n_bytes > MAX_PATH_BYTES:
        raise ListenError(
            errno.ENAMETOOLONG,
            f"socket path of {n_bytes} bytes, at most {MAX_PATH_BYTES} fit a Unix socket address: {path}",
        )
    lock = None
    try:
        _refuse_files(path)  # before a lock is made beside what is no broker's, where it may not even be allowed
        lock = _own(path)
        _refuse_living(path)
        return Listener(_bind_and_rename(path, mode, backlog), path, path, lock)
    except OSError as problem:
        if lock is not None:
            os.close(lock)
        number = problem.errno or errno.EIO
        raise ListenError(number, f"cannot listen at {path}: {problem.strerror}") from problem
    except ListenError:
        if lock is not None:
            os.close(lock)
        raise


def _own(path: str) -> int:
    """Become the owner of a path. Returns the descriptor that holds the lock."""
    Path(path).parent.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(path + ".lock", flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise _in_use(path, owner) from None
    except OSError:
        os.close(lock)
        raise
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def _refuse_files(path: str) -> bool:
    """Return whether there is a socket at the path; anything else that is there is refused."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(kind):
        raise ListenError(errno.EEXIST, f"{path} is there and is not a socket; remove it or choose another path")
    return True


def _refuse_living(path: str) -> None:
    """Return if there is nothing at the path, or a socket without a listener."""
    if not _refuse_files(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:  # its backlog is full, so a process listens
            raise _in_use(path, "") from None
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        raise _in_use(path, str(int.from_bytes(credentials[:4], "little", signed=True)))


def _in_use(path: str, owner: str) -> ListenError:
    who = f"process {owner}" if owner.isdigit() else "another process"
    return ListenError(errno.EADDRINUSE, f"{who} listens at {path}; stop it, or choose another path (--socket-path)")


def _bind_and_rename(path: str, mode: int, backlog: int) -> socket.socket:
    temporary = path + TEMPORARY  # nobody else uses this name: we hold the lock
    try:
        if stat.S_ISSOCK(os.lstat(temporary).st_mode):
            Path(temporary).unlink()
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file gets the socket's own mode less the umask: no moment with a wider one.
        os.fchmod(sock.fileno(), mode)
        umask = os.umask(0)
        try:
            sock.bind(temporary)
        finally:
            os.umask(umask)
        bar_descriptors(sock)
        sock.listen(backlog)
        Path(temporary).rename(path)
    except BaseException:
        sock.close()
        raise
    return sock


def drains(path: str) -> bool:
    """Whether a broker that has listened at a path has yet to end: it takes no new clients."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path + ASIDE)
        except BlockingIOError:  # others look too, and nobody accepts them
            return True
        except OSError:
            return False
    return True


def adopt(fd: int, name: str | None = None) -> Listener:
    """Take over a listening socket that the process that started us has opened.

    Args:
        fd: The descriptor's number; the listener closes it from now on.
        name: What messages call the socket; None: by its number.

    Raises:
        ListenError: EBADF, no such descriptor; ENOTSOCK; EINVAL, not a listening Unix stream socket.
    """
    sock = _handed(fd, listening=True)
    bar_descriptors(sock)
    return Listener(sock, name or f"fd {fd}")


def connected(fd: int) -> socket.socket:
    """Take over a connection to a client that the process that started us has opened.

    Args:
        fd: The descriptor's number; the socket closes it from now on.

    Returns:
        The socket; non-blocking, not inherited by children.

    Raises:
        ListenError: EBADF, no such descriptor; ENOTSOCK; EINVAL, not a connected Unix stream socket.
    """
    sock = _handed(fd, listening=False)
    sock.setblocking(False)
    return sock


def _handed(fd: int, *, listening: bool) -> socket.socket:
    """A Unix stream socket that was handed in. Raises ListenError, as ``adopt`` and ``connected``."""
    expected = f"a {'listening' if listening else 'connected'} Unix stream socket was expected"
    try:
        sock = socket.socket(fileno=fd)
    except (OSError, ValueError) as problem:  # ValueError: the number is negative
        number = getattr(problem, "errno", None) or errno.EBADF
        raise ListenError(number, f"descriptor {fd}: {os.strerror(number)}; {expected}") from None
    facts = (
        ("a Unix socket", sock.getsockopt(socket.SOL_SOCKET, SO_DOMAIN) == socket.AF_UNIX),
        ("a stream socket", sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM),
        ("listening", sock.getsockopt(socket.SOL_SOCKET, SO_ACCEPTCONN) == 1)
        if listening
        else ("connected", _is_connected(sock)),
    )
    for fact, holds in facts:
        if not holds:
            sock.detach()
            raise ListenError(errno.EINVAL, f"descriptor {fd} is not {fact}; {expected}")
    os.set_inheritable(fd, False)
    return sock


def _is_connected(sock: socket.socket) -> bool:
    """Whether somebody is, or was, at the other end."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def bar_descriptors(sock: socket.socket) -> bool:
    """Have the kernel refuse descriptors (EPERM for who sends them), also on connections that a listener accepts.

    Returns:
        Whether the kernel has refused them on this socket from the beginning, so that none can come. A kernel before
        Linux 6.16 does not know SO_PASSRIGHTS.
    """
    try:
        barred = sock.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS) == 0
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return barred


def activated(environ: MutableMapping[str, str]) -> list[Listener]:
    """Take over the sockets of systemd's socket activation (sd_listen_fds(3)); none when they are for another process.

    Removes the variables, so that no child takes the sockets for its own.

    Raises:
        ListenError: As ``adopt``; EINVAL when the variables make no sense.
    """
    pid, count, names = (environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()):
        return []
    if not count.isdigit():
        raise ListenError(errno.EINVAL, f"LISTEN_FDS is {count!r}; a number was expected")
    labels = names.split(":") if names else []
    return [adopt(FIRST_ACTIVATED_FD + at, labels[at] if at < len(labels) else None) for at in range(int(count))]


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

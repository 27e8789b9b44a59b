# SPDX-License-Identifier: Apache-2.0
"""A program with the shim preloaded: started, watched, its end handed on."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import signal
import sys

from privcmd._runtimes import preload_without_them
from privcmd._signals import ENDING, put_off
from privcmd.errors import PrivcmdError
from privcmd.run._reach import with_sbin
from privcmd.version import __version__

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType
    from typing import IO

PRELOAD_NAME = "libprivcmdd-preload.so"
NOT_BUILT_NAME = "not-built.txt"
"""Why a package has no shim, left by its build."""
_MARK = b"PRIVCMDD_VERSION="
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT)
"""Signals that go to the program; those of the keyboard reach it anyway, and must not end us before it."""


PATIENCE_S = 30.0
"""What it is when $PRIVCMDD_BROKER_TIMEOUT does not say otherwise (clients/c/patience.h)."""

IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores, which a program must not inherit."""


class Ended(BaseException):
    """A signal asked us to end before there was a program, or after it.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Let signals that end us take what we have started with them: they are an ``Ended``, once."""

    def end(number: int, _frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise Ended(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@functools.cache
def preload_library() -> str:
    """Where the shim is.

    Raises:
        PrivcmdError: ENOENT, it has not been built, or is not where PRIVCMDD_PRELOAD says; EINVAL, it was made from
            another version than this package.
    """
    if named := os.environ.get("PRIVCMDD_PRELOAD"):
        if not os.path.isfile(named):
            raise PrivcmdError(errno.ENOENT, f"{named} is not there, and PRIVCMDD_PRELOAD names it")
        return _same_version(named, "PRIVCMDD_PRELOAD names it: unset that, or name one of this version")
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    for library, remedy in _places(package):
        if os.path.exists(library):
            return _same_version(library, remedy)
    why = f"{package}/lib/{NOT_BUILT_NAME}"
    if os.path.exists(why):
        with open(why, encoding="utf-8") as file:
            reason = file.read().strip()
        raise PrivcmdError(
            errno.ENOENT,
            f"{PRELOAD_NAME} could not be built when this package was installed: {reason}. Put that right, then: pip "
            "install --force-reinstall --no-cache-dir privcmdd; or set PRIVCMDD_PRELOAD",
        )
    raise PrivcmdError(
        errno.ENOENT, f"{PRELOAD_NAME} is not built: `make shim` does it, with a C compiler; or set PRIVCMDD_PRELOAD"
    )


def _places(package: str) -> Iterator[tuple[str, str]]:
    """Where the shim of a package may be, and what to do where it is of another version."""
    yield f"{package}/lib/{PRELOAD_NAME}", "install the package again: pip install --force-reinstall privcmdd"
    # In a checkout the package is at clients/python/privcmd, and the library is built beside its sources.
    yield f"{_above(package, 2)}/c/build/{PRELOAD_NAME}", "`make shim` builds it anew"
    # From lib/python3/dist-packages/privcmd, where `make install` puts it with the same PREFIX, or Debian's package.
    lib = _above(package, 3)
    for place in (f"{lib}/{getattr(sys.implementation, '_multiarch', '')}", lib):
        yield f"{place}/privcmdd/{PRELOAD_NAME}", "install both of one version"


def _above(path: str, n: int) -> str:
    """The directory so many levels up."""
    for _ in range(n):
        path = os.path.dirname(path)
    return path


def version_of(library: str) -> str | None:
    """The version that a library of ours was made from; None if it does not say, as those before 0.2 do not."""
    with open(library, "rb") as file:
        data = file.read()
    at = data.find(_MARK)
    return None if at < 0 else data[at + len(_MARK) : data.find(b"\0", at)].decode(errors="replace")


def _same_version(library: str, remedy: str) -> str:
    """A library, if it is of this package's version."""
    made_from = version_of(library)
    if made_from != __version__:
        raise PrivcmdError(
            errno.EINVAL,
            f"{library} was made from {'an unknown version' if made_from is None else f'version {made_from}'}, "
            f"and this package is version {__version__}; {remedy}",
        )
    return library


def patience_s() -> float | None:
    """How long a run itself waits for its broker, as long as its program does; None is for ever."""
    try:
        return float(os.environ.get("PRIVCMDD_BROKER_TIMEOUT") or PATIENCE_S) or None
    except ValueError:
        return PATIENCE_S


def environment(socket_path: str, token: str) -> dict[str, str]:
    """The environment of a program that is to live under the shim."""
    preload = preload_library()
    if before := preload_without_them():
        preload = f"{preload}:{before}"
    ours = {"LD_PRELOAD": preload, "PRIVCMDD_SOCKET": socket_path, "PRIVCMDD_CLIENT": token, "PATH": with_sbin()}
    return {**os.environ, **ours}


def start(
    stack: contextlib.ExitStack, words: Sequence[str], env: dict[str, str], output: IO[bytes] | int, end: signal.Signals
) -> subprocess.Popen[bytes]:
    """Have a process beside the program for as long as a stack lasts, in a session of its own.

    A signal that ends us is taken once the stack knows of the process, so that none is left behind.

    Args:
        stack: Whose end is its end.
        words: Its command line.
        env: Its environment.
        output: Where what it says goes.
        end: The signal that ends it; it is waited for.

    Raises:
        OSError: It cannot be started.
    """
    import subprocess  # noqa: PLC0415 - slow to import, and most programs need nothing beside them

    with put_off():
        process = subprocess.Popen(  # noqa: S603 - found by us
            words, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        stack.callback(process.wait)
        stack.callback(process.send_signal, end)
    return process


def execute(path: str, arguments: Sequence[str], env: dict[str, str]) -> int:
    """Run a program to its end, passing signals on.

    It gets our descriptors, and the signals that Python ignores as the system has them.

    Returns:
        Its exit status, or minus the signal that ended it.

    Raises:
        OSError: It cannot be started.
    """
    with _forwarding() as forward_to:
        pid = os.posix_spawn(path, [path, *arguments], env, setsigdef=IGNORED)
        pidfd = os.pidfd_open(pid)
        with forward_to(pid), _waking() as woken:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.register(woken, select.POLLIN)
            while pidfd not in {fd for fd, _ in poller.poll()}:
                os.read(woken, 64)
        os.close(pidfd)  # not before nobody sends it signals: until it is waited for, it keeps its number
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def _waking() -> Iterator[int]:
    """A descriptor that can be read when a signal has come: no wait begins just after it without being woken by it."""
    woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        yield woken
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(waker)


@contextlib.contextmanager
def _forwarding() -> Iterator[Callable[[int], contextlib.AbstractContextManager[None]]]:
    """Pass signals on, also those that come before there is a process to pass them to."""
    came: list[int] = []
    to: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        send()

    def send() -> None:
        while to and came:
            with contextlib.suppress(ProcessLookupError):
                os.kill(to[0], came.pop(0))

    @contextlib.contextmanager
    def forward_to(pid: int) -> Iterator[None]:
        to.append(pid)
        send()
        try:
            yield
        finally:
            to.clear()

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    # A handler and not SIG_IGN, which the program would inherit.
    before |= {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        yield forward_to
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_as(status: int) -> int:
    """End as a program did: its exit status, or the same signal.

    Returns:
        The exit status; does not return when it was a signal that ends us too.
    """
    if status >= 0:
        return status
    import resource  # noqa: PLC0415 - only here

    number = -status
    # The program's core is the one that matters.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler to be reset
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number

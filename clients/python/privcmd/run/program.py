# SPDX-License-Identifier: Apache-2.0
"""A program with the shim preloaded: started, watched, its end handed on."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from privcmd.errors import PrivcmdError
from privcmd.run.reach import with_sbin
from privcmd.runtimes import preload_without_them
from privcmd.signals import ENDING, put_off
from privcmd.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

PRELOAD_NAME: Final = "libprivcmdd-preload.so"
NOT_BUILT_NAME: Final = "not-built.txt"
"""Why a package has no shim, left by its build."""
_MARK: Final = b"PRIVCMDD_VERSION="
FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT)
"""Signals that go to the program; those of the keyboard reach it anyway, and must not end us before it."""


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


def preload_library() -> Path:
    """Where the shim is.

    Raises:
        PrivcmdError: ENOENT, it has not been built, or is not where PRIVCMDD_PRELOAD says; EINVAL, it was made from
            another version than this package.
    """
    if named := os.environ.get("PRIVCMDD_PRELOAD"):
        if not Path(named).is_file():
            raise PrivcmdError(errno.ENOENT, f"{named} is not there, and PRIVCMDD_PRELOAD names it")
        return _same_version(Path(named), "PRIVCMDD_PRELOAD names it: unset that, or name one of this version")
    package = Path(__file__).resolve().parent.parent
    for library, remedy in _places(package):
        if library.exists():
            return _same_version(library, remedy)
    why = package / "lib" / NOT_BUILT_NAME
    if why.exists():
        raise PrivcmdError(
            errno.ENOENT,
            f"{PRELOAD_NAME} could not be built when this package was installed: "
            f"{why.read_text(encoding='utf-8').strip()}. Put that right, then: pip install --force-reinstall "
            "--no-cache-dir privcmdd; or set PRIVCMDD_PRELOAD",
        )
    raise PrivcmdError(
        errno.ENOENT, f"{PRELOAD_NAME} is not built: `make shim` does it, with a C compiler; or set PRIVCMDD_PRELOAD"
    )


def _places(package: Path) -> Iterator[tuple[Path, str]]:
    """Where the shim of a package may be, and what to do where it is of another version."""
    yield package / "lib" / PRELOAD_NAME, "install the package again: pip install --force-reinstall privcmdd"
    # In a checkout the package is at clients/python/privcmd, and the library is built beside its sources.
    yield package.parents[1] / "c" / "build" / PRELOAD_NAME, "`make shim` builds it anew"
    # From lib/python3/dist-packages/privcmd, where `make install` puts it with the same PREFIX, or Debian's package.
    for lib in (package.parents[2] / getattr(sys.implementation, "_multiarch", ""), package.parents[2]):
        yield lib / "privcmdd" / PRELOAD_NAME, "install both of one version"


def version_of(library: Path) -> str | None:
    """The version that a library of ours was made from; None if it does not say, as those before 0.2 do not."""
    data = library.read_bytes()
    at = data.find(_MARK)
    return None if at < 0 else data[at + len(_MARK) : data.find(b"\0", at)].decode(errors="replace")


def _same_version(library: Path, remedy: str) -> Path:
    """A library, if it is of this package's version."""
    made_from = version_of(library)
    if made_from != __version__:
        raise PrivcmdError(
            errno.EINVAL,
            f"{library} was made from {'an unknown version' if made_from is None else f'version {made_from}'}, "
            f"and this package is version {__version__}; {remedy}",
        )
    return library


def environment(socket_path: str, token: str) -> dict[str, str]:
    """The environment of a program that is to live under the shim."""
    preload = str(preload_library())
    if before := preload_without_them():
        preload = f"{preload}:{before}"
    ours = {"LD_PRELOAD": preload, "PRIVCMDD_SOCKET": socket_path, "PRIVCMDD_CLIENT": token, "PATH": with_sbin()}
    return {**os.environ, **ours}


def start(
    stack: contextlib.ExitStack, words: Sequence[str], env: dict[str, str], output: IO[bytes], end: signal.Signals
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
    with put_off():
        process = subprocess.Popen(  # noqa: S603 - found by us
            words, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        stack.callback(process.wait)
        stack.callback(process.send_signal, end)
    return process


def execute(path: str, arguments: Sequence[str], env: dict[str, str]) -> int:
    """Run a program to its end, passing signals on.

    Returns:
        Its exit status, or minus the signal that ended it.
    """
    with _forwarding() as forward_to:
        process = subprocess.Popen([path, *arguments], env=env)  # noqa: S603 - running what we are told to is the job
        forward_to(process)
        return process.wait()


@contextlib.contextmanager
def _forwarding() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Pass signals on, also those that come before there is a process to pass them to."""
    early: list[int] = []
    to: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        early.append(number)
        for process in to:
            send(process)

    def send(process: subprocess.Popen[bytes]) -> None:
        while early:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(early.pop(0))

    def begin(process: subprocess.Popen[bytes]) -> None:
        to.append(process)
        send(process)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    # A handler and not SIG_IGN, which the program would inherit.
    before |= {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        yield begin
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
    number = -status
    # The program's core is the one that matters.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler to be reset
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number

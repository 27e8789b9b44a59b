# SPDX-License-Identifier: Apache-2.0
"""Under the shim nothing waits for ever: a broker that is stopped or stuck is an errno and a sentence."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from functools import partial
from typing import TYPE_CHECKING

import msgpack
import pytest

from privcmd import Client
from privcmd.broker import PrivateBroker
from support.c_guests import N_FRAMES, fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HANG_S = 60
"""After which a test says that the program hangs."""
SOON = "2"
"""Seconds that no broker here takes to answer unless it is stopped, on a busy machine too."""
NO_PORTS = "this file of event channels has no ports any more, and no call of it works"
CLONED = "this process was made by clone(2) without fork(3), its parent's connection is not its own"
WHAT_FOLLOWS = "every call to Xen fails with ENXIO from now on, what is mapped stays"


class Stuck:
    """A broker that answers until it is asked for RESTRICT, and then does as the test says.

    Args:
        path: Its socket.
        at_restrict: Called with the process that asks; whether it is answered at last.
    """

    def __init__(self, path: str, at_restrict: Callable[[int], bool]) -> None:
        self._at_restrict = at_restrict
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
        requests = msgpack.Unpacker()
        with connection:
            while data := connection.recv(4096):
                requests.feed(data)
                for _, msgid, method, _params in requests:
                    if method != "privcmd.restrict" or self._at_restrict(pid):
                        connection.sendall(msgpack.packb([1, msgid, None, {}]))

    def close(self) -> None:
        """Wait until its client has gone."""
        self._thread.join(HANG_S)
        self._listener.close()
        assert not self._thread.is_alive()


@contextlib.contextmanager
def program(
    libraries: Path, compiled: Callable[..., Path], case: str, path: str, dom: int = 1, timeout: str = SOON
) -> Iterator[subprocess.Popen[str]]:
    """A case of stuck.c under the shim."""
    env = {
        **os.environ,
        "LD_PRELOAD": str(libraries / "libprivcmdd-preload.so"),
        "PRIVCMDD_SOCKET": path,
        "PRIVCMDD_BROKER_TIMEOUT": timeout,
    }
    command = [str(compiled("stuck.c")), str(dom), case]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as started:
        try:
            yield started
        finally:
            started.kill()


def go_on(started: subprocess.Popen[str]) -> None:
    """Let the program go on once it is ready."""
    assert started.stdin is not None
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    started.stdin.write("go on\n")
    started.stdin.flush()


@contextlib.contextmanager
def stopped(broker: PrivateBroker, started: subprocess.Popen[str]) -> Iterator[None]:
    """The broker is stopped from where the program is ready until the end of the block."""
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        assert started.stdin is not None
        started.stdin.write("go on\n")
        started.stdin.flush()
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def test_calls_of_a_stopped_broker_time_out(libraries: Path, compiled: Callable[..., Path]) -> None:
    """Law: a call is ETIMEDOUT, later ones are ENXIO also when it goes on; what is mapped stays, and goes by munmap."""
    with PrivateBroker() as broker:
        with Client(broker.path) as client:
            dom = client.call("domain.create", kind="hvm", max_pages=N_FRAMES)["dom"]
            fill(client, dom)
        with program(libraries, compiled, "calls_end", broker.path, dom) as started:
            with stopped(broker, started):
                assert started.stdout is not None
                assert started.stdout.readline() == "ready\n"
            assert started.stdin is not None
            said = started.communicate("go on\n", timeout=HANG_S)[1]

    assert started.returncode == 0, said
    assert said.splitlines() == [
        f"privcmdd: the broker has not answered within 2 s; {WHAT_FOLLOWS}",
        f"privcmdd: the broker has not answered within 2 s; {NO_PORTS}",
    ]


@pytest.mark.parametrize("case", ["unmapping_ends", "open_ends", "fork_ends"])
def test_nothing_waits_for_a_stopped_broker(case: str, libraries: Path, compiled: Callable[..., Path]) -> None:
    """Law: munmap is done, open is ETIMEDOUT, a fork's child finds no broker; one line says that none answers."""
    with (
        PrivateBroker() as broker,
        program(libraries, compiled, case, broker.path) as started,
        stopped(broker, started),
    ):
        said = started.communicate(timeout=HANG_S)[1]

    assert started.returncode == 0, said
    assert said.count("the broker has not answered within 2 s") == 1


def test_a_queue_of_connections_that_is_full_times_out(
    libraries: Path, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    """Law: connect waits no longer than a call."""
    path = str(tmp_path / "full")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            if waiting.connect_ex(path):
                break
        started = stack.enter_context(program(libraries, compiled, "open_ends", path))
        go_on(started)
        said = started.communicate(timeout=HANG_S)[1]

    assert started.returncode == 0, said
    assert said == "privcmdd: cannot use the broker: the broker has not answered within 2 s\n"


def test_a_handler_runs_while_a_call_waits(libraries: Path, compiled: Callable[..., Path], tmp_path: Path) -> None:
    """Law: SIGTERM gets to its handler though the broker never answers; the call is EINTR, later ones are ENXIO."""

    def ask_to_end(pid: int) -> bool:
        os.kill(pid, signal.SIGTERM)
        return False

    broker = Stuck(str(tmp_path / "socket"), ask_to_end)
    with program(libraries, compiled, "a_handler_runs", str(tmp_path / "socket"), timeout="0") as started:
        said = started.communicate(timeout=HANG_S)[1]
    broker.close()

    assert started.returncode == 0, said
    assert said == f"privcmdd: the broker does not answer, and SIGTERM asks the program to end; {WHAT_FOLLOWS}\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_a_program_that_waits_can_be_ended(
    number: signal.Signals, libraries: Path, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    """Law: by each signal that is for that, though the broker never answers."""

    def ask_to_end(pid: int) -> bool:
        os.kill(pid, number)
        return False

    broker = Stuck(str(tmp_path / "socket"), ask_to_end)
    with program(libraries, compiled, "it_is_ended", str(tmp_path / "socket"), timeout="0") as started:
        started.communicate(timeout=HANG_S)
    broker.close()

    assert started.returncode == -number


def test_a_signal_does_not_cost_an_answer(libraries: Path, compiled: Callable[..., Path], tmp_path: Path) -> None:
    """Law: an answer that comes soon after the signal is still taken, and the handler runs after it."""

    def answer_after_it(pid: int) -> bool:
        os.kill(pid, signal.SIGTERM)
        return True

    broker = Stuck(str(tmp_path / "socket"), answer_after_it)
    with program(libraries, compiled, "a_slow_answer_counts", str(tmp_path / "socket"), timeout="0") as started:
        said = started.communicate(timeout=HANG_S)[1]
    broker.close()

    assert (started.returncode, said) == (0, "")


def test_signals_that_the_program_does_not_take_cut_nothing_short(
    libraries: Path, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    """Law: neither one that is ignored nor one that the program itself keeps back; the wait ends by its time."""

    def send_both(pid: int) -> bool:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        return False

    broker = Stuck(str(tmp_path / "socket"), send_both)
    case = "what_is_ignored_does_not_count"
    with program(libraries, compiled, case, str(tmp_path / "socket"), timeout="1.5") as started:
        said = started.communicate(timeout=HANG_S)[1]
    broker.close()

    assert started.returncode == 0, said
    assert said == f"privcmdd: the broker has not answered within 1.5 s; {WHAT_FOLLOWS}\n"


def test_a_bare_clone_does_not_wait_for_a_thread_that_it_does_not_have(
    libraries: Path, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    """Law 5.3: a child of clone(2), made while a thread has the shim's lock, is told that it has no connection."""

    def say_so(pid: int) -> bool:
        os.kill(pid, signal.SIGUSR1)
        return False

    broker = Stuck(str(tmp_path / "socket"), say_so)
    odd = partial(compiled, "odd.c", "-lpthread")
    with program(libraries, lambda _: odd(), "a_bare_clone", str(tmp_path / "socket")) as started:
        said = started.communicate(timeout=HANG_S)[1]
    broker.close()

    assert started.returncode == 0, said
    assert said.splitlines() == [
        f"privcmdd: {CLONED}; {WHAT_FOLLOWS}",
        f"privcmdd: the broker has not answered within 2 s; {WHAT_FOLLOWS}",
    ]


@pytest.mark.parametrize("value", ["soon", "-1", "1s", "nan", "1e9"])
def test_a_timeout_that_is_none_is_said(
    value: str, libraries: Path, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    """Law: the value is named, and what is expected; the default holds."""
    with program(libraries, compiled, "it_is_ended", str(tmp_path / "nobody"), timeout=value) as started:
        said = started.communicate(timeout=HANG_S)[1]

    line = said.splitlines()[0]
    assert line.startswith(f"privcmdd: PRIVCMDD_BROKER_TIMEOUT is '{value}', expected seconds")
    assert line.endswith("it is 30")

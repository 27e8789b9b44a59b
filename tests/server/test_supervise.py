# SPDX-License-Identifier: Apache-2.0
"""A broker starts once, says when it is ready, answers what has arrived before it stops, and reloads whole."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from support.process import GUARD_S, Process
from support.rawclient import RawClient

PING = msgpack.packb([0, 1, "ping", []])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory with a short name, not the broker's."""
    with tempfile.TemporaryDirectory(prefix="pv") as name:
        yield Path(name)


def listening(path: Path) -> socket.socket:
    """A socket as a service manager would hand it over."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(16)
    return sock


def stuck(process: Process) -> RawClient:
    """A client that has more answers to take than it ever will."""
    client = process.client()
    client.flood(PING * 1000, 64 << 20)
    return client


def privcmdd(*args: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PRIVCMDD_")}
    command = [sys.executable, *python, "-m", "privcmdd", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=GUARD_S, env=clean)


def test_ready_means_that_connections_are_accepted() -> None:
    """Whoever connects after READY is served, and the socket is as private as configured."""
    with Process() as process:
        told = process.told()
        with process.client() as client:
            assert client.call("ping")["instance"]
        assert told == {"READY": "1", "STATUS": f"Serving on {process.path}"}
        assert stat.S_IMODE(Path(process.path).stat().st_mode) == 0o600


def test_sigterm_stops_with_zero_and_leaves_no_socket() -> None:
    """STOPPING is told, the file is gone, the exit code says that nothing was lost."""
    with Process() as process:
        process.ready().signal(signal.SIGTERM)

        assert process.told()["STOPPING"] == "1"
        assert process.wait() == 0
        assert not Path(process.path).exists()


def test_a_signal_before_the_start_is_complete_is_not_lost() -> None:
    """As early as somebody can know of the broker, SIGTERM stops it as at any other time."""
    with Process() as process:
        while not Path(process.path).exists():
            assert process.popen.poll() is None, process.output()

        assert process.stop() == 0
        assert not Path(process.path).exists()


def test_a_correct_client_causes_no_line() -> None:
    """The log of a healthy run is its start and its stop, each with what one wants to know."""
    with Process() as process:
        process.ready()
        with process.client() as client:
            client.call("hello", client="test")
            client.call("domain.create", kind="hvm", max_pages=16, dom=1)
            addr = client.call("mmap", len=4096 * 4, prot=3)["addr"]
            client.call("privcmd.mmapbatch_v2", dom=1, addr=addr, arr=[0, 1, 99, 3])
            with pytest.raises(Exception, match="ESRCH"):
                client.call("domain.destroy", dom=77)
        code = process.stop()
        started, stopped = process.lines()

    assert code == 0
    assert (started["event"], started["level"], started["pid"]) == ("started", "info", process.popen.pid)
    assert started["sockets"] == [process.path]
    assert (stopped["event"], stopped["code"], stopped["connections"]) == ("stopped", 0, 1)


def test_debug_lines_name_connection_and_peer() -> None:
    """What is bound to a connection is on each of its lines."""
    with Process("--log-level", "debug") as process:
        process.ready()
        with process.client() as client:
            client.call("ping")
        process.stop()
        (line,) = [line for line in process.lines() if line["event"] == "disconnected"]

    assert (line["connection"], line["uid"], line["pid"]) == (1, os.getuid(), os.getpid())
    assert line["requests"] == 1


def test_sigterm_answers_what_has_arrived() -> None:
    """Requests that were sent before the signal are answered, then the stream ends; idle ones just end."""
    with Process() as process:
        process.ready()
        with process.client() as busy, process.client() as idle:
            assert idle.call("ping")
            process.signal(signal.SIGSTOP)
            busy.send(PING * 500)
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)

            answers = [busy.message() for _ in range(500)]
            assert busy.ended()
            assert idle.ended()
        assert {answer[1] for answer in answers} == {1}
        assert process.wait() == 0


def test_sigterm_answers_connections_that_still_wait_to_be_accepted() -> None:
    """A request that has arrived has arrived, accepted or not."""
    with Process() as process:
        process.ready().signal(signal.SIGSTOP)
        clients = [process.client() for _ in range(40)]
        for client in clients:
            client.send(PING)
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
        for client in clients:
            with client:
                assert client.message()[2] is None
                assert client.ended()
        assert process.wait() == 0, process.output()


def test_a_second_signal_forces() -> None:
    """A client that never reads can hold up a stop only until somebody insists."""
    with Process("--set", "server.drain_timeout_s=3600") as process:
        process.ready()
        with stuck(process):
            process.signal(signal.SIGTERM)
            assert process.told()["STOPPING"] == "1"
            process.signal(signal.SIGINT)

            assert process.wait() == 3
        assert not Path(process.path).exists()


def test_the_time_to_drain_is_bounded() -> None:
    """After server.drain_timeout_s the rest is cut off, which the exit code and a line say."""
    with Process("--set", "server.drain_timeout_s=0.1") as process:
        process.ready()
        with stuck(process):
            assert process.stop() == 3
        assert "stopping with answers not taken" in process.events()


def test_the_watchdog_is_fed() -> None:
    """Again and again while the loop turns, where the manager asks for it."""
    with Process(environ={"WATCHDOG_USEC": "20000"}) as process:
        told = [process.told() for _ in range(4)]
        assert process.stop() == 0

    assert [one for one in told if "READY" not in one] == [{"WATCHDOG": "1"}] * 3


def test_sighup_takes_a_good_configuration() -> None:
    """RELOADING, then READY; clients that are there see the new limits, and keys for a restart are named."""
    with Process(config="[limits]\nframes_per_batch = 100\n") as process:
        process.ready()
        with process.client() as client:
            process.config.write_text("[limits]\nframes_per_batch = 50\n[machine]\ndomains = 3\n")
            process.signal(signal.SIGHUP)
            reloading, ready = process.told(), process.told()
            limits = client.call("hello")["limits"]
        process.stop()
        (line,) = [line for line in process.lines() if line["event"].startswith("configuration")]

    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert ready["READY"] == "1"
    assert limits["frames_per_batch"] == 50
    assert (line["event"], line["keys"]) == (
        "configuration reloaded; some keys need a restart",
        ["machine.domains"],
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[limits]\nframes_per_batch = 50\nfrobs = 1\n", "unknown key limits.frobs"),
        ("[limits\n", "is not TOML"),
        (None, "cannot read"),
    ],
)
def test_sighup_keeps_the_old_configuration_when_the_new_one_is_bad(text: str | None, reason: str) -> None:
    """All or nothing: no key of a bad file is taken, and the line says what is wrong with it."""
    with Process(config="[limits]\nframes_per_batch = 100\n") as process:
        process.ready()
        with process.client() as client:
            if text is None:
                process.config.unlink()
            else:
                process.config.write_text(text)
            process.signal(signal.SIGHUP)
            told = [process.told(), process.told()]
            limits = client.call("hello")["limits"]
        process.stop()
        (line,) = [line for line in process.lines() if line["event"].startswith("configuration")]

    assert [next(iter(states)) for states in told] == ["RELOADING", "READY"]
    assert limits["frames_per_batch"] == 100
    assert line["event"] == "configuration not reloaded, the old one stays"
    assert reason in line["problem"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--set", "limits.frams=1"), "unknown key limits.frams; did you mean limits.frames?"),
        (("--set", "limits.frames"), "expected TABLE.KEY=VALUE"),
        (("--config", "/no/such/file"), "cannot read /no/such/file"),
        (("--log-level", "loud"), "log.level is 'loud'"),
        (("--socket-path", "/dev/null"), "EEXIST: /dev/null is there and is not a socket"),
        (("--socket-path", "/" + "x" * 200), "ENAMETOOLONG"),
        (("--fd", "0"), "ENOTSOCK: descriptor 0"),
    ],
)
def test_what_cannot_be_served_ends_with_two_and_a_reason(args: tuple[str, ...], expected: str) -> None:
    """A wrong start is one sentence on standard error, without a traceback."""
    ended = privcmdd("serve", *args)

    assert ended.returncode == 2
    assert expected in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_optimised_python_is_refused() -> None:
    """Assertions are part of the broker; without them it does not start."""
    ended = privcmdd("serve", python=("-O",))

    assert (ended.returncode, "python -O" in ended.stderr) == (2, True)


def test_a_second_start_names_the_first_and_leaves_it_alone() -> None:
    """The path is the first one's as long as it lives."""
    with Process() as first:
        first.ready()
        second = privcmdd("serve", "--socket-path", first.path)
        with first.client() as client:
            assert client.call("ping")

    assert second.returncode == 2
    assert f"EADDRINUSE: process {first.popen.pid} listens at {first.path}" in second.stderr


def test_the_socket_of_a_killed_broker_is_taken_over() -> None:
    """A kill -9 leaves a file, which stops nobody; clients see another instance."""
    with Process() as first:
        first.ready()
        with first.client() as client:
            instance = client.call("ping")["instance"]
        first.popen.kill()
        first.wait()
        assert Path(first.path).is_socket()

        with Process("--socket-path", first.path, listen=False) as second:
            second.ready()
            with RawClient(first.path) as client:
                assert client.call("ping")["instance"] != instance


def test_of_many_starts_at_once_one_wins(folder: Path) -> None:
    """However they race, over a stale socket too, exactly one owns the path."""
    path = folder / "b"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    racers = [Process("--socket-path", str(path), listen=False) for _ in range(6)]
    try:
        losers = [racer.popen.pid for racer in _first_to_end(racers, len(racers) - 1)]
        (winner,) = [racer for racer in racers if racer.popen.pid not in losers]
        winner.ready()
        with RawClient(str(path)) as client:
            assert client.call("ping")
        codes = [racer.popen.returncode for racer in racers if racer is not winner]
    finally:
        for racer in racers:
            racer.__exit__()

    assert codes == [2] * 5


def _first_to_end(racers: list[Process], how_many: int) -> list[Process]:
    """Wait for that many to end."""
    ended: list[Process] = []
    while len(ended) < how_many:
        pid, status = os.waitpid(-1, 0)
        for racer in racers:
            if racer.popen.pid == pid:
                racer.popen.returncode = os.waitstatus_to_exitcode(status)
                ended.append(racer)
    return ended


def test_a_descriptor_is_served(folder: Path) -> None:
    """--fd: nothing is opened, and the socket's file is not ours to remove."""
    with (
        listening(folder / "s") as sock,
        Process("--fd", str(sock.fileno()), listen=False, fds=[sock.fileno()]) as process,
    ):
        process.ready()
        with RawClient(str(folder / "s")) as client:
            assert client.call("ping")
        assert process.stop() == 0

    assert (folder / "s").is_socket()


def test_a_connected_client_comes_first(folder: Path) -> None:
    """Law: --first-fd: what that client had sent is answered before anybody else is accepted, who came earlier."""
    ours, theirs = socket.socketpair()
    with listening(folder / "s") as sock, theirs, RawClient(connected=ours) as first:
        fds = [sock.fileno(), theirs.fileno()]
        with RawClient(str(folder / "s")) as other:
            other.post("domain.list", [{}])
            made = first.post("domain.create", [{"kind": "hvm", "max_pages": 16}])
            named = first.post("hello", [{"client": "first", "protocol": 1}])
            with Process("--fd", str(fds[0]), "--first-fd", str(fds[1]), listen=False, fds=fds) as process:
                assert [row["dom"] for row in other.message()[3]["domains"]] == [1]
                assert [first.message()[1] for _ in range(2)] == [made, named]
                assert first.call("ping")
                assert process.stop() == 0


def test_others_are_accepted_when_the_first_client_has_gone(folder: Path) -> None:
    """Law: a first client that hung up before the broker started keeps nobody waiting."""
    ours, theirs = socket.socketpair()
    ours.close()
    with listening(folder / "s") as sock, theirs:
        fds = [sock.fileno(), theirs.fileno()]
        with Process("--fd", str(fds[0]), "--first-fd", str(fds[1]), listen=False, fds=fds) as process:
            with RawClient(str(folder / "s")) as other:
                assert other.call("ping")
            assert process.stop() == 0


def test_systemd_sockets_are_served(folder: Path) -> None:
    """LISTEN_FDS: all of them, by their names, and their files stay."""
    adopt = (
        "import fcntl,os,sys; fds=[fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1].split(',')];"
        "[os.dup2(fd, 3 + at) for at, fd in enumerate(fds)];"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='one:two');"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    with listening(folder / "1") as one, listening(folder / "2") as two:
        fds = [one.fileno(), two.fileno()]
        wrapper = [sys.executable, "-c", adopt, ",".join(map(str, fds))]
        with Process(listen=False, fds=fds, wrapper=wrapper) as process:
            assert process.told()["STATUS"] == "Serving on one, two"
            for name in "12":
                with RawClient(str(folder / name)) as client:
                    assert client.call("ping")
            assert process.stop() == 0

    assert (folder / "1").is_socket()


def test_check_config_says_where_values_are_from() -> None:
    """For people and for programs."""
    plain = privcmdd("check-config", "--set", "limits.frames=5")
    machine = privcmdd("check-config", "--json", "--set", "limits.frames=5")
    wrong = privcmdd("check-config", "--set", "limits.frams=5")

    assert "limits.frames = 5  # flag" in plain.stdout.splitlines()
    assert '"origin": "flag"' in machine.stdout
    assert (wrong.returncode, "limits.frams" in wrong.stderr) == (2, True)


def test_capabilities_are_told() -> None:
    """As vhost-user back ends do it, so that management software need not try."""
    ended = privcmdd("--print-capabilities")

    assert (ended.returncode, '"type": "privcmd"' in ended.stdout) == (0, True)


@pytest.mark.parametrize("args", [("--help",), ("serve", "--help"), ("check-config", "--help")])
def test_help_tells_the_exit_codes(args: tuple[str, ...]) -> None:
    """What a script needs to know is in the help."""
    assert "exit codes:" in privcmdd(*args).stdout


def test_without_a_command_the_help_is_shown() -> None:
    """Nothing is started by accident."""
    ended = privcmdd()

    assert (ended.returncode, "usage: privcmdd" in ended.stderr) == (2, True)

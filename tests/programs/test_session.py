# SPDX-License-Identifier: Apache-2.0
"""privcmdctl session: what its runs share, and what each has for itself."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from programs.programs import CTL, GUARD_S, command, python

if TYPE_CHECKING:
    from collections.abc import Sequence

WHERE = ["sh", "-c", "echo $PRIVCMDD_SOCKET $PRIVCMDD_DOMID $PRIVCMDD_DOMAINS"]
LISTED = [*CTL, "domain", "list", "--json"]
LEAK = python("at = mmap_pages(1); batch(int(os.environ['PRIVCMDD_DOMID']), at, [1])")


def a_run(*words: str) -> str:
    """A ``privcmdctl run`` as a line of a shell script."""
    return shlex.join(command("--no-xenstore", *words))


def session(lines: Sequence[str], *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A session of a shell script, to its end."""
    words = [*CTL, "session", *options, "--", "sh", "-c", "\n".join(lines)]
    return subprocess.run(words, capture_output=True, text=True, timeout=GUARD_S, check=False, **more)


def test_runs_share_a_broker_and_number_their_domains_alike() -> None:
    """Law: all runs find one broker; each has its own domains, from 1 on as on a host of its own."""
    line = a_run("--domain", "hvm:1M:web", "--domain", "pv:1M", "--", *WHERE)

    done = session(["echo $PRIVCMDD_SOCKET", line, line])

    assert (done.returncode, done.stderr) == (0, "")
    socket, *runs = done.stdout.splitlines()
    assert runs == [f"{socket} 1 web=1,2"] * 2


def test_runs_at_one_time_have_different_domains() -> None:
    """Law: a run inside another one gets the next numbers, and both report the same broker."""
    inner = a_run("--domain", "hvm:1M:inner", "--", *WHERE)

    done = session([a_run("--domain", "hvm:1M:outer", "--", "sh", "-c", f"echo $PRIVCMDD_DOMAINS; {inner}")])

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["outer=1", "inner=2"]


def test_domains_end_with_their_run_and_those_of_the_session_stay() -> None:
    """Law: a run takes its domains away; those of the session are there for all, and a run that has none knows them."""
    lines = ["echo $PRIVCMDD_DOMAINS", a_run("--", *WHERE), a_run("--domain", "hvm:1M:own", "--", *WHERE)]

    done = session([*lines, shlex.join(LISTED)], "--domain", "hvm:1M:all")

    assert (done.returncode, done.stderr) == (0, "")
    *told, listed = done.stdout.split("\n", 3)
    assert [line.split()[-1] for line in told] == ["all=1", "all=1", "own=2"]
    assert [row["name"] for row in json.loads(listed)["domains"]] == ["all"]


def test_each_run_reports_its_own() -> None:
    """Law: leaks, findings and what was not answered of a run are said by that run, and by no other."""
    asks = python("libc.ioctl(fd, 0x305000, ctypes.create_string_buffer(struct.pack('=6Q', 37, 0, 0, 0, 0, 0)))")
    lines = [
        a_run("--domain", "hvm:1M", "--leaks=error", "--", *LEAK) + "; echo $?",
        a_run("--domain", "hvm:1M", "--leaks=error", "--findings=error", "--json", "--", *asks) + "; echo $?",
    ]

    done = session(lines)

    assert done.stdout.split() == ["99", "0"]
    leak, _, told = done.stderr.splitlines()
    assert "1 page of domain 1 at " in leak
    end = json.loads(told)
    assert (end["leaks"], end["findings"], end["unanswered"]) == ([], [], {"hypercall kexec_op": 1})


def test_a_run_that_wants_another_host_has_its_own() -> None:
    """Law: with a configuration a run has a broker of its own, as outside of a session."""
    stats = shlex.join([*CTL, "stats", "--json"])
    lines = [stats, a_run("--set", "machine.memory_mib=64", "--", "sh", "-c", stats)]

    done = session(lines, "--set", "machine.memory_mib=128")

    assert (done.returncode, done.stderr) == (0, "")
    documents = done.stdout.replace("}\n{", "}\0{").split("\0")
    assert [json.loads(one)["machine"]["frames"] for one in documents] == [128 * 256, 64 * 256]


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), (f"kill -{signal.SIGTERM} $$", -signal.SIGTERM)])
def test_the_end_of_the_command_is_handed_on(script: str, status: int) -> None:
    """Law: its exit status, or the signal that ended it; a session in which nobody runs anything starts no broker."""
    done = session([f'ls "$(dirname "$PRIVCMDD_SESSION")"; {script}'])

    assert (done.returncode, done.stdout, done.stderr) == (status, "s\n", "")


def test_nothing_is_left_of_a_session() -> None:
    """Law: its broker ends with the command, and its directory is gone."""
    done = session([a_run("--domain", "hvm:1M", "--", *python("print(os.environ['PRIVCMDD_SOCKET'])"))])

    assert done.returncode == 0
    assert not Path(done.stdout.strip()).parent.exists()


def test_a_signal_reaches_the_command() -> None:
    """Law: what is sent to the session is the command's to handle."""
    words = [*CTL, "session", "--", "sh", "-c", f"trap 'exit 5' {signal.SIGTERM:d}; echo ready; read line"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.terminate()
        assert running.wait(GUARD_S) == 5


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--set", "machine.memory=1"], 2, "unknown key machine.memory; did you mean machine.memory_mib?"),
        (["--domain", "hvm:1024G"], 1, "privcmdctl: ENOMEM: "),
        (["--socket", "/s"], 2, "a session starts a broker of its own: leave out --socket"),
    ],
)
def test_what_is_wrong_is_said_before_the_command_runs(options: list[str], status: int, said: str) -> None:
    """Law: a mistake in the options is refused, and the command is not started."""
    done = session(["echo started"], *options)

    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


def test_a_command_is_needed_and_must_be_there() -> None:
    """Law: without a command, or with one that is not there, a sentence says so."""
    for words, status, said in (([], 2, "nothing to run"), (["--", "no-such-program"], 1, "no such program on PATH")):
        done = subprocess.run([*CTL, "session", *words], capture_output=True, text=True, timeout=GUARD_S, check=False)
        assert done.returncode == status
        assert said in done.stderr


def test_a_session_that_has_ended_is_no_broker() -> None:
    """Law: a run that believes to be in a session of which nothing is left says so, and starts nothing."""
    env = {"PRIVCMDD_SESSION": "/nowhere/s", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command("--", "echo", "started"), capture_output=True, text=True, timeout=GUARD_S, check=False, env=env
    )

    assert (done.returncode, done.stdout) == (3, "")
    assert "no broker at /nowhere/s" in done.stderr

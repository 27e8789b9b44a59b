# SPDX-License-Identifier: Apache-2.0
"""privcmdctl run: what it hands on, what it says at the end, what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmd.broker import PrivateBroker
from programs.programs import CTL, GUARD_S, children, command, python, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmd import Client

# The command, for a user who may not even read its modules: a first refusal imports all that the second one needs.
AS_NOBODY = """
import contextlib, io, os, sys
from privcmdd.cli import ctl
with contextlib.redirect_stderr(io.StringIO()):
    ctl.main(["run", "--", "no-such-program"])
if os.geteuid() == 0:
    os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
sys.exit(ctl.main(sys.argv[1:]))
"""
STATIC = "/sbin/ldconfig"  # the one static program of every Debian
SETUID = ("/bin/mount", "/bin/su", "/usr/bin/passwd")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose files any user can reach."""
    with tempfile.TemporaryDirectory(prefix="pr-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def script(path: Path, text: str) -> str:
    """Write something that can be executed."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def setuid_of_root(path: str) -> bool:
    """Whether a program of the distribution becomes root."""
    program = Path(path)
    return program.exists() and program.stat().st_uid == 0 and bool(program.stat().st_mode & stat.S_ISUID)


@pytest.mark.parametrize("status", [0, 7, 99, 255])
def test_the_exit_status_is_handed_on(status: int) -> None:
    """A program's exit status is the command's; one that failed before it came to Xen is told so, and nothing else."""
    done = run("--", "sh", "-c", f"exit {status}")

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (status, "", 1 if status else 0)
    assert ("no Xen device was opened" in done.stderr) == bool(status)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGINT])
def test_the_signal_that_ended_it_is_handed_on(number: int) -> None:
    """A program that a signal ended: the command ends by the same one."""
    assert run("--", "sh", "-c", f"kill -{number} $$").returncode == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_program(number: int) -> None:
    """A signal sent to the command is the program's to handle."""
    program = ["sh", "-c", f"trap 'exit 5' {number}; echo ready; read line"]
    with subprocess.Popen(command("--", *program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(number)
        assert running.wait(GUARD_S) == 5


def test_it_ends_before_the_program_starts(directory: Path) -> None:
    """A signal that comes while all is being set up ends what has been started, and then the command."""
    os.mkfifo(directory / "pid")
    script(directory / "xenstored", f"#!/bin/sh\necho $$ > {directory}/pid\nread forever < {directory}/pid\n")
    env = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
    words = command("--xenstore", "--", "echo", "started")
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) as running:
        store = int((directory / "pid").read_text())
        pids = [*children(running.pid).values(), store]
        running.terminate()
        assert running.communicate(timeout=GUARD_S)[0] == ""

    assert running.returncode == -signal.SIGTERM
    assert len(pids) == 3
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


LEAK = python("at = mmap_pages(4); assert batch(1, at, [1, 2, 3, 4]) == (0, [0] * 4); print(hex(at))")


@pytest.mark.parametrize(("leaks", "status"), [("error", 99), ("report", 0)])
def test_what_is_left_mapped_is_said(leaks: str, status: int) -> None:
    """Mappings that a program leaves behind: a line names the pages, the domain and the request; a status, if asked."""
    done = run("--domain", "hvm:1M", f"--leaks={leaks}", "--", *LEAK)

    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert f"4 pages of domain 1 at {done.stdout.strip()}, made by privcmd.mmapbatch_v2 (request " in line


def test_nothing_is_said_of_what_was_unmapped() -> None:
    """A program that unmaps what it mapped leaves nothing behind."""
    tidy = python("at = mmap_pages(4); batch(1, at, [1, 2, 3, 4]); libc.munmap(at, 4 * PAGE)")

    done = run("--domain", "hvm:1M", "--leaks=error", "--", *tidy)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_static_program_is_refused(directory: Path) -> None:
    """Nothing can be preloaded into it: a sentence says so and what to do, and it is not started."""
    if not Path(STATIC).exists():
        pytest.skip(f"NOT TESTED: {STATIC} is missing (apt-get install libc-bin)")
    by_script = script(directory / "by-script", f"#!{STATIC} -p\n")

    for program in (STATIC, by_script):
        done = run("--", program, "-p")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"privcmdctl: ENOEXEC: {program} is statically linked: ")
        assert "libxenforeignmemory" in done.stderr


def test_a_setuid_program_is_refused(directory: Path) -> None:
    """The dynamic linker ignores LD_PRELOAD for it, unless the caller is root anyway."""
    if os.geteuid() == 0:
        program = str(shutil.copy("/bin/true", directory / "setuid"))
        Path(program).chmod(0o4755)
        assert run("--", program).returncode == 0
    else:  # a user's own setuid program changes nobody
        program = next((path for path in SETUID if setuid_of_root(path)), "")
        if not program:
            pytest.skip(f"NOT TESTED: a setuid program; missing: {' or '.join(SETUID)} (apt-get install mount)")

    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, "run", "--", program],
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"privcmdctl: EPERM: {program} is setuid or setgid: ")


def test_a_program_that_is_not_there() -> None:
    """No such program, no program at all, and something that cannot be executed are refused, each with its reason."""
    missing = run("--", "no-such-program")
    assert (missing.returncode, missing.stderr) == (
        1,
        "privcmdctl: ENOENT: no-such-program: no such program on PATH\n",
    )
    barred = run("--", "/etc/passwd")
    assert (barred.returncode, barred.stderr) == (1, "privcmdctl: EACCES: /etc/passwd: not executable\n")
    nothing = run()
    assert nothing.returncode == 2
    assert "nothing to run" in nothing.stderr


def test_a_script_runs(directory: Path) -> None:
    """A script runs under its interpreter, which the preload library reaches; arguments come through as they are."""
    path = script(directory / "script", '#!/bin/sh\ncat /sys/hypervisor/type\nprintf "%s|" "$@"\n')

    done = run("--", path, "a b", "--", "-x")

    assert (done.returncode, done.stdout, done.stderr) == (0, "xen\na b|--|-x|", "")


def test_a_broker_can_be_joined(broker: PrivateBroker, client: Client) -> None:
    """With --socket the program finds the domains that are there, and those that are made for it go with it."""
    dom = client.domains.create("hvm", 16, name="here")
    look = [*CTL, "domain", "list", "--json"]

    done = run("--socket", broker.path, "--domain", "pv:1M:new", "--", *look)

    assert (done.returncode, done.stderr) == (0, "")
    assert [row["name"] for row in json.loads(done.stdout)["domains"]] == ["here", "new"]
    assert [domain.dom for domain in client.domains.list()] == [dom]


def test_processes_of_a_run_belong_to_its_job(broker: PrivateBroker, client: Client) -> None:
    """The run, a tool that it starts and a program under the shim join one job, which ends with them."""
    look = f"exec 3< /dev/xen/privcmd; {shlex.join(CTL)} jobs --json"

    done = run("--socket", broker.path, "--job", "ci 1", "--domain", "pv:1M", "--", "sh", "-c", look)

    assert (done.returncode, done.stderr) == (0, "")
    (job,) = json.loads(done.stdout)["jobs"]
    assert (job["job"], job["uid"], job["doms"]) == ("ci 1", os.getuid(), [1])
    assert job["connections"] >= 3
    assert client.jobs() == []


def test_nothing_of_a_killed_run_stays(broker: PrivateBroker, client: Client) -> None:
    """The domain that was made for it is gone when who waited for it looks, though its program goes on."""
    opens = ("sh", "-c", "exec 3< /dev/xen/privcmd; exec cat")
    words = command("--socket", broker.path, "--no-xenstore", "--domain", "pv:1M", "--", *opens)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as doomed:
        assert doomed.stdin is not None
        assert doomed.stdout is not None
        doomed.stdin.write(b"ready\n")
        doomed.stdin.flush()
        assert doomed.stdout.readline() == b"ready\n"
        assert [domain.dom for domain in client.domains.list()] == [1]
        doomed.kill()
        doomed.wait(GUARD_S)
        assert client.domains.list() == []
        assert client.jobs() == []


def test_a_broker_that_is_not_there() -> None:
    """Nobody at --socket: status 3, a sentence, and the program is not started."""
    done = run("--socket", "/nowhere/socket", "--", "echo", "started")

    assert (done.returncode, done.stdout) == (3, "")
    assert "/nowhere/socket" in done.stderr


def test_a_configuration_can_be_given(directory: Path) -> None:
    """--config is the configuration of the broker that is started; one that is wrong or missing is said to be."""
    config = directory / "privcmdd.toml"
    config.write_text("[machine]\nmemory_mib = 64\n")
    done = run("--config", str(config), "--", *CTL, "stats", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["machine"]["frames"] == 64 * 256

    config.write_text("[machine]\nmemory = 64\n")
    wrong = run("--config", str(config), "--", "true")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert f"{config}: unknown key machine.memory" in wrong.stderr

    missing = run("--config", str(directory / "none"), "--", "true")
    assert (missing.returncode, missing.stderr) == (
        2,
        f"privcmdctl: cannot read {directory / 'none'}: No such file or directory\n",
    )


def test_a_domain_that_cannot_be_made() -> None:
    """More memory than the machine has: the broker's sentence, and the program is not started."""
    done = run("--domain", "hvm:1024G", "--", "echo", "started")

    assert (done.returncode, done.stdout) == (1, "")
    assert "ENOMEM" in done.stderr or "EINVAL" in done.stderr or "E2BIG" in done.stderr


def test_a_run_does_not_wait_for_ever_for_a_broker_that_is_stopped() -> None:
    """Law 5.2: the program's exit status is handed on in time, and a line says what is not known."""
    with PrivateBroker() as stopped:
        words = ["--socket", stopped.path, "--broker-timeout", "2", "--no-xenstore"]
        try:
            ended = run(*words, "--", "sh", "-c", f"kill -STOP {stopped.pid}; exit 7")
        finally:
            os.kill(stopped.pid, signal.SIGCONT)

    assert ended.returncode == 7
    assert "what the program left mapped is not known: ETIMEDOUT: no answer within 2.0 s" in ended.stderr

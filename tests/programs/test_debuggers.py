# SPDX-License-Identifier: Apache-2.0
"""Checkers, debuggers and tracers on programs under ``privcmdctl run``: a correct program is found to be correct."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from programs.programs import GUARD_S, command, needs, run

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
LIBRARIES = ("-lxenctrl", "-lxenevtchn", "-lxenforeignmemory")
SAID = "frame 2: -22\n16352 pages\na machine\ncapabilities\na last frame\nno store\nan event\n"
"""What ``correct.c`` says on its standard output."""
HEADER = Path("/usr/include/xenctrl.h")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Build a C program of this folder, once with the same arguments; where that cannot be, its test is skipped."""
    programs: dict[tuple[str, ...], str] = {}

    def one(source: str, *arguments: str, compiler: str = "cc") -> str:
        key = (compiler, source, *arguments)
        if key not in programs:
            needs(compiler)
            if set(LIBRARIES) & {*arguments} and not HEADER.exists():
                pytest.skip(f"NOT TESTED: {source}; Xen's headers are missing (apt-get install libxen-dev)")
            program = tmp_path_factory.mktemp("bin") / Path(source).stem
            words = [compiler, "-std=gnu11", "-g", "-O1", "-o", str(program), str(HERE / source), *arguments]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if compiler == "clang" and "libclang_rt" in done.stderr:
                pytest.skip("NOT TESTED: clang's sanitizers; they are missing (apt-get install libclang-rt-dev)")
            assert done.returncode == 0, done.stderr
            programs[key] = str(program)
        return programs[key]

    return one


def test_valgrind_finds_nothing_in_a_correct_program(compiled: Callable[..., str]) -> None:
    """Errors of frames, results of hypercalls, ports of events: what is read has been set, and memcheck knows it."""
    valgrind = [needs("valgrind"), "-q", "--error-exitcode=9", "--leak-check=full"]

    done = run("--domain", "hvm:64M", "--leaks=error", "--", *valgrind, compiled("correct.c", *LIBRARIES))

    assert (done.returncode, done.stdout, done.stderr) == (0, SAID, "")


# What gcc's and clang's runtimes say of each mistake, and the option that finds it.
MISTAKES = [
    ("address", "leak", "LeakSanitizer"),
    ("address", "overflow", "heap-buffer-overflow"),
    ("leak", "leak", "LeakSanitizer"),
    ("undefined", "undefined", "signed integer overflow"),
    ("thread", "race", "data race"),
]


@pytest.mark.parametrize("compiler", ["cc", "clang"])
@pytest.mark.parametrize(("sanitizer", "mistake", "said"), MISTAKES)
def test_a_sanitizer_finds_what_it_is_there_for(
    sanitizer: str, mistake: str, said: str, compiler: str, compiled: Callable[..., str]
) -> None:
    """Its runtime comes first where it is a library, the program is on a Xen host, and a mistake is found."""
    program = compiled("sanitized.c", f"-fsanitize={sanitizer}", "-lpthread", compiler=compiler)

    good = run("--no-xenstore", "--", program)
    bad = run("--no-xenstore", "--", program, mistake)

    assert (good.returncode, good.stdout, good.stderr) == (0, "xen\n", "")
    assert said in bad.stderr


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_a_correct_program_is_correct_for_a_sanitizer(sanitizer: str, compiled: Callable[..., str]) -> None:
    """Xen's own libraries over the shim, in a program that is sanitized."""
    done = run("--domain", "hvm:64M", "--", compiled("correct.c", f"-fsanitize={sanitizer}", *LIBRARIES))

    assert (done.returncode, done.stdout, done.stderr) == (0, SAID, "")


def test_only_the_program_is_sanitized(compiled: Callable[..., str]) -> None:
    """What it starts gets the shim and not the runtime; a sanitized program below a shell starts all the same."""
    program = compiled("sanitized.c", "-fsanitize=address", "-lpthread")

    parent = run("--no-xenstore", "--", program, "child")
    below = run("--no-xenstore", "--", "sh", "-c", f"{program}; {program} overflow")

    assert (parent.returncode, parent.stderr) == (0, "")
    host, childs_host, preloaded = parent.stdout.splitlines()
    assert (host, childs_host, Path(preloaded).name) == ("xen", "xen", "libprivcmdd-preload.so")
    assert below.stdout.splitlines()[0] == "xen"
    assert "heap-buffer-overflow" in below.stderr


@pytest.mark.parametrize(
    ("tool", "arguments"), [("gdb", ("-q", "-batch", "-ex", "bt", "-p")), ("strace", ("-qq", "-o", "/dev/null", "-p"))]
)
def test_a_debugger_may_come_and_go(tool: str, arguments: tuple[str, ...], compiled: Callable[..., str]) -> None:
    """To attach and detach does not end a read that waits for an event."""
    path = needs(tool)
    program = command("--no-xenstore", "--", compiled("correct.c", *LIBRARIES), "wait")
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = running.stdout.readline().strip()
        until_traced = ["timeout", "-s", "INT", "2"] if tool == "strace" else []
        done = subprocess.run(
            [*until_traced, path, *arguments, pid], capture_output=True, text=True, timeout=GUARD_S, check=False
        )
        said = running.communicate("x", timeout=GUARD_S)[0]

    if "ot permitted" in done.stderr:
        pytest.skip(f"NOT TESTED: {tool} -p; missing: the right to trace")
    assert (running.returncode, said) == (0, "an event\n"), done.stderr


def ended(pid: int) -> bool:
    """Whether a process has ended; its new parent may not have waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_is_left_running_is_named_and_ended() -> None:
    """It has the time of --linger; then it is ended, and counts as left behind."""
    left = ["sh", "-c", "sleep 1000 & until grep -q sleep /proc/$!/comm; do :; done; echo $!"]

    told = run("--no-xenstore", "--linger=0.5", "--", *left)
    failed = run("--no-xenstore", "--linger=0", "--leaks=error", "--json", "--", *left)
    ends = run("--no-xenstore", "--leaks=error", "--", "sh", "-c", "sleep 0.3 >/dev/null 2>&1 &")

    pid = int(told.stdout)
    assert (told.returncode, told.stderr) == (
        0,
        (
            f"privcmdctl: still running: process {pid} (sleep 1000); it has 0.5 s to end (--linger)\n"
            f"privcmdctl: did not end, and was ended: process {pid} (sleep 1000)\n"
        ),
    )
    assert ended(pid)
    assert failed.returncode == 99
    assert json.loads(failed.stderr)["running"] == [{"pid": int(failed.stdout), "command": "sleep 1000"}]
    assert ends.returncode == 0
    assert "was ended" not in ends.stderr


def test_the_death_of_qemu_is_reported(tmp_path: Path) -> None:
    """How it ended, before the program did; its first serial port is COM1 and the only one."""
    if not any(Path("/").glob("usr/li*/**/*qemu-system-i386")):
        pytest.skip("NOT TESTED: QEMU's Xen device model; it is missing (apt-get install qemu-system-xen)")
    needs("xenstored")
    of_run = "for pid in $(cat /proc/$PPID/task/$PPID/children); do"
    gone = "until grep -q 'State:.Z' /proc/$pid/status; do :; done"
    seen = "grep -q qemu /proc/$pid/comm && tr '\\0' ' ' < /proc/$pid/cmdline"
    script = f"{of_run} {seen} && kill -9 $pid && {gone}; done; true"
    arguments = f"-serial file:{tmp_path}/com1"

    done = run("--domain", "hvm:64M", f"--qemu={arguments}", "--", "sh", "-c", script)

    assert done.returncode == 0
    assert done.stdout.count("-serial") == 1
    assert (tmp_path / "com1").exists()
    assert "privcmdctl: QEMU of domain 1 was ended by SIGKILL before the program ended\n" in done.stderr

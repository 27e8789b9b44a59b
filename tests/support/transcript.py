# SPDX-License-Identifier: Apache-2.0
"""Read the documentation's examples, and play them in one shell per page.

A block marked ``<!-- run -->`` is played. A program is saved under the name in its first line (``# name.py``); Python
without one is run at once, and must print what a block marked ``<!-- prints -->`` behind it says. In a console block
each ``$ command`` is run and must print what follows it. Blocks marked ``<!-- run with Xen's libraries -->`` are played
apart, where those libraries and ours are; ``<!-- run with QEMU -->``, where that is; ``<!-- run with cmake -->`` (and
other tools), where the tool is as well, together with the blocks that Xen's libraries are enough for.
Blocks that cannot be played have the mark ``<!-- not run: REASON -->``; those that take a bare machine, the mark
``<!-- run in a bare root -->`` (``tests/fresh``).
A page with a block marked ``<!-- run in another terminal -->`` starts its broker there, and is given none; what is
printed there is not compared, since a log looks otherwise on a terminal.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MARK = "<!-- run -->"
TOOLS = {
    "cargo": "cargo",
    "cmake": "cmake",
    "gdb": "gdb",
    "meson": "meson",
    "perf": "linux-perf",
    "pytest": "python3-pytest",
    "strace": "strace",
    "systemd-socket-activate": "systemd",
    "valgrind": "valgrind",
    "xen-4.17": "libxen-dev, of Debian 12",
    "xl": "xen-utils-common",
}
"""Tools that pages have examples for, each with Debian's package; a release of Xen's libraries stands for itself."""
TOOL_MARK = "<!-- run with {} -->"
XEN_MARK = "<!-- run with Xen's libraries -->"
QEMU_MARK = "<!-- run with QEMU -->"
ELSEWHERE_MARK = "<!-- run in another terminal -->"
BLOCK = r"^({})\n+```(\w+)\n(.*?)^```$(?:\n+<!-- prints -->\n+```text\n(.*?)^```$)?"
NAMED = re.compile(r"(?:#|/\*|//) ([\w./-]*\w\.\w+)\b")
# What no two runs agree on: addresses, processes, runs of the broker, times; and how many steps of a recorded host
# agree, of which one depends on how busy the machine is (tests/oracle holds each of them).
VARYING = (
    (r"0x[67][0-9a-f]{11}", "ADDRESS"),
    (r"\b[0-9a-f]{16}\b", "INSTANCE"),
    (r"\b\d+ us\b", "TIME"),
    (r"\bat /\S+", "at PATH"),
    (r"\buid \d+", "uid UID"),
    (r"\bprocess \d+", "process PID"),
    (r"\brun-\d+", "run-PID"),
    (r"^\d+ of (\d+ steps agree)", r"N of \1"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b", "WHEN"),
)
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a shell, and the lines it prints; ``elsewhere``, one that goes on in a terminal of its own."""

    command: str
    expected: list[str]
    elsewhere: bool = False


def files_and_steps(page: str, *marks: str) -> tuple[dict[str, str], list[Step]]:
    """What is to be played on a page, in order, and the files that it needs: the blocks that have one of the marks."""
    files: dict[str, str] = {}
    steps: list[Step] = []
    for mark, language, body, prints in re.findall(
        BLOCK.format("|".join((*marks, ELSEWHERE_MARK))), page, re.MULTILINE | re.DOTALL
    ):
        if language != "console":
            named = NAMED.match(body)
            name = named[1] if named else f"example{len(files)}.py"
            files[name] = body
            if not named:
                steps.append(Step(f"python3 {name}", prints.splitlines()))
        else:
            for line in body.splitlines():
                if line.startswith("$ "):
                    steps.append(Step(line.removeprefix("$ "), [], mark == ELSEWHERE_MARK))
                else:
                    steps[-1].expected.append(line)
    return files, steps


def alike(line: str) -> str:
    """A line with all that varies made the same."""
    for pattern, word in VARYING:
        line = re.sub(pattern, word, line)
    return line.rstrip()


class Shell:
    """One bash for the commands of a page; what runs in its background is killed at the end."""

    def __init__(self, directory: Path, socket: str | None) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PRIVCMDD_")}
        environ |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        # A page that starts a broker finds it where a user's is: nothing is set but what a login sets.
        environ |= {"XDG_RUNTIME_DIR": str(directory)} if socket is None else {"PRIVCMDD_SOCKET": socket}
        self._directory, self._environ = directory, environ
        self._elsewhere: list[subprocess.Popen[bytes]] = []
        # A pipe of its own says when a command is done: jobs in the background print when they like.
        self._done, done = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["bash"],
                cwd=directory,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[done],
            )
        finally:
            os.close(done)
        self._done_name = done
        self._output = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        os.close(self._done)
        for process in self._elsewhere:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate()

    def start(self, step: Step) -> None:
        """Run a command in a terminal of its own, and wait for the first line that it prints there."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {step.command}"],
            cwd=self._directory,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._elsewhere.append(process)
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], TIMEOUT_S)[0], f"{step.command} says nothing"

    def play(self, step: Step) -> list[str]:
        """Run a command; the lines it prints, and at least as many as are expected when they come in time."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{step.command}\necho >&{self._done_name}\n".encode())
        stdin.flush()
        self._output = b""
        deadline = time.monotonic() + TIMEOUT_S
        waiting = [stdout.fileno(), self._done]
        while len(waiting) == 2 or len(self._lines()) < len(step.expected):
            ready, _, _ = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))
            if self._done in ready:
                waiting.remove(self._done)
                os.read(self._done, 1)
            elif not ready or not self._read(stdout.fileno()):
                break
        while select.select([stdout], [], [], 0)[0] and self._read(stdout.fileno()):
            pass
        return self._lines()

    def _read(self, fd: int) -> bool:
        data = os.read(fd, 65536)
        self._output += data
        return bool(data)

    def _lines(self) -> list[str]:
        """Whole lines so far, without what bash says of jobs that were killed."""
        whole = self._output.decode().split("\n")[:-1]
        return [line for line in whole if not line.startswith("bash: line ")]

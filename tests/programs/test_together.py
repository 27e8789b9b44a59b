# SPDX-License-Identifier: Apache-2.0
"""Two programs on one host: what ends one is nothing to the other."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from programs.programs import GUARD_S, children, command, needs, python, sections

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from privcmd import Client
    from privcmd.broker import PrivateBroker

N_PAGES = 4096
PAGE = 4096


def held(client: Client, doms: list[int]) -> Any:
    """What is held of whose memory, and by whom."""
    stats = client.stats()
    rows = [replace(client.domains.info(dom), lease=None) for dom in doms]  # a lease has an age
    return stats["mappings"], stats["machine"], stats["uids"], rows


def until(holds: Callable[[], bool]) -> None:
    """Wait until the broker has noticed: each question is answered by it."""
    deadline = time.monotonic() + GUARD_S
    while not holds():
        assert time.monotonic() < deadline


def test_one_is_killed_and_the_other_goes_on(broker: PrivateBroker, client: Client, tmp_path: Path) -> None:
    """Of two xl dump-core at once, one is killed: the other's dump is whole, the broker's counters are as before."""
    xl = needs("xl")
    needs("xenstored")
    doms = [client.domains.create("hvm", N_PAGES) for _ in range(2)]
    before = held(client, doms)
    pipes = [tmp_path / f"core{dom}" for dom in doms]
    programs = []
    for dom, pipe in zip(doms, pipes, strict=True):
        os.mkfifo(pipe)
        words = command("--socket", broker.path, "--", xl, "dump-core", str(dom), str(pipe))
        programs.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))
    doomed, other = programs
    # Each writes to a pipe that nobody empties further: both are in the middle.
    with pipes[0].open("rb") as lost, pipes[1].open("rb") as core:
        start = core.read(64 * PAGE)
        assert len(lost.read(64 * PAGE)) == len(start) == 64 * PAGE
        assert client.stats()["mappings"]["entries"] > 0
        os.kill(children(doomed.pid)["xl"], signal.SIGKILL)
        assert doomed.wait(GUARD_S) == -signal.SIGKILL
        assert client.domains.list()[1].state != "dying"
        whole = start + core.read()
    assert other.wait(GUARD_S) == 0

    assert len(sections(whole)[".xen_pages"]) == N_PAGES * PAGE
    until(lambda: held(client, doms) == before)


def test_the_killed_ones_frames_are_given_back(broker: PrivateBroker, client: Client) -> None:
    """What a killed program had mapped is nobody's; the other still has its own, of the same frames."""
    dom = client.domains.create("hvm", 16)
    before = held(client, [dom])
    program = python("""
        at = mmap_pages(16)
        print(batch(int(sys.argv[1]), at, range(16)), flush=True)
        sys.stdin.readline()
        print(ctypes.string_at(at, 5), flush=True)
        libc.munmap(at, 16 * PAGE)
    """, dom)  # fmt: skip
    words = command("--socket", broker.path, "--no-xenstore", "--leaks=error", "--", *program)
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as doomed,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
    ):
        assert doomed.stdout is not None
        assert other.stdout is not None
        assert doomed.stdout.readline() == other.stdout.readline() == f"(0, {[0] * 16})\n"
        assert client.stats()["mappings"]["frames"] == 32
        (pid,) = children(doomed.pid).values()
        os.kill(pid, signal.SIGKILL)
        until(lambda: client.stats()["mappings"]["frames"] == 16)
        assert other.communicate("go on\n", timeout=GUARD_S)[0] == f"{bytes(5)!r}\n"
        assert (doomed.wait(GUARD_S), other.returncode) == (99, 0)

    until(lambda: held(client, [dom]) == before)

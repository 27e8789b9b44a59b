# SPDX-License-Identifier: Apache-2.0
"""What a program sees when the host ends before it, or it asks for more than its kernel can map."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from programs.programs import GUARD_S, command, python, run

if TYPE_CHECKING:
    from privcmd import Client
    from privcmd.broker import PrivateBroker


def test_a_broker_that_dies(broker: PrivateBroker, client: Client) -> None:
    """The program's next call fails with ENXIO, its mappings stay readable, nothing hangs; its status is handed on."""
    dom = client.domains.create("hvm", 16)
    addr = client.mmap(0, 4096, 3)
    client.privcmd_mmapbatch_v2(dom, addr, [7])
    client.write(addr, b"still here")
    program = python("""
        dom = int(sys.argv[1])
        at, other = mmap_pages(1), mmap_pages(1)
        assert batch(dom, at, [7]) == (0, [0])
        print("ready", flush=True)
        sys.stdin.readline()
        print(batch(dom, other, [7])[0], ctypes.string_at(at, 10).decode())
        assert libc.munmap(at, PAGE) == 0
        sys.exit(23)
    """, dom)  # fmt: skip
    with subprocess.Popen(
        command("--socket", broker.path, "--", *program),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        os.kill(broker.pid, signal.SIGKILL)
        said, complaint = running.communicate("go on\n", timeout=GUARD_S)

    assert said == f"{errno.ENXIO} still here\n"
    assert "the broker has gone away" in complaint
    assert running.returncode == 23


def test_more_runs_than_a_process_may_map() -> None:
    """Scattered frames beyond vm.max_map_count: ENOMEM, and the limit and both numbers are said."""
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    n_pages = limit + 4096
    program = python("""
        n = int(sys.argv[1])
        at = mmap_pages(n)
        print(batch(1, at, range(n - 1, -1, -1))[0])
        assert libc.munmap(at, n * PAGE) == 0
    """, n_pages)  # fmt: skip

    done = run("--domain", f"pvh:{4 * n_pages}K", "--leaks=error", "--no-xenstore", "--", *program)

    assert (done.returncode, done.stdout) == (0, f"{errno.ENOMEM}\n")
    assert f"mapping {n_pages} runs" in done.stderr
    assert f"vm.max_map_count = {limit}" in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""What a run starts, and when: a program pays for what it uses."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from programs.programs import GUARD_S, needs, python, run

if TYPE_CHECKING:
    from pathlib import Path

LOOK = 'ls "$(dirname "$PRIVCMDD_SOCKET")"'
# What a program that maps nothing does not wait for: each takes longer to import than the program to run.
SLOW = {"dataclasses", "inspect", "json", "msgpack", "numpy", "pathlib", "subprocess", "tomllib", "trio", "typing"}


def test_a_program_that_opens_no_device_has_no_broker() -> None:
    """Law: the socket is there and nothing else is; with a domain too, and a failure of the program is handed on."""
    done = run("--no-xenstore", "--domain", "hvm:64M", "--", "sh", "-c", f"{LOOK}; exit 3")

    assert (done.returncode, done.stdout) == (3, "s\n")
    assert done.stderr.startswith("privcmdctl: no Xen device was opened: ")


def test_a_program_that_opens_a_device_finds_its_domains() -> None:
    """Law: the broker is started then, and has the domains, by their numbers, before it answers the program."""
    program = python("""
        at = mmap_pages(2)
        print(batch(2, at, [0, 1]), batch(3, at, [0, 1])[0] != 0)
        libc.munmap(at, 2 * PAGE)
        print(*sorted(os.listdir(os.path.dirname(os.environ["PRIVCMDD_SOCKET"]))))
    """)  # fmt: skip

    done = run("--no-xenstore", "--domain", "hvm:1M", "--domain", "hvm:1M", "--", *program)

    assert (done.returncode, done.stdout, done.stderr) == (0, "(0, [0, 0]) True\noutput s\n", "")


def test_a_domain_that_may_be_refused_is_made_first() -> None:
    """Law: what the broker may refuse, it is asked for before the program runs: too much memory, too long a name."""
    for domain in ("hvm:20G", "hvm:1M,hole=0+0x7fffffffff", f"hvm:1M:{'n' * 65}"):
        done = run("--domain", domain, "--", "echo", "started")

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("privcmdctl: E")


def test_the_store_is_started_by_its_first_client() -> None:
    """Law: the directory has its socket only; a client that comes then is answered, and finds the domains' names."""
    needs("xenstored")
    read = needs("xenstore-read")
    script = f'ls "$XENSTORED_RUNDIR"; {read} /local/domain/1/name /local/domain/0/name; ls "$XENSTORED_RUNDIR"'

    done = run("--domain", "hvm:1M:web", "--", "sh", "-c", script)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["socket", "web", "Domain-0", "socket", "xenstored"]


def test_a_store_that_does_not_come_up_is_said_and_refused(tmp_path: Path) -> None:
    """Law: its client is let go, the run says why, and the program's end is the program's."""
    needs("xenstored")
    read = needs("xenstore-read")
    (tmp_path / "xenstored").write_text("#!/bin/sh\necho I will not\nexit 1\n")
    (tmp_path / "xenstored").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    done = run("--", "sh", "-c", f"{read} /tool 2>/dev/null; echo $?", env=env)

    assert (done.returncode, done.stdout) == (0, "1\n")
    expected = f"privcmdctl: programs have found no xenstore: EIO: {tmp_path}/xenstored did not come up: I will not\n"
    assert done.stderr == expected


@pytest.mark.parametrize("arguments", [["run", "--"], ["--timeout", "5", "run", "--"], ["run", "--leaks=error", "--"]])
def test_what_a_run_does_not_need_is_not_imported(arguments: list[str]) -> None:
    """Law: a program that opens no device does not wait for what only others need; the figure is in bench/."""
    code = "import sys; from privcmdd.cli import ctl; ctl.main(sys.argv[1:]); print(*sys.modules)"
    words = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}", *arguments, "true"]

    # A variable that is nobody's is compared with all there are, which takes more: `make test` sets one.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PRIVCMDD_")}

    done = subprocess.run(words, capture_output=True, text=True, timeout=GUARD_S, env=env, check=True)

    assert not SLOW & set(done.stdout.split())

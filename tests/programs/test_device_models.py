# SPDX-License-Identifier: Apache-2.0
"""Device models of one's own beside a program: ``run --device-model``, ``--wait-ioreq`` and ``--ready``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from privcmd.errors import PrivcmdError
from privcmd.run import _models as models
from programs.programs import python, run

if TYPE_CHECKING:
    from privcmd import Client
    from privcmd.broker import PrivateBroker

TESTS = Path(__file__).resolve().parents[1]
# A device model of all ports, by the library; it goes on until it is ended.
MODEL = f"""
import os, signal, sys
sys.path.insert(0, {str(TESTS)!r})
from support.device_model import PORT, DeviceModel

class Broker:
    path = os.environ["PRIVCMDD_SOCKET"]

model = DeviceModel(Broker, int(os.environ["PRIVCMDD_DOMID"]))
model.claim(PORT, 0x10, 0x10)
with model:
    print("model is up", flush=True)
    signal.pause()
"""
GUEST = """
import os
from privcmd.guest import Guest
with Guest(int(os.environ["PRIVCMDD_DOMID"])) as guest:
    guest.port_write(0x10, 77)
    print(guest.port_read(0x10))
"""
HOLDS = "at = mmap_pages(1); batch(1, at, [1]); print('mapped', flush=True)"


def words(source: str) -> str:
    """The command line of a Python program, for ``--device-model``."""
    return shlex.join([sys.executable, "-c", source])


def mapper(more: str) -> str:
    """The command line of a program under the shim that holds a page, for ``--device-model``."""
    return shlex.join(python(f"import signal\n{HOLDS}\n{more}"))


def of(*options: str, **more: Any) -> Any:
    """A run with a small domain."""
    return run("--no-xenstore", "--domain", "hvm:1M", *options, **more)


def test_the_program_finds_a_device_model_that_is_ready() -> None:
    """Law: with --wait-ioreq the guest's first request is answered; the model's output goes to standard error."""
    done = of("--device-model", words(MODEL), "--wait-ioreq", "1", "--", sys.executable, "-c", GUEST)

    assert (done.returncode, done.stdout, done.stderr) == (0, "77\n", "model is up\n")


def test_servers_of_others_count_on_a_broker_that_is_joined(broker: PrivateBroker, client: Client) -> None:
    """Law: without domains of its own a run waits for the servers of all domains, whoever made them."""
    dom = client.domains.create("hvm", 256)
    inner = f"import os; os.environ['PRIVCMDD_DOMID'] = '{dom}'\n{MODEL}"
    model = ["--socket", broker.path, "--device-model", words(inner), "--wait-ioreq", "1"]

    done = run("--no-xenstore", *model, "--", "echo", "ready")

    assert (done.returncode, done.stdout) == (0, "ready\n")


def test_a_command_says_when_all_is_ready(tmp_path: Path) -> None:
    """Law: with --ready the program runs when the command succeeds, which sees the environment of the run."""
    there = tmp_path / "there"
    model = words(f"import pathlib, signal; pathlib.Path({str(there)!r}).touch(); signal.pause()")

    done = of("--device-model", model, "--ready", f'test -e {there} -a -n "$PRIVCMDD_DOMID"', "--", "cat", str(there))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("wait", [("--wait-ioreq", "1"), ("--ready", "false")])
def test_one_that_ends_too_early_is_said(wait: tuple[str, str]) -> None:
    """Law: a device model that ends before it was ready ends the run, and the program is not started."""
    done = of("--device-model", "sh -c 'exit 3'", *wait, "--", "echo", "started")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("privcmdctl: EIO: sh ended with status 3 before it was ready\n")


def test_one_that_ends_before_the_program_is_said(tmp_path: Path) -> None:
    """Law: how it ended is said, and the program's end is the run's."""
    gone = tmp_path / "gone"
    model = words(f"import os, pathlib; pathlib.Path({str(gone)!r}).touch(); os._exit(3)")

    done = of("--device-model", model, "--ready", f"test -e {gone}", "--", "sh", "-c", "sleep 0.2; exit 5")

    assert done.returncode == 5
    assert f"privcmdctl: {sys.executable} ended with status 3 before the program ended\n" in done.stderr


@pytest.mark.parametrize(
    ("at_end", "said"),
    [
        ("signal.pause()", False),
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.pause()", True),
        ("signal.signal(signal.SIGTERM, lambda *_: (libc.munmap(at, PAGE), sys.exit())); signal.pause()", False),
    ],
    ids=["cut off", "ends with it mapped", "unmaps"],
)
def test_what_it_leaves_mapped_is_a_leak_if_it_ends_by_itself(at_end: str, said: bool, tmp_path: Path) -> None:
    """Law: a device model that handles SIGTERM is to unmap what it has; one that is cut off could not."""
    up = tmp_path / "up"
    model = mapper(f"{at_end.replace('signal.pause()', '')}\nopen({str(up)!r}, 'w').close(); signal.pause()")

    done = of("--device-model", model, "--ready", f"test -e {up}", "--leaks=error", "--", "true")

    assert done.returncode == (99 if said else 0)
    assert ("still mapped: process" in done.stderr) == said


def test_one_that_cannot_be_started_is_refused() -> None:
    """Law: it must be there, and reachable for the shim, as the program must; the program is not started."""
    done = of("--device-model", "no-such-model", "--", "echo", "started")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "privcmdctl: ENOENT: no-such-model: no such program on PATH\n"


def test_none_is_left_behind(tmp_path: Path) -> None:
    """Law: a device model that does not heed SIGTERM, and its children, are ended all the same."""
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 1000 & echo $$ $! > {pids}; wait; wait"

    done = of("--device-model", shlex.join(["sh", "-c", script]), "--ready", f"test -s {pids}", "--", "true")

    assert done.returncode == 0
    states = [Path(f"/proc/{pid}/stat") for pid in pids.read_text().split()]
    assert not [stat for stat in states if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"]


def test_what_is_not_ready_in_time_is_said(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: the error says how many servers there are, or what the command said last."""
    monkeypatch.setattr(models, "READY_TIMEOUT_S", 0.0)
    dom = client.domains.create("hvm", 16)
    waiting = models.Models([], {})

    with pytest.raises(PrivcmdError, match="2 ioreq servers were waited for, and 0 are enabled") as few:
        waiting.wait_for_servers(client, [dom], 2)
    with pytest.raises(PrivcmdError, match="ended with status 3: not yet") as late:
        waiting.wait_for_command("echo not yet; exit 3", {"PATH": "/usr/bin:/bin"})

    assert few.value.name == late.value.name == "ETIMEDOUT"

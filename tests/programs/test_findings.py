# SPDX-License-Identifier: Apache-2.0
"""What ``privcmdctl run`` and ``privcmdctl findings`` say of programs that a real host would let do harm."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from privcmd import Client
from programs.programs import CTL, GUARD_S, python, run

if TYPE_CHECKING:
    from privcmd.broker import PrivateBroker

WRONG_FRAME = python("at = mmap_pages(1); assert batch(1, at, [1 << 40 | 3]) == (0, [0]); libc.munmap(at, PAGE)")
LEAKS_TOO = python("at = mmap_pages(1); assert batch(1, at, [1 << 40 | 3]) == (0, [0])")
TOUCHES = python("at = mmap_pages(1); batch(1, at, [999]); ctypes.string_at(at, 1)")


def findings(broker: PrivateBroker, *options: str) -> str:
    """What ``privcmdctl findings`` prints."""
    command = [*CTL, "--socket", broker.path, "findings", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("choice", "status", "n_lines"), [("report", 0, 2), ("error", 98, 2), ("ignore", 0, 0)])
def test_a_run_ends_with_what_was_found(choice: str, status: int, n_lines: int) -> None:
    """A paragraph each, with id, sentence, process, request and page; an exit status when asked for; or nothing."""
    done = run("--domain", "hvm:1M", f"--findings={choice}", "--", *WRONG_FRAME)

    assert done.returncode == status
    lines = done.stderr.splitlines()
    assert len(lines) == n_lines
    if lines:
        assert lines[0].startswith("privcmdctl: frame-bits-lost: frame 0x10000000003 of domain 1 was asked for")
        assert "privcmd.mmapbatch_v2 (request " in lines[1]
        assert lines[1].endswith("; see `privcmdctl explain frame-bits-lost`")


def summary(*arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status of a run, and what it said as JSON, on a line of its own."""
    done = run("--json", "--domain", "hvm:1M", *arguments)
    empty, line = done.stderr.splitlines()
    assert empty == ""
    return done.returncode, json.loads(line)


def test_a_run_can_be_read_by_programs() -> None:
    """--json: a line of its own with the status or the signal, leaks and findings; a leak is a finding as well."""
    status, said = summary("--leaks=error", "--findings=error", "--", *LEAKS_TOO)

    assert (status, said["status"], said["signal"]) == (99, 0, None)
    assert [(leak["n_pages"], leak["dom"]) for leak in said["leaks"]] == [(1, 1)]
    assert [finding["kind"] for finding in said["findings"]] == ["frame-bits-lost", "mapping-leaked"]
    assert summary("--findings=error", "--", *LEAKS_TOO)[0] == 98
    nothing: dict[str, Any] = {
        "leaks": [],
        "findings": [],
        "dropped": {"leaks": 0, "findings": 0},
        "faults": [],
        "unanswered": {},
        "running": [],
        "asked": False,
    }
    assert summary("--", "true") == (0, {"status": 0, "signal": None, **nothing, "asked": False})


MANY = python("for high in range(1, 301): at = mmap_pages(1); batch(1, at, [high << 40 | 3]); libc.munmap(at, PAGE)")
LEAKS_MANY = python("for _ in range(1100): batch(1, mmap_pages(1), [3])")


def test_findings_of_others_hide_none_of_a_run(broker: PrivateBroker, client: Client) -> None:
    """On a broker that is shared, whose room for findings others have filled, --findings=error says the truth."""
    client.domains.create("hvm", 256)
    assert run("--socket", broker.path, "--findings=error", "--job", "noisy", "--", *MANY).returncode == 98
    addr = client.mmap(0, 4096, 3)
    for high in range(1, 301):
        client.call("privcmd.mmapbatch_v2", dom=1, addr=addr, arr=(high << 40 | 3).to_bytes(8, "little"))

    assert run("--socket", broker.path, "--findings=error", "--", *WRONG_FRAME).returncode == 98
    assert run("--socket", broker.path, "--findings=error", "--", "true").returncode == 0


def test_what_is_not_kept_of_a_run_is_counted(broker: PrivateBroker, client: Client) -> None:
    """Findings beyond the broker's room, and mappings beyond those that it tells of: how many, in words and as JSON."""
    client.domains.create("hvm", 256)
    done = run("--json", "--socket", broker.path, "--", *MANY)
    said = json.loads(done.stderr.splitlines()[-1])
    assert (len(said["findings"]), said["dropped"]) == (256, {"leaks": 0, "findings": 44})
    done = run("--socket", broker.path, "--", *MANY)
    assert done.stderr.splitlines()[-1] == "privcmdctl: 44 findings more than are kept: only the first ones are listed"
    done = run("--socket", broker.path, "--leaks=error", "--", *LEAKS_MANY)
    assert done.returncode == 99
    assert "privcmdctl: still mapped: perhaps 100 more, which the broker has not told of" in done.stderr.splitlines()


@pytest.mark.parametrize(("option", "status"), [("--findings=error", 98), ("--leaks=error", 99), ("--json", 0)])
def test_a_broker_that_went_away_may_have_found_anything(broker: PrivateBroker, option: str, status: int) -> None:
    """Who asked for the truth is not told that there was nothing: it is not known."""
    done = run("--socket", broker.path, option, "--", "kill", "-9", str(broker.pid))

    assert done.returncode == status
    assert "what the program left mapped is not known" in done.stderr


def test_a_signal_is_found_and_handed_on() -> None:
    """The touch that ends a program is told of, and ends the command as well."""
    status, said = summary("--", *TOUCHES)

    assert (status, said["status"], said["signal"]) == (-signal.SIGBUS, None, signal.SIGBUS)
    assert [finding["kind"] for finding in said["findings"]] == ["failed-frame-touched"]


def test_a_brokers_findings_are_listed_and_cleared(broker: PrivateBroker, client: Client) -> None:
    """Those of another job are not this run's; ``privcmdctl findings`` shows all, as text or as a document."""
    assert findings(broker) == "no findings\n"
    client.domains.create("hvm", 16)

    with Client(broker.path, job="a") as a, Client(broker.path, job="b") as b:
        for member, job in ((a, "a"), (b, "b")):
            member.hello()
            said = run("--socket", broker.path, "--job", job, "--", *WRONG_FRAME).stderr
            assert said.count("frame-bits-lost: ") == 1

        assert findings(broker, "--job", "a").count("frame-bits-lost: ") == 1
        assert findings(broker).count("frame-bits-lost: ") == 2
        shown = json.loads(findings(broker, "--json", "--clear"))["findings"]
        assert [(row["kind"], row["count"], row["job"]) for row in shown] == [
            ("frame-bits-lost", 1, "a"),
            ("frame-bits-lost", 1, "b"),
        ]
        assert findings(broker) == "no findings\n"

# SPDX-License-Identifier: Apache-2.0
"""The command privcmdctl: what it prints, and what it answers to the shell."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

import privcmd
import privcmdd
from privcmd import Client, ForeignMemory, PrivateBroker
from privcmd.run import _explain as explain
from privcmdd.model.findings import FindingKind
from support.process import Process, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Ctl = Callable[..., "subprocess.CompletedProcess[str]"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "privcmdd.cli.ctl", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
    )


@pytest.fixture
def ctl(broker: PrivateBroker) -> Ctl:
    """The command on this test's broker; any status."""
    return lambda *arguments: run("--socket", broker.path, *arguments)


def document(ran: subprocess.CompletedProcess[str]) -> Any:
    """What `--json` printed."""
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


def test_ping(ctl: Ctl, client: Client) -> None:
    """Law: ping names the broker's instance; --json may stand before or after the command."""
    instance = client.ping()

    assert instance in ctl("ping").stdout
    assert document(ctl("ping", "--json"))["instance"] == document(ctl("--json", "ping"))["instance"] == instance


def test_health(ctl: Ctl) -> None:
    """Law: 0 and `ready` when it takes clients, 3 when nobody answers; live too."""
    assert ctl("health").stdout == "ready; clients: 1\n"
    assert document(ctl("health", "--live", "--json")) == {"live": True, "state": "ready", "connections": 1}
    assert run("--socket", "/nonexistent/socket", "health", "--live").returncode == 3


def test_health_sees_a_broker_that_drains() -> None:
    """Law: 4 and `draining` from the signal to the end, while no client can connect; live; and 3 when it has ended."""
    with Process("--set", "server.drain_timeout_s=3600") as process:
        process.ready()
        with process.client() as client:
            client.flood(msgpack.packb([0, 1, "ping", []]) * 1000, 64 << 20)  # more answers than it ever takes
            process.signal(signal.SIGTERM)
            assert process.told()["STOPPING"] == "1"

            assert eventually(lambda: not Path(process.path).exists())

            draining = run("--socket", process.path, "health", "--json")
            assert (draining.returncode, json.loads(draining.stdout)) == (4, {"live": True, "state": "draining"})
            assert run("--socket", process.path, "health", "--live").stdout == "draining\n"
            assert run("--socket", process.path, "ping").returncode == 3
            with Process(path=process.path) as next_one:
                next_one.ready()
                assert run("--socket", process.path, "health").stdout == "ready; clients: 1\n"

            process.signal(signal.SIGTERM)
            process.wait()
        assert run("--socket", process.path, "health").returncode == 3
        assert not list(Path(process.path).parent.glob("*-"))


def test_the_socket_can_come_from_the_environment(broker: PrivateBroker) -> None:
    """Law: PRIVCMDD_SOCKET serves as --socket does."""
    assert run("ping", PRIVCMDD_SOCKET=broker.path).returncode == 0


def test_nobody_there_is_3() -> None:
    """Law: without a broker the status is 3 and the sentence says what to do."""
    ran = run("--socket", "/nonexistent/socket", "ping")

    assert (ran.returncode, ran.stdout) == (3, "")
    assert "ENOENT" in ran.stderr
    assert "privcmdd serve" in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("domain",),
        ("domain", "create"),
        ("domain", "create", "--memory", "5"),
        ("domain", "create", "--memory", "lots"),
        ("domain", "create", "--memory", "4M", "--hole", "7+x"),
        ("domain", "create", "--memory", "4M", "--kind", "dom0"),
        ("domain", "destroy", "-1"),
        ("maps",),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(ctl: Ctl, arguments: tuple[str, ...]) -> None:
    """Law: wrong usage is 2, explained on standard error, nothing on standard output."""
    ran = ctl(*arguments)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert "usage: privcmdctl" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("domain", "info", "999"), "ESRCH"),
        (("domain", "destroy", "999"), "ESRCH"),
        (("domain", "create", "--memory", "1024G"), "ENOMEM"),
        (("maps", "--space", "99999"), "ESRCH"),
    ],
)
def test_a_refusal_is_1(ctl: Ctl, arguments: tuple[str, ...], name: str) -> None:
    """Law: what the broker refuses is 1, with the errno's name first."""
    ran = ctl(*arguments)

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"privcmdctl: {name}: ")


def test_a_domains_life(ctl: Ctl, client: Client) -> None:
    """Law: create, list, info and destroy tell the same story, in text and in JSON."""
    made = document(
        ctl("domain", "create", "--memory", "1M", "--hole", "0xa0+0x20", "--hole", "16+2", "--name", "bert", "--json")
    )
    dom = str(made["dom"])
    assert (made["kind"], made["tot_pages"], made["name"]) == ("hvm", 256, "bert")

    rows = ctl("domain", "list").stdout.splitlines()
    assert rows[0].split() == ["domain", "name", "kind", "state", "memory", "pages", "max", "pages"]
    assert rows[1].split()[:3] == [dom, "bert", "hvm"]
    assert [row["dom"] for row in document(ctl("domain", "list", "--json"))["domains"]] == [made["dom"]]

    frames = document(ctl("domain", "info", dom, "--frames", "0+0x122", "--json"))["frames"]
    holes = {gfn for gfn, name in enumerate(frames) if name == 2**64 - 1}
    assert holes == {16, 17, *range(0xA0, 0xC0)}
    text = ctl("domain", "info", dom, "--frames", "0x98+0x30").stdout
    assert ["0xa0", "0x20", "hole"] in [line.split() for line in text.splitlines()]

    with ForeignMemory(client) as foreign, foreign.map(made["dom"], [1, 2]):
        assert "2 pages of it are still mapped" in ctl("domain", "destroy", dom).stdout
        assert document(ctl("domain", "info", dom, "--json"))["state"] == "dying"
    assert document(ctl("domain", "list", "--json")) == {"domains": []}
    assert ctl("domain", "list").stdout == "no domains\n"


def test_maps_of_another_process(ctl: Ctl, client: Client, guest: int) -> None:
    """Law: the map entries of a space of one's own uid can be seen from outside."""
    space = client.attach().space
    with ForeignMemory(client) as foreign, foreign.map(guest, [1, 17], errors="keep") as mapping:
        shown = document(ctl("maps", "--space", str(space), "--json"))
        line = ctl("maps", "--space", str(space)).stdout.splitlines()[1]

        (entry,) = shown["entries"]
        assert (entry["start"], entry["dom"], entry["present"], entry["failed"]) == (mapping.address, guest, 1, 1)
        assert line.split()[:6] == [
            f"{mapping.address:#014x}",
            f"{mapping.address + 8192:#014x}",
            "2",
            "privcmd",
            "rw-",
            "rw-",
        ]
    assert "no entries" in ctl("maps", "--space", str(space)).stdout


def test_who_maps_what(ctl: Ctl, client: Client, guest: int) -> None:
    """Law: `spaces` has a line for who maps a domain, by number or name, and says when nobody does."""
    name = client.domains.info(guest).name or str(guest)
    assert ctl("spaces", "--dom", name).stdout == f"nobody maps domain {guest}\n"
    space = client.attach().space
    with ForeignMemory(client) as foreign, foreign.map(guest, [1, 17], errors="keep"):
        (row,) = document(ctl("spaces", "--dom", name, "--json"))["spaces"]
        lines = ctl("spaces").stdout.splitlines()

        assert (row["space"], row["pid"], row["dom"]) == (space, os.getpid(), guest)
        assert (row["present"], row["writable"], row["failed"]) == (1, 1, 1)
        assert lines[0].split()[:4] == ["space", "uid", "pid", "client"]
        assert lines[1].split()[:3] == [str(space), str(os.getuid()), str(os.getpid())]


@pytest.mark.parametrize("kind", FindingKind)
def test_every_finding_is_explained(kind: FindingKind) -> None:
    """Law: the id of a finding is explained by its section, which reads without its links."""
    text = explain.everything()[kind]

    assert "**Instead**" in text
    assert "](" not in text


@pytest.mark.parametrize("package", [privcmdd, privcmd])
def test_every_errno_is_explained(package: ModuleType) -> None:
    """Law: each errno that the broker or the library can answer has a section, under its name."""
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(package.__path__[0]).rglob("*.py"))
    there = explain.everything()

    raised = set(re.findall(r"\w\(\s*errno\.(E\w+)", sources))
    assert raised >= {"EINVAL", "ENOENT"}
    assert {name for name in raised if explain.called(name) not in there} == set()


@pytest.mark.parametrize("word", ["EOPNOTSUPP", "ENOTSUP", "95"])
def test_an_errno_of_two_names_has_one_section(word: str) -> None:
    """Law: Python calls 95 ENOTSUP, so that the broker does; Linux and Xen call it EOPNOTSUPP."""
    assert run("explain", word).stdout.startswith("EOPNOTSUPP\n")


@pytest.mark.parametrize("word", ["EDQUOT", "edquot", "122", "-122"])
def test_an_errno_is_explained(word: str) -> None:
    """Law: by its name or number, of either sign, and no broker is asked."""
    ran = run("--socket", "/nonexistent/socket", "explain", word)

    assert (ran.returncode, ran.stdout.split("\n")[0]) == (0, "EDQUOT")
    assert "raise limits.frames" in ran.stdout


def test_what_can_be_explained() -> None:
    """Law: without an id all of them are listed; one that is not there is 2, with what was probably meant."""
    ids = document(run("explain", "--json"))["ids"]
    assert {"ENOENT", "hypercalls", *FindingKind} <= set(ids)
    assert run("explain").stdout.split() == ids
    assert "`memory_op`" in document(run("explain", "hypercalls", "--json"))["text"]

    ran = run("explain", "frame-bit-lost")

    assert (ran.returncode, ran.stdout) == (2, "")
    assert "did you mean frame-bits-lost?" in ran.stderr
    assert "`privcmdctl explain` lists" in run("explain", "0x-zzz").stderr


def test_stats(ctl: Ctl, client: Client) -> None:
    """Law: the counters are the broker's, as a tree and as JSON."""
    stats = document(ctl("stats", "--json"))

    assert set(stats) == set(client.stats())
    text = ctl("stats").stdout
    assert "objects\n  alive" in text


def test_help_names_the_exit_statuses(ctl: Ctl) -> None:
    """Law: each command's help says what it answers to the shell."""
    for arguments in ((), ("ping",), ("domain", "create"), ("maps",), ("demo",)):
        ran = ctl(*arguments, "--help")
        assert ran.returncode == 0
        assert "exit status:" in ran.stdout
        assert "3  no broker answers there" in ran.stdout


def test_a_reader_that_has_enough(broker: PrivateBroker) -> None:
    """Law: `privcmdctl stats | head -0` is no traceback."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    ran = subprocess.run(
        [sys.executable, "-m", "privcmdd.cli.ctl", "--socket", broker.path, "stats"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(write_end)

    assert (ran.returncode, ran.stderr) == (1, b"")


def test_the_command_adds_lists_and_clears(ctl: Ctl, client: Client) -> None:
    """A rule outlives the command; it is printed in the words of the options, which can be given again."""
    words = "frame-errno=EPERM,gfns=0x10+0x10,gfns=0x30+0x1,dom=1,nth=3,probability=0.25,seed=7"
    options = [f"--{word}" for word in words.split(",")]

    added = ctl("fault", "add", *options)
    dropping = document(ctl("fault", "add", "--drop", "--after", "--json"))
    listed = ctl("fault", "list")

    first, second = client.faults.list()
    assert added.stdout == f"rule {first.id}: {words}\n"
    assert (dropping["id"], dropping["rule"]) == (second.id, {"drop": True, "when": "after"})
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [
        [str(first.id), "0", "0", "cleared", words],
        [str(second.id), "0", "0", "cleared", "drop,after"],
    ]
    assert ctl("fault", "clear", str(first.id)).stdout == "1 rule cleared\n"
    assert json.loads(ctl("fault", "clear", "--json").stdout) == {"cleared": 1}
    assert ctl("fault", "list").stdout == "no rules\n"


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (("fault", "add"), 2, "one of the arguments --frame-errno"),
        (("fault", "add", "--errno", "EIO", "--drop"), 2, "not allowed with"),
        (("fault", "add", "--errno", "EIO", "--probability", "2"), 2, "'2' is no probability"),
        (("fault", "add", "--errno", "EFOO"), 1, "EINVAL: errno is 'EFOO', expected the name of an errno"),
        (("fault", "clear", "999999"), 1, "ENOENT: there is no rule 999999"),
        (("run", "--fault", "dom=1", "--", "true"), 2, "a rule is the options of `fault add`"),
        (("run", "--fault", "errno=EIO,no=1", "--", "true"), 2, "there is no 'no' in a rule"),
        (("run", "--fault", "errno=EFOO", "--no-xenstore", "--", "true"), 1, "EINVAL: errno is 'EFOO'"),
    ],
)
def test_wrong_words_are_named(ctl: Ctl, arguments: tuple[str, ...], status: int, expected: str) -> None:
    """By the option that is wrong, or by the broker's sentence."""
    ran = ctl(*arguments)

    assert (ran.returncode, ran.stdout) == (status, "")
    assert expected in ran.stderr

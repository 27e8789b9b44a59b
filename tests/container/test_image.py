# SPDX-License-Identifier: Apache-2.0
"""The image, for real: built, run read-only and without network, and mapped from outside through its socket."""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from container.engine import GUARD_S, find
from privcmd import Client, ForeignMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from container.engine import Engine

pytestmark = pytest.mark.container

TAG = "privcmdd-test"


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An engine, with the image built; the tests are skipped, with the reasons, where there is none."""
    found = find()
    if isinstance(found, str):
        pytest.skip(f"NOT TESTED: the image; {found}")
    found.build(TAG)
    return found


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that the container's user may write to, and a short way to it."""
    with tempfile.TemporaryDirectory(prefix="pv") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def container(engine: Engine, shared: Path) -> Iterator[str]:
    """A broker in a container that can do nothing but serve; its name."""
    name = f"privcmdd-{uuid.uuid4().hex[:8]}"
    engine.run(
        *("--detach", "--name", name, "--read-only", "--network", "none", "--cap-drop", "ALL"),
        *("--volume", f"{shared}:/run/privcmdd", TAG, "serve", "--set", "server.socket_mode=0666"),
    )
    try:
        deadline = time.monotonic() + GUARD_S
        while not (shared / "broker.sock").exists():  # it is there once somebody listens on it
            assert time.monotonic() < deadline, engine("logs", name)
        yield name
    finally:
        engine("rm", "--force", name)


@pytest.mark.skipif(os.geteuid() != 0, reason="the default access rule knows root and the broker's own user")
def test_memory_is_mapped_from_outside(container: str, shared: Path) -> None:
    """Through nothing but the shared directory: a domain is made, mapped, written and read back."""
    assert container
    with Client(shared / "broker.sock", timeout_s=GUARD_S) as client:
        client.domains.create("hvm", 64, dom=1)
        with ForeignMemory(client) as foreign, foreign.map(1, [5, 3, 4]) as mapping:
            memoryview(mapping)[:5] = b"hello"
        with ForeignMemory(client) as foreign, foreign.map(1, [4, 5]) as mapping:
            seen = bytes(memoryview(mapping)[4096:4101])

    assert seen == b"hello"


def test_the_health_check_works_inside(engine: Engine, container: str) -> None:
    """What HEALTHCHECK runs, run where it runs."""
    inspected = json.loads(engine("image", "inspect", TAG))[0]
    healthcheck = inspected.get("HealthCheck") or inspected.get("Healthcheck") or inspected["Config"]["Healthcheck"]
    test = healthcheck["Test"]

    assert test == ["CMD", "privcmdctl", "ping"]
    engine("exec", container, *test[1:])


def test_it_is_not_root_and_can_write_nothing(engine: Engine, container: str) -> None:
    """An ordinary uid, no capability, and a root file system that refuses."""
    status = engine("exec", container, "cat", "/proc/1/status")
    fields = dict(line.split(":", 1) for line in status.splitlines())

    assert set(fields["Uid"].split()) == {"10001"}
    assert int(fields["CapEff"], 16) == 0
    assert fields["Name"].strip() == "privcmdd"
    with pytest.raises(AssertionError, match="Read-only file system"):
        engine("exec", container, "touch", "/x")


def test_sigterm_stops_it_with_zero(engine: Engine, container: str, shared: Path) -> None:
    """As an orchestrator stops it: everything answered, socket gone, exit code 0, start and stop in the log."""
    engine("stop", "--time", "30", container)
    code = engine("inspect", "--format", "{{.State.ExitCode}}", container)
    ours = [line for line in engine.logs(container).splitlines() if line.startswith("{")]
    events = [json.loads(line)["event"] for line in ours]

    assert code == "0"
    assert events == ["started", "stopped"]
    assert not (shared / "broker.sock").exists()


def test_the_image_tells_its_version(engine: Engine) -> None:
    """The entry point is the command itself: arguments go to it."""
    assert engine.run("--rm", "--read-only", "--network", "none", TAG, "--version").startswith("privcmdd ")

# SPDX-License-Identifier: Apache-2.0
"""The image, for real: built, run read-only and without network, and mapped from outside through its socket."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import subprocess
import time
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from container.engine import GUARD_S, ROOT, TAG
from container.play import COMPOSE, IMAGES, Played, load, play_pod, pod_of, serve
from privcmd import Client, ForeignMemory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from container.engine import Engine

pytestmark = [
    pytest.mark.container,
    pytest.mark.timeout(3600),  # each call of the engine has a limit of its own, and to build an image takes minutes
]

LIBRARIES = "/usr/local/lib/privcmdd"


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


@pytest.mark.skipif(
    os.geteuid() != 0,
    reason="NOT TESTED: memory mapped from outside the container; missing: root",
)
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


def test_arguments_go_to_the_broker(engine: Engine) -> None:
    """The entry point is the broker's command: its arguments are options and subcommands."""
    assert engine.run("--rm", "--read-only", "--network", "none", TAG, "--version").startswith("privcmdd ")
    assert engine.run("--rm", "--read-only", "--network", "none", TAG, "check-config")


def test_a_command_that_the_image_has_is_run(engine: Engine, container: str, shared: Path) -> None:
    """The entry point decides: what names a command is that command, beside the broker or without one."""
    assert container
    confined = ("--rm", "--read-only", "--network", "none", "--cap-drop", "ALL")
    answer = engine.run(*confined, "--volume", f"{shared}:/run/privcmdd", TAG, "privcmdctl", "ping")

    assert re.fullmatch(r"broker \w+ answers at /run/privcmdd/broker.sock \(\d+ us\)", answer)
    with pytest.raises(AssertionError, match="ENOENT: no broker at"):
        engine.run(*confined, TAG, "privcmdctl", "ping")


def test_programs_run_under_the_shim_inside(engine: Engine) -> None:
    """``privcmdctl run`` finds the shim of the image."""
    under = engine.run(
        *("--rm", "--read-only", "--network", "none", "--cap-drop", "ALL"),
        *(TAG, "privcmdctl", "run", "--domain", "hvm:64M", "--", "ls", "-l", "/dev/xen/privcmd"),
    )

    assert "/dev/xen/privcmd" in under


def test_labels_say_what_it_was_built_from(engine: Engine) -> None:
    """Version, revision and source are this tree's; the base is named by a digest that builds on it again."""
    labels = json.loads(engine("image", "inspect", TAG))[0]["Config"]["Labels"]
    said = {name.removeprefix("org.opencontainers.image."): text for name, text in labels.items()}
    version = engine.run("--rm", "--network", "none", TAG, "--version").removeprefix("privcmdd ")

    assert said["version"] == version
    assert said["source"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", said["base.digest"])
    assert said["base.name"].endswith("@" + said["base.digest"])
    assert engine("image", "inspect", "--format", "{{.Id}}", said["base.name"])
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert said["revision"].removesuffix("-dirty") == head.stdout.strip()


def test_nothing_of_the_build_is_left(engine: Engine) -> None:
    """The image has what it runs and no more, and no layer holds what another one removes."""
    last = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    runs = re.findall(r"^RUN (.*)", last, re.MULTILINE)
    left = engine.run(
        "--rm",
        "--network",
        "none",
        TAG,
        "sh",
        "-c",
        "ls -d /src /wheels /made /libraries /opt/build /*.txt 2>/dev/null || true",
    )

    assert runs == ["install -d -o 10001 -g 10001 -m 0770 /run/privcmdd"]
    assert left == ""


def test_what_runs_is_what_is_locked(engine: Engine) -> None:
    """The packages inside are those of requirements/run.txt, at its versions."""
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements/run.txt").read_text(encoding="utf-8"), re.MULTILINE)
    program = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    inside = set(
        engine.run("--rm", "--network", "none", TAG, "/opt/privcmdd/bin/python", "-Ic", program).lower().split()
    )

    assert {each.partition("==")[0] for each in inside} >= {"msgpack", "numpy", "privcmdd", "structlog", "trio"}
    assert {each for each in inside if not each.startswith("privcmdd==")} <= {f"{n}=={v}" for n, v in locked}


def test_libraries_need_no_newer_system_than_debian_12s(engine: Engine) -> None:
    """Both are at the path that pages name, and load where glibc is 2.34 or later."""
    listed = engine.run("--rm", "--network", "none", TAG, "ls", LIBRARIES).split()
    paths = [f"{LIBRARIES}/{name}" for name in listed]
    text = engine.run("--rm", "--network", "none", TAG, "grep", "-aohE", "GLIBC_2[.][0-9]+", *paths)
    needed = {int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", text)}

    assert listed == ["libprivcmdd-preload.so", "libxenforeignmemory.so.1"]
    assert 0 < max(needed) <= 34


def test_the_compose_file_maps_across_containers(engine: Engine, poke: str) -> None:
    """Its services, in their order: a program under the shim in one container reads what one in another has written."""
    assert poke
    volume = f"privcmdd-{uuid.uuid4().hex[:8]}"
    services = load(COMPOSE)["services"]
    printed = {}
    with ExitStack() as stack:
        stack.callback(engine, "volume", "rm", "--force", volume)
        for name, service in services.items():  # each stands below those that it depends on
            assert service.get("depends_on", {}).keys() <= services.keys()
            assert service["volumes"] == ["socket:/run/privcmdd"]
            played = Played(
                IMAGES[service["image"]], None, service["command"], service["user"], {"/run/privcmdd": volume}
            )
            if "healthcheck" in service:
                serve(stack, engine, played, service["healthcheck"]["test"][1:])
            else:
                printed[name] = engine.run("--rm", *played.options())

    assert list(printed) == ["guest", "writer", "reader"]
    assert printed["reader"] == printed["writer"] == "domain 1, gfn 3: virtq"


def test_a_pod_gives_the_shim_to_a_program_and_serves_it(engine: Engine, poke: str, shared: Path) -> None:
    """The sidecar, then the init containers, then the program with the shim that one of these has put there."""
    assert poke
    assert play_pod(engine, pod_of(ROOT / "config/kubernetes/pod.yaml"), 0, shared) == "domain 1, gfn 3: virtq"


def test_pods_of_a_job_know_nothing_of_each_other(engine: Engine, poke: str, shared: Path) -> None:
    """Two pods at once, four jobs in each: all have guests of the same numbers, and each sees what it wrote itself."""
    assert poke
    pod = pod_of(ROOT / "config/kubernetes/job.yaml")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        shares = [pool.submit(play_pod, engine, pod, index, shared / str(index)) for index in range(2)]
        printed = [sorted(share.result().splitlines()) for share in shares]

    assert printed == [[f"domain {dom}, gfn 3: share {index}, job {dom}" for dom in range(1, 5)] for index in range(2)]

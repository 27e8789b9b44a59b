# SPDX-License-Identifier: Apache-2.0
"""What ``config`` has for Compose and Kubernetes, read, and run with an engine that is neither."""

from __future__ import annotations

import re
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from container.engine import GUARD_S, POKE_TAG, ROOT, TAG

if TYPE_CHECKING:
    from pathlib import Path

    from container.engine import Engine

COMPOSE = ROOT / "config/compose.yaml"
MANIFESTS = sorted((ROOT / "config/kubernetes").glob("*.yaml"))
IMAGES = {"privcmdd": TAG, "privcmdd-poke": POKE_TAG}


def load(path: Path) -> dict[str, Any]:
    """A file, with what its variables are when nobody sets them."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", path.read_text(encoding="utf-8"))
    return dict(yaml.safe_load(text))


def pod_of(path: Path) -> dict[str, Any]:
    """The pod that a manifest describes, itself or as a template."""
    manifest = load(path)
    return dict(manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"])


@dataclass
class Played:
    """A container to run, however it was described."""

    image: str
    entrypoint: str | None
    args: list[str]
    user: str
    mounts: dict[str, str]
    """Where inside, by what: a directory of the host or a named volume."""
    env: dict[str, str] = field(default_factory=dict)

    def options(self) -> list[str]:
        """The engine's options and arguments."""
        words = ["--read-only", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        words += ["--user", self.user]
        for inside, source in self.mounts.items():
            words += ["--volume", f"{source}:{inside}"]
        for name, value in self.env.items():
            words += ["--env", f"{name}={value}"]
        if self.entrypoint is not None:
            words += ["--entrypoint", self.entrypoint]
        return [*words, self.image, *self.args]


def serve(stack: ExitStack, engine: Engine, played: Played, probe: list[str]) -> None:
    """Have a container for as long as a stack lasts, and go on when a probe succeeds in it."""
    name = f"privcmdd-{uuid.uuid4().hex[:8]}"
    engine.run("--detach", "--name", name, *played.options())
    stack.callback(engine, "rm", "--force", name)
    deadline = time.monotonic() + GUARD_S
    while True:
        try:
            engine("exec", name, *probe)
        except AssertionError as error:
            assert time.monotonic() < deadline, engine.logs(name) + str(error)
        else:
            return


def play_pod(engine: Engine, pod: dict[str, Any], index: int, directory: Path) -> str:
    """Run a pod's containers as a kubelet does; return what its last one prints."""
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    for volume in pod["volumes"]:
        (directory / volume["name"]).mkdir(parents=True)
        (directory / volume["name"]).chmod(0o777)
    printed = ""
    with ExitStack() as stack:
        for container in [*pod["initContainers"], *pod["containers"]]:
            command = container.get("command", [])
            played = Played(
                IMAGES[container["image"].removesuffix(":latest")],
                command[0] if command else None,
                [*command[1:], *container.get("args", [])],
                user,
                {mount["mountPath"]: str(directory / mount["name"]) for mount in container["volumeMounts"]},
                {each["name"]: each["value"] for each in container.get("env", [])}
                | {"JOB_COMPLETION_INDEX": str(index)},
            )
            if container.get("restartPolicy") == "Always":
                serve(stack, engine, played, container["startupProbe"]["exec"]["command"])
            else:
                printed = engine.run("--rm", *played.options())
    return printed

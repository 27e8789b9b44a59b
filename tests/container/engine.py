# SPDX-License-Identifier: Apache-2.0
"""A container engine that can build the image and run it: podman or docker.

Where no registry of images can be reached, root on Debian has podman all the same: with a stand-in for the image that
ours is made from, which debootstrap makes from Debian's packages. It is kept in a storage of its own (``STORAGE``), so
it is made once, and podman's ordinary storage is left alone.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = re.findall(r"^ARG BASE=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]
"""The image that ours is made from; each engine knows which registry it is from."""

CHECKOUT: Final = f"{zlib.crc32(os.fsencode(ROOT)):08x}"
"""Tells images of this checkout from those of another on the same machine."""
TAG: Final = f"privcmdd-test-{CHECKOUT}"
POKE_TAG: Final = f"privcmdd-poke-test-{CHECKOUT}"

BUILD_S: Final = 900.0
GUARD_S: Final = 300.0
"""Enough on a busy machine with the stand-in, whose storage copies an image for each container."""

STAND_IN_TOOLS: Final = ("podman", "runc", "debootstrap")
STAND_IN_PACKAGES: Final = "python3,python3-venv,python3-pip,ca-certificates"
STAND_INS: Final = "localhost/"
STAND_IN_NAME: Final = f"{STAND_INS}{BASE}"
STORAGE: Final = "/var/tmp/privcmdd-containers"
HOST_FILES: Final = ("/etc/pip.conf", "/etc/ssl/certs")
"""What a build without the official image needs of the host, to find the same package index as the host does."""


@dataclass(frozen=True)
class Engine:
    """A container engine.

    Attributes:
        command: The command, with the options that stand before its subcommand.
        base: The image that ours is made from, as this engine calls it.
        build_options: Options of ``build``.
        run_options: Options of ``run``.
    """

    command: tuple[str, ...]
    base: str = BASE
    build_options: tuple[str, ...] = ()
    run_options: tuple[str, ...] = ()

    def build_ours(self, tag: str) -> None:
        """Build the image as ``make image`` does.

        Raises:
            AssertionError: It failed; the message is what it printed.
        """
        environ = {**os.environ, "ENGINE": shlex.join(self.command), "BASE": self.base}
        command = [str(ROOT / ".ci/image"), tag, *self.build_options]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=BUILD_S)
        assert done.returncode == 0, done.stdout + done.stderr

    def build(self, tag: str, directory: Path, **args: str) -> None:
        """Build an image from a directory, with build arguments."""
        options = [f"--build-arg={name}={value}" for name, value in args.items()]
        self("build", *self.build_options, *options, "--tag", tag, str(directory), timeout_s=BUILD_S)

    def run(self, *args: str) -> str:
        """Run a container to its end, or start one with ``--detach``; return what it prints."""
        return self("run", *self.run_options, *args)

    def __call__(self, *args: str, timeout_s: float = GUARD_S) -> str:
        """Call the engine; return what it prints.

        Raises:
            AssertionError: It failed; the message is what it printed.
        """
        done = subprocess.run([*self.command, *args], capture_output=True, text=True, check=False, timeout=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def logs(self, name: str) -> str:
        """Return what a container has printed, standard output first, if the engine tells the two apart."""
        done = subprocess.run([*self.command, "logs", name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr


def find() -> Engine | str:
    """Return an engine that has the base image, or the reasons why there is none."""
    reasons = []
    for name in ("podman", "docker"):
        found = _with_base(Engine((name,)))
        if isinstance(found, Engine):
            return found
        reasons.append(found)
    missing = [tool for tool in STAND_IN_TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        return "; ".join([*reasons, f"a stand-in for {BASE} needs root, and {', '.join(STAND_IN_TOOLS)}"])
    if " - cgroup" not in Path("/proc/self/mountinfo").read_text(encoding="utf-8"):
        return "; ".join([*reasons, "no control groups are mounted (/sys/fs/cgroup), which runc needs"])
    return _with_stand_in()


def _with_base(engine: Engine) -> Engine | str:
    """Return an engine that has the base image, by its full name, or why it cannot build ours."""
    (name,) = engine.command
    if shutil.which(name) is None:
        return f"{name} is not on PATH"
    try:
        engine("info")
    except (AssertionError, subprocess.TimeoutExpired) as error:
        return f"`{name} info` failed: {error}"
    try:
        tags = _tags(engine, BASE)
    except AssertionError:
        tags = []
    try:
        tags = tags or _tags(engine, engine("pull", "--quiet", BASE, timeout_s=BUILD_S))
        return replace(engine, base=tags[0])
    except (AssertionError, subprocess.TimeoutExpired) as error:
        return f"`{name} pull {BASE}` failed: {error}"


def _tags(engine: Engine, image: str) -> list[str]:
    """Return the full names of an image, without those of a stand-in, which has the same short name."""
    tags = engine("image", "inspect", "--format", '{{join .RepoTags " "}}', image).split()
    return [tag for tag in tags if not tag.startswith(STAND_INS)]


def _with_stand_in() -> Engine:
    """Return podman, with a stand-in for the base image; make that if it is not there yet."""
    volumes = [f"--volume={path}:{path}:ro" for path in HOST_FILES if Path(path).exists()]
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
    engine = Engine(
        # What works on machines that are containers themselves: no overlay file system, no namespaces for a build,
        # and limits that cannot be raised.
        (
            *("podman", "--root", STORAGE, "--runroot", f"{STORAGE}-run", "--storage-driver", "vfs"),
            *("--runtime", "runc"),
        ),
        base=STAND_IN_NAME,
        build_options=("--pull=never", "--isolation", "chroot", "--layers=false", *limits, *volumes),
        run_options=("--pull=never", *limits),
    )
    try:
        engine("image", "inspect", STAND_IN_NAME)
    except AssertionError:
        make_stand_in(engine)
    engine("image", "prune", "--force")  # what earlier builds have left: each is a whole copy in this kind of storage
    return engine


def make_stand_in(engine: Engine) -> None:
    """Make an image with Debian's Python where the official image has its own: ``/usr/local/bin/python3``.

    Raises:
        AssertionError: The engine does not take it.
        CalledProcessError: debootstrap or tar failed.
    """
    suite = BASE.rpartition("-")[2]
    with tempfile.TemporaryDirectory() as directory:
        root, archive = Path(directory, "root"), Path(directory, "root.tar")
        command = ["debootstrap", "--variant=minbase", f"--include={STAND_IN_PACKAGES}", suite, str(root)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=BUILD_S)
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):  # pip is to install beside Debian's packages
            marker.unlink()
        (root / "usr/local/bin/python3").symlink_to("/usr/bin/python3")
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True, timeout=BUILD_S)
        changes = ["ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", 'CMD ["python3"]']
        options = [f"--change={change}" for change in changes]
        engine("import", *options, str(archive), STAND_IN_NAME, timeout_s=BUILD_S)

# SPDX-License-Identifier: Apache-2.0
"""What a build adds to the packages: the version that it has, and in a wheel the libraries made from ``clients/c``.

A wheel is then for one platform. Where no compiler is at work the wheel has no libraries, is for every platform, and
``privcmd/lib/not-built.txt`` says why, for ``privcmdctl run`` to repeat. Installing never fails for it.

The environment decides:

- ``PRIVCMDD_SHIM``: ``auto``, as above; ``required``, a build without the libraries fails; ``no``, nothing is compiled.
- ``CC``: the compiler; the platform of the wheel is the one that it compiles for.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE: Final = Path(__file__).resolve().parent
LIBRARIES: Final = ("libprivcmdd-preload.so", "libxenforeignmemory.so.1")
NOT_BUILT: Final = "not-built.txt"
PACKAGES: Final = (HERE / "python" / "privcmd", HERE.parent / "broker" / "privcmdd")
SHIM_ENV: Final = "PRIVCMDD_SHIM"
VERSION_FILE: Final = '''\
# SPDX-License-Identifier: Apache-2.0
"""The version of this build; written by clients/hatch_build.py."""

VERSION = "{version}"
'''


class NotBuiltError(Exception):
    """Why there are no libraries, as a sentence."""


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]  # hatchling is not in .venv
    """Called by hatchling before it packs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the version to the packages, and to a wheel the libraries.

        An editable install is the tree itself: the version is written there, and nothing is compiled.

        Args:
            version: "standard" or "editable".
            build_data: What hatchling packs, and how; added to.
        """
        wish = os.environ.get(SHIM_ENV, "auto")
        if wish not in {"auto", "required", "no"}:
            raise ValueError(f"{SHIM_ENV}={wish}: auto, required or no was expected")
        root = Path(self.root)
        packages = [package for package in PACKAGES if package.is_relative_to(root)]
        text = VERSION_FILE.format(version=self.metadata.version)
        if version == "editable":
            for package in packages:
                _write(package / "_version.py", text)
            return
        self._made = tempfile.TemporaryDirectory(prefix="privcmdd-build-")
        made = Path(self._made.name)
        in_wheel = self.target_name == "wheel"
        for package in packages:
            place = package.name if in_wheel else str(package.relative_to(root))
            # By a path of its own for each: hatchling packs a path once.
            (made / package.name).mkdir()
            _write(made / package.name / "_version.py", text)
            build_data["force_include"][str(made / package.name / "_version.py")] = f"{place}/_version.py"
        if in_wheel and wish != "no":
            self._add_libraries(made, build_data, required=wish == "required")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Forget what was made."""
        del version, build_data, artifact_path
        if hasattr(self, "_made"):
            self._made.cleanup()

    def _add_libraries(self, made: Path, build_data: dict[str, Any], *, required: bool) -> None:
        try:
            machine = compile_into(made, self.metadata.version)
        except NotBuiltError as why:
            if required:
                raise
            self.app.display_warning(f"privcmdctl run will have no shim: {why}")
            _write(made / NOT_BUILT, f"{why}\n")
            build_data["force_include"][str(made / NOT_BUILT)] = f"privcmd/lib/{NOT_BUILT}"
            return
        for name in LIBRARIES:
            build_data["force_include"][str(made / name)] = f"privcmd/lib/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{machine}"


def compile_into(directory: Path, version: str) -> str:
    """Make the libraries.

    Returns:
        The machine that they are for, as in a wheel's name: "x86_64".

    Raises:
        NotBuiltError: They cannot be made here.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    for tool, package in ((compiler[0], "gcc"), ("make", "make")):
        if shutil.which(tool) is None:
            raise NotBuiltError(f"{tool} is not on PATH (on Debian: apt-get install {package} libc6-dev)")
    target = subprocess.run([*compiler, "-dumpmachine"], capture_output=True, text=True, check=False).stdout.strip()
    command = [
        "make",
        "-s",
        f"-j{os.cpu_count() or 1}",
        "-C",
        str(HERE / "c"),
        f"BUILD={directory}",
        f"VERSION={version}",
        "CFLAGS=-O2 -g1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["it says nothing"]
        raise NotBuiltError(f"{shlex.join(compiler)} fails: {errors[0]}")
    for name in LIBRARIES:  # a linker may drop what nothing refers to, and run refuses a library without it
        if f"PRIVCMDD_VERSION={version}".encode() not in (directory / name).read_bytes():
            raise NotBuiltError(f"{shlex.join(compiler)} leaves the version out of {name}")
    return target.partition("-")[0]


def _write(path: Path, text: str) -> None:
    """Write a file, and leave one alone that is like that already: what is made from it is then not made again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")

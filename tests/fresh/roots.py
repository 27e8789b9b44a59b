# SPDX-License-Identifier: Apache-2.0
"""Bare roots of Debian: the machine that somebody has who has installed nothing yet.

debootstrap makes one for each release, from the mirror that the machine's own apt is configured with. It is kept in
``CACHE``; who uses one gets a copy. Commands run in namespaces of their own, and nothing of the host can be written
from inside: what a root needs of it (name servers, pip's index, local certificate authorities) is copied in.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE: Final = Path("/var/tmp/privcmdd-fresh")
TOOLS: Final = ("debootstrap", "unshare", "chroot", "git")
MAKE_S: Final = 900.0

COPIED: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf")
AUTHORITIES: Final = "usr/local/share/ca-certificates"
"""Where an administrator puts certificate authorities, and ``update-ca-certificates`` finds them."""
SNAPSHOT: Final = ("etc/apt/apt.conf.d/snapshot", 'Acquire::Check-Valid-Until "false";\n')
"""sid's lists are good for a week; a mirror that stands still may be older, and is as good for trying the steps."""
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "dumb",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
# /dev as a container has it: a few devices of the host's, all else of the root's own. pivot_root and not chroot alone:
# from a chroot no namespace of mounts can be made, which containers, and roots in this root, need.
ENTER: Final = r"""
set -e
root=$1; shift
mount --bind "$root" "$root"  # pivot_root wants a mount
mount -t sysfs -o ro sysfs "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    : > "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for name in stdin:0 stdout:1 stderr:2; do ln -s "fd/${name#*:}" "$root/dev/${name%:*}"; done
cd "$root"
pivot_root . .
umount -l .
exec chroot . "$@"
"""


def unfit() -> str:
    """Say why no root can be made here; nothing when one can."""
    if os.geteuid() != 0:
        return "making a root needs root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)} (apt-get install debootstrap)"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no mounts of one's own, as in a root that was entered: {tried.stderr.strip()}" if tried.returncode else ""


def mirror() -> str:
    """Return the mirror of Debian that apt is configured with; "" leaves the choice to debootstrap."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.is_file())
    found = re.findall(r"^(?:URIs:|deb\s+(?:\[[^\]]*\]\s+)?)\s*(\S+/debian/?)(?:\s|$)", text, re.MULTILINE)
    return found[0] if found else ""


def bare(suite: str) -> Path:
    """Return the bare root of a release, which is made the first time.

    Raises:
        CalledProcessError: debootstrap failed; it has said why.
    """
    root = CACHE / suite
    if not root.exists():
        CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix=f"{suite}.", dir=CACHE))
        half.chmod(0o755)
        try:
            command = ["debootstrap", "--variant=minbase", suite, str(half), *filter(None, [mirror()])]
            subprocess.run(command, check=True, timeout=MAKE_S, stdout=subprocess.DEVNULL)
            half.rename(root)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
    return root


@contextlib.contextmanager
def copy(suite: str) -> Iterator[Path]:
    """Have a copy of a bare root, which knows this machine's name servers, index of packages and authorities."""
    source = bare(suite)
    directory = Path(tempfile.mkdtemp(prefix=f"run-{suite}.", dir=CACHE))
    root = directory / "root"
    try:
        subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(root)], check=True)
        for name in COPIED:
            if Path(name).exists():
                shutil.copy(name, root / name[1:])
        (root / SNAPSHOT[0]).write_text(SNAPSHOT[1], encoding="utf-8")
        (root / AUTHORITIES).mkdir(parents=True, exist_ok=True)
        for authority in Path("/", AUTHORITIES).glob("*.crt"):
            shutil.copy(authority, root / AUTHORITIES)
        yield root
    finally:
        shutil.rmtree(directory)


def run(root: Path, command: str, *, user: str = "root", timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a command line in a root, as somebody who has just logged in; return its status and all that it said."""
    words = ["bash", "-lc", command] if user == "root" else ["su", "-l", user, "-s", "/bin/bash", "-c", command]
    return subprocess.run(
        # The processes of a namespace end with its first one.
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", ENTER, "enter", str(root), *words],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout_s,
    )

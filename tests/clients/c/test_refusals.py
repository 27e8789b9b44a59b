# SPDX-License-Identifier: Apache-2.0
"""``PRIVCMDD_SAY=errors``: the C client says each refusal, whichever device refuses, and once."""

from __future__ import annotations

import errno
import subprocess
from typing import TYPE_CHECKING

from privcmd import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.c_guests import Guests

TIMEOUT_S = 60
# What refused.c makes, in its order: the errno and what is said. A frame that fails is said too, and has no errno.
SAID = [
    (errno.EFAULT, "EFAULT: hypercall domctl: 0x1000 is no hypercall buffer that allows it"),
    (errno.ENOSYS, "ENOSYS: hypercall xsm_op is not answered here"),
    (
        errno.EFAULT,
        "EFAULT: ioctl HYPERCALL of privcmd: memory that it names cannot be read, or not be written",
    ),
    (errno.EOPNOTSUPP, "ENOTSUP: dm_op 77 is not answered here"),
    (errno.ENOENT, "ENOENT: dm_op destroy_ioreq_server of domain {dom}: domain {dom} has no ioreq server 9"),
    (errno.E2BIG, "E2BIG: ioctl DM_OP of privcmd: more is asked for than one call may"),
    (errno.ENOTTY, "ENOTTY: privcmd ioctl 0x5063 is not answered here"),
    (errno.ENOTTY, "ENOTTY: ioctl UNIMPLEMENTED of privcmd: no kernel has it, which Xen's libraries know"),
    (None, "frame 0x9999 of domain {dom}, at index 1, cannot be mapped; 2 of 3 failed"),
    (errno.EFAULT, "EFAULT: privcmd.mmapbatch_v2: arr is nil: the caller's array cannot be read"),
    (errno.EINVAL, "EINVAL: madvise of a device's memory: the device does not take such a call"),
    (errno.ENOENT, "ENOENT: ioctl UNMAP_GRANT_REF of gntdev: the file was not asked for 1 grants at offset 0x1000"),
    (errno.EINVAL, "EINVAL: mmap of a device's memory: the file was not asked for 1 grants at offset 0"),
    (errno.EINVAL, "EINVAL: gntdev.map: domain {dom} has no grant 99 (bad_gntref)"),
    (errno.ENOTTY, "ENOTTY: gntdev ioctl DMABUF_EXP_FROM_REFS (0x144709) is not answered here"),
    (errno.EINVAL, "EINVAL: ioctl DEALLOC_GREF of gntalloc: the file has no 1 pages at offset 0x1000"),
    (errno.EINVAL, "EINVAL: evtchn.bind_interdomain: port 5 of domain {dom} is not in use"),
    (errno.ENOTCONN, "ENOTCONN: ioctl NOTIFY of evtchn: port 77 is none of this file's"),
    (errno.ENOSYS, "ENOSYS: evtchn ioctl 0x4563 is not answered here"),
]


def run(program: Path, libraries: Path, guests: Guests, say: str) -> subprocess.CompletedProcess[str]:
    """Run the program with a value of the variable."""
    env = guests.environment(LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"), PRIVCMDD_SAY=say)
    command = [str(program), str(guests.dom)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_each_refusal_is_said(libraries: Path, compiled: Callable[..., Path], guests: Guests) -> None:
    """Law: one line for each call that is refused, in the broker's words where the broker refuses; else in ours."""
    done = run(compiled("refused.c"), libraries, guests, "errors")

    assert done.returncode == 0, done.stdout
    assert done.stdout.split() == [str(number) for number, _ in SAID if number is not None]
    assert done.stderr.splitlines() == ["privcmdd: " + line.format(dom=guests.dom) for _, line in SAID]


def test_nothing_is_said_that_nobody_asked_for(libraries: Path, compiled: Callable[..., Path], guests: Guests) -> None:
    """Law: without PRIVCMDD_SAY, or with another wish, refusals are silent."""
    quiet, times = (run(compiled("refused.c"), libraries, guests, say) for say in ("", "times"))

    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert [line.split()[2:6] for line in times.stderr.splitlines()] == [["calls", "of", "the", "broker"]]


def test_unknown_ioctls_and_each_enosys_are_counted(
    libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Law: what no broker of ours answers is in ``stats``, ioctls that only the client sees as well."""
    assert run(compiled("refused.c"), libraries, guests, "").returncode == 0

    with Client(guests.broker.path) as client:
        assert client.stats()["broker"]["unanswered"] == {
            "hypercall xsm_op": 1,
            "dm_op 77": 1,
            "privcmd ioctl 0x5063": 1,
            "gntdev ioctl DMABUF_EXP_FROM_REFS (0x144709)": 1,
            "evtchn ioctl 0x4563": 1,
        }


def test_an_unknown_wish_is_said(libraries: Path, compiled: Callable[..., Path], guests: Guests) -> None:
    """Law: a program that was started without `run` is told once of a value that nothing listens to."""
    done = run(compiled("refused.c"), libraries, guests, "eror,times")

    assert done.stderr.splitlines()[0] == (
        "privcmdd: PRIVCMDD_SAY is 'eror', expected errors or times, or both, as errors,times"
    )
    assert len(done.stderr.splitlines()) == 2

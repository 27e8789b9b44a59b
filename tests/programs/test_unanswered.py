# SPDX-License-Identifier: Apache-2.0
"""What programs asked of Xen and did not get: ``privcmdctl stats --unanswered``, and the end of a run."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from programs.programs import CTL, GUARD_S, python, run

if TYPE_CHECKING:
    from privcmd.broker import PrivateBroker

SENTENCE = "privcmdctl: asked for and not answered: hypercall xsm_op (2 times), hypercall kexec_op; see "
# IOCTL_PRIVCMD_HYPERCALL: number and five arguments.
ASKS = """
for number in (37, 27, 27):
    libc.ioctl(fd, 0x305000, ctypes.create_string_buffer(struct.pack("=6Q", number, 0, 0, 0, 0, 0)))
sys.exit(int(sys.argv[1]))
"""


def stats(broker: PrivateBroker, *options: str) -> str:
    """What ``privcmdctl stats --unanswered`` prints."""
    command = [*CTL, "--socket", broker.path, "stats", "--unanswered", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=True).stdout


def test_a_program_that_failed_may_have_missed_something() -> None:
    """Said once, by name, the most frequent first; a program that succeeded has got on without."""
    assert run("--no-xenstore", "--", *python(ASKS, 3)).stderr.startswith(SENTENCE)
    assert run("--no-xenstore", "--", *python(ASKS, 0)).stderr == ""
    said = run("--no-xenstore", "--json", "--", *python(ASKS, 0)).stderr
    assert json.loads(said)["unanswered"] == {"hypercall xsm_op": 2, "hypercall kexec_op": 1}


def test_a_broker_tells_what_all_its_programs_missed(broker: PrivateBroker) -> None:
    """A table, or a document; a run tells only of what was asked meanwhile."""
    assert stats(broker) == "the broker has answered all that programs asked for\n"
    for _ in range(2):
        assert run("--socket", broker.path, "--no-xenstore", "--", *python(ASKS, 1)).stderr.startswith(SENTENCE)

    assert [line.split() for line in stats(broker).splitlines()] == [
        ["asked", "for", "times"],
        ["hypercall", "xsm_op", "4"],
        ["hypercall", "kexec_op", "2"],
    ]
    assert json.loads(stats(broker, "--json")) == {"unanswered": {"hypercall xsm_op": 4, "hypercall kexec_op": 2}}

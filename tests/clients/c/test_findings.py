# SPDX-License-Identifier: Apache-2.0
"""An unmodified program does what a real host lets pass in silence, and it is found."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from privcmd.broker import PrivateBroker
from privcmdd.model.findings import FindingKind

if TYPE_CHECKING:
    from pathlib import Path

    from support.c_guests import Guests

TIMEOUT_S = 60
PATIENCE = 10_000
# What somebody else does, by a hypercall or to the domain: the service's tests have it.
KINDS = [kind for kind in FindingKind if kind not in (FindingKind.DOMAIN_CRASHED, FindingKind.STALE_MAPPING)]
WITH = {
    FindingKind.OTHER_MEMORY_REPLACED: {FindingKind.RESOURCE_PAST_VMA},
    FindingKind.ENDLESS_REFAULT: {FindingKind.MPROTECT_WITHOUT_EFFECT},
}

Harm = Callable[[str], tuple[int, str, list[tuple[str, int]]]]


@pytest.fixture
def broker() -> Iterator[PrivateBroker]:
    """A broker that takes a destroyed domain for a zombie as soon as it is asked for anything.

    It simulates the release in which each kind of harm can be done; a size of resources is right since.
    """
    config = '[host]\nxen = "4.17"\n[machine]\nmemory_mib = 512\n[limits]\nzombie_s = 0\n'
    with PrivateBroker(config, args=("--paranoid",)) as private:
        yield private


@pytest.fixture
def harm(libraries: Path, compiled: Callable[..., Path], guests: Guests) -> Harm:
    """Run a case of the program: its exit status, what it said, and what was found of it, by kind."""
    program = compiled("harm.c")

    def run(case: str) -> tuple[int, str, list[tuple[str, int]]]:
        preload = str(libraries / "libprivcmdd-preload.so")
        command = [str(program), str(guests.dom), str(guests.other), case]
        n_spaces = 1  # the fixture's
        environment = guests.environment(LD_PRELOAD=preload)
        if case == FindingKind.ENOENT_LOST:
            with Client(guests.broker.path) as client:
                client.domains.page_out(guests.dom, [2])
        with (
            Client(guests.broker.path) as client,
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            if case == FindingKind.ZOMBIE_DOMAIN:
                assert process.stdout is not None
                assert process.stdout.readline() == "mapped\n"
                assert client.domains.destroy(guests.dom) == "dying"
            _, said = process.communicate("\n", timeout=TIMEOUT_S)
            for _ in range(PATIENCE):  # the broker has yet to notice that it ended
                if client.stats()["mappings"]["spaces"] == n_spaces:
                    break
            rows = [row for row in client.findings() if row.pid == process.pid]
        assert {row.client for row in rows} <= {"harm"}
        return process.returncode, said, sorted((row.kind, row.count) for row in rows)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_does_harm_is_found_out(kind: FindingKind, harm: Harm) -> None:
    """It goes on as on a real host, and the broker has the finding, with the process that did it."""
    status, said, found = harm(kind)

    assert status == 0, said
    assert found == sorted((each, 1) for each in {kind, *WITH.get(kind, ())})


def test_what_is_answered_aloud_is_no_finding(harm: Harm) -> None:
    """Signals that a real host raises as well, at once and for everybody to see."""
    assert harm("nothing") == (0, "", [])


def test_handlers_are_the_programs_own(harm: Harm) -> None:
    """Sigaction and signal say what the program set; flags and masks hold; signals that were sent are no touches."""
    assert harm("handlers") == (0, "", [])


def test_the_default_action_stays(harm: Harm) -> None:
    """A touch without a handler ends the process by its signal, and is found all the same."""
    status, said, found = harm("dies")

    assert (status, said) == (-signal.SIGBUS, "")
    assert found == [("failed-frame-touched", 1), ("mapping-leaked", 1)]
    assert harm("dies-of-kill")[:2] == (-signal.SIGSEGV, "")

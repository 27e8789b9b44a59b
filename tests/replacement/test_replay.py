# SPDX-License-Identifier: Apache-2.0
"""The model of replacement is about this broker: what it does, the broker does, step by step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from privcmdd.model import ledger
from privcmdd.model.machine import domain, foreign, frames, lifecycle, machine, memory
from privcmdd.model.mm import pmap, syscalls, uobject, vm_map
from privcmdd.model.privcmd import personality, uvm
from privcmdd.service import processes, turnstile
from privcmdd.service.methods import privcmd as requests
from privcmdd.service.methods import spaces
from replacement.check import MODEL, Bug, bugs, missing
from replacement.replay import Act, End, Op, Replay, walk
from support.profiles import PROFILE

if TYPE_CHECKING:
    from pathlib import Path

N_MOVES = 400_000  # of the simulator: about a thousand steps
LONG = PROFILE.name == "long"
SEEDS = range(1, 101) if LONG else range(1, 4)
# Bugs of the model that a short walk tells from the broker; the others take a rarer order of events.
DIVERGING = ("no-turnstile", "cancel-keeps-references", "cancel-keeps-charge", "last-come-first-served", "never-buried")
BUGS = [bug for bug in bugs() if bug.name in DIVERGING]


NAMED = (
    *(frames, domain, machine, foreign, memory, lifecycle, ledger, vm_map, pmap, uobject, syscalls, personality, uvm),
    *(turnstile, processes, spaces, requests),
)


@pytest.fixture
def spin() -> None:
    """Skip without it."""
    if "spin" in missing():
        pytest.skip("NOT TESTED: the model of replacement against the broker; spin is missing (apt-get install spin)")


def replayed(seed: int, directory: Path, bug: int = 0) -> set[tuple[str, str, str]]:
    """Walk at random and do it to a broker; what kinds of steps there were."""
    kinds: set[tuple[str, str, str]] = set()
    with Replay() as replay:
        for step in walk(seed, directory, n_moves=N_MOVES, bug=bug):
            replay.do(step)
            (end,) = step.after["outcome"]
            asked = Op(step.op).name if step.act in (Act.ASK, Act.GO_ON, Act.CANCEL) else ""
            kinds.add((step.act.name, asked, End(end).name))
    return kinds


def test_the_model_names_what_there_is() -> None:
    """What its comments say that a part stands for is in the code."""
    comments = "".join(re.findall(r"//.*", "".join(path.read_text("utf-8") for path in MODEL.parent.glob("*.pml"))))
    methods = set(re.findall(r"\b[A-Z]\w+\.\w+", comments)) - {"Class.method"}
    functions = set(re.findall(r"`(\w+)`", comments)) - {"backquotes"}
    classes = {name: thing for module in NAMED for name, thing in vars(module).items() if isinstance(thing, type)}

    assert len(methods) > 15
    assert [name for name in methods if not hasattr(classes.get(name.split(".")[0]), name.split(".")[1])] == []
    assert functions
    assert [name for name in functions if not any(hasattr(module, name) for module in NAMED)] == []


@pytest.mark.usefixtures("spin")
def test_the_broker_does_what_the_model_does(tmp_path: Path) -> None:
    """Random walks: the same answers, and after each step the same state; and they came to where it is interesting."""
    kinds: set[tuple[str, str, str]] = set()
    for seed in SEEDS:
        kinds |= replayed(seed, tmp_path)

    assert {kind[0] for kind in kinds} == {act.name for act in Act}
    assert {(op, end) for act, op, end in kinds if act == "ASK"} >= {
        *((op.name, "PAUSED") for op in Op),
        *((op.name, "DONE") for op in Op if op is not Op.LIST),  # whose second range has two slices
        *((op, end) for op in ("BATCH", "LIST") for end in ("EINVAL", "EDQUOT")),
    }
    assert {(op, end) for act, op, end in kinds if act == "GO_ON"} >= {
        *((op.name, "DONE") for op in Op),
        *((op, end) for op in ("BATCH", "LIST") for end in ("EINVAL", "EDQUOT", "PAUSED")),
    }
    assert {op for act, op, _ in kinds if act == "CANCEL"} == {op.name for op in Op}


@pytest.mark.usefixtures("spin")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_in_the_model_is_seen_in_the_broker(bug: Bug, tmp_path: Path) -> None:
    """Were the two to differ, it would be noticed."""
    with pytest.raises(AssertionError):
        replayed(1, tmp_path, bug.number)

# SPDX-License-Identifier: Apache-2.0
"""The program that recorded a real host's answers, unchanged, under ``privcmdctl run``: the same answers.

``tests/oracle`` holds the program (``probe.c``, ``cases.h``) and what it recorded;
``docs/how-to/record-a-real-host.md`` says how to record another host.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oracle.compare import compare
from privcmd import _tools as tools

ROOT = Path(__file__).resolve().parent.parent.parent
ORACLE = ROOT / "tests" / "oracle"
RECORDED = ORACLE / "xen-4.17-linux-6.1.jsonl"
PAGE = ROOT / "docs" / "reference" / "differences.md"
LIBRARIES = ("xenctrl", "xenforeignmemory", "xendevicemodel", "xencall", "pthread")
TARGETS = {"pv": "pv", "hvm": "hvm-hap", "shadow": "hvm-shadow", "pvh": "pvh-hap"}

# Cases that are not run: they are not compared, and take long.
LEFT_OUT = ("big", "time", "manyvma", "self", "compat")
OF_ROOT = ("priv",)
"""Cases that become another user, which only root can."""
REACH = 0.97
"""The part of the steps that agrees at least."""


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording program, built from its sources as they are."""
    if not Path("/usr/include/xenctrl.h").exists() or shutil.which("cc") is None:
        pytest.skip(
            "NOT TESTED: the answers of a real host; libxen-dev or cc is missing (apt-get install libxen-dev gcc)"
        )
    recorded = RECORDED.name.split("-")[1]
    if (here := tools.release()) != recorded:
        pytest.skip(
            f"NOT TESTED: the answers of a real host; missing: libraries of Xen {recorded}, here are those of {here}"
        )
    program = tmp_path_factory.mktemp("probe") / "probe"
    sources = ["cc", "-O1", "-w", "-o", str(program), str(ORACLE / "probe.c")]
    subprocess.run([*sources, *(f"-l{name}" for name in LIBRARIES)], check=True)
    return program


def explained() -> set[str]:
    """Steps that the page of differences gives a reason for."""
    section = PAGE.read_text().split("## Steps of the recorded host that differ")[1].split("\n## ")[0]
    return {
        f"{case} | {step.strip()}"
        for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        for case, step in re.findall(r"`([\w.]+)` ([^`]*?)(?=, `|; `|$)", row.removesuffix(" (PV)"))
    }


def hold(probe: Path, directory: Path, kind: str, dom0: str, config: str) -> None:
    """Run the program, and hold its answers against the recording.

    Args:
        probe: The program.
        directory: Where to write.
        kind: The kind of target domain, as the program calls it.
        dom0: The kind of dom0 that was recorded.
        config: The broker's configuration, which makes it such a host.

    Raises:
        AssertionError: Too few steps agree, or one differs that is not on the page of differences.
    """
    file, ours = directory / "privcmdd.toml", directory / "ours.jsonl"
    file.write_text(config)
    run = [sys.executable, "-m", "privcmdd.cli.ctl", "run", "--config", str(file), "--", str(probe), kind, str(ours)]
    left_out = LEFT_OUT if os.geteuid() == 0 else (*LEFT_OUT, *OF_ROOT)
    ran = subprocess.run(
        [*run, *(f"-{case}" for case in left_out)], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr

    found = compare(RECORDED, ours, dom0, TARGETS[kind], left_out)

    assert {str(step) for step in found.differences} - explained() == set(), found.report()
    assert found.n_agree >= REACH * found.n_steps, found.report()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a real host's answers to another user; missing: root")
def test_what_only_root_can_record_is_compared() -> None:
    """As root no case is left out for want of rights; anybody else is told that these are not compared."""
    recorded = {json.loads(line)["case"] for line in RECORDED.read_text(encoding="utf-8").splitlines()}

    assert recorded >= set(OF_ROOT)
    assert not set(OF_ROOT) & set(LEFT_OUT)


@pytest.mark.parametrize("kind", ["hvm", "pv", "pvh"])
def test_the_recorded_answers_are_ours(probe: Path, tmp_path: Path, kind: str) -> None:
    """Nearly every step agrees, and each that does not stands on its page with the reason."""
    hold(probe, tmp_path, kind, "PV", "")


@pytest.mark.parametrize("kind", ["hvm", "pv"])
def test_the_recorded_answers_of_a_pvh_dom0_are_ours(probe: Path, tmp_path: Path, kind: str) -> None:
    """The same in a dom0 whose frames are translated, where most errors are others."""
    hold(probe, tmp_path, kind, "PVH", '[host]\ndom0 = "pvh"\n')


def test_the_recorded_answers_of_a_debug_build_are_ours(probe: Path, tmp_path: Path) -> None:
    """The same on a Xen that was built with shadow paging, with a target that has it."""
    hold(probe, tmp_path, "shadow", "PV", '[host]\nbuild = "debug"\n')

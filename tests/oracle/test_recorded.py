# SPDX-License-Identifier: Apache-2.0
"""The program that recorded a real host's answers, unchanged, under ``privcmdctl run``: the same answers.

The program, its recordings and the tool that compares them are not part of the project; they are looked for at
``PRIVCMDD_ORACLE``, else in a folder ``shared`` beside the checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("PRIVCMDD_ORACLE", ROOT.parent / "shared"))
ORACLE = SHARED / "facts" / "oracle"
COMPARE = SHARED / "tools" / "oracle-compare"
RECORDED = ORACLE / "xen-4.17-linux-6.1.jsonl"
PAGE = ROOT / "docs" / "reference" / "differences.md"
LIBRARIES = ("xenctrl", "xenforeignmemory", "xendevicemodel", "xencall", "pthread")

# Not compared: the machine's own times and sizes.
LEFT_OUT = ("big", "time", "manyvma", "self", "compat")
REACH = 0.97
"""Of the steps that are compared."""


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording program, built from its sources as they are."""
    if not (RECORDED.exists() and COMPARE.exists()):
        pytest.skip(f"NOT TESTED: the answers of a real host; there is no {ORACLE} (set PRIVCMDD_ORACLE)")
    if not Path("/usr/include/xenctrl.h").exists() or shutil.which("cc") is None:
        pytest.skip(
            "NOT TESTED: the answers of a real host; libxen-dev or cc is missing (apt-get install libxen-dev gcc)"
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


def compared(
    probe: Path, ours: Path, kind: str, dom0: str, config: Path, recorded: Path = RECORDED
) -> tuple[float, set[str], str]:
    """Run the program and hold what it printed against the recording: the part that agrees, the steps that do not."""
    without = [f"-{case}" for case in LEFT_OUT]
    run = [sys.executable, "-m", "privcmdd.cli.ctl", "run", "--config", str(config), "--"]
    ran = subprocess.run(
        [*run, str(probe), kind, str(ours), *without], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    target = {"pv": "pv", "shadow": "hvm-shadow"}.get(kind, f"{kind}-hap")
    compare = [sys.executable, str(COMPARE), str(recorded), str(ours), "--dom0", dom0, "--target", target, "-v"]
    said = subprocess.run(compare, capture_output=True, text=True, check=False).stdout
    agree, differ = map(int, re.findall(r"^(\d+) passed, (\d+) failed$", said, re.MULTILINE)[-1])
    steps = {
        " | ".join(line.split(" | ")[:2]).split(": no such step")[0] for line in said.splitlines() if " | " in line
    }
    return agree / (agree + differ), steps, said


@pytest.mark.parametrize("kind", ["hvm", "pv", "pvh"])
def test_the_recorded_answers_are_ours(probe: Path, tmp_path: Path, kind: str) -> None:
    """Nearly every step agrees, and each that does not stands on its page with the reason."""
    config = tmp_path / "privcmdd.toml"
    config.write_text("")

    part, steps, said = compared(probe, tmp_path / "ours.jsonl", kind, "PV", config)

    assert steps - explained() == set()
    assert part >= REACH, said


@pytest.mark.parametrize("kind", ["hvm", "pv"])
def test_the_recorded_answers_of_a_pvh_dom0_are_ours(probe: Path, tmp_path: Path, kind: str) -> None:
    """The same in a dom0 whose frames are translated, where most errors are others."""
    config = tmp_path / "privcmdd.toml"
    config.write_text('[host]\ndom0 = "pvh"\n')

    part, steps, said = compared(probe, tmp_path / "ours.jsonl", kind, "PVH", config)

    assert steps - explained() == set()
    assert part >= REACH, said


def test_the_recorded_answers_of_a_debug_build_are_ours(probe: Path, tmp_path: Path) -> None:
    """The same on a Xen that was built with shadow paging, with a target that has it.

    The tool leaves what that Xen recorded out; so it is shown the rows under another name.
    """
    config = tmp_path / "privcmdd.toml"
    config.write_text('[host]\nbuild = "debug"\n')
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text(RECORDED.read_text(errors="replace").replace("custom-xen", "debug"))

    part, steps, said = compared(probe, tmp_path / "ours.jsonl", "shadow", "PV", config, recorded)

    assert steps - explained() == set()
    assert part >= REACH, said

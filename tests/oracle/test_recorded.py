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

# Not compared (the machine's own times and sizes), or another part's work.
LEFT_OUT = ("big", "time", "manyvma", "self", "compat", "paging")
REACH = 0.95
"""Of the steps that are compared; what is asked for is 0.85."""


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


@pytest.mark.parametrize(("kind", "target"), [("hvm", "hvm-hap"), ("pv", "pv"), ("pvh", "pvh-hap")])
def test_the_recorded_answers_are_ours(probe: Path, tmp_path: Path, kind: str, target: str) -> None:
    """Nearly every step agrees, and each that does not stands on its page with the reason."""
    ours = tmp_path / "ours.jsonl"
    without = [f"-{case}" for case in LEFT_OUT]
    command = [sys.executable, "-m", "privcmdd.cli.ctl", "run", "--", str(probe), kind, str(ours), *without]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr

    cases = sorted(
        {line.split('"case":"')[1].split('"')[0] for line in RECORDED.read_text().splitlines() if '"step"' in line}
    )
    compared = [case for case in cases if case not in LEFT_OUT]
    compare = [sys.executable, str(COMPARE), str(RECORDED), str(ours), "--target", target, "-v", "--case", *compared]
    said = subprocess.run(compare, capture_output=True, text=True, check=False).stdout
    agree, differ = map(int, re.findall(r"^(\d+) passed, (\d+) failed$", said, re.MULTILINE)[-1])
    steps = {
        " | ".join(line.split(" | ")[:2]).split(": no such step")[0] for line in said.splitlines() if " | " in line
    }

    assert steps - explained() == set()
    assert agree / (agree + differ) >= REACH, said

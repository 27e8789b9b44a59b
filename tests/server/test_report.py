# SPDX-License-Identifier: Apache-2.0
"""A bug of the broker leaves a file that says what happened: private, whole or not there, and never one too many."""

from __future__ import annotations

import io
import json
import resource
import stat
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.server.logs import Log
from privcmdd.server.report import MOST_REPORTS, Reports
from support.desk import Desk
from support.process import Process
from support.rawclient import Ended, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What a bug looks like: frame 7 of a batch gets one reference too many.
PLUG_IN = """
from privcmdd.model.machine import foreign
get = foreign.get
def one_too_many(machine, domid, names, protection=None, **options):
    mfns, errors = get(machine, domid, names, protection, **options)
    if 7 in names:
        machine.frames.refs[mfns[0]] += 1
    return mfns, errors
foreign.get = one_too_many
"""


class Scene:
    """Reports in a directory, the log beside them, and a session that meets incidents."""

    def __init__(self, directory: Path) -> None:
        self.stream = io.StringIO()
        self.directory = directory
        self.reports = Reports(str(directory), Log(stream=self.stream))
        self.desk = Desk()
        self.desk.broker._on_incident = self.reports
        self.session = self.desk.connect()

    def meet(self, exception: Exception) -> str | None:
        """Meet an incident; the name of its report."""
        return self.desk.broker.report(exception, self.session)

    def lines(self) -> list[dict[str, Any]]:
        """The log."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def kinds(n: int) -> list[Exception]:
    """Faults of different kinds."""
    return [type(f"Incident{index}", (Exception,), {})("broken") for index in range(n)]


def test_a_report_is_private_and_named_in_the_log(tmp_path: Path) -> None:
    """Mode 0600 in a directory of mode 0700, no draft left, its path in the line with the traceback."""
    scene = Scene(tmp_path / "deep" / "reports")

    name = scene.meet(ValueError("boom"))

    (path,) = scene.directory.iterdir()
    assert path.name == f"{name}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(scene.directory.stat().st_mode) == 0o700
    assert json.loads(path.read_text())["incident"]["text"] == "boom"
    (line,) = scene.lines()
    assert (line["level"], line["report"]) == ("error", str(path))
    assert "ValueError: boom" in line["exception"]


def test_a_bug_that_is_met_again_and_again_costs_one_file_and_two_lines(tmp_path: Path) -> None:
    """And there is an end to the kinds of incidents that are written down."""
    scene = Scene(tmp_path)
    first = [scene.meet(ValueError(f"boom {index}")) for index in range(50)]
    assert first == first[:1] * 50
    assert len(list(tmp_path.iterdir())) == 1
    assert [line["event"] for line in scene.lines()] == ["incident", "incident again"]

    names = [scene.meet(each) for each in kinds(MOST_REPORTS + 5)]

    assert len(list(tmp_path.iterdir())) == MOST_REPORTS
    assert names[MOST_REPORTS - 1 :] == [None] * 6
    assert str(MOST_REPORTS) in scene.lines()[-1]["no_report"]


def occupied(path: Path) -> None:
    """A file where the directory should be."""
    path.write_text("in the way")


def full(path: Path) -> None:
    """A disk that takes some bytes and no more."""
    path.mkdir()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))


@pytest.mark.parametrize("breaks", [occupied, full])
def test_a_report_that_cannot_be_written_harms_nobody(tmp_path: Path, breaks: Callable[[Path], None]) -> None:
    """The line says why; nothing half written stays; when there is room again the next one is written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    scene = Scene(tmp_path / "reports")
    try:
        breaks(scene.directory)
        assert scene.meet(ValueError("boom")) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    (line,) = scene.lines()
    assert line["no_report"]
    assert "ValueError: boom" in line["exception"]
    assert not scene.directory.is_dir() or not list(scene.directory.iterdir())
    scene.reports.directory = str(tmp_path / "elsewhere")
    assert scene.meet(ValueError("boom")) is not None


def test_a_broker_with_a_bug_reports_it_and_goes_on(tmp_path: Path) -> None:
    """The client that met it learns of the report, the others learn nothing, and the broker stops as ever."""
    (tmp_path / "sitecustomize.py").write_text(PLUG_IN)
    reports = tmp_path / "reports"
    with Process(
        "--paranoid", "--set", f"server.report_dir={reports}", environ={"PYTHONPATH": str(tmp_path)}
    ) as process:
        process.ready()
        with process.client() as unlucky, process.client() as lucky:
            lucky.call("domain.create", kind="hvm", max_pages=16, dom=1)
            addr = unlucky.call("mmap", len=4096, prot=3)["addr"]
            with pytest.raises(Refused, match="EIO") as refused:
                unlucky.call("privcmd.mmapbatch_v2", dom=1, addr=addr, arr=[7])
            with pytest.raises(Ended):
                unlucky.call("ping")

            here = lucky.call("mmap", len=4096, prot=3)["addr"]
            assert lucky.call("privcmd.mmapbatch_v2", dom=1, addr=here, arr=[3])["n_failed"] == 0
            stats = lucky.call("stats")["broker"]
        code = process.stop()

        (path,) = reports.iterdir()
        report = json.loads(path.read_text())
        (line,) = [line for line in process.lines() if line["level"] == "error"]
    assert code == 0
    assert report["incident"]["law"] == "3 references are the mappings"
    assert report["request"]["params"]["arr"] == [7]
    assert line["report"] == str(path)
    assert path.stem in str(refused.value)
    assert stats["faults"] == 1
    assert all(name.startswith("3 references") for name in stats["broken"])

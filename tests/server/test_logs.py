# SPDX-License-Identifier: Apache-2.0
"""A line is for somebody: structured, bound to what it is about, said once, and never in the way."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privcmdd.server import logs
from privcmdd.server.logs import Log


class Terminal(io.StringIO):
    """Somebody watches."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The log as its readers see it."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines_are_json_where_nobody_watches() -> None:
    """One object a line, with level, time and what was said about it."""
    stream = io.StringIO()
    Log(stream=stream).info("started", sockets=["/s"])
    (line,) = lines(stream)

    assert (line["event"], line["level"], line["sockets"]) == ("started", "info", ["/s"])
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("form", "stream", "for_people"),
    [
        ("auto", Terminal(), True),
        ("auto", io.StringIO(), False),
        ("json", Terminal(), False),
        ("console", io.StringIO(), True),
    ],
)
def test_the_form_follows_the_reader_unless_it_is_said(form: str, stream: io.StringIO, for_people: bool) -> None:
    """For people on a terminal, for machines elsewhere, and as configured in any case."""
    Log(form=form, stream=stream).info("started", a=1)
    text = stream.getvalue()

    assert "started" in text
    assert text.startswith("{") is not for_people


@pytest.mark.parametrize(
    ("environ", "in_colour"),
    [({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": "", "TERM": "dumb"}, False)],
)
def test_lines_on_a_terminal_heed_no_color(
    environ: dict[str, str], in_colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of the commands: no escape sequence when NO_COLOR is set and not empty, nor on a dumb terminal."""
    for name, value in {"TERM": "xterm", **environ}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    Log(stream=stream).warning("odd", a=1)

    assert ("\x1b[" in stream.getvalue()) is in_colour


def test_lines_of_the_journal_have_priorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where JOURNAL_STREAM is our very stream, each line begins with its priority; JSON follows, as ever."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        about = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino}")
        Log(stream=stream).error("bad", exc_info=ZeroDivisionError("seven"))
        Log(form="console", stream=stream).warning("odd")
        monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino + 1}")
        Log(stream=stream).info("elsewhere")
    error, warning, elsewhere = path.read_text().splitlines()

    assert error.startswith("<3>")
    assert json.loads(error[3:])["event"] == "bad"
    assert warning.startswith("<4>")
    assert json.loads(elsewhere)["event"] == "elsewhere"


def test_lines_below_the_level_are_not_written() -> None:
    """The level can be changed while running."""
    stream = io.StringIO()
    log = Log("warning", stream=stream)
    log.info("unsaid")
    log.set_level("debug")
    log.debug("said")

    assert [line["event"] for line in lines(stream)] == ["said"]


def test_what_is_bound_is_on_each_line_and_what_is_said_wins() -> None:
    """Connection and peer come from the task, the rest from the line."""
    stream = io.StringIO()
    token = logs.bound.set({"connection": 3, "uid": 5})
    try:
        Log(stream=stream).warning("odd", uid=7)
    finally:
        logs.bound.reset(token)
    (line,) = lines(stream)

    assert (line["connection"], line["uid"]) == (3, 7)


def test_what_a_client_can_cause_is_said_once() -> None:
    """One line for each uid and reason; the rest is counted."""
    stream = io.StringIO()
    log = Log(stream=stream)
    for uid in (1, 2):
        for reason in ("a", "b"):
            for _ in range(10):
                log.once(uid, reason, "odd")

    assert [(line["uid"], line["reason"]) for line in lines(stream)] == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert log.n_suppressed == 36


def test_many_uids_do_not_fill_the_memory() -> None:
    """Beyond a bound nothing new is remembered, nor said."""
    stream = io.StringIO()
    log = Log("error", stream=stream)
    for uid in range(2 * logs.MAX_REASONS):
        log.once(uid, "a", "odd")

    assert 0 < log.n_suppressed < logs.MAX_REASONS


def test_an_incident_has_its_traceback() -> None:
    """Who is to mend it must see where it was."""
    stream = io.StringIO()
    problem = ZeroDivisionError("seven by nothing")
    Log(stream=stream).error("incident", exc_info=problem)

    assert "ZeroDivisionError: seven by nothing" in lines(stream)[0]["exception"]


def test_a_log_that_cannot_be_written_is_no_failure() -> None:
    """A full disk or a closed stream is counted, not raised."""
    stream = io.StringIO()
    log = Log(stream=stream)
    stream.close()
    log.info("started")

    assert log.n_suppressed == 1


def test_without_a_standard_error_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that was started with it closed works all the same."""
    monkeypatch.setattr(sys, "stderr", None)
    log = Log()
    log.error("unheard")

    assert log.n_suppressed == 0


def test_structlog_is_imported_for_the_first_line_only() -> None:
    """A broker is there before its log is: importing structlog takes longer than starting."""
    code = (
        "import sys; from privcmdd.server.logs import Log; Log('error').info('unsaid');"
        "assert 'structlog' not in sys.modules; Log().info('said'); assert 'structlog' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

# SPDX-License-Identifier: Apache-2.0
"""The files that others run us by agree with us."""

import configparser
import re
from pathlib import Path

import pytest

from privcmdd.cli.broker import EXIT_CODES
from privcmdd.server import config, keys, supervise

ROOT = Path(__file__).parents[2]


def unit(name: str) -> configparser.ConfigParser:
    """A systemd unit, as far as its syntax is an INI file's."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "config" / name)
    return parser


def test_the_unit_allows_more_time_than_draining_takes() -> None:
    """TimeoutStopSec, and compose's grace period, are longer than server.drain_timeout_s."""
    drain_s = config.load(environ={}).server.drain_timeout_s
    compose = (ROOT / "config" / "compose.yaml").read_text()
    grace = re.search(r"stop_grace_period: (\d+)s", compose)

    assert float(unit("privcmdd.service")["Service"]["TimeoutStopSec"].rstrip("s")) > drain_s
    assert grace is not None
    assert float(grace[1]) > drain_s


def test_the_unit_knows_our_exit_codes() -> None:
    """A wrong configuration is not started again and again; an impatient stop is no failure."""
    service = unit("privcmdd.service")["Service"]

    assert (service["RestartPreventExitStatus"], service["SuccessExitStatus"]) == ("2", "3")
    assert service["Type"] == "notify-reload"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (supervise.DRAINED, "stopped by SIGTERM"),
        (supervise.FORCED, "second signal"),
    ],
)
def test_the_exit_codes_are_the_documented_ones(code: int, says: str) -> None:
    """--help and the code say the same."""
    (line,) = [line for line in EXIT_CODES.splitlines() if line.strip().startswith(f"{code} ")]

    assert says in line


def test_all_agree_on_the_socket() -> None:
    """The unit, the image and the broker's own rule name the same path."""
    path = config.default_socket_path({})

    assert unit("privcmdd.socket")["Socket"]["ListenStream"] == path
    assert f"PRIVCMDD_SOCKET={path}" in (ROOT / "Dockerfile").read_text()


def test_the_unit_takes_the_backlog_of_the_table() -> None:
    """With systemd it is the socket unit that says it."""
    assert int(unit("privcmdd.socket")["Socket"]["Backlog"]) == keys.BY_PATH["server.backlog"].default

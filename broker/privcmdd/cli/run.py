# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl run``: its options, and what they mean to ``privcmd.run``."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import Final

from privcmdd.cli import faults, output
from privcmdd.cli.arguments import guest, of_host, seconds, setting
from privcmdd.cli.parser import wrong
from privcmdd.service.suggest import meant

_WISHES: Final = ("errors", "times")  # what PRIVCMDD_SAY takes, separated by commas: clients/c/say.h

STATUS: Final = """\
  97 run --faults=error: a rule of --fault never made anything fail
  98 run --findings=error: the program did what harms a real host in silence
  99 run --leaks=error: the program left mappings, or processes, behind; otherwise run ends as the program does
"""

ABOUT: Final = """\
Run a program that maps guest memory through libxenforeignmemory or /dev/xen/privcmd, unmodified, as if this were a
Xen host. A broker of its own is started, or with --socket an existing one is joined; the shim is preloaded; the
program's exit status, or the signal that ended it, is handed on. Mappings that it leaves behind are listed at the
end, with the request that made each, and so is what does harm on a real host, in silence
(`privcmdctl findings --help`). Processes that it leaves running are named, and ended after --linger.
Where Xen's own xenstored is installed, one runs beside the program.

With --json all that `run` itself has to say of the program is one line of JSON on standard error, the last one, and
always a line of its own (an empty one comes before it, as the program may not have ended its last line):
status, signal, leaks, findings, faults, unanswered, running. Standard output is the program's.

Programs that are statically linked or setuid cannot be preloaded into, and are refused with the reason.
"""


def options(run: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    run.add_argument("--config", metavar="FILE", help="the configuration of the broker that is started for it")
    run.add_argument(
        "--set", metavar="TABLE.KEY=VALUE", type=setting, action="append", default=[],
        help="set one key of that configuration; may be given again",
    )  # fmt: skip
    run.add_argument(
        "--host", metavar="KEY=VALUE,...", type=of_host, action="append", default=[],
        help="the host that is simulated, as xen=4.20,dom0=pvh: keys of the table host",
    )  # fmt: skip
    run.add_argument(
        "--domain", metavar="KIND:SIZE[:NAME]", type=guest, action="append", default=[],
        help="a domain to make first, as hvm:64M or hvm:64M,hole=0xa0+0x20:name; may be given again",
    )  # fmt: skip
    run.add_argument(
        "--leaks", choices=("report", "error"), default="report",
        help="how to report mappings and processes left behind: a line each, or also exit status 99",
    )  # fmt: skip
    run.add_argument(
        "--findings", choices=("report", "error", "ignore"), default="report",
        help="how to report findings: a paragraph each, also exit status 98, or nothing",
    )  # fmt: skip
    run.add_argument(
        "--faults", choices=("report", "error"), default="report",
        help="how to report a rule of --fault that never made anything fail: a line, or also exit status 97",
    )  # fmt: skip
    run.add_argument(
        "--xenstore", action=argparse.BooleanOptionalAction,
        help="run Xen's xenstored beside the program, or do not (default: where it is installed and XENSTORED_RUNDIR "
        "names no other)",
    )  # fmt: skip
    run.add_argument(
        "--qemu", metavar="ARGUMENTS", type=shlex.split,
        help="run QEMU's Xen device model for the first hvm domain, with these arguments as well, and wait until it is "
        "running; as --qemu='-drive file=disk.img,if=ide,format=raw'",
    )  # fmt: skip
    run.add_argument(
        "--fault", metavar="SPEC", type=faults.rule_of, action="append", default=[],
        help=f"make requests or frames of the program fail: {faults.SPEC}; may be given again",
    )  # fmt: skip
    run.add_argument(
        "--linger", metavar="SECONDS", type=seconds, default=5.0,
        help="how long what the program leaves running may go on before it is ended (default: 5)",
    )  # fmt: skip
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...", help="what to run")


def perform(parsed: argparse.Namespace) -> int:
    """Run the program. Returns its exit status, or one of ours."""
    from privcmd import run  # noqa: PLC0415 - no other command needs it

    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not command:
        return wrong("nothing to run: privcmdctl run [OPTIONS] -- PROGRAM ARGUMENTS", as_json=parsed.json)
    for wish in filter(None, os.environ.get("PRIVCMDD_SAY", "").split(",")):
        if wish not in _WISHES:
            there = " or ".join(_WISHES)
            return wrong(
                f"PRIVCMDD_SAY is {wish!r}, expected {there}, or both{meant(wish, _WISHES)}", as_json=parsed.json
            )
    config = None
    settings = [*parsed.set, *(one for each in parsed.host for one in each)]
    if parsed.socket is not None and (parsed.config is not None or settings):
        return wrong(
            "--config, --set and --host are for the broker that run starts: leave out --socket", as_json=parsed.json
        )
    if parsed.config is not None or settings:
        from privcmdd.server.config import ConfigError, load  # noqa: PLC0415 - no other command needs it

        try:  # a mistake in the configuration is wrong usage, so it is found before the broker starts
            flags = [(one.partition("=")[0], one.partition("=")[2]) for one in settings]
            load(parsed.config, environ={}, flags=flags)
        except ConfigError as error:
            return wrong(str(error), as_json=parsed.json)
        if parsed.config is not None:
            config = Path(parsed.config).read_text(encoding="utf-8")
    if not parsed.json:
        _say_ignored()
    return run.run(
        run.Options(
            command,
            parsed.socket,
            config,
            parsed.domain,
            parsed.leaks,
            parsed.xenstore,
            faults=parsed.fault,
            findings=parsed.findings,
            never_fired=parsed.faults,
            as_json=parsed.json,
            device_model=parsed.qemu,
            settings=settings,
            linger_s=parsed.linger,
        )
    )


def _say_ignored() -> None:
    """Say which variables of the environment configure `privcmdd serve` and not the broker of a run."""
    ignored = sorted(name for name in os.environ if name == "PRIVCMDD_PARANOID" or re.match(r"PRIVCMDD_\w+__", name))
    if ignored:
        verb = "is" if len(ignored) == 1 else "are"
        output.complain(f"{', '.join(ignored)} {verb} ignored by run: use --config, --set or --host")

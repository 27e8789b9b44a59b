# SPDX-License-Identifier: Apache-2.0
"""The command ``privcmdctl``: looks at a broker and its domains, and makes them."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import math
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import privcmd
from privcmd.run import unanswered
from privcmdd import __version__
from privcmdd.cli import faults, findings, output
from privcmdd.cli.arguments import domain, guest, memory, number, of_host, setting, span, utf8
from privcmdd.cli.parser import USAGE_STATUS, Parser
from privcmdd.cli.streams import guarded
from privcmdd.service.suggest import meant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmd import Client, DomainInfo, MapEntry

TIMEOUT_S = 30.0
"""How long to wait for the broker by default; it may be busy with batches of a million frames."""
NOT_READY_STATUS = 4
"""Exit status of ``health`` when the broker answers and takes no new clients."""

_PAGE = privcmd.PAGE_SIZE
_WISHES = ("errors", "times")  # what PRIVCMDD_SAY takes, separated by commas: clients/c/say.h

_ABOUT = """\
Look at a privcmdd broker and its simulated domains, make and destroy domains, and see the whole at work.

The broker's socket is --socket, else $PRIVCMDD_SOCKET, else $XDG_RUNTIME_DIR/privcmdd/broker.sock, or
/run/privcmdd/broker.sock when only that is there. With --json a command prints one JSON document, and
nothing else, to standard output. Errors are sentences on standard error, or with --json one line of
JSON there: {"error": {"errno": 3, "name": "ESRCH", "text": ..., "details": ...}}.
"""

_STATUS = """\
exit status:
  0  done
  1  the broker refused (the sentence on standard error begins with the errno's name), a check of the
     demonstration failed, or the output could not be written
  2  wrong usage: nothing was asked of the broker
  3  no broker answers there, or it went away
"""
_RUN_STATUS = """\
  97 run --faults=error: a rule of --fault never made anything fail
  98 run --findings=error: the program did what harms a real host in silence
  99 run --leaks=error: the program left mappings, or processes, behind; otherwise run ends as the program does
"""
_HEALTH_STATUS = """\
  4  health: the broker is draining
"""
_EXAMPLES = {
    "": """\
  privcmdctl ping && echo it runs
  privcmdctl domain create --kind hvm --memory 64M --hole 0xa0+0x20 --name guest
  privcmdctl run --domain hvm:64M -- xl list
  privcmdctl demo /usr/bin/ls
""",
    "health": "  privcmdctl health --timeout 5\n  privcmdctl health --live\n",
    "ping": "  privcmdctl ping && echo it runs\n",
    "domain": "  privcmdctl domain create --memory 64M && privcmdctl domain list\n",
    "domain create": "  privcmdctl domain create --kind hvm --memory 64M --hole 0xa0+0x20 --name guest\n",
    "domain list": "  privcmdctl domain list --json | jq '.domains[] | select(.state == \"dying\")'\n",
    "domain info": "  privcmdctl domain info 1 --frames 0x98+0x30\n  privcmdctl domain info guest\n",
    "demo": "  privcmdctl demo /usr/bin/ls\n",
    "spaces": "  privcmdctl spaces --dom guest\n",
    "explain": "  privcmdctl explain frame-bits-lost\n  privcmdctl explain EDQUOT\n",
    "stats": "  privcmdctl stats --json | jq .mappings\n",
    "run": """\
  privcmdctl run --domain hvm:64M -- xl list
  privcmdctl run --domain hvm:64M --leaks=error --findings=error -- ./device-model 1
""",
}

_MAPS = """\
Print the map entries of an address space: one line for each, in order of address.

A command has an address space of its own, with nothing in it; so name the space to look at. `space.attach`
answers the number to the program that has it (client.attach() in Python); the broker lets any process of
the same uid join. The columns: file (anon or privcmd), prot and max (rwx), inherit (what a fork's child
gets), object, domain, wired count, present pages and failed pages.
"""

_HEALTH = """\
Tell a supervisor or a probe how the broker is. It is live when it answers, and ready when it takes new clients;
after the signal to stop it is draining: it answers what has arrived, and then ends.
"""

_SPACES = """\
List who maps what: one line for each address space and each domain whose frames it has mapped.

One sees the spaces of one's own uid; who may administer all domains sees all. The columns: the process that made
the space and the name that it gave itself, the connections that are its threads, the map entries with frames of the
domain, and their pages: those that are mapped, those of them that can be written, and those whose frame failed.
`privcmdctl maps --space N` has the entries one by one.
"""

_EXPLAIN = """\
Print what the documentation says of a finding, of an errno (its name or number), or with `hypercalls` of all operations
of Xen's that are answered. Without ID, list what can be explained. No broker is needed.
"""

_RUN = """\
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

_CREATE = """\
Make a domain and give it memory.

--memory is the memory it gets. It lies from gfn 0 upwards, and jumps over each --hole, as the memory of a
real HVM guest jumps over its MMIO space. Sizes take K, M, G (of 1024); gfns and page counts are decimal,
or hexadecimal with 0x.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status."""
    return guarded("privcmdctl", lambda: _main(sys.argv[1:] if arguments is None else arguments))


def _main(arguments: Sequence[str]) -> int:
    if not arguments:
        command_line().print_help(sys.stderr)
        return USAGE_STATUS
    parsed = command_line().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except privcmd.PrivcmdError as error:
        if parsed.json:
            output.complain_as_json(error.errno or 0, error.name, error.text, error.details)
        else:
            output.complain(str(error))
        return 3 if isinstance(error, (privcmd.NoBroker, privcmd.BrokerGone, privcmd.NoAnswer)) else 1


# --- commands ---------------------------------------------------------------------------------------------


def _ping(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        start = time.perf_counter()
        instance = client.ping()
        took_us = round((time.perf_counter() - start) * 1e6)
        _show(
            parsed,
            {"instance": instance, "path": client.path, "round_trip_us": took_us},
            f"broker {instance} answers at {client.path} ({took_us} us)",
        )
    return 0


def _health(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        health = client.health()
    _show(parsed, {"live": True, **dataclasses.asdict(health)}, f"{health.state}; clients: {health.connections}")
    return 0 if parsed.live or health.state == "ready" else NOT_READY_STATUS


def _create(parsed: argparse.Namespace) -> int:
    n_pages = parsed.memory // _PAGE
    most = n_pages if parsed.max_memory is None else parsed.max_memory // _PAGE
    from privcmd.run.host import around  # noqa: PLC0415 - no other command needs it

    ranges = around(n_pages, parsed.hole)
    with _client(parsed) as client:
        dom = client.domains.create(parsed.kind, most, ranges=ranges, dom=parsed.dom, name=parsed.name)
        info = client.domains.info(dom)
    n_holes = len(parsed.hole)
    holes = f", around {n_holes} hole{'s' * (n_holes > 1)}" if n_holes else ""
    _show(
        parsed,
        _row(info),
        f"domain {dom} ({info.kind}) has {output.size(info.tot_pages * _PAGE)} in {info.tot_pages} pages{holes}",
    )
    return 0


def _list(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        domains = client.domains.list()
    rows = [
        (d.dom, d.name or "-", d.kind, d.state, output.size(d.tot_pages * _PAGE), d.tot_pages, d.max_pages)
        for d in domains
    ]
    headings = ("domain", "name", "kind", "state", "memory", "pages", "max pages")
    text = output.table(headings, rows, left=("name", "kind", "state")) if rows else "no domains"
    _show(parsed, {"domains": [dataclasses.asdict(domain) for domain in domains]}, text)
    return 0


def _destroy(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        dom = _domid(client, parsed.dom)
        state = client.domains.destroy(dom)
        text = f"domain {dom} is {state}"
        if state == "dying":
            held = client.domains.info(dom).held_pages
            text += f": {held} pages of it are still mapped; it goes when the last of them is unmapped"
    _show(parsed, {"dom": dom, "state": state}, text)
    return 0


def _info(parsed: argparse.Namespace) -> int:
    start, num = parsed.frames if parsed.frames is not None else (0, None)
    with _client(parsed) as client:
        info = client.domains.info(_domid(client, parsed.dom), start=start, num=num)
    text = output.facts(
        (
            ("domain", info.dom),
            ("name", info.name or "-"),
            ("kind", info.kind),
            ("state", info.state),
            ("memory", f"{output.size(info.tot_pages * _PAGE)} in {info.tot_pages} pages"),
            ("at most", f"{info.max_pages} pages"),
            ("held", f"{info.held_pages} pages"),
            ("gfn limit", f"{info.gfn_limit:#x}"),
        )
    )
    if info.frames is not None:
        rows = [
            (f"{at:#x}", f"{n:#x}", "hole" if name == privcmd.HOLE else f"{name:#x}")
            for at, n, name in _spans(start, info.frames)
        ]
        text += "\n\n" + output.table(("position", "pages", "frames from"), rows)
    _show(parsed, {**_row(info), "frames": None if info.frames is None else list(info.frames)}, text)
    return 0


def _maps(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        client.attach(parsed.space)
        entries = client.maps()
    headings = (
        "start", "end", "pages", "file", "prot", "max", "inherit", "object", "domain", "wired", "present", "failed",
    )  # fmt: skip
    rows = [_entry(entry) for entry in entries]
    text = output.table(headings, rows, left=("file", "prot", "max", "inherit"))
    shown = {"space": parsed.space, "entries": [dataclasses.asdict(entry) for entry in entries]}
    _show(parsed, shown, text if rows else f"space {parsed.space} has no entries")
    return 0


def _spaces(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        dom = None if parsed.dom is None else _domid(client, parsed.dom)
        spaces = client.spaces(dom=dom)
    headings = (
        "space", "uid", "pid", "client", "personality", "threads", "domain", "entries", "present", "writable", "failed",
    )  # fmt: skip
    rows = [tuple("-" if value in (None, "") else value for value in dataclasses.astuple(space)) for space in spaces]
    nobody = "no address spaces" if dom is None else f"nobody maps domain {dom}"
    text = output.table(headings, rows, left=("client", "personality")) if rows else nobody
    _show(parsed, {"spaces": [dataclasses.asdict(space) for space in spaces]}, text)
    return 0


def _stats(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        stats = client.stats()
    if parsed.unanswered:
        counts = unanswered.most_often(stats["broker"]["unanswered"])
        text = output.table(("asked for", "times"), counts.items(), left=("asked for",))
        _show(parsed, {"unanswered": counts}, text if counts else "the broker has answered all that programs asked for")
    else:
        _show(parsed, stats, output.tree(stats))
    return 0


def _findings(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        _show(parsed, *findings.listed(client, clear=parsed.clear))
    return 0


def _explain(parsed: argparse.Namespace) -> int:
    from privcmd.run import explain  # noqa: PLC0415 - no other command needs it

    there = explain.everything()
    if parsed.id is None:
        _show(parsed, {"ids": list(there)}, "\n".join(there))
        return 0
    name = explain.called(parsed.id)
    if name not in there:
        hint = meant(name, there) or "; `privcmdctl explain` lists what can be explained"
        return _wrong(parsed, f"nothing is written about {parsed.id!r}{hint}")
    _show(parsed, {"id": name, "text": there[name]}, f"{name}\n\n{there[name]}")
    return 0


def _fault_add(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        _show(parsed, *faults.add(client, parsed))
    return 0


def _fault_list(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        _show(parsed, *faults.listed(client))
    return 0


def _fault_clear(parsed: argparse.Namespace) -> int:
    with _client(parsed) as client:
        _show(parsed, *faults.clear(client, parsed.rule))
    return 0


def _demo(parsed: argparse.Namespace) -> int:
    from privcmd.demo import demonstrate  # noqa: PLC0415 - only this command needs it

    return demonstrate(parsed.file, as_json=parsed.json, colour=output.coloured(sys.stdout))


# --- parts ------------------------------------------------------------------------------------------------


def _client(parsed: argparse.Namespace) -> Client:
    return privcmd.Client(parsed.socket, timeout_s=parsed.timeout)


def _domid(client: Client, named: int | str) -> int:
    """The number of a domain that is given by number or by name.

    Raises:
        PrivcmdError: ESRCH, no domain that the caller has a right to has this name; EEXIST, several have it.
    """
    if isinstance(named, int):
        return named
    domains = client.domains.list()
    found = [domain.dom for domain in domains if domain.name == named]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ", ".join(map(str, found))
        raise privcmd.PrivcmdError(errno.EEXIST, f"domains {numbers} are all called {named!r}; give the number")
    hint = meant(named, [domain.name for domain in domains])
    raise privcmd.PrivcmdError(errno.ESRCH, f"there is no domain called {named!r}{hint}")


def _wrong(parsed: argparse.Namespace, text: str) -> int:
    """Say what is wrong with the usage. Returns the exit status for wrong usage."""
    if parsed.json:
        output.complain_as_json(errno.EINVAL, "EINVAL", text)
    else:
        output.complain(text)
    return USAGE_STATUS


def _show(parsed: argparse.Namespace, value: Any, text: str) -> None:
    print(output.as_json(value) if parsed.json else text, flush=True)


def _row(info: DomainInfo) -> dict[str, Any]:
    row = dataclasses.asdict(dataclasses.replace(info, frames=None))
    del row["frames"]
    return row


def _entry(entry: MapEntry) -> tuple[object, ...]:
    return (
        f"{entry.start:#014x}",
        f"{entry.end:#014x}",
        (entry.end - entry.start) // _PAGE,
        entry.file if entry.file is not None else "-",
        _letters(entry.prot),
        _letters(entry.max_prot),
        entry.inherit,
        entry.object if entry.object is not None else "-",
        entry.dom if entry.dom is not None else "-",
        entry.wired,
        entry.present,
        entry.failed,
    )


def _letters(prot: int) -> str:
    return "".join(letter if prot & bit else "-" for letter, bit in (("r", 1), ("w", 2), ("x", 4)))


def _spans(start: int, frames: Sequence[int]) -> list[tuple[int, int, int]]:
    """Runs of consecutive frame numbers, and of holes, as (position, pages, first frame number)."""
    spans: list[tuple[int, int, int]] = []
    for at, frame in enumerate(frames, start):
        if spans:
            first, n, first_frame = spans[-1]
            if frame == (privcmd.HOLE if first_frame == privcmd.HOLE else first_frame + n):
                spans[-1] = (first, n + 1, first_frame)
                continue
        spans.append((at, 1, frame))
    return spans


def _seconds(text: str) -> float:
    """A time that is not negative."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, as 5 or 0.5")
    return value


def _run(parsed: argparse.Namespace) -> int:
    from privcmd import run  # noqa: PLC0415 - no other command needs it

    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not command:
        return _wrong(parsed, "nothing to run: privcmdctl run [OPTIONS] -- PROGRAM ARGUMENTS")
    for wish in filter(None, os.environ.get("PRIVCMDD_SAY", "").split(",")):
        if wish not in _WISHES:
            there = " or ".join(_WISHES)
            return _wrong(parsed, f"PRIVCMDD_SAY is {wish!r}, expected {there}, or both{meant(wish, _WISHES)}")
    config = None
    settings = [*parsed.set, *(one for each in parsed.host for one in each)]
    if parsed.socket is not None and (parsed.config is not None or settings):
        return _wrong(parsed, "--config, --set and --host are for the broker that run starts: leave out --socket")
    if parsed.config is not None or settings:
        from privcmdd.server.config import ConfigError, load  # noqa: PLC0415 - no other command needs it

        try:  # a mistake in the configuration is wrong usage, so it is found before the broker starts
            flags = [(one.partition("=")[0], one.partition("=")[2]) for one in settings]
            load(parsed.config, environ={}, flags=flags)
        except ConfigError as error:
            return _wrong(parsed, str(error))
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


# --- arguments --------------------------------------------------------------------------------------------


def _common(*, outermost: bool) -> argparse.ArgumentParser:
    """The options that may stand before or after the command. After it they have no defaults, to keep those before."""
    default: dict[str, Any] = {} if outermost else {"argument_default": argparse.SUPPRESS}
    common = argparse.ArgumentParser(add_help=False, **default)
    common.add_argument("--socket", metavar="PATH", help="the broker's socket")
    common.add_argument("--json", action="store_true", help="one JSON document instead of text")
    common.add_argument(
        "--timeout", metavar="S", type=float, help=f"seconds to wait for the broker (default {TIMEOUT_S:g})"
    )
    if outermost:
        common.set_defaults(timeout=TIMEOUT_S)
    return common


def _epilog(path: str) -> str:
    """The end of a command's help: its exit statuses and its own examples."""
    own = {"run": _RUN_STATUS, "health": _HEALTH_STATUS, "": _HEALTH_STATUS + _RUN_STATUS}
    status = _STATUS + own.get(path, "")
    return f"{status}\nexamples:\n{_EXAMPLES[path]}" if path in _EXAMPLES else status


def command_line() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = Parser(prog="privcmdctl", description=_ABOUT, epilog=_epilog(""), parents=[_common(outermost=True)])
    parser.add_argument("--version", action="version", version=f"privcmdctl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def group(name: str, text: str) -> Any:
        parent = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_epilog(name)
        )
        return parent.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(under: Any, name: str, run: Any, text: str, about: str | None = None) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = under.add_parser(
            name, help=text, description=about or text[0].upper() + text[1:] + ".", parents=[_common(outermost=False)]
        )
        command.epilog = _epilog(command.prog.partition(" ")[2])
        command.set_defaults(run=run)
        return command

    add(commands, "ping", _ping, "ask whether the broker answers, and how fast")
    health = add(commands, "health", _health, "tell whether the broker is live, ready or draining", _HEALTH)
    health.add_argument("--live", action="store_true", help="succeed while it answers at all, draining too")
    domains = group("domain", "make, list, look at and destroy domains")
    create = add(domains, "create", _create, "make a domain and give it memory", _CREATE)
    create.add_argument("--kind", choices=("pv", "hvm", "pvh"), default="hvm", help="default: hvm")
    create.add_argument("--memory", metavar="SIZE", type=memory, required=True, help="what it gets, as 64M")
    create.add_argument(
        "--max-memory", metavar="SIZE", type=memory, help="the most it may ever have (default: --memory)"
    )
    create.add_argument(
        "--hole", metavar="GFN+PAGES", type=span, action="append", default=[],
        help="gfns without memory, as 0xa0+0x20; may be given again",
    )  # fmt: skip
    create.add_argument("--name", type=utf8, help="a name, for people")
    create.add_argument("--dom", metavar="DOMID", type=number, help="its domid (default: the next free)")
    add(domains, "list", _list, "list the domains that you have a right to")
    destroy = add(domains, "destroy", _destroy, "end a domain; it is dying until nothing maps it any more")
    destroy.add_argument("dom", metavar="DOMID", type=domain, help="its number or its name")
    info = add(domains, "info", _info, "look at one domain")
    info.add_argument("dom", metavar="DOMID", type=domain, help="its number or its name")
    info.add_argument(
        "--frames", metavar="FIRST+PAGES", type=span, help="also the frames at these positions of its p2m"
    )
    maps = add(commands, "maps", _maps, "print the map entries of an address space", _MAPS)
    maps.add_argument("--space", metavar="N", type=number, required=True, help="the address space")
    spaces = add(commands, "spaces", _spaces, "list who maps what", _SPACES)
    spaces.add_argument("--dom", metavar="DOMID", type=domain, help="only mappings of this domain: number or name")
    stats = add(commands, "stats", _stats, "print the broker's counters")
    stats.add_argument(
        "--unanswered", action="store_true",
        help="only the operations of Xen that programs asked for and that the broker does not have, by name",
    )  # fmt: skip
    found = add(commands, "findings", _findings, "list what does harm on a real host, in silence", findings.ABOUT)
    found.add_argument("--clear", action="store_true", help="forget them afterwards")
    explained = add(commands, "explain", _explain, "print the page about a finding or an errno", _EXPLAIN)
    explained.add_argument("id", metavar="ID", nargs="?", help="as frame-bits-lost, EFAULT, 14 or hypercalls")
    rules = group("fault", "make requests and frames fail on demand")
    faults.options(add(rules, "add", _fault_add, "add a rule", faults.ABOUT))
    add(rules, "list", _fault_list, "list the rules, and how often each has fired")
    cleared = add(rules, "clear", _fault_clear, "end a rule, or all of them")
    cleared.add_argument("rule", metavar="RULE", type=number, nargs="?", help="its number (default: all)")
    _run_options(add(commands, "run", _run, "run an unmodified Xen program on a simulated host", _RUN))
    demo = add(commands, "demo", _demo, "start a broker and device models, and check what they promise, step by step")
    demo.add_argument("file", metavar="FILE", nargs="?", help="a file to load into guest memory (default: this Python)")
    return parser


def _run_options(run: argparse.ArgumentParser) -> None:
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
        "--linger", metavar="SECONDS", type=_seconds, default=5.0,
        help="how long what the program leaves running may go on before it is ended (default: 5)",
    )  # fmt: skip
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...", help="what to run")


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""The command ``privcmdctl``: looks at a broker and its domains, and makes them."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import sys
import time
from typing import TYPE_CHECKING, Any

import privcmd
from privcmd.run import unanswered
from privcmdd import __version__
from privcmdd.cli import faults, findings, output, run
from privcmdd.cli.arguments import domain, memory, number, span, utf8
from privcmdd.cli.parser import USAGE_STATUS, Parser, wrong
from privcmdd.cli.streams import guarded
from privcmdd.server.logs import coloured
from privcmdd.service.suggest import meant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmd import Client, DomainInfo, MapEntry

TIMEOUT_S = 30.0
"""How long to wait for the broker by default; it may be busy with batches of a million frames."""
NOT_READY_STATUS = 4
"""Exit status of ``health`` when the broker answers and takes no new clients."""

_PAGE = privcmd.PAGE_SIZE

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
        return wrong(f"nothing is written about {parsed.id!r}{hint}", as_json=parsed.json)
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

    return demonstrate(parsed.file, as_json=parsed.json, colour=coloured(sys.stdout))


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
    own = {"run": run.STATUS, "health": _HEALTH_STATUS, "": _HEALTH_STATUS + run.STATUS}
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
    run.options(add(commands, "run", run.perform, "run an unmodified Xen program on a simulated host", run.ABOUT))
    demo = add(commands, "demo", _demo, "start a broker and device models, and check what they promise, step by step")
    demo.add_argument("file", metavar="FILE", nargs="?", help="a file to load into guest memory (default: this Python)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

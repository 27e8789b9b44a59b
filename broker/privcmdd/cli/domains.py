# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl domain``: makes domains, lists them, looks at them and destroys them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import privcmd
from privcmd.run._guests import around
from privcmdd.cli import output
from privcmdd.cli.arguments import domain, memory, number, span, utf8
from privcmdd.cli.asking import client_of, domid, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from privcmd import DomainInfo
    from privcmdd.cli.commands import Commands

_PAGE: Final = privcmd.PAGE_SIZE
_CREATE = """\
Make a domain and give it memory.

--memory is the memory it gets. It lies from gfn 0 upwards, and jumps over each --hole, as the memory of a
real HVM guest jumps over its MMIO space. Sizes take K, M, G (of 1024); gfns and page counts are decimal,
or hexadecimal with 0x.
"""


def _create(parsed: argparse.Namespace) -> int:
    n_pages = parsed.memory // _PAGE
    most = n_pages if parsed.max_memory is None else parsed.max_memory // _PAGE
    ranges = around(n_pages, parsed.hole)
    with client_of(parsed) as client:
        dom = client.domains.create(
            parsed.kind, most, ranges=ranges, dom=parsed.dom, name=parsed.name, until=parsed.until, ttl_s=parsed.ttl
        )
        info = client.domains.info(dom)
    n_holes = len(parsed.hole)
    holes = f", around {n_holes} hole{'s' * (n_holes > 1)}" if n_holes else ""
    show(
        parsed,
        _row(info),
        f"domain {dom} ({info.kind}) has {output.size(info.tot_pages * _PAGE)} in {info.tot_pages} pages{holes}",
    )
    return 0


def _list(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        domains = client.domains.list()
    rows = [
        (d.dom, d.name or "-", d.kind, d.state, output.size(d.tot_pages * _PAGE), d.tot_pages, d.max_pages)
        for d in domains
    ]
    headings = ("domain", "name", "kind", "state", "memory", "pages", "max pages")
    text = output.table(headings, rows, left=("name", "kind", "state")) if rows else "no domains"
    show(parsed, {"domains": [dataclasses.asdict(domain) for domain in domains]}, text)
    return 0


def _destroy(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        dom = domid(client, parsed.dom)
        state = client.domains.destroy(dom)
        text = f"domain {dom} is {state}"
        if state == "dying":
            held = client.domains.info(dom).held_pages
            text += f": {held} pages of it are still mapped; it goes when the last of them is unmapped"
    show(parsed, {"dom": dom, "state": state}, text)
    return 0


def _info(parsed: argparse.Namespace) -> int:
    start, num = parsed.frames if parsed.frames is not None else (0, None)
    with client_of(parsed) as client:
        info = client.domains.info(domid(client, parsed.dom), start=start, num=num)
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
            *_lease(info.lease),
        )
    )
    if info.frames is not None:
        rows = [
            (f"{at:#x}", f"{n:#x}", "hole" if name == privcmd.HOLE else f"{name:#x}")
            for at, n, name in _spans(start, info.frames)
        ]
        text += "\n\n" + output.table(("position", "pages", "frames from"), rows)
    show(parsed, {**_row(info), "frames": None if info.frames is None else list(info.frames)}, text)
    return 0


def _lease(lease: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Who a domain was made for, since when and until when; nothing when that is not known."""
    if lease is None:
        return []
    client = f" ({lease['client']})" if lease["client"] else ""
    ends = {"connection": f"connection {lease['connection']} ends", "job": f"job {lease['job']} ends"}
    return [
        ("made by", f"process {lease['pid']}{client} of uid {lease['uid']}"),
        ("by", f"{lease['method']} (request {lease['request']} of its connection)"),
        *([("in job", lease["job"])] if lease["job"] else []),
        ("since", output.since(lease["age_s"])),
        ("until", ends.get(lease["until"], "it is destroyed")),
        *([] if lease["ttl_s"] is None else [("ends in", f"{lease['ttl_s']} s")]),
    ]


def _row(info: DomainInfo) -> dict[str, Any]:
    row = dataclasses.asdict(dataclasses.replace(info, frames=None))
    del row["frames"]
    return row


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


def add(commands: Commands) -> None:
    """Add the commands."""
    domains = commands.group(
        "domain", "make, list, look at and destroy domains",
        examples="  privcmdctl domain create --memory 64M && privcmdctl domain list\n",
    )  # fmt: skip
    create = domains.add(
        "create", _create, "make a domain and give it memory", _CREATE,
        examples="  privcmdctl domain create --kind hvm --memory 64M --hole 0xa0+0x20 --name guest\n",
    )  # fmt: skip
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
    create.add_argument(
        "--until", choices=("job", "destroyed"),
        help="what it is destroyed with: the job, or `domain destroy` alone (default: its job, if it has one)",
    )  # fmt: skip
    create.add_argument("--ttl", metavar="SECONDS", type=number, help="destroy it after so many seconds in any case")
    domains.add(
        "list", _list, "list the domains that you have a right to",
        examples="  privcmdctl domain list --json | jq '.domains[] | select(.state == \"dying\")'\n",
    )  # fmt: skip
    destroy = domains.add("destroy", _destroy, "end a domain; it is dying until nothing maps it any more")
    destroy.add_argument("dom", metavar="DOMID", type=domain, help="its number or its name")
    info = domains.add(
        "info", _info, "look at one domain",
        examples="  privcmdctl domain info 1 --frames 0x98+0x30\n  privcmdctl domain info guest\n",
    )  # fmt: skip
    info.add_argument("dom", metavar="DOMID", type=domain, help="its number or its name")
    info.add_argument(
        "--frames", metavar="FIRST+PAGES", type=span, help="also the frames at these positions of its p2m"
    )

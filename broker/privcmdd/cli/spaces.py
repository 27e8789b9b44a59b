# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl maps`` and ``spaces``: address spaces, and who maps what."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import privcmd
from privcmdd.cli import output
from privcmdd.cli.arguments import domain, number
from privcmdd.cli.asking import client_of, domid, show

if TYPE_CHECKING:
    import argparse

    from privcmd import MapEntry
    from privcmdd.cli.commands import Commands

_PAGE: Final = privcmd.PAGE_SIZE
_MAPS = """\
Print the map entries of an address space: one line for each, in order of address.

A command has an address space of its own, with nothing in it; so name the space to look at. `space.attach`
answers the number to the program that has it (client.attach() in Python); the broker lets any process of
the same uid join. The columns: file (anon or privcmd), prot and max (rwx), inherit (what a fork's child
gets), object, domain, wired count, present pages and failed pages.
"""
_SPACES = """\
List who maps what: one line for each address space and each domain whose frames it has mapped.

One sees the spaces of one's own uid, or in a job (`privcmdctl jobs --help`) those of the job; outside, who may
administer all domains sees all. The columns: the process that made the space and the name that it gave itself, its job,
the connections that are its threads, the map entries with frames of the domain, and their pages: those that are mapped,
those of them that can be written, and those whose frame failed.
`privcmdctl maps --space N` has the entries one by one.
"""


def _maps(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        client.attach(parsed.space)
        entries = client.maps()
    headings = (
        "start", "end", "pages", "file", "prot", "max", "inherit", "object", "domain", "wired", "present", "failed",
    )  # fmt: skip
    rows = [_entry(entry) for entry in entries]
    text = output.table(headings, rows, left=("file", "prot", "max", "inherit"))
    shown = {"space": parsed.space, "entries": [dataclasses.asdict(entry) for entry in entries]}
    show(parsed, shown, text if rows else f"space {parsed.space} has no entries")
    return 0


def _spaces(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        dom = None if parsed.dom is None else domid(client, parsed.dom)
        spaces = client.spaces(dom=dom)
    headings = (
        "space", "uid", "pid", "client", "job", "personality", "threads", "domain", "entries", "present", "writable",
        "failed",
    )  # fmt: skip
    rows = [tuple("-" if value in (None, "") else value for value in dataclasses.astuple(space)) for space in spaces]
    nobody = "no address spaces" if dom is None else f"nobody maps domain {dom}"
    text = output.table(headings, rows, left=("client", "job", "personality")) if rows else nobody
    show(parsed, {"spaces": [dataclasses.asdict(space) for space in spaces]}, text)
    return 0


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


def add_maps(commands: Commands) -> None:
    """Add the command."""
    maps = commands.add("maps", _maps, "print the map entries of an address space", _MAPS)
    maps.add_argument("--space", metavar="N", type=number, required=True, help="the address space")


def add_spaces(commands: Commands) -> None:
    """Add the command."""
    spaces = commands.add(
        "spaces", _spaces, "list who maps what", _SPACES, examples="  privcmdctl spaces --dom guest\n"
    )
    spaces.add_argument("--dom", metavar="DOMID", type=domain, help="only mappings of this domain: number or name")

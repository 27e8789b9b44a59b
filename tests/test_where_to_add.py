# SPDX-License-Identifier: Apache-2.0
"""The page "Where to add" is true: its lists are as long as it says, and what they promise to make is made."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tables

from privcmdd.model.findings import FindingKind
from privcmdd.server.keys import KEYS
from privcmdd.service.hypercalls.dm_op import REQUESTS
from privcmdd.service.hypercalls.hypercall import TABLE
from privcmdd.service.hypercalls.names import NAMES, named
from privcmdd.wire.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/explanation/where-to-add.md").read_text(encoding="utf-8")
LISTS = {
    f"a{heading[1:]}": re.findall(r"^\| (\[`.*) \| .* \|$", text, re.MULTILINE)
    for heading, text in re.findall(r"^## (An? [^\n]*)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
}
COUNTS = {
    what: (int(before), int(now))
    for what, before, now in re.findall(r"^\| (an? .*) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
}
NAMED = [name for files in LISTS.values() for file in files for name in re.findall(r"`([\w/.]+/[\w.]*)`", file)]


def test_lists_are_as_long_as_the_page_says() -> None:
    """Law: there is a list for each thing, with as many files as its count, and fewer than there were."""
    assert {what: len(files) for what, files in LISTS.items()} == {what: now for what, (_, now) in COUNTS.items()}
    assert all(now < before for before, now in COUNTS.values())
    assert len(COUNTS) == 6


@pytest.mark.parametrize("name", NAMED)
def test_files_of_the_lists_are_there(name: str) -> None:
    """Law: what is to be changed exists, under the name that is shown."""
    assert (ROOT / name).exists()


def test_every_row_of_the_table_has_an_example() -> None:
    """Law: a method without one has no vectors, and none has one that is gone."""
    examples = json.loads((ROOT / "clients/protocol/examples.json").read_text(encoding="utf-8"))

    assert set(examples) == set(METHODS)


def test_each_table_is_written_from_what_is_done() -> None:
    """Law: one more operation, kind or key is one more row, and needs no word elsewhere."""
    assert set(tables.answered()["dm_op"]) == set(REQUESTS)
    assert {NAMES["hypercall"][number] for number in TABLE} >= tables.answered().keys() - {"dm_op"}
    page = tables.files()
    of_page = page[ROOT / "docs/reference/hypercalls.md"]
    for hypercall, operations in tables.answered().items():
        rows = (f"| `{named(hypercall, number).removeprefix(f'{hypercall} ')}` ({number}) |" for number in operations)
        assert all(row in of_page for row in rows), hypercall
    assert all(f"`{NAMES['hypercall'][number]}` ({number})" in of_page for number in TABLE)
    assert all(f"(#{kind}) | {kind.summary} |" in page[ROOT / "docs/reference/findings.md"] for kind in FindingKind)
    assert all(f"| `{key.name}` | " in page[ROOT / "docs/reference/configuration.md"] for key in KEYS)
    assert all(f"\n{key.name} = " in page[ROOT / "config/privcmdd.toml"] for key in KEYS)

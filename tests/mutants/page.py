# SPDX-License-Identifier: Apache-2.0
"""The page of mutants, made from their headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mutants.patches import ROOT
from privcmdd.model import invariants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mutants.patches import Mutant

PAGE = ROOT / "docs/explanation/mutants.md"
HEAD = """# Mutants

A test that cannot fail proves nothing. So the tests are tested: a *mutant* is a small patch that plants one bug in our
code, of a kind that did happen in Xen, in the privcmd drivers of Linux and NetBSD, or in brokers like this one. The
suite has to notice every one of them.

```console
$ make mutants
```

The command plants each mutant in a copy of the tree, and runs there the tests that should notice it first; if they do
not, it runs the whole suite. A mutant counts as killed when a test that passes without it fails with it by an
assertion, a broken law or a wrong answer. One that does not compile, or makes an import fail, counts as broken, not as
killed. The command exits with 1 when a mutant survives.

The patches are in [`tests/mutants`](../../tests/mutants); this page is made from their headers
(`python tests/mutants/run.py --page`). Tests compare the page with the patches, and fail when a patch no longer applies
to the code. Then plant the same bug in the new code by hand, replace the old diff by `git diff -U1`, undo the change,
and run `python tests/mutants/run.py NAME`.

## Random mutants

Whoever writes a bug down has thought of it, and so have the tests. Random bugs are thought of by nobody:

```console
$ make survivors FILE=broker/privcmdd/model/machine/p2m.py N=50 SEED=1
```

The command plants small changes in a file, or in the files of a folder: a comparison turned, a bound one off, a guard
that is always true or never, an effect forgotten, another operation on numbers. Of a file of Python it runs the tests
that were seen to run the changed line, the quickest first, up to the first failure; of a file of C, all that are quick.
It lists the mutants that lived. The same seed takes the same sample of the same text.

A mutant that lived is a test that is missing, or it changes nothing that anybody can see. The latter are written down
in [`equivalent.txt`](../../tests/mutants/equivalent.txt), each with the reason, and are not counted.
[Evidence](evidence.md) has the share that is killed.

## The mutants

| class | stands for | mutant | the bug | law | noticed first by |
| --- | --- | --- | --- | --- | --- |
"""
LAWS_HEAD = """
## The laws

A law that no mutant breaks tests nothing. Each of [the laws](semantics.md#the-laws) catches these mutants alone: the
test that kills them compares no answer, and what fails is the law, by its name (`python tests/mutants/run.py --law`).

"""


def law_names() -> dict[int, str]:
    """What each law is called, from its function's docstring; of several of one number, the first."""
    names: dict[int, str] = {}
    for function in vars(invariants).values():
        found = re.match(r"Law (\d+)(?:, [^:]*)?: (.*)", (getattr(function, "__doc__", None) or "").partition("\n")[0])
        if found:
            names.setdefault(int(found[1]), found[2].rstrip("."))
    return names


def law_table(mutants: Sequence[Mutant]) -> str:
    """Each law with the mutants that it has to see."""
    names = law_names()
    rows = ["| law | says | catches |", "| --- | --- | --- |"]
    for law in sorted(names):
        caught = ", ".join(mutant.name for mutant in mutants if mutant.law == law)
        rows.append(f"| {law} | {names[law]} | {caught} |")
    return "\n".join(rows)


def render(mutants: Sequence[Mutant]) -> str:
    """The page."""
    rows = []
    for mutant in sorted(mutants, key=lambda mutant: (mutant.kind, mutant.name)):
        tests = ", ".join(dict.fromkeys(f"`{test.rpartition('/')[2].partition('[')[0]}`" for test in mutant.killers))
        cells = (mutant.kind, mutant.source, mutant.name, mutant.bug, str(mutant.law or ""), tests)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return HEAD + "\n".join(rows) + "\n" + LAWS_HEAD + law_table(mutants) + "\n"


def write(mutants: Sequence[Mutant]) -> None:
    """Write the page."""
    PAGE.write_text(render(mutants), encoding="utf-8")

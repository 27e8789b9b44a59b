# SPDX-License-Identifier: Apache-2.0
"""The documentation: its links resolve, its tables are complete. Its examples are played in ``test_examples``."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tables

from privcmd import Client, PrivcmdError
from privcmdd.cli import broker as broker_command
from privcmdd.cli import ctl
from privcmdd.model.findings import FindingKind
from privcmdd.server.keys import KEYS
from privcmdd.wire.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGE = 4096
GUIDES = [
    page
    for page in PAGES
    if page.parent.name in ("how-to", "tutorial") or page.name in ("README.md", "cli.md", "configuration.md")
]
TYPED = ("c", "console", "python", "rust", "sh")
"""The languages of what a reader types, or saves and runs; the others are shown."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link may name on a page, made from its headings as GitHub does."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(anchor)
    return found


def test_the_tests_that_a_page_names_are_there() -> None:
    """Who looks for what shows a rule finds it: no test has gone, or has another name."""
    there = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }

    for page in PAGES:
        named = set(re.findall(r"`(test_\w+)`", prose(page)))
        assert named <= there, f"{name_of(page)} names tests that are not there: {sorted(named - there)}"
    assert len(re.findall(r"`test_\w+`", text_of("docs/explanation/semantics.md"))) > 50


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of ours names one that is there, and a heading that it has."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(target)

    assert dead == []


def test_every_page_is_in_the_index() -> None:
    """Nobody has to guess that a page exists."""
    index = text_of("docs/index.md")
    missing = [
        name_of(page)
        for page in PAGES
        if page.parent != ROOT and page.name != "index.md" and name_of(page).removeprefix("docs/") not in index
    ]

    assert missing == []


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_each_example_of_a_guide_is_played_or_says_why_not(page: Path) -> None:
    """What a reader types on a page that is followed from its top works as it stands: somebody has played it."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^<!-- ([^\n]+) -->\n+)?^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    marks = re.compile(r"run(?: with .+| in another terminal| in a bare root)?|prints|not run: \S.+")

    assert [
        body.partition("\n")[0] for mark, language, body in blocks if language in TYPED and not marks.fullmatch(mark)
    ] == []


def test_every_method_is_on_the_protocol_page() -> None:
    """Each has a heading and a line in the table."""
    page = text_of("docs/reference/protocol.md")

    assert [name for name in METHODS if f"### {name}\n" not in page or f"| [`{name}`](#" not in page] == []


def test_every_kind_of_finding_is_on_its_page() -> None:
    """Each has a section under its id, where reports send their readers."""
    page = text_of("docs/reference/findings.md")
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))

    assert list(sections) == list(FindingKind)
    for kind, text in sections.items():
        for word in ("**A real host**", "**Found**", "**Instead**", "```python"):
            assert word in text, f"{kind} has no {word}"


def test_methods_named_in_the_documentation_exist() -> None:
    """A method that is written about is one that can be called, or one that is said to be missing."""
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?<!\[)`((?:domain|space|privcmd)\.[a-z_0-9]+)`", page.read_text(encoding="utf-8"))
    }
    configured = {key.path for key in KEYS}
    modules = {f"privcmd.{path.stem}" for path in (ROOT / "clients/python/privcmd").iterdir() if path.stem[0] != "_"}

    assert named - METHODS.keys() - configured - modules == set()


def test_tables_of_pages_are_what_the_broker_has() -> None:
    """Configuration keys and kinds of findings are on their pages, all of them, and in the file to copy from."""
    stale = [name_of(path) for path, text in tables.files().items() if path.read_text(encoding="utf-8") != text]
    asked = [name for path in PAGES for name in re.findall(r"<!-- made: ([^>]+) -->", path.read_text(encoding="utf-8"))]

    assert stale == []
    assert sorted(asked) == sorted(tables.PARTS)


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A command's parser and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from commands(each)


PARSERS = {
    parser.prog: parser for root in (broker_command.command_line(), ctl.command_line()) for parser in commands(root)
}


@pytest.mark.parametrize("command", PARSERS)
def test_commands_are_on_their_page_with_their_options(command: str) -> None:
    """Every command and option of ``--help`` is on the page of commands."""
    page = text_of("docs/reference/cli.md")
    options = {option for action in PARSERS[command]._actions for option in action.option_strings}

    assert command in page
    assert [option for option in options - {"-h", "--help"} if option not in page] == []


@pytest.mark.parametrize("command", ["privcmdd", "privcmdd check-config", "privcmdctl"])
def test_exit_codes_are_on_the_page_in_the_same_words(command: str) -> None:
    """What ``--help`` says of exit codes and what the page says is one thing."""
    page = text_of("docs/reference/cli.md").replace("`", "")
    codes = (PARSERS[command].epilog or "").replace("`", "").partition("exit ")[2]
    said = re.findall(r"^  (\d)  (.*(?:\n {5}\S.*)*)", codes, re.MULTILINE)

    assert said
    for number, meaning in said:
        assert f"| {number} | {' '.join(meaning.split())}" in page


def test_commands_on_the_page_exist() -> None:
    """What the page names as a command says something to ``--help``."""
    named = set(re.findall(r"`(privcmd(?:d|ctl)(?: [a-z][a-z-]*)*)[ `]", text_of("docs/reference/cli.md")))

    assert named - PARSERS.keys() == set()


def test_tests_named_in_the_documentation_exist() -> None:
    """Whoever looks up what shows a claim finds it."""
    own = r"^```python\n# (?:test_|conftest).*?^```$"  # tests that a page shows whole
    texts = [re.sub(own, "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL) for page in PAGES]
    named = {name for text in texts for name in re.findall(r"\btest_\w+", text)}
    named -= {name for page in PAGES for name in re.findall(r"^# (test_\w+)\.py$", page.read_text(), re.MULTILINE)}
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    functions = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert named - files - functions == set()


def test_the_broker_names_itself_as_documented() -> None:
    """``python -m privcmdd`` is the same command."""
    said = subprocess.run([sys.executable, "-m", "privcmdd", "--help"], capture_output=True, text=True, check=True)

    assert said.stdout.startswith("usage: privcmdd")


# Differences: each test holds lines of docs/reference/differences.md.


def errno_of(client: Client, method: str, /, **params: object) -> str:
    """The name of the errno that a call is refused with."""
    with pytest.raises(PrivcmdError) as refused:
        client.call(method, **params)
    return refused.value.name


@pytest.fixture
def dom(client: Client) -> int:
    """An HVM domain of 64 pages, the lower half populated."""
    return client.domains.create("hvm", 64, ranges=[(0, 32)])


@pytest.mark.differs_from_xen
def test_an_unaligned_batch_is_refused_and_mmap_rounds(client: Client, dom: int) -> None:
    """uvm: NetBSD rounds the address of both down."""
    addr = client.mmap(0, PAGE, 3)

    assert errno_of(client, "privcmd.mmapbatch", dom=dom, addr=addr + 8, arr=[1]) == "EINVAL"
    client.privcmd_mmap(dom, [(addr + 8, 1, 1)])
    assert client.fault(addr).frame == 1


@pytest.mark.differs_from_xen
def test_mmap_tries_its_frames_at_once(client: Client, dom: int) -> None:
    """uvm: NetBSD finds a bad frame of MMAP when it is touched."""
    addr = client.mmap(0, 2 * PAGE, 3)

    assert errno_of(client, "privcmd.mmap", dom=dom, entry=[{"va": addr, "mfn": 31, "npages": 2}]) == "EINVAL"


@pytest.mark.differs_from_xen
def test_numbers_of_xens_own_are_no_domains(client: Client) -> None:
    """uvm: DOMID_SELF, DOMID_IO and DOMID_XEN map something on a real host."""
    addr = client.mmap(0, PAGE, 3)

    for domid in (0x7FF0, 0x7FF1, 0x7FF2):
        batch = client.privcmd_mmapbatch_v2(domid, addr, [1])
        assert batch.frames is not None
        assert batch.frames.tolist() == [-3]


@pytest.mark.differs_from_xen
def test_addresses_past_the_end_are_einval(client: Client) -> None:
    """Linux's mmap says ENOMEM."""
    client.attach(personality="linux")

    assert errno_of(client, "mmap", addr=0x7FFF_FFFF_F000, len=PAGE, prot=3, fixed=True) == "EINVAL"


@pytest.mark.differs_from_xen
def test_populate_stops_where_there_is_a_frame(client: Client, dom: int) -> None:
    """Xen replaces it."""
    assert client.domains.populate(dom, [40, 1, 41]).done == 1


@pytest.mark.differs_from_xen
def test_new_frames_read_as_zeros(client: Client, dom: int) -> None:
    """Xen does not clear them."""
    addr = client.mmap(0, PAGE, 3)
    client.privcmd_mmapbatch_v2(dom, addr, [5])
    client.write(addr, b"left over")
    client.munmap(addr, PAGE)
    client.domains.decrease_reservation(dom, [5])
    client.domains.populate(dom, [5])
    addr = client.mmap(0, PAGE, 3)
    client.privcmd_mmapbatch_v2(dom, addr, [5])

    assert client.read(addr, 9) == bytes(9)


@pytest.mark.differs_from_xen
def test_a_paged_out_frame_keeps_its_machine_frame(client: Client, dom: int) -> None:
    """On a real host somebody else gets it."""
    before = client.stats()["machine"]["free_frames"]
    client.domains.page_out(dom, range(8))

    assert client.stats()["machine"]["free_frames"] == before


@pytest.mark.differs_from_xen
@pytest.mark.parametrize(("first", "then", "access"), [(1, (3,), "write"), (3, (0, 3), "read")])
def test_what_faults_for_ever_is_efault(
    client: Client, dom: int, first: int, then: tuple[int, ...], access: str
) -> None:
    """linux: on a real host the process hangs."""
    client.attach(personality="linux")
    addr = client.mmap(0, PAGE, first)
    client.privcmd_mmapbatch_v2(dom, addr, [1])
    for prot in then:
        client.mprotect(addr, PAGE, prot)

    assert errno_of(client, "fault", addr=addr, access=access) == "EFAULT"


@pytest.mark.differs_from_xen
def test_a_restricted_connection_lists_its_one_domain(client: Client, dom: int) -> None:
    """After RESTRICT a real privcmd refuses every hypercall."""
    other = client.domains.create("hvm", 4)
    client.restrict(dom)

    assert [row.dom for row in client.domains.list()] == [dom]
    assert errno_of(client, "domain.info", dom=other) == "EPERM"

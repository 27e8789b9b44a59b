# SPDX-License-Identifier: Apache-2.0
"""The C client's storeys are the table in its README: a file knows only files of the storeys below its own."""

from __future__ import annotations

import re
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[3] / "clients" / "c"
ROW = re.compile(r"^\| (?P<files>`[a-z/]+`(?:, `[a-z/]+`)*) \|", re.MULTILINE)
INCLUDE = re.compile(r'^#include "(?P<path>[^"]+)"$', re.MULTILINE)
# What stands for nothing here: comments, texts, single characters.
NOT_CODE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\])*'", re.DOTALL)
# A function that other files can call: it is not static, and not exported under a name of libc's.
DEFINITION = re.compile(
    r"^(?!static|EXPORT|typedef|__attribute__)[a-z][\w ]*[ *](?P<name>\w+)\((?P<rest>[^;{}]*)\)\n\{", re.MULTILINE
)
LIBC_MEMORY = {"malloc", "calloc", "realloc", "strdup", "free"}
IDENTIFIER = re.compile(r"\b[a-z_]\w*\b")


def storeys() -> dict[str, int]:
    """The storey of each file, the lowest with the smallest number."""
    rows = [re.findall(r"`([a-z/]+)`", row["files"]) for row in ROW.finditer((CLIENT / "README.md").read_text())]
    return {name: -i for i, names in enumerate(rows) for name in names}


def sources() -> dict[str, dict[Path, str]]:
    """The text of each file and of its header, without comments and texts, by its name without the ending."""
    found: dict[str, dict[Path, str]] = {}
    for path in sorted([*CLIENT.rglob("*.c"), *CLIENT.rglob("*.h")]):
        name = str(path.relative_to(CLIENT).with_suffix(""))
        found.setdefault(name, {})[path] = path.read_text()
    return found


def known(name: str, texts: dict[Path, str], owner: dict[str, str]) -> dict[str, str]:
    """The other files that a file knows, each with what shows it: an include, or a function of theirs."""
    others: dict[str, str] = {}
    for path, text in texts.items():
        for include in INCLUDE.finditer(text):
            other = (path.parent / include["path"]).resolve().relative_to(CLIENT).with_suffix("")
            others[str(other)] = f"includes {include['path']}"
        for word in IDENTIFIER.findall(NOT_CODE.sub(" ", text)):
            if word in owner:
                others[owner[word]] = f"calls {word}"
    others.pop(name, None)
    return others


def functions() -> dict[str, str]:
    """The file that each function which other files can call is defined in."""
    owner: dict[str, str] = {}
    for name, texts in sources().items():
        for text in texts.values():
            for found in DEFINITION.finditer(NOT_CODE.sub(" ", text)):
                assert owner.setdefault(found["name"], name) == name, f"{found['name']} is defined twice"
    return owner


def test_every_file_has_a_storey() -> None:
    """The table names each file, and no other."""
    assert set(storeys()) == set(sources())


def test_files_know_only_lower_storeys() -> None:
    """No include and no call goes up, nor to a neighbour: so none runs in a circle."""
    storey, owner = storeys(), functions()
    upward = [
        f"{name} {what}, which is in {other}"
        for name, texts in sources().items()
        for other, what in known(name, texts, owner).items()
        if storey[other] >= storey[name]
    ]

    assert upward == []


def test_no_memory_is_taken_from_libc() -> None:
    """The shim works in signal handlers and between fork and exec: only the drop-in library's handles are malloc's."""
    takers = {
        name
        for name, texts in sources().items()
        for text in texts.values()
        if LIBC_MEMORY & set(IDENTIFIER.findall(NOT_CODE.sub(" ", text)))
    }

    assert takers == {"foreignmemory/foreignmemory"}


def test_there_is_one_lock() -> None:
    """It is the client's: a second one could be taken in the other order."""
    holders = {
        name
        for name, texts in sources().items()
        if any("pthread_mutex_t" in NOT_CODE.sub(" ", text) for text in texts.values())
    }

    assert holders == {"client"}


def test_the_check_sees_calls() -> None:
    """The functions of each header are found where they are defined, and in whom calls them."""
    owner, texts = functions(), sources()

    assert {owner["say_error"], owner["client_call"], owner["fds_keep"], owner["marks_copy"]} == {
        "say",
        "client",
        "fds",
        "preload/marks",
    }
    without_includes = {path: INCLUDE.sub("", text) for path, text in texts["client"].items()}
    assert {"connection", "say", "fds"} <= set(known("client", without_includes, owner))


def test_requests_are_written_in_one_file() -> None:
    """Only ``request`` puts MessagePack together; all others give it keys and values."""
    writers = {
        name
        for name, texts in sources().items()
        for text in texts.values()
        if re.search(r"\bmp_(?:array|map|uint|bool|nil|str|bin|bin_room)\(", NOT_CODE.sub(" ", text))
    }

    assert writers == {"msgpack", "request"}

# SPDX-License-Identifier: Apache-2.0
"""What the pages say of a finding, an errno or an operation that is not there, from the copies beside this module.

``docs/tables.py`` makes the copies, so that a message can send its reader where there is no checkout.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGES: Final = Path(__file__).parent / "pages"
BY_SECTION: Final = ("findings", "errors")
"""Pages of which each section explains what its heading names."""
WHOLE: Final = ("hypercalls", "reach-a-program")
"""Pages that are explained as a whole, by their name."""
SAME: Final = {"ENOTSUP": "EOPNOTSUPP"}
"""Python's name of a number, and the name that Linux and Xen have for it."""
_SECTION: Final = re.compile(r"^### (\S+)\n\n(.*?)\s*(?=^##|\Z)", re.MULTILINE | re.DOTALL)


def hint(name: str) -> str:
    """Where to read on about something; for the end of a message."""
    return f"`privcmdctl explain {name}`"


def everything() -> Mapping[str, str]:
    """All that can be explained: its name -> the text."""
    found = {name: text for page in BY_SECTION for name, text in _SECTION.findall(_text(page))}
    return found | {name: _text(name).partition("\n\n")[2].rstrip() for name in WHOLE}


def called(word: str) -> str:
    """The name that a word stands for: an errno may be its number, of either sign, or in small letters."""
    number = word.removeprefix("-")
    if number.isdecimal():
        name = errno.errorcode.get(int(number), word)
    else:
        name = word.upper() if hasattr(errno, word.upper()) else word.lower()
    return SAME.get(name, name)


def _text(page: str) -> str:
    return (PAGES / f"{page}.txt").read_text(encoding="utf-8")

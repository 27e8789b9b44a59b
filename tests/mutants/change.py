# SPDX-License-Identifier: Apache-2.0
"""A change of a file's text: what a random mutant is, whatever the file is written in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """Some characters of a file replaced by others.

    Attributes:
        file: The file, from the repository's root.
        start: The first character that is replaced.
        end: The one behind the last.
        new: What stands there instead.
        lines: The lines, counted from 1, of the statement that is changed: who runs one of them runs the mutant.
        where: The function that it is in, or ``""``.
    """

    file: str
    start: int
    end: int
    new: str
    lines: range
    where: str = ""

    def applied(self, text: str) -> str:
        """The file's text with the change."""
        return text[: self.start] + self.new + text[self.end :]

    def line(self, text: str) -> int:
        """The line where the change begins, counted from 1."""
        return text.count("\n", 0, self.start) + 1

    def rows(self, text: str) -> tuple[str, str]:
        """The lines that it touches, before and after, without the space around them."""
        first = text.rfind("\n", 0, self.start) + 1
        last = text.find("\n", self.end)
        last = len(text) if last < 0 else last
        after = text[first : self.start] + self.new + text[self.end : last]
        return " ".join(text[first:last].split()), " ".join(after.split())

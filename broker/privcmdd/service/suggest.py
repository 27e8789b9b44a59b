# SPDX-License-Identifier: Apache-2.0
"""What a misspelt word was probably meant to be: for the errors of all floors above."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Iterable

LIKENESS = 0.5
"""How much two words have in common, from 0 to 1, before one is suggested for the other."""


def nearest(word: str, there: Iterable[str]) -> str | None:
    """The word of ``there`` that is most like ``word``; None when none is like it."""
    import difflib  # noqa: PLC0415 - only for a mistake: a broker is started for every test

    return next(iter(difflib.get_close_matches(word, list(there), n=1, cutoff=LIKENESS)), None)


def meant(word: str, there: Iterable[str]) -> str:
    """The same as the end of a sentence; empty when no word is like it."""
    near = nearest(word, there)
    return f"; did you mean {near}?" if near else ""

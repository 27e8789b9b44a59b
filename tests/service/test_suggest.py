# SPDX-License-Identifier: Apache-2.0
"""Suggestions for misspelt words: one that is near, or none."""

from __future__ import annotations

import pytest

from privcmdd.service.suggest import meant, nearest

THERE = ("socket_path", "socket_mode", "drain_timeout_s")


@pytest.mark.parametrize(
    ("word", "near"),
    [("socket_pth", "socket_path"), ("socket_modes", "socket_mode"), ("drain_timeout", "drain_timeout_s"), ("x", None)],
)
def test_the_nearest_word_is_suggested(word: str, near: str | None) -> None:
    """Law: a word with a few wrong letters leads to the right one; a word like no other leads to none."""
    assert nearest(word, THERE) == near
    assert meant(word, iter(THERE)) == (f"; did you mean {near}?" if near else "")

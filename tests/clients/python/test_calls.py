# SPDX-License-Identifier: Apache-2.0
"""The calls of the library are made from the table of methods: what a method needs, and what the maker refuses."""

from __future__ import annotations

import inspect
import re

import faces
import library
import pytest
from faces import Face
from function import Function

from privcmd import _calls as calls
from privcmdd.wire.methods import METHODS, Field, Method, Param

MADE = Method(
    "guest.poke",
    "Poke a guest.",
    (
        Param("dom", "domid", "the domain"),
        Param("len", "size", "how much", unit="bytes"),
        Param("why", "str", "why", ""),
    ),
    (Field("woken", "bool", "whether it woke up"), Field("at", "int", "when; nil if it did not", nullable=True)),
    errors={"ESRCH": "there is no such domain"},
)


def test_a_new_method_needs_no_line_but_its_row() -> None:
    """Law: name, signature, docstring, what is sent and how the answer is read all come from the table."""
    made = Function(MADE, Face())

    assert made.signature() == "def guest_poke(dom: int, length: int, *, why: str | None = None) -> Call[GuestPoke]:"
    assert made.sent() == '{"dom": dom, "len": length, **given(why=why)}'
    assert made.read == "lambda answer, _: pick(GuestPoke, answer)"
    for words in ("Poke a guest.", "length: How much (bytes).", "why: Why.", "ESRCH: there is no such domain."):
        assert words in made.words()


def test_what_holds_descriptors_must_be_said() -> None:
    """Law: no call is made that would lose the descriptors of its answer."""
    with pytest.raises(ValueError, match=r"guest\.poke: say in faces\.py what holds its descriptors"):
        Function(Method("guest.poke", "Poke a guest.", fds_out=1), Face())


def test_what_is_said_of_no_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: a method that has gone takes what is said of it along, and so do parameters."""
    monkeypatch.setattr(library, "FACES", {**faces.FACES, "no.such": Face()})
    with pytest.raises(ValueError, match=r"no\.such"):
        library.modules()
    with pytest.raises(KeyError, match="gone"):
        Function(MADE, Face(params="dom gone")).signature()


def test_calls_say_all_that_the_table_says() -> None:
    """Law: each call's words name every parameter that it has, and every errno that it can bring about."""
    made = {
        function.method.name: function
        for function in (Function(m, faces.FACES.get(n, Face())) for n, m in METHODS.items())
    }
    for name, function in made.items():
        call = getattr(calls, function.name)
        words = inspect.getdoc(call) or ""
        said = set(re.findall(r"^ +(E[A-Z0-9]+):", words, re.MULTILINE))
        assert said == METHODS[name].errors.keys() - set(function.face.never), name
        assert all(f"{param}: " in words for param in inspect.signature(call).parameters), name

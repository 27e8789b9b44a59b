# SPDX-License-Identifier: Apache-2.0
"""The table holds together, and parameters are held against it."""

import errno
import struct
from typing import Any

import msgpack
import pytest

from privcmdd.wire import limits
from privcmdd.wire.methods import COMMON_ERRORS, METHODS, Field, Frames, Method, Param, ParamError, validate
from privcmdd.wire.params import CHECKS, MISSING, ROWS, TYPES
from privcmdd.wire.schema import describe
from privcmdd.wire.signature import RESULT_TYPES

BATCH = METHODS["privcmd.mmapbatch_v2"]
GOOD: dict[str, Any] = {"dom": 1, "addr": 4096, "arr": struct.pack("<2Q", 3, 4)}


def refused(method: Method, params: dict[str, object]) -> ParamError:
    """Tell the error with which these parameters are refused."""
    with pytest.raises(ParamError) as caught:
        validate(method, params)
    return caught.value


def check(kind: str, value: object, **settings: object) -> object:
    """Validate one value as a parameter of this type."""
    method = Method("m", "s", (Param("key", kind, "doc", **settings),))  # type: ignore[arg-type]
    return validate(method, {"key": value})["key"]


def errors_of(kind: str, value: object, **settings: object) -> ParamError:
    """Tell the error with which the value is refused."""
    with pytest.raises(ParamError) as caught:
        check(kind, value, **settings)
    return caught.value


def all_fields(fields: tuple[Field, ...]) -> list[Field]:
    """Flatten fields and the fields of their maps."""
    return [inner for field in fields for inner in (field, *all_fields(field.fields))]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_row_is_complete(method: Method) -> None:
    """Types are of the closed set, errnos are Linux's, and everything says in words what it is."""
    assert method.summary.endswith(".")
    assert {param.type for param in method.params} <= set(CHECKS)
    assert all(param.doc for param in method.params)
    assert all(bool(param.choices) == (param.type == "enum") for param in method.params)
    assert {field.type for field in all_fields(method.result)} <= set(RESULT_TYPES)
    assert all(field.doc for field in all_fields(method.result))
    assert all(hasattr(errno, name) for name in {**method.errors, **COMMON_ERRORS})
    assert "fds" not in [param.name for param in method.params], "the key is reserved"


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_defaults_would_be_accepted(method: Method) -> None:
    """Saying the default aloud is the same as saying nothing."""
    for param in method.params:
        if param.default is not MISSING and param.default is not None:
            said = list(param.default) if isinstance(param.default, tuple) else param.default
            assert CHECKS[param.type](param, said) == said


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_an_unknown_key_is_named(method: Method) -> None:
    """EINVAL, with the key in the text and in the details."""
    required = {p.name: _example(p) for p in method.params if p.required}
    error = refused(method, {**required, "nonsense": 1})

    assert (error.errno, error.details) == (errno.EINVAL, {"key": "nonsense"})
    assert "nonsense" in error.text
    assert method.name in error.text


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_missing_key_is_named(method: Method) -> None:
    """The same for every key that must be there."""
    for param in method.params:
        if param.required:
            others = {p.name: _example(p) for p in method.params if p.required and p is not param}
            error = refused(method, others)
            assert (error.errno, error.details) == (errno.EINVAL, {"key": param.name})


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_wrong_type_is_named(method: Method) -> None:
    """nil, and a map where none belongs, are EINVAL for every parameter there is."""
    for param in method.params:
        wrongs: tuple[object, ...] = ({},) if param.nullable else (None, {})
        for wrong in wrongs:
            required = {p.name: _example(p) for p in method.params if p.required}
            error = refused(method, {**required, param.name: wrong})
            assert (error.errno, error.details) == (errno.EINVAL, {"key": param.name})
            assert error.text.startswith(f"{param.name}: ")
            assert "expected" in error.text
            assert str(error) == f"EINVAL: {error.text}"


def _example(param: Param) -> object:
    empty: dict[str, object] = {"bin": b"", "frames": b"", "str": "", "bool": False}
    lists = ("entries", "ranges", "segments", "ints", "strs", "bins")
    return param.choices[0] if param.choices else [] if param.type in lists else empty.get(param.type, 0)


def test_defaults_are_filled_in() -> None:
    """Every parameter of the row has a value afterwards."""
    values = validate(BATCH, GOOD)

    assert values == {
        "dom": 1,
        "addr": 4096,
        "arr": Frames(GOOD["arr"], listed=False),
        "num": None,
        "extents": False,
        "file": 0,
        "err_ok": True,
    }


@pytest.mark.parametrize(
    ("kind", "last"),
    [("domid", 65535), ("u32", 2**32 - 1), ("addr", 2**53 - 1), ("size", 2**53 - 1), ("prot", 7)],
)
def test_numbers_have_ends(kind: str, last: int) -> None:
    """Zero and the last are taken; one below and one above are EINVAL."""
    assert check(kind, 0) == 0
    assert check(kind, last) == last
    others: list[object] = [-1, last + 1, 2**63, 2**64 - 1, True, "1", b"1", None, [], {}]
    for value in others:
        assert errors_of(kind, value).errno == errno.EINVAL


@pytest.mark.parametrize("kind", ["domid", "u32", "addr", "size", "prot"])
def test_numbers_that_some_client_would_round_say_why(kind: str) -> None:
    """2^53 and above travel only in a bin, and the error says so."""
    for value in (2**53, 2**63, 2**64 - 1):
        error = errors_of(kind, value)
        assert "2^53" in error.text
        assert "bin" in error.text
        assert str(value) in error.text


def test_true_is_no_number_and_one_is_no_truth() -> None:
    """Python would let them pass for each other; the wire does not."""
    assert check("bool", True) is True
    assert errors_of("bool", 1).errno == errno.EINVAL
    assert errors_of("u32", False).errno == errno.EINVAL


def test_frames_in_a_bin_are_not_touched() -> None:
    """The very bytes that came are passed on, 2^64-1 and all."""
    data = struct.pack("<3Q", 0, 2**64 - 1, 5)
    frames = check("frames", data)

    assert isinstance(frames, Frames)
    assert frames.data is data
    assert frames.listed is False


@pytest.mark.parametrize("size", [1, 7, 9, 15])
def test_frames_in_a_bin_are_whole_numbers(size: int) -> None:
    """A bin whose length is no multiple of 8 is EINVAL."""
    error = errors_of("frames", bytes(size))

    assert error.errno == errno.EINVAL
    assert "multiple of 8" in error.text


def test_frames_in_an_array_become_the_same_bytes() -> None:
    """The service sees one form; it only remembers how the question came."""
    assert check("frames", [1, 2**53 - 1]) == Frames(struct.pack("<2Q", 1, 2**53 - 1), listed=True)
    assert check("frames", []) == Frames(b"", listed=True)


@pytest.mark.parametrize("frame", [-1, 2**53, True, None, "1", [1]])
def test_a_bad_frame_in_an_array_is_pointed_at(frame: object) -> None:
    """EINVAL with the index in the text; the key stays the parameter's."""
    error = errors_of("frames", [5, frame])

    assert error.text.startswith("key[1]: ")
    assert error.details == {"key": "key"}


def test_long_arrays_of_frames_belong_in_a_bin() -> None:
    """1,024 are taken, one more is E2BIG, and still arrives as an answerable request."""
    assert check("frames", [0] * limits.ARRAY_FRAMES) is not None

    assert errors_of("frames", [0] * (limits.ARRAY_FRAMES + 1)).errno == errno.E2BIG


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"va": 0, "mfn": 0},
        {"va": 0, "mfn": 0, "npages": 1, "more": 1},
        {"va": -1, "mfn": 0, "npages": 1},
        {"va": 0, "mfn": 2**53, "npages": 1},
        {"va": 0, "mfn": 0, "npages": None},
        {"va": 0, "mfn": 0, "npages": True},
        [0, 0, 1],
        None,
    ],
)
def test_entries_are_maps_of_three_numbers(row: object) -> None:
    """Which entry, which field, and what was expected."""
    error = errors_of("entries", [{"va": 0, "mfn": 0, "npages": 1}, row])

    assert error.errno == errno.EINVAL
    assert error.text.startswith("key[1]")
    assert error.details == {"key": "key"}


def test_too_many_entries() -> None:
    """One above the bound is E2BIG."""
    method = METHODS["privcmd.mmap"]
    entry = {"va": 0, "mfn": 0, "npages": 1}

    assert len(validate(method, {"dom": 1, "entry": [entry] * 1024})["entry"]) == 1024
    assert refused(method, {"dom": 1, "entry": [entry] * 1025}).errno == errno.E2BIG


def test_a_read_has_a_largest_size() -> None:
    """8 MiB, so that the answer fits a message; more is E2BIG."""
    method = METHODS["read"]

    assert validate(method, {"addr": 0, "len": limits.READ_BYTES})["len"] == limits.READ_BYTES
    assert refused(method, {"addr": 0, "len": limits.READ_BYTES + 1}).errno == errno.E2BIG


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "x" * 65, 5, b"name"])
def test_names_can_be_printed(name: object) -> None:
    """They end up in logs and on terminals: no control characters, and not long."""
    assert errors_of("str", name).errno == errno.EINVAL


BOUNDED: dict[str, tuple[object, int]] = {
    "ints": (0, limits.NAMES),
    "strs": ("x", limits.NAMES),
    "bins": (b"", limits.NAMES),
    "entries": ({"va": 0, "mfn": 0, "npages": 1}, limits.NAMES),
}


@pytest.mark.parametrize("kind", BOUNDED)
def test_a_list_has_a_largest_length(kind: str) -> None:
    """The last length is taken, with the bound of the type or the parameter's own; one more is E2BIG."""
    item, most = BOUNDED[kind]

    assert check(kind, [item] * most) == [item] * most
    assert errors_of(kind, [item] * (most + 1)).errno == errno.E2BIG
    assert check(kind, [item] * 3, most=3) == [item] * 3
    assert errors_of(kind, [item] * 4, most=3).errno == errno.E2BIG


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("ints", [0, 2**53 - 1], (-1, 2**53, True, "1", None)),
        ("strs", ["", "x" * limits.NAME_CHARACTERS], ("x" * (limits.NAME_CHARACTERS + 1), b"x", 1, None)),
        ("bins", [b"", b"x"], ("x", 1, None, [])),
    ],
)
def test_a_bad_item_of_a_list_is_pointed_at(kind: str, good: list[object], bad: tuple[object, ...]) -> None:
    """Each item is looked at, the last as well as the first; the index is in the text."""
    assert check(kind, good) == good
    for item in bad:
        for at in (0, 2):
            error = errors_of(kind, [*good[:at], item, *good[at:]])
            assert (error.errno, error.text.partition(":")[0]) == (errno.EINVAL, f"key[{at}]")


def test_a_text_or_a_bin_has_a_largest_size() -> None:
    """The last size is taken; a longer bin is E2BIG, a longer text EINVAL."""
    assert check("str", "x" * limits.NAME_CHARACTERS) == "x" * limits.NAME_CHARACTERS
    assert check("str", "xyz", most=3) == "xyz"
    assert errors_of("str", "wxyz", most=3).errno == errno.EINVAL
    assert check("bin", b"xyz", most=3) == b"xyz"
    assert errors_of("bin", b"wxyz", most=3).errno == errno.E2BIG
    assert check("bin", bytes(limits.LENT_BYTES + 1)) == bytes(limits.LENT_BYTES + 1)


def test_no_frames_is_an_answer_only_where_the_row_says_so() -> None:
    """Nil is taken of a parameter that is nullable, and of no other."""
    assert check("frames", None, nullable=True) is None
    assert errors_of("frames", None).errno == errno.EINVAL


def test_what_an_entry_lacks_is_named() -> None:
    """A missing field and one that is no number have sentences of their own."""
    lacking = errors_of("entries", [{"va": 0, "mfn": 0, "more": 1}])
    wrong = errors_of("entries", [{"va": 0, "mfn": 0, "npages": "1"}])

    assert lacking.text.endswith('it lacks "npages"')
    assert wrong.text.startswith("key[0].npages: ")


def test_an_error_shows_as_much_of_a_value_as_fits() -> None:
    """60 characters whole; of more, 57 and dots. A key is named whole up to the length of a name."""
    assert errors_of("u32", "x" * 58).text.startswith(f"key: {'x' * 58!r}; ")
    assert errors_of("u32", "x" * 59).text.startswith(f"key: '{'x' * 56}...; ")
    longest = "k" * limits.NAME_CHARACTERS
    assert refused(METHODS["ping"], {longest: 1}).text.startswith(f"{longest}: ")
    assert refused(METHODS["ping"], {longest + "k": 1}).text.startswith("'kkk")


def test_an_error_says_what_came_and_what_there_is() -> None:
    """Of a list or a map how many, of a bin how long; of an unknown key all keys that a method takes."""
    assert errors_of("u32", [1, 2]).text.startswith("key: an array of 2; ")
    assert errors_of("u32", {"a": 1}).text.startswith("key: a map of 1; ")
    assert errors_of("u32", b"abc").text.startswith("key: a bin of 3 bytes; ")
    known = ", ".join(param.name for param in BATCH.params)
    assert refused(BATCH, {**GOOD, "x": 1}).text == f"x: unknown key; {BATCH.name} takes {known}"


def test_errors_show_values_shortly() -> None:
    """However large the value, the sentence stays one line that can be read."""
    values: tuple[object, ...] = ("x" * 4096, b"x" * 4096, [[]] * 4096, {str(i): i for i in range(4096)})
    for value in values:
        assert len(errors_of("u32", value).text) < 200
    assert "\n" not in errors_of("u32", "a\nb").text


def test_a_strange_unknown_key_is_shown_safely() -> None:
    """Keys are a client's text too."""
    error = refused(METHODS["ping"], {"\x1b[2J" + "y" * 100: 1})

    assert "\x1b" not in error.text
    assert len(error.details["key"]) < 80  # type: ignore[arg-type]


def described_as(thing: Param | Field, row: dict[str, Any]) -> None:
    """Hold what is described against what it is made from: what is not so is not said."""
    said = {key for key in ("unit", "choices", "most", "nullable", "optional") if getattr(thing, key, None)}
    for key in said:
        value = getattr(thing, key)
        assert row[key] == (list(value) if isinstance(value, tuple) else value)
    fields = thing.fields if isinstance(thing, Field) else ROWS.get(thing.type, ())
    assert len(row.get("fields", ())) == len(fields)
    always = {"name", "type", "doc", "required"} if isinstance(thing, Param) else {"name", "type", "doc"}
    default = isinstance(thing, Param) and not thing.required
    assert row.keys() == always | said | ({"fields"} if fields else set()) | ({"default"} if default else set())
    if isinstance(thing, Field):
        for inner, inner_row in zip(thing.fields, row.get("fields", ()), strict=True):
            described_as(inner, inner_row)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_is_described_as_it_is(method: Method) -> None:
    """Each parameter and field with what its row says of it, and nothing else."""
    described = describe()["methods"][method.name]
    for param, row in zip(method.params, described["params"], strict=True):
        described_as(param, row)
    for field, row in zip(method.result, described["result"], strict=True):
        described_as(field, row)


def test_the_table_can_be_sent() -> None:
    """`describe` answers plain data, within our own bounds for a message."""
    described = describe({"frames_per_batch": 1})
    data = msgpack.packb(described)

    assert msgpack.unpackb(data) == described
    assert set(described["methods"]) == set(METHODS)
    assert set(TYPES) == set(CHECKS)
    assert described["limits"]["depth"] == limits.DEPTH
    assert described["limits"]["frames_per_batch"] == 1
    assert len(data) < 64 * 1024

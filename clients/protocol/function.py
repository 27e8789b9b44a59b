# SPDX-License-Identifier: Apache-2.0
"""A method of the table as a function in Python: signature, docstring, what it sends, how it reads the answer."""

import re
import textwrap
from collections.abc import Iterator
from typing import Final

from faces import HIDDEN, HOLDERS, NAMES, WHOLE, WORDS, Face

from privcmdd.wire.methods import Field, Method, Param

_PARAM_TYPES: Final = {
    "u32": "int",
    "domid": "int",
    "addr": "int",
    "size": "int",
    "prot": "int",
    "bool": "bool",
    "str": "str",
    "enum": "str",
    "bin": "bytes",
    "bins": "Sequence[bytes]",
    "frames": "Iterable[int]",
    "entries": "Sequence[tuple[int, int, int]]",
    "ranges": "Sequence[tuple[int, int]]",
    "segments": "Sequence[Mapping[str, int]]",
    "ints": "Sequence[int]",
    "strs": "Sequence[str]",
}

_SENT: Final = {
    "bin": "bytes({})",
    "bins": "list({})",
    "frames": "frames_as_bytes({})",
    "entries": 'as_maps({}, "va", "mfn", "npages")',
    "ranges": 'as_maps({}, "gfn", "npages")',
    "ints": "list({})",
    "strs": "list({})",
}

_FIELD_TYPES: Final = {
    "int": "int",
    "bool": "bool",
    "str": "str",
    "bin": "bytes",
    "bins": "list[bytes]",
    "frames": "array[int]",
    "errnos": "array[int]",
    "extents": "array[int]",
    "ints": "list[int]",
    "strs": "list[str]",
    "map": "dict[str, Any]",
    "maps": "list[dict[str, Any]]",
}

_ARRAYS: Final = {"frames": "Q", "errnos": "i", "extents": "I"}


class Function:
    """One method as a function."""

    def __init__(self, method: Method, face: Face) -> None:
        self.method = method
        self.face = face
        self.name = face.name or method.name.replace(".", "_")
        self.params = {param.name: param for param in method.params}
        self.order = face.params.split() or self._order()
        self.rows: tuple[str, tuple[Field, ...]] | None = None
        self.type, self.read = self._value()
        if method.fds_out and face.read is None:
            raise ValueError(f"{method.name}: say in faces.py what holds its descriptors")

    def _order(self) -> list[str]:
        """Required parameters, then optional ones by keyword."""
        shown = [param for param in self.method.params if param not in HIDDEN]
        optional = [param.name for param in shown if not param.required and param.name not in self.face.defaults]
        required = [param.name for param in shown if param.name not in optional]
        return [*required, "*", *optional] if optional else required

    # --- the value ---------------------------------------------------------------------------------------

    def _value(self) -> tuple[str, str]:
        """Its type, and what reads it."""
        fields = {field.name: field for field in self.method.result}
        wanted = self.face.value.split()
        if self.method.open_result or wanted == [WHOLE]:
            made = ("dict[str, Any]", "whole")
        elif not fields:
            made = ("None", "nothing")
        elif len(wanted) > 1 and wanted[1] not in fields:
            made = self._of_field(fields[wanted[0]], wanted[1])
        elif len(wanted) > 1:
            read = ", ".join(_read_field(fields[name]) for name in wanted)
            made = (f"tuple[{', '.join(field_type(fields[name]) for name in wanted)}]", _reader(f"({read})"))
        elif wanted and wanted[0] in fields:
            made = self._of_field(fields[wanted[0]])
        elif len(fields) == 1:
            made = self._of_field(self.method.result[0], *wanted)
        else:
            name = wanted[0] if wanted else _camel(self.method.name)
            self.rows = (name, self.method.result)
            made = (name, _reader(f"pick({name}, answer)"))
        if self.face.read is not None:
            made = (self.face.read[0], _reader(self.face.read[1]))
            if self.rows is not None and self.rows[0] != made[0]:
                self.rows = None
        return made

    def _of_field(self, field: Field, row: str = "") -> tuple[str, str]:
        if field.type == "maps" and field.fields:
            row = row or _camel(self.method.name)
            self.rows = (row, field.fields)
            return f"list[{row}]", _reader(f'[pick({row}, row) for row in answer["{field.name}"]]')
        return field_type(field), _reader(_read_field(field))

    # --- the parameters ----------------------------------------------------------------------------------

    def python_name(self, param: str) -> str:
        """What Python calls a parameter."""
        return self.face.names.get(param, NAMES.get(param, param))

    def _default(self, param: Param) -> str | None:
        """What stands for it when it is left out; None when it must not be."""
        if param.name in self.face.defaults:
            return self.face.defaults[param.name]
        if param.required:
            return None
        if isinstance(param.default, tuple):
            return repr(param.default)
        return "None" if param.default in (None, "") else _literal(param.default)

    def _shown(self) -> Iterator[tuple[Param, str, str | None]]:
        """Parameters that Python has, each with what is before it (``*`` or nothing) and its default.

        One that the table has as optional is required where a required one follows by position.
        """
        by_position = self.order[: self.order.index("*")] if "*" in self.order else self.order
        for at, word in enumerate(self.order):
            if word == "*":
                continue
            param = self.params[word.lstrip("*")]
            following = (self.params[name] for name in by_position[at + 1 :] if not name.startswith("*"))
            default = None if any(self._default(one) is None for one in following) else self._default(param)
            yield param, word[: -len(param.name)], default

    def _annotation(self, param: Param, stars: str, default: str | None) -> str:
        kind = self.face.types.get(param.name, _PARAM_TYPES[param.type])
        if stars and param.name not in self.face.types:
            kind = kind.removeprefix("Sequence[").removesuffix("]")
        return f"{kind} | None" if default == "None" else kind

    def signature(self) -> str:
        """The line with ``def``."""
        parts = []
        shown = {param.name: (param, stars, default) for param, stars, default in self._shown()}
        for word in self.order:
            if word == "*":
                parts.append("*")
                continue
            param, stars, default = shown[word.lstrip("*")]
            name = self.python_name(param.name)
            part = f"{stars}{name}: {self._annotation(param, stars, default)}"
            parts.append(part if default is None or stars else f"{part} = {default}")
        shadows = any(self.python_name(name) == "id" for name in shown)
        excuse = "  # noqa: A002 - the protocol's word" if shadows else ""
        return f"def {self.name}({', '.join(parts)}) -> Call[{self.type}]:{excuse}"

    def sent(self) -> str:
        """The expression of what travels."""
        always = [
            f'"{name}": {value}'
            for name, value in self.face.send.items()
            if name not in [word.lstrip("*") for word in self.order]
        ]
        given = []
        for param, _, default in self._shown():
            name = self.python_name(param.name)
            sent = self.face.send.get(param.name, _SENT.get(param.type, "{}").format(name))
            if default == "None":
                given.append(f"{param.name}={sent if sent == name else f'None if {name} is None else {sent}'}")
            else:
                always.append(f'"{param.name}": {sent}')
        if given:
            only = f"given({', '.join(given)})"
            return f"{{{', '.join(always)}, **{only}}}" if always else only
        return f"{{{', '.join(always)}}}"

    # --- the words ---------------------------------------------------------------------------------------

    def words(self) -> str:
        """The docstring."""
        method, face = self.method, self.face
        parts = [face.summary or method.summary]
        if doc := method.doc.replace(HOLDERS, "").strip():
            parts.append(wrapped(self._said(doc), ""))
        args = [wrapped(self._argument(param), "    ") for param, *_ in self._shown()]
        if args:
            parts.append("\n".join(["Args:", *args]))
        if returns := self._returns():
            parts.append("Returns:\n" + wrapped(returns, "    ", hang=False))
        errors = [f"{name}: {self._said(when)}." for name, when in method.errors.items() if name not in face.never]
        if errors:
            listed = [wrapped(error, " " * 8) for error in errors]
            parts.append("\n".join(["Raises:", "    PrivcmdError:", *listed]))
        closing = "\n\n" if len(parts) > 1 else ""
        text = "\n\n".join(parts) + (closing and "\n")
        return textwrap.indent(f'"""{text}"""', "    ")

    def _argument(self, param: Param) -> str:
        """What the documentation says of a parameter."""
        text = self.face.args.get(param.name)
        if text is None:
            unit = param.unit if param.type in ("u32", "size") else ""
            text = _with_unit(WORDS.get(param, param.doc), unit)
        choices = f" One of {', '.join(map(_literal, param.choices))}." if param.choices else ""
        return f"{self.python_name(param.name)}: {_sentence(self._said(text))}{choices}"

    def _returns(self) -> str:
        """What the documentation says of the value."""
        if self.face.read is not None or self.type == "None" or (self.rows and self.type == self.rows[0]):
            return ""
        wanted = self.face.value.split()
        if wanted == [WHOLE] or self.method.open_result:
            names = ", ".join(f"``{field.name}``" for field in self.method.result)
            return f"The answer as it comes: {names}." if names else "The answer as it comes."
        fields = [field for field in self.method.result if field.name in wanted] or list(self.method.result[:1])
        said = self._said("; ".join(_with_unit(field.doc, field.unit) for field in fields))
        return f"A `{self.rows[0]}` each, {said}." if self.rows else _sentence(said)

    def _said(self, text: str) -> str:
        """The table's words, as Python has the things."""
        for param in self.params:
            name = self.python_name(param)
            if name != param and param in NAMES:
                text = re.sub(rf"(?<![\w`]){param}(?![\w`])(?= |,|$)", name, text)
        return _code(text)

    def function(self) -> str:
        """The whole function."""
        return (
            f'{self.signature()}\n{self.words()}\n    return Call("{self.method.name}", {self.sent()}, {self.read})\n'
        )


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[._]", name))


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _code(text: str) -> str:
    """Code as docstrings mark it, and None where the wire has nil."""
    return re.sub(r"\bnil\b", "None", re.sub(r"`([^`]+)`", r"``\1``", text))


def _with_unit(text: str, unit: str) -> str:
    """Some words, and the unit if they do not have it."""
    return text if not unit or unit in text else f"{text} ({unit})"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def attribute(field: Field) -> str:
    """What the documentation says of a field; where it begins with a string that it may be, that stays as it is."""
    text = _code(_with_unit(field.doc, field.unit))
    return f"{text}." if field.type == "str" else _sentence(text)


def wrapped(text: str, indent: str, *, hang: bool = True) -> str:
    """Lines of at most 116 columns before the docstring's own indent; those that go on are set in."""
    within = indent + ("    " if indent and hang else "")
    return textwrap.fill(
        text, 116, initial_indent=indent, subsequent_indent=within, break_long_words=False, break_on_hyphens=False
    )


def field_type(field: Field) -> str:
    """Say how Python annotates a field of an answer."""
    kind = _FIELD_TYPES[field.type]
    if field.type == "maps" and field.fields and all(inner.type == "int" for inner in field.fields):
        kind = "list[dict[str, int]]"
    return f"{kind} | None" if field.nullable or field.optional else kind


def _read_field(field: Field) -> str:
    value = f'answer.get("{field.name}")' if field.optional else f'answer["{field.name}"]'
    return f'numbers({value}, "{_ARRAYS[field.type]}")' if field.type in _ARRAYS else value


def _reader(expression: str) -> str:
    names = ("answer" if "answer" in expression else "_answer", "fds" if "fds" in expression else "_")
    return f"lambda {', '.join(names)}: {expression}"

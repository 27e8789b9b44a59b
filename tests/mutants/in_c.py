# SPDX-License-Identifier: Apache-2.0
"""The small bugs that can be planted in a file of C, by its tokens: an operator turned, a number one off, a call gone.

Left alone is what stands in comments, texts, lines of the preprocessor, and outside functions.
"""

from __future__ import annotations

import re

from mutants.change import Change

TOKEN = re.compile(
    r"""
    (?P<skip> //[^\n]* | /\*.*?\*/ | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | ^[ \t]*\#(?:[^\n]*\\\n)*[^\n]* )
  | (?P<number> \b(?:0[xX][0-9a-fA-F]+|\d+)(?P<suffix>[uUlL]*)\b )
  | (?P<word> [A-Za-z_]\w* )
  | (?P<operator> <<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[-+*/%&|^<>=!~?:;,.(){}\[\]] )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
TURNED = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "+": "-",
    "+=": "-=",
    "-=": "+=",
    "|=": "&=",
    "&=": "|=",
    "<<": ">>",
    ">>": "<<",
    "|": "&",
    "++": "--",
    "--": "++",
    "break": "continue",
    "continue": "break",
    "true": "false",
    "false": "true",
}
BINARY = {"+", "|"}
STATEMENT = re.compile(
    r"(?<=[;{}\n])[ \t]+(?P<statement>(?:[\w.>\[\]-]+(?<!\breturn)\([^;{}]*\)|[\w.>\[\]*-]+ = [^;{}]*);)$", re.MULTILINE
)
GUARD = re.compile(r"\b(?:if|while) \((?P<test>(?:[^(){};]|\((?:[^(){};]|\([^(){};]*\))*\))*)\)")
FUNCTION = re.compile(
    r"^(?!struct|enum|union|static const|typedef)\w[^;{}=\n]*?(?P<name>\w+)\([^;{}]*\)\n?\s*\{", re.MULTILINE
)


def functions(text: str) -> list[tuple[int, int, str]]:
    """Where the bodies of functions begin and end, and what they are called."""
    return [
        (found.end(), end if (end := text.find("\n}", found.end())) >= 0 else len(text), found["name"])
        for found in FUNCTION.finditer(text)
    ]


def changes(file: str, text: str) -> list[Change]:
    """Each change that can be planted in a file, in the order of the text."""
    bodies = functions(text)
    spans: set[tuple[int, int, str]] = set()
    skipped: list[tuple[int, int]] = []
    before = ""
    for token in TOKEN.finditer(text):
        word = token[0]
        if token["skip"]:
            skipped.append(token.span())
            continue
        if token["number"]:
            value = int(word.rstrip("uUlL"), 0) if not re.fullmatch(r"0\d+", word) else int(word, 8)
            spans.add((*token.span(), f"{value + 1}{token['suffix']}"))
        elif word in TURNED and (word not in BINARY or re.match(r"[\w)\]]", before[-1:] or " ")):
            spans.add((*token.span(), TURNED[word]))
        elif word == "!":
            spans.add((*token.span(), ""))
        before = word
    spans |= {(*each.span("statement"), ";") for each in STATEMENT.finditer(text)}
    spans |= {(*each.span("test"), new) for each in GUARD.finditer(text) for new in ("0", "1")}
    found = []
    for start, end, new in sorted(spans):
        inside = [name for first, last, name in bodies if first <= start < last]
        if inside and not any(first <= start < last for first, last in skipped):
            line = text.count("\n", 0, start) + 1
            found.append(Change(file, start, end, new, range(line, line + 1), inside[0]))
    return found

# SPDX-License-Identifier: Apache-2.0
"""The small bugs that can be planted in a file of Python: a comparison turned, a guard gone, an effect forgotten.

Left alone is what a test cannot or need not notice: types, docstrings, the texts of errors, assertions, decorators.
"""

from __future__ import annotations

import ast

from mutants.change import Change

COMPARED: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
COUNTED: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}
NAMED = {"min": "max", "max": "min", "any": "all", "all": "any"}


def is_number(node: ast.expr) -> bool:
    """Whether an expression is a number as it is written."""
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


class Planter(ast.NodeVisitor):
    """Goes through a module and notes each change that could be made."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.found: list[Change] = []
        self.lines = range(0)
        self.where: list[str] = []
        rows = text.splitlines(keepends=True)
        self.starts = [sum(map(len, rows[:n])) for n in range(len(rows) + 1)]
        self.rows = [row.encode() for row in rows]

    def at(self, line: int, column: int) -> int:
        """The character at a place as ``ast`` gives it: a line from 1, and bytes."""
        return self.starts[line - 1] + len(self.rows[line - 1][:column].decode())

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Where a node's text is."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def note(self, start: int, end: int, new: str) -> None:
        """One more change."""
        self.found.append(Change(self.file, start, end, new, self.lines, ".".join(self.where)))

    def instead(self, node: ast.expr | ast.stmt, new: str) -> None:
        """A node's text replaced."""
        self.note(*self.span(node), new)

    def between(self, left: ast.expr | ast.stmt, right: ast.expr, old: str, new: str) -> None:
        """An operator replaced, which stands between two nodes."""
        gap = self.text[self.span(left)[1] : self.span(right)[0]]
        at = self.span(left)[1] + gap.index(old)
        self.note(at, at + len(old), new)

    def visit(self, node: ast.AST) -> None:
        """Remember the statement that is gone through, and leave alone what needs no test."""
        if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Global | ast.Nonlocal):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.stmt):
            before = self.lines
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            self.lines = range(node.lineno, max(last, node.lineno) + 1)
            super().visit(node)
            self.lines = before
        else:
            super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """Its body, and the defaults of its parameters; no types, no decorators."""
        self.where.append(node.name)
        if not isinstance(node, ast.ClassDef):
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self.where.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815
    visit_ClassDef = visit_FunctionDef  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The value, not the type."""
        if node.value is not None:
            self.forget(node)
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        """A call for its effect, forgotten; a docstring is passed over."""
        if isinstance(node.value, ast.Constant):
            return
        if isinstance(node.value, ast.Call):
            self.instead(node, "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        """A refusal forgotten; what it says is left alone."""
        self.instead(node, "pass")

    def visit_Delete(self, node: ast.Delete) -> None:
        """Something kept."""
        self.instead(node, "pass")

    def visit_Break(self, node: ast.Break) -> None:
        """The end of a loop, or of one turn of it."""
        self.instead(node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        """The end of one turn of a loop, or of it all."""
        self.instead(node, "break")

    def forget(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> None:
        """What is written into something that lives on is not."""
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Attribute | ast.Subscript) for target in targets):
            self.instead(node, "pass")

    def visit_Assign(self, node: ast.Assign) -> None:
        """A value that is not kept."""
        self.forget(node)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """A count that goes the other way."""
        if type(node.op) in COUNTED:
            old, new = COUNTED[type(node.op)]
            self.between(node.target, node.value, old, new)
        self.forget(node)
        self.generic_visit(node)

    def guard(self, node: ast.If | ast.While | ast.IfExp) -> None:
        """A condition that is always so, or never."""
        for new in ("False",) if isinstance(node, ast.While) else ("True", "False"):
            if self.text[slice(*self.span(node.test))] != new:
                self.instead(node.test, new)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        """See ``guard``."""
        self.guard(node)

    def visit_While(self, node: ast.While) -> None:
        """See ``guard``."""
        self.guard(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """See ``guard``."""
        self.guard(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """The bound is one off, or the comparison the other way round."""
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            self.between(left, right, *COMPARED[type(operator)])
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Both for either."""
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between(left, right, old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """A sign lost."""
        if not isinstance(node.op, ast.UAdd):
            start, _ = self.span(node)
            self.note(start, self.span(node.operand)[0], "")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Another operation on numbers."""
        sides = (node.left, node.right)
        texts = any(isinstance(side, ast.Constant | ast.JoinedStr) and not is_number(side) for side in sides)
        if type(node.op) in COUNTED and not texts:
            self.between(node.left, node.right, *COUNTED[type(node.op)])
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """The least for the most."""
        if isinstance(node.func, ast.Name) and node.func.id in NAMED:
            self.instead(node.func, NAMED[node.func.id])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """A number one off, the other truth."""
        if isinstance(node.value, bool):
            self.instead(node, str(not node.value))
        elif isinstance(node.value, int):
            self.instead(node, str(node.value + 1))


def changes(file: str, text: str) -> list[Change]:
    """Each change that can be planted in a file, in the order of the text."""
    planter = Planter(file, text)
    planter.visit(ast.parse(text))
    return sorted(planter.found, key=lambda change: (change.start, change.end, change.new))

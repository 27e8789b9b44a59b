# SPDX-License-Identifier: Apache-2.0
"""The Python library's part that is the table of methods again, as source text.

Four modules: ``privcmd._answers`` (dataclasses), ``privcmd._descriptors``, ``privcmd._calls`` (a function for each
method) and ``privcmd._methods`` (those functions as methods of the blocking face and of the one for trio).
"""

import subprocess
import sys
from collections.abc import Iterable
from typing import Final

from faces import FACES, GROUPS, Face
from function import Function, attribute, field_type, wrapped

from privcmdd.wire.methods import METHODS

_MADE: Final = """\
# SPDX-License-Identifier: Apache-2.0
# Made by clients/protocol/generate.py from the table of methods.
"""


def modules() -> dict[str, str]:
    """Make all four, by their names.

    Raises:
        ValueError: What ``faces.py`` says is of no method.
    """
    if FACES.keys() - METHODS.keys():
        raise ValueError(f"faces.py: there are no such methods: {sorted(FACES.keys() - METHODS.keys())}")
    calls = [Function(method, FACES.get(name, Face())) for name, method in METHODS.items()]
    return {
        "_answers": _formatted(_answers(calls)),
        "_calls": _formatted(_calls(calls)),
        "_descriptors": _formatted(_descriptors(calls)),
        "_methods": _formatted(_methods(calls)),
    }


def _formatted(source: str) -> str:
    """As the formatter has it, without imports that nothing uses."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--select=F401,I", "--fix", "--quiet"], ["format", "--quiet"]):
        run = [*ruff, *command, "--stdin-filename=clients/python/privcmd/_calls.py", "-"]
        source = subprocess.run(run, input=source, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return source


def _answers(calls: Iterable[Function]) -> str:
    classes: dict[str, str] = {}
    for call in calls:
        if call.rows is None:
            continue
        name, fields = call.rows
        fields = tuple(sorted(fields, key=lambda field: field.optional))
        of = "One row of what" if call.type.startswith("list[") else "What"
        lines = [f'"""{of} ``{call.method.name}`` answers.\n\n    Attributes:']
        lines += [wrapped(f"{one.name}: {attribute(one)}", " " * 8) for one in fields]
        body = [*lines, '    """\n']
        for one in fields:
            chosen = call.face.fields.get(one.name)
            kind = field_type(one)
            if chosen is not None:
                kind = f"{chosen} | None" if one.nullable or one.optional else chosen
            body.append(f"    {one.name}: {kind}{' = None' if one.optional else ''}")
        classes[name] = f"@dataclass(frozen=True, slots=True)\nclass {name}:\n    " + "\n".join(body)
    return (
        f'{_MADE}"""What methods answer, as values."""\n\n'
        "from __future__ import annotations\n\n"
        "from dataclasses import dataclass\nfrom typing import TYPE_CHECKING, Any\n\n"
        "if TYPE_CHECKING:\n    from array import array\n\n\n" + "\n\n\n".join(classes.values()) + "\n"
    )


def _descriptors(calls: Iterable[Function]) -> str:
    descriptors = {call.method.name: call.method.fds_out for call in calls if call.method.fds_out}
    return (
        f'{_MADE}"""Which answers bring descriptors."""\n\n'
        f"DESCRIPTORS = {descriptors!r}\n"
        '"""Methods whose good answer carries descriptors, and how many."""\n'
    )


_CALLS_HEAD: Final = f'''{_MADE}"""Every method of the broker as a typed call: what to send, and how to read the answer.

A `Call` is a value and does nothing by itself. Both faces, ``privcmd.Client`` and ``privcmd.trio.AsyncClient``,
have these functions as methods, and perform what they build. Addresses and lengths are in bytes, frames are gfns
(HVM, PVH) or mfns (PV), protections are the ``PROT_*`` of :mod:`mmap`.

Besides the errnos that each names, any call may raise `BrokerGone`, EDQUOT (the caller's uid or connection holds too
much) and EIO (the broker failed; it ends the connection).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from privcmd._answers import {{rows}}
from privcmd._call import Call, given, nothing, whole
from privcmd.evtchn import EventChannel
from privcmd._forms import as_maps, frames_as_bytes, grant_segments, hypercall_arguments, numbers, pick
from privcmd.results import Batch, MemoryFile, SharedPages
from privcmd._rules import PPM, InjectedFault, errno_name, runs

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Mapping, Sequence


'''


def _calls(calls: Iterable[Function]) -> str:
    rows = sorted({call.rows[0] for call in calls if call.rows is not None and call.rows[0] in call.read})
    return _CALLS_HEAD.format(rows=", ".join(rows)) + "\n\n".join(call.function() for call in calls)


def _methods(calls: Iterable[Function]) -> str:
    calls = list(calls)
    by_prefix = {prefix: [call for call in calls if call.method.name.startswith(f"{prefix}.")] for prefix in GROUPS}
    own = [call for call in calls if not any(call in group for group in by_prefix.values())]
    made = []
    for face, helper in (("", "blocking"), ("Async", "awaiting")):
        base = "AwaitingGroup" if face else "BlockingGroup"
        lines = [f"    {call.name}: Final = {helper}(calls.{call.name})" for call in own]
        made.append(f'class {face}Methods:\n    """Methods of the client itself."""\n\n' + "\n".join(lines))
        for prefix, (name, words) in GROUPS.items():
            said = words.replace("``client.", "``await client.") if face else words
            lines = [
                f"    {call.method.name.removeprefix(prefix + '.')}: Final = {helper}(calls.{call.name})"
                for call in by_prefix[prefix]
            ]
            made.append(f'class {face}{name}({base}):\n    """{said}"""\n\n' + "\n".join(lines))
    return (
        f'{_MADE}"""The calls as methods of both faces."""\n\nfrom __future__ import annotations\n\n'
        "from typing import Final\n\nfrom privcmd import _calls as calls\n"
        "from privcmd._faces import AwaitingGroup, BlockingGroup, awaiting, blocking\n\n\n" + "\n\n\n".join(made) + "\n"
    )

# SPDX-License-Identifier: Apache-2.0
"""A program that a compiler's sanitizer was built into: its runtime comes before the shim, and in no other program.

gcc links a program to the sanitizer's runtime as a library, which has to be the first of all; clang puts the runtime
into the program, where it is first anyway.
"""

from __future__ import annotations

import os
import struct

from privcmd._runtimes import is_runtime, named_in_preload

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = "PRIVCMDD_RUNTIME"
"""Tells the shim which runtimes it is to take out of LD_PRELOAD, before the program starts others."""
_HEADER = struct.Struct("<HHIQQQIHHH")  # Elf64_Ehdr, behind e_ident
_SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_ENTRY = struct.Struct("<qQ")  # Elf64_Dyn
_LOAD = 1
_DYNAMIC = 2
_NEEDED = 1
_STRINGS = 5
_NAME_BYTES = 256


def needed(path: str) -> list[str]:
    """The libraries that an ELF program of 64 bits is linked to (DT_NEEDED); none for any other file."""
    with open(path, "rb") as file:
        if file.read(6) != b"\x7fELF\x02\x01":
            return []
        file.seek(16)
        _, _, _, _, at, _, _, _, _, n_segments = _HEADER.unpack(file.read(_HEADER.size))
        file.seek(at)
        segments = [*_SEGMENT.iter_unpack(file.read(_SEGMENT.size * n_segments))]
        entries: list[tuple[int, int]] = []
        for kind, _, offset, _, _, n_bytes, _, _ in segments:
            if kind == _DYNAMIC:
                file.seek(offset)
                entries = [*_ENTRY.iter_unpack(file.read(n_bytes - n_bytes % _ENTRY.size))]
        strings = next((value for tag, value in entries if tag == _STRINGS), 0)
        # The table of names has an address; the segment that it is loaded with says where in the file it is.
        begins = next(
            (
                strings - addr + offset
                for kind, _, offset, addr, _, n_bytes, _, _ in segments
                if kind == _LOAD and addr <= strings < addr + n_bytes
            ),
            None,
        )
        names: list[str] = []
        for tag, value in entries:
            if tag == _NEEDED and begins is not None:
                file.seek(begins + value)
                names.append(file.read(_NAME_BYTES).split(b"\0", 1)[0].decode(errors="replace"))
        return names


def environment(env: Mapping[str, str], program: str) -> dict[str, str]:
    """The environment of a program under the shim, with what its sanitizer wants.

    The runtime that the program is linked to, or that the caller preloads, goes to the front. A sanitized program that
    is started further down, by a shell or by CTest, gets the shim only; ASan is told not to refuse that.

    Args:
        env: The environment with the shim preloaded.
        program: The program that is started.
    """
    named = named_in_preload()
    linked = [name for name in needed(program) if is_runtime(name)]
    runtimes = [*(name for name in linked if name not in {os.path.basename(one) for one in named}), *named]
    options = [one for one in (env.get("ASAN_OPTIONS", ""), "verify_asan_link_order=0") if one]
    more = {"ASAN_OPTIONS": ":".join(options if "verify_asan_link_order" not in options[0] else options[:1])}
    if runtimes:
        first = ":".join(runtimes)
        more |= {OURS: first, "LD_PRELOAD": f"{first}:{env['LD_PRELOAD']}"}
    return {**env, **more}

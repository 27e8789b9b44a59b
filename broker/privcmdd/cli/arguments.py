# SPDX-License-Identifier: Apache-2.0
"""The types of ``privcmdctl``'s arguments: functions from text to a value."""

from __future__ import annotations

import argparse
import os
import re

from privcmd import PAGE_SIZE

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from privcmd.run._guests import DomainConfig

SPEC = "the options of `fault add` without dashes, as dom=1,gfns=0x100+16,nth=3,frame-errno=EINVAL"


def memory(text: str) -> int:
    """A size of whole pages, in bytes. Raises argparse.ArgumentTypeError."""
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 64M, 4096K or a number of bytes")
    size_bytes = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]
    if not size_bytes or size_bytes % PAGE_SIZE:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of pages of {PAGE_SIZE} bytes")
    return size_bytes


def number(text: str) -> int:
    """A number of 0 or more, decimal or hexadecimal. Raises argparse.ArgumentTypeError."""
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 32 or 0x20")
    return value


def domain(text: str) -> int | str:
    """A domain: its number, or else its name. Raises argparse.ArgumentTypeError."""
    try:
        return number(text)
    except argparse.ArgumentTypeError:
        if not text or text.startswith("-"):
            raise
        return utf8(text)


def guest(text: str) -> DomainConfig:
    """A domain to make: KIND:SIZE[,hole=GFN+PAGES|none]...[:NAME]. Raises argparse.ArgumentTypeError."""
    from privcmd.run._guests import DomainConfig  # noqa: PLC0415 - no other command needs it

    kind, _, rest = text.partition(":")
    words, _, name = rest.partition(":")
    size, *more = words.split(",")
    if kind not in ("pv", "hvm", "pvh") or not size or not all(word.startswith("hole=") for word in more):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no domain; write hvm:64M, pv:16M:name, hvm:64M,hole=0x1000+0x100:name or hvm:64M,hole=none"
        )
    holes = tuple(span(word.removeprefix("hole=")) for word in more if word != "hole=none")
    vga_hole = False if "hole=none" in more else None
    return DomainConfig(kind, memory(size) // PAGE_SIZE, utf8(name), holes, vga_hole=vga_hole)


def setting(text: str) -> str:
    """One key of the configuration: TABLE.KEY=VALUE. Raises argparse.ArgumentTypeError."""
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; write TABLE.KEY=VALUE, as limits.frames=1000")
    return text


def of_host(text: str) -> list[str]:
    """Keys of the table ``host``: KEY=VALUE,... Raises argparse.ArgumentTypeError."""
    words = text.split(",")
    if not all("=" in word for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is no host; write KEY=VALUE,..., as xen=4.20,dom0=pvh")
    return [f"host.{word}" for word in words]


def span(text: str) -> tuple[int, int]:
    """A range of frames: FIRST+PAGES, or FIRST for one page. Raises argparse.ArgumentTypeError."""
    first, plus, count = text.partition("+")
    try:
        return number(first), number(count) if plus else 1
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no range; write FIRST+PAGES, as 0xa0+0x20, or FIRST for one page"
        ) from None


def utf8(text: str) -> str:
    """Text in UTF-8, whatever the locale is. Raises argparse.ArgumentTypeError."""
    try:
        return os.fsencode(text).decode()
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{text!a} is not UTF-8") from None


def seconds(text: str) -> float:
    """A time that is not negative. Raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, as 5 or 0.5")
    return value

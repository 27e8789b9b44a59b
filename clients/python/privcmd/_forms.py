# SPDX-License-Identifier: Apache-2.0
"""Conversion of values between their forms in Python and their forms in the protocol."""

from __future__ import annotations

import errno
from array import array
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

from privcmd.errors import PrivcmdError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

HYPERCALL_ARGUMENTS: Final = 5

NO_GRANTS: Final = dict.fromkeys(
    ("source_dom", "source_ref", "source_offset", "dest_dom", "dest_ref", "dest_offset"), 0
)
"""A segment of ``gntdev.copy`` in which neither end is a grant."""


def frames_as_bytes(frames: Iterable[int] | bytes) -> bytes:
    """Frame numbers as little-endian u64 bytes.

    Args:
        frames: Integers (any iterable, a range, a numpy array of any integer type), or bytes that are
            little-endian u64 already. A buffer of 8-byte integers (``array('Q')``) is taken as it is.

    Raises:
        PrivcmdError: EINVAL, a frame is no integer of 0 to 2^64-1, or the bytes are no whole number of frames.
    """
    if isinstance(frames, bytes):
        if len(frames) % 8:
            raise PrivcmdError(errno.EINVAL, f"{len(frames)} bytes are no whole number of 8-byte frames")
        return frames
    try:
        view = memoryview(frames)  # type: ignore[arg-type]
    except TypeError:
        pass
    else:
        if view.format in ("Q", "L", "N", "<Q", "<L") and view.itemsize == 8:
            return view.tobytes()
    try:
        return array("Q", frames).tobytes()
    except (TypeError, ValueError, OverflowError) as error:
        raise PrivcmdError(errno.EINVAL, f"frames must be integers of 0 to 2^64-1: {error}", {"key": "arr"}) from error


def as_maps(rows: Iterable[Sequence[int]], *names: str) -> list[dict[str, int]]:
    """Tuples as maps, with ``names`` as the keys of their parts.

    Raises:
        ValueError: A tuple has more or fewer parts than there are names.
    """
    return [dict(zip(names, row, strict=True)) for row in rows]


def grant_segments(segments: Iterable[Mapping[str, int]]) -> list[dict[str, int]]:
    """Segments of ``gntdev.copy``, with 0 for the keys that an end has only when it is a grant."""
    return [{**NO_GRANTS, **segment} for segment in segments]


def hypercall_arguments(args: Iterable[int]) -> bytes:
    """Arguments of a hypercall as five little-endian u64; 0 for arguments that are left out."""
    return b"".join(arg.to_bytes(8, "little") for arg in args).ljust(8 * HYPERCALL_ARGUMENTS, b"\0")


def pick(kind: type[T], answer: Mapping[str, Any], **converted: Any) -> T:
    """Build a ``kind`` from the keys of ``answer`` that it has fields for; the broker leaves out keys without a value.

    Args:
        kind: A dataclass.
        answer: The map that came.
        converted: Values to use in place of the map's.
    """
    known = {**answer, **converted} if converted else answer
    return kind(**{field.name: known.get(field.name) for field in fields(kind)})  # type: ignore[arg-type]


def numbers(data: bytes | list[int] | None, code: str) -> array[int] | None:
    """A list of integers of the protocol (little-endian ``bin`` or plain array) as an ``array``; None stays None."""
    if data is None:
        return None
    values = array(code)
    if isinstance(data, bytes):
        values.frombytes(data)
    else:
        values.extend(data)
    return values

# SPDX-License-Identifier: Apache-2.0
"""Lists of frames in whatever form the caller has them, as the little-endian u64 that travel."""

from __future__ import annotations

import errno
from array import array
from typing import TYPE_CHECKING

from privcmd.errors import PrivcmdError

if TYPE_CHECKING:
    from collections.abc import Iterable


def as_names(frames: Iterable[int] | bytes) -> bytes:
    """Frame numbers as little-endian u64 bytes.

    Args:
        frames: Integers (any iterable, a range, a numpy array of any integer type), or bytes that are
            little-endian u64 already. A buffer of 8-byte integers (``array('Q')``) is taken as it is.

    Raises:
        PrivcmdError: EINVAL, a frame is no integer of 0 to 2^64-1, or bytes of a broken length.
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

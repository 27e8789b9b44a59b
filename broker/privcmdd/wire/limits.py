# SPDX-License-Identifier: Apache-2.0
"""Every bound of the wire: what it counts, and why it has this value.

A bound is checked on the length that a header *declares*, before memory is allocated for it. Bounds of methods
(frames of one batch, bytes of one read) are here too when the protocol itself promises them. The limits that an
operator can change are in the service's settings.
"""

from typing import Final

DEPTH: Final = 8
"""How deep containers may be nested. The deepest request, `privcmd.mmap`, needs 5: message, params, map, list,
entry."""

NODES: Final = 8192
"""Values in one message, keys included. 1,024 entries of three fields need 7,168; scanning this many takes
about a millisecond, and 8,192 empty containers cost half a MiB."""

STR_BYTES: Final = 4096
"""Bytes of one string. No string of the protocol is longer than a path (PATH_MAX)."""

BIN_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one bin: 2 Mi frame numbers, so that a batch that is twice too large is still answered E2BIG and
does not end the connection."""

MESSAGE_BYTES: Final = BIN_BYTES + 64 * 1024
"""Bytes of one message: one bin of the largest size and room for the rest. It is checked at each string or bin with
a length field; the short strings and numbers behind the last of them add at most 33 bytes each."""

SAFE_INTEGER: Final = 2**53
"""The first integer that a client whose numbers are doubles (JavaScript, Lua) cannot tell from the next."""

ARRAY_FRAMES: Final = 1024
"""Frames in an array instead of a bin: an array takes client and broker 30 times as long as a bin."""

REQUEST_ENTRIES: Final = 1024
"""Entries of one `privcmd.mmap`, and ranges of one `domain.create`; see NODES."""

READ_BYTES: Final = 8 * 1024 * 1024
"""Bytes of one `read` or `write`: half of the largest message, so that the answer always fits."""

COPY_SEGMENTS: Final = 256
"""Segments of one `gntdev.copy`: 4,353 values, see NODES; at most 1 MiB of bytes each way."""

INFO_FRAMES: Final = 1024 * 1024
"""Frame numbers in one answer of `domain.info`: 8 MiB of bin."""

NAME_CHARACTERS: Final = 64
"""Characters of a name (of a domain, a client, a feature): names are written to logs and tables."""

NAMES: Final = 64
"""Names or versions in one list of `hello` or `subscribe`."""

HYPERCALL_BYTES: Final = 40
"""The arguments of a hypercall: five registers of 8 bytes."""

DM_OP_BUFFERS: Final = 16
"""Buffers of one DM_OP: the Linux driver's own bound (privcmd_dm_op_max_num)."""

DM_OP_BYTES: Final = 4096
"""Bytes of one buffer of a DM_OP: the Linux driver's own bound (privcmd_dm_op_buf_max_size)."""

LENT_BYTES: Final = 4096
"""Bytes that the caller of a hypercall lends: a page. Tools pass nothing larger outside hypercall buffers."""

# SPDX-License-Identifier: Apache-2.0
"""What rows of the table share: parameters, fields of results, errors."""

from typing import Final

from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field

PROTOCOL: Final = 1
"""The protocol spoken; a connection without `hello` speaks 1."""

PERSONALITIES: Final = ("uvm", "linux")
"""The personalities that an address space may have."""

NO_DOMAIN: Final = "there is no such domain"
DYING: Final = "the domain is dying: its memory can no longer be changed"
NO_RIGHT: Final = "the caller does not have this right on the domain, or RESTRICT named another domain"
NO_ADMIN: Final = "the caller does not have the right to administer the domain"
PER_FRAME: Final = "The failure of a single frame is a result, not an error."
NO_TOUCH: Final = "a page is not mapped, anonymous (the client's own), protected, or its frame failed"
BAD_RANGE: Final = (
    "len is 0, addr is not page-aligned, the range leaves user addresses, or it would cut a device mapping that cannot "
    "be cut (linux)"
)

DOM: Final = Param("dom", "domid", "the domain")
NUM: Final = Param("num", "u32", "number of frames; must be the number in arr", None, "frames")
ENTRY_NUM: Final = Param("num", "u32", "number of entries; must be the number in entry", None, "entries")
EXTENTS: Final = Param("extents", "bool", "whether to answer where the good frames lie in the memory file", False)
ARR: Final = Param(
    "arr",
    "frames",
    "the frames, one a page; nil when the caller's array cannot be read, which is EFAULT at its place among the checks",
    unit="frames",
    nullable=True,
)
FILE: Final = Param(
    "file",
    "size",
    "which open file of the device asks, by a number that the caller chooses (its inode): each file has its own "
    "RESTRICT; 0: the connection itself",
    0,
)
ADDR: Final = Param("addr", "addr", "first address of the range; page-aligned", unit="bytes")
LEN: Final = Param("len", "size", "length of the range, rounded up to whole pages; not 0", unit="bytes")
PROT: Final = Param("prot", "prot", "protection")
BYTES_ADDR: Final = Param("addr", "addr", "first address, aligned or not", unit="bytes")

EXTENTS_RESULT: Final = Field(
    "extents",
    "extents",
    "only when asked for: the good frames as runs contiguous both in the request and in the memory file",
    optional=True,
)
PROT_RESULT: Final = Field("prot", "int", "only with extents: the protection to map them with", optional=True)
GENERATION_RESULT: Final = Field(
    "generation", "int", "only with extents, while the domain lives: the same as in domain.memory", optional=True
)
VOIDS: Final = Field(
    "voids",
    "bin",
    "only with extents, in a PVH dom0 (linux), when frames failed: the failed frames as runs, little-endian u32 pairs "
    "(first index, n_pages); in their place is memory that reads as ones",
    optional=True,
)
RET: Final = Field(
    "ret", "int", "what the ioctl returns: 0, or -2 (ENOENT) when a frame is paged out; the caller asks for it again"
)
N_FAILED: Final = Field("n_failed", "int", "frames that failed", unit="frames")
WHY: Final = Field(
    "why", "str", "why the request stopped at the first frame not done; nil when all are done", nullable=True
)
SPACE: Final = Field("space", "int", "the address space's number")
ERR: Final = Field("err", "errnos", "nil when nothing failed, else one number for each frame asked for", nullable=True)

DOMAIN_ROW: Final = (
    Field("dom", "int", "its domain id"),
    Field("kind", "str", "pv, hvm or pvh"),
    Field("state", "str", "running, paused or dying"),
    Field("name", "str", "as given to domain.create"),
    Field("tot_pages", "int", "frames it holds", unit="pages"),
    Field("max_pages", "int", "frames it may hold", unit="pages"),
)

GENERATION: Final = Field(
    "generation", "int", "a number that no two domains of one broker share, even if they have the same domain id"
)

LEASE: Final = Field(
    "lease",
    "map",
    "who it was made for; nil when that is not known",
    nullable=True,
    fields=(
        Field("uid", "int", "the uid of the client that made it"),
        Field("pid", "int", "that client's process, as the kernel named it"),
        Field("client", "str", "what that client called itself in hello"),
        Field("job", "str", "the job that it was made in; empty for none"),
        Field("connection", "int", "the number of that client's connection"),
        Field("method", "str", "the method by which it was made"),
        Field("request", "int", "the number of that request within its connection, from 1 on"),
        Field("age_s", "int", "how long ago that was", unit="s"),
        Field("until", "str", "what it is destroyed with: connection or job; or destroyed, by domain.destroy only"),
        Field("ttl_s", "int", "after how long it is destroyed in any case; nil for never", nullable=True, unit="s"),
    ),
)

MAPPING_ERRORS: Final = {"EPERM": NO_RIGHT}

BATCH_ERRORS: Final = {
    **MAPPING_ERRORS,
    "EINVAL": "no frames, addr not page-aligned, the range not mapped or not replaceable, num not as arr",
    "EFAULT": "arr is nil, or err_ok false",
    "E2BIG": "more frames than one batch may have",
}

CHANGE_ERRORS: Final = {
    "ESRCH": NO_DOMAIN,
    "EPERM": NO_ADMIN,
    "EINVAL": DYING,
    "E2BIG": "more frames than one batch may have",
}

PAGING_ERRORS: Final = {
    **CHANGE_ERRORS,
    "ENODEV": "the domain is pv, and only hvm and pvh domains can be paged",
}

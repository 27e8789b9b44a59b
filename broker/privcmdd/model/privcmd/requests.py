# SPDX-License-Identifier: Apache-2.0
"""What the privcmd ioctls of all kernels have in common: arguments, answers, checks, references to frames."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import foreign
from privcmdd.model.units import PAGE_SHIFT, PROT_NONE, PROT_WRITE, VM_MAX_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from privcmdd.model.machine.frames import Errors, Gmfns, Mfns
    from privcmdd.model.mm.space import AddressSpace

FAILED: Final = 0xF000_0000  # PRIVCMD_MMAPBATCH_MFN_ERROR

PAGED_OUT: Final = 0x8000_0000  # PRIVCMD_MMAPBATCH_PAGED_ERROR

MOST_RESOURCE_FRAMES: Final = 1 << 19  # of 8 bytes, in one piece of kernel memory (KMALLOC_MAX_SIZE)

# Makes the answer of a batch that is about to be mapped.
Ready: TypeAlias = "Callable[[Batch], Any]"


class Batch(NamedTuple):
    """The outcome of MMAPBATCH for each frame, in the order of the request.

    Attributes:
        ret: What the ioctl returns: 0, or -ENOENT when the caller is to ask again for paged-out frames.
        mfns: (n,) the mfns mapped, ``NO_FRAME`` for a frame that failed.
        errors: None when all frames are good, else (n,) negative errnos and zeros.
        protection: The protection of the mapping; after MMAP of several ranges, what all ranges allow.
    """

    ret: int
    mfns: Mfns
    errors: Errors | None
    protection: int = PROT_NONE

    @property
    def n_failed(self) -> int:
        """The number of frames that failed."""
        return 0 if self.errors is None else int(np.count_nonzero(self.errors))


@dataclass(frozen=True, slots=True)
class MmapEntry:
    """One entry of MMAP (struct privcmd_mmap_entry): ``npages`` frames from ``mfn`` on, at ``va``."""

    va: int
    mfn: int
    npages: int


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a resource (struct privcmd_mmap_resource): ``num`` frames from ``idx`` on."""

    dom: int
    type: int
    id: int
    idx: int
    num: int


def as_it_is(batch: Batch) -> Any:
    """Return the batch itself as the answer."""
    return batch


def out_of_memory() -> ModelError:
    """Return the answer to a request that there is no memory for."""
    return ModelError(errno.ENOMEM, "the broker has no memory left for this; ask again, or for less at a time")


class Stopped(ModelError):  # noqa: N818 - a ModelError like the others, with the frames that stay mapped
    """MMAP stopped at an entry; the entries before it stay mapped.

    Attributes:
        mfns: (n,) the mfns that stay mapped, in request order.
        protection: The protection of their mapping.
    """

    def __init__(self, cause: ModelError, entry: int, mfns: Mfns, protection: int = PROT_NONE) -> None:
        details: dict[str, Any] = {**cause.details, "entry": entry, "done": entry}
        super().__init__(cause.errno, f"entry {entry}: {cause.text}; the {entry} before it stay mapped", **details)
        self.mfns = mfns
        self.protection = protection


def get_frames(
    space: AddressSpace, domid: int, gmfns: Gmfns, protection: int | None = None, *, stop: bool = False
) -> Generator[None, None, tuple[Mfns, Errors | None]]:
    """Get references to frames, in slices, and yield between two slices.

    Closing the generator, or an error, puts the references again. For ``protection``, ``stop`` and what is
    returned see ``foreign.get``.
    """
    machine = space.machine
    n = len(gmfns)
    if isinstance(gmfns, list) or n <= space.slice_frames:
        return foreign.get(machine, domid, gmfns, protection, stop=stop)
    mfns = np.zeros(n, dtype=np.uint32)
    errors = np.zeros(n, dtype=np.int32)
    failed = False
    done = 0
    try:
        while True:
            asked = gmfns[done : done + space.slice_frames]
            found, part_errors = foreign.get(machine, domid, asked, protection, stop=stop)
            part = slice(done, done + len(found))
            mfns[part] = found
            if part_errors is not None:
                errors[part] = part_errors
                failed = True
            done = part.stop
            if done == n or (failed and stop):
                return mfns[:done], errors[:done] if failed else None
            yield
    except BaseException:
        put_frames(space, mfns)
        raise


def get_resource(space: AddressSpace, wanted: Part, frames: Mfns) -> Mfns:
    """Get references to the frames of a resource, to all of them or none.

    Raises:
        ModelError: The errno of the first frame that fails; what was reserved is given up.
    """
    mfns, errors = foreign.get_mfns(space.machine, wanted.dom, frames)
    if errors is not None:
        put_frames(space, mfns)
        space.abandon()
        index = int(np.flatnonzero(errors)[0])
        raise ModelError(
            -int(errors[index]),
            f"frame {wanted.idx + index} of resource {wanted.type} of domain {wanted.dom} cannot be mapped",
            index=index,
            dom=wanted.dom,
        )
    return mfns


def put_frames(space: AddressSpace, mfns: Mfns) -> None:
    """Put the references that ``get_frames`` took; never fails."""
    space.machine.put_parts([mfns])


def give_up(space: AddressSpace, mfns: Mfns) -> None:
    """Put the references that ``get_frames`` took, and give up what was reserved to map the frames; never fails."""
    put_frames(space, mfns)
    space.abandon()


def check_rights(protection: int, domid: int, *, may_write: bool) -> None:
    """Check that the caller may map a domain with a protection.

    Raises:
        ModelError: EPERM.
    """
    if protection & PROT_WRITE and not may_write:
        raise ModelError(
            errno.EPERM, f"domain {domid} may only be mapped read-only, and the range is writable", dom=domid
        )


def check_size(num: int) -> None:
    """Check the number of frames of a resource: the driver cannot allocate a list of more than 4 MiB.

    Raises:
        ModelError: ENOMEM.
    """
    if num > MOST_RESOURCE_FRAMES:
        raise ModelError(
            errno.ENOMEM, f"num is {num}, a kernel has no room for more than {MOST_RESOURCE_FRAMES}", key="num"
        )


def check_num(num: int, addr: int, key: str = "num") -> int:
    """Check that ``num`` pages from ``addr`` are user addresses.

    Returns:
        The address behind the last page.

    Raises:
        ModelError: EINVAL.
    """
    if num == 0:
        raise ModelError(errno.EINVAL, f"{key} is 0, expected at least one frame", key=key)
    end = addr + (num << PAGE_SHIFT)
    if addr < 0 or end > VM_MAX_ADDRESS:
        raise ModelError(
            errno.EINVAL,
            f"{num} pages at {addr:#x} reach past {VM_MAX_ADDRESS:#x}, the end of user addresses",
            key="addr",
            addr=addr,
        )
    return end


def run_of(mfn: int, n_pages: int) -> Gmfns:
    """Return the gmfns of consecutive frames; they wrap at 64 bits, as the driver's ``mfn + i`` does."""
    if n_pages == 1:
        return [mfn]
    return np.arange(n_pages, dtype=np.uint64) + np.uint64(mfn)


def hidden(gmfns: Gmfns, marked: Gmfns, errors: Errors) -> list[int]:
    """Return the indices of failed frames that V1's report does not show, because their gmfns had the bits already."""
    same = np.asarray(gmfns, dtype=np.uint64) == np.asarray(marked, dtype=np.uint64)
    return np.flatnonzero(same & (np.asarray(errors) != 0)).tolist()


def with_nibbles(gmfns: Gmfns, errors: Errors, paged_nibble: int) -> Gmfns:
    """Return V1's report: error bits or-ed into the caller's gmfns; the upper halves and good entries stay."""
    if isinstance(gmfns, list):
        return [
            gmfn | (paged_nibble if error == -errno.ENOENT else FAILED) if error else gmfn
            for gmfn, error in zip(gmfns, errors, strict=True)
        ]
    bad = np.asarray(errors)
    bits = np.where(bad == 0, 0, np.where(bad == -errno.ENOENT, paged_nibble, FAILED)).astype(np.uint64)
    return gmfns | bits

# SPDX-License-Identifier: Apache-2.0
"""What the model has decided and somebody else must carry out: nothing on this floor touches the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from privcmdd.model.domain import State
    from privcmdd.model.findings import Found


@dataclass(frozen=True, slots=True)
class Discard:
    """Pages of a memory file hold nothing any more: give them back to the host."""

    domid: int
    pages: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A domain came, began to die, or is gone."""

    domid: int
    state: State


@dataclass(frozen=True, slots=True)
class DiscardBuffers:
    """Pages of a buffer file hold nothing any more."""

    number: int
    pages: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class BuffersGone:
    """The last address space that shared a buffer file is gone."""

    number: int


@dataclass(frozen=True, slots=True)
class FrameWanted:
    """Somebody looked for a guest frame that its domain's pager has evicted."""

    domid: int
    gfn: int


@dataclass(frozen=True, slots=True)
class Raised:
    """An event of a channel: the one of its first or of its second end."""

    channel: int
    side: int


@dataclass(frozen=True, slots=True)
class ChannelGone:
    """Both ends of an event channel are closed."""

    channel: int


Effect: TypeAlias = "Discard | StateChanged | DiscardBuffers | BuffersGone | FrameWanted | Raised | ChannelGone | Found"

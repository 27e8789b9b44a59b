# SPDX-License-Identifier: Apache-2.0
"""The configuration of the service: frozen values, no files, no environment.

The defaults here are the defaults of ``config/privcmdd.toml``; ``server/config.py`` fills these from a
file, the environment and the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from privcmdd.model.host import Host

Rights = Literal["read", "write", "admin"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Quotas: of each uid unless the line says otherwise. Over quota is EDQUOT and changes nothing."""

    frames: int = 16_777_216  # present foreign pages
    entries: int = 262_144  # map entries
    objects: int = 262_144  # uvm objects
    spaces: int = 1_024  # address spaces
    batches: int = 64  # map requests being prepared at one time
    queued_bytes: int = 16 * 1024 * 1024  # replies and notifications not yet taken
    incoming_bytes: int = 64 * 1024 * 1024  # messages that come in pieces, until their requests are done
    restricted_files: int = 65_536  # files of the device that may name one domain only
    fds: int = 1_024  # descriptors that the broker holds: one for each connection
    connection_queued_bytes: int = 1024 * 1024  # of one connection: above it the broker reads no more requests
    frames_per_batch: int = 1_048_576  # of one request: more is E2BIG
    slice_frames: int = 16_384  # frames prepared between two checkpoints
    zombie_s: int = 5  # how long a destroyed domain may stay mapped before that is a finding


@dataclass(frozen=True, slots=True)
class MachineSize:
    """The simulated machine."""

    memory_mib: int = 16_384
    domains: int = 1_024
    gfns_per_domain: int = 16_777_216  # highest guest frame number plus one; also bounds a memory file


@dataclass(frozen=True, slots=True)
class SpaceDefaults:
    """The settings of an address space unless ``space.attach`` says otherwise."""

    personality: str = "uvm"
    probe: Literal["load", "scratch"] = "load"
    merge: bool = False


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Who may do what with which domains.

    A rule applies to a peer when its uid is in ``uids`` or one of its groups is in ``gids``; the rights of
    all rules that apply add up. ``read`` maps read-only, ``write`` also maps writable, ``admin`` also
    creates, changes and destroys.
    """

    rights: Rights
    uids: tuple[int, ...] = ()
    gids: tuple[int, ...] = ()
    domains: tuple[int, ...] | Literal["all"] = "all"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. An empty ``access`` refuses every client; the server fills in the default rule."""

    limits: Limits = field(default_factory=Limits)
    machine: MachineSize = field(default_factory=MachineSize)
    space: SpaceDefaults = field(default_factory=SpaceDefaults)
    host: Host = field(default_factory=Host)
    access: tuple[AccessRule, ...] = ()
    paranoid: bool = False

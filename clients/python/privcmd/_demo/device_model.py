# SPDX-License-Identifier: Apache-2.0
"""A device model: a process of its own that maps guest memory through the client library, on command.

It reads one JSON command on each line of standard input and answers each with one JSON line. It uses guest memory only
through `privcmd`, as a user's program would.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import sys
import threading
from array import array
from typing import Any

import privcmd
from privcmd import Client, ForeignMemory, Mapping

PAGE = privcmd.PAGE_SIZE


class DeviceModel:
    """The commands; ``name`` is always the name of a mapping that was made before."""

    def __init__(self, path: str) -> None:
        self.client: Client = Client(path)
        self.foreign: ForeignMemory = ForeignMemory(self.client)
        self.mappings: dict[str, Mapping] = {}

    def attach(self, **settings: Any) -> dict[str, Any]:
        """Choose the settings of the address space. Returns the broker's answer."""
        space = self.client.attach(**settings)
        return {"space": space.space, "pid": os.getpid()}

    def map(self, name: str, domid: int, ranges: list[list[int]], *, write: bool = True) -> dict[str, Any]:
        """Map frames by MMAPBATCH_V2, and keep the mapping also when frames fail."""
        prot = privcmd.PROT_READ | (privcmd.PROT_WRITE if write else 0)
        mapping = self.foreign.map(domid, _frames(ranges), prot, errors="keep")
        self.mappings[name] = mapping
        n_failed = len(mapping.errors) - mapping.errors.count(0)
        return {"address": mapping.address, "n_pages": mapping.n_pages, "n_failed": n_failed}

    def reserve(self, name: str, n_pages: int) -> dict[str, Any]:
        """Reserve addresses for the ioctls that map into an existing mapping."""
        mapping = self.mappings[name] = self.foreign.reserve(n_pages)
        return {"address": mapping.address}

    def batch(self, name: str, version: int, domid: int, ranges: list[list[int]]) -> list[int]:
        """Make one MMAPBATCH over the whole mapping. Returns V1's array or V2's errors."""
        ioctl = self.foreign.mmapbatch if version == 1 else self.foreign.mmapbatch_v2
        return list(ioctl(domid, self.mappings[name].address, _frames(ranges)))

    def entries(self, name: str, domid: int, entries: list[list[int]]) -> None:
        """Make one MMAP with entries of (page of the mapping, first frame, n_pages)."""
        base = self.mappings[name].address
        self.foreign.mmap_entries(domid, [(base + page * PAGE, mfn, n) for page, mfn, n in entries])

    def digest(self, name: str, size_bytes: int) -> str:
        """The SHA-256 of the mapping's first bytes."""
        with memoryview(self.mappings[name]) as whole:
            return hashlib.sha256(whole[:size_bytes]).hexdigest()

    def peek(self, name: str, at: int, size_bytes: int) -> str:
        """Read real memory. Returns the bytes in hexadecimal."""
        return self.mappings[name][at : at + size_bytes].hex()

    def poke(self, name: str, at: int, data: str) -> None:
        """Write to real memory."""
        raw = bytes.fromhex(data)
        self.mappings[name][at : at + len(raw)] = raw

    def fault(self, name: str, page: int) -> str:
        """Access a page through the broker. Returns the errno's name, or "entered"."""
        try:
            self.client.fault(self.mappings[name].address + page * PAGE)
        except privcmd.PrivcmdError as error:
            return error.name
        return "entered"

    def replace(self, name: str, domid: int, ranges: list[list[int]]) -> str:
        """Replace frames from the mapping's start on, all or nothing. Returns the errno's name, or "replaced"."""
        try:
            self.foreign.map(domid, _frames(ranges), addr=self.mappings[name].address)
        except privcmd.PrivcmdError as error:
            return error.name
        return "replaced"

    def overreach(self, name: str, domid: int, ranges: list[list[int]]) -> str:
        """Make a batch that is longer than the mapping at whose address it begins. Returns the errno's name."""
        try:
            self.client.privcmd_mmapbatch_v2(domid, self.mappings[name].address, _frames(ranges))
        except privcmd.PrivcmdError as error:
            return error.name
        return "replaced"

    def storm(self, name: str, domid: int, ranges: list[list[int]], n_each: int) -> dict[str, Any]:
        """For each range a thread replaces the whole mapping by it, again and again; one more reads real memory."""
        mapping = self.mappings[name]
        done = threading.Event()
        seen: set[int] = set()
        errors: list[str] = []

        def replace(span: list[int]) -> None:
            try:
                for _ in range(n_each):
                    self.foreign.map(domid, _frames([span]), addr=mapping.address)
            except privcmd.PrivcmdError as error:
                errors.append(str(error))

        def look() -> None:
            while not done.is_set():
                seen.update(mapping[page * PAGE] for page in range(mapping.n_pages))

        replacers = [threading.Thread(target=replace, args=(span,)) for span in ranges]
        looker = threading.Thread(target=look)
        for thread in (looker, *replacers):
            thread.start()
        for thread in replacers:
            thread.join()
        done.set()
        looker.join()
        return {"n_replaced": n_each * len(ranges), "errors": errors, "seen": sorted(seen)}

    def watch(self, address: int, size_bytes: int) -> dict[str, Any]:
        """Read a range of the space in one request, again and again, until the next line comes.

        Each time all pages must have the same value: all of the old mapping or all of the new one.
        """
        seen: dict[int, int] = {}
        n_mixed = 0
        while True:
            data = self.client.read(address, size_bytes)
            if data.count(data[0]) == len(data):
                seen[data[0]] = seen.get(data[0], 0) + 1
            else:
                n_mixed += 1
            if sum(seen.values()) + n_mixed == 1:
                _say("looking")
            if select.select([sys.stdin], [], [], 0)[0]:
                sys.stdin.readline()
                return {"n_looks": sum(seen.values()) + n_mixed, "n_mixed": n_mixed, "seen": sorted(seen)}

    def flood(self, domid: int, n_frames: int, n_batches: int) -> None:
        """Send many huge batches at once. The demonstration kills the process in the middle of them."""
        names = array("Q", range(n_frames)).tobytes()
        addr = self.client.mmap(0, n_frames * PAGE, privcmd.PROT_READ | privcmd.PROT_WRITE)
        batch = ("privcmd.mmapbatch_v2", {"dom": domid, "addr": addr, "arr": names})
        _say("sending")
        self.client.call_many([batch] * n_batches)

    def unmap(self, name: str) -> None:
        """Close one mapping."""
        self.mappings.pop(name).close()


def _frames(ranges: list[list[int]]) -> array[int]:
    frames = array("Q")
    for first, n in ranges:
        frames.extend(range(first, first + n))
    return frames


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Carry out commands until standard input ends."""
    model = DeviceModel(sys.argv[1])
    _say("ready")
    # readline, not iteration: `watch` reads the same stream, and iteration would read ahead of it.
    while line := sys.stdin.readline():
        command = json.loads(line)
        _say(getattr(model, command.pop("do"))(**command))
    model.foreign.close()
    model.client.close()


if __name__ == "__main__":
    main()

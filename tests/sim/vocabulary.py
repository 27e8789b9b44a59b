# SPDX-License-Identifier: Apache-2.0
"""What simulated clients ask: likely requests of every method, unlikely ones of the right types, and plain nonsense.

A method that has no line of its own here is asked with whatever its row of the table allows, so a new method is
simulated from the day it is in the table.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from privcmdd.model.units import PAGE_SIZE as PAGE
from privcmdd.wire.methods import METHODS
from sim import hypercalls

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from privcmdd.wire.params import Param

N_PAGES: Final = 64  # of the range that all clients quarrel about
MAX_PAGES: Final = 72  # of a guest
BASE: Final = 0x10_0000_0000
GRANTS: Final = BASE + (1 << 30)
BUFFERS: Final = hypercalls.BUFFERS
PLACES: Final = (0, BASE, BASE + PAGE, BASE + 3 * PAGE + 8, GRANTS, BUFFERS, 2**47 - PAGE, 2**47, 2**53 - 1)
DOMAINS: Final = (1, 1, 1, 2, 2, 3, 3, 4, 0, 0x7FF0, 0x7FF1, 0x7FF2)
NUMBERS: Final = (0, 1, 2, 5, 40, 1024, 2**20, 2**20 + 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1)

Params = dict[str, Any]


class Ask(NamedTuple):
    """A request before it has a number."""

    method: str
    params: Params


class Vocabulary:
    """What there is to say, and what was learnt from answers.

    Attributes:
        gmfns: By domain: gmfns that had a frame once.
        spaces: Address spaces that were heard of.
        ports: By domain: event channels that were heard of.
        waiting: Those of guests that domain 0 may bind to, as (domain, port).
    """

    def __init__(self, rng: Random, weights: dict[str, float], xen: str) -> None:
        """Choose words by ``weights``, a method; hypercalls are those of tools for a release of Xen."""
        self._rng = rng
        self._xen = xen
        self._methods = list(weights)
        self._weights = list(weights.values())
        self.gmfns: dict[int, list[int]] = {}
        self.spaces: list[int] = []
        self.ports: dict[int, list[int]] = {}
        self.waiting: list[tuple[int, int]] = []

    def ask(self, nonsense: float) -> list[Ask]:
        """A few requests that belong together."""
        rng = self._rng
        method = rng.choices(self._methods, self._weights)[0]
        if rng.random() < nonsense:
            return [Ask(method, self._nonsense(method))]
        special = _SPECIAL.get(method)
        if special is None:
            return [Ask(method, self.anything(method))]
        said = special(self)
        return said if isinstance(said, list) else [Ask(method, said)]

    def learn(self, method: str, params: Params, result: Params) -> None:
        """Remember what an answer said."""
        if method == "domain.info" and result.get("frames"):
            frames = struct.unpack(f"<{len(result['frames']) // 8}Q", result["frames"])
            self.gmfns[params["dom"]] = [gmfn for gmfn in frames if gmfn < 2**32]
        elif method == "domain.destroy":
            self.gmfns.pop(params["dom"], None)
            self.ports.pop(params["dom"], None)
        elif "port" in result:
            self._hear_of(params.get("on", 0), [result["port"]], waits=params.get("remote") == 0)
        elif method == "ioreq.servers":
            for server in result["servers"]:
                self._hear_of(params["dom"], [*server["ports"], server["bufioreq_port"]], waits=True)
        elif method in ("space.attach", "space.fork"):
            self.spaces = [*self.spaces[-7:], result["space"]]

    def _hear_of(self, dom: int, ports: list[int], *, waits: bool) -> None:
        self.ports[dom] = [*self.ports.get(dom, []), *ports][-8:]
        if waits and dom:
            self.waiting = [*self.waiting, *((dom, port) for port in ports)][-8:]

    def greeting(self) -> list[Ask]:
        """What most say first: a place to map to."""
        return self.attach() if self._rng.random() < 0.8 else []

    # Likely requests

    def range(self) -> Params:
        """A range of the place that all quarrel about."""
        n = self._rng.choice((1, 1, 2, 5, 12, 30, 40, N_PAGES))
        at = self._rng.randrange(N_PAGES - n + 1)
        return {"addr": BASE + at * PAGE, "len": n * PAGE}

    def frames(self, dom: int, n: int) -> list[int]:
        """Names of a domain's frames, some of which are not there."""
        rng = self._rng
        known = self.gmfns.get(dom)
        if known and rng.random() < 0.9:
            at = rng.randrange(len(known))
            return [known[(at + i) % len(known)] for i in range(n)]
        first, stride = rng.randrange(40), rng.randrange(3)
        return [first + stride * i for i in range(n)]

    def first(self, dom: int, n: int) -> int:
        """The first of a run of frames, whose end may not be there."""
        known = self.gmfns.get(dom)
        return known[self._rng.randrange(max(1, len(known) - n))] if known else self._rng.randrange(40)

    def listed(self, gmfns: list[int]) -> bytes | list[int]:
        """A frame list in one of its two forms."""
        return gmfns if self._rng.random() < 0.2 else struct.pack(f"<{len(gmfns)}Q", *gmfns)

    def place(self) -> Params:
        """A range, mapped anew for what comes then: linux wants it fresh and filled as a whole."""
        return {**self.range(), "prot": self._rng.choice((3, 3, 3, 1)), "fixed": True}

    def domain(self) -> int:
        """One that lives, if there is one that is known."""
        rng = self._rng
        return rng.choice(sorted(self.gmfns)) if self.gmfns and rng.random() < 0.85 else rng.choice(DOMAINS)

    def batch(self, method: str) -> list[Ask]:
        """``privcmd.mmapbatch`` and ``_v2``."""
        place, dom = self.place(), self.domain()
        gmfns = self.frames(dom, place["len"] // PAGE)
        params: Params = {"dom": dom, "addr": place["addr"], "arr": self.listed(gmfns)}
        if self._rng.random() < 0.3:
            params["extents"] = True
        return [*([Ask("mmap", place)] if self._rng.random() < 0.6 else []), Ask(method, params)]

    def entries(self) -> list[Ask]:
        """``privcmd.mmap``: entries that follow each other, mostly."""
        rng = self._rng
        place, dom = self.place(), self.domain()
        rows: list[dict[str, int]] = []
        at, end = place["addr"], place["addr"] + place["len"]
        while at < end and len(rows) < 4:
            n = rng.randint(1, (end - at) // PAGE)
            rows.append({"va": at, "mfn": self.first(dom, n), "npages": n})
            if rng.random() < 0.9:
                at += n * PAGE
        said = [Ask("mmap", place)] if rng.random() < 0.7 else []
        return [*said, Ask("privcmd.mmap", {"dom": dom, "entry": rows, "extents": rng.random() < 0.3})]

    def some(self, *, most: int = 8) -> Params:
        """A few frames of a domain, to be changed."""
        dom = self.domain()
        return {"dom": dom, "arr": self.listed(self.frames(dom, self._rng.randint(1, most)))}

    def reserve(self) -> Params:
        """``mmap``: mostly the place that all quarrel about, as a whole."""
        rng = self._rng
        where = self.range() if rng.random() < 0.4 else {"addr": BASE, "len": N_PAGES * PAGE}
        file = rng.choices((None, "privcmd", "anon", "gntdev", "hypercall"), (8, 2, 2, 1, 1))[0]
        params = {**where, "prot": rng.choice((3, 3, 3, 1, 0)), "fixed": rng.random() < 0.9}
        return params if file is None else {**params, "file": file}

    def unmap(self) -> Params:
        """Part of the place that all quarrel about, or the hypercall buffers."""
        buffers = {"addr": BUFFERS, "len": hypercalls.N_BUFFERS * PAGE}
        return buffers if self._rng.random() < 0.1 else self.range()

    def touch(self) -> Params:
        """An address, as a page fault has it."""
        at = BASE + self._rng.randrange(N_PAGES * PAGE)
        return {"addr": at, "access": self._rng.choice(("read", "write"))}

    def look(self) -> Params:
        """Bytes to read."""
        return {"addr": BASE + self._rng.randrange(N_PAGES * PAGE), "len": self._rng.choice((1, 8, 100, 5000))}

    def change(self) -> Params:
        """Bytes to write."""
        at = BASE + self._rng.randrange(N_PAGES * PAGE)
        return {"addr": at, "data": self._rng.randbytes(self._rng.choice((1, 8, 100, 5000)))}

    def attach(self) -> list[Ask]:
        """Into somebody's space, or one of one's own with a place to map to."""
        rng = self._rng
        if self.spaces and rng.random() < 0.4:
            return [Ask("space.attach", {"space": rng.choice(self.spaces)})]
        params: Params = {"personality": rng.choice(("uvm", "linux"))}
        if params["personality"] == "uvm":
            params |= {"probe": rng.choice(("load", "scratch")), "merge": rng.random() < 0.5}
        place = {"addr": BASE, "len": N_PAGES * PAGE, "prot": rng.choice((3, 3, 1)), "fixed": True}
        return [Ask("space.attach", params), Ask("mmap", place)]

    def create(self) -> list[Ask]:
        """A guest of some memory, and what its frames are called."""
        rng = self._rng
        dom = rng.choice((1, 2, 3, 4))
        kind = rng.choice(("hvm", "hvm", "pv", "pvh"))
        n = rng.choice((8, 32, 64, 64))
        params = {"dom": dom, "kind": kind, "max_pages": MAX_PAGES, "ranges": [{"gfn": 0, "npages": n}]}
        return [Ask("domain.create", params), Ask("domain.info", {"dom": dom, "start": 0, "num": MAX_PAGES})]

    def info(self) -> Params:
        """What a domain's frames are called now."""
        return {"dom": self._rng.choice(DOMAINS[:8]), "start": 0, "num": MAX_PAGES}

    def resource(self) -> Params:
        """Part of a grant table or of an ioreq server's pages, or how large that is."""
        rng = self._rng
        params = {"dom": self.domain(), "type": rng.choice((0, 0, 1, 1)), "id": rng.choice((0, 0, 1))}
        if rng.random() < 0.2:
            return params
        return {**params, "idx": rng.choice((0, 0, 1, 3)), "num": rng.choice((1, 2, 4)), "addr": self.range()["addr"]}

    def grant(self) -> list[Ask]:
        """A guest fills its grant table, and somebody maps what it grants."""
        rng = self._rng
        dom = self.domain()
        n = rng.choice((1, 2, 4))
        rows = b"".join(struct.pack("<HHI", 1, 0, gmfn & 0xFFFF_FFFF) for gmfn in self.frames(dom, n))
        table = {"addr": BASE + rng.randrange(N_PAGES) * PAGE, "len": PAGE, "prot": 3, "fixed": True}
        map_them = Ask("gntdev.map", {"dom": dom, "addr": GRANTS, "arr": struct.pack(f"<{n}Q", *range(n))})
        if rng.random() < 0.5:
            return [map_them]
        return [
            Ask("mmap", table),
            Ask("privcmd.mmap_resource", {"dom": dom, "type": 1, "id": 0, "idx": 0, "num": 1, "addr": table["addr"]}),
            Ask("write", {"addr": table["addr"], "data": rows}),
            Ask("mmap", {"addr": GRANTS, "len": n * PAGE, "prot": 3, "fixed": True, "file": "gntdev"}),
            map_them,
        ]

    def hypercall(self) -> list[Ask]:
        """Buffers, arguments in them, the call, and a look at what it wrote."""
        place = {"addr": BUFFERS, "len": hypercalls.N_BUFFERS * PAGE, "prot": 3, "fixed": True, "file": "hypercall"}
        said = [Ask("mmap", place)] if self._rng.random() < 0.9 else []
        call = hypercalls.choose(self._rng, self._xen)
        said += [Ask("write", {"addr": at, "data": data}) for at, data in call.buffers]
        said.append(Ask("privcmd.hypercall", {"op": call.op, "arg": struct.pack("<5Q", *call.arguments)}))
        if self._rng.random() < 0.2:
            said.append(Ask("read", {"addr": BUFFERS, "len": 144}))
        return said

    def dm_op(self) -> Params:
        """A device model's request."""
        return {"dom": self._rng.choice(DOMAINS[:8]), "bufs": hypercalls.dm_op(self._rng)}

    def port(self, dom: int) -> int:
        """One that was in use, mostly."""
        known = self.ports.get(dom)
        return self._rng.choice(known) if known and self._rng.random() < 0.9 else self._rng.choice((*range(6), 4096))

    def either_end(self) -> int:
        """Domain 0, or a guest."""
        return self._rng.choice((0, self.domain()))

    def unbound(self) -> Params:
        """A port for another domain, one's own or a guest's."""
        on = self._rng.choice((0, self.domain(), self.domain()))
        return {"on": on, "remote": self.domain() if not on or self._rng.random() < 0.2 else 0}

    def bind(self) -> Params:
        """To a port of a guest that waits for it, or, on behalf of a guest, to one of domain 0."""
        if self.waiting and self._rng.random() < 0.8:
            dom, port = self.waiting.pop()
            return {"dom": dom, "port": port}
        on = self.either_end()
        dom = 0 if on and self._rng.random() < 0.8 else self.domain()
        return {"on": on, "dom": dom, "port": self.port(dom)}

    def channel(self) -> Params:
        """A port to do something with."""
        on = self.either_end()
        return {"on": on, "port": self.port(on)}

    def rule(self) -> Params:
        """A fault on demand, for a few requests."""
        rng = self._rng
        action = rng.choice(
            (
                {"delay_ms": rng.choice((1, 50, 500)), "when": rng.choice(("before", "after"))},
                {"delay_ms": rng.choice((1, 50, 500))},
                {"drop": True, "when": rng.choice(("before", "after"))},
                {"errno": "ENOMEM"},
                {"frame_errno": "EINVAL", "gfns": [{"gfn": rng.randrange(64), "npages": 4}], "dom": 1},
                {"paged": rng.choice((1, 3)), "dom": 1},
            )
        )
        where: Params = {"method": rng.choice(self._methods)} if rng.random() < 0.6 else {}
        return {**where, **action, "nth": rng.choice((1, 1, 5)), "times": rng.choice((1, 2, 8))}

    def restrict(self) -> Params:
        """One of a few files gives up all domains but one; the connection itself seldom does."""
        file = self._rng.choice((1, 2, 3, 4, 5, 6, 7, 0))
        return {"dom": self._rng.choice(DOMAINS[:8]), "file": file}

    # Unlikely requests

    def anything(self, method: str) -> Params:
        """Each parameter as its type allows; half of those that may be missing are."""
        rng = self._rng
        return {
            param.name: self._value(param) for param in METHODS[method].params if param.required or rng.random() < 0.5
        }

    def _nonsense(self, method: str) -> Params:
        """One key that is missing, unknown, or of a wrong type or size."""
        rng = self._rng
        params = self.anything(method)
        wrong = rng.choice(("missing", "unknown", "type"))
        if wrong == "missing" and params:
            del params[rng.choice(sorted(params))]
        elif wrong == "type" and params:
            params[rng.choice(sorted(params))] = rng.choice((None, True, -1, 2**63, "?", b"\xff", [], [[]], {}, [-1]))
        else:
            params["colour"] = "red"
        return params

    def _value(self, param: Param) -> Any:
        rng = self._rng
        make: dict[str, Callable[[], Any]] = {
            "domid": lambda: rng.choice(DOMAINS),
            "addr": lambda: rng.choice(PLACES),
            "prot": lambda: rng.randrange(8),
            "bool": lambda: rng.random() < 0.5,
            "str": lambda: rng.choice(("guest", "", "x" * 64, "x" * 65, "tab\t")),
            "enum": lambda: rng.choice(param.choices),
            "bin": lambda: rng.randbytes(rng.choice((0, 1, 40, 200))),
            "bins": lambda: [rng.randbytes(8) for _ in range(rng.choice((0, 1, 3, 17)))],
            "frames": lambda: self.listed([rng.randrange(64) for _ in range(rng.choice((0, 1, 8)))]),
            "entries": lambda: [{"va": rng.choice(PLACES), "mfn": rng.randrange(64), "npages": rng.choice(NUMBERS)}],
            "ranges": lambda: [{"gfn": rng.choice(NUMBERS), "npages": rng.choice(NUMBERS)}],
            "ints": lambda: [1],
            "strs": lambda: rng.choice((["domain"], ["ioreq", "interrupt"], ["domain", "space"], ["weather"], [])),
        }
        return make.get(param.type, lambda: rng.choice(NUMBERS))()


_SPECIAL: Final[dict[str, Callable[[Vocabulary], Params | list[Ask]]]] = {
    "space.attach": Vocabulary.attach,
    "mmap": Vocabulary.reserve,
    "munmap": Vocabulary.unmap,
    "mprotect": lambda self: {**self.range(), "prot": 1},
    "read": Vocabulary.look,
    "write": Vocabulary.change,
    "fault": Vocabulary.touch,
    "privcmd.mmap": Vocabulary.entries,
    "privcmd.mmapbatch": lambda self: self.batch("privcmd.mmapbatch"),
    "privcmd.mmapbatch_v2": lambda self: self.batch("privcmd.mmapbatch_v2"),
    "privcmd.mmap_resource": Vocabulary.resource,
    "privcmd.restrict": Vocabulary.restrict,
    "privcmd.hypercall": Vocabulary.hypercall,
    "privcmd.dm_op": Vocabulary.dm_op,
    "gntdev.map": Vocabulary.grant,
    "evtchn.alloc_unbound": Vocabulary.unbound,
    "evtchn.bind_interdomain": Vocabulary.bind,
    "evtchn.bind_virq": lambda self: {"virq": 3, "on": self.either_end()},
    **dict.fromkeys(("evtchn.attach", "evtchn.close", "evtchn.notify", "evtchn.pending"), Vocabulary.channel),
    "evtchn.list": lambda self: {"on": self.either_end()},
    **dict.fromkeys(("ioreq.servers", "guest.interrupts"), lambda self: {"dom": self.domain()}),
    "faults.add": Vocabulary.rule,
    "domain.create": Vocabulary.create,
    "domain.info": Vocabulary.info,
    "domain.populate": Vocabulary.some,
    "domain.decrease_reservation": Vocabulary.some,
    "domain.page_out": Vocabulary.some,
    "domain.page_in": Vocabulary.some,
}
# How often each is said, before a seed has its own idea of it.
USUAL: Final = {
    **dict.fromkeys(METHODS, 0.5),
    "space.attach": 0.5,
    "mmap": 4.0,
    "munmap": 4.0,
    "mprotect": 2.0,
    "read": 2.0,
    "write": 2.0,
    "fault": 2.0,
    "privcmd.mmap": 8.0,
    "privcmd.mmapbatch": 10.0,
    "privcmd.mmapbatch_v2": 10.0,
    "privcmd.mmap_resource": 2.0,
    "privcmd.hypercall": 3.0,
    "privcmd.dm_op": 3.0,
    "gntdev.map": 1.5,
    "evtchn.alloc_unbound": 1.5,
    "evtchn.bind_interdomain": 1.5,
    "evtchn.restrict": 0.1,
    "evtchn.close": 1.0,
    "evtchn.notify": 1.0,
    "describe": 0.1,
    "domain.create": 3.0,
    "domain.decrease_reservation": 1.5,
    "domain.populate": 1.5,
}

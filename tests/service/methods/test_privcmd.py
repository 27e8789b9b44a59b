# SPDX-License-Identifier: Apache-2.0
"""What requests are answered: forms, bounds, order of checks, bytes."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from privcmdd.service.methods.stats import counters
from support.desk import BASE, PAGE, ROOT, Desk, Refused, errnos, frames, settings, triples

HOLE = 40
MMAP, V1, V2 = "privcmd.mmap", "privcmd.mmapbatch", "privcmd.mmapbatch_v2"


@pytest.fixture
def desk() -> Desk:
    """A broker with an HVM domain 1 (gfns 0 to 31 and 96 to 127) and a PV domain 2."""
    made = Desk(settings(slice_frames=12, frames_per_batch=200))
    root = made.connect(ROOT)
    made.domain(root, dom=1, max_pages=128, ranges=[{"gfn": 0, "npages": 32}, {"gfn": 96, "npages": 32}])
    made.domain(root, "pv", dom=2, max_pages=16)
    made.broker.disconnect(root)
    return made


@pytest.mark.parametrize("n", [4, 34])
def test_answers_come_in_the_form_of_the_question(desk: Desk, n: int) -> None:
    """A list for a list, bin for bin; nil when nothing failed."""
    session = desk.connect()
    desk.reserve(session, n)
    names = [HOLE if i in (1, n - 1) else i % 32 for i in range(n)]
    good = [i % 32 for i in range(n)]
    bad = [-22 if name == HOLE else 0 for name in names]
    marked = [HOLE | 0xF000_0000 if name == HOLE else name for name in names]

    listed = desk.call(session, V2, dom=1, addr=BASE, arr=names)
    packed = desk.call(session, V2, dom=1, addr=BASE, arr=frames(*names))
    assert listed == {"ret": 0, "n_failed": 2, "err": bad}
    assert packed == {"ret": 0, "n_failed": 2, "err": struct.pack(f"<{n}i", *bad)}
    assert errnos(packed["err"]) == bad
    assert desk.call(session, V1, dom=1, addr=BASE, arr=names) == {"ret": 0, "n_failed": 2, "arr": marked}
    assert desk.call(session, V1, dom=1, addr=BASE, arr=frames(*names))["arr"] == frames(*marked)
    for method, field in ((V1, "arr"), (V2, "err")):
        for form in (good, frames(*good)):
            answer = desk.call(session, method, dom=1, addr=BASE, arr=form, num=n)
            assert answer == {"ret": 0, "n_failed": 0, field: None}


def test_extents_say_where_the_good_frames_lie(desk: Desk) -> None:
    """Runs contiguous both in the request and in the file; only when asked for; over all entries of MMAP."""
    session = desk.connect()
    desk.reserve(session, 40)

    batch = desk.call(session, V2, dom=1, addr=BASE, arr=[3, 4, HOLE, 5, 6, 96, 20], extents=True)
    assert triples(batch["extents"]) == [(0, 3, 2), (3, 5, 2), (5, 96, 1), (6, 20, 1)]
    assert triples(desk.call(session, V1, dom=1, addr=BASE, arr=[7], extents=True)["extents"]) == [(0, 7, 1)]
    assert desk.call(session, V1, dom=1, addr=BASE, arr=[HOLE], extents=True)["extents"] == b""
    rows = [{"va": BASE + 2 * PAGE, "mfn": 3, "npages": 2}, {"va": BASE, "mfn": 5, "npages": 1}]
    assert desk.call(session, MMAP, dom=1, entry=rows) == {"ret": 0, "done": 2}
    done = desk.call(session, MMAP, dom=1, entry=rows, num=2, extents=True)
    assert triples(done["extents"]) == [(0, 3, 3)]


@pytest.mark.parametrize("extents", [False, True])
def test_mmap_that_stops_says_where(desk: Desk, extents: bool) -> None:
    """Details carry the entry, how many are done, and where those lie when asked for."""
    session = desk.connect()
    desk.reserve(session, 4)
    rows = [{"va": BASE, "mfn": 3, "npages": 2}, {"va": BASE + 2 * PAGE, "mfn": 31, "npages": 2}]

    with pytest.raises(Refused, match="EINVAL") as refused:
        desk.call(session, MMAP, dom=1, entry=rows, extents=extents)

    assert (refused.value.details["entry"], refused.value.details["done"]) == (1, 1)
    assert ("extents" in refused.value.details) == extents
    if extents:
        assert triples(refused.value.details["extents"]) == [(0, 3, 2)]


COUNTS: list[tuple[str, dict[str, Any], str, str]] = [
    (V2, {"addr": BASE, "arr": [1, 2], "num": 3}, "EINVAL", "num"),
    (V1, {"addr": BASE, "arr": frames(1, 2), "num": 0}, "EINVAL", "num"),
    (MMAP, {"entry": [], "num": 1}, "EINVAL", "num"),
    (V2, {"addr": BASE, "arr": []}, "EINVAL", "num"),
    (V1, {"addr": BASE, "arr": b""}, "EINVAL", "num"),
    (V2, {"addr": BASE, "arr": frames(*range(201))}, "E2BIG", "arr"),
    (V1, {"addr": BASE, "arr": list(range(201))}, "E2BIG", "arr"),
    (V1, {"addr": BASE, "arr": list(range(1025))}, "E2BIG", "arr"),
    (MMAP, {"entry": [{"va": BASE, "mfn": 1, "npages": n} for n in (100, 101)]}, "E2BIG", "npages"),
    (MMAP, {"entry": [{"va": BASE, "mfn": 1, "npages": 2**52}]}, "E2BIG", "npages"),
    ("domain.populate", {"arr": frames(*range(201))}, "E2BIG", "arr"),
    ("domain.decrease_reservation", {"arr": frames(*range(201))}, "E2BIG", "arr"),
    ("domain.page_out", {"arr": frames(*range(201))}, "E2BIG", "arr"),
    ("domain.page_in", {"arr": frames(*range(201))}, "E2BIG", "arr"),
    (V2, {"addr": BASE, "arr": b"\0" * 9}, "EINVAL", "arr"),
]


@pytest.mark.parametrize(("method", "params", "name", "key"), COUNTS)
def test_counts_are_held_against_what_came(
    desk: Desk, method: str, params: dict[str, Any], name: str, key: str
) -> None:
    """Too many is E2BIG, a count that is not true EINVAL, and the text names the key."""
    session = desk.connect()
    desk.reserve(session, 2)
    before = counters(desk.broker.world)["mappings"]

    with pytest.raises(Refused) as refused:
        desk.call(session, method, dom=1, **params)

    assert (refused.value.name, refused.value.details["key"]) == (name, key)
    assert counters(desk.broker.world)["mappings"] == before


def refusal(desk: Desk, session: Any, method: str, /, **params: Any) -> str:
    """The name of the errno a call is refused with, or the frame errors of its answer."""
    try:
        answer = desk.call(session, method, **params)
    except Refused as refused:
        return refused.name
    return str(answer.get("err", answer.get("arr", answer.get("done"))))


@pytest.mark.parametrize("method", [V1, V2])
@pytest.mark.parametrize("dom", [1, 2])
def test_order_of_checks_of_a_batch(desk: Desk, method: str, dom: int) -> None:
    """Linux: restricted EPERM, then num 0, the address, then each frame, its domain first, with ret 0."""
    session = desk.connect()
    desk.call(session, "space.attach", personality="linux")
    desk.reserve(session, 2)
    bad_addr, empty, nothing = BASE + PAGE, frames(), 999
    restricted = desk.connect()
    desk.call(restricted, "privcmd.restrict", dom=dom)

    assert refusal(desk, restricted, method, dom=nothing, addr=1, arr=empty) == "EPERM"
    assert refusal(desk, restricted, method, dom=dom, addr=1, arr=empty) == "EINVAL"
    assert refusal(desk, session, method, dom=nothing, addr=bad_addr, arr=frames(1, 2)) == "EINVAL"
    failed = desk.call(session, V2, dom=nothing, addr=BASE, arr=[2**40 - 1, 1])
    assert failed == {"ret": 0, "n_failed": 2, "err": [-3, -3]}
    assert refusal(desk, session, method, dom=nothing, addr=BASE, arr=frames()) == "EINVAL"


def test_order_of_checks_of_mmap(desk: Desk) -> None:
    """Linux: restricted EPERM, num 0 is done, then where the first va is, each entry's place, the domain, the frame."""
    session = desk.connect()
    desk.call(session, "space.attach", personality="linux")
    desk.reserve(session, 2)
    restricted = desk.connect()
    desk.call(restricted, "privcmd.restrict", dom=1)
    good = {"va": BASE, "mfn": 1, "npages": 1}

    assert refusal(desk, restricted, MMAP, dom=2, entry=[]) == "EPERM"
    assert refusal(desk, restricted, MMAP, dom=999, entry=[good]) == "EPERM"
    assert refusal(desk, session, MMAP, dom=999, entry=[]) == "0"
    assert refusal(desk, session, MMAP, dom=999, entry=[{**good, "va": BASE + PAGE}]) == "EINVAL"
    assert refusal(desk, session, MMAP, dom=999, entry=[{**good, "npages": 3}]) == "EINVAL"
    desk.reserve(session, 2)
    assert refusal(desk, session, MMAP, dom=999, entry=[{**good, "mfn": 2**40 - 1}]) == "ESRCH"
    desk.reserve(session, 2)
    assert refusal(desk, session, MMAP, dom=2, entry=[good]) == "EPERM"  # no RAM


def test_restrict(desk: Desk) -> None:
    """The first names the domain, later ones must name the same; DOMID_INVALID does nothing; any number is taken."""
    invalid = 0x7FF4
    session, other = desk.connect(), desk.connect()
    desk.call(session, "space.attach", personality="linux")
    desk.call(other, "space.attach", space=1)
    desk.reserve(session, 2)
    desk.call(session, V2, dom=2, addr=BASE, arr=[3, 3])  # two holes
    desk.call(session, "mmap", addr=BASE + 2**20, len=PAGE, prot=3, fixed=True)
    assert desk.call(session, V2, dom=1, addr=BASE + 2**20, arr=[5])["n_failed"] == 0

    assert desk.call(session, "privcmd.restrict", dom=invalid) == {}
    assert desk.call(session, "privcmd.restrict", dom=2) == {}
    assert desk.call(session, "privcmd.restrict", dom=2) == {}
    for dom in (1, invalid, 0):
        assert refusal(desk, session, "privcmd.restrict", dom=dom) == "EINVAL"
    for dom in (1, 0, 999, 0x7FF0):
        assert refusal(desk, session, V2, dom=dom, addr=BASE, arr=[1, 2]) == "EPERM"

    assert desk.call(session, "read", addr=BASE + 2**20, len=1) == {"data": b"\0"}, "what is mapped stays usable"
    assert refusal(desk, session, V2, dom=2, addr=BASE, arr=[3]) == "[-1]"
    assert refusal(desk, other, V2, dom=1, addr=BASE, arr=[1, 2]) == "None", "another connection is not restricted"
    assert desk.call(other, "privcmd.restrict", dom=12345) == {}


@pytest.mark.parametrize("method", [V1, V2, MMAP])
def test_a_restricted_file_maps_one_domain(desk: Desk, method: str) -> None:
    """In every thread of the space and in its children; another file of the same connection is as free as before."""
    session = desk.connect()
    desk.call(session, "space.attach", personality="uvm")
    thread = desk.connect()
    desk.call(thread, "space.attach", space=1)
    desk.reserve(session, 1)
    assert desk.call(session, "privcmd.restrict", dom=2, file=7) == {}

    def refused(who: Any, file: int) -> str:
        what = {"entry": [{"va": BASE, "mfn": 1, "npages": 1}]} if method == MMAP else {"addr": BASE, "arr": [1]}
        return refusal(desk, who, method, dom=1, file=file, **what)

    assert refused(session, 7) == refused(thread, 7) == "EPERM"
    child = desk.connect()
    desk.call(child, "space.attach", space=desk.call(session, "space.fork")["space"])
    assert refused(child, 7) == "EPERM"
    assert "EPERM" not in (refused(session, 8), refused(session, 0))


def test_bytes_go_where_the_frames_are(desk: Desk) -> None:
    """Reads and writes run over pages, domains and files; all or nothing."""
    session, other = desk.connect(), desk.connect()
    desk.reserve(session, 4)
    desk.call(session, V2, dom=1, addr=BASE, arr=[5, 6, 20])
    info = desk.call(session, "domain.info", dom=2, num=1)
    desk.call(session, V2, dom=2, addr=BASE + 3 * PAGE, arr=info["frames"])
    data = bytes(i % 251 for i in range(3 * PAGE))

    assert desk.call(session, "write", addr=BASE + 100, data=data) == {"n": len(data)}

    assert desk.call(session, "read", addr=BASE + 100, len=len(data)) == {"data": data}
    assert desk.backing.files[1][6][0] == data[PAGE - 100]
    assert desk.backing.files[2][0][:4] == data[3 * PAGE - 100 :][:4]
    desk.reserve(other, 1)
    desk.call(other, V2, dom=1, addr=BASE, arr=[20])
    assert desk.call(other, "read", addr=BASE, len=PAGE)["data"] == data[2 * PAGE - 100 : 3 * PAGE - 100]
    with pytest.raises(Refused, match="EFAULT"):
        desk.call(session, "write", addr=BASE + 3 * PAGE, data=bytes(PAGE + 1))
    with pytest.raises(Refused, match="EINVAL"):
        desk.call(session, "write", addr=BASE, data=b"")
    assert desk.call(session, "read", addr=BASE + 3 * PAGE, len=1)["data"] == data[3 * PAGE - 100 :][:1]


def test_maps_shows_every_entry(desk: Desk) -> None:
    """In the order of addresses, with what failed and what is present."""
    session = desk.connect()
    desk.reserve(session, 5)
    desk.call(session, V2, dom=1, addr=BASE + PAGE, arr=[5, HOLE, 7])
    desk.call(session, "munmap", addr=BASE + PAGE, len=PAGE)

    rows = desk.call(session, "maps")["entries"]

    assert [(row["start"] - BASE) // PAGE for row in rows] == [0, 2, 4]
    assert rows[1] == {
        "start": BASE + 2 * PAGE,
        "end": BASE + 4 * PAGE,
        "prot": 3,
        "max_prot": 3,
        "inherit": "none",
        "file": "privcmd",
        "object": 1,
        "dom": 1,
        "offset": PAGE,
        "wired": 1,
        "present": 1,
        "failed": 1,
        "request": f"{V2} (request 2 of its connection)",
    }
    assert [rows[0][key] for key in ("inherit", "file", "object", "dom", "wired", "failed")] == [
        *("copy", "anon", None, None, 0, 0)
    ]
    desk.reserve(session, 30)
    desk.call(session, V2, dom=1, addr=BASE, arr=frames(*[HOLE] * 30))
    assert desk.call(session, "maps")["entries"][0]["failed"] == 30


def test_maps_of_linux(desk: Desk) -> None:
    """No objects; holes of a mapping that was filled are failures, those of a fresh one are not."""
    session = desk.connect()
    desk.call(session, "space.attach", personality="linux")
    desk.reserve(session, 3)
    desk.reserve(session, 3, BASE + 2**20)
    desk.call(session, V2, dom=1, addr=BASE, arr=[5, HOLE, 7])

    rows = desk.call(session, "maps")["entries"]

    assert [[row[key] for key in ("object", "dom", "present", "failed", "wired")] for row in rows] == [
        [None, 1, 2, 1, 0],
        [None, None, 0, 0, 0],
    ]


def test_paged_frames_are_told_apart(desk: Desk) -> None:
    """Linux says 0x8 in V1 and -2 in ``ret`` where the caller is to ask again; uvm knows no such thing."""
    session, uvm = desk.connect(), desk.connect()
    desk.call(session, "domain.page_out", dom=1, arr=[7])
    desk.call(session, "space.attach", personality="linux")
    for at in (session, uvm):
        desk.reserve(at, 2)

    assert desk.call(session, V1, dom=1, addr=BASE, arr=[HOLE, 7]) == {
        "ret": -2,
        "n_failed": 2,
        "arr": [HOLE | 0xF000_0000, 7 | 0x8000_0000],
    }
    assert desk.call(session, V2, dom=1, addr=BASE, arr=[7, 1]) == {"ret": 0, "n_failed": 1, "err": [-2, 0]}
    assert desk.call(uvm, V1, dom=1, addr=BASE, arr=[1, 7])["arr"] == [1, 7 | 0xF000_0000]


def test_faults(desk: Desk) -> None:
    """Whose frame, by which name, and whether this fault entered it."""
    session = desk.connect()
    desk.reserve(session, 1)
    desk.call(session, V2, dom=1, addr=BASE, arr=[5])

    assert desk.call(session, "fault", addr=BASE + 5, access="write") == {"dom": 1, "frame": 5, "entered": False}
    desk.call(session, "mprotect", addr=BASE, len=PAGE, prot=0)
    desk.call(session, "mprotect", addr=BASE, len=PAGE, prot=1)
    assert desk.call(session, "fault", addr=BASE) == {"dom": 1, "frame": 5, "entered": True}
    with pytest.raises(Refused, match="EFAULT"):
        desk.call(session, "fault", addr=BASE, access="write")

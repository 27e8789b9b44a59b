# SPDX-License-Identifier: Apache-2.0
"""Each bad input gets its named errno and a sentence, and changes nothing that anybody can see."""

import errno
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from hostile.conftest import Target
from privcmdd.wire.methods import METHODS
from support.rawclient import RawClient, Refused

PAGE = 4096
BASE = 0x7000_0000_0000
"""Where the attacker has 16 pages mapped."""
LIMIT = 0x7FFF_FFFF_F000
"""The first address that no client can have."""
EDGES = (2**52, 2**63, 2**64 - 1)
"""Beyond every address space, beyond a signed and at the end of an unsigned number."""


def frames(*gfns: int) -> bytes:
    """Frame numbers as a bin."""
    return struct.pack(f"<{len(gfns)}Q", *gfns)


@pytest.fixture(scope="module")
def bystander(target: Target) -> Iterator[RawClient]:
    """An honest client with mappings of its own, and the domain of the file: 64 gfns from 0, in 7."""
    with target.connect() as client:
        client.call("domain.create", kind="hvm", max_pages=64, dom=7)
        client.call("mmap", addr=BASE, len=4 * PAGE, prot=3, fixed=True)
        client.call("privcmd.mmapbatch_v2", dom=7, addr=BASE, arr=frames(1, 2, 99))
        yield client
        client.call("domain.destroy", dom=7)


@pytest.fixture(scope="module")
def attacker(target: Target, bystander: RawClient) -> Iterator[RawClient]:
    """The client that says it all, on one connection throughout; it has two frames mapped."""
    assert bystander.call("ping")
    with target.connect() as client:
        client.call("mmap", addr=BASE, len=16 * PAGE, prot=3, fixed=True)
        client.call("privcmd.mmapbatch_v2", dom=7, addr=BASE, arr=frames(3, 4))
        yield client


def seen(client: RawClient) -> dict[str, Any]:
    """All that a client can see of the state."""
    return {
        "maps": client.call("maps"),
        "domains": client.call("domain.list"),
        "info": without_age(client.call("domain.info", dom=7, num=64)),
        "stats": without_traffic(client.call("stats")),
    }


def without_age(info: dict[str, Any]) -> dict[str, Any]:
    """Without the one thing that changes of itself."""
    return {**info, "lease": {**info["lease"], "age_s": 0}}


# Counters of what was asked, not of what there is: an attack may move these.
TRAFFIC = {
    "holds",
    "requests",
    "errors",
    "unanswered",
    "refused",
    "bytes_in",
    "bytes_out",
    "notices",
    "replies",
    "queued_bytes",
    "peak",
}


def without_traffic(stats: Any) -> Any:
    """Leave out what counts requests."""
    if not isinstance(stats, dict):
        return stats
    return {key: without_traffic(value) for key, value in stats.items() if key not in TRAFFIC}


BATCH: dict[str, Any] = {"dom": 7, "addr": BASE, "arr": frames(1)}
ENTRY = {"va": BASE, "mfn": 1, "npages": 1}

Case = tuple[str, str, dict[str, Any], str, str | None]
CASES: list[Case] = [
    # what, method, params, errno, key
    ("no such method", "no.such", {}, "ENOSYS", None),
    ("an empty name", "", {}, "ENOSYS", None),
    ("a long name", "x" * 4096, {}, "ENOSYS", None),
    ("a name with escapes in it", "\x1b[2J\n", {}, "ENOSYS", None),
    ("a frame list of 7 bytes", "privcmd.mmapbatch_v2", {**BATCH, "arr": bytes(7)}, "EINVAL", "arr"),
    ("a frame list of 9 bytes", "privcmd.mmapbatch", {**BATCH, "arr": bytes(9)}, "EINVAL", "arr"),
    ("a frame list of 1,025 in an array", "privcmd.mmapbatch_v2", {**BATCH, "arr": [0] * 1025}, "E2BIG", "arr"),
    ("a frame list of text", "privcmd.mmapbatch_v2", {**BATCH, "arr": "1"}, "EINVAL", "arr"),
    ("no frames", "privcmd.mmapbatch_v2", {**BATCH, "arr": b""}, "EINVAL", None),
    ("no frames, V1", "privcmd.mmapbatch", {**BATCH, "arr": []}, "EINVAL", None),
    ("num 0", "privcmd.mmapbatch_v2", {**BATCH, "num": 0}, "EINVAL", "num"),
    ("num 0, V1", "privcmd.mmapbatch", {**BATCH, "num": 0}, "EINVAL", "num"),
    ("num of more than there are", "privcmd.mmapbatch_v2", {**BATCH, "num": 2}, "EINVAL", "num"),
    ("num 2^31", "privcmd.mmapbatch_v2", {**BATCH, "num": 2**31}, "EINVAL", "num"),
    ("num 2^52", "privcmd.mmapbatch_v2", {**BATCH, "num": 2**52}, "EINVAL", "num"),
    ("num 2^64-1", "privcmd.mmapbatch_v2", {**BATCH, "num": 2**64 - 1}, "EINVAL", "num"),
    ("entries' num 0", "privcmd.mmap", {"dom": 7, "entry": [ENTRY], "num": 0}, "EINVAL", "num"),
    ("an entry of no pages", "privcmd.mmap", {"dom": 7, "entry": [{**ENTRY, "npages": 0}]}, "EINVAL", None),
    ("an entry without mfn", "privcmd.mmap", {"dom": 7, "entry": [{"va": BASE, "npages": 1}]}, "EINVAL", "entry"),
    ("an entry with a key more", "privcmd.mmap", {"dom": 7, "entry": [{**ENTRY, "x": 1}]}, "EINVAL", "entry"),
    ("an entry of 2^52 pages", "privcmd.mmap", {"dom": 7, "entry": [{**ENTRY, "npages": 2**52}]}, "E2BIG", None),
    ("an entry at 2^52", "privcmd.mmap", {"dom": 7, "entry": [{**ENTRY, "va": 2**52}]}, "EINVAL", None),
    ("an entry at 2^63", "privcmd.mmap", {"dom": 7, "entry": [{**ENTRY, "va": 2**63}]}, "EINVAL", "entry"),
    ("1,025 entries", "privcmd.mmap", {"dom": 7, "entry": [ENTRY] * 1025}, "E2BIG", "entry"),
    ("more frames than a batch", "privcmd.mmapbatch_v2", {**BATCH, "arr": bytes(8 * 8193)}, "E2BIG", None),
    ("more frames than a batch, V1", "privcmd.mmapbatch", {**BATCH, "arr": bytes(8 * 8193)}, "E2BIG", None),
    ("a batch over nothing", "privcmd.mmapbatch_v2", {**BATCH, "addr": 0}, "EINVAL", None),
    ("a batch past what is mapped", "privcmd.mmapbatch_v2", {**BATCH, "arr": bytes(8 * 17)}, "EINVAL", None),
    ("a batch unaligned", "privcmd.mmapbatch_v2", {**BATCH, "addr": BASE + 1}, "EINVAL", "addr"),
    ("a batch unaligned, V1", "privcmd.mmapbatch", {**BATCH, "addr": BASE + 8}, "EINVAL", "addr"),
    ("a batch past all addresses", "privcmd.mmapbatch_v2", {**BATCH, "addr": LIMIT}, "EINVAL", None),
    ("munmap of nothing", "munmap", {"addr": BASE, "len": 0}, "EINVAL", "len"),
    ("munmap unaligned", "munmap", {"addr": BASE + 1, "len": PAGE}, "EINVAL", "addr"),
    ("munmap past all addresses", "munmap", {"addr": LIMIT, "len": PAGE}, "EINVAL", None),
    ("mmap of nothing", "mmap", {"len": 0, "prot": 3}, "EINVAL", "len"),
    ("mmap unaligned", "mmap", {"addr": BASE + 2048, "len": PAGE, "prot": 3, "fixed": True}, "EINVAL", "addr"),
    ("mmap of all there is", "mmap", {"len": LIMIT, "prot": 3}, "ENOMEM", None),
    ("mmap of a device that cannot be", "mmap", {"len": PAGE, "prot": 3, "file": "privcmd"}, "ENODEV", None),
    ("mmap of a file that is none", "mmap", {"len": PAGE, "prot": 3, "file": "/etc/passwd"}, "EINVAL", "file"),
    ("protection 8", "mprotect", {"addr": BASE, "len": PAGE, "prot": 8}, "EINVAL", "prot"),
    ("mprotect of nothing mapped", "mprotect", {"addr": PAGE, "len": PAGE, "prot": 1}, "ENOMEM", None),
    ("a read of nothing", "read", {"addr": BASE, "len": 0}, "EINVAL", None),
    ("a read of what is not mapped", "read", {"addr": 0, "len": 1}, "EFAULT", None),
    ("a read of anonymous memory", "read", {"addr": BASE + 8 * PAGE, "len": 1}, "EFAULT", None),
    ("a read across the end", "read", {"addr": BASE + PAGE, "len": 2 * PAGE}, "EFAULT", None),
    ("a read of more than 8 MiB", "read", {"addr": BASE, "len": (8 << 20) + 1}, "E2BIG", "len"),
    ("a write across the end", "write", {"addr": BASE + PAGE, "data": bytes(2 * PAGE)}, "EFAULT", None),
    ("a fault on nothing", "fault", {"addr": 0}, "EFAULT", None),
    ("a fault by execution", "fault", {"addr": BASE, "access": "exec"}, "EINVAL", "access"),
    ("no such domain's info", "domain.info", {"dom": 8}, "ESRCH", None),
    ("no such domain's memory", "domain.memory", {"dom": 8}, "ESRCH", None),
    ("no such domain's end", "domain.destroy", {"dom": 8}, "ESRCH", None),
    ("no such domain's frames", "domain.populate", {"dom": 8, "arr": [1]}, "ESRCH", None),
    ("a domain id of 65,536", "domain.info", {"dom": 65536}, "EINVAL", "dom"),
    ("a domain id below 0", "domain.info", {"dom": -1}, "EINVAL", "dom"),
    ("a domain of others: map", "privcmd.mmapbatch_v2", {**BATCH, "dom": 9}, "EPERM", None),
    ("a domain of others: info", "domain.info", {"dom": 9}, "EPERM", None),
    ("a domain of others: create", "domain.create", {"kind": "pv", "max_pages": 1, "dom": 9}, "EPERM", None),
    ("a domain of others: destroy", "domain.destroy", {"dom": 9}, "EPERM", None),
    ("a domain that exists", "domain.create", {"kind": "pv", "max_pages": 1, "dom": 7}, "EEXIST", None),
    ("a domain of a kind that is none", "domain.create", {"kind": "kvm", "max_pages": 1}, "EINVAL", "kind"),
    ("a memory file too large", "domain.create", {"kind": "hvm", "max_pages": 2**40, "dom": 8}, "ENOMEM", None),
    ("a memory file absurdly large", "domain.create", {"kind": "hvm", "max_pages": 2**52, "dom": 8}, "ENOMEM", None),
    (
        "ranges that overlap",
        "domain.create",
        {"kind": "hvm", "max_pages": 9, "dom": 8, "ranges": [{"gfn": 0, "npages": 2}, {"gfn": 1, "npages": 2}]},
        "EINVAL",
        "ranges",
    ),
    ("a name that rings", "domain.create", {"kind": "pv", "max_pages": 1, "dom": 8, "name": "\a"}, "EINVAL", "name"),
    ("more positions than may be", "domain.info", {"dom": 7, "num": 2**20 + 1}, "E2BIG", "num"),
    ("a topic that is none", "subscribe", {"topics": ["weather"]}, "EINVAL", "topics"),
    ("protocol 2", "hello", {"protocol": [2]}, "EPROTONOSUPPORT", None),
    ("a second space", "space.attach", {"space": 2**32 - 1}, "EBUSY", None),
    *[
        (f"{method} at {edge:#x}", method, {**rest, "addr": edge}, "EINVAL", "addr" if edge > 2**53 else None)
        for edge in EDGES
        for method, rest in (
            ("munmap", {"len": PAGE}),
            ("mprotect", {"len": PAGE, "prot": 1}),
            ("mmap", {"len": PAGE, "prot": 1, "fixed": True}),
            ("read", {"len": 1}),
            ("write", {"data": b"x"}),
            ("privcmd.mmapbatch", {"dom": 7, "arr": frames(1)}),
            ("privcmd.mmapbatch_v2", {"dom": 7, "arr": frames(1)}),
        )
    ],
    *[
        (f"{method} of {edge:#x} bytes", method, {**rest, "addr": BASE, "len": edge}, "EINVAL", "len")
        for edge in EDGES
        for method, rest in (
            ("munmap", dict[str, Any]()),
            ("mprotect", {"prot": 1}),
            ("mmap", {"prot": 1, "fixed": True}),
        )
    ],
    *[(f"a read of {edge:#x} bytes", "read", {"addr": BASE, "len": edge}, "EINVAL", "len") for edge in EDGES[1:]],
    *[
        (f"frame {edge:#x} in an array", "privcmd.mmapbatch", {**BATCH, "arr": [edge]}, "EINVAL", "arr")
        for edge in EDGES[1:]
    ],
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_bad_input_is_answered(case: Case, attacker: RawClient, bystander: RawClient) -> None:
    """The errno it must be, a sentence, the key that is wrong; afterwards all is as before, for both clients."""
    _, method, params, name, key = case
    before = seen(attacker), seen(bystander)

    with pytest.raises(Refused) as caught:
        attacker.call(method, **params)

    refused = caught.value
    assert (refused.name, refused.errno) == (name, getattr(errno, name))
    assert len(refused.line) > len(name) + 8
    assert refused.line.isprintable()
    if key is not None:
        assert refused.details["key"] == key
    assert (seen(attacker), seen(bystander)) == before


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_is_checked(method: str, attacker: RawClient, bystander: RawClient) -> None:
    """On the wire as in the table: an unknown key, a positional list, and nil for each key are EINVAL and named."""
    before = seen(attacker), seen(bystander)

    attempts: list[tuple[Any, str]] = [([1, 2], "params"), ([{"nonsense": 1}], "nonsense")]
    attempts += [([{param.name: None}], param.name) for param in METHODS[method].params if not param.nullable]
    for params, key in attempts:
        with pytest.raises(Refused) as caught:
            attacker.answer(attacker.post(method, params))
        assert caught.value.name == "EINVAL"
        required = {param.name for param in METHODS[method].params if param.required}
        assert caught.value.details["key"] in {key} | required

    assert (seen(attacker), seen(bystander)) == before


def test_edges_that_are_fine_are_fine(attacker: RawClient) -> None:
    """1 and 2^31 are good lengths and addresses: lengths are rounded up, nothing need be mapped."""
    before = attacker.call("maps")

    assert attacker.call("munmap", addr=2**31, len=1) == {}
    assert attacker.call("munmap", addr=0, len=2**31) == {}
    for length in (1, 2**31):
        addr = attacker.call("mmap", len=length, prot=1)["addr"]
        attacker.call("munmap", addr=addr, len=length)

    assert attacker.call("maps") == before


def clip_until_refused(client: RawClient) -> tuple[Refused, dict[str, Any]]:
    """Clip entries into more and more pieces; the refusal, and what was seen before it."""
    for page in range(1, 200, 2):
        before = seen(client)
        try:
            client.call("mprotect", addr=BASE + page * PAGE, len=PAGE, prot=1)
        except Refused as refused:
            return refused, before
    raise AssertionError("no quota stopped it")


def test_over_quota_changes_nothing(target: Target, bystander: RawClient) -> None:
    """EDQUOT for frames and for entries, each with the old state whole."""
    assert bystander.call("ping")
    with target.connect() as client:
        client.call("mmap", addr=BASE, len=8192 * PAGE, prot=3, fixed=True)
        client.call("privcmd.mmapbatch_v2", dom=7, addr=BASE, arr=frames(5))
        before = seen(client)
        with pytest.raises(Refused) as caught:
            client.call("privcmd.mmapbatch_v2", dom=7, addr=BASE, arr=frames(*([6] * 4200)))
        assert (caught.value.name, seen(client)) == ("EDQUOT", before)

        refused, before = clip_until_refused(client)
        assert (refused.name, refused.details["slot"], seen(client)) == ("EDQUOT", "entries", before)


def test_a_restricted_client_has_one_domain(target: Target, bystander: RawClient) -> None:
    """After RESTRICT every other domain is EPERM, and no second RESTRICT widens it."""
    assert bystander.call("ping")
    with target.connect() as client:
        client.call("domain.create", kind="hvm", max_pages=4, dom=8)
        client.call("space.attach", personality="linux")
        client.call("privcmd.restrict", dom=7)
        for method, params in (
            ("privcmd.mmapbatch_v2", {**BATCH, "dom": 8}),
            ("privcmd.mmapbatch", {**BATCH, "dom": 8}),
            ("privcmd.mmap", {"dom": 8, "entry": [ENTRY]}),
            ("domain.info", {"dom": 8}),
            ("domain.memory", {"dom": 8}),
            ("domain.destroy", {"dom": 8}),
        ):
            with pytest.raises(Refused) as caught:
                client.call(method, **params)
            assert caught.value.name == "EPERM"
        with pytest.raises(Refused) as caught:
            client.call("privcmd.restrict", dom=8)
        assert caught.value.name == "EINVAL"
    with target.connect() as client:
        client.call("domain.destroy", dom=8)

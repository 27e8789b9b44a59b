# SPDX-License-Identifier: Apache-2.0
"""A broker under siege: ``python -m hostile.siege --minutes 10`` counts what it survives and measures what it costs.

Beside each other for the whole time: clients that map, write, look and unmap, and compare every byte; one that sends
broken streams; one that has children killed that hold thousands of mappings, and waits until they are charged nothing;
one that sends half of a message, or never reads. Then one hostile uid uses up all its quotas, and the growth of the
broker is compared with what that uid is charged.

The children and the hostile uid are other users, so this is for root.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privcmd.broker import PrivateBroker
from support.bombs import BOMBS
from support.rawclient import Ended, RawClient, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import Queue

PAGE = 4096
KIB, MIB = 1 << 10, 1 << 20
N_GOOD = 4
CHILD, HOSTILE = 65_533, 65_534
N_CHILD_PAGES = 4_096
CONFIG = f"""
[server]
socket_mode = "0666"

[machine]
memory_mib = 1024

[[access]]
rights = "admin"
uids = [0]

[[access]]
rights = "write"
uids = [{CHILD}, {HOSTILE}]
"""
QUOTAS = """
[limits]
incoming_bytes = 17_825_792
queued_bytes = 2_097_152
connection_queued_bytes = 1_048_576
entries = 10_000
fds = 64
restricted_files = 1_000
"""


def frames(gfns: range | list[int]) -> bytes:
    """A list of guest frames as the wire has it."""
    return b"".join(gfn.to_bytes(8, "little") for gfn in gfns)


def connect(path: str) -> RawClient:
    """A connection, as soon as there is room in the backlog."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return RawClient(path)


def works(path: str, dom: int, until: float, told: Queue[Any]) -> None:
    """Map random frames of a guest, write, read back, unmap; any other byte than the one expected is counted."""
    rng, done = random.Random(dom), Counter[str]()
    with connect(path) as client:
        client.call("domain.create", kind="hvm", max_pages=512, dom=dom, ranges=[{"gfn": 0, "npages": 512}])
        known = [0] * 512
        while time.monotonic() < until:
            gfns = rng.sample(range(512), rng.choice((1, 1, 8, 64)))
            address = client.call("mmap", len=len(gfns) * PAGE, prot=3)["addr"]
            client.call("privcmd.mmapbatch_v2", dom=dom, addr=address, arr=frames(gfns))
            slot = rng.randrange(len(gfns))
            byte = bytes(client.call("read", addr=address + slot * PAGE, len=1)["data"])[0]
            done["wrong bytes"] += byte != known[gfns[slot]]
            known[gfns[slot]] = rng.randrange(256)
            client.call("write", addr=address + slot * PAGE, data=bytes([known[gfns[slot]]]))
            client.call("munmap", addr=address, len=len(gfns) * PAGE)
            done["requests"] += 5
            done["frames"] += len(gfns)
        client.call("domain.destroy", dom=dom)
    told.put(done)


def breaks(path: str, until: float, told: Queue[Any]) -> None:
    """Send what no protocol has: bombs, noise, messages with bytes changed."""
    rng, done = random.Random(1), Counter[str]()
    bombs = [data for data, _ in BOMBS.values() if len(data) < MIB]
    good = b"\x94\x00\x01\xa4mmap\x91\x83\xa3len\xcd\x10\x00\xa4prot\x03\xa4addr\x00"
    while time.monotonic() < until:
        kind = rng.choice(("bomb", "noise", "changed", "cut"))
        if kind == "bomb":
            data = rng.choice(bombs)
        elif kind == "noise":
            data = rng.randbytes(rng.randrange(1, 4_000))
        else:
            changed = bytearray(good * 3)
            changed[rng.randrange(len(changed))] = rng.randrange(256)
            data = bytes(changed) if kind == "changed" else bytes(changed[: rng.randrange(len(changed))])
        with connect(path) as client, contextlib.suppress(OSError):
            client.send(data)
        done[f"bad inputs: {kind}"] += 1
    told.put(done)


def kills(path: str, until: float, told: Queue[Any]) -> None:
    """Kill children that hold mappings, and measure how soon nothing is charged to their uid."""
    done, taken = Counter[str](), []
    with connect(path) as client:
        dom, ranges = 100, [{"gfn": 0, "npages": N_CHILD_PAGES}]
        client.call("domain.create", kind="hvm", max_pages=N_CHILD_PAGES, dom=dom, ranges=ranges)
        while time.monotonic() < until:
            ours, theirs = os.pipe()
            child = os.fork()
            if not child:
                holds(path, dom, theirs)
            os.close(theirs)
            os.read(ours, 1)
            os.close(ours)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            began = time.perf_counter()
            while str(CHILD) in client.call("stats")["uids"]:
                pass
            taken.append(time.perf_counter() - began)
            done["clients killed"] += 1
        client.call("domain.destroy", dom=dom)
    taken.sort()
    told.put(
        {
            **done,
            "kill to zero charges, p50 ms": 1e3 * taken[len(taken) // 2],
            "kill to zero charges, p99 ms": round(1e3 * taken[len(taken) * 99 // 100], 1),
        }
    )


def holds(path: str, dom: int, ready: int) -> None:
    """Hold mappings as another user, until killed."""
    os.setresuid(CHILD, CHILD, CHILD)
    client = connect(path)
    address = client.call("mmap", len=N_CHILD_PAGES * PAGE, prot=3)["addr"]
    client.call("privcmd.mmapbatch_v2", dom=dom, addr=address, arr=frames(range(N_CHILD_PAGES)))
    client.post("privcmd.mmapbatch_v2", [{"dom": dom, "addr": address, "arr": frames(range(N_CHILD_PAGES))}])
    os.write(ready, b"!")
    signal.pause()


def stalls(path: str, until: float, told: Queue[Any]) -> None:
    """Send half of a message, or ask and never read; then go."""
    rng, done = random.Random(2), Counter[str]()
    os.setresuid(HOSTILE, HOSTILE, HOSTILE)
    while time.monotonic() < until:
        with contextlib.ExitStack() as stack:
            for _ in range(16):
                client = stack.enter_context(connect(path))
                client.sock.settimeout(0.05)
                with contextlib.suppress(OSError):
                    if rng.random() < 0.5:
                        done["unfinished messages"] += 1
                        client.sock.sendall(unfinished(2 * MIB))
                    else:
                        done["clients that never read"] += 1
                        client.sock.sendall(b"\x94\x00\x01\xa8describe\x91\x80" * 200)
    told.put(done)


def unfinished(n_bytes: int) -> bytes:
    """The beginning of a message with a bin of 16 MiB."""
    return b"\x94\x00\x07\xa4ping\x91\x81\xa4data\xc6\x01\x00\x00\x00" + bytes(n_bytes)


class Watch:
    """Resident memory and descriptors of a process over time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._rows: list[tuple[float, int, int]] = []

    def look(self) -> None:
        """Take a sample."""
        self._rows.append((time.monotonic(), resident(self._pid), len(os.listdir(f"/proc/{self._pid}/fd"))))  # noqa: PTH208

    def slopes(self) -> tuple[float, float]:
        """KiB and descriptors an hour, by least squares over the second half."""
        rows = self._rows[len(self._rows) // 2 :]
        return slope(rows, 1) / KIB * 3600, slope(rows, 2) * 3600


def slope(rows: list[tuple[float, int, int]], column: int) -> float:
    """How much a column grows each second."""
    times, values = [row[0] for row in rows], [row[column] for row in rows]
    mean_t, mean_v = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - mean_t) ** 2 for t in times)
    return sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True)) / spread if spread else 0.0


def resident(pid: int) -> int:
    """Anonymous memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon:")).split()[1]) * KIB


def siege(seconds: float) -> dict[str, Any]:
    """Besiege a broker. Returns what was counted."""
    result = Counter[str]()
    told: Queue[Any] = multiprocessing.Queue()
    with PrivateBroker(config=CONFIG) as broker:
        reach(broker.path)
        until = time.monotonic() + seconds
        attackers: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(works, (dom,)) for dom in range(1, N_GOOD + 1)]
        attackers += [(breaks, ()), (kills, ()), (stalls, ())]
        processes = [
            multiprocessing.Process(target=target, args=(broker.path, *args, until, told)) for target, args in attackers
        ]
        for process in processes:
            process.start()
        watch = Watch(broker.pid)
        while time.monotonic() < until:
            watch.look()
            time.sleep(min(1.0, seconds / 20))
        for _ in processes:
            result.update(told.get(timeout=120))
        for process in processes:
            process.join()
        with RawClient(broker.path) as client:
            stats = client.call("stats")
        kib_h, fds_h = watch.slopes()
        return {
            **result,
            "seconds": round(seconds),
            "requests a second": round(result["requests"] / seconds),
            "memory, KiB/h": round(kib_h),
            "descriptors/h": round(fds_h),
            "longest holds, ms": stats["holds"],
            "laws broken": len(stats["broker"]["broken"]),
            "faults of the broker": stats["broker"]["faults"],
            "left of others": sum(n for uid, used in stats["uids"].items() if uid != "0" for n in used.values()),
            "left mapped": stats["mappings"]["frames"],
        }


def reach(path: str) -> None:
    """Let other users reach a socket in a private directory."""
    Path(path).parent.chmod(0o755)


def gorge() -> dict[str, Any]:
    """Have one uid use up its quotas. Returns how much the broker grew, and what of it that uid was charged."""
    with PrivateBroker(config=CONFIG + QUOTAS) as broker, RawClient(broker.path) as root:
        reach(broker.path)
        root.call("domain.create", kind="hvm", max_pages=64, dom=1, ranges=[{"gfn": 0, "npages": 64}])
        for _ in range(3):
            use_up(broker.path, root)  # what grows the first time only is the broker's own
        before = resident(broker.pid)
        used, after = use_up(broker.path, root, lambda: resident(broker.pid))
        charged = used["incoming_bytes"] + used["queued_bytes"]
        return {
            "growth, bytes": after - before,
            "charged in bytes": charged,
            "over its quota, bytes": after - before - charged,
            "charged in things": {name: n for name, n in used.items() if n and not name.endswith("_bytes")},
        }


def use_up(path: str, root: RawClient, look: Callable[[], int] = lambda: 0) -> tuple[dict[str, int], int]:
    """A child uses up the quotas of the hostile uid. Returns what it is charged at the end, and what ``look`` saw."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.setresuid(HOSTILE, HOSTILE, HOSTILE)
        clients, numbers = [], itertools.count(1)
        with contextlib.suppress(Ended, Refused, OSError):
            one = connect(path)
            clients.append(one)
            with contextlib.suppress(Refused):
                while True:
                    one.call("privcmd.restrict", dom=1, file=next(numbers))
            for _ in range(60):
                clients.append(connect(path))
                clients[-1].sock.settimeout(0.2)
                with contextlib.suppress(OSError):
                    clients[-1].sock.sendall(
                        unfinished(15 * MIB) if len(clients) % 4 else b"\x94\x00\x01\xa8describe\x91\x80" * 400
                    )
        os.write(theirs, b"!")
        signal.pause()
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    seen = look()
    used = root.call("stats")["uids"].get(str(HOSTILE), {})
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while str(HOSTILE) in root.call("stats")["uids"]:
        pass
    return used, seen


def main() -> None:
    """Print what was counted, a line each."""
    parser = argparse.ArgumentParser(description="Besiege a broker, and measure what it costs.")
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("a siege has clients of several users, so it is for root")
    for title, rows in (("the siege", siege(options.minutes * 60)), ("one hostile uid", gorge())):
        print(title)
        for name, value in rows.items():
            print(f"  {name:32} {json.dumps(value) if isinstance(value, dict | list) else value}")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""A broker that keeps its state in a directory: what outlives kill -9, who may use the directory, what is refused."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from privcmd import Client
from privcmd._calls import domain_memory
from privcmdd.model.file_keys import BufferFile, SharedFile
from privcmdd.model.units import DOMID_IO
from privcmdd.server.state_dir import StateDir
from privcmdd.service.keeping import StateError
from support.process import Process
from support.rawclient import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.rawclient import RawClient

PAGE = 4096
SMALL = "[machine]\nmemory_mib = 64\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where state is kept."""
    return tmp_path / "state"


@pytest.fixture
def place(folder: Path) -> Iterator[StateDir]:
    """The directory, taken by this process."""
    made = StateDir(str(folder))
    yield made
    made.files.close_all()
    made.close()


def broker(folder: Path, *args: str) -> Process:
    """A broker that keeps its state there."""
    return Process("--set", f"server.state_dir={folder}", *args, config=SMALL)


def killed(process: Process) -> None:
    """Kill a broker as the kernel does when memory runs out."""
    process.signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def ageless(client: RawClient) -> dict[str, Any]:
    """What the broker says of domain 3, without how old it is."""
    about: dict[str, Any] = client.call("domain.info", dom=3, start=0, num=64)
    del about["lease"]["age_s"]
    return about


def populate(client: RawClient) -> dict[str, Any]:
    """Make domain 3, and write to it through a mapping of its file. Returns what is to be there later."""
    client.call("domain.create", kind="hvm", max_pages=64, dom=3, name="guest", ranges=[{"gfn": 1, "npages": 20}])
    client.call("domain.decrease_reservation", dom=3, arr=[5])
    addr = client.call("mmap", len=PAGE, prot=3)["addr"]
    client.call("privcmd.mmapbatch_v2", dom=3, addr=addr, arr=[20])
    client.call("write", addr=addr, data=b"remember")
    client.call("munmap", addr=addr, len=PAGE)
    return ageless(client)


def test_c7_c8_a_domain_and_its_memory_outlive_kill_9(folder: Path) -> None:
    """Promises C7 and C8: all that was acknowledged is there again, and what clients have mapped is the guest's still.

    The next broker has another instance and the next epoch of the same lineage.
    """
    with broker(folder) as first:
        first.ready()
        with first.client() as client:
            hello = client.call("hello")
            about = populate(client)
        with Client(first.path) as other:
            fd = other.perform(domain_memory(3, write=True)).fd
        killed(first)
    with mmap.mmap(fd, 21 * PAGE) as memory, broker(folder, "--paranoid") as second:
        os.close(fd)
        memory[20 * PAGE + 8 : 20 * PAGE + 14] = b" still"
        second.ready()
        with second.client() as client:
            again = client.call("hello")
            assert ageless(client) == about
            addr = client.call("mmap", len=PAGE, prot=3)["addr"]
            assert client.call("privcmd.mmapbatch_v2", dom=3, addr=addr, arr=[20])["n_failed"] == 0
            assert client.call("read", addr=addr, len=14)["data"] == b"remember still"
            client.call("write", addr=addr, data=b"REMEMBER")
            assert memory[20 * PAGE : 20 * PAGE + 8] == b"REMEMBER"
            assert client.call("domain.destroy", dom=3) == {"state": "dying"}
        assert second.stop() == 0
    assert (again["lineage"], again["epoch"]) == (hello["lineage"], 2)
    assert again["instance"] != hello["instance"]
    assert [path.name for path in (folder / "memory").iterdir()] == []


def test_state_outlives_an_orderly_stop_too(folder: Path) -> None:
    """SIGTERM ends connections and no domain; the log says how many are there again."""
    with broker(folder) as first:
        first.ready()
        with first.client() as client:
            about = populate(client)
        assert first.stop() == 0
    with broker(folder) as second:
        second.ready()
        with second.client() as client:
            assert ageless(client) == about
        second.stop()
        (said,) = [line for line in second.lines() if line["event"] == "state kept"]
    assert (said["directory"], said["epoch"], said["domains"]) == (str(folder), 2, 1)


def test_c8_d1_a_disk_that_takes_no_more_refuses_and_changes_nothing(folder: Path) -> None:
    """Promises C8 and D1: domains are refused with the disk's errno, and made again when it takes them; none is half.

    The disk is a limit of the size of files, which the log of the records reaches.
    """
    limit = 2 << 20
    with broker(folder, "--set", "machine.gfns_per_domain=64", "--paranoid") as process:
        process.ready()
        resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with process.client() as client:
            client.call("domain.create", kind="hvm", max_pages=1, dom=1)
            refused = None
            while refused is None:
                for call in ("domain.create", "domain.destroy"):
                    params = {"kind": "hvm", "max_pages": 1, "dom": 2}
                    try:
                        client.call(call, **(params if call == "domain.create" else {"dom": 2}))
                    except Refused as error:
                        refused = error
                        break
            there = [row["dom"] for row in client.call("domain.list")["domains"]]
            assert refused.name == "EIO"
            assert there == ([1] if call == "domain.create" else [1, 2])
            resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            client.call("domain.create", kind="hvm", max_pages=1, dom=3)
        killed(process)
    with broker(folder, "--set", "machine.gfns_per_domain=64") as second:
        second.ready()
        with second.client() as client:
            assert [row["dom"] for row in client.call("domain.list")["domains"]] == [*there, 3]


def test_without_state_dir_nothing_is_written_and_no_database_is_loaded(tmp_path: Path) -> None:
    """The default: a broker that starts as fast as ever, and leaves nothing behind."""
    with Process(environ={"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}, config=SMALL) as process:
        process.ready()
        with process.client() as client:
            populate(client)
        maps = Path(f"/proc/{process.popen.pid}/maps").read_text()
        assert process.stop() == 0
    assert list(tmp_path.iterdir()) == []
    assert "sqlite" not in maps


def test_a_directory_has_one_broker(folder: Path) -> None:
    """A second broker is refused before it serves anybody, and is told who has the directory."""
    with broker(folder) as first:
        first.ready()
        with broker(folder) as second:
            assert second.wait() == 2
            assert f"process {first.popen.pid} keeps its state there" in second.output()
            assert "server.state_dir" in second.output()


def test_state_of_another_machine_is_refused_with_2(folder: Path) -> None:
    """A changed size of the machine is an error of the configuration."""
    with broker(folder) as first:
        first.ready()
        with first.client() as client:
            populate(client)
        killed(first)

    with broker(folder, "--set", "machine.memory_mib=128") as second:
        assert second.wait() == 2
        assert "set machine.memory_mib back, or choose another directory" in second.output()


def test_nobody_else_may_look_into_the_directory(place: StateDir) -> None:
    """Guests' memory lies there."""
    place.files.create(1, 4)

    assert stat.S_IMODE(place.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((place.path / "memory" / "domain-1").stat().st_mode) == 0o400


def test_files_of_a_crash_that_belong_to_no_domain_are_removed(folder: Path) -> None:
    """A file is made before its domain is kept: a crash between the two leaves a file alone."""
    first = StateDir(str(folder))
    first.files.create(1, 4)
    first.files.create(2, 4)
    first.files.close_all()
    first.close()

    second = StateDir(str(folder))
    assert second.files.reopen(2, 4)
    assert not second.files.reopen(3, 4)
    second.files.sweep()
    second.files.close_all()
    second.close()

    assert [path.name for path in (folder / "memory").iterdir()] == ["domain-2"]


def test_b10_a_file_that_was_made_shorter_gets_its_size_back(place: StateDir) -> None:
    """Whoever did it: the broker reads zeros where nothing is any more, and goes on."""
    files = place.files
    files.create(1, 4)
    files.write(1, 0, 0, b"kept")
    path = place.path / "memory" / "domain-1"
    os.truncate(path, PAGE)

    assert files.read(1, 0, 0, 4) == b"kept"
    assert files.read(1, 3, 0, PAGE) == bytes(PAGE)
    os.truncate(path, 0)
    os.close(files.descriptor(1, writable=True))
    assert path.stat().st_size == 4 * PAGE


def test_b10_a_descriptor_for_writing_changes_no_size(place: StateDir) -> None:
    """Promise B10 where the kernel can keep it; a descriptor for reading cannot be written through."""
    files = place.files
    if not files.guarded:
        pytest.skip("NOT TESTED: sizes of files that clients cannot change; Landlock of Linux 6.2 is missing")
    files.create(1, 4)
    for writable in (True, False):
        fd = files.descriptor(1, writable=writable)
        try:
            with pytest.raises(OSError, match=r"Permission denied|Invalid argument"):
                os.ftruncate(fd, 0)
            if writable:
                assert os.pwrite(fd, b"x", PAGE) == 1
            else:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.pwrite(fd, b"x", PAGE)
        finally:
            os.close(fd)


def test_pages_that_were_given_back_are_no_longer_filled(place: StateDir) -> None:
    """What the host has memory for is found by runs, holes between them left out."""
    files = place.files
    files.create(1, 1000)
    for page in (3, 4, 5, 500, 999):
        files.write(1, page, 0, b"x")
    files.discard(1, np.array([4, 999], dtype=np.uint32))

    assert files.filled(1) == [(3, 1), (5, 1), (500, 1)]


def test_a_number_that_is_used_again_has_a_new_file(place: StateDir) -> None:
    """Clients that have the dead domain's memory mapped see none of the new one's."""
    files = place.files
    files.create(1, 4)
    old = files.descriptor(1, writable=True)
    files.close(1)
    files.create(1, 4)
    try:
        os.pwrite(old, b"old", 0)

        assert files.read(1, 0, 0, 3) == bytes(3)
    finally:
        os.close(old)


def test_other_files_are_memfds_as_ever(place: StateDir) -> None:
    """Buffers, shared pages and the machine's own memory end with the broker."""
    for key in (BufferFile(1), SharedFile(1), DOMID_IO):
        place.files.create(key, 4)
        assert not place.files.reopen(9, 4)
        place.files.write(key, 0, 0, struct.pack("<I", 7))
    assert list((place.path / "memory").iterdir()) == []


def test_a_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    """The text names the key and what the system says."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StateError, match=r"kept in .*file/state \(server.state_dir\): Not a directory"):
        StateDir(str(tmp_path / "file" / "state"))

# SPDX-License-Identifier: Apache-2.0
"""Injections as unmodified programs see them, under ``privcmdctl run --fault``."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from programs.programs import command, needs, python, run

if TYPE_CHECKING:
    from privcmd import Client
    from privcmd.broker import PrivateBroker

# Maps frames by Xen's library, and says of each 0 or its errno; then what the call said.
MAP = """\
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <xenforeignmemory.h>

int main(int argc, char **argv)
{
    xenforeignmemory_handle *xen = xenforeignmemory_open(NULL, 0);
    int n = argc - 1, err[64];
    xen_pfn_t gfns[64];

    for (int i = 0; i < n; i++)
        gfns[i] = strtoul(argv[i + 1], NULL, 0);
    void *at = xenforeignmemory_map(xen, 1, PROT_READ, n, gfns, err);
    int said = at ? 0 : errno;
    for (int i = 0; at && i < n; i++)
        printf("%d ", err[i]);
    printf("%d\\n", said);
    if (at)
        xenforeignmemory_unmap(xen, at, n);
    return xenforeignmemory_close(xen);
}
"""


@pytest.fixture(scope="module")
def mapper(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program over the distribution's libxenforeignmemory."""
    if not Path("/usr/include/xenforeignmemory.h").exists():
        pytest.skip("NOT TESTED: faults under libxenforeignmemory; it is missing (apt-get install libxen-dev)")
    directory = tmp_path_factory.mktemp("mapper")
    (directory / "map.c").write_text(MAP)
    compiler = shutil.which("cc")
    assert compiler is not None  # the preload library was built by it
    program = directory / "map"
    subprocess.run([compiler, "-o", program, directory / "map.c", "-lxenforeignmemory"], check=True)
    return str(program)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("frame-errno=EBUSY,gfns=3+2", f"0 {-errno.EBUSY} {-errno.EBUSY} 0 0"),
        ("frame-errno=EBUSY,nth=2,times=2,client=nobody", "0 0 0 0 0"),
        ("frame-errno=EPERM,nth=2,times=2", f"0 {-errno.EPERM} {-errno.EPERM} 0 0"),
        ("paged=3,gfns=5+1", "0 0 0 0 0"),
        ("paged=3,gfns=4+1", f"0 0 {-errno.ENOENT} 0 0"),  # lost: the driver says it of a batch's last frame only
        ("errno=ENOMEM,method=privcmd.mmapbatch_v2", str(errno.ENOMEM)),
        ("errno=EACCES,method=privcmd.,gfns=5+1", str(errno.EACCES)),
        ("errno=EACCES,method=privcmd.,gfns=6+1", "0 0 0 0 0"),
        ("delay=30,dom=1", "0 0 0 0 0"),
        ("drop,method=privcmd.mmapbatch_v2", str(errno.ENXIO)),
        ("drop,after,method=privcmd.mmapbatch_v2", str(errno.ENXIO)),
    ],
)
def test_xens_library_sees_what_was_injected(mapper: str, rule: str, said: str) -> None:
    """Errors of frames, errors of the call, ENOENT asked again until it is good, and a broker that goes away."""
    done = run("--no-xenstore", "--domain", "hvm:1M", "--fault", rule, "--", mapper, "2", "3", "4", "5")

    assert (done.returncode, done.stdout) == (0, f"{said}\n")


def test_a_rule_names_its_domain(broker: PrivateBroker, client: Client) -> None:
    """Law: dom=NAME is a domain of the run, or one that is there.

    An unknown name is said, with one that is like it, and the program is not started.
    """
    client.domains.create("hvm", 16, name="there")
    words = ["--no-xenstore", "--domain", "pv:1M:other", "--domain", "hvm:1M:web"]

    own = run(*words, "--fault", "dom=web,frame-errno=EBUSY", "--", "true")
    joined = run("--socket", broker.path, "--fault", "dom=there,frame-errno=EBUSY", "--", "true")
    wrong = run(*words, "--fault", "dom=wep,frame-errno=EBUSY", "--", "echo", "started")

    assert own.stderr.startswith("privcmdctl: fault frame-errno=EBUSY,dom=2: seen 0, fired 0; ")
    assert joined.stderr.startswith("privcmdctl: fault frame-errno=EBUSY,dom=1: seen 0, fired 0; ")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "privcmdctl: ESRCH: there is no domain called 'wep'; did you mean web?\n"


def test_the_retry_loop_of_xens_library_runs(mapper: str, broker: PrivateBroker, client: Client) -> None:
    """Each paged frame is asked for again, alone, until it is there; what the loop cost is counted."""
    client.domains.create("hvm", 16, dom=1)
    rules = ["--fault", "paged=3,gfns=5+1", "--fault", "paged=1,gfns=2+1"]

    done = run("--no-xenstore", "--socket", broker.path, *rules, "--", mapper, "2", "3", "4", "5")

    assert done.stdout == "0 0 0 0 0\n"
    assert done.stderr.splitlines()[-2:] == [
        "privcmdctl: fault paged=3,gfns=0x5+0x1: seen 3, fired 3",
        "privcmdctl: fault paged=1,gfns=0x2+0x1: seen 1, fired 1",
    ]
    assert client.stats()["injected"]["paged"] == 4
    assert client.faults.list() == []


def test_a_program_of_the_distribution_says_so() -> None:
    """xen-mfndump, as Debian built it: the frame that cannot be had, in its own words."""
    mfndump = needs("xen-mfndump")

    def compared(*options: str) -> str:
        done = run("--no-xenstore", "--domain", "hvm:1M", *options, "--", mfndump, "memcmp-mfns", "1", "3", "1", "4")
        return done.stdout + done.stderr

    assert "memcpy(1, 2) = 0\n" in compared()
    assert compared("--fault", "frame-errno=EINVAL,gfns=4+1").startswith(
        "Failed to map either 0x3[dom 1] or 0x4[dom 1]\n"
    )


def test_a_rule_of_a_run_is_for_its_program_alone(broker: PrivateBroker, client: Client) -> None:
    """Other clients of the same broker meet none, and neither does the next run."""
    client.domains.create("hvm", 16, dom=1)
    source = """
        at = mmap_pages(2)
        print(batch(1, at, [1, 2]), flush=True)
        sys.stdin.readline()
        libc.munmap(at, 2 * PAGE)
    """
    arguments = ["--no-xenstore", "--socket", broker.path, "--json", "--fault", "frame-errno=EIO,gfns=2+1", "--"]
    with subprocess.Popen(
        command(*arguments, *python(source)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == f"(0, [0, {-errno.EIO}])\n"
        addr = client.mmap(0, 2 * 4096, 3)
        assert client.privcmd_mmapbatch_v2(1, addr, [1, 2]).n_failed == 0
        end = running.communicate("\n")[1].splitlines()[-1]

    assert running.returncode == 0
    assert json.loads(end)["faults"] == [
        {
            "id": 1,
            "seen": 1,
            "fired": 1,
            "connection": 2,
            "rule": {"frame_errno": "EIO", "gfns": [{"gfn": 2, "npages": 1}]},
            "job": "",
        }
    ]
    assert run(*arguments[:3], "--", *python(source), input="\n").stdout == "(0, [0, 0])\n"

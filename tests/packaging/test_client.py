# SPDX-License-Identifier: Apache-2.0
"""The client alone: the library and the shim, beside a broker that is installed elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.packed import Environment, environment, run

if TYPE_CHECKING:
    from privcmd import Client
    from privcmd.broker import PrivateBroker

ROOT = Path(__file__).resolve().parents[2]
LIMIT_BYTES = 6_000_000


@pytest.fixture(scope="module")
def client_only(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with ``privcmdd-client`` and what it asks for."""
    directory = tmp_path_factory.mktemp("client")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", directory)
    run([*pip, ROOT / "clients"], {"PRIVCMDD_SHIM": "required", "CC": compiler})
    new = environment(directory / "venv")
    new.pip(*directory.glob("*.whl"))
    return new


def test_it_takes_five_megabytes_and_neither_numpy_nor_trio(client_only: Environment) -> None:
    """What is installed is privcmd and msgpack, and nothing else."""
    packages = {path.name.partition("-")[0] for path in client_only.site.glob("*.dist-info")}
    size = sum(path.stat().st_size for path in client_only.site.rglob("*") if path.is_file())

    assert packages == {"privcmdd_client", "msgpack"}
    assert size < LIMIT_BYTES


def test_the_library_maps_memory(client_only: Environment, broker: PrivateBroker, client: Client) -> None:
    """``import privcmd`` gives the blocking client; it maps a page of a broker that is elsewhere."""
    client.domains.create("hvm", 64, dom=1)
    code = (
        "import privcmd, sys\n"
        "with privcmd.Client(sys.argv[1]) as client, privcmd.ForeignMemory(client) as foreign:\n"
        "    with foreign.map(1, [16]) as mapping: print(sum(mapping[:4]))"
    )

    assert client_only("python", "-c", code, broker.path).stdout == "0\n"


def test_a_program_runs_under_the_shim(
    client_only: Environment, broker: PrivateBroker, client: Client, maps: Path
) -> None:
    """``python3 -m privcmd.run`` preloads the shim; the program's exit status is its own."""
    client.domains.create("hvm", 64, dom=1)
    words = ("-m", "privcmd.run", "--socket", broker.path, "--")

    assert client_only("python", *words, maps).stdout == "mapped, and reads 42\n"
    assert client_only("python", *words, "/bin/false", status=1).stdout == ""


def test_without_a_broker_it_says_so(client_only: Environment, tmp_path: Path) -> None:
    """It starts no broker: that is what privcmdd is for."""
    done = client_only("python", "-m", "privcmd.run", "--socket", tmp_path / "none", "--", "/bin/true", status=1)

    assert "privcmd.run: ENOENT: no broker at " in done.stderr

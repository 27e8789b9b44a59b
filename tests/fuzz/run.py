# SPDX-License-Identifier: Apache-2.0
"""Fuzz what reads bytes of others, from the corpus on: ``make fuzz SECONDS=60``.

Targets in Python are fuzzed by atheris, those in C by libFuzzer with the address and undefined-behaviour sanitizers.
What breaks a promise ends the target, its bytes are left below ``build/fuzz``, and the exit code is 1: mend it, and put
the bytes into the corpus. ``--keep`` adds what reached something new to the corpus, the smallest of each.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

CORPUS = HERE / "corpus"
BUILD = ROOT / "build" / "fuzz"
IN_PYTHON = ("wire", "hypercalls")
IN_C = ("codec", "answers")
TARGETS = (*IN_PYTHON, *IN_C)
CLIENT = ROOT / "clients" / "c"
FLAGS = ("-D_GNU_SOURCE", "-std=c11", "-O1", "-g", '-DPRIVCMDD_VERSION="fuzz"')
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LONGEST = {"wire": 512, "hypercalls": 256, "codec": 512, "answers": 512}
"""The longest input in bytes: files of the corpus stay small."""


def build(target: str, output: Path, *flags: str, compiler: str = "clang", sources: tuple[str, ...] = ()) -> Path:
    """Compile a target in C with the whole client."""
    output.parent.mkdir(parents=True, exist_ok=True)
    files = [HERE / f"{target}.c", *(HERE / source for source in sources), *sorted(CLIENT.glob("*.c"))]
    command = [compiler, *FLAGS, *SANITIZERS, *flags, "-o", output, *files, "-lpthread"]
    subprocess.run(list(map(str, command)), check=True)
    return output


def begin(target: str) -> list[str]:
    """What a target is started with."""
    if target in IN_PYTHON:
        return [sys.executable, str(HERE / "run.py"), "--here", target]
    return [str(build(target, BUILD / target, "-fsanitize=fuzzer"))]


def kept(target: str) -> list[bytes]:
    """The inputs of a target that are in the repository."""
    rows = (CORPUS / f"{target}.txt").read_text(encoding="ascii").split("\n")
    return [bytes.fromhex(row) for row in rows if not row.startswith("#")]


def keep(target: str, inputs: list[bytes]) -> None:
    """Put these inputs into the repository, the shortest first."""
    rows = [each.hex() for each in sorted(inputs, key=lambda each: (len(each), each))]
    (CORPUS / f"{target}.txt").write_text("\n".join(["# One input a line.", *rows]), encoding="ascii")


def unpack(target: str) -> Path:
    """The corpus as a fuzzer reads it: a folder with a file for each input."""
    folder = emptied(BUILD / f"{target}-corpus")
    for n, each in enumerate(kept(target)):
        (folder / f"{n:04}").write_bytes(each)
    return folder


def emptied(folder: Path) -> Path:
    """A folder with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def missing(target: str) -> str:
    """What a target cannot be fuzzed without, or ""."""
    if target in IN_PYTHON:
        return "" if importlib.util.find_spec("atheris") else "atheris, which is not made for this Python"
    return "" if shutil.which("clang") else "clang (apt-get install clang libclang-rt-dev)"


def fuzz(target: str, seconds: int, seed: int, *, keeps: bool) -> bool:
    """Fuzz one target. Returns whether all promises were kept."""
    if lacking := missing(target):
        print(f"NOT FUZZED: {target}; missing: {lacking}", file=sys.stderr)
        return True
    corpus, new = unpack(target), emptied(BUILD / f"{target}-new")
    command = [*begin(target), f"-max_len={LONGEST[target]}", f"-seed={seed}"]
    limits = (f"-max_total_time={seconds}", f"-artifact_prefix={BUILD}/{target}-", "-timeout=20", "-rss_limit_mb=2048")
    done = subprocess.run([*command, *limits, "-print_final_stats=1", str(new), str(corpus)], check=False)
    if keeps and not done.returncode:
        merged = emptied(BUILD / f"{target}-merged")
        subprocess.run([*command, "-set_cover_merge=1", str(merged), str(corpus), str(new)], check=True)
        keep(target, [path.read_bytes() for path in merged.iterdir()])
    return not done.returncode


def fuzz_here(target: str, arguments: list[str]) -> None:
    """Fuzz a target in Python, in this process."""
    import atheris  # noqa: PLC0415 (only here: it is installed by make fuzz)

    with atheris.instrument_imports(include=["privcmdd"]):
        one = importlib.import_module(f"fuzz.{target}").one
    # To merge, libFuzzer starts itself again by its own name, through a shell.
    atheris.Setup([shlex.join([sys.executable, *sys.argv[:3]]), *arguments], one)
    atheris.Fuzz()


def main() -> int:
    """Fuzz the targets one after the other; 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=TARGETS, help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--seed", type=int, default=0, help="begin alike each time; 0, the default: at random")
    parser.add_argument("--keep", action="store_true", help="put what reached something new into the corpus")
    if sys.argv[1:2] == ["--here"]:
        fuzz_here(sys.argv[2], sys.argv[3:])
        return 0
    chosen = parser.parse_args()
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    os.environ["PYTHONPATH"] = os.pathsep.join(str(ROOT / part) for part in ("broker", "clients/python", "tests"))
    broken = [target for target in chosen.targets if not fuzz(target, chosen.seconds, chosen.seed, keeps=chosen.keep)]
    print("a promise was broken by: " + ", ".join(broken) if broken else "all promises were kept")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Generate files from the table of methods: the protocol's page, schema and vectors, the Python library's calls.

Usage: generate.py [--check]

With --check nothing is written; the names of stale files are printed, and the exit status is 1 if there are any.
"""

import argparse
import json
import sys
from pathlib import Path

from library import modules
from reference import page
from schema import schema
from vectors import vectors

_HERE = Path(__file__).resolve().parent


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is stale")
    check = parser.parse_args().check
    root = _HERE.parents[1]
    files = {
        _HERE / "schema.json": _json(schema()),
        _HERE / "vectors.json": _json(vectors()),
        root / "docs" / "reference" / "protocol.md": page(),
        **{root / "clients/python/privcmd" / f"{name}.py": source for name, source in modules().items()},
    }
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(root)}: {'stale, run clients/protocol/generate.py' if check else 'written'}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

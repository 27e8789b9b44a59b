# SPDX-License-Identifier: Apache-2.0
"""Draw the picture of the README: what `make demo` prints on a terminal, the sections that tell most, as SVG.

Usage: pictures.py
"""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURE: Final = ROOT / "docs" / "pictures" / "demo.svg"
SHOWN: Final = ("2.", "3.", "5.", "6.")
"""The sections that the picture has: it is to fit on a screen."""
WIDTH: Final = 128
"""Columns: the longest line of the demo has 127."""
ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*m")


def printed() -> str:
    """Run the demo on a terminal, and take what it prints there."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        with subprocess.Popen(
            [sys.executable, "-m", "privcmdd.cli.ctl", "demo"], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
        ) as demo:
            os.close(theirs)
            taken = b""
            try:
                while some := terminal.read(65536):
                    taken += some
            except OSError:  # EIO: nobody has the terminal any more
                pass
        if demo.returncode:
            raise SystemExit(taken.decode())
    return taken.decode().replace("\r\n", "\n")


def shortened(text: str) -> str:
    """Keep the sections that are shown and the last line, without times: those are of the machine."""
    sections = [part for part in text.split("\n\n") if ESCAPES.sub("", part.strip()).startswith(SHOWN)]
    bodies = [
        "\n".join(line for line in part.strip("\n").split("\n") if not re.search(r"\d s\W", line)) for part in sections
    ]
    last = re.sub(r", in .*", "", text.strip("\n").rsplit("\n", maxsplit=1)[-1])
    return "\n\n".join(["$ make demo", *bodies, last])


def drawn(text: str) -> str:
    """Draw a text with its colours. The picture names no font that would have to be fetched."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text), soft_wrap=False)
    svg = console.export_svg(title="make demo", theme=MONOKAI, unique_id="demo")
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    return re.sub(r"[ \t]+$", "", svg.replace("Fira Code", "DejaVu Sans Mono"), flags=re.MULTILINE)


def main() -> None:
    """Write the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn(shortened(printed())) + "\n", encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()

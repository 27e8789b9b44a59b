# SPDX-License-Identifier: Apache-2.0
"""Try every link of the site that leads to the site itself. Usage: links.py FOLDER.

Sphinx checks the links that it resolves; this checks what came of them: each page, anchor, style sheet, script and
picture that a page names is there. Exit status 1, and the dead links, when one is not.
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page names, and what may be named of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one tag names."""
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.targets.append(value)
            elif name == "id" and value is not None:
                self.anchors.add(value)


def dead(site: Path) -> Iterator[str]:
    """Find the links that lead nowhere."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for target in dict.fromkeys(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            if not there.is_file() or (there in pages and unquote(parts.fragment) not in pages[there].anchors):
                yield f"{path.relative_to(site)}: {target}"


def main(site: str) -> int:
    """Say which links are dead."""
    found = list(dead(Path(site).resolve()))
    for link in found:
        print(f"dead link: {link}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

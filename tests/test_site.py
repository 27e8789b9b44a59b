# SPDX-License-Identifier: Apache-2.0
"""The documentation site: it is made without a warning, its links lead somewhere, and the API is on it whole."""

from __future__ import annotations

import html
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPHINX = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-c", "docs/site"]
LINKS = [sys.executable, "docs/site/links.py"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make site` makes it; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    environ = {name: value for name, value in os.environ.items() if name != "PRIVCMDD_SOURCE_URL"}
    for builder in ("html", "doctest"):
        command = [*SPHINX, "-b", builder, "-d", str(folder / ".doctrees"), ".", str(folder / builder)]
        made = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
    return folder / "html"


def test_every_link_inside_the_site_leads_somewhere(site: Path) -> None:
    """Pages, anchors, style sheets, pictures: all that is named is there."""
    tried = subprocess.run([*LINKS, str(site)], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (tried.returncode, tried.stdout) == (0, "")
    assert len(list(site.rglob("*.html"))) > 40


@pytest.mark.parametrize(
    ("module", "page"), [("privcmd", "privcmd"), ("privcmd.trio", "trio"), ("privcmd.guest", "guest")]
)
def test_every_public_name_is_on_the_site(site: Path, module: str, page: str) -> None:
    """Each class and function of ``__all__`` is described on its module's page; constants stand in its text."""
    text = (site / f"docs/reference/api/{page}.html").read_text(encoding="utf-8")
    home = importlib.import_module(module)
    described = {name: f'id="{module}.{name}"' if callable(getattr(home, name)) else name for name in home.__all__}

    assert [name for name, said in described.items() if said not in text] == []


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    """A page that is not there, an anchor that is not there, and a picture; links to other hosts are not tried."""
    (tmp_path / "b.html").write_text('<h1 id="here">b</h1>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here"></a><a href="b.html#gone"></a><a href="c.html"></a><img src="d.svg"><a href="https://e/">'
    )
    tried = subprocess.run([*LINKS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)

    assert tried.returncode == 1
    assert tried.stdout.splitlines() == [f"dead link: a.html: {name}" for name in ("b.html#gone", "c.html", "d.svg")]


PICTURE = ROOT / "docs/pictures/demo.svg"


def test_the_picture_shows_what_the_demo_prints() -> None:
    """Each line of it is one that the demo prints now; numbers differ from run to run. It fetches nothing."""
    picture = PICTURE.read_text(encoding="utf-8")
    cells = re.findall(r'<text class="demo-r[^"]*" x="[^"]*" y="([^"]*)"[^>]*>([^<]*)</text>', picture)
    rows: dict[str, str] = {}
    for y, cell in cells:
        rows[y] = rows.get(y, "") + html.unescape(cell).replace("\N{NO-BREAK SPACE}", " ")
    demo = subprocess.run(
        [sys.executable, "-m", "privcmdd.cli.ctl", "demo"], capture_output=True, text=True, check=True
    )

    drawn = {numberless(row) for row in rows.values() if "\N{CHECK MARK}" in row}
    assert len(drawn) > 20
    assert drawn <= {numberless(line) for line in demo.stdout.splitlines()}
    assert set(re.findall(r"https?://[\w.]+", picture)) == {"http://www.w3.org", "https://www.textualize.io"}


def numberless(line: str) -> str:
    """A line with each number the same."""
    return re.sub(r"(0x)?[0-9a-f]*\d[0-9a-f,]*", "N", line).strip()

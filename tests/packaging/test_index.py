# SPDX-License-Identifier: Apache-2.0
"""What an index of packages shows of ours."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from readme_renderer import markdown

from support.packed import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=[".", "clients"], ids=["privcmdd", "privcmdd-client"])
def metadata(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Metadata:
    """The metadata of a wheel, which an index refuses when a field is wrong."""
    directory = tmp_path_factory.mktemp("index")
    build = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", directory, ROOT / request.param)
    run(build, {"PRIVCMDD_SHIM": "no"})
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (each for each in packed.namelist() if each.endswith(".dist-info/METADATA"))
        return Metadata.from_email(packed.read(name), validate=True)


def test_the_readme_is_shown_and_leads_nowhere_that_it_does_not_have(metadata: Metadata) -> None:
    """PyPI's own renderer makes a page of it, in which no picture and no link leads into the tree."""
    assert metadata.description_content_type == "text/markdown"
    page = markdown.render(metadata.description or "")

    assert page is not None
    assert re.search(r"<h1[^>]*>privcmdd", page)
    assert [link for link in re.findall(r'(?:href|src)="([^"]*)"', page) if not re.match(r"https://|#", link)] == []


def test_it_says_what_it_is_for_and_runs_on(metadata: Metadata) -> None:
    """Each version of Python that we promise is named, and the licence is an expression."""
    classifiers = set(metadata.classifiers or ())
    versions = re.findall(r'"(3\.\d+)"', (ROOT / "noxfile.py").read_text(encoding="utf-8"))

    assert {f"Programming Language :: Python :: {version}" for version in versions} <= classifiers
    assert {"Operating System :: POSIX :: Linux", "Typing :: Typed"} <= classifiers
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.summary

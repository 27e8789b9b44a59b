# SPDX-License-Identifier: Apache-2.0
"""The documentation site: the pages as they stand in the repository, made into one site by ``make site``.

Nothing is written for the site alone. The folders of its sidebar are the sections of ``docs/index.md``; a page of the
API has ``<!-- api: MODULE -->`` where the site puts what the docstrings say; a link to a file that is no page leads to
the file in the repository that ``PRIVCMDD_SOURCE_URL`` names, or to a copy of it.
"""

import os
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from sphinx.application import Sphinx

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients" / "python"))

project = "privcmdd"
project_copyright = "the authors of privcmdd"
release = metadata.version("privcmdd")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.doctest", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "bench/README.md", "changelog.d/README.md", "clients/c/README.md"]
exclude_patterns = [".*", "*/build", "build", "broker", "tests", "clients/python", "clients/protocol", "config"]
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = "privcmdd"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "first.html"}
templates_path = ["_templates"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5c6b", "color-brand-content": "#0b6e80"},
    "dark_css_variables": {"color-brand-primary": "#62d0e0", "color-brand-content": "#62d0e0"},
}

myst_heading_anchors = 6
suppress_warnings = ["misc.highlighting_failure"]

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "inherited-members": "OSError,BaseException,object"}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Types of the standard library and of private modules are named in signatures, and are not on the site.
nitpick_ignore_regex = [("py:.*", r".*")]

INDEX_SECTION: Final = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
PAGE: Final = re.compile(r"\]\(([^)#]+)\.md\)")
API: Final = re.compile(r"^<!-- api: (\S+) -->$", re.MULTILINE)
SOURCE_URL: Final = os.environ.get("PRIVCMDD_SOURCE_URL", "").rstrip("/")


def sidebar(index: str) -> str:
    """Make the sidebar: each section of the index page, with the pages that it lists."""
    trees = [
        f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(PAGE.findall(items)) + "\n```\n"
        for title, items in INDEX_SECTION.findall(index)
    ]
    return index + "\n" + "\n".join(trees)


def made_for_site(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Add to a page what the site has and the repository has not."""
    if docname == root_doc:
        source[0] = sidebar(source[0])
    source[0] = API.sub(r"```{eval-rst}\n.. automodule:: \1\n```", source[0])


def link_to_repository(app: Sphinx, doctree: nodes.document) -> None:
    """Lead links to files that are no pages to the repository, as far as somebody has said where it is."""
    here = (Path(app.srcdir) / app.env.docname).parent
    for link in [*doctree.findall(lambda node: isinstance(node, nodes.Element) and "reftarget" in node)]:
        target: Any = link["reftarget"]
        path = (here / target.partition("#")[0]).resolve()
        if ".md" in target or not path.exists() or not path.is_relative_to(ROOT):
            continue
        name = path.relative_to(ROOT)
        if SOURCE_URL:
            link.replace_self(nodes.reference("", "", *link.children, refuri=f"{SOURCE_URL}/{name}"))
        elif path.is_dir():
            link.replace_self(link.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Join in the build."""
    app.connect("source-read", made_for_site)
    app.connect("doctree-read", link_to_repository)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

# SPDX-License-Identifier: Apache-2.0
"""What is slow to import is not in the way of the first answer."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["numpy", "structlog", "tomllib", "difflib", "json", "asyncio"])
def test_the_first_answer_does_not_wait_for(module: str) -> None:
    """All that a ping needs is imported, and this is not: the figure is in bench/, the reason is held here."""
    code = (
        "import sys; from privcmdd.cli import broker; from privcmdd.server import config, listen, supervise;"
        f"sys.exit({module!r} in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", ["privcmdd.service.hypercalls.hypercall", "numpy.random"])
def test_the_first_mapping_does_not_wait_for(module: str) -> None:
    """All that a domain and a mapping need is imported; the hypercalls come with the first of them."""
    code = (
        "import sys; from privcmdd.service.methods import all_imported, machinery;"
        f"machinery(); before = {module!r} in sys.modules; all_imported(); print(before, {module!r} in sys.modules)"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False True\n"

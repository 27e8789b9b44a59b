# SPDX-License-Identifier: Apache-2.0
"""The tests under each version of Python that we promise to run on: `nox`, or `nox -s tests-3.13 -- tests/wire`.

A version that is not installed is skipped, except in CI, where it is an error.
"""

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
"""The oldest is that of `requires-python`."""


@nox.session(python=VERSIONS)
def tests(session: nox.Session) -> None:
    """Run the tests that need no container, or those that are named."""
    session.install("--quiet", "pip>=25.1")
    session.install("--quiet", "--editable", ".", "--group", "dev")
    session.run("make", "-s", "shim", external=True)
    session.run("pytest", "-q", *(session.posargs or ["-m", "not container"]))

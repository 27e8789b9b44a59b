# SPDX-License-Identifier: Apache-2.0
"""privcmdd: a privcmd in user space."""

if __name__ != "privcmdd":  # reached by way of a directory above it
    raise ImportError(f"{__name__} would be a second copy of the package: `import privcmdd`; make installs it")

__version__ = "0.1.0"

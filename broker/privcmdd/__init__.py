# SPDX-License-Identifier: Apache-2.0
"""privcmdd: a privcmd in user space."""

if __name__ != "privcmdd":  # reached by way of a directory above it
    raise ImportError(f"{__name__} would be a second copy of the package: `import privcmdd`; make installs it")

try:
    from privcmdd._version import VERSION as _BUILT
except ImportError:  # a tree that nothing was installed from
    _BUILT = "0+unknown"

__version__: str = _BUILT

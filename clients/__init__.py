# SPDX-License-Identifier: Apache-2.0
"""Not a package: clients/python is a source root. Imported through here, everything below would exist twice."""

raise ImportError("clients/ is not a package: `import privcmd` (make demo and make test install it)")

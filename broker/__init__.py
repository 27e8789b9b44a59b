# SPDX-License-Identifier: Apache-2.0
"""Not a package: a source root. Imported through here, everything below would exist twice."""

raise ImportError("broker/ is a source root, not a package: `import privcmdd` (make demo and make test install it)")

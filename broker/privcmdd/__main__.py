# SPDX-License-Identifier: Apache-2.0
"""``python -m privcmdd``."""

import sys

from privcmdd.cli.broker import main

if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""The pool of memory for page tables, which ``domctl`` reads and sets."""

from __future__ import annotations

import errno

from privcmdd.service.hypercalls import shadow
from support.tool import (
    PV,
    Tool,
)


def test_the_pool_for_page_tables(tool: Tool) -> None:
    """Whole pages; a PV domain has none."""
    dom, pv = tool.build(), tool.build(PV)

    assert tool.domctl(85, dom, shadow.MEMPOOL)[1]["size"] == 1 << 20
    assert tool.domctl(86, dom, shadow.MEMPOOL, size=64 << 10)[0] == 0
    assert tool.domctl(86, dom, shadow.MEMPOOL, size=4097)[0] == -errno.EINVAL
    assert tool.domctl(85, dom, shadow.MEMPOOL)[1]["size"] == 64 << 10
    assert tool.domctl(85, pv, shadow.MEMPOOL)[0] == -errno.EOPNOTSUPP

# SPDX-License-Identifier: Apache-2.0
"""``hvm_op``: the parameters of HVM domains."""

from __future__ import annotations

import errno
from typing import Any

from privcmdd.service.hypercalls import hvm_op
from support.tool import (
    BUFFERS,
    HVM_OP,
    PV,
    Tool,
)


def test_parameters_of_hvm_domains(tool: Tool) -> None:
    """Kept as they were set; a PV domain has none."""
    dom, pv = tool.build(), tool.build(PV)

    def param(command: int, **values: Any) -> tuple[int, int]:
        tool.put(hvm_op.PARAM.pack(values))
        return tool.call(HVM_OP, command, BUFFERS), hvm_op.PARAM.unpack(tool.get(16))["value"]

    assert param(0, domid=dom, index=27, value=2**63)[0] == 0
    assert param(1, domid=dom, index=27) == (0, 2**63)
    assert param(1, domid=dom, index=39)[0] == -errno.EINVAL
    assert param(1, domid=pv, index=1)[0] == -errno.EINVAL

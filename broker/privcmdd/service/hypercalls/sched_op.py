# SPDX-License-Identifier: Apache-2.0
"""``sched_op``: a toolstack declares that another domain has stopped by itself."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import lifecycle
from privcmdd.service.hypercalls.context import is_self
from privcmdd.service.hypercalls.names import named
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from privcmdd.service.hypercalls.context import Hypercall

SHUTDOWN: Final = Layout("struct sched_remote_shutdown", ("domain_id", "u16"), ("reason", "u32"))
REMOTE_SHUTDOWN: Final = 4


def sched_op(call: Hypercall, arguments: tuple[int, ...]) -> int:
    """``SCHEDOP_remote_shutdown``; the others are about the caller's own domain.

    Raises:
        ModelError: EFAULT; EPERM, also of domain 0; ESRCH; ENOSYS.
    """
    command, address = arguments[:2]
    call.operation = named("sched_op", command)
    if command != REMOTE_SHUTDOWN:
        raise call.unanswered()
    asked = call.memory.get(SHUTDOWN, address)
    if is_self(asked["domain_id"]):
        raise ModelError(errno.EPERM, "a remote shutdown is of another domain than one's own")
    lifecycle.shut_down(call.machine, call.domain(asked["domain_id"]).domid, asked["reason"])
    return 0

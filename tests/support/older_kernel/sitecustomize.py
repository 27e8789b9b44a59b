# SPDX-License-Identifier: Apache-2.0
"""A kernel before Linux 6.16, for a broker whose PYTHONPATH begins here: it does not know SO_PASSRIGHTS."""

import errno
import os
import socket
from typing import Any

SO_PASSRIGHTS = 83


def without_passrights(call: Any) -> Any:
    """A call of a socket's options that refuses this one."""

    def refusing(self: socket.socket, level: int, option: int, *rest: Any) -> Any:
        if (level, option) == (socket.SOL_SOCKET, SO_PASSRIGHTS):
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        return call(self, level, option, *rest)

    return refusing


for name in ("getsockopt", "setsockopt"):
    setattr(socket.socket, name, without_passrights(getattr(socket.socket, name)))

# SPDX-License-Identifier: Apache-2.0
"""What a connection still has to be sent, on a socket that takes little."""

from __future__ import annotations

from privcmdd.model.ledger import Account, Slot
from privcmdd.server.outbox import Outbox
from sim.kernel import Kernel
from sim.transport import BrokerEnd


def test_a_notification_goes_whole_or_not_at_all() -> None:
    """One whose rest could not be paid for, once the socket has taken its beginning, is dropped before it begins."""
    end = BrokerEnd(room_bytes=8)
    account = Account("uid 1", {Slot.QUEUED_BYTES: 10})
    charge = account.charge(Slot.QUEUED_BYTES)

    def pay(n_bytes: int) -> None:
        charge.resize(charge.amount + n_bytes)

    with Kernel() as kernel:
        outbox = Outbox(
            end,  # type: ignore[arg-type] # of a socket, it is what an outbox uses
            pay,
            lambda n_bytes: pay(-n_bytes),
            lambda function: kernel.start("flush", function),
        )
        outbox.offer(bytes(20), bound_bytes=1000)
        assert (outbox.n_dropped, end.n_unread) == (1, 0)
        assert account.idle

        outbox.offer(bytes(10), bound_bytes=1000)
        assert (outbox.n_dropped, end.n_unread, outbox.n_bytes) == (1, 8, 2)
        outbox.close()

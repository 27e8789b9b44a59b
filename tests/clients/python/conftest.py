# SPDX-License-Identifier: Apache-2.0
"""The broker that the tests of the client library share."""

from support.house import broker, client, guest, house

__all__ = ["broker", "client", "guest", "house"]

# SPDX-License-Identifier: Apache-2.0
"""Messages to the model: sessions, turns, dispatch."""

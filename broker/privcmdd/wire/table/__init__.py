# SPDX-License-Identifier: Apache-2.0
"""The rows of the table of methods, by what they are about. `privcmdd.wire.methods` puts them together."""

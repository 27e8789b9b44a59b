# SPDX-License-Identifier: Apache-2.0
"""The methods of the protocol: one file for each file of `wire/table`, by the same name."""

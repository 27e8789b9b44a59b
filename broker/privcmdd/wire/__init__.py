# SPDX-License-Identifier: Apache-2.0
"""Bytes and descriptor numbers in, messages out."""

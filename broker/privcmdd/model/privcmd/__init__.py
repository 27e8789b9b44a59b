# SPDX-License-Identifier: Apache-2.0
"""The privcmd device: its ioctls as two kernels answer them."""

// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors of our own inside an unmodified program: its connection, memory files.
 *
 * Their numbers are high, because select() and some programs count on low numbers. They are remembered, so that the
 * preload library can keep a program that closes "all" descriptors from closing them.
 */
#ifndef PRIVCMDD_FDS_H
#define PRIVCMDD_FDS_H

#include <stdbool.h>

/* Moves a descriptor up and remembers it. Returns its new number; the old one is closed. Never fails: -1 stays -1. */
int fds_keep(int fd);
/* Closes a descriptor that fds_keep returned; nothing happens for -1. */
void fds_drop(int fd);
bool fds_is_kept(int fd);
/* Whether any descriptor from first to last is kept; *which is the lowest. */
bool fds_kept_between(unsigned first, unsigned last, unsigned *which);

#endif

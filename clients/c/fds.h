// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors of our own inside an unmodified program: its connection, memory files.
 *
 * They are kept high, out of the way of select() and of programs that count on low numbers, and known, so that the
 * preload library can keep a program that closes "all" descriptors from closing them.
 */
#ifndef PRIVCMDD_FDS_H
#define PRIVCMDD_FDS_H

#include <stdbool.h>

/* Moves a descriptor up and remembers it. Returns its new number; the old one is closed. Never fails: -1 stays -1. */
int fds_keep(int fd);
/* Closes a descriptor that fds_keep returned; -1 is fine. */
void fds_drop(int fd);
bool fds_is_kept(int fd);
/* Whether any descriptor from first to last is kept; *which is the lowest. */
bool fds_kept_between(unsigned first, unsigned last, unsigned *which);

#endif

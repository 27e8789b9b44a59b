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

/* Numbers below which we know of descriptors, ours and the program's: the kernel's usual fs.nr_open. */
#define FDS_MOST (1 << 20)

/* Moves a descriptor up and remembers it. Returns its new number; the old one is closed. Never fails: -1 stays -1. */
int fds_keep(int fd);
/* The same, to the lowest number from floor on that is free. */
int fds_keep_from(int fd, int floor);
/* Closes a descriptor that fds_keep returned; nothing happens for -1. */
void fds_drop(int fd);
bool fds_is_kept(int fd);
/* Whether any descriptor from first to last is kept; *which is the lowest. */
bool fds_kept_between(unsigned first, unsigned last, unsigned *which);

#endif

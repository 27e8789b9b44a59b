// SPDX-License-Identifier: Apache-2.0
/* The program's memory, as a system call sees it: a bad pointer is an answer, not a crash. Addresses as numbers. */
#ifndef PRIVCMDD_USERMEM_H
#define PRIVCMDD_USERMEM_H

#include <stdbool.h>
#include <stdint.h>

/* Whether size bytes could be read, or written. If not, those before the first that could not have been. */
bool user_read(void *to, uint64_t from, uint64_t size);
bool user_write(uint64_t to, const void *from, uint64_t size);
/* Whether valgrind's memcheck runs the program: it knows of no writing but this process' own. */
bool user_is_checked(void);
/* Tells it that another process has written there, by copying the bytes onto themselves. */
void user_written(uint64_t at, uint64_t size);
/* Writes zeros as far as it goes. */
void user_clear(uint64_t to, uint64_t size);
/* Whether an array of int could be written. Its bytes stay as they are. */
bool user_writable(uint64_t at, uint64_t n_ints);
/* Whether an array of that many bytes could be read. */
bool user_readable(uint64_t at, uint64_t size);
/* Whether a range lies among the addresses of a program at all (the kernel's access_ok). */
bool user_range(uint64_t at, uint64_t size);

#endif

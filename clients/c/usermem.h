// SPDX-License-Identifier: Apache-2.0
/* Access to the program's memory as a system call has it: a bad pointer is an answer, not a crash. */
#ifndef PRIVCMDD_USERMEM_H
#define PRIVCMDD_USERMEM_H

#include <stdbool.h>
#include <stdint.h>

/* Copy size bytes. Return false at the first byte that cannot be read or written; the bytes before it are copied. */
bool user_read(void *to, uint64_t from, uint64_t size);
bool user_write(uint64_t to, const void *from, uint64_t size);
/* Whether valgrind's memcheck runs the program. Memcheck sees only what this process itself writes. */
bool user_is_checked(void);
/* Tells memcheck that another process has written there, by copying the bytes onto themselves. */
void user_written(uint64_t at, uint64_t size);
/* Writes zeros up to the first byte that cannot be written. */
void user_clear(uint64_t to, uint64_t size);
/* Whether an array of int could be written. Its bytes stay as they are. */
bool user_writable(uint64_t at, uint64_t n_ints);
/* Whether an array of that many bytes could be read. */
bool user_readable(uint64_t at, uint64_t size);
/* Whether a range lies within the addresses that a program can have (the kernel's access_ok). */
bool user_range(uint64_t at, uint64_t size);

#endif

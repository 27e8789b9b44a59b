// SPDX-License-Identifier: Apache-2.0
/* Files that are mapped: domains' memory, hypercall buffers, and one with nothing in it. Under the client's lock. */
#ifndef PRIVCMDD_FILES_H
#define PRIVCMDD_FILES_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The memory file of a domain, or -1 and *error. generation tells domains with the same number apart; -1 when it is not
 * known. The descriptor is kept and reused.
 */
int files_memory(int dom, bool write, int64_t generation, int *error);
/* Whether that would need no question to the broker. */
bool files_have(int dom, bool write, int64_t generation);
/* The file of hypercall buffers, or -1. */
int files_buffers(void);
/* A file of no length, or -1: touching a page mapped from it is SIGBUS. */
int files_blank(void);
/* A file of ONES_PAGES pages of ones, or -1, to be mapped privately. */
#define ONES_PAGES 512
int files_ones(void);

#endif

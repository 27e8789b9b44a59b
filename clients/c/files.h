// SPDX-License-Identifier: Apache-2.0
/* Files that are mapped: domains' memory, hypercall buffers, and an empty one. All functions need the client's lock. */
#ifndef PRIVCMDD_FILES_H
#define PRIVCMDD_FILES_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The memory file of a domain, or -1 and *error. generation tells domains with the same domid apart; it is -1 when it
 * is not known. The descriptor is kept and reused.
 */
int files_memory(int dom, bool write, int64_t generation, int *error);
/* Whether files_memory would not have to ask the broker. */
bool files_have(int dom, bool write, int64_t generation);
/* The file of hypercall buffers, or -1. */
int files_buffers(void);
/* A file of length zero, or -1: an access to a page mapped from it raises SIGBUS. */
int files_blank(void);
/* A file of ONES_PAGES pages of ones, or -1, to be mapped privately. */
#define ONES_PAGES 512
int files_ones(void);

#endif

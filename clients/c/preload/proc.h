// SPDX-License-Identifier: Apache-2.0
/* /proc/self/mem and /proc/self/pagemap: foreign frames have no struct page, so neither shows them. */
#ifndef PRIVCMDD_PROC_H
#define PRIVCMDD_PROC_H

#include <stdint.h>
#include <sys/types.h>

enum proc { PROC_OTHER, PROC_MEM, PROC_PAGEMAP };

/* Opens one of them. Returns a descriptor, or -1 with errno. */
int proc_open(const char *path, int flags);
/* Which of them a descriptor is. */
enum proc proc_of(int fd);
/* Takes foreign pages out of what was read from pagemap. */
void proc_hide_pages(uint64_t *entries, ssize_t size, off_t offset);

#endif

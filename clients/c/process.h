// SPDX-License-Identifier: Apache-2.0
/*
 * Whose memory this is. What is known of descriptors, signals and the connection is in memory, and there are processes
 * whose memory is not, or not yet, about themselves:
 *
 * - A child of vfork(2), or of clone(2) with CLONE_VM, borrows the memory of its parent, but has descriptors of its own:
 *   what it closes, its parent still has.
 * - A child of clone(2) without CLONE_VM has a copy, but did not go through fork(3): the lock may be held in its copy, by
 *   a thread that it does not have. The kernel clears a page in such a copy (MADV_WIPEONFORK), which tells.
 */
#ifndef PRIVCMDD_PROCESS_H
#define PRIVCMDD_PROCESS_H

#include <stdbool.h>

/* Whether this process is the one that the memory is about. */
bool process_is_own(void);
/* Whether the memory was copied since it last was about its process. Cheap. */
bool process_is_copy(void);
/* From now on the memory is about this process. */
void process_adopt(void);

#endif

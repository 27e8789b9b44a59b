// SPDX-License-Identifier: Apache-2.0
/* The broker's answer to a request for frames becomes mappings of the process: each extent is one mmap. */
#ifndef PRIVCMDD_APPLY_H
#define PRIVCMDD_APPLY_H

#include <stdint.h>

#include "msgpack.h"

/*
 * Maps the extents of an answer (keys extents, voids, prot, generation) over n_pages from base on; the first page has
 * index 0 in the request. With the client's lock held. On an error nothing is mapped there.
 * Returns 0, ENOMEM (vm.max_map_count, said on the standard error) or what the broker answers for the memory file.
 */
int apply_extents(uint64_t base, uint64_t n_pages, int dom, struct mp_in result);

#endif

// SPDX-License-Identifier: Apache-2.0
/* What a target in C is: libFuzzer calls it with bytes of its own, and replay.c with those of files. */
#ifndef PRIVCMDD_FUZZ_H
#define PRIVCMDD_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0; aborts, or trips a sanitizer, when a promise is broken. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif

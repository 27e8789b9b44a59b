// SPDX-License-Identifier: Apache-2.0
/*
 * The parts that each function of libprivcmdd-preload.so uses. Such a function has the name of a function of libc and
 * does the same, unless it is called for one of Xen's paths, a descriptor that stands for one of Xen's devices, memory
 * mapped from one, or a descriptor of our own.
 */
#ifndef PRIVCMDD_NEXT_H
#define PRIVCMDD_NEXT_H

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* The function that the program would have called without us. */
#define NEXT(name) ((__typeof__(&name))next_function(#name, &(static_next_##name)))
#define DECLARE_NEXT(name) static _Atomic(void *) static_next_##name

/* Looks the function up, once. */
void *next_function(const char *name, _Atomic(void *) *where);

/* A result or negative errno, returned as libc returns it: -1 and errno. */
static inline int64_t next_result(int64_t result)
{
    if (result >= 0 || result < -4095)
        return result;
    errno = (int)-result;
    return -1;
}

#endif

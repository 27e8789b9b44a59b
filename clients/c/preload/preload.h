// SPDX-License-Identifier: Apache-2.0
/*
 * libprivcmdd-preload.so: libc's functions, as a program on a Xen host would find them.
 *
 * Each does what libc's does, unless it is about one of Xen's paths, a descriptor that stands for one of Xen's devices,
 * memory mapped from one, or a descriptor of our own.
 */
#ifndef PRIVCMDD_PRELOAD_H
#define PRIVCMDD_PRELOAD_H

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../device.h"

#define EXPORT __attribute__((visibility("default")))

/* The function that the program would have called without us. */
#define NEXT(name) ((__typeof__(&name))preload_next(#name, &(static_next_##name)))
#define DECLARE_NEXT(name) static _Atomic(void *) static_next_##name

void *preload_next(const char *name, _Atomic(void *) *where);

/* A result of ours, as libc gives it. */
static inline int64_t preload_result(int64_t result)
{
    if (result >= 0 || result < -4095)
        return result;
    errno = (int)-result;
    return -1;
}

/* What is at a path: a device, or a text, or a file of /proc that shows pages. */
struct xen_path {
    enum device device;
    const char *text;
    const char *proc;
};

enum preload_proc { PROC_OTHER, PROC_MEM, PROC_PAGEMAP };

int preload_open_proc(const char *path, int flags);
/* Which of those files a descriptor is. */
enum preload_proc preload_proc_of(int fd);
/* Takes foreign pages out of what was read from pagemap. */
void preload_hide_pages(uint64_t *entries, ssize_t size, off_t offset);

/* Whether a path is one of ours, and what is there. */
bool preload_path(const char *path, struct xen_path *found);
/* Opens it: a descriptor, or -1 and errno. */
int preload_open(const struct xen_path *found, int flags);

/* The broker hears of touches of the device's memory that raise a signal, from now on. */
void preload_watch_signals(void);

/* Which descriptors may stand for a device. One that was handed on behind our back is only missing, never wrong. */
void preload_mark(int fd);
void preload_mark_copy(int from, int to);
enum device preload_marked(int fd);

#endif

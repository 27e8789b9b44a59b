// SPDX-License-Identifier: Apache-2.0
/* open and its relatives. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "../say.h"
#include "marks.h"
#include "next.h"
#include "paths.h"

#undef open
#undef openat
#undef fopen

int open64(const char *, int, ...);
int openat64(int, const char *, int, ...);
int __open_2(const char *, int);
int __open64_2(const char *, int);
int __openat_2(int, const char *, int);
int __openat64_2(int, const char *, int);

DECLARE_NEXT(open);
DECLARE_NEXT(open64);
DECLARE_NEXT(openat);
DECLARE_NEXT(openat64);
DECLARE_NEXT(__open_2);
DECLARE_NEXT(__open64_2);
DECLARE_NEXT(__openat_2);
DECLARE_NEXT(__openat64_2);
DECLARE_NEXT(fopen);
DECLARE_NEXT(fopen64);
DECLARE_NEXT(fdopen);

/* The mode, which is there only with O_CREAT and O_TMPFILE. */
#define MODE(flags, mode)                                                                                              \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode = va_arg(arguments, mode_t);                                                                              \
        va_end(arguments);                                                                                             \
    }

EXPORT int open(const char *path, int flags, ...)
{
    struct xen_path found;
    MODE(flags, mode)
    return paths_find(path, &found) ? paths_open(&found, flags) : NEXT(open)(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
    struct xen_path found;
    MODE(flags, mode)
    return paths_find(path, &found) ? paths_open(&found, flags) : NEXT(open64)(path, flags, mode);
}

EXPORT int openat(int directory, const char *path, int flags, ...)
{
    struct xen_path found;
    MODE(flags, mode)
    return paths_find(path, &found) ? paths_open(&found, flags) : NEXT(openat)(directory, path, flags, mode);
}

EXPORT int openat64(int directory, const char *path, int flags, ...)
{
    struct xen_path found;
    MODE(flags, mode)
    return paths_find(path, &found) ? paths_open(&found, flags) : NEXT(openat64)(directory, path, flags, mode);
}

EXPORT int __open_2(const char *path, int flags)
{
    struct xen_path found;
    return paths_find(path, &found) ? paths_open(&found, flags) : NEXT(__open_2)(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
    struct xen_path found;
    return paths_find(path, &found) ? paths_open(&found, flags) : NEXT(__open64_2)(path, flags);
}

EXPORT int __openat_2(int directory, const char *path, int flags)
{
    struct xen_path found;
    return paths_find(path, &found) ? paths_open(&found, flags) : NEXT(__openat_2)(directory, path, flags);
}

EXPORT int __openat64_2(int directory, const char *path, int flags)
{
    struct xen_path found;
    return paths_find(path, &found) ? paths_open(&found, flags) : NEXT(__openat64_2)(directory, path, flags);
}

/* glibc's fopen opens by itself, so replacing open is not enough. */
static FILE *open_stream(const struct xen_path *found, const char *mode)
{
    int flags = mode[0] == 'r' ? O_RDONLY : O_WRONLY;
    for (const char *c = mode; *c && *c != ','; c++) {
        if (*c == '+')
            flags = O_RDWR;
        else if (*c == 'e')
            flags |= O_CLOEXEC;
    }
    int fd = paths_open(found, flags);
    return fd < 0 ? NULL : fdopen(fd, mode);
}

/* glibc reads and writes a stream behind our back. */
EXPORT FILE *fdopen(int fd, const char *mode)
{
    if (marks_device(fd) == DEVICE_EVTCHN)
        say_line(
            "a stream of /dev/xen/evtchn cannot be read or written (fread, fwrite): use read(2) and write(2) on its "
            "descriptor");
    return NEXT(fdopen)(fd, mode);
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
    struct xen_path found;
    return paths_find(path, &found) ? open_stream(&found, mode) : NEXT(fopen)(path, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
    struct xen_path found;
    return paths_find(path, &found) ? open_stream(&found, mode) : NEXT(fopen64)(path, mode);
}

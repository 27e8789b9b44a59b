// SPDX-License-Identifier: Apache-2.0
#include "marks.h"

#include <stdatomic.h>

#include "../evtchn.h"
#include "../fds.h"
#include "../process.h"

typedef _Atomic uint64_t marks[FDS_MOST / 64];

static marks devices, procs;

static void add(marks set, int fd)
{
    if (fd >= 0 && fd < FDS_MOST)
        atomic_fetch_or_explicit(&set[fd / 64], (uint64_t)1 << fd % 64, memory_order_relaxed);
}

static bool has(const marks set, int fd)
{
    return fd >= 0 && fd < FDS_MOST && atomic_load_explicit(&set[fd / 64], memory_order_relaxed) >> fd % 64 & 1;
}

void marks_add_device(int fd)
{
    add(devices, fd);
}

enum device marks_device(int fd)
{
    uint64_t file;
    if (!has(devices, fd))
        return DEVICE_NONE;
    enum device device = device_of(fd, &file);
    if (device == DEVICE_NONE && process_is_own())
        atomic_fetch_and_explicit(&devices[fd / 64], ~((uint64_t)1 << fd % 64), memory_order_relaxed);
    return device;
}

void marks_copy(int from, int to)
{
    if (to < 0 || marks_device(from) == DEVICE_NONE)
        return;
    marks_add_device(to);
    evtchn_copied(from, to);
}

void marks_add_proc(int fd)
{
    add(procs, fd);
}

bool marks_has_proc(int fd)
{
    return has(procs, fd);
}

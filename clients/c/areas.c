// SPDX-License-Identifier: Apache-2.0
#include "areas.h"

#include <stdatomic.h>
#include <string.h>

#include "syscalls.h"

/*
 * The areas, from the highest address to the lowest: the kernel places new mappings below old ones, so a program with
 * many of them adds at the end.
 */
static struct area *table;
static size_t n_areas, room;
static _Atomic uint64_t lowest = UINT64_MAX, highest;

static void note_bounds(void)
{
    atomic_store(&lowest, n_areas ? table[n_areas - 1].start : UINT64_MAX);
    atomic_store(&highest, n_areas ? table[0].end : 0);
}

bool areas_near(uint64_t start, uint64_t end)
{
    return start < atomic_load_explicit(&highest, memory_order_relaxed) &&
           end > atomic_load_explicit(&lowest, memory_order_relaxed);
}

/* The index of the first area that begins below an address. */
static size_t below(uint64_t address)
{
    size_t low = 0, high = n_areas;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (table[middle].start < address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool areas_touch(uint64_t start, uint64_t end)
{
    size_t i = below(end);
    return i < n_areas && table[i].end > start;
}

struct area *areas_first(uint64_t start, uint64_t end)
{
    /* The area that holds start, else the next higher one. */
    size_t i = below(start + 1);
    if (i < n_areas && table[i].end > start)
        return &table[i];
    return i && table[i - 1].start < end ? &table[i - 1] : NULL;
}

static bool reserve(size_t more)
{
    if (n_areas + more <= room)
        return true;
    size_t wanted = room ? 2 * room : 4096 / sizeof *table;
    void *moved = table ? sys_mremap(table, room * sizeof *table, wanted * sizeof *table)
                        : sys_mmap_anonymous(wanted * sizeof *table);
    if (moved == MAP_FAILED)
        return false;
    table = moved;
    room = wanted;
    return true;
}

static void insert(size_t i, struct area area)
{
    memmove(table + i + 1, table + i, (n_areas - i) * sizeof *table);
    table[i] = area;
    n_areas++;
}

bool areas_add(struct area area)
{
    if (!reserve(1))
        return false;
    insert(below(area.start), area);
    note_bounds();
    return true;
}

bool areas_remove(uint64_t start, uint64_t end)
{
    if (!reserve(1))
        return false;
    struct area *area;
    while ((area = areas_first(start, end))) {
        size_t i = (size_t)(area - table);
        struct area rest = *area;
        if (rest.start < start) {
            area->end = start;
            if (rest.end > end) {
                rest.start = end;
                insert(i, rest);
            }
        } else if (rest.end > end) {
            area->start = end;
        } else {
            memmove(area, area + 1, (n_areas - i - 1) * sizeof *table);
            n_areas--;
        }
    }
    note_bounds();
    return true;
}

void areas_forget(enum device device)
{
    size_t n = 0;
    for (size_t i = 0; i < n_areas; i++)
        if (table[i].device != device)
            table[n++] = table[i];
    n_areas = n;
    note_bounds();
}

// SPDX-License-Identifier: Apache-2.0
#include "mapping.h"

#include "areas.h"
#include "client.h"
#include "device.h"
#include "files.h"
#include "pages.h"
#include "say.h"
#include "syscalls.h"
#include "tell.h"

static uint64_t pages_up(uint64_t size)
{
    return (size + PAGE_MASK) & ~PAGE_MASK;
}

bool mapping_concerned(uint64_t start, uint64_t end)
{
    struct client_hold hold;
    client_lock(&hold);
    bool touched = areas_touch(start, end);
    client_unlock(&hold);
    return touched;
}

/* Tries a mapping elsewhere, before what is at its place is unmapped for it. Returns 0 or an errno. */
static int rehearse(uint64_t size, int prot, int flags, int fd, off_t offset)
{
    void *there = sys_mmap(NULL, size, prot, flags & ~(MAP_FIXED | MAP_FIXED_NOREPLACE), fd, offset);
    if (there == MAP_FAILED)
        return errno;
    sys_munmap(there, size);
    return 0;
}

static int map_buffers(uint64_t addr, uint64_t size, int prot, uint64_t page)
{
    int fd = files_buffers();
    if (fd < 0)
        return ENXIO;
    void *at = sys_mmap((void *)addr, size, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)(page * PAGE_SIZE));
    return at == MAP_FAILED ? errno : 0;
}

int64_t mapping_mmap_held(enum device device, int fd, uint64_t addr, uint64_t size, int prot, int flags, off_t offset)
{
    int error = client_connect();
    if (error)
        return -error;
    bool fixed = flags & MAP_FIXED && (flags & MAP_FIXED_NOREPLACE) != MAP_FIXED_NOREPLACE;
    if (fixed && (error = rehearse(size, prot, flags, fd, offset)))
        return -error;
    if (fixed && (addr & PAGE_MASK || !size || pages_up(size) > USER_END || addr > USER_END - pages_up(size)))
        return sys_mmap((void *)addr, size, prot, flags, fd, offset) == MAP_FAILED ? -errno : -EINVAL;
    void *at = (void *)addr;
    if (!fixed && (at = sys_mmap(at, size, prot, flags, fd, offset)) == MAP_FAILED)
        return -errno;
    uint64_t page = 0, start = (uint64_t)at, end = start + pages_up(size);
    int mode = sys_fcntl(fd, F_GETFL, 0);
    struct area area = {.start = start, .end = end, .prot = prot, .device = (uint8_t)device};
    area.is_private = (flags & MAP_TYPE) == MAP_PRIVATE;
    area.may_write = area.is_private || (mode & O_ACCMODE) == O_RDWR;
    device_of(fd, &area.file);
    error = tell_mmap(&area, &page);
    if (!error && fixed) {
        areas_remove(start, end);
        if (sys_mmap(at, size, prot, flags, fd, offset) == MAP_FAILED)
            error = errno;
    }
    if (!error && device == DEVICE_HYPERCALL)
        error = map_buffers(start, end - start, prot, page);
    if (!error) {
        pages_settle(&area);
        if (areas_add(area))
            return (int64_t)start;
        error = ENOMEM;
    }
    if (!fixed) {
        tell_munmap(start, end - start);
        sys_munmap(at, end - start);
    }
    return -error;
}

int64_t mapping_mmap(enum device device, int fd, uint64_t addr, uint64_t size, int prot, int flags, off_t offset)
{
    struct client_hold hold;
    client_lock(&hold);
    /* A device's mapping has no offset (any page of it is accepted), is not locked, and is not filled beforehand. */
    off_t used = offset & (off_t)PAGE_MASK;
    int64_t result = mapping_mmap_held(device, fd, addr, size, prot, flags & ~(MAP_LOCKED | MAP_POPULATE), used);
    client_unlock(&hold);
    return result;
}

int64_t mapping_replace(uint64_t addr, uint64_t size, int prot, int flags, int fd, off_t offset)
{
    struct client_hold hold;
    client_lock(&hold);
    int error = rehearse(size, prot, flags, fd, offset);
    if (!error) {
        error = tell_munmap(addr, pages_up(size));
        /* Linux says ENOMEM whatever keeps it from unmapping what is there. */
        if (client_is_alone())
            error = 0;
        else if (error)
            error = ENOMEM;
    }
    int64_t result = -error;
    if (!error) {
        areas_remove(addr, addr + pages_up(size));
        void *at = sys_mmap((void *)addr, size, prot, flags, fd, offset);
        result = at == MAP_FAILED ? -errno : (int64_t)at;
    }
    client_unlock(&hold);
    return result;
}

int mapping_munmap_held(uint64_t addr, uint64_t size)
{
    int error = tell_munmap(addr, size);
    if (error && !client_is_alone())
        return -error;
    areas_remove(addr, addr + size);
    return sys_munmap((void *)addr, size) ? -errno : 0;
}

int mapping_munmap(uint64_t addr, uint64_t size)
{
    uint64_t end = addr + pages_up(size);
    if (addr & PAGE_MASK || !size || end < addr || end > USER_END)
        return sys_munmap((void *)addr, size) ? -errno : 0;
    struct client_hold hold;
    client_lock(&hold);
    int result;
    if (areas_touch(addr, end))
        result = mapping_munmap_held(addr, end - addr);
    else
        result = sys_munmap((void *)addr, size) ? -errno : 0;
    client_unlock(&hold);
    return result;
}

/* Splits an area so that one begins, or ends, at an address inside it. */
static bool split(struct area *area, uint64_t at)
{
    struct area upper = *area;
    upper.start = at;
    area->end = at;
    return areas_add(upper);
}

/*
 * One area's part of a range. Frames that are mapped keep the protection they were mapped with, and lose their mapping
 * when they pass through PROT_NONE: that is what a real PV dom0 does (docs/explanation/facts/recorded-host.md, section
 * 2, point 9).
 */
static int protect_part(uint64_t start, uint64_t end, int prot)
{
    struct area *area = areas_first(start, end);
    if (prot & PROT_WRITE && !area->may_write)
        return -EACCES;
    int error = tell_mprotect(start, end - start, prot);
    if (error)
        return -error;
    if (area->start < start && (!split(area, start) || !(area = areas_first(start, end))))
        return -ENOMEM;
    if (area->end > end && (!split(area, end) || !(area = areas_first(start, end))))
        return -ENOMEM;
    int before = area->prot;
    area->prot = prot;
    if (area->device != DEVICE_PRIVCMD || !area->used || client_host()->pvh)
        return sys_mprotect((void *)start, end - start, prot) ? -errno : 0;
    if (prot != PROT_NONE) {
        if (prot & ~before & PROT_WRITE)
            say_line("mprotect makes frames mapped read-only at %#llx writable: on a Xen host each write there "
                     "faults for ever, here it is SIGSEGV; map them writable from the start",
                     (unsigned long long)start);
        return 0;
    }
    area->used = false;
    return pages_blank(area, start, end) ? 0 : -ENOMEM;
}

int mapping_mprotect(uint64_t addr, uint64_t size, int prot)
{
    uint64_t end = addr + pages_up(size);
    if (addr & PAGE_MASK || !size || end < addr || end > USER_END)
        return sys_mprotect((void *)addr, size, prot) ? -errno : 0;
    struct client_hold hold;
    int result = 0;
    client_lock(&hold);
    while (!result && addr < end) {
        struct area *area = areas_first(addr, end);
        uint64_t other_end = !area ? end : area->start > addr ? area->start : addr;
        if (other_end > addr && sys_mprotect((void *)addr, other_end - addr, prot))
            result = -errno;
        addr = other_end;
        if (result || !area)
            break;
        uint64_t part_end = area->end < end ? area->end : end;
        result = protect_part(addr, part_end, prot);
        addr = part_end;
    }
    client_unlock(&hold);
    return result;
}

/* Moves an area to another place. The frames are lost (docs/explanation/facts/recorded-host.md, section 6). */
static int64_t move(const struct area *from, uint64_t target)
{
    struct area moved = *from;
    uint64_t start = from->start, size = from->end - from->start;
    if (target & PAGE_MASK || target > USER_END - size || (target < from->end && target + size > from->start))
        return -EINVAL;
    /* privcmd of a PVH host does not know a moved mapping for its own: no ioctl fills it again. */
    bool lost = client_host()->pvh && moved.used;
    moved.start = target;
    moved.end = target + size;
    int error = lost ? 0 : tell_mmap(&moved, NULL);
    if (error)
        return -error;
    if (lost && areas_touch(target, target + size) && (error = tell_munmap(target, size)))
        return -error;
    areas_remove(target, target + size);
    int result = mapping_munmap_held(start, size);
    moved.used = false;
    if (!result && (!pages_blank(&moved, moved.start, moved.end) || !areas_add(moved)))
        result = -ENOMEM;
    if (!result && lost)
        result = -pages_ones(moved.start, size / PAGE_SIZE, moved.prot);
    return result ? result : (int64_t)target;
}

static int64_t mremap_locked(uint64_t addr, uint64_t from, uint64_t to, int flags, uint64_t target)
{
    struct area *area = areas_first(addr, addr + PAGE_SIZE);
    if (addr & PAGE_MASK || !to || flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) || !area)
        return -EINVAL;
    if (flags & MREMAP_DONTUNMAP)
        return -EINVAL;
    /* The device's mappings do not grow (VM_DONTEXPAND), and are not copied. */
    if (to > from || !from || addr + from > area->end)
        return -EFAULT;
    if (to < from) {
        int result = mapping_munmap_held(addr + to, from - to);
        return result ? result : (int64_t)addr;
    }
    if (!(flags & MREMAP_FIXED))
        return (int64_t)addr;
    if (addr != area->start || addr + from != area->end || area->device != DEVICE_PRIVCMD)
        return -EINVAL;
    return move(area, target);
}

int64_t mapping_mremap(uint64_t addr, uint64_t from, uint64_t to, int flags, uint64_t target)
{
    struct client_hold hold;
    client_lock(&hold);
    int64_t result = mremap_locked(addr, pages_up(from), pages_up(to), flags, target);
    client_unlock(&hold);
    return result;
}

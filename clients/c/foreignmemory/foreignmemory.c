// SPDX-License-Identifier: Apache-2.0
/*
 * libxenforeignmemory.so.1 without a Xen host: the same names, versions and behaviour (facts of 4.17 and 4.20), over
 * the client instead of /dev/xen/privcmd. For programs that preloading cannot reach: built statically, or against
 * another libc.
 *
 * One thing differs: 2^32 pages and more are an error; the original overruns its stack.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../client.h"
#include "../device.h"
#include "../mapping.h"
#include "../privcmd.h"
#include "../syscalls.h"

#define EXPORT __attribute__((visibility("default")))
#define RETRY_NS 100000
#define PAGE_SHIFT 12

struct xentoollog_logger;

struct xenforeignmemory_handle {
    int fd;
    uint64_t file;
};

struct xenforeignmemory_resource_handle {
    void *addr;
    uint64_t size;
};

typedef struct xenforeignmemory_handle handle;
typedef struct xenforeignmemory_resource_handle resource;

/* A result of ours, as libc gives it. */
static int64_t returned(int64_t result)
{
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

EXPORT handle *xenforeignmemory_open(struct xentoollog_logger *logger, unsigned flags)
{
    (void)logger, (void)flags;
    struct client_hold hold;
    client_lock(&hold);
    int error = client_connect();
    client_unlock(&hold);
    handle *made = error ? NULL : malloc(sizeof *made);
    if (!made) {
        errno = error ? error : ENOMEM;
        return NULL;
    }
    made->fd = device_open(DEVICE_PRIVCMD, O_RDWR | O_CLOEXEC);
    if (made->fd < 0 || device_of(made->fd, &made->file) != DEVICE_PRIVCMD) {
        error = made->fd < 0 ? errno : EIO;
        free(made);
        errno = error;
        return NULL;
    }
    return made;
}

EXPORT int xenforeignmemory_close(handle *handle)
{
    if (!handle)
        return 0;
    int result = sys_close(handle->fd);
    free(handle);
    return result;
}

static int64_t batch_v2(handle *handle, uint16_t dom, void *addr, uint32_t n, const uint64_t *arr, int *err)
{
    struct privcmd_mmapbatch_v2 batch = {n, dom, (uint64_t)addr, (uint64_t)arr, (uint64_t)err};
    return privcmd_ioctl(handle->file, PRIVCMD_MMAPBATCH_V2, (uint64_t)&batch);
}

/* Asks again for the frames that are paged out, run by run, until they are there or something else is wrong. */
static int64_t retry_paged(handle *handle, uint16_t dom, char *addr, uint32_t n, const uint64_t *arr, int *err)
{
    int64_t result = -ENOENT;
    while (result == -ENOENT) {
        const struct timespec pause = {0, RETRY_NS};
        nanosleep(&pause, NULL);
        result = 0;
        for (uint32_t i = 0, run; i < n; i += run) {
            bool paged = err[i] == -ENOENT;
            for (run = 1; i + run < n && (err[i + run] == -ENOENT) == paged; run++)
                ;
            if (!paged)
                continue;
            int64_t part = batch_v2(handle, dom, addr + (uint64_t)i * PAGE_SIZE, run, arr + i, err + i);
            if (part && part != -ENOENT)
                return part;
            if (part)
                result = part;
        }
    }
    return result;
}

/* Asks as one asks a kernel without V2, which does not tell why a frame failed. */
static int64_t batch_v1(handle *handle, uint16_t dom, void *addr, uint32_t n, const uint64_t *arr, int *err)
{
    uint64_t *copy = calloc(n ? n : 1, sizeof *copy);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, arr, n * sizeof *copy);
    struct privcmd_mmapbatch batch = {n, dom, (uint64_t)addr, (uint64_t)copy};
    int64_t result = privcmd_ioctl(handle->file, PRIVCMD_MMAPBATCH, (uint64_t)&batch);
    for (uint32_t i = 0; !result && i < n; i++)
        err[i] = copy[i] == arr[i] ? 0 : -EINVAL;
    free(copy);
    return result;
}

static int64_t map_frames(handle *handle, uint16_t dom, void *addr, uint32_t n, const uint64_t *arr, int *err)
{
    int64_t result = batch_v2(handle, dom, addr, n, arr, err);
    if (result == -ENOENT)
        result = retry_paged(handle, dom, addr, n, arr, err);
    return result == -EINVAL ? batch_v1(handle, dom, addr, n, arr, err) : result;
}

EXPORT void *xenforeignmemory_map2(handle *handle, uint32_t dom, void *addr, int prot, int flags, size_t pages,
                                   const uint64_t *arr, int *err)
{
    if (pages >> 32) {
        errno = pages > (USER_END >> PAGE_SHIFT) ? ENOMEM : EINVAL;
        return NULL;
    }
    int *errors = err ? err : calloc(pages ? pages : 1, sizeof *errors);
    if (!errors)
        return NULL;
    uint64_t size = (uint64_t)pages << PAGE_SHIFT;
    int64_t at = mapping_mmap(DEVICE_PRIVCMD, handle->fd, (uint64_t)addr, size, prot, flags | MAP_SHARED, 0);
    int64_t result = at < 0 ? at : map_frames(handle, (uint16_t)dom, (void *)at, (uint32_t)pages, arr, errors);
    for (size_t i = 0; !err && !result && i < pages; i++)
        result = errors[i];
    if (at < 0)
        result = at;
    else if (result < 0)
        mapping_munmap((uint64_t)at, size);
    if (!err)
        free(errors);
    if (result < 0) {
        errno = (int)-result;
        return NULL;
    }
    return (void *)at;
}

EXPORT void *xenforeignmemory_map(handle *handle, uint32_t dom, int prot, size_t pages, const uint64_t *arr, int *err)
{
    return xenforeignmemory_map2(handle, dom, NULL, prot, 0, pages, arr, err);
}

EXPORT int xenforeignmemory_unmap(handle *handle, void *addr, size_t pages)
{
    (void)handle;
    return (int)returned(mapping_munmap((uint64_t)addr, (uint64_t)pages << PAGE_SHIFT));
}

EXPORT int xenforeignmemory_restrict(handle *handle, uint16_t dom)
{
    return (int)returned(privcmd_ioctl(handle->file, PRIVCMD_RESTRICT, (uint64_t)&dom));
}

EXPORT resource *xenforeignmemory_map_resource(handle *handle, uint16_t dom, unsigned type, unsigned id,
                                               unsigned long frame, unsigned long n_frames, void **addr, int prot,
                                               int flags)
{
    if (flags & ~(MAP_SHARED | MAP_PRIVATE)) {
        errno = EINVAL;
        return NULL;
    }
    resource *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    int64_t at = 0;
    if (n_frames) {
        made->size = (uint64_t)n_frames << PAGE_SHIFT;
        at = mapping_mmap(DEVICE_PRIVCMD, handle->fd, (uint64_t)*addr, made->size, prot, flags | MAP_SHARED, 0);
    }
    struct privcmd_mmap_resource call = {dom, type, id, (uint32_t)frame, n_frames, (uint64_t)at};
    int64_t result = at < 0 ? at : privcmd_ioctl(handle->file, PRIVCMD_MMAP_RESOURCE, (uint64_t)&call);
    if (result < 0) {
        if (at > 0)
            mapping_munmap((uint64_t)at, made->size);
        free(made);
        errno = (int)-result;
        return NULL;
    }
    *addr = made->addr = (void *)at;
    return made;
}

EXPORT int xenforeignmemory_unmap_resource(handle *handle, resource *resource)
{
    (void)handle;
    int64_t result = 0;
    if (resource && resource->addr)
        result = mapping_munmap((uint64_t)resource->addr, resource->size);
    free(resource);
    return (int)returned(result);
}

EXPORT int xenforeignmemory_resource_size(handle *handle, uint16_t dom, unsigned type, unsigned id, size_t *size)
{
    struct privcmd_mmap_resource call = {dom, type, id, 0, 0, 0};
    int64_t result = privcmd_ioctl(handle->file, PRIVCMD_MMAP_RESOURCE, (uint64_t)&call);
    if (result >= 0)
        *size = (size_t)(call.num << PAGE_SHIFT);
    return (int)returned(result);
}

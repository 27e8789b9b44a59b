// SPDX-License-Identifier: Apache-2.0
/*
 * The whole API of libxenforeignmemory, as a device model uses it. Run over Debian's library under the preload library,
 * and over the drop-in library without it.
 * usage: api DOMAIN OTHER-DOMAIN; as raw.c. Frame 100 of DOMAIN is paged out, and comes back some time after "waiting"
 * was printed; frame 101 stays away.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define __XEN_TOOLS__ 1
#include <xenforeignmemory.h>
#include <xen/memory.h>

#include "../../../clients/c/privcmd.h"
#include "check.h"

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define BAD 0x7fff0

static uint32_t dom, other;
static xenforeignmemory_handle *fm;
static int only_v1, n_v1;

/* Stands before the preload library's: a kernel that has no V2, while only_v1 is set. */
int ioctl(int fd, unsigned long command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (only_v1 && command == PRIVCMD_MMAPBATCH_V2) {
        errno = EINVAL;
        return -1;
    }
    n_v1 += command == PRIVCMD_MMAPBATCH;
    int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return next(fd, command, argument);
}

static void map_and_unmap(void)
{
    xen_pfn_t frames[] = {3, 1, BAD, 5};
    int err[4] = {9, 9, 9, 9};
    unsigned char *at = xenforeignmemory_map(fm, dom, RW, 4, frames, err);
    EXPECT(at != NULL, 1);
    EXPECT(err[0], 0);
    EXPECT(err[2], -EINVAL);
    EXPECT(at[0], 3);
    EXPECT(at[3 * PAGE], 5);
    EXPECT(touch_read(at + 2 * PAGE), SIGBUS);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, at, 1)), -EINVAL);
    EXPECT(at[0], 3);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, at, 4)), 0);
    EXPECT(touch_read(at), SIGSEGV);
    errno = 0;
    EXPECT(xenforeignmemory_map(fm, dom, RW, 4, frames, NULL) == NULL, 1);
    EXPECT(errno, EINVAL);
    EXPECT(xenforeignmemory_map(fm, 999, RW, 4, frames, NULL) == NULL, 1);
    EXPECT(errno, ESRCH);
    at = xenforeignmemory_map(fm, 999, RW, 4, frames, err);
    EXPECT(at != NULL, 1);
    EXPECT(err[3], -ESRCH);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, at, 4)), 0);
    EXPECT(xenforeignmemory_map(fm, dom, RW, 0, frames, err) == NULL, 1);
    EXPECT(errno, EINVAL);
    EXPECT(xenforeignmemory_map(fm, dom, RW, 4, NULL, err) == NULL, 1);
    EXPECT(errno, EFAULT);
    EXPECT(xenforeignmemory_map(fm, dom, RW, 1UL << 50, frames, err) == NULL, 1);
    EXPECT(errno, ENOMEM);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, (void *)0x1001, 1)), -EINVAL);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, (void *)0x1000, 0)), -EINVAL);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, (void *)0x1000, 1)), 0);
}

static void aliases(void)
{
    xen_pfn_t frames[] = {7, 7, 8};
    unsigned char *at = xenforeignmemory_map(fm, dom, RW, 3, frames, NULL);
    unsigned char *seen = xenforeignmemory_map(fm, dom, PROT_READ, 1, frames, NULL);
    EXPECT(at && seen, 1);
    at[PAGE + 9] = 99;
    EXPECT(at[9], 99);
    EXPECT(seen[9], 99);
    EXPECT(touch_write(seen, 1), SIGSEGV);
    at[9] = 7;
    EXPECT(RESULT(xenforeignmemory_unmap(fm, at, 3)), 0);
    EXPECT(seen[9], 7);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, seen, 1)), 0);
}

static void places(void)
{
    xen_pfn_t frames[] = {10, 11}, bad[] = {10, BAD};
    int err[2];
    unsigned char *place = mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    place[0] = 1;
    EXPECT(xenforeignmemory_map2(fm, dom, place, RW, MAP_FIXED, 2, frames, err) == place, 1);
    EXPECT(place[0], 10);
    EXPECT(place[PAGE], 11);
    EXPECT(xenforeignmemory_map2(fm, dom, place, RW, MAP_FIXED, 2, bad, NULL) == NULL, 1);
    EXPECT(touch_read(place), SIGSEGV);
    EXPECT(xenforeignmemory_map2(fm, dom, place, RW, 0, 2, frames, err) == place, 1);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, place, 2)), 0);
}

static void without_v2(void)
{
    xen_pfn_t frames[] = {20, BAD, 22};
    int err[3];
    only_v1 = 1;
    unsigned char *at = xenforeignmemory_map(fm, dom, RW, 3, frames, err);
    only_v1 = 0;
    if (!n_v1)
        return; /* the drop-in library calls no ioctl */
    EXPECT(at != NULL, 1);
    EXPECT(err[0], 0);
    EXPECT(err[1], -EINVAL);
    EXPECT(at[2 * PAGE], 22);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, at, 3)), 0);
}

static void paged(void)
{
    xen_pfn_t frames[] = {1, 2, 100}, away[] = {1, 101, 2};
    int err[3];
    unsigned char *at = xenforeignmemory_map(fm, dom, RW, 3, away, err);
    EXPECT(at != NULL, 1);
    EXPECT(err[1], -ENOENT);
    EXPECT(touch_read(at + PAGE), SIGBUS);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, at, 3)), 0);
    puts("waiting");
    fflush(stdout);
    at = xenforeignmemory_map(fm, dom, RW, 3, frames, err);
    EXPECT(at != NULL, 1);
    EXPECT(err[2], 0);
    EXPECT(at[2 * PAGE], 100);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, at, 3)), 0);
}

static void forked(void)
{
    xen_pfn_t frames[] = {30};
    unsigned char *at = xenforeignmemory_map(fm, dom, RW, 1, frames, NULL);
    pid_t child = fork();
    if (!child) {
#ifndef EMULATED /* qemu-user leaves MADV_DONTFORK out */
        EXPECT(touch_read(at), SIGSEGV);
#endif
        EXPECT(RESULT(xenforeignmemory_close(fm)), 0);
        _exit(finish());
    }
    int status;
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
    EXPECT(at[0], 30);
    EXPECT(RESULT(xenforeignmemory_unmap(fm, at, 1)), 0);
}

static void resources(void)
{
    size_t size = 0;
    void *at = NULL;
    EXPECT(RESULT(xenforeignmemory_resource_size(fm, (domid_t)dom, XENMEM_resource_grant_table, 0, &size)), 0);
    EXPECT(size > 0 && size % PAGE == 0, 1);
    EXPECT(RESULT(xenforeignmemory_resource_size(fm, 999, XENMEM_resource_grant_table, 0, &size)), -ESRCH);
    xenforeignmemory_resource_handle *map =
        xenforeignmemory_map_resource(fm, (domid_t)dom, XENMEM_resource_grant_table, 0, 0, 1, &at, RW, 0);
    EXPECT(map && at, 1);
    EXPECT(touch_write(at, 5), 0);
    EXPECT(touch_write(at, 0), 0);
    EXPECT(RESULT(xenforeignmemory_unmap_resource(fm, map)), 0);
    EXPECT(touch_read(at), SIGSEGV);
    at = NULL;
    map = xenforeignmemory_map_resource(fm, (domid_t)dom, XENMEM_resource_grant_table, 0, 0, 0, &at, RW, 0);
    EXPECT(map && !at, 1);
    EXPECT(RESULT(xenforeignmemory_unmap_resource(fm, map)), 0);
    map = xenforeignmemory_map_resource(fm, (domid_t)dom, XENMEM_resource_grant_table, 0, 0, 1, &at, RW, MAP_FIXED);
    EXPECT(map == NULL && errno == EINVAL, 1);
    EXPECT(RESULT(xenforeignmemory_unmap_resource(fm, NULL)), 0);
}

static void restricted(void)
{
    xen_pfn_t frames[] = {1};
    EXPECT(RESULT(xenforeignmemory_restrict(fm, (domid_t)dom)), 0);
    EXPECT(RESULT(xenforeignmemory_restrict(fm, (domid_t)other)), -EINVAL);
    EXPECT(xenforeignmemory_map(fm, other, RW, 1, frames, NULL) == NULL, 1);
    EXPECT(errno, EPERM);
    unsigned char *at = xenforeignmemory_map(fm, dom, RW, 1, frames, NULL);
    EXPECT(at != NULL, 1);
    EXPECT(RESULT(xenforeignmemory_close(fm)), 0);
    EXPECT(at[0], 1);
    EXPECT(RESULT(xenforeignmemory_close(NULL)), 0);
    EXPECT(RESULT(munmap(at, PAGE)), 0);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    dom = (uint32_t)atoi(argv[1]);
    other = (uint32_t)atoi(argv[2]);
    catch_touches();
    alarm(45); /* a test that hangs ends */
    fm = xenforeignmemory_open(NULL, 0);
    if (!fm) {
        perror("xenforeignmemory_open");
        return 3;
    }
    map_and_unmap();
    aliases();
    places();
    without_v2();
    paged();
    forked();
    resources();
    restricted();
    return finish();
}

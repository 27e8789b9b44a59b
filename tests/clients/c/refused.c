// SPDX-License-Identifier: Apache-2.0
/*
 * Calls that are refused, one of each kind, in the order of the test's list of what is said of them. Prints the errno
 * of each. Arguments: a domain.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define NUMBER(letter, number, size) (((letter) << 8) | (number) | ((size) << 16))
#define PAGE 4096

static void refused(int64_t result)
{
    if (result != -1)
        exit((int)(printf("not refused: %lld\n", (long long)result), 1));
    printf("%d\n", errno);
}

static void of_privcmd(int fd, uint16_t dom)
{
    struct {
        uint64_t op, arg[5];
    } call = {36, {PAGE}};
    struct {
        uint64_t data, size;
    } buf;
    uint32_t op[16] = {77};
    struct {
        uint16_t dom, num;
        uint64_t bufs;
    } dm_op = {dom, 1, (uint64_t)&buf};
    buf.data = (uint64_t)op;
    buf.size = sizeof op;
    refused(ioctl(fd, NUMBER('P', 0, 48), &call));
    call.op = 27;
    refused(ioctl(fd, NUMBER('P', 0, 48), &call));
    refused(ioctl(fd, NUMBER('P', 0, 48), NULL));
    refused(ioctl(fd, NUMBER('P', 5, 16), &dm_op));
    op[0] = 6; /* destroy_ioreq_server */
    op[2] = 9;
    refused(ioctl(fd, NUMBER('P', 5, 16), &dm_op));
    dm_op.num = 17;
    refused(ioctl(fd, NUMBER('P', 5, 16), &dm_op));
    refused(ioctl(fd, NUMBER('P', 99, 0), NULL));
    refused(ioctl(fd, NUMBER('P', 0xff, 0), NULL));
}

static void of_mappings(int fd, uint16_t dom)
{
    int err[3];
    uint64_t frames[3] = {3, 0x9999, 0x9998};
    char *at = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct {
        uint32_t num;
        uint16_t dom;
        uint64_t addr, arr, err;
    } batch = {3, dom, (uint64_t)at, (uint64_t)frames, (uint64_t)err};
    if (ioctl(fd, NUMBER('P', 4, 32), &batch))
        exit(1);
    batch.arr = 0;
    refused(ioctl(fd, NUMBER('P', 4, 32), &batch));
    refused(madvise(at, PAGE, MADV_DONTNEED));
    munmap(at, 3 * PAGE);
}

static void of_grants(int gntdev, int gntalloc, uint16_t dom)
{
    struct {
        uint64_t index;
        uint32_t count, pad;
    } range = {PAGE, 1, 0};
    struct {
        uint32_t count, pad;
        uint64_t index;
        uint32_t dom, ref;
    } map = {1, 0, 0, dom, 99};
    refused(ioctl(gntdev, NUMBER('G', 1, 16), &range));
    refused((int64_t)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, gntdev, 0));
    if (ioctl(gntdev, NUMBER('G', 0, 24), &map))
        exit(1);
    refused((int64_t)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, gntdev, (off_t)map.index));
    refused(ioctl(gntdev, NUMBER('G', 9, 20), NULL));
    refused(ioctl(gntalloc, NUMBER('G', 6, 16), &range));
}

static void of_events(int fd, uint16_t dom)
{
    uint32_t asked[2] = {dom, 5};
    uint32_t port = 77;
    refused(ioctl(fd, NUMBER('E', 1, 8), asked));
    refused(ioctl(fd, NUMBER('E', 4, 4), &port));
    refused(ioctl(fd, NUMBER('E', 99, 0), NULL));
}

int main(int argc, char **argv)
{
    uint16_t dom = (uint16_t)atoi(argv[argc - 1]);
    int privcmd = open("/dev/xen/privcmd", O_RDWR);
    of_privcmd(privcmd, dom);
    of_mappings(privcmd, dom);
    of_grants(open("/dev/xen/gntdev", O_RDWR), open("/dev/xen/gntalloc", O_RDWR), dom);
    of_events(open("/dev/xen/evtchn", O_RDWR), dom);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
/*
 * The ioctls of gntdev and gntalloc as their drivers have them (drivers/xen of Linux 6.1). The guest grants frames 4 to
 * 11 as references 8 to 15, and frame 12 read-only as 20. Usage: gntdev DOM
 */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

#define PAGE 4096ul
#define RW (PROT_READ | PROT_WRITE)
#define GRANTS(number, size) _IOC(_IOC_NONE, 'G', number, size)
#define MAP_GRANT_REF GRANTS(0, 24)
#define UNMAP_GRANT_REF GRANTS(1, 16)
#define GET_OFFSET_FOR_VADDR GRANTS(2, 24)
#define ALLOC_GREF GRANTS(5, 24)
#define DEALLOC_GREF GRANTS(6, 16)
#define SET_UNMAP_NOTIFY GRANTS(7, 16)
#define GRANT_COPY GRANTS(8, 16)
#define COPY_SOURCE_GREF 1
#define COPY_DEST_GREF 2
#define CLEAR_BYTE 1u
#define SEND_EVENT 2u

static unsigned dom;

/* The offset, or a negative errno. */
static int64_t ask(int fd, uint32_t first, uint32_t n)
{
    struct {
        uint32_t count, pad;
        uint64_t index;
        uint32_t refs[8][2];
    } asked = {.count = n};
    for (uint32_t i = 0; i < n; i++) {
        asked.refs[i][0] = dom;
        asked.refs[i][1] = first + i;
    }
    return ioctl(fd, MAP_GRANT_REF, &asked) < 0 ? -errno : (int64_t)asked.index;
}

static int forget(int fd, uint64_t index, uint32_t n)
{
    struct {
        uint64_t index;
        uint32_t count, pad;
    } asked = {index, n, 0};
    return RESULT(ioctl(fd, UNMAP_GRANT_REF, &asked));
}

static int notify(int fd, uint64_t index, uint32_t action, uint32_t port)
{
    struct {
        uint64_t index;
        uint32_t action, port;
    } asked = {index, action, port};
    return RESULT(ioctl(fd, SET_UNMAP_NOTIFY, &asked));
}

static char *map(int fd, int64_t index, size_t n, int prot)
{
    return mmap(NULL, n * PAGE, prot, MAP_SHARED, fd, index);
}

static int refused(int fd, int64_t index, size_t n, int prot)
{
    return MAPPED(map(fd, index, n, prot));
}

/* The offset, times 1000, and the number of the grants that are mapped there; or a negative errno. */
static int64_t found(int fd, const void *at)
{
    struct {
        uint64_t vaddr, offset;
        uint32_t count, pad;
    } asked = {.vaddr = (uint64_t)at};
    return ioctl(fd, GET_OFFSET_FOR_VADDR, &asked) < 0 ? -errno : (int64_t)(asked.offset * 1000 + asked.count);
}

/* Offsets are the lowest with a page to spare in front of the next (gntdev_add_map): a gap of the exact size stays. */
static void offsets(int fd)
{
    EXPECT(ask(fd, 8, 2), 0);
    EXPECT(ask(fd, 8, 2), 2 * PAGE);
    EXPECT(ask(fd, 8, 1), 4 * PAGE);
    EXPECT(forget(fd, 2 * PAGE, 2), 0);
    EXPECT(ask(fd, 8, 2), 5 * PAGE);
    EXPECT(ask(fd, 8, 1), 2 * PAGE);
    EXPECT(ask(fd, 8, 1), 7 * PAGE);
    EXPECT(forget(fd, 0, 2), 0);
    EXPECT(ask(fd, 8, 2), 8 * PAGE);
    EXPECT(ask(fd, 8, 1), 0);
    for (int64_t page = 0; page < 10; page++)
        forget(fd, (uint64_t)page * PAGE, 0);
    EXPECT(forget(fd, 0, 0), -ENOENT);
}

/* Any number of grants when it is 0, and an offset anywhere in the first page. */
static void forgets(int fd)
{
    int64_t at = ask(fd, 8, 3);
    EXPECT(forget(fd, at, 2), -ENOENT);
    EXPECT(forget(fd, at + PAGE, 0), -ENOENT);
    EXPECT(forget(fd, at + PAGE - 1, 3), 0);
    EXPECT(forget(fd, at, 3), -ENOENT);
    at = ask(fd, 8, 3);
    EXPECT(forget(fd, at, 0), 0);
}

/* Grants are mapped whole and once, whether or not that goes well. */
static void once(int fd)
{
    int64_t at = ask(fd, 8, 4);
    EXPECT(refused(fd, at, 3, RW), -EINVAL);
    EXPECT(refused(fd, at, 5, RW), -EINVAL);
    EXPECT(refused(fd, at + PAGE, 3, RW), -EINVAL);
    EXPECT(MAPPED(mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, at)), -EINVAL);
    char *there = map(fd, at, 4, RW);
    EXPECT(there[PAGE], 5);
    EXPECT(refused(fd, at, 4, RW), -EINVAL);
    EXPECT(RESULT(munmap(there, 4 * PAGE)), 0);
    EXPECT(refused(fd, at, 4, RW), -EINVAL);
    EXPECT(forget(fd, at, 4), 0);

    at = ask(fd, 20, 1);
    EXPECT(refused(fd, at, 1, RW), -EINVAL);
    EXPECT(refused(fd, at, 1, PROT_READ), -EINVAL);
    EXPECT(forget(fd, at, 1), 0);
}

/* The mapping says which grants it is of: through any file, anywhere in it, in each part, forgotten or not. */
static void finds(int fd)
{
    int other = open("/dev/xen/gntdev", O_RDWR), privcmd = open("/dev/xen/privcmd", O_RDWR);
    int64_t before = ask(fd, 8, 1), at = ask(fd, 8, 4), all = at * 1000 + 4;
    char *there = map(fd, at, 4, RW);
    EXPECT(found(fd, there), all);
    EXPECT(found(other, there + 2 * PAGE + 5), all);
    EXPECT(RESULT(munmap(there + PAGE, PAGE)), 0);
    EXPECT(found(fd, there), all);
    EXPECT(found(fd, there + PAGE), all); /* find_vma: the next one above */
    EXPECT(found(fd, there + 3 * PAGE), all);
    EXPECT(there[0] == 4 && there[2 * PAGE] == 6, 1);
    EXPECT(forget(fd, at, 4), 0);
    EXPECT(found(fd, there + 2 * PAGE), all);
    EXPECT(RESULT(munmap(there, 4 * PAGE)), 0);
    EXPECT(forget(fd, before, 1), 0);

    char *foreign = mmap(NULL, PAGE, RW, MAP_SHARED, privcmd, 0), *own = malloc(1);
    EXPECT(found(fd, foreign), -EINVAL);
    EXPECT(found(fd, own), -EINVAL);
    EXPECT(found(fd, (void *)-PAGE), -EINVAL);
    EXPECT(RESULT(munmap(foreign, PAGE)), 0);
    free(own);
    close(other);
    close(privcmd);
}

/* A notice is checked when it is set, its port first; one that is refused changes nothing. */
static void notices(int fd, uint32_t port)
{
    int64_t at = ask(fd, 8, 1);
    EXPECT(notify(fd, at, 4, 0), -EINVAL);
    EXPECT(notify(fd, at, SEND_EVENT, 3333), -EINVAL);
    EXPECT(notify(fd, at + PAGE, SEND_EVENT, 3333), -EINVAL);
    EXPECT(notify(fd, at + PAGE, SEND_EVENT, port), -ENOENT);
    EXPECT(notify(fd, at + PAGE, CLEAR_BYTE, 0), -ENOENT);
    EXPECT(notify(fd, at, SEND_EVENT, port), 0);
    EXPECT(notify(fd, at + 7, CLEAR_BYTE, 0), 0);
    char *there = map(fd, at, 1, RW);
    EXPECT(notify(fd, at, SEND_EVENT, 3333), -EINVAL);
    memset(there, 1, PAGE);
    int64_t again = ask(fd, 8, 1);
    const char *also = map(fd, again, 1, PROT_READ);
    EXPECT(notify(fd, again, CLEAR_BYTE, 0), -EINVAL);
    EXPECT(notify(fd, again, SEND_EVENT, port), 0);
    EXPECT(RESULT(munmap(there, PAGE)), 0);
    EXPECT(also[6] == 1 && also[7] == 0 && also[8] == 1, 1);
    EXPECT(RESULT(munmap((void *)also, PAGE)), 0);
    EXPECT(notify(fd, again, CLEAR_BYTE, 0), -EINVAL);
    EXPECT(forget(fd, at, 1), 0);
    EXPECT(forget(fd, again, 1), 0);
}

union copy_end {
    uint64_t virt;
    struct {
        uint32_t ref;
        uint16_t offset, dom;
    } grant;
};

struct copy_segment {
    union copy_end source, dest;
    uint16_t len, flags;
    int16_t status;
};

static union copy_end granted(uint32_t ref, unsigned offset)
{
    return (union copy_end){.grant = {ref, (uint16_t)offset, (uint16_t)dom}};
}

static int copy(int fd, struct copy_segment *segments, uint32_t n)
{
    struct {
        uint32_t count;
        uint64_t segments;
    } asked = {n, (uint64_t)segments};
    return RESULT(ioctl(fd, GRANT_COPY, &asked));
}

/* A segment that fails says so, and takes nothing from those behind it: in the same request, or in the next. */
static void copies(int fd)
{
    enum { N = 300, LEN = 8 };
    static struct copy_segment segments[N];
    static unsigned char bytes[N][LEN], page[PAGE];
    for (unsigned i = 0; i < N; i++) {
        memset(bytes[i], 1 + i % 250, LEN);
        bool fails = i % 7 == 3 || i == 255 || i == 256;
        segments[i] = (struct copy_segment){.source.virt = (uint64_t)bytes[i],
                                            .dest = granted(fails ? 20 : 9, i * LEN),
                                            .len = LEN,
                                            .flags = COPY_DEST_GREF,
                                            .status = 99};
    }
    EXPECT(copy(fd, segments, N), 0);
    struct copy_segment whole = {granted(9, 0), {.virt = (uint64_t)page}, PAGE - 1, COPY_SOURCE_GREF, 99};
    EXPECT(copy(fd, &whole, 1), 0);
    for (unsigned i = 0; i < N; i++) {
        bool fails = i % 7 == 3 || i == 255 || i == 256;
        EXPECT(segments[i].status != 0, fails);
        EXPECT(page[i * LEN], fails ? 5 : 1 + i % 250);
        EXPECT(page[i * LEN + LEN - 1], fails ? 5 : 1 + i % 250);
    }

    for (unsigned i = 0; i < N; i++) {
        bool fails = i % 7 == 3 || i == 255 || i == 256;
        memset(bytes[i], 0, LEN);
        segments[i] = (struct copy_segment){.source = granted(fails ? 999 : 9, i * LEN),
                                            .dest.virt = (uint64_t)bytes[i],
                                            .len = LEN,
                                            .flags = COPY_SOURCE_GREF,
                                            .status = 99};
    }
    EXPECT(copy(fd, segments, N), 0);
    for (unsigned i = 0; i < N; i++) {
        bool fails = i % 7 == 3 || i == 255 || i == 256;
        EXPECT(segments[i].status != 0, fails);
        EXPECT(bytes[i][0], fails ? 0 : 1 + i % 250);
        EXPECT(bytes[i][LEN - 1], fails ? 0 : 1 + i % 250);
    }
}

/* gntalloc's offsets are exact and grow, and it looks for the page before the notice. */
static void shares(void)
{
    int fd = open("/dev/xen/gntalloc", O_RDWR);
    for (uint64_t i = 0; i < 3; i++) {
        struct {
            uint16_t dom, flags;
            uint32_t count;
            uint64_t index;
            uint32_t refs[2];
        } asked = {(uint16_t)dom, 1, 2, 99, {0, 0}};
        EXPECT(RESULT(ioctl(fd, ALLOC_GREF, &asked)), 0);
        EXPECT(asked.index, i * 2 * PAGE);
        struct {
            uint64_t index;
            uint32_t count, pad;
        } freed = {asked.index + 5, 2, 0};
        EXPECT(RESULT(ioctl(fd, DEALLOC_GREF, &freed)), -EINVAL);
        EXPECT(notify(fd, asked.index + 2 * PAGE, 4, 0), -ENOENT);
        EXPECT(notify(fd, asked.index + 5, 4, 0), -EINVAL);
        EXPECT(notify(fd, asked.index + PAGE + 5, CLEAR_BYTE, 0), 0);
        freed.index = asked.index;
        EXPECT(RESULT(ioctl(fd, DEALLOC_GREF, &freed)), 0);
    }
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    dom = (unsigned)atoi(argv[1]);
    int fd = open("/dev/xen/gntdev", O_RDWR), events = open("/dev/xen/evtchn", O_RDWR);
    uint32_t remote = dom;
    int port = ioctl(events, _IOC(_IOC_NONE, 'E', 2, 4), &remote);
    EXPECT(fd >= 0 && port > 0, 1);
    offsets(fd);
    forgets(fd);
    once(fd);
    finds(fd);
    notices(fd, (uint32_t)port);
    copies(fd);
    shares();
    return finish();
}

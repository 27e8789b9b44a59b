// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's side of ioreqs, and device models to measure beside QEMU. A guest prints lines "name nanoseconds".
 *
 *   ioreq bare CPU CALLS ROUNDS                      a guest and, on that processor, a device model: plain processes
 *   ioreq reads PAGE OWN REMOTE PORT CALLS ROUNDS    a guest: reads of a port
 *   ioreq small PAGE OWN REMOTE TABLE N EMPTY ROUNDS a guest: N transfers of a sector by IDE bus-master DMA, each with
 *                                                    a table of 16 bytes, with the map cache emptied first or not
 *   ioreq large PAGE OWN REMOTE TABLE SECTORS ROUNDS a guest: a transfer of many
 *   ioreq model PAGE DOMAIN PORT                     a device model on /dev/xen/evtchn
 *   ioreq pread FILE BYTES ROUNDS                    what a transfer is without any of it: pread into shared memory
 *
 * PAGE is FD:OFFSET of the page of requests; OWN and REMOTE are the eventfds of its port.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE_SIZE 4096
#define MOST 1000000
#define SECTOR 512

/* struct ioreq of xen/include/public/hvm/ioreq.h. */
struct ioreq {
    uint64_t addr, data;
    uint32_t count, size, port;
    uint16_t pad;
    uint8_t bits, type; /* bits: the state in four, then data_is_ptr, dir, df */
};
enum { NONE, READY, IN_PROCESS, ANSWERED };
enum { PIO = 0, INVALIDATE = 8, READ = 1 << 5 };

/* The IDE controller's ports, its bus master put where ide.py puts it. */
enum { DEVICE = 0x1f6, SECTORS = 0x1f2, LBA = 0x1f3, TASK = 0x1f7, READ_DMA_EXT = 0x25 };
enum { COMMAND = 0xc000, STATUS = 0xc002, TABLE = 0xc004, START = 1, INTO_MEMORY = 8, INTERRUPT = 4, FAILED = 2 };

static volatile struct ioreq *slot;
static int own, remote;
static long taken[MOST];

static void need(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, int n)
{
    qsort(taken, (size_t)n, sizeof *taken, ascending);
    printf("%s %ld\n%s_p99 %ld\n", name, taken[n / 2], name, taken[(long)n * 99 / 100]);
}

static void await(int fd)
{
    uint64_t count;
    struct pollfd readable = {fd, POLLIN, 0};
    while (read(fd, &count, sizeof count) < 0)
        poll(&readable, 1, -1);
}

static void notify(int fd)
{
    uint64_t one = 1;
    need(write(fd, &one, sizeof one) == sizeof one, "notify");
}

static void put_state(uint8_t state)
{
    __atomic_store_n(&slot->bits, (uint8_t)((slot->bits & 0xf0) | state), __ATOMIC_SEQ_CST);
}

static int state(void)
{
    return __atomic_load_n(&slot->bits, __ATOMIC_SEQ_CST) & 0xf;
}

static uint64_t request(uint8_t type, uint16_t port, uint64_t data, uint32_t size, uint8_t flags)
{
    slot->addr = port;
    slot->data = data;
    slot->count = 1;
    slot->size = size;
    slot->type = type;
    slot->bits = flags;
    put_state(READY);
    notify(remote);
    while (state() != ANSWERED)
        await(own);
    put_state(NONE);
    return slot->data;
}

static uint64_t in(uint16_t port)
{
    return request(PIO, port, 0, 1, READ) & 0xff;
}

static void out(uint16_t port, uint64_t data, uint32_t size)
{
    request(PIO, port, data, size, 0);
}

/* The rounds are run once before they count. */
static void reads(uint16_t port, int n_calls, int n_rounds)
{
    int n = 0;
    for (int round = -1; round < n_rounds; round++) {
        n = round < 1 ? 0 : n;
        for (int i = 0; i < n_calls && n < MOST; i++) {
            long begin = now();
            in(port);
            taken[n++] = now() - begin;
        }
    }
    report("read", n);
}

/* Data that a device model answers with: what is done with a request is not what is measured. */
static void answer(void)
{
    if (state() != READY)
        return;
    put_state(IN_PROCESS);
    slot->data = slot->addr;
    put_state(ANSWERED);
}

static void bare(int cpu, int n_calls, int n_rounds)
{
    slot = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(slot != MAP_FAILED, "mmap");
    own = eventfd(0, EFD_NONBLOCK);
    remote = eventfd(0, EFD_NONBLOCK);
    pid_t model = fork();
    need(model >= 0, "fork");
    if (!model) {
        cpu_set_t other;
        CPU_ZERO(&other);
        CPU_SET((size_t)cpu, &other);
        sched_setaffinity(0, sizeof other, &other);
        for (;;) {
            await(remote);
            answer();
            notify(own);
        }
    }
    reads(0, n_calls, n_rounds);
    kill(model, SIGKILL);
    waitpid(model, NULL, 0);
}

/* As libxenevtchn does it: the file's read gives ports, its write has them report again, an ioctl notifies. */
static void model(unsigned domain, unsigned port)
{
    struct {
        unsigned domain, port;
    } bind = {domain, port};
    int device = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    need(device >= 0, "/dev/xen/evtchn");
    int local = ioctl(device, 'E' << 8 | 1 | sizeof bind << 16, &bind);
    need(local >= 0, "bind");
    puts("ready");
    fflush(stdout);
    for (;;) {
        uint32_t which;
        struct pollfd readable = {device, POLLIN, 0};
        poll(&readable, 1, -1);
        if (read(device, &which, sizeof which) != sizeof which)
            continue;
        need(write(device, &which, sizeof which) == sizeof which, "unmask");
        if (state() == READY) {
            answer();
            need(!ioctl(device, 'E' << 8 | 4 | sizeof which << 16, &local), "notify");
        }
    }
}

/* Have it all ready but for the last write, which starts it. */
static void prepare(uint32_t table, uint64_t sector, unsigned n_sectors)
{
    out(TABLE, table, 4);
    out(STATUS, FAILED | INTERRUPT, 1);
    out(DEVICE, 0xe0, 1);
    out(SECTORS, n_sectors >> 8, 1);
    for (int i = 0; i < 3; i++)
        out((uint16_t)(LBA + i), sector >> (24 + 8 * i) & 0xff, 1);
    out(SECTORS, n_sectors & 0xff, 1);
    for (int i = 0; i < 3; i++)
        out((uint16_t)(LBA + i), sector >> 8 * i & 0xff, 1);
    out(TASK, READ_DMA_EXT, 1);
    out(COMMAND, INTO_MEMORY, 1);
}

/* How long a transfer takes from the write that starts it to the interrupt. */
static long transfer(uint32_t table, unsigned n_sectors)
{
    prepare(table, 0, n_sectors);
    long begin = now();
    out(COMMAND, INTO_MEMORY | START, 1);
    uint64_t status;
    while (!((status = in(STATUS)) & (INTERRUPT | FAILED)))
        ;
    long end = now();
    need(!(status & FAILED), "transfer");
    out(COMMAND, 0, 1);
    in(TASK);
    return end - begin;
}

static void small(uint32_t table, int n, int empty, int n_rounds)
{
    int timed = 0;
    for (int round = -1; round < n_rounds; round++) {
        timed = round < 1 ? 0 : timed;
        if (empty)
            request(INVALIDATE, 0, ~0ULL, 4, 0);
        for (int i = 0; i < n && timed < MOST; i++)
            taken[timed++] = transfer(table + 16 * (uint32_t)i, 1);
    }
    report("small", timed);
}

static void large(uint32_t table, unsigned n_sectors, int n_rounds)
{
    for (int round = -1; round < n_rounds; round++)
        taken[round < 0 ? 0 : round] = transfer(table, n_sectors);
    report("large", n_rounds);
}

static void read_file(const char *name, size_t size, int n_rounds)
{
    int file = open(name, O_RDONLY), memory = memfd_create("guest", 0);
    need(file >= 0 && memory >= 0 && !ftruncate(memory, (off_t)size), "open");
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    need(at != MAP_FAILED, "mmap");
    for (int round = -1; round < n_rounds; round++) {
        long begin = now();
        need(pread(file, at, size, 0) == (ssize_t)size, "pread");
        taken[round < 0 ? 0 : round] = now() - begin;
    }
    report("pread", n_rounds);
}

static void take_page(const char *where)
{
    int fd;
    long offset;
    need(sscanf(where, "%d:%ld", &fd, &offset) == 2, where);
    slot = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    need(slot != MAP_FAILED, "the page of requests");
}

int main(int argc, char **argv)
{
    long number[9] = {0};
    if (argc < 4 || argc > 9)
        return 2;
    for (int i = 2; i < argc; i++)
        number[i] = strtol(argv[i], NULL, 0);
    switch (argv[1][0]) {
    case 'b':
        bare((int)number[2], (int)number[3], (int)number[4]);
        return 0;
    case 'p':
        read_file(argv[2], (size_t)number[3], (int)number[4]);
        return 0;
    case 'm':
        take_page(argv[2]);
        model((unsigned)number[3], (unsigned)number[4]);
        return 0;
    }
    take_page(argv[2]);
    own = (int)number[3];
    remote = (int)number[4];
    switch (argv[1][0]) {
    case 'r':
        reads((uint16_t)number[5], (int)number[6], (int)number[7]);
        break;
    case 's':
        small((uint32_t)number[5], (int)number[6], (int)number[7], (int)number[8]);
        break;
    case 'l':
        large((uint32_t)number[5], (unsigned)number[6], (int)number[7]);
        break;
    }
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
/*
 * The device through raw system calls, as rust-vmm uses it: no library of Xen's. Run under the preload library.
 * usage: raw DOMAIN OTHER-DOMAIN CASE; both domains are hvm with frames 0..127, and a frame of theirs is filled with
 * its number's low byte.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../clients/c/privcmd.h"
#include "check.h"

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define BAD 0x7fff0
#define SENTINEL 0x5a5a5a5a

static int dom, other;

static int device(void)
{
    int fd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        perror("/dev/xen/privcmd");
        exit(3);
    }
    return fd;
}

static unsigned char *reserve(int fd, int n, int prot)
{
    unsigned char *at = mmap(NULL, (size_t)n * PAGE, prot, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        perror("mmap of the device");
        exit(3);
    }
    return at;
}

static int v2(int fd, const void *addr, unsigned n, int domain, const void *arr, void *err)
{
    struct privcmd_mmapbatch_v2 batch = {n, (uint16_t)domain, (uint64_t)addr, (uint64_t)arr, (uint64_t)err};
    return RESULT(ioctl(fd, PRIVCMD_MMAPBATCH_V2, &batch));
}

static int v1(int fd, const void *addr, unsigned n, int domain, void *arr)
{
    struct privcmd_mmapbatch batch = {n, (uint16_t)domain, (uint64_t)addr, (uint64_t)arr};
    return RESULT(ioctl(fd, PRIVCMD_MMAPBATCH, &batch));
}

static int map(int fd, unsigned n, int domain, const void *entry)
{
    struct privcmd_mmap call = {n, (uint16_t)domain, (uint64_t)entry};
    return RESULT(ioctl(fd, PRIVCMD_MMAP, &call));
}

static void case_batch_v2(void)
{
    int fd = device(), err[4] = {SENTINEL, SENTINEL, SENTINEL, SENTINEL};
    uint64_t frames[] = {3, 1, BAD, 5}, right = 9;
    unsigned char *at = reserve(fd, 4, RW);
    EXPECT(touch_read(at), SIGBUS);
    EXPECT(signal_code, BUS_ADRERR);
    EXPECT(v2(fd, at, 3, dom, frames, err), -EINVAL);
    EXPECT(err[0], 0);
    EXPECT(err[3], SENTINEL);
    EXPECT(v2(fd, at, 4, dom, frames, err), 0);
    EXPECT(err[0], 0);
    EXPECT(err[2], -EINVAL);
    EXPECT(at[0], 3);
    EXPECT(at[PAGE], 1);
    EXPECT(at[3 * PAGE + 4095], 5);
    EXPECT(touch_write(at + 2 * PAGE, 1), SIGBUS);
    EXPECT(v2(fd, at, 4, dom, frames, err), -EINVAL);
    EXPECT(v2(fd, at + 2 * PAGE, 1, dom, &right, err), 0);
    EXPECT(at[2 * PAGE], 9);
    unsigned char *again = reserve(fd, 1, PROT_READ);
    EXPECT(v2(fd, again, 1, dom, &right, err), 0);
    at[2 * PAGE + 7] = 77;
    EXPECT(again[7], 77);
    EXPECT(touch_write(again, 1), SIGSEGV);
    at[2 * PAGE + 7] = 9;
    EXPECT(RESULT(munmap(at + PAGE, PAGE)), -EINVAL);
    EXPECT(at[PAGE], 1);
    EXPECT(RESULT(munmap(at, 4 * PAGE)), 0);
    EXPECT(touch_read(at), SIGSEGV);
    EXPECT(RESULT(munmap(at, 4 * PAGE)), 0);
    EXPECT(RESULT(munmap(at + 1, PAGE)), -EINVAL);
}

static void case_batch_v1(void)
{
    int fd = device();
    uint64_t frames[] = {4, BAD, 6};
    unsigned char *at = reserve(fd, 3, RW);
    EXPECT(v1(fd, at, 3, dom, frames), 0);
    EXPECT(frames[0], 4);
    EXPECT(frames[1], BAD | 0xf0000000);
    EXPECT(at[2 * PAGE], 6);
    EXPECT(touch_read(at + PAGE), SIGBUS);
    EXPECT(v1(fd, at, 3, dom, (void *)0xffff888000000000), -EFAULT);
    EXPECT(v1(fd, at, 0, dom, NULL), -EINVAL);
}

static void case_mmap(void)
{
    int fd = device();
    unsigned char *at = reserve(fd, 4, RW);
    struct privcmd_mmap_entry entries[] = {
        {(uint64_t)at, 8, 2}, {(uint64_t)at + 2 * PAGE, 20, 1}, {(uint64_t)at + 3 * PAGE, BAD, 1}};
    EXPECT(map(fd, 0, dom, NULL), 0);
    EXPECT(map(fd, 1, dom, NULL), -EFAULT);
    EXPECT(map(fd, 3, dom, entries), -EINVAL);
    EXPECT(at[0], 8);
    EXPECT(at[PAGE], 9);
    EXPECT(at[2 * PAGE], 20);
    EXPECT(touch_read(at + 3 * PAGE), SIGBUS);
}

static void case_pointers(void)
{
    int fd = device(), err[4] = {SENTINEL, SENTINEL, SENTINEL, SENTINEL};
    uint64_t frames[] = {0, 1, 2, 3};
    unsigned char *at = reserve(fd, 4, RW);
    EXPECT(RESULT(ioctl(fd, PRIVCMD_MMAPBATCH_V2, NULL)), -EFAULT);
    EXPECT(RESULT(ioctl(fd, PRIVCMD_MMAPBATCH_V2, 0xffff888000000000)), -EFAULT);
    EXPECT(v2(fd, at, 4, dom, NULL, err), -EFAULT);
    EXPECT(err[0], SENTINEL);
    EXPECT(v2(fd, at, 4, dom, frames, NULL), -EFAULT);
    EXPECT(v2(fd, at, 4, dom, frames, (void *)0xffff888000000000), -EFAULT);
    EXPECT(v2(fd, at, 0xffffffff, dom, frames, NULL), -EFAULT);
    char *edge = mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(edge + PAGE, PAGE);
    int *cut = (int *)(edge + PAGE) - 2;
    cut[0] = cut[1] = SENTINEL;
    EXPECT(v2(fd, at, 4, dom, frames, cut), -EFAULT);
    EXPECT(cut[0], 0);
    EXPECT(cut[1], 0);
    EXPECT(v2(fd, at, 4, dom, frames, at), -EFAULT);
    EXPECT(v2(fd, at, 4, dom, at, err), -EFAULT);
    memcpy(edge, frames, sizeof frames);
    EXPECT(v2(fd, at, 4, dom, edge, edge), 0);
    EXPECT(at[3 * PAGE], 3);
    EXPECT(RESULT(ioctl(fd, PRIVCMD_IOCTL(0xff, 0), NULL)), -ENOTTY);
    EXPECT(RESULT(ioctl(fd, PRIVCMD_IOCTL(4, 0), NULL)), -ENOTTY);
    EXPECT(RESULT(ioctl(fd, 0x5401, err)), -ENOTTY);
    EXPECT(RESULT(ioctl(-1, PRIVCMD_MMAPBATCH_V2, NULL)), -EBADF);
}

static void case_restrict(void)
{
    int fd = device(), copy = dup(fd), free_fd = device(), err[1];
    uint16_t one = (uint16_t)dom, two = (uint16_t)other;
    uint64_t frame = 2;
    EXPECT(RESULT(ioctl(fd, PRIVCMD_RESTRICT, &one)), 0);
    EXPECT(RESULT(ioctl(copy, PRIVCMD_RESTRICT, &two)), -EINVAL);
    unsigned char *at = reserve(fd, 1, RW);
    EXPECT(v2(fd, at, 1, other, &frame, err), -EPERM);
    EXPECT(v2(copy, at, 1, other, NULL, err), -EPERM);
    EXPECT(map(fd, 1, other, NULL), -EPERM);
    EXPECT(v2(free_fd, at, 1, other, &frame, err), 0);
    EXPECT(at[0], 2);
    unsigned char *mine = reserve(fd, 1, RW);
    EXPECT(v2(fd, mine, 1, dom, &frame, err), 0);
    pid_t child = fork();
    if (!child) {
        at = reserve(fd, 1, RW);
        EXPECT(v2(fd, at, 1, other, &frame, err), -EPERM);
        EXPECT(v2(free_fd, at, 1, other, &frame, err), 0);
        _exit(finish());
    }
    int status;
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
}

static int resource(int fd, unsigned type, uint64_t *num, const void *addr)
{
    struct privcmd_mmap_resource call = {(uint16_t)dom, type, 0, 0, *num, (uint64_t)addr};
    int result = RESULT(ioctl(fd, PRIVCMD_MMAP_RESOURCE, &call));
    *num = call.num;
    return result;
}

static void case_resource(void)
{
    int fd = device();
    uint64_t size = 0, one = 1, two = 2, lots = 1ULL << 40;
    EXPECT(resource(fd, 1, &size, NULL), 0);
    EXPECT(size > 1, 1);
    unsigned char *at = reserve(fd, 2, RW);
    EXPECT(resource(fd, 1, &two, at), 0);
    at[PAGE] = 3;
    EXPECT(at[PAGE], 3);
    at[PAGE] = 0;
    EXPECT(resource(fd, 1, &lots, at), -ENOMEM);
    EXPECT(resource(fd, 1, &one, NULL), -EINVAL);
    /* Somebody else's memory below a mapping of the device is not the device's. */
    unsigned char *place = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(mmap(place + 2 * PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0) == place + 2 * PAGE, 1);
    place[0] = 77;
    EXPECT(resource(fd, 1, &one, place), -EINVAL);
    EXPECT(place[0], 77);
    EXPECT(resource(fd, 1, &one, (void *)16), -EINVAL);
    /* A hole is: the driver looks for the next mapping above. */
    munmap(place + PAGE, PAGE);
    EXPECT(resource(fd, 1, &one, place + PAGE), 0);
    EXPECT(touch_read(place + PAGE), 0);
    EXPECT(RESULT(munmap(place, 3 * PAGE)), 0);
    EXPECT(RESULT(munmap(at, 2 * PAGE)), 0);
}

static void case_fork(void)
{
    int fd = device(), err[2];
    uint64_t frames[] = {10, 11};
    unsigned char *at = reserve(fd, 2, RW);
    EXPECT(v2(fd, at, 2, dom, frames, err), 0);
    pid_t child = fork();
    if (!child) {
        EXPECT(touch_read(at), SIGSEGV);
        EXPECT(signal_code, SEGV_MAPERR);
        EXPECT(v2(fd, at, 2, dom, frames, err), -EINVAL);
        unsigned char *own = reserve(fd, 2, RW);
        EXPECT(v2(fd, own, 2, dom, frames, err), 0);
        EXPECT(own[PAGE], 11);
        own[5] = 55;
        _exit(finish());
    }
    int status;
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
    EXPECT(at[5], 55);
    at[5] = 10;
    child = fork();
    if (!child)
        _exit(fork() ? 0 : v2(fd, reserve(fd, 2, RW), 2, dom, frames, err) ? 1 : 0);
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
    EXPECT(at[PAGE], 11);
}

static void case_memory_calls(void)
{
    int fd = device(), err[4];
    uint64_t frames[] = {1, 2, 3, 4};
    unsigned char *at = reserve(fd, 4, RW), pages[4] = {9, 9, 9, 9};
    EXPECT(v2(fd, at, 4, dom, frames, err), 0);
    EXPECT(RESULT(madvise(at, PAGE, MADV_DONTNEED)), -EINVAL);
    EXPECT(RESULT(madvise(at, 4 * PAGE, MADV_DOFORK)), -EINVAL);
    EXPECT(RESULT(madvise(at, 4 * PAGE, MADV_RANDOM)), 0);
    EXPECT(RESULT(mlock(at, 4 * PAGE)), 0);
    EXPECT(RESULT(msync(at, 4 * PAGE, MS_SYNC)), -EINVAL);
    EXPECT(RESULT(mincore(at, 4 * PAGE, pages)), 0);
    EXPECT(pages[0], 0);
    EXPECT(RESULT(mprotect(at + PAGE, PAGE, PROT_READ)), -EINVAL);
    EXPECT(RESULT(mprotect(at, 4 * PAGE, PROT_READ)), 0);
    EXPECT(touch_write(at, 1), 0); /* the frames keep the protection that they were mapped with */
    EXPECT(MAPPED(mremap(at, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE)), -EFAULT);
    EXPECT(MAPPED(mremap(at, 4 * PAGE, 2 * PAGE, 0)), -EINVAL);
    unsigned char *place = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(mremap(at, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place, 1);
    EXPECT(touch_read(at), SIGSEGV);
    EXPECT(touch_read(place), SIGBUS);
    EXPECT(RESULT(mprotect(place, 4 * PAGE, RW)), 0);
    EXPECT(v2(fd, place, 4, dom, frames, err), 0);
    EXPECT(place[PAGE], 2);
    EXPECT(mmap(place, 4 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == place, 1);
    EXPECT(place[PAGE], 0);
    EXPECT(v2(fd, place, 4, dom, frames, err), -EINVAL);
    int readonly = open("/dev/xen/privcmd", O_RDONLY);
    EXPECT(MAPPED(mmap(NULL, PAGE, RW, MAP_SHARED, readonly, 0)), -EACCES);
    at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, readonly, 0);
    EXPECT(v2(readonly, at, 1, dom, frames, err), 0);
    EXPECT(RESULT(mprotect(at, PAGE, RW)), -EACCES);
    EXPECT(MAPPED(mmap(NULL, 0, RW, MAP_SHARED, fd, 0)), -EINVAL);
    at = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, PAGE);
    EXPECT(v2(fd, at, 1, dom, frames, err), 0);
    at[1] = 99;
    unsigned char *seen = reserve(fd, 1, PROT_READ);
    EXPECT(v2(fd, seen, 1, dom, frames, err), 0);
    EXPECT(seen[1], 1);
    EXPECT(RESULT(read(fd, pages, 1)), -EINVAL);
    EXPECT(RESULT(write(fd, pages, 1)), -EINVAL);
    EXPECT(RESULT(lseek(fd, 0, SEEK_SET)), -ESPIPE);
    EXPECT(RESULT(ftruncate(fd, 0)), -EINVAL);
    EXPECT(RESULT(close(fd)), 0);
    EXPECT(RESULT(ioctl(fd, PRIVCMD_RESTRICT, pages)), -EBADF);
    EXPECT(seen[0], 1);
    for (int i = 3; i < 1024; i++)
        close(i);
    fd = device();
    EXPECT(v2(fd, reserve(fd, 1, RW), 1, dom, frames, err), 0);
}

struct race {
    int fd, result, err[64];
    unsigned char *at;
    uint64_t frames[64];
    pthread_barrier_t *start;
};

static void *racer(void *argument)
{
    struct race *race = argument;
    pthread_barrier_wait(race->start);
    race->result = v2(race->fd, race->at, 64, dom, race->frames, race->err);
    return NULL;
}

static void case_threads(void)
{
    int fd = device();
    for (int round = 0; round < 50; round++) {
        pthread_barrier_t start;
        pthread_t threads[2];
        struct race races[2];
        unsigned char *at = reserve(fd, 64, RW);
        pthread_barrier_init(&start, NULL, 2);
        for (int i = 0; i < 2; i++) {
            races[i] = (struct race){.fd = fd, .at = at, .start = &start};
            for (int k = 0; k < 64; k++)
                races[i].frames[k] = (uint64_t)(64 * i + k);
            pthread_create(&threads[i], NULL, racer, &races[i]);
        }
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        pthread_barrier_destroy(&start);
        int winner = races[0].result ? 1 : 0;
        EXPECT(races[winner].result, 0);
        EXPECT(races[!winner].result, -EINVAL);
        for (int k = 0; k < 64; k++)
            EXPECT(at[k * PAGE], 64 * winner + k);
        EXPECT(RESULT(munmap(at, 64 * PAGE)), 0);
    }
}

static volatile sig_atomic_t storm_over;

static void *storm(void *argument)
{
    int fd = device(), err[16], n_bad = 0;
    uint64_t frames[16];
    (void)argument;
    for (int i = 0; i < 16; i++)
        frames[i] = (uint64_t)(i * 3);
    while (!storm_over) {
        unsigned char *at = reserve(fd, 16, RW);
        n_bad += v2(fd, at, 16, dom, frames, err) || at[15 * PAGE] != 45 || munmap(at, 16 * PAGE);
    }
    close(fd);
    return (void *)(intptr_t)n_bad;
}

/* Threads map while others fork and start programs: nobody waits for ever, nobody sees another's frames. */
static void case_storm(void)
{
    enum { THREADS = 3, CHILDREN = 10 };
    pthread_t threads[THREADS];
    int fd = device(), err[1], status;
    uint64_t frame = 9;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, storm, NULL);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        if (!child) {
            unsigned char *at = reserve(fd, 1, RW);
            EXPECT(v2(fd, at, 1, dom, &frame, err), 0);
            EXPECT(at[0], 9);
            _exit(finish());
        }
        EXPECT(waitpid(child, &status, 0), child);
        EXPECT(status, 0);
        EXPECT(system("exit 7"), 7 << 8);
        child = vfork();
        if (!child)
            _exit(5);
        EXPECT(waitpid(child, &status, 0), child);
        EXPECT(status, 5 << 8);
    }
    storm_over = 1;
    for (int i = 0; i < THREADS; i++) {
        void *n_bad = NULL;
        pthread_join(threads[i], &n_bad);
        EXPECT((intptr_t)n_bad, 0);
    }
}

static volatile sig_atomic_t n_signals;

static void on_signal(int number)
{
    (void)number;
    int err[1], fd = device();
    uint64_t frame = 7;
    unsigned char *at = reserve(fd, 1, RW);
    if (!v2(fd, at, 1, dom, &frame, err) && at[0] == 7 && !munmap(at, PAGE))
        n_signals++;
    close(fd);
}

static void case_signals(void)
{
    static int err[4096];
    static uint64_t frames[4096];
    int fd = device();
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 4096; i++)
        frames[i] = (uint64_t)(i % 128);
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (!child) {
            kill(getppid(), SIGUSR1);
            _exit(0);
        }
        unsigned char *at = reserve(fd, 4096, RW);
        EXPECT(v2(fd, at, 4096, dom, frames, err), 0);
        EXPECT(at[4095 * PAGE], 4095 % 128);
        EXPECT(RESULT(munmap(at, 4096 * PAGE)), 0);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    EXPECT(n_signals, 20);
}

/* The broker's end is not the program's: says "ready", waits for a line, and looks at what is left. */
static void case_orphan(void)
{
    int fd = device(), err[2];
    uint64_t frames[] = {1, 2};
    unsigned char *at = reserve(fd, 2, RW), *fresh = reserve(fd, 2, RW);
    EXPECT(v2(fd, at, 2, dom, frames, err), 0);
    puts("ready");
    fflush(stdout);
    getchar();
    EXPECT(v2(fd, fresh, 2, dom, frames, err), -ENXIO);
    EXPECT(MAPPED(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0)), -ENXIO);
    EXPECT(RESULT(open("/dev/xen/privcmd", O_RDWR)), -ENXIO);
    EXPECT(at[PAGE], 2);
    EXPECT(touch_read(fresh), SIGBUS);
    EXPECT(RESULT(munmap(at, 2 * PAGE)), 0);
    EXPECT(touch_read(at), SIGSEGV);
    pid_t child = fork();
    if (!child)
        _exit(v2(fd, fresh, 2, dom, frames, err) == -ENXIO ? 0 : 1);
    int status;
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
}

/* A domain's number is used again: says "ready", waits for a line, and finds the new one's frames, filled with 200. */
static void case_again(void)
{
    int fd = device(), err[1];
    uint64_t frame = 5;
    unsigned char *at = reserve(fd, 1, RW);
    EXPECT(v2(fd, at, 1, dom, &frame, err), 0);
    EXPECT(at[0], 5);
    EXPECT(RESULT(munmap(at, PAGE)), 0);
    puts("ready");
    fflush(stdout);
    getchar();
    at = reserve(fd, 1, RW);
    EXPECT(v2(fd, at, 1, dom, &frame, err), 0);
    EXPECT(at[0], 200);
    EXPECT(RESULT(munmap(at, PAGE)), 0);
}

/* More runs than the kernel allows mappings: ENOMEM, a message, and the whole range as it was. */
static void case_scattered(void)
{
    enum { N = 70000 };
    static int err[N];
    static uint64_t frames[N];
    int fd = device();
    for (int i = 0; i < N; i++)
        frames[i] = (uint64_t)(i % 2 ? 2 : 0);
    unsigned char *at = reserve(fd, N, RW);
    EXPECT(v2(fd, at, N, dom, frames, err), -ENOMEM);
    EXPECT(touch_read(at), SIGBUS);
    EXPECT(touch_read(at + (N - 1L) * PAGE), SIGBUS);
    for (int i = 0; i < N; i++)
        frames[i] = (uint64_t)(i % 128);
    EXPECT(v2(fd, at, N, dom, frames, err), 0);
    EXPECT(at[69999L * PAGE], 69999 % 128);
}

/* Linux 5.10, which splits a mapping of the device (docs/explanation/facts/recorded-host.md, sections 6 and 12). */
static void case_parts(void)
{
    int fd = device(), err[6];
    uint64_t frames[] = {0, BAD, 2, 3, 4, BAD}, frame = 9;
    unsigned char *at = reserve(fd, 6, RW);
    EXPECT(v2(fd, at, 6, dom, frames, err), 0);
    EXPECT(RESULT(munmap(at, PAGE)), 0);
    EXPECT(RESULT(munmap(at + 3 * PAGE, PAGE)), 0);
    EXPECT(touch_read(at), SIGSEGV);
    EXPECT(touch_read(at + 3 * PAGE), SIGSEGV);
    EXPECT(at[2 * PAGE], 2);
    EXPECT(at[4 * PAGE], 4);
    EXPECT(v2(fd, at + PAGE, 1, dom, &frame, err), 0);
    EXPECT(v2(fd, at + 5 * PAGE, 1, dom, &frame, err), 0);
    EXPECT(v2(fd, at + 2 * PAGE, 1, dom, &frame, err), -EINVAL);
    EXPECT(at[PAGE], 9);
    EXPECT(RESULT(mprotect(at + 4 * PAGE, PAGE, PROT_READ)), 0);
    EXPECT(touch_write(at + 4 * PAGE, 4), 0);
    EXPECT(RESULT(munmap(at, 6 * PAGE)), 0);

    /* Parts of a fresh one are filled each by itself, and as a whole. */
    at = reserve(fd, 4, RW);
    EXPECT(RESULT(mprotect(at + PAGE, PAGE, PROT_READ)), 0);
    frames[1] = 1;
    EXPECT(v2(fd, at, 4, dom, frames, err), -EINVAL);
    EXPECT(v2(fd, at + 2 * PAGE, 1, dom, &frame, err), -EINVAL);
    EXPECT(v2(fd, at, 1, dom, frames, err), 0);
    EXPECT(v2(fd, at + PAGE, 1, dom, frames + 1, err), 0);
    EXPECT(v2(fd, at + 2 * PAGE, 2, dom, frames + 2, err), 0);
    EXPECT(touch_write(at + PAGE, 1), SIGSEGV);
    EXPECT(touch_write(at + 2 * PAGE, 2), 0);

    EXPECT(mremap(at + 2 * PAGE, 2 * PAGE, PAGE, 0) == at + 2 * PAGE, 1);
    EXPECT(at[2 * PAGE], 2);
    EXPECT(touch_read(at + 3 * PAGE), SIGSEGV);
    EXPECT(RESULT(munmap(at, 4 * PAGE)), 0);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"batch_v2", case_batch_v2}, {"batch_v1", case_batch_v1},         {"mmap", case_mmap},
    {"pointers", case_pointers}, {"restrict", case_restrict},         {"resource", case_resource},
    {"fork", case_fork},         {"memory_calls", case_memory_calls}, {"threads", case_threads},
    {"storm", case_storm},       {"signals", case_signals},           {"orphan", case_orphan},
    {"again", case_again},       {"scattered", case_scattered},       {"parts", case_parts},
};

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    dom = atoi(argv[1]);
    other = atoi(argv[2]);
    catch_touches();
    alarm(45); /* a test that hangs ends */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[3], cases[i].name)) {
            cases[i].run();
            return finish();
        }
    return 2;
}

// SPDX-License-Identifier: Apache-2.0
/*
 * What the client costs beside a bare loop of mmap. usage: shim DOMAIN ROUNDS; the domain is hvm with frames 0..4095.
 * Prints lines "name nanoseconds", each the median of the rounds, for the whole of what is named.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../clients/c/apply.h"
#include "../clients/c/client.h"
#include "../clients/c/device.h"
#include "../clients/c/mapping.h"
#include "../clients/c/privcmd.h"
#include "../clients/c/say.h"
#include "../clients/c/syscalls.h"

#define N 4096
#define ROUNDS_MOST 1000
#define RW (PROT_READ | PROT_WRITE)

static int dom, n_rounds, fd;
static uint64_t file, frames[N];
static int err[N];
static long taken[ROUNDS_MOST];

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void need(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s failed: %s\n", what, say_error_text());
        exit(1);
    }
}

static int ascending(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static void report(const char *name)
{
    qsort(taken, (size_t)n_rounds, sizeof *taken, ascending);
    printf("%s %ld\n", name, taken[n_rounds / 2]);
}

/* Frames in runs of that length, no two runs adjacent in the file. */
static void order(unsigned run)
{
    unsigned n_runs = N / run;
    for (unsigned i = 0; i < N; i++) {
        unsigned place = n_runs == 1 ? 0 : (unsigned)((i / run) * 1031ULL % n_runs);
        frames[i] = place * run + i % run;
    }
}

static uint64_t reserve(uint64_t n)
{
    int64_t at = mapping_mmap(DEVICE_PRIVCMD, fd, 0, n * PAGE_SIZE, RW, MAP_SHARED, 0);
    need(at > 0, "mmap");
    return (uint64_t)at;
}

static void batch(uint64_t at, uint32_t n)
{
    struct privcmd_mmapbatch_v2 v2 = {n, (uint16_t)dom, at, (uint64_t)frames, (uint64_t)err};
    need(!privcmd_ioctl(file, PRIVCMD_MMAPBATCH_V2, (uint64_t)&v2), "V2");
}

static void one_frame(void)
{
    for (int round = 0; round < n_rounds; round++) {
        long begin = now();
        uint64_t at = reserve(1);
        batch(at, 1);
        mapping_munmap(at, PAGE_SIZE);
        taken[round] = now() - begin;
    }
    report("one_frame");
}

static void whole_batch(const char *name)
{
    for (int round = 0; round < n_rounds; round++) {
        uint64_t at = reserve(N);
        long begin = now();
        batch(at, N);
        taken[round] = now() - begin;
        mapping_munmap(at, N * PAGE_SIZE);
    }
    report(name);
}

static void put_word(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

/* The broker's answer for these frames, made here: what is measured is what the client does with it. */
static void mapping_part(const char *name, unsigned run)
{
    struct mp_out answer = {0};
    mp_map(&answer, 1);
    mp_str(&answer, "extents");
    uint8_t *triples = mp_bin_room(&answer, 12 * (N / run));
    for (unsigned i = 0; i < N / run; i++) {
        put_word(triples + 12 * i, i * run);
        put_word(triples + 12 * i + 4, (uint32_t)frames[i * run]);
        put_word(triples + 12 * i + 8, run);
    }
    for (int round = 0; round < n_rounds; round++) {
        struct client_hold hold;
        uint64_t at = reserve(N);
        client_lock(&hold);
        long begin = now();
        int error = apply_extents(at, N, dom, (struct mp_in){answer.data, answer.data + answer.used});
        taken[round] = now() - begin;
        client_unlock(&hold);
        need(!error, "apply");
        mapping_munmap(at, N * PAGE_SIZE);
    }
    report(name);
}

static void bare_one(int memory)
{
    for (int round = 0; round < n_rounds; round++) {
        long begin = now();
        void *at = sys_mmap(NULL, PAGE_SIZE, RW, MAP_SHARED, memory, 0);
        sys_mmap(at, PAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, memory, PAGE_SIZE);
        sys_munmap(at, PAGE_SIZE);
        taken[round] = now() - begin;
    }
    report("bare_one_frame");
}

static void bare(const char *name, unsigned run, int memory, int nothing)
{
    for (int round = 0; round < n_rounds; round++) {
        char *at = sys_mmap(NULL, N * PAGE_SIZE, RW, MAP_SHARED, nothing, 0);
        long begin = now();
        for (unsigned i = 0; i < N; i += run)
            sys_mmap(at + i * PAGE_SIZE, run * PAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, memory,
                     (off_t)(frames[i] * PAGE_SIZE));
        taken[round] = now() - begin;
        sys_munmap(at, N * PAGE_SIZE);
    }
    report(name);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    dom = atoi(argv[1]);
    n_rounds = atoi(argv[2]) < ROUNDS_MOST ? atoi(argv[2]) : ROUNDS_MOST;
    fd = device_open(DEVICE_PRIVCMD, O_RDWR | O_CLOEXEC);
    need(device_of(fd, &file) == DEVICE_PRIVCMD, "open");
    int memory = sys_memfd("memory", 0), nothing = sys_memfd("nothing", 0);
    need(!ftruncate(memory, N * PAGE_SIZE), "ftruncate");
    static const struct {
        unsigned run;
        const char *whole, *part, *bare;
    } kinds[] = {{1, "batch_1", "part_1", "bare_1"},
                 {16, "batch_16", "part_16", "bare_16"},
                 {N, "batch_4096", "part_4096", "bare_4096"}};
    order(N);
    one_frame();
    bare_one(memory);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        order(kinds[i].run);
        whole_batch(kinds[i].whole);
        mapping_part(kinds[i].part, kinds[i].run);
        bare(kinds[i].bare, kinds[i].run, memory, nothing);
    }
    return 0;
}

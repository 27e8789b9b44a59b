// SPDX-License-Identifier: Apache-2.0
/*
 * What the process' own map looks like around memory of the device. Frames of the guest are filled with their number.
 * Usage: mapped DOM CASE
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../clients/c/privcmd.h"
#include "check.h"

#define PAGE 4096ul
#define RW (PROT_READ | PROT_WRITE)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define BAD 0x7fff0
#define MANY 40

static unsigned dom;
static int fd;

static char *reserve(size_t n)
{
    return mmap(NULL, n * PAGE, RW, MAP_SHARED, fd, 0);
}

static int fill(const void *at, unsigned n, const uint64_t *frames, int *err)
{
    struct privcmd_mmapbatch_v2 batch = {n, (uint16_t)dom, (uint64_t)at, (uint64_t)frames, (uint64_t)err};
    return RESULT(ioctl(fd, PRIVCMD_MMAPBATCH_V2, &batch));
}

/* Whether the kernel's mapping that begins at an address has a flag; -1 when none begins there. */
static int has_flag(const void *at, const char *flag)
{
    char line[1024], start[32];
    int found = -1, inside = 0;
    FILE *maps = fopen("/proc/self/smaps", "r");
    snprintf(start, sizeof start, "%lx-", (unsigned long)at);
    while (maps && fgets(line, sizeof line, maps)) {
        if (!strncmp(line, start, strlen(start)))
            inside = 1;
        else if (inside && !strncmp(line, "VmFlags:", 8)) {
            found = strstr(line, flag) != NULL;
            break;
        }
    }
    if (maps)
        fclose(maps);
    return found;
}

/* Frames in n runs of one. */
static char *scattered(unsigned n)
{
    static uint64_t frames[MANY];
    static int err[MANY];
    char *at = reserve(n);
    for (unsigned i = 0; i < n; i++)
        frames[i] = 2 * i % 128;
    EXPECT(fill(at, n, frames, err), 0);
    return at;
}

/* A part cannot be replaced, which mmap calls ENOMEM; what else is wrong comes first; nothing has changed after it. */
static void replacing(void)
{
    uint64_t frames[] = {1, 2, 3, 4};
    int err[4], text = open("/proc/self/exe", O_RDONLY);
    char *room = mmap(NULL, 6 * PAGE, PROT_NONE, ANONYMOUS, -1, 0), *at = room + PAGE;
    EXPECT(mmap(at, 4 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0) == at, 1);
    EXPECT(fill(at, 4, frames, err), 0);
    for (int page = 0; page < 4; page++)
        EXPECT(MAPPED(mmap(at + page * PAGE, PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0)), -ENOMEM);
    EXPECT(MAPPED(mmap(room, 3 * PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0)), -ENOMEM);
    EXPECT(MAPPED(mmap(at + PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, 999, 0)), -EBADF);
    EXPECT(MAPPED(mmap(at + PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, text, 0)), -EACCES);
    EXPECT(MAPPED(mmap(at + PAGE, 0, RW, ANONYMOUS | MAP_FIXED, -1, 0)), -EINVAL);
    EXPECT(MAPPED(mmap(at + PAGE, PAGE, RW, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)), -EEXIST);
    EXPECT(MAPPED(mmap(at, 4 * PAGE, RW, MAP_SHARED | MAP_FIXED, text, 0)), -EACCES);
    EXPECT(RESULT(munmap(at + PAGE, PAGE)), -EINVAL);
    for (int page = 0; page < 4; page++)
        EXPECT(at[page * PAGE], page + 1);
    EXPECT(touch_read(room), SIGSEGV);
    EXPECT(mmap(room, 6 * PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0) == room, 1);
    EXPECT(at[0] + at[3 * PAGE], 0);
    EXPECT(RESULT(munmap(room + 2 * PAGE, PAGE)), 0); /* it is the program's own again */
    EXPECT(touch_read(room + 2 * PAGE), SIGSEGV);
    close(text);
}

/* Core dumps hold no memory of guests, and children get none: dontdump, dontcopy. */
static void flags(void)
{
    uint64_t frame = 5;
    int err, grants = open("/dev/xen/gntdev", O_RDWR), calls = open("/dev/xen/hypercall", O_RDWR);
    char *fresh = reserve(1), *one = reserve(1), *many = scattered(MANY);
    EXPECT(fill(one, 1, &frame, &err), 0);
    EXPECT(has_flag(fresh, " dd"), 1);
    EXPECT(has_flag(fresh, " dc"), 1);
    EXPECT(has_flag(one, " dd"), 1);
    EXPECT(has_flag(one, " dc"), 1);
    for (size_t i = 0; i < MANY; i++) {
        EXPECT(has_flag(many + i * PAGE, " dd"), 1);
        EXPECT(has_flag(many + i * PAGE, " dc"), 1);
    }
    char *buffer = mmap(NULL, PAGE, RW, MAP_SHARED, calls, 0);
    EXPECT(has_flag(buffer, " dc"), 0);
    close(grants);
    close(calls);
}

static void children(void)
{
    int status, calls = open("/dev/xen/hypercall", O_RDWR);
    char *at = scattered(MANY), *buffer = mmap(NULL, PAGE, RW, MAP_SHARED, calls, 0);
    unsigned char there;
    buffer[0] = 1;
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        for (size_t i = 0; i < MANY; i++)
            EXPECT(RESULT(mincore(at + i * PAGE, PAGE, &there)), -ENOMEM);
        EXPECT(touch_read(at), SIGSEGV);
        /* What is mapped at that place is the child's own. */
        EXPECT(mmap(at, PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0) == at, 1);
        at[0] = 99;
        EXPECT(RESULT(mprotect(at, PAGE, PROT_READ)), 0);
        EXPECT(RESULT(munmap(at, PAGE)), 0);
        EXPECT(buffer[0], 1);
        buffer[0] = 2;
        at = scattered(2);
        EXPECT(at[PAGE], 2);
        EXPECT(RESULT(munmap(at, 2 * PAGE)), 0);
        _exit(finish());
    }
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
    EXPECT(buffer[0], 2);
    EXPECT(at[PAGE], 2);
}

/* Linux 5.10 splits a mapping: each part keeps, or loses, what it has by itself. */
static void parts(void)
{
    uint64_t frames[] = {1, 2, 3, 4};
    int err[4];
    char *room = mmap(NULL, 6 * PAGE, RW, ANONYMOUS, -1, 0), *at = room + PAGE;
    EXPECT(mmap(at, 4 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0) == at, 1);
    EXPECT(fill(at, 4, frames, err), 0);
    EXPECT(RESULT(mprotect(at + PAGE, PAGE, PROT_NONE)), 0);
    EXPECT(touch_read(at + PAGE), SIGSEGV);
    EXPECT(at[0] == 1 && at[2 * PAGE] == 3, 1);
    EXPECT(RESULT(mprotect(at + PAGE, PAGE, RW)), 0);
    EXPECT(touch_read(at + PAGE), SIGBUS);                           /* the frame is lost */
    EXPECT(RESULT(mprotect(at + 2 * PAGE, 3 * PAGE, PROT_READ)), 0); /* and a page behind, which is the program's own */
    EXPECT(touch_write(at + 2 * PAGE, 3), 0);                        /* frames keep theirs */
    EXPECT(touch_write(room + 5 * PAGE, 1), SIGSEGV);
    EXPECT(RESULT(mprotect(room, 6 * PAGE, RW)), 0);
    EXPECT(touch_write(room, 1) | touch_write(room + 5 * PAGE, 1), 0);
    EXPECT(at[0] == 1 && at[3 * PAGE] == 4, 1);
    EXPECT(mmap(at + 2 * PAGE, PAGE, RW, ANONYMOUS | MAP_FIXED, -1, 0) == at + 2 * PAGE, 1);
    EXPECT(at[2 * PAGE], 0);
    EXPECT(at[3 * PAGE], 4);
    EXPECT(RESULT(munmap(room, 6 * PAGE)), 0);

    int readonly = open("/dev/xen/privcmd", O_RDONLY);
    at = mmap(NULL, 3 * PAGE, PROT_READ, MAP_SHARED, readonly, 0);
    EXPECT(RESULT(mprotect(at + PAGE, PAGE, RW)), -EACCES);
    EXPECT(fill(at, 3, frames, err), 0); /* it is still one */
    EXPECT(RESULT(munmap(at, 3 * PAGE)), 0);
    close(readonly);
}

static void wait_for_the_test(void)
{
    char line[16];
    puts("ready");
    fflush(stdout);
    EXPECT(fgets(line, sizeof line, stdin) != NULL, 1);
}

/*
 * Frames 100 and 101 are paged out; 100 comes back first. Those that failed are asked for again, as libraries do while
 * the last frame is one that is paged out.
 */
static void retries(void)
{
    uint64_t frames[] = {1, BAD, 4, 100, 101}, bad_behind[] = {100, BAD};
    int err[5];
    char *at = reserve(5), *other = reserve(2);
    EXPECT(fill(at, 5, frames, err), -ENOENT);
    EXPECT(err[0] == 0 && err[1] == -EINVAL && err[2] == 0 && err[3] == -ENOENT && err[4] == -ENOENT, 1);
    wait_for_the_test();
    EXPECT(fill(at + 3 * PAGE, 2, frames + 3, err), -ENOENT);
    EXPECT(err[0] == 0 && err[1] == -ENOENT, 1);
    EXPECT(at[3 * PAGE], 100);
    EXPECT(touch_read(at + PAGE), SIGBUS);
    EXPECT(touch_read(at + 4 * PAGE), SIGBUS);
    EXPECT(at[0] == 1 && at[2 * PAGE] == 4, 1);
    EXPECT(fill(other, 2, bad_behind, err), 0);
    EXPECT(err[0] == 0 && err[1] == -EINVAL, 1);
    EXPECT(other[0], 100);
    EXPECT(touch_read(other + PAGE), SIGBUS);
    wait_for_the_test();
    EXPECT(fill(at + 4 * PAGE, 1, frames + 4, err), 0);
    EXPECT(at[2 * PAGE] == 4 && at[3 * PAGE] == 100 && at[4 * PAGE] == 101, 1);
    EXPECT(fill(at + 3 * PAGE, 1, frames + 3, err), -EINVAL); /* there is one */
    EXPECT(at[3 * PAGE], 100);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"replacing", replacing}, {"flags", flags}, {"children", children}, {"parts", parts}, {"retries", retries},
};

int main(int argc, char **argv)
{
    dom = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    catch_touches();
    fd = open("/dev/xen/privcmd", O_RDWR);
    for (size_t i = 0; argc > 2 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(cases[i].name, argv[2])) {
            cases[i].run();
            return finish();
        }
    return 2;
}

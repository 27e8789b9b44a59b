// SPDX-License-Identifier: Apache-2.0
/*
 * A program whose broker does not answer. It says "ready" and reads a line wherever the test has something to do first.
 * Usage: stuck DOM CASE
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../clients/c/privcmd.h"
#include "check.h"

#define EVTCHN_BIND_UNBOUND_PORT _IOC(_IOC_NONE, 'E', 2, 4)

static unsigned dom;
static volatile sig_atomic_t n_handled;

static void handle(int number)
{
    (void)number;
    n_handled++;
}

static void wait_for_the_test(void)
{
    char line[16];
    puts("ready");
    fflush(stdout);
    EXPECT(fgets(line, sizeof line, stdin) != NULL, 1);
}

static int restrict_it(int fd)
{
    uint16_t to = (uint16_t)dom;
    return RESULT(ioctl(fd, PRIVCMD_RESTRICT, &to));
}

static int bind_it(int fd)
{
    uint32_t remote = dom;
    int result = ioctl(fd, EVTCHN_BIND_UNBOUND_PORT, &remote);
    return result < 0 ? -errno : result;
}

static void calls_end(void)
{
    uint64_t frame = 7;
    int failed = 1, fd = open("/dev/xen/privcmd", O_RDWR), events = open("/dev/xen/evtchn", O_RDWR);
    char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *other = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct privcmd_mmapbatch_v2 batch = {1, (uint16_t)dom, (uint64_t)at, (uint64_t)&frame, (uint64_t)&failed};
    EXPECT(RESULT(ioctl(fd, PRIVCMD_MMAPBATCH_V2, &batch)), 0);
    EXPECT(bind_it(events) > 0, 1);
    wait_for_the_test();
    batch.addr = (uint64_t)other;
    EXPECT(RESULT(ioctl(fd, PRIVCMD_MMAPBATCH_V2, &batch)), -ETIMEDOUT);
    EXPECT(bind_it(events), -ETIMEDOUT);
    wait_for_the_test(); /* it answers late, and is not listened to */
    EXPECT(RESULT(ioctl(fd, PRIVCMD_MMAPBATCH_V2, &batch)), -ENXIO);
    EXPECT(bind_it(events), -ENXIO);
    EXPECT(at[0], 7);
    at[0] = 8;
    EXPECT(RESULT(munmap(at, 4096)), 0);
    EXPECT(RESULT(munmap(other, 4096)), 0);
}

static void unmapping_ends(void)
{
    int fd = open("/dev/xen/privcmd", O_RDWR);
    char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    wait_for_the_test();
    EXPECT(RESULT(munmap(at, 4096)), 0);
    EXPECT(restrict_it(fd), -ENXIO);
}

static void open_ends(void)
{
    wait_for_the_test();
    EXPECT(RESULT(open("/dev/xen/privcmd", O_RDWR)), -ETIMEDOUT);
}

static void fork_ends(void)
{
    int status, fd = open("/dev/xen/privcmd", O_RDWR);
    wait_for_the_test();
    pid_t child = fork();
    if (!child)
        _exit(restrict_it(fd) == -ENXIO ? 0 : 1);
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
    EXPECT(restrict_it(fd), -ENXIO);
}

/* The next four are asked to end while RESTRICT waits for its answer; n_handled shows when. */

static void a_handler_runs(void)
{
    signal(SIGTERM, handle);
    int fd = open("/dev/xen/privcmd", O_RDWR);
    EXPECT(restrict_it(fd), -EINTR);
    EXPECT(n_handled, 1);
    EXPECT(restrict_it(fd), -ENXIO);
}

static void it_is_ended(void)
{
    restrict_it(open("/dev/xen/privcmd", O_RDWR));
    EXPECT(0, 1);
}

static void a_slow_answer_counts(void)
{
    signal(SIGTERM, handle);
    EXPECT(restrict_it(open("/dev/xen/privcmd", O_RDWR)), 0);
    EXPECT(n_handled, 1);
}

static void what_is_ignored_does_not_count(void)
{
    sigset_t kept_back;
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, handle);
    sigemptyset(&kept_back);
    sigaddset(&kept_back, SIGINT);
    sigprocmask(SIG_BLOCK, &kept_back, NULL);
    EXPECT(restrict_it(open("/dev/xen/privcmd", O_RDWR)), -ETIMEDOUT);
    EXPECT(n_handled, 0);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"calls_end", calls_end},
    {"unmapping_ends", unmapping_ends},
    {"open_ends", open_ends},
    {"fork_ends", fork_ends},
    {"a_handler_runs", a_handler_runs},
    {"it_is_ended", it_is_ended},
    {"a_slow_answer_counts", a_slow_answer_counts},
    {"what_is_ignored_does_not_count", what_is_ignored_does_not_count},
};

int main(int argc, char **argv)
{
    dom = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    for (size_t i = 0; argc > 2 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(cases[i].name, argv[2])) {
            cases[i].run();
            return finish();
        }
    return 2;
}

// SPDX-License-Identifier: Apache-2.0
/* Programs that do what few programs do. Usage: odd DOM CASE [ARGUMENT] */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../clients/c/privcmd.h"
#include "check.h"

#define EVTCHN(number, size) _IOC(_IOC_NONE, 'E', number, size)
#define BIND_INTERDOMAIN EVTCHN(1, 8)
#define BIND_UNBOUND_PORT EVTCHN(2, 4)
#define UNBIND EVTCHN(3, 4)
#define NOTIFY EVTCHN(4, 4)

static unsigned dom;
static const char *argument;

static int open_events(void)
{
    int fd = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    EXPECT(fd >= 0, 1);
    return fd;
}

static int with_number(int fd, unsigned long command, uint32_t number)
{
    int result = ioctl(fd, command, &number);
    return result < 0 ? -errno : result;
}

static int bind_to(int fd, uint32_t port)
{
    uint32_t asked[2] = {0, port};
    int result = ioctl(fd, BIND_INTERDOMAIN, asked);
    return result < 0 ? -errno : result;
}

/* Reads the next event and unmasks it. */
static int next(int fd)
{
    uint32_t port = 0;
    ssize_t n = read(fd, &port, sizeof port);
    if (n == sizeof port)
        EXPECT(write(fd, &port, sizeof port), sizeof port);
    return n < 0 ? -errno : (int)port;
}

/* Whether a port of one file and a port of another notify each other. */
static void talk(int fds[2], const int ports[2])
{
    for (int i = 0; i < 2; i++) {
        EXPECT(with_number(fds[i], NOTIFY, (uint32_t)ports[i]), 0);
        EXPECT(next(fds[!i]), ports[!i]);
        EXPECT(next(fds[!i]), -EAGAIN);
    }
}

/* Two files of event channels, bound to each other. */
static void pair(int fds[2], int ports[2])
{
    fds[0] = open_events();
    fds[1] = open_events();
    ports[0] = with_number(fds[0], BIND_UNBOUND_PORT, 0);
    ports[1] = bind_to(fds[1], (uint32_t)ports[0]);
    EXPECT(ports[0] > 0 && ports[1] > 0, 1);
    EXPECT(next(fds[1]), ports[1]);
    talk(fds, ports);
}

static int restrict_it(int fd)
{
    uint16_t to = (uint16_t)dom;
    return RESULT(ioctl(fd, PRIVCMD_RESTRICT, &to));
}

static void joins(pid_t child)
{
    int status;
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
}

/* A file that parent and child have is one file: ports that one binds, or unbinds, are the other's too. */
static void both_bind_at_once(void)
{
    enum { N = 50 };
    int pipes[2], go_on[2], fds[] = {open_events(), open_events()}, mine[N], theirs[N];
    EXPECT(pipe(pipes) | pipe(go_on), 0);
    fflush(NULL);
    pid_t child = fork();
    for (int i = 0; i < N; i++)
        mine[i] = with_number(fds[0], BIND_UNBOUND_PORT, 0);
    if (!child) {
        char byte;
        EXPECT(write(pipes[1], mine, sizeof mine), sizeof mine);
        EXPECT(read(go_on[0], &byte, 1), 1);
        /* Number mine[0] is another port now: the parent's. */
        EXPECT(with_number(fds[0], NOTIFY, (uint32_t)mine[0]), 0);
        EXPECT(next(fds[0]), mine[0]);
        _exit(finish());
    }
    EXPECT(read(pipes[0], theirs, sizeof theirs), sizeof theirs);
    for (int i = 0; i < N; i++) {
        EXPECT(mine[i] > 0 && theirs[i] > 0, 1);
        for (int j = 0; j < N; j++)
            EXPECT(mine[i] != theirs[j] && (i == j || mine[i] != mine[j]), 1);
    }
    for (int i = 0; i < N; i++) {
        int ports[] = {theirs[i], bind_to(fds[1], (uint32_t)theirs[i])};
        EXPECT(next(fds[1]), ports[1]);
        talk(fds, ports);
    }
    EXPECT(with_number(fds[0], UNBIND, (uint32_t)theirs[0]), 0);
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)theirs[0]), -ENOTCONN);
    EXPECT(with_number(fds[0], BIND_UNBOUND_PORT, 0), theirs[0]);
    int other = bind_to(fds[1], (uint32_t)theirs[0]);
    EXPECT(next(fds[1]), other);
    EXPECT(with_number(fds[1], NOTIFY, (uint32_t)other), 0);
    EXPECT(write(go_on[1], "x", 1), 1);
    joins(child);
    EXPECT(next(fds[1]), other);
    EXPECT(next(fds[0]), -EAGAIN);
    int ports[] = {mine[0], bind_to(fds[1], (uint32_t)mine[0])};
    EXPECT(next(fds[1]), ports[1]);
    talk(fds, ports);
}

static int stuck_fd;

static void *wait_for_answer(void *unused)
{
    (void)unused;
    EXPECT(restrict_it(stuck_fd), -ETIMEDOUT);
    return NULL;
}

/* The thread has the lock of the shim: SIGUSR1 comes when its request is under way. */
static void a_bare_clone(void)
{
    pthread_t thread;
    sigset_t wanted;
    int number, status = 0;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &wanted, NULL);
    stuck_fd = open("/dev/xen/privcmd", O_RDWR);
    char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, stuck_fd, 0);
    pthread_create(&thread, NULL, wait_for_answer, NULL);
    sigwait(&wanted, &number);
    fflush(NULL);
    long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (!child) {
        EXPECT(restrict_it(stuck_fd), -ENXIO);
        EXPECT(RESULT(mprotect(at, 4096, PROT_READ)), -ENOMEM); /* it is not inherited */
        EXPECT(RESULT(open("/dev/xen/evtchn", O_RDWR)), -ENXIO);
        _exit(finish());
    }
    EXPECT(syscall(SYS_wait4, child, &status, 0, NULL), child);
    EXPECT(status, 0);
    pthread_join(thread, NULL);
}

/* What a child of vfork closes, its parent still has, and its last descriptor still is the last one. */
static void a_vfork_child_closes_all(void)
{
    int fds[2], ports[2];
    pair(fds, ports);
    pid_t child = vfork();
    if (!child) {
        close(fds[1]);
        dup2(fds[0], 9);
        close_range(3, ~0U, 0);
        _exit(0);
    }
    joins(child);
    child = vfork();
    if (!child) {
        for (int fd = 0; fd < 4096; fd++)
            close(fd);
        closefrom(3);
        _exit(0);
    }
    joins(child);
    talk(fds, ports);
    EXPECT(RESULT(close(fds[1])), 0);
    fds[1] = open_events();
    ports[1] = bind_to(fds[1], (uint32_t)ports[0]); /* unbound again, as its other end was closed */
    EXPECT(next(fds[1]), ports[1]);
    talk(fds, ports);
}

static void the_environment_changes(void)
{
    int fds[2], ports[2];
    if (argument)
        clearenv();
    int fd = open("/dev/xen/privcmd", O_RDWR);
    setenv("PRIVCMDD_SOCKET", "/nowhere", 1);
    EXPECT(RESULT(chdir("/")), 0);
    pair(fds, ports);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        EXPECT(restrict_it(fd), 0);
        _exit(finish());
    }
    joins(child);
}

/* What was open before goes on; a child needs a connection of its own, which cannot be had any more. */
static void root_and_uid_change(void)
{
    int fds[] = {open_events(), open_events()}, ports[2], failed;
    int fd = open("/dev/xen/privcmd", O_RDWR);
    uint64_t frame = 7;
    char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EXPECT(RESULT(chroot(argument)), 0);
    EXPECT(RESULT(chdir("/")), 0);
    EXPECT(RESULT(setgid(65534)) | RESULT(setuid(65534)), 0);
    struct privcmd_mmapbatch_v2 batch = {1, (uint16_t)dom, (uint64_t)at, (uint64_t)&frame, (uint64_t)&failed};
    EXPECT(RESULT(ioctl(fd, PRIVCMD_MMAPBATCH_V2, &batch)), 0);
    EXPECT(at[0], 7);
    ports[0] = with_number(fds[0], BIND_UNBOUND_PORT, 0);
    ports[1] = bind_to(fds[1], (uint32_t)ports[0]);
    EXPECT(next(fds[1]), ports[1]);
    talk(fds, ports);
    EXPECT(RESULT(open("/dev/xen/privcmd", O_RDWR)), -EACCES);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        EXPECT(restrict_it(fd), -ENXIO);
        EXPECT(restrict_it(fd), -ENXIO);
        _exit(finish());
    }
    joins(child);
    EXPECT(RESULT(munmap(at, 4096)), 0);
}

static void many_ports(void)
{
    enum { N = 300 };
    static int mine[N], theirs[N];
    int fds[] = {open_events(), open_events()};
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 1024;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < N; i++) {
        mine[i] = with_number(fds[0], BIND_UNBOUND_PORT, 0);
        theirs[i] = bind_to(fds[1], (uint32_t)mine[i]);
        EXPECT(next(fds[1]), theirs[i]);
    }
    for (int fd = 3; fd < 8192; fd++)
        if (fd != fds[0] && fd != fds[1])
            close(fd);
    for (int i = 0; i < N; i++)
        talk(fds, (int[]){mine[i], theirs[i]});
    getrlimit(RLIMIT_NOFILE, &limit);
    EXPECT(limit.rlim_cur, 1024);
    for (int i = 0; i < 800; i++)
        EXPECT(dup(2) >= 0, 1); /* the program has room for its own */
}

static void high_descriptors(void)
{
    struct rlimit limit;
    int fds[2], ports[2], privcmd = open("/dev/xen/privcmd", O_RDWR);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 20000 ? limit.rlim_max : 20000;
    setrlimit(RLIMIT_NOFILE, &limit);
    pair(fds, ports);
    for (int i = 0; i < 2; i++) {
        int high = fcntl(fds[i], F_DUPFD_CLOEXEC, 5000);
        EXPECT(high >= 5000, 1);
        close(fds[i]);
        fds[i] = high;
    }
    talk(fds, ports);
    EXPECT(RESULT(close(fds[1])), 0);
    fds[1] = open_events();
    ports[1] = bind_to(fds[1], (uint32_t)ports[0]);
    EXPECT(next(fds[1]), ports[1]);
    talk(fds, ports);
    char byte;
    int high = dup2(privcmd, 6000);
    EXPECT(RESULT(read(high, &byte, 1)), -EINVAL);
    EXPECT(restrict_it(high), 0);
}

/* As the kernel does it for a driver that reads one range: the next range is read when this one is full. */
static void reads_of_all_kinds(void)
{
    int fds[2], ports[2], more[2];
    uint32_t first[1] = {0}, second[4] = {0};
    volatile size_t size = sizeof second;
    struct iovec ranges[] = {{first, sizeof first}, {second, sizeof second}};
    pair(fds, ports);
    more[0] = with_number(fds[0], BIND_UNBOUND_PORT, 0);
    more[1] = bind_to(fds[1], (uint32_t)more[0]);
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(readv(fds[1], ranges, 2), 8);
    EXPECT(first[0] + second[0], (uint32_t)(ports[1] + more[1]));
    EXPECT(RESULT(readv(fds[1], ranges, 2)), -EAGAIN);
    ranges[1].iov_len = sizeof *second;
    EXPECT(writev(fds[1], ranges, 2), 8);

    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(RESULT(preadv(fds[1], ranges, 2, 0)), -ESPIPE);
    EXPECT(RESULT(pwritev(fds[1], ranges, 2, 0)), -ESPIPE);
    EXPECT(RESULT(preadv2(fds[1], ranges, 1, 0, 0)), -ESPIPE);
    EXPECT(RESULT(preadv2(fds[1], ranges, 1, -1, RWF_NOWAIT)), -EOPNOTSUPP);
    EXPECT(preadv2(fds[1], ranges, 1, -1, 0), 4);
    EXPECT(first[0], (uint32_t)ports[1]);
    EXPECT(pwritev2(fds[1], ranges, 1, -1, 0), 4);

    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(read(fds[1], second, size), 4); /* __read_chk */
    EXPECT(second[0], (uint32_t)ports[1]);
    EXPECT(RESULT(pread(fds[1], second, size, 0)), -ESPIPE);
    EXPECT(write(fds[1], second, 4), 4);

    FILE *stream = fdopen(dup(fds[1]), "r");
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(fread(second, 4, 1, stream), 0);
    fclose(stream);
    EXPECT(next(fds[1]), ports[1]);
}

static int events_fd;

static void *wait_for_event(void *unused)
{
    uint32_t port;
    sigset_t none;
    (void)unused;
    sigemptyset(&none);
    signal(SIGUSR2, SIG_IGN);
    EXPECT(read(events_fd, &port, sizeof port), -1);
    return NULL;
}

/* A read that waits is a place where a thread may be cancelled. */
static void a_reader_is_cancelled(void)
{
    int fds[2], ports[2];
    pthread_t thread;
    void *result;
    pair(fds, ports);
    fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) & ~O_NONBLOCK);
    events_fd = fds[1];
    pthread_create(&thread, NULL, wait_for_event, NULL);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    EXPECT(result == PTHREAD_CANCELED, 1);
    fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) | O_NONBLOCK);
    talk(fds, ports);
}

static void *call_for_ever(void *privcmd)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (;;) {
        int fd = *(int *)privcmd;
        void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        restrict_it(fd);
        munmap(at, 4096);
    }
    return NULL;
}

/* A thread that is cancelled in the middle of anything leaves the lock free, and the connection in step. */
static void callers_are_cancelled(void)
{
    int fd = open("/dev/xen/privcmd", O_RDWR);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, call_for_ever, &fd);
        for (int calls = 0; calls < i % 5; calls++)
            EXPECT(restrict_it(fd), 0);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        EXPECT(restrict_it(fd), 0);
    }
}

/* Whoever holds the other end has filled it, and made its descriptor wait: the event is pending, and that is all. */
static void the_other_end_is_full(void)
{
    int fd = open_events();
    uint32_t asked[2] = {dom, (uint32_t)atoi(argument)};
    int port = ioctl(fd, BIND_INTERDOMAIN, asked);
    char line[16];
    EXPECT(port > 0, 1);
    puts("ready");
    fflush(stdout);
    EXPECT(fgets(line, sizeof line, stdin) != NULL, 1);
    alarm(30); /* a test that hangs ends */
    EXPECT(with_number(fd, NOTIFY, (uint32_t)port), 0);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"both_bind_at_once", both_bind_at_once},
    {"a_bare_clone", a_bare_clone},
    {"a_vfork_child_closes_all", a_vfork_child_closes_all},
    {"the_environment_changes", the_environment_changes},
    {"root_and_uid_change", root_and_uid_change},
    {"many_ports", many_ports},
    {"high_descriptors", high_descriptors},
    {"reads_of_all_kinds", reads_of_all_kinds},
    {"a_reader_is_cancelled", a_reader_is_cancelled},
    {"callers_are_cancelled", callers_are_cancelled},
    {"the_other_end_is_full", the_other_end_is_full},
};

int main(int argc, char **argv)
{
    dom = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    argument = argc > 3 ? argv[3] : NULL;
    for (size_t i = 0; argc > 2 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(cases[i].name, argv[2])) {
            cases[i].run();
            return finish();
        }
    return 2;
}

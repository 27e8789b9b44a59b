// SPDX-License-Identifier: Apache-2.0
/* /dev/xen/evtchn over raw ioctls, as a program on a Xen host finds it. Usage: events DOM OTHER CASE */
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define EVTCHN(number, size) _IOC(_IOC_NONE, 'E', number, size)
#define BIND_VIRQ EVTCHN(0, 4)
#define BIND_INTERDOMAIN EVTCHN(1, 8)
#define BIND_UNBOUND_PORT EVTCHN(2, 4)
#define UNBIND EVTCHN(3, 4)
#define NOTIFY EVTCHN(4, 4)
#define RESET EVTCHN(5, 0)
#define RESTRICT_DOMID EVTCHN(6, 2)
#define DOM_EXC 3

static unsigned dom, other;

static int open_it(int flags)
{
    int fd = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | flags);
    EXPECT(fd >= 0, 1);
    return fd;
}

static int with_number(int fd, unsigned long command, uint32_t number)
{
    int result = ioctl(fd, command, &number);
    return result < 0 ? -errno : result;
}

static int bind_to(int fd, uint32_t remote, uint32_t port)
{
    uint32_t asked[2] = {remote, port};
    int result = ioctl(fd, BIND_INTERDOMAIN, asked);
    return result < 0 ? -errno : result;
}

static int readable(int fd)
{
    struct pollfd wanted = {fd, POLLIN, 0};
    return poll(&wanted, 1, 0) > 0 && wanted.revents & POLLIN;
}

/* The next port that has an event, or -errno. */
static int next(int fd)
{
    uint32_t port;
    ssize_t n = read(fd, &port, sizeof port);
    return n < 0 ? -errno : n == sizeof port ? (int)port : -EPROTO;
}

static int unmask(int fd, uint32_t port)
{
    ssize_t n = write(fd, &port, sizeof port);
    return n < 0 ? -errno : (int)n;
}

/* Two files of domain 0, bound to each other; the second one's first event is taken. */
static void pair(int fds[2], int ports[2])
{
    fds[0] = open_it(O_NONBLOCK);
    fds[1] = open_it(O_NONBLOCK);
    ports[0] = with_number(fds[0], BIND_UNBOUND_PORT, 0);
    EXPECT(ports[0] > 0, 1);
    ports[1] = bind_to(fds[1], 0, (uint32_t)ports[0]);
    EXPECT(ports[1] > 0, 1);
    EXPECT(next(fds[1]), ports[1]);
    EXPECT(unmask(fds[1], (uint32_t)ports[1]), 4);
    EXPECT(next(fds[1]), -EAGAIN);
}

static void masked_until_written(void)
{
    int fds[2], ports[2];
    pair(fds, ports);
    for (int i = 0; i < 3; i++)
        EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(readable(fds[1]), 1);
    EXPECT(readable(fds[0]), 0);
    EXPECT(next(fds[1]), ports[1]);
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(readable(fds[1]), 0); /* masked */
    EXPECT(next(fds[1]), -EAGAIN);
    EXPECT(unmask(fds[1], (uint32_t)ports[1]), 4);
    EXPECT(readable(fds[1]), 1); /* it was pending meanwhile */
    EXPECT(next(fds[1]), ports[1]);
    EXPECT(unmask(fds[1], (uint32_t)ports[1]), 4);
    EXPECT(next(fds[1]), -EAGAIN);
}

static void many_at_once(void)
{
    enum { N = 5 };
    int a = open_it(0), b = open_it(0), theirs[N];
    uint32_t ports[16], seen = 0;
    for (int i = 0; i < N; i++) {
        theirs[i] = with_number(a, BIND_UNBOUND_PORT, 0);
        EXPECT(bind_to(b, 0, (uint32_t)theirs[i]) > 0, 1);
    }
    ssize_t n = read(b, ports, sizeof ports);
    EXPECT(n, 4 * N);
    for (int i = 0; i < n / 4; i++)
        seen |= 1U << ports[i];
    EXPECT(__builtin_popcount(seen), N);
    EXPECT(write(b, ports, (size_t)n + 3), n);
    EXPECT(read(b, ports, 3), 0);
    EXPECT(write(b, ports, 3), 0);
    for (int i = 0; i < N; i++)
        EXPECT(with_number(a, NOTIFY, (uint32_t)theirs[i]), 0);
    EXPECT(read(b, ports, 8), 8);
    EXPECT(read(b, ports, 64), 4 * (N - 2));
}

static void refusals(void)
{
    int fds[2], ports[2];
    pair(fds, ports);
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[1]), -ENOTCONN);
    EXPECT(with_number(fds[0], UNBIND, (uint32_t)ports[1]), -ENOTCONN);
    EXPECT(with_number(fds[0], UNBIND, 4096), -EINVAL);
    EXPECT(with_number(fds[0], NOTIFY, 4096), -ENOTCONN);
    EXPECT(bind_to(fds[0], 0, (uint32_t)ports[0]), -EINVAL);
    EXPECT(bind_to(fds[0], 999, 1), -ESRCH);
    EXPECT(with_number(fds[0], BIND_VIRQ, 99), -EINVAL);
    EXPECT(RESULT(ioctl(fds[0], NOTIFY, NULL)), -EFAULT);
    EXPECT(RESULT(ioctl(fds[0], BIND_INTERDOMAIN, NULL)), -EFAULT);
    EXPECT(RESULT(ioctl(fds[0], EVTCHN(77, 4), NULL)), -ENOSYS);
    EXPECT(RESULT(ioctl(fds[0], RESET)), 0);
    EXPECT(with_number(fds[0], UNBIND, (uint32_t)ports[0]), 0);
    EXPECT(with_number(fds[0], UNBIND, (uint32_t)ports[0]), -ENOTCONN);
    EXPECT(with_number(fds[1], NOTIFY, (uint32_t)ports[1]), 0); /* nobody is there */
}

static void restricted(void)
{
    int fd = open_it(O_NONBLOCK);
    uint16_t zero = 0, this = (uint16_t)dom;
    EXPECT(RESULT(ioctl(fd, RESTRICT_DOMID, &zero)), -EINVAL);
    EXPECT(RESULT(ioctl(fd, RESTRICT_DOMID, &this)), 0);
    EXPECT(RESULT(ioctl(fd, RESTRICT_DOMID, &this)), -EACCES);
    EXPECT(bind_to(fd, other, 1), -EACCES);
    EXPECT(bind_to(fd, dom, 1), -EINVAL); /* there is no such port, but it may ask */
    EXPECT(with_number(fd, BIND_VIRQ, DOM_EXC), -EACCES);
    EXPECT(with_number(fd, BIND_UNBOUND_PORT, dom), -EACCES);
    int free = open_it(O_NONBLOCK);
    EXPECT(with_number(free, BIND_UNBOUND_PORT, dom) > 0, 1);
}

/* A file is given up, and its ports with it, when its last descriptor is closed. */
static void the_last_descriptor(void)
{
    int fds[2], ports[2];
    pair(fds, ports);
    int copy = dup(fds[1]), third = fcntl(fds[1], F_DUPFD_CLOEXEC, 100);
    EXPECT(close(fds[1]), 0);
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(next(copy), ports[1]);
    EXPECT(dup2(fds[0], copy), copy);
    EXPECT(unmask(third, (uint32_t)ports[1]), 4);
    EXPECT(with_number(copy, NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(next(third), ports[1]);
    EXPECT(bind_to(fds[0], 0, (uint32_t)ports[0]), -EINVAL); /* it is bound still */
    EXPECT(close(third), 0);
    /* The broker sees the connection end by itself: soon, and then the port can be bound again. */
    int again;
    do
        again = bind_to(fds[0], 0, (uint32_t)ports[0]);
    while (again == -EINVAL);
    EXPECT(again, ports[1]);
    EXPECT(read(third, ports, 4) < 0 && errno == EBADF, 1);
}

static void a_child_shares_the_file(void)
{
    int fds[2], ports[2];
    pair(fds, ports);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        close(fds[0]);
        fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) & ~O_NONBLOCK);
        EXPECT(next(fds[1]), ports[1]);
        EXPECT(with_number(fds[1], NOTIFY, (uint32_t)ports[1]), 0);
        _exit(finish());
    }
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    int status;
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
    EXPECT(next(fds[0]), ports[0]);
    EXPECT(unmask(fds[1], (uint32_t)ports[1]), 4);
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0); /* the child's end did not take them along */
    EXPECT(next(fds[1]), ports[1]);
}

static void interrupts(void)
{
    int fd = open_it(O_NONBLOCK), second = open_it(0);
    int port = with_number(fd, BIND_VIRQ, DOM_EXC);
    EXPECT(port > 0, 1);
    EXPECT(with_number(fd, BIND_VIRQ, DOM_EXC), -EEXIST);
    EXPECT(with_number(second, BIND_VIRQ, DOM_EXC) > 0, 1); /* another toolstack's */
    EXPECT(next(fd), -EAGAIN);
    EXPECT(with_number(fd, NOTIFY, (uint32_t)port), 0); /* the driver sends, and Xen refuses: nobody learns */
}

static volatile sig_atomic_t ticks;
static int notified_by_tick = -1, port_of_tick;

/* The third one notifies. */
static void on_tick(int number)
{
    (void)number;
    if (++ticks == 3 && notified_by_tick >= 0)
        with_number(notified_by_tick, NOTIFY, (uint32_t)port_of_tick);
}

static void every(int which, long us)
{
    struct itimerval when = {{0, us}, {0, us}};
    EXPECT(setitimer(which, &when, NULL), 0);
}

static void handle(int number, int flags)
{
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = flags};
    EXPECT(sigaction(number, &action, NULL), 0);
}

static void blocking_pair(int fds[2], int ports[2])
{
    pair(fds, ports);
    fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) & ~O_NONBLOCK);
}

/* A handler with SA_RESTART does not end a read that waits, nor does one that was set past us. */
static void a_timer_restarts(void)
{
    int fds[2], ports[2];
    blocking_pair(fds, ports);
    notified_by_tick = fds[0];
    port_of_tick = ports[0];
    handle(SIGALRM, SA_RESTART);
    every(ITIMER_REAL, 2000);
    EXPECT(next(fds[1]), ports[1]);
    EXPECT(ticks >= 3, 1);
    every(ITIMER_REAL, 0);
}

/* A handler without it ends the read, also beside a timer that restarts it; what is blocked does not. */
static void a_signal_interrupts(void)
{
    int fds[2], ports[2];
    sigset_t blocked;
    blocking_pair(fds, ports);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    handle(SIGUSR2, SA_RESTART);
    raise(SIGUSR2);
    handle(SIGALRM, 0);
    every(ITIMER_REAL, 2000);
    EXPECT(next(fds[1]), -EINTR);
    every(ITIMER_REAL, 0);
    handle(SIGALRM, SA_RESTART);
    every(ITIMER_REAL, 1100);
    handle(SIGUSR1, 0);
    pid_t self = getpid(), other_process = fork();
    if (!other_process)
        for (;;)
            if (kill(self, SIGUSR1) || usleep(1300) || getppid() != self)
                _exit(0);
    EXPECT(next(fds[1]), -EINTR);
    every(ITIMER_REAL, 0);
    kill(other_process, SIGKILL);
    int status;
    while (waitpid(other_process, &status, 0) < 0 && errno == EINTR)
        ;
}

/* Waits until a process sleeps: the letter behind its name says so. */
static void until_it_sleeps(pid_t pid)
{
    char path[64], text[512];
    const char *state;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    do {
        FILE *file = fopen(path, "r");
        text[file ? fread(text, 1, sizeof text - 1, file) : 0] = 0;
        if (file)
            fclose(file);
        state = strrchr(text, ')');
    } while (state && state[2] != 'S');
}

/* To be stopped and continued, as a shell and a debugger do it, does not end a read. */
static void stopped_and_continued(void)
{
    int fds[2], ports[2], status;
    blocking_pair(fds, ports);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        EXPECT(next(fds[1]), ports[1]);
        _exit(finish());
    }
    until_it_sleeps(child);
    kill(child, SIGSTOP);
    EXPECT(waitpid(child, &status, WUNTRACED), child);
    EXPECT(WIFSTOPPED(status) != 0, 1);
    kill(child, SIGCONT);
    until_it_sleeps(child);
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(status, 0);
}

/* Who waits when the broker goes is woken; an event that came before is read first. */
static void the_broker_goes(void)
{
    int fds[2], ports[2];
    blocking_pair(fds, ports);
    puts("waiting");
    fflush(NULL);
    EXPECT(next(fds[1]), -ENXIO);
    EXPECT(readable(fds[1]), 1);
    EXPECT(with_number(fds[0], NOTIFY, (uint32_t)ports[0]), 0);
    EXPECT(next(fds[1]), ports[1]);
    EXPECT(next(fds[1]), -ENXIO);
    /* The kernel ends a dead process' connections one by one. */
    int end;
    do
        end = next(fds[0]);
    while (end == -EAGAIN);
    EXPECT(end, -ENXIO);
    EXPECT(with_number(fds[0], BIND_UNBOUND_PORT, 0), -ENXIO);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"masked_until_written", masked_until_written},
    {"many_at_once", many_at_once},
    {"refusals", refusals},
    {"restricted", restricted},
    {"the_last_descriptor", the_last_descriptor},
    {"a_child_shares_the_file", a_child_shares_the_file},
    {"interrupts", interrupts},
    {"a_timer_restarts", a_timer_restarts},
    {"a_signal_interrupts", a_signal_interrupts},
    {"stopped_and_continued", stopped_and_continued},
    {"the_broker_goes", the_broker_goes},
};

int main(int argc, char **argv)
{
    if (argc == 1) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            puts(cases[i].name);
        return 0;
    }
    dom = (unsigned)atoi(argv[1]);
    other = (unsigned)atoi(argv[2]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(cases[i].name, argv[3])) {
            cases[i].run();
            return finish();
        }
    return 2;
}

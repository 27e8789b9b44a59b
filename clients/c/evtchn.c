// SPDX-License-Identifier: Apache-2.0
#include "evtchn.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "client.h"
#include "connection.h"
#include "fds.h"
#include "ioctls.h"
#include "process.h"
#include "say.h"
#include "sharing.h"
#include "syscalls.h"
#include "usermem.h"
#include "waiting.h"

#define EVTCHN_IOCTL(number, size) (('E' << 8) | (number) | ((uint32_t)(size) << 16))
#define BIND_VIRQ EVTCHN_IOCTL(0, 4)
#define BIND_INTERDOMAIN EVTCHN_IOCTL(1, 8)
#define BIND_UNBOUND_PORT EVTCHN_IOCTL(2, 4)
#define UNBIND EVTCHN_IOCTL(3, 4)
#define NOTIFY EVTCHN_IOCTL(4, 4)
#define RESET EVTCHN_IOCTL(5, 0)
#define RESTRICT_DOMID EVTCHN_IOCTL(6, 2)

#define MOST_PORTS 4096
/*
 * Where the eventfds of ports lie that are bound to a file of several processes, by the port: an epoll instance knows a
 * descriptor by its number, so that each process has to have it at the same one.
 */
#define SHARED_FLOOR (1 << 13)
#define MOST_FILES 64
/* Stands for the connection among the ports of an epoll instance. */
#define NO_PORT UINT32_MAX
/* Events taken by one read; the driver gives no more than a page of ports. */
#define BATCH 64

struct port {
    uint32_t number;
    int own;               /* readable when there is an event */
    int remote;            /* written to notify the other end */
    uint8_t times_unbound; /* by any process, before it was bound this time */
};

/* An open file of the device. Its epoll instance holds the marker, and no other does: that tells which file it is. */
struct file {
    int marker; /* -1: there is no such file */
    struct connection connection;
    struct sharing sharing;
    struct port *ports;
    uint32_t n_ports;
};

static struct file files[MOST_FILES] = {[0 ... MOST_FILES - 1] = {.marker = -1, .connection = {.fd = -1}}};
/* Which file each of the program's descriptors should be, as its index + 1. Pages that are never used take no memory. */
static _Atomic uint8_t used_by[FDS_MOST];
/* How many descriptors a file has: it ends with the last one. */
static _Atomic int n_fds[MOST_FILES];
/* One more than the highest descriptor that was ever one of a file. */
static _Atomic unsigned top;
static _Atomic int n_files;

static int control(int epoll, int operation, int fd, uint32_t events, uint32_t port)
{
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)(uint32_t)fd << 32 | port};
    return (int)syscall(SYS_epoll_ctl, epoll, operation, fd, &event);
}

static int expected(int fd)
{
    return fd >= 0 && fd < FDS_MOST ? atomic_load_explicit(&used_by[fd], memory_order_relaxed) - 1 : -1;
}

bool evtchn_expected(int fd)
{
    return expected(fd) >= 0;
}

static bool is_file(int fd, int which)
{
    return which >= 0 && files[which].marker >= 0 && !control(fd, EPOLL_CTL_MOD, files[which].marker, 0, 0);
}

/* The file that a descriptor is, or NULL. Asks for the one that it should be first. Leaves errno alone. */
static struct file *file_of(int fd)
{
    if (fd < 0 || !atomic_load_explicit(&n_files, memory_order_relaxed))
        return NULL;
    int before = errno, which = expected(fd);
    if (!is_file(fd, which)) {
        which = 0;
        while (which < MOST_FILES && !is_file(fd, which))
            which++;
    }
    errno = before;
    return which < MOST_FILES ? &files[which] : NULL;
}

bool evtchn_is(int fd)
{
    return file_of(fd) != NULL;
}

/* Notes which file a descriptor is from now on, as its index + 1; 0: none. Returns the file whose last one it was. */
static int note(unsigned fd, uint8_t which)
{
    unsigned before = atomic_load(&top);
    while (which && before <= fd && !atomic_compare_exchange_weak(&top, &before, fd + 1))
        ;
    if (which)
        atomic_fetch_add(&n_fds[which - 1], 1);
    int was = atomic_exchange(&used_by[fd], which);
    return was && atomic_fetch_sub(&n_fds[was - 1], 1) == 1 ? was : 0;
}

/*
 * A new file, connected to the broker: a program may change its root or its uid before it binds the first port. A thread
 * that waits for its events is woken when the broker hangs up.
 */
static int new_file(int fd)
{
    int i = 0;
    while (i < MOST_FILES && files[i].marker >= 0)
        i++;
    if (i == MOST_FILES)
        return EMFILE;
    struct connection connection;
    int error = client_dial(&connection);
    if (error) {
        say_line("cannot use the broker: %s", say_error_text());
        return error;
    }
    int marker = fds_keep((int)syscall(SYS_eventfd2, 0, EFD_CLOEXEC));
    if (marker < 0 || control(fd, EPOLL_CTL_ADD, marker, 0, 0) ||
        control(fd, EPOLL_CTL_ADD, connection.fd, EPOLLRDHUP, NO_PORT)) {
        error = errno;
        fds_drop(connection.fd);
        fds_drop(marker);
        return error;
    }
    files[i] = (struct file){.marker = marker, .connection = connection};
    if (fd < FDS_MOST)
        note((unsigned)fd, (uint8_t)(i + 1));
    atomic_fetch_add(&n_files, 1);
    return 0;
}

int evtchn_open(int flags)
{
    struct client_hold hold;
    int fd = (int)syscall(SYS_epoll_create1, flags & O_CLOEXEC ? EPOLL_CLOEXEC : 0);
    if (fd < 0)
        return -1;
    if (flags & O_NONBLOCK)
        sys_fcntl(fd, F_SETFL, O_NONBLOCK);
    client_lock(&hold);
    int error = new_file(fd);
    client_unlock(&hold);
    if (!error)
        return fd;
    sys_close(fd);
    errno = error;
    return -1;
}

static struct port *find(const struct file *file, uint32_t number)
{
    for (uint32_t i = 0; i < file->n_ports; i++)
        if (file->ports[i].number == number)
            return &file->ports[i];
    return NULL;
}

static void forget(struct file *file, struct port *port)
{
    fds_drop(port->own);
    fds_drop(port->remote);
    *port = file->ports[--file->n_ports];
}

static void drop(struct file *file)
{
    while (file->n_ports)
        forget(file, file->ports);
    if (file->ports)
        sys_munmap(file->ports, MOST_PORTS * sizeof *file->ports);
    sharing_end(&file->sharing);
    fds_drop(file->connection.fd);
    fds_drop(file->marker);
    *file = (struct file){.marker = -1, .connection = {.fd = -1}};
    atomic_fetch_sub(&n_files, 1);
}

/* Notes which file a descriptor is, and ends the file that it was the last one of. */
static void change(unsigned fd, uint8_t which)
{
    struct client_hold hold;
    int over = note(fd, which);
    if (!over)
        return;
    client_lock(&hold);
    drop(&files[over - 1]);
    client_unlock(&hold);
}

void evtchn_copied(int from, int to)
{
    int which = expected(from) + 1;
    if (which && to >= 0 && to < FDS_MOST && process_is_own())
        change((unsigned)to, (uint8_t)which);
}

void evtchn_closed(unsigned first, unsigned last)
{
    unsigned end = atomic_load_explicit(&top, memory_order_relaxed);
    if (!atomic_load_explicit(&n_files, memory_order_relaxed))
        return;
    for (unsigned fd = first; fd < end && fd <= last; fd++)
        if (evtchn_expected((int)fd) && process_is_own())
            change(fd, 0);
}

void evtchn_before_fork(void)
{
    for (int i = 0; i < MOST_FILES; i++)
        if (files[i].marker >= 0 && !sharing_begin(&files[i].sharing))
            say_line("a file of event channels cannot be shared with a child: there is no memory or descriptor for it");
}

void evtchn_forget(void)
{
    for (int i = 0; i < MOST_FILES; i++) {
        fds_drop(files[i].connection.fd);
        files[i].connection.fd = -1;
    }
}

/* Begins a request on the file's own connection. */
static struct request *begin(struct file *file, const char *method)
{
    return connection_begin(&file->connection, method);
}

/* A broken connection is kept, so that reads fail: the file's ports were ports of the broker that has gone. */
static int call(struct file *file, struct answer *answer)
{
    *answer = ANSWER_NONE;
    int error = -sharing_enter(&file->sharing);
    if (!error) {
        error = connection_call(&file->connection, answer);
        sharing_leave(&file->sharing);
    }
    if (error > 0)
        connection_say_error();
    if (error >= 0)
        return error;
    syscall(SYS_shutdown, file->connection.fd, (long)SHUT_RDWR);
    if (error != -ENXIO)
        say_line("%s; this file of event channels has no ports any more, and no call of it works", say_error_text());
    return -error;
}

/* Adds a port, with the descriptors of an answer. Returns it, or NULL. */
static struct port *add(struct file *file, uint32_t number, struct answer *answer)
{
    if (!file->ports) {
        void *room = sys_mmap_anonymous(MOST_PORTS * sizeof *file->ports);
        file->ports = room == MAP_FAILED ? NULL : room;
    }
    if (!file->ports || answer->fds[1] < 0 || file->n_ports == MOST_PORTS) {
        answer_drop_fds(answer);
        return NULL;
    }
    struct port *port = &file->ports[file->n_ports++];
    int wanted = SHARED_FLOOR + (int)number;
    *port = (struct port){.number = number,
                          .own = file->sharing.page ? fds_keep_from(answer->fds[0], wanted) : fds_keep(answer->fds[0]),
                          .remote = fds_keep(answer->fds[1]),
                          .times_unbound = sharing_times_unbound(&file->sharing, number)};
    if (!file->sharing.page || port->own == wanted)
        return port;
    say_error(ENOMEM, "descriptor %d is needed for port %u of a file that several processes have", wanted, number);
    forget(file, port);
    return NULL;
}

/* Sends the request for a port that was begun, and adds the port to the file. */
static int64_t take(struct file *file, int fd)
{
    struct answer answer;
    int error = call(file, &answer);
    if (error)
        return -error;
    struct port *port = add(file, (uint32_t)mp_find_int(answer.result, "port", 0), &answer);
    if (!port)
        return -ENOMEM;
    if (!control(fd, EPOLL_CTL_ADD, port->own, EPOLLIN | EPOLLONESHOT, port->number))
        return port->number;
    error = errno;
    forget(file, port);
    return -error;
}

/* A port of a file, or NULL. Another process that has the file may have bound it, or unbound it, or both. */
static struct port *port_of(struct file *file, uint32_t number)
{
    struct answer answer;
    struct port *port = find(file, number);
    if (!file->sharing.page || (port && port->times_unbound == sharing_times_unbound(&file->sharing, number)))
        return port;
    if (port)
        forget(file, port);
    request_uint(begin(file, "evtchn.attach"), "port", number);
    return call(file, &answer) ? NULL : add(file, number, &answer);
}

/* Reads the argument of an ioctl that talks to the broker. Returns 0 or a negative errno. */
static int ready(const struct file *file, void *asked, uint64_t argument, size_t size)
{
    return !file ? -EBADF : user_read(asked, argument, size) ? 0 : -EFAULT;
}

static int64_t bind_virq(uint64_t fd, uint64_t argument)
{
    uint32_t virq;
    struct file *file = file_of((int)fd);
    int error = ready(file, &virq, argument, sizeof virq);
    if (error)
        return error;
    request_uint(begin(file, "evtchn.bind_virq"), "virq", virq);
    return take(file, (int)fd);
}

static int64_t bind_unbound_port(uint64_t fd, uint64_t argument)
{
    uint32_t remote;
    struct file *file = file_of((int)fd);
    int error = ready(file, &remote, argument, sizeof remote);
    if (error)
        return error;
    request_uint(begin(file, "evtchn.alloc_unbound"), "remote", (uint16_t)remote);
    return take(file, (int)fd);
}

static int64_t bind_interdomain(uint64_t fd, uint64_t argument)
{
    uint32_t asked[2]; /* a domain and its port */
    struct file *file = file_of((int)fd);
    int error = ready(file, asked, argument, sizeof asked);
    if (error)
        return error;
    struct request *request = begin(file, "evtchn.bind_interdomain");
    request_uint(request, "dom", (uint16_t)asked[0]);
    request_uint(request, "port", asked[1]);
    return take(file, (int)fd);
}

/* Reads the number of a port that the file has. Returns the port, or NULL and a negative errno. */
static struct port *named_port(struct file *file, uint64_t argument, int64_t *error)
{
    uint32_t number;
    *error = -EFAULT;
    if (!user_read(&number, argument, sizeof number))
        return NULL;
    struct port *port = file ? port_of(file, number) : NULL;
    if (!port)
        *error = -say_error(ENOTCONN, "port %u is none of this file's", number);
    return port;
}

static int64_t unbind(uint64_t fd, uint64_t argument)
{
    struct answer answer;
    int64_t error;
    struct file *file = file_of((int)fd);
    uint32_t asked;
    if (user_read(&asked, argument, sizeof asked) && asked >= MOST_PORTS)
        return -say_error(EINVAL, "port %u, and a file has ports below %d", asked, MOST_PORTS);
    struct port *port = named_port(file, argument, &error);
    if (!port)
        return error;
    uint32_t number = port->number;
    control((int)fd, EPOLL_CTL_DEL, port->own, 0, 0); /* other processes may have it too */
    forget(file, port);
    sharing_unbound(&file->sharing, number);
    struct request *request = begin(file, "evtchn.close");
    request_uint(request, "port", number);
    return -call(file, &answer);
}

static int64_t notify(uint64_t fd, uint64_t argument)
{
    static const struct timespec at_once;
    uint64_t one = 1;
    int64_t error;
    const struct port *port = named_port(file_of((int)fd), argument, &error);
    if (!port)
        return error;
    /* Not writable: the count is at its largest, the event is pending anyway, and write would wait without O_NONBLOCK. */
    struct pollfd room = {port->remote, POLLOUT, 0};
    if (syscall(SYS_ppoll, &room, 1L, &at_once, NULL, 0L) == 0)
        return 0;
    return syscall(SYS_write, port->remote, &one, sizeof one) < 0 && errno != EAGAIN ? -errno : 0;
}

static int64_t restrict_domid(uint64_t fd, uint64_t argument)
{
    uint16_t domid;
    struct answer answer;
    struct file *file = file_of((int)fd);
    int error = ready(file, &domid, argument, sizeof domid);
    if (error)
        return error;
    request_uint(begin(file, "evtchn.restrict"), "dom", domid);
    return -call(file, &answer);
}

/* An event is never lost here, so that there is nothing to reset. */
static int64_t reset(uint64_t fd, uint64_t argument)
{
    (void)fd, (void)argument;
    return 0;
}

static const struct ioctls_row rows[] = {
    {BIND_VIRQ, "BIND_VIRQ", bind_virq},
    {BIND_INTERDOMAIN, "BIND_INTERDOMAIN", bind_interdomain},
    {BIND_UNBOUND_PORT, "BIND_UNBOUND_PORT", bind_unbound_port},
    {UNBIND, "UNBIND", unbind},
    {NOTIFY, "NOTIFY", notify},
    {RESET, "RESET", reset},
    {RESTRICT_DOMID, "RESTRICT_DOMID", restrict_domid},
};
static const struct ioctls ioctls = {"evtchn", false, ENOSYS, rows, sizeof rows / sizeof *rows};

int64_t evtchn_ioctl(int fd, uint32_t number, uint64_t argument)
{
    return ioctls_perform(&ioctls, (uint64_t)fd, number, argument);
}

/*
 * Clears an eventfd, and returns whether it was raised. Does not wait: whoever else holds the eventfd can clear its
 * O_NONBLOCK, which RWF_NOWAIT does not look at. An emulator that lacks preadv2 reads it as it is.
 */
static bool take_event(int fd)
{
    uint64_t count;
    struct iovec into = {.iov_base = &count, .iov_len = sizeof count};
    long n = syscall(SYS_preadv2, fd, &into, 1L, -1L, -1L, (long)RWF_NOWAIT);
    if (n < 0 && errno == ENOSYS)
        n = syscall(SYS_read, fd, &count, sizeof count);
    return n == sizeof count;
}

/*
 * Takes the events that epoll reported. Writes the ports that are still bound and whose event no other thread took.
 * Returns how many they are.
 */
static size_t take_events(int fd, const struct epoll_event *events, int n, uint32_t *ports)
{
    struct client_hold hold;
    size_t n_taken = 0;
    client_lock(&hold);
    struct file *file = file_of(fd);
    for (int i = 0; file && i < n; i++) {
        uint32_t number = (uint32_t)events[i].data.u64;
        const struct port *port = number == NO_PORT ? NULL : port_of(file, number);
        if (port && port->own == (int)(events[i].data.u64 >> 32) && take_event(port->own))
            ports[n_taken++] = port->number;
    }
    client_unlock(&hold);
    return n_taken;
}

/* Whether epoll reported that the broker has hung up. */
static bool hung_up(const struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++)
        if ((uint32_t)events[i].data.u64 == NO_PORT)
            return true;
    return false;
}

static int no_events_any_more(void)
{
    static _Atomic bool said;
    if (!atomic_exchange(&said, true))
        say_line("the broker has gone away; no event will come, reading one fails with ENXIO from now on");
    return -ENXIO;
}

ssize_t evtchn_read(int fd, void *data, size_t size)
{
    struct epoll_event events[BATCH];
    uint32_t ports[BATCH];
    int most = size / sizeof *ports < BATCH ? (int)(size / sizeof *ports) : BATCH;
    size_t n_taken = 0;
    bool over = false;
    if (!most)
        return 0;
    while (!n_taken) {
        long n = syscall(SYS_epoll_pwait, fd, events, most, 0, NULL, 0L);
        if (n < 0)
            return -errno;
        n_taken = take_events(fd, events, (int)n, ports);
        if (n_taken)
            break;
        /* Events that came before the broker went are taken first. */
        if (over && hung_up(events, (int)n))
            return no_events_any_more();
        over = hung_up(events, (int)n);
        if (n)
            continue;
        if (sys_fcntl(fd, F_GETFL, 0) & O_NONBLOCK)
            return -EAGAIN;
        int error = waiting_for(fd);
        if (error)
            return -error;
    }
    size_t taken = n_taken * sizeof *ports;
    return user_write((uint64_t)data, ports, taken) ? (ssize_t)taken : -EFAULT;
}

ssize_t evtchn_write(int fd, const void *data, size_t size)
{
    struct client_hold hold;
    uint32_t ports[1024];
    size &= ~(sizeof *ports - 1);
    if (size > sizeof ports)
        size = sizeof ports;
    if (!user_read(ports, (uint64_t)data, size))
        return -EFAULT;
    client_lock(&hold);
    struct file *file = file_of(fd);
    for (size_t i = 0; file && i < size / sizeof *ports; i++) {
        const struct port *port = port_of(file, ports[i]);
        if (port)
            control(fd, EPOLL_CTL_MOD, port->own, EPOLLIN | EPOLLONESHOT, port->number);
    }
    client_unlock(&hold);
    return (ssize_t)size;
}

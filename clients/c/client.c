// SPDX-License-Identifier: Apache-2.0
#include "client.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "fds.h"
#include "syscalls.h"

#define FDS_MOST 8
#define CHUNK ((size_t)256 * 1024)

struct connection {
    int fd;
    uint32_t msgid;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct connection here = {-1, 0};
static struct connection of_child = {-1, 0};
static pid_t owner;
static bool dead;
static struct mp_out request, answer_bytes;
static size_t consumed;
static struct client_host host = {false, "4.17"};
/* $PRIVCMDD_SAY: "errors" has every refusal said on the standard error, "times" at the end how long was waited. */
static bool say_errors, say_times;
static uint64_t began_ns, waited_ns, n_calls;
static _Thread_local char error_text[256];

const char *client_error_text(void)
{
    return error_text;
}

int client_fail(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
    return error;
}

void client_complain(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int n = snprintf(line, sizeof line, "privcmdd: ");
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, arguments);
    va_end(arguments);
    size_t size = (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
    line[size++] = '\n';
    if (syscall(SYS_write, 2, line, size) < 0)
        return;
}

void client_lock(struct client_hold *hold)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &hold->signals);
    pthread_mutex_lock(&lock);
}

void client_unlock(const struct client_hold *hold)
{
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, &hold->signals, NULL);
}

/* The connection is of no use any more. */
static int gone(const char *why)
{
    fds_drop(here.fd);
    here.fd = -1;
    if (!dead)
        client_complain("%s; every call to Xen fails with ENXIO from now on, what is mapped stays", why);
    dead = true;
    return client_fail(ENXIO, "%s", why);
}

static bool send_all(int fd, const uint8_t *data, size_t size)
{
    while (size) {
        ssize_t n = syscall(SYS_sendto, fd, data, size, MSG_NOSIGNAL, NULL, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* Keeps the first descriptor of a message, closes the others. */
static void take_fds(struct msghdr *message, int *fd)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int came;
            memcpy(&came, CMSG_DATA(c) + i * sizeof(int), sizeof came);
            if (*fd < 0)
                *fd = came;
            else
                sys_close(came);
        }
    }
}

/* Reads some bytes of an answer, and what descriptors come with them. */
static bool receive_some(int socket, int *fd)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(FDS_MOST * sizeof(int))];
    } control;
    struct iovec bytes;
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    if (!mp_reserve(&answer_bytes, CHUNK))
        return false;
    bytes.iov_base = answer_bytes.data + answer_bytes.used;
    bytes.iov_len = CHUNK;
    ssize_t n;
    do
        n = syscall(SYS_recvmsg, socket, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return false;
    take_fds(&message, fd);
    answer_bytes.used += (size_t)n;
    return n > 0 && !(message.msg_flags & MSG_CTRUNC);
}

/* Whether a message answers our request: *in then stands behind the msgid. Anything else is a notification. */
static bool is_answer(struct mp_in *in, uint32_t msgid)
{
    struct mp_value list = mp_next(in), type = mp_next(in), id = mp_next(in);
    return list.type == MP_ARRAY && list.size == 4 && type.type == MP_INT && type.number == 1 && id.type == MP_INT &&
           id.number == msgid;
}

/* Waits for the answer to the last request; *in then stands at its error. */
static bool receive_answer(struct connection *connection, struct mp_in *in, int *fd)
{
    for (;;) {
        const uint8_t *data = answer_bytes.data + consumed;
        long length = mp_length(data, answer_bytes.used - consumed);
        if (length < 0)
            return false;
        if (!length) {
            if (!receive_some(connection->fd, fd))
                return false;
            continue;
        }
        consumed += (size_t)length;
        *in = (struct mp_in){data, data + length};
        if (is_answer(in, connection->msgid))
            return true;
    }
}

/* The errno of an error [errno, text, details]; its text is kept. */
static int error_of(struct mp_in *in, struct mp_in *details)
{
    struct mp_value list = mp_next(in);
    struct mp_value number = mp_next(in), text = mp_next(in);
    *details = *in;
    if (list.type != MP_ARRAY || list.size < 2 || number.type != MP_INT || text.type != MP_STR)
        return client_fail(EIO, "the broker's error cannot be read");
    int size = text.size < sizeof error_text ? (int)text.size : (int)sizeof error_text - 1;
    int error = number.number > 0 && number.number < 4096 ? (int)number.number : EIO;
    return client_fail(error, "%.*s", size, (const char *)text.data);
}

static int call_on(struct connection *connection, struct client_answer *answer)
{
    *answer = (struct client_answer){.fd = -1};
    if (request.failed)
        return client_fail(ENOMEM, "the request is longer than %zu bytes, or there is no memory for it", MP_MOST);
    if (consumed) {
        /* What is left is a notification at most. */
        memmove(answer_bytes.data, answer_bytes.data + consumed, answer_bytes.used - consumed);
        answer_bytes.used -= consumed;
        consumed = 0;
    }
    struct mp_in in;
    if (connection->fd < 0 || !send_all(connection->fd, request.data, request.used) ||
        !receive_answer(connection, &in, &answer->fd)) {
        if (answer->fd >= 0)
            sys_close(answer->fd);
        answer->fd = -1;
        answer_bytes.used = consumed = 0;
        answer_bytes.failed = false;
        return -1;
    }
    struct mp_in at = in;
    if (mp_next(&at).type == MP_NIL) {
        answer->result = at;
        return 0;
    }
    if (answer->fd >= 0)
        sys_close(answer->fd);
    answer->fd = -1;
    return error_of(&in, &answer->result);
}

static struct mp_out *begin_on(struct connection *connection, const char *method, uint32_t n_params)
{
    request.used = 0;
    request.failed = false;
    mp_array(&request, 4);
    mp_uint(&request, 0);
    mp_uint(&request, ++connection->msgid);
    mp_str(&request, method);
    mp_array(&request, 1);
    mp_map(&request, n_params);
    return &request;
}

struct mp_out *client_begin(const char *method, uint32_t n_params)
{
    return begin_on(&here, method, n_params);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int client_call(struct client_answer *answer)
{
    *answer = (struct client_answer){.fd = -1};
    if (dead)
        return client_fail(ENXIO, "the broker is gone, and with it all that this process knew of Xen");
    if (here.fd >= 0 && owner != getpid())
        return gone("this process was made by clone(2) without fork(3), its parent's connection is not its own");
    uint64_t begin = say_times ? now_ns() : 0;
    int error = call_on(&here, answer);
    if (say_times) {
        waited_ns += now_ns() - begin;
        n_calls++;
    }
    if (error > 0 && say_errors)
        client_complain("%s", error_text);
    return error < 0 ? gone("the broker has gone away") : error;
}

__attribute__((constructor)) static void note_wishes(void)
{
    const char *say = getenv("PRIVCMDD_SAY");
    say_errors = say && strstr(say, "errors");
    say_times = say && strstr(say, "times");
    began_ns = say_times ? now_ns() : 0;
}

__attribute__((destructor)) static void report_times(void)
{
    if (n_calls)
        client_complain("%llu calls of the broker took %llu us of %llu us", (unsigned long long)n_calls,
                        (unsigned long long)waited_ns / 1000, (unsigned long long)(now_ns() - began_ns) / 1000);
}

static bool socket_path(char *path, size_t size)
{
    const char *named = getenv("PRIVCMDD_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    int n;
    if (named && *named)
        n = snprintf(path, size, "%s", named);
    else if (runtime && *runtime)
        n = snprintf(path, size, "%s/privcmdd/broker.sock", runtime);
    else
        n = snprintf(path, size, "/run/privcmdd/broker.sock");
    return n > 0 && (size_t)n < size;
}

/* A connected descriptor, or -1 with a text. */
static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!socket_path(address.sun_path, sizeof address.sun_path)) {
        client_fail(ENXIO, "the path of the broker's socket is longer than %zu bytes", sizeof address.sun_path - 1);
        return -1;
    }
    int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || syscall(SYS_connect, fd, &address, sizeof address)) {
        client_fail(ENXIO, "no broker answers at %s: %s", address.sun_path, strerror(errno));
        if (fd >= 0)
            sys_close(fd);
        return -1;
    }
    return fds_keep(fd);
}

static int attach(struct connection *connection, int64_t space)
{
    struct client_answer answer;
    struct mp_out *out = begin_on(connection, "space.attach", 1);
    if (space < 0) {
        mp_str(out, "personality");
        mp_str(out, "linux");
    } else {
        mp_str(out, "space");
        mp_uint(out, (uint64_t)space);
    }
    return call_on(connection, &answer);
}

const struct client_host *client_host(void)
{
    return &host;
}

static void note_host(struct mp_in result)
{
    struct mp_in map, at;
    if (!mp_find(result, "host", &map))
        return;
    if (mp_find(map, "dom0", &at)) {
        struct mp_value dom0 = mp_next(&at);
        host.pvh = dom0.type == MP_STR && dom0.size == 3 && !memcmp(dom0.data, "pvh", 3);
    }
    if (mp_find(map, "xen", &at)) {
        struct mp_value xen = mp_next(&at);
        if (xen.type == MP_STR)
            snprintf(host.xen, sizeof host.xen, "%.*s", (int)xen.size, (const char *)xen.data);
    }
}

/* Says who we are, for logs and reports: the program's name, and what $PRIVCMDD_CLIENT adds to it. */
static int hello(struct connection *connection)
{
    char name[64];
    const char *more = getenv("PRIVCMDD_CLIENT");
    struct client_answer answer;
    snprintf(name, sizeof name, "%s%s%s", program_invocation_short_name, more ? " " : "", more ? more : "");
    for (char *c = name; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    struct mp_out *out = begin_on(connection, "hello", 1);
    mp_str(out, "client");
    mp_str(out, name);
    int error = call_on(connection, &answer);
    if (!error)
        note_host(answer.result);
    return error;
}

int client_connect(void)
{
    if (dead)
        return client_fail(ENXIO, "the broker is gone, and with it all that this process knew of Xen");
    if (here.fd >= 0)
        return 0;
    here.fd = dial();
    if (here.fd < 0) {
        client_complain("%s; start one with `privcmdd serve`, or run the program with `privcmdctl run`", error_text);
        return ENXIO;
    }
    owner = getpid();
    int error = hello(&here);
    if (!error)
        error = attach(&here, -1);
    if (!error)
        return 0;
    if (error < 0)
        client_fail(ENXIO, "the broker hung up");
    client_complain("cannot use the broker: %s", error_text);
    fds_drop(here.fd);
    here.fd = -1;
    return ENXIO;
}

bool client_was_connected(void)
{
    return here.fd >= 0 || dead;
}

void client_before_fork(void)
{
    struct client_answer answer;
    of_child = (struct connection){-1, 0};
    if (here.fd < 0 || owner != getpid())
        return;
    client_begin("space.fork", 0);
    if (client_call(&answer))
        return;
    int64_t space = mp_find_int(answer.result, "space", -1);
    of_child.fd = dial();
    if (space < 0 || (of_child.fd >= 0 && (hello(&of_child) || attach(&of_child, space)))) {
        fds_drop(of_child.fd);
        of_child.fd = -1;
    }
}

void client_after_fork(bool in_child)
{
    if (!in_child) {
        fds_drop(of_child.fd);
        of_child.fd = -1;
        return;
    }
    if (here.fd < 0)
        return;
    fds_drop(here.fd);
    here = of_child;
    of_child.fd = -1;
    owner = getpid();
    dead = here.fd < 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "connection.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fds.h"
#include "patience.h"
#include "say.h"
#include "syscalls.h"
#include "where.h"

/* Descriptors that one message may bring; more are an error. */
#define FDS_AT_ONCE 8
/* As much of an error's text as is kept. */
#define TEXT_MOST 255
#define CHUNK ((size_t)256 * 1024)

static struct request request;
static const char *method_asked; /* of the last request; all callers pass a literal */
static struct mp_out answer_bytes;
static size_t consumed;

int connection_dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!where_path(address.sun_path)) {
        return -say_error(ENXIO, "the path of the broker's socket is longer than %zu bytes",
                          sizeof address.sun_path - 1);
    }
    int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : 0;
    patience_set(fd);
    patience_begin();
    /* EAGAIN: its queue of new connections is full, and was for a tick. */
    while (fd >= 0 && syscall(SYS_connect, fd, &address, sizeof address)) {
        error = errno == EAGAIN ? patience_spent() : errno == EINTR ? 0 : errno;
        if (error)
            break;
    }
    if (!error) {
        where_settled(address.sun_path);
        return fds_keep(fd);
    }
    if (fd >= 0)
        sys_close(fd);
    if (error == ETIMEDOUT || error == EINTR)
        return -error;
    return -say_error(ENXIO, "no broker answers at %s: %s", address.sun_path, strerror(error));
}

/* Whether to try again after a system call on a connection failed: 0, or an errno when the connection is over. */
static int again(void)
{
    if (errno == EINTR)
        return 0;
    return errno == EAGAIN ? patience_spent() : say_error(ENXIO, "the broker has gone away");
}

static int send_all(int fd, const uint8_t *data, size_t size)
{
    while (size) {
        ssize_t n = syscall(SYS_sendto, fd, data, size, MSG_NOSIGNAL, NULL, 0L);
        int error = n < 0 ? again() : 0;
        if (error)
            return error;
        if (n < 0)
            continue;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

/* Keeps as many descriptors of a message as an answer has, and closes the others. */
static void take_fds(struct msghdr *message, int *fds)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int came;
            memcpy(&came, CMSG_DATA(c) + i * sizeof(int), sizeof came);
            int at = 0;
            while (at < ANSWER_FDS && fds[at] >= 0)
                at++;
            if (at < ANSWER_FDS)
                fds[at] = came;
            else
                sys_close(came);
        }
    }
}

/* Reads some bytes of an answer, and the descriptors that come with them. Returns 0 or an errno. */
static int receive_some(int socket, int *fds)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(FDS_AT_ONCE * sizeof(int))];
    } control;
    struct iovec bytes;
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (!mp_reserve(&answer_bytes, CHUNK))
        return say_error(ENXIO, "there is no memory for the broker's answer");
    bytes.iov_base = answer_bytes.data + answer_bytes.used;
    bytes.iov_len = CHUNK;
    ssize_t n;
    while ((n = syscall(SYS_recvmsg, socket, &message, MSG_CMSG_CLOEXEC)) < 0) {
        int error = again();
        if (error)
            return error;
    }
    take_fds(&message, fds);
    answer_bytes.used += (size_t)n;
    if (message.msg_flags & MSG_CTRUNC)
        return say_error(ENXIO, "a descriptor from the broker was lost: the process may have too many open");
    return n ? 0 : say_error(ENXIO, "the broker has gone away");
}

void answer_drop_fds(struct answer *answer)
{
    for (int i = 0; i < ANSWER_FDS; i++) {
        if (answer->fds[i] >= 0)
            sys_close(answer->fds[i]);
        answer->fds[i] = -1;
    }
}

/* Whether a message answers our request: *in then stands behind the msgid. Anything else is a notification. */
static bool is_answer(struct mp_in *in, uint32_t msgid)
{
    struct mp_value list = mp_next(in), type = mp_next(in), id = mp_next(in);
    return list.type == MP_ARRAY && list.size == 4 && type.type == MP_INT && type.number == 1 && id.type == MP_INT &&
           id.number == msgid;
}

/* Waits for the answer to the last request; *in then stands at its error. Returns 0 or an errno. */
static int receive_answer(struct connection *connection, struct mp_in *in, int *fds)
{
    for (;;) {
        size_t came = answer_bytes.used - consumed;
        const uint8_t *data =
            came ? answer_bytes.data + consumed : NULL; /* before the first answer there is no buffer */
        long length = came ? mp_length(data, came) : 0;
        if (length < 0)
            return say_error(ENXIO, "the broker's answer cannot be read");
        if (!length) {
            int error = receive_some(connection->fd, fds);
            if (error)
                return error;
            continue;
        }
        consumed += (size_t)length;
        *in = (struct mp_in){data, data + length};
        if (is_answer(in, connection->msgid))
            return 0;
    }
}

/* The errno of an error [errno, text, details]; its text is kept. */
static int error_of(struct mp_in *in, struct mp_in *details)
{
    struct mp_value list = mp_next(in);
    struct mp_value number = mp_next(in), text = mp_next(in);
    *details = *in;
    if (list.type != MP_ARRAY || list.size < 2 || number.type != MP_INT || text.type != MP_STR)
        return say_error(EIO, "the broker's error cannot be read");
    int size = text.size < TEXT_MOST ? (int)text.size : TEXT_MOST;
    int error = number.number > 0 && number.number < 4096 ? (int)number.number : EIO;
    return say_error(error, "%.*s", size, (const char *)text.data);
}

int connection_call(struct connection *connection, struct answer *answer)
{
    *answer = ANSWER_NONE;
    if (request.out.failed)
        return say_error(ENOMEM, "the request is longer than %zu bytes, or there is no memory for it", MP_MOST);
    if (consumed) {
        /* What is left is at most a notification. */
        memmove(answer_bytes.data, answer_bytes.data + consumed, answer_bytes.used - consumed);
        answer_bytes.used -= consumed;
        consumed = 0;
    }
    struct mp_in in;
    patience_begin();
    int error = connection->fd < 0 ? say_error(ENXIO, "the broker has gone away")
                                   : send_all(connection->fd, request.out.data, request.out.used);
    if (!error)
        error = receive_answer(connection, &in, answer->fds);
    if (error) {
        answer_drop_fds(answer);
        answer_bytes.used = consumed = 0;
        answer_bytes.failed = false;
        return -error;
    }
    struct mp_in at = in;
    if (mp_next(&at).type == MP_NIL) {
        answer->result = at;
        return 0;
    }
    answer_drop_fds(answer);
    return error_of(&in, &answer->result);
}

struct request *connection_begin(struct connection *connection, const char *method)
{
    method_asked = method;
    request_begin(&request, ++connection->msgid, method);
    return &request;
}

void connection_say_error(void)
{
    if (!say_wishes(SAY_ERRORS))
        return;
    const char *text = say_error_text(), *name_end = strchr(text, ':');
    int size = name_end ? (int)(name_end - text) : 0;
    say_line("%.*s: %s%s", size, text, method_asked, text + size);
}

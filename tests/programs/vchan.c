// SPDX-License-Identifier: Apache-2.0
/*
 * Two processes of domain 0 talk over libxenvchan: shared pages (gntalloc, gntdev), event channels, xenstore. Usage:
 * vchan. The server echoes; the client compares, and ends without a goodbye, which the server must notice.
 */
#include <libxenvchan.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xenstore.h>

#define PLACE "/local/domain/0/data/vchan"
#define SOME 100000

extern char **environ;

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int client(void)
{
    static char out[SOME], in[SOME];
    struct libxenvchan *channel = libxenvchan_client_init(NULL, 0, PLACE);
    if (!channel)
        return fail("libxenvchan_client_init");
    channel->blocking = 1;
    for (int i = 0; i < SOME; i++)
        out[i] = (char)(i * 7 + i / 251);
    for (int sent = 0, got = 0; got < SOME;) {
        int size = SOME - sent < 1500 ? SOME - sent : 1500;
        if (libxenvchan_send(channel, out + sent, (size_t)size) != size)
            return fail("libxenvchan_send");
        if (libxenvchan_recv(channel, in + got, (size_t)size) != size)
            return fail("libxenvchan_recv");
        sent += size;
        got += size;
    }
    if (memcmp(in, out, SOME))
        return fail("the echo");
    printf("%d bytes came back\n", SOME);
    fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return client();
    struct xs_handle *xs = xs_open(0);
    if (!xs || !xs_write(xs, XBT_NULL, "/local/domain/0/domid", "0", 1))
        return fail("xenstore");
    struct libxenvchan *channel = libxenvchan_server_init(NULL, 0, PLACE, 2000, 8 * 4096);
    if (!channel)
        return fail("libxenvchan_server_init");
    channel->blocking = 1;
    char *arguments[] = {argv[0], "client", NULL};
    pid_t child;
    if (posix_spawn(&child, argv[0], NULL, NULL, arguments, environ))
        return fail("posix_spawn");
    while (libxenvchan_is_open(channel) == 2)
        libxenvchan_wait(channel);
    static char data[4096];
    int n, status;
    while ((n = libxenvchan_read(channel, data, sizeof data)) > 0)
        if (libxenvchan_send(channel, data, (size_t)n) != n)
            return fail("libxenvchan_send");
    int open = libxenvchan_is_open(channel);
    libxenvchan_close(channel);
    xs_close(xs);
    if (waitpid(child, &status, 0) != child || status)
        return fail("the client");
    printf("the client has gone (%d)\n", open);
    return 0;
}

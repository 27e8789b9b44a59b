// SPDX-License-Identifier: Apache-2.0
/*
 * What the shim reads from its socket: any bytes are the answer, an error, or the end of the connection, with an errno;
 * no descriptor is left, and nothing of one connection is taken for another's.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "../../clients/c/connection.h"
#include "../../clients/c/say.h"

#define MOST ((size_t)60000) /* a socket takes it at once */

/* Looks for what the callers of the client look for. */
static void read_result(struct mp_in result)
{
    static const char *const numbers[] = {"prot", "generation", "page", "port", "space", "ret", "index", "addr"};
    static const char *const bins[] = {"extents", "voids", "errs", "arg"};
    struct mp_in at;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        mp_find_int(result, numbers[i], -1);
    for (size_t i = 0; i < sizeof bins / sizeof *bins; i++) {
        struct mp_value bin = mp_find_bin(result, bins[i]);
        for (uint32_t byte = 0; byte < bin.size; byte++)
            *(volatile const uint8_t *)(bin.data + byte);
    }
    if (mp_find(result, "why", &at))
        mp_next(&at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        abort();
    size_t sent = size < MOST ? size : MOST;
    if (write(pair[1], data, sent) != (ssize_t)sent || shutdown(pair[1], SHUT_WR))
        abort();
    struct connection connection = {.fd = pair[0]};
    for (int error = 0; error >= 0;) { /* requests are answered until the stream ends or is broken */
        struct answer answer;
        connection_begin(&connection, "ping");
        error = connection_call(&connection, &answer);
        if (error > 4095 || (error < 0 && !*say_error_text()) || (error && (answer.fds[0] >= 0 || answer.fds[1] >= 0)))
            abort();
        if (error >= 0)
            read_result(answer.result);
        answer_drop_fds(&answer);
    }
    close(pair[0]);
    close(pair[1]);
    return 0;
}

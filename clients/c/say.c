// SPDX-License-Identifier: Apache-2.0
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "syscalls.h"

static unsigned wishes;
/* The first word of $PRIVCMDD_SAY that is no wish; empty when there is none. */
static char unknown[32];
static _Thread_local char error_text[256];
/* A line has been written since say_begin. */
static _Thread_local bool said;

const char *say_error_text(void)
{
    return error_text;
}

int say_error(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
    return error;
}

void say_line(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int n = snprintf(line, sizeof line, "privcmdd: ");
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, arguments);
    va_end(arguments);
    size_t size = (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
    line[size++] = '\n';
    said = true;
    if (syscall(SYS_write, 2, line, size) < 0)
        return;
}

bool say_wishes(enum say_wish wish)
{
    return wishes & wish;
}

void say_begin(void)
{
    if (!say_wishes(SAY_ERRORS))
        return;
    said = false;
    error_text[0] = 0;
}

/* The name of an errno that is not the broker's, and what it means here. */
static const char *meaning(int error, const char **name)
{
#define MEANS(error, text)                                                                                             \
    case error:                                                                                                        \
        *name = #error;                                                                                                \
        return text
    switch (error) {
        MEANS(EACCES, "the file is not open for that");
        MEANS(E2BIG, "more is asked for than one call may");
        MEANS(EBADF, "there is no such file");
        MEANS(EFAULT, "memory that it names cannot be read, or not be written");
        MEANS(EINVAL, "the device does not take such a call");
        MEANS(EMFILE, "the process has too many files of the device");
        MEANS(ENODEV, "the device cannot do that");
        MEANS(ENOENT, "it is not there");
        MEANS(ENOMEM, "there is no memory, or no mapping, left for it");
        MEANS(ENOSPC, "it is more than there is room for");
        MEANS(ENOTTY, "the device has no such ioctl");
        MEANS(ENOTCONN, "the file has no such port");
        MEANS(ENXIO, "there is no broker");
    default:
        *name = "refused";
        return strerror(error);
    }
#undef MEANS
}

void say_refused(const char *device, const char *call, int error)
{
    if (said || !say_wishes(SAY_ERRORS))
        return;
    static _Thread_local char last[2 * sizeof error_text];
    const char *name, *means = meaning(error, &name);
    char line[sizeof last];
    snprintf(line, sizeof line, "%s: %s of %s: %s", name, call, device, error_text[0] ? error_text : means);
    if (strcmp(line, last))
        say_line("%s", line);
    memcpy(last, line, sizeof last);
}

void say_unknown_wish(void)
{
    if (unknown[0])
        say_line("PRIVCMDD_SAY is '%s', expected errors or times, or both, as errors,times", unknown);
    unknown[0] = 0;
}

__attribute__((constructor)) static void note_wishes(void)
{
    const char *at = getenv("PRIVCMDD_SAY");
    for (size_t size; at && *at; at += size + (at[size] == ',')) {
        size = strcspn(at, ",");
        if (size == strlen("errors") && !memcmp(at, "errors", size))
            wishes |= SAY_ERRORS;
        else if (size == strlen("times") && !memcmp(at, "times", size))
            wishes |= SAY_TIMES;
        else if (size && !unknown[0])
            snprintf(unknown, sizeof unknown, "%.*s", size < sizeof unknown ? (int)size : (int)sizeof unknown - 1, at);
    }
}

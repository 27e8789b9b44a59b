// SPDX-License-Identifier: Apache-2.0
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "syscalls.h"

static unsigned wishes;
static _Thread_local char error_text[256];

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
    if (syscall(SYS_write, 2, line, size) < 0)
        return;
}

bool say_wishes(enum say_wish wish)
{
    return wishes & wish;
}

__attribute__((constructor)) static void note_wishes(void)
{
    const char *say = getenv("PRIVCMDD_SAY");
    if (say && strstr(say, "errors"))
        wishes |= SAY_ERRORS;
    if (say && strstr(say, "times"))
        wishes |= SAY_TIMES;
}

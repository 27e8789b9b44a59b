// SPDX-License-Identifier: Apache-2.0
/*
 * The client's writing of requests. Reads lines, each one step of writing: begin MSGID METHOD, then keys with values
 * (uint KEY N, bool KEY N, str KEY TEXT, uints KEY N N ...), keys alone with values after them (key KEY, then nil, int
 * N, bin HEX, array N, map), "end" at the end of a map, and "done", which prints the bytes, or "failed".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../clients/c/request.h"

#define LINE (1 << 20)
#define DEPTH 8

static struct request request;
static size_t outer[DEPTH];
static unsigned depth;

static bool is(const char *step, const char *name)
{
    return !strcmp(step, name);
}

static void write_bin(const char *digits)
{
    size_t size = strlen(digits) / 2;
    uint8_t *to = mp_bin_room(&request.out, (uint32_t)size);
    for (size_t i = 0; to && i < size; i++) {
        char byte[3] = {digits[2 * i], digits[2 * i + 1], 0};
        to[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
}

static void write_uints(const char *key, char *numbers)
{
    static uint32_t values[1024];
    uint32_t n = 0;
    for (char *number = strtok(numbers, " "); number; number = strtok(NULL, " "))
        values[n++] = (uint32_t)strtoul(number, NULL, 10);
    request_uints(&request, key, values, n);
}

static void done(void)
{
    for (size_t i = 0; !request.out.failed && i < request.out.used; i++)
        printf("%02x", request.out.data[i]);
    printf(request.out.failed ? "failed\n" : "\n");
}

/* One step: its name, a word, and the rest of the line. */
static void step(const char *name, const char *word, char *rest)
{
    if (is(name, "begin"))
        request_begin(&request, (uint32_t)strtoul(word, NULL, 10), rest);
    else if (is(name, "uint"))
        request_uint(&request, word, strtoull(rest, NULL, 10));
    else if (is(name, "bool"))
        request_bool(&request, word, *rest == '1');
    else if (is(name, "str"))
        request_str(&request, word, rest);
    else if (is(name, "uints"))
        write_uints(word, rest);
    else if (is(name, "key"))
        request_key(&request, word);
    else if (is(name, "nil"))
        mp_nil(&request.out);
    else if (is(name, "int"))
        mp_uint(&request.out, strtoull(word, NULL, 10));
    else if (is(name, "bin"))
        write_bin(word);
    else if (is(name, "array"))
        mp_array(&request.out, (uint32_t)strtoul(word, NULL, 10));
    else if (is(name, "map"))
        outer[depth++] = request_map(&request);
    else if (is(name, "end"))
        request_map_end(&request, outer[--depth]);
    else if (is(name, "done"))
        done();
    else
        abort();
}

int main(void)
{
    static char line[LINE];
    while (fgets(line, LINE, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *word = strchr(line, ' ');
        if (word)
            *word++ = 0;
        char *rest = word ? strchr(word, ' ') : NULL;
        if (rest)
            *rest++ = 0;
        step(line, word ? word : "", rest ? rest : line + strlen(line));
    }
    return 0;
}

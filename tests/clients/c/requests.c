// SPDX-License-Identifier: Apache-2.0
/*
 * The client's writing of requests. Reads lines, each one step of writing: begin MSGID METHOD, then keys with values
 * (uint KEY N, bool KEY N, str KEY TEXT, uints KEY N N ..., bin KEY HEX, room KEY HEX, nil KEY HEX, list KEY N), the
 * elements of a list (element HEX, or map and its keys and "end"), and "done", which prints the bytes, or "failed".
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

static uint32_t size_of(const char *digits)
{
    return (uint32_t)(strlen(digits) / 2);
}

/* to: NULL when there is no room. */
static void write_bytes(uint8_t *to, const char *digits)
{
    for (size_t i = 0; to && i < size_of(digits); i++) {
        char byte[3] = {digits[2 * i], digits[2 * i + 1], 0};
        to[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
}

static void write_bin(const char *key, const char *digits)
{
    static uint8_t bytes[LINE];
    write_bytes(bytes, digits);
    request_bin(&request, key, bytes, size_of(digits));
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
    else if (is(name, "bin"))
        write_bin(word, rest);
    else if (is(name, "room"))
        write_bytes(request_bin_room(&request, word, size_of(rest)), rest);
    else if (is(name, "nil")) {
        write_bytes(request_bin_room(&request, word, size_of(rest)), rest);
        request_nil(&request);
    } else if (is(name, "list"))
        request_list(&request, word, (uint32_t)strtoul(rest, NULL, 10));
    else if (is(name, "element"))
        write_bytes(request_list_bin_room(&request, size_of(word)), word);
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

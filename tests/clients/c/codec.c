// SPDX-License-Identifier: Apache-2.0
/*
 * The client's codec. Reads lines of hexadecimal bytes; says for each how long the message is that begins there and
 * what it holds, and writes it anew: "LENGTH DUMP BYTES". Every beginning of it must be too short, wherever it ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../../clients/c/msgpack.h"

#define LINE (1 << 20)

static void hex(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("%02x", data[i]);
}

/* Says what a value holds, and writes it. */
static void dump(struct mp_in *in, struct mp_out *out)
{
    struct mp_value value = mp_next(in);
    switch (value.type) {
    case MP_NIL:
        printf("nil");
        mp_nil(out);
        break;
    case MP_BOOL:
        printf(value.number ? "true" : "false");
        mp_bool(out, value.number);
        break;
    case MP_INT:
        printf("%lld", (long long)value.number);
        if (value.number >= 0)
            mp_uint(out, (uint64_t)value.number);
        break;
    case MP_STR: {
        static char text[8192];
        size_t kept = value.size < sizeof text ? value.size : 0;
        memcpy(text, value.data, kept);
        text[kept] = 0;
        printf("'");
        hex(value.data, value.size);
        mp_str(out, text);
        break;
    }
    case MP_BIN:
        printf("b");
        hex(value.data, value.size);
        mp_bin(out, value.data, value.size);
        break;
    case MP_ARRAY:
        printf("[");
        mp_array(out, value.size);
        for (uint32_t i = 0; i < value.size; i++) {
            printf(" ");
            dump(in, out);
        }
        printf("]");
        break;
    case MP_MAP:
        printf("{");
        mp_map(out, value.size);
        for (uint32_t i = 0; i < 2 * value.size; i++) {
            printf(" ");
            dump(in, out);
        }
        printf("}");
        break;
    default:
        printf("bad");
    }
}

int main(void)
{
    char *line = malloc(LINE);
    while (fgets(line, LINE, stdin)) {
        size_t size = strcspn(line, "\n") / 2;
        /* The bytes end where the page ends: reading one too many is a crash. */
        size_t room = (size + 4095) / 4096 * 4096;
        uint8_t *pages = mmap(NULL, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(pages + room, 4096, PROT_NONE);
        uint8_t *data = pages + room - size;
        for (size_t i = 0; i < size; i++) {
            char digits[3] = {line[2 * i], line[2 * i + 1], 0};
            data[i] = (uint8_t)strtoul(digits, NULL, 16);
        }
        long length = mp_length(data, size);
        printf("%ld ", length);
        for (size_t less = 0; length > 0 && less < (size_t)length; less++)
            if (mp_length(data, less) != 0) {
                printf("a beginning of %zu bytes is taken for a message ", less);
                break;
            }
        if (length > 0) {
            struct mp_in in = {data, data + size};
            struct mp_out out = {0};
            dump(&in, &out);
            printf(" ");
            hex(out.data, out.used);
            munmap(out.data, out.room);
        }
        printf("\n");
        munmap(pages, room + 4096);
    }
    free(line);
    return 0;
}

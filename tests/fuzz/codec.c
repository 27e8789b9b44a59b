// SPDX-License-Identifier: Apache-2.0
/* The codec of the C client: any bytes are a message, its beginning or bad; what is read can be written and read. */
#include <stdlib.h>
#include <sys/mman.h>

#include "fuzz.h"
#include "../../clients/c/msgpack.h"

/* Reads a value with all that is in it, and writes it anew. */
static void copy(struct mp_in *in, struct mp_out *out)
{
    /* Values to come: no recursion, as in the codec itself. */
    for (uint64_t left = 1; left; left--) {
        struct mp_value value = mp_next(in);
        switch (value.type) {
        case MP_NIL:
            mp_nil(out);
            break;
        case MP_BOOL:
            mp_bool(out, value.number);
            break;
        case MP_INT:
            mp_uint(out, value.number < 0 ? 0 : (uint64_t)value.number); /* the client sends no negative numbers */
            break;
        case MP_STR:
        case MP_BIN:
            mp_bin(out, value.data, value.size);
            break;
        case MP_ARRAY:
            mp_array(out, value.size);
            left += value.size;
            break;
        case MP_MAP:
            mp_map(out, value.size);
            left += 2 * (uint64_t)value.size;
            break;
        default:
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    long length = mp_length(data, size);
    if (length < -1 || length > (long)size)
        abort();
    if (length <= 0)
        return 0;
    for (long less = 0; less < length; less += 1 + length / 256)
        if (mp_length(data, (size_t)less) != 0)
            abort();
    struct mp_in in = {data, data + length}, skipped = in, at;
    if (!mp_skip(&skipped) || skipped.at != skipped.end)
        abort();
    mp_find_int(in, "extents", 0);
    mp_find_bin(in, "extents");
    mp_find(in, "", &at);
    struct mp_out out = {0};
    copy(&in, &out);
    if (in.at != in.end || (!out.failed && mp_length(out.data, out.used) != (long)out.used))
        abort();
    munmap(out.data, out.room);
    return 0;
}

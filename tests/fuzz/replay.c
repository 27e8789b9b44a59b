// SPDX-License-Identifier: Apache-2.0
/* Gives a target the files that are named, without a fuzzer: any compiler will do. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file)
            return 1;
        fseek(file, 0, SEEK_END);
        size_t size = (size_t)ftell(file);
        rewind(file);
        /* Of exactly this size: the sanitizer sees a byte too many. */
        uint8_t *data = malloc(size ? size : 1);
        if (!data || fread(data, 1, size, file) != size)
            return 1;
        fclose(file);
        printf("%s\n", argv[i]);
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}

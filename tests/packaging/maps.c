// SPDX-License-Identifier: Apache-2.0
/* A program as a user has one: maps frame 16 of domain 1, writes a word and reads it back. usage: maps */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "../../clients/c/privcmd.h"

int main(void)
{
    int fd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC), error = 0;
    if (fd < 0) {
        perror("/dev/xen/privcmd");
        return 3;
    }
    volatile int *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        perror("mmap");
        return 4;
    }
    uint64_t frame = 16;
    struct privcmd_mmapbatch_v2 batch = {1, 1, (uint64_t)(uintptr_t)at, (uint64_t)(uintptr_t)&frame,
                                         (uint64_t)(uintptr_t)&error};
    if (ioctl(fd, PRIVCMD_MMAPBATCH_V2, &batch) != 0 || error != 0) {
        perror("PRIVCMD_MMAPBATCH_V2");
        return 5;
    }
    *at = 42;
    printf("mapped, and reads %d\n", *at);
    return munmap((void *)(uintptr_t)at, 4096);
}

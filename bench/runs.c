// SPDX-License-Identifier: Apache-2.0
/* Maps page 3 of the domain that was made for it, writes to it, and unmaps it. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

struct batch {
    uint32_t num;
    uint16_t dom;
    uint64_t addr;
    const uint64_t *frames;
    int *errors;
};

#define MMAPBATCH_V2 _IOC(_IOC_NONE, 'P', 4, sizeof(struct batch))

int main(void)
{
    const char *dom = getenv("PRIVCMDD_DOMID");
    uint64_t frame = 3;
    int error = 0, fd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct batch batch = {1, (uint16_t)(dom ? atoi(dom) : 1), (uintptr_t)page, &frame, &error};

    if (page == MAP_FAILED || ioctl(fd, MMAPBATCH_V2, &batch))
        return perror("privcmd"), 1;
    page[0] = 1;
    return munmap(page, 4096);
}

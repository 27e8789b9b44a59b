// SPDX-License-Identifier: Apache-2.0
/* A program as one has it for a Xen host: maps one page of a guest, writes a text into it, or prints the text that is
 * there. It knows nothing of privcmdd. usage: poke DOMID GFN [TEXT] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xenforeignmemory.h>

#define PAGE 4096

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: poke DOMID GFN [TEXT]\n", stderr);
        return 2;
    }
    uint32_t domid = (uint32_t)strtoul(argv[1], NULL, 0);
    xen_pfn_t gfn = strtoul(argv[2], NULL, 0);
    xenforeignmemory_handle *xen = xenforeignmemory_open(NULL, 0);
    char *page = xen ? xenforeignmemory_map(xen, domid, PROT_READ | PROT_WRITE, 1, &gfn, NULL) : NULL;
    if (!page) {
        perror("poke");
        return 1;
    }
    if (argc > 3)
        snprintf(page, PAGE, "%s", argv[3]);
    printf("domain %s, gfn %s: %.*s\n", argv[1], argv[2], PAGE, page);
    xenforeignmemory_unmap(xen, page, 1);
    return xenforeignmemory_close(xen);
}

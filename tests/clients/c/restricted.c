// SPDX-License-Identifier: Apache-2.0
/*
 * xentoolcore_restrict_all, as a device model calls it that gives up its rights. Usage: restricted DOM OTHER REF
 * privcmd and evtchn are restricted to the domain. What has no ioctl for it, libxengnttab's gntdev and libxencall's
 * privcmd, the library puts out of use: it places /dev/null at their descriptors.
 */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xencall.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
#include <xentoolcore.h>

#include "check.h"

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    unsigned dom = (unsigned)atoi(argv[1]), other = (unsigned)atoi(argv[2]), ref = (unsigned)atoi(argv[3]);
    xen_pfn_t frame = 1;
    int error;
    xencall_handle *call = xencall_open(NULL, 0);
    xenforeignmemory_handle *memory = xenforeignmemory_open(NULL, 0);
    xenevtchn_handle *events = xenevtchn_open(NULL, 0);
    xengnttab_handle *gnttab = xengnttab_open(NULL, 0);
    EXPECT(call && memory && events && gnttab, 1);
    const unsigned char *before = xengnttab_map_grant_ref(gnttab, other, ref, PROT_READ);

    EXPECT(RESULT(xentoolcore_restrict_all((domid_t)dom)), 0);

    EXPECT(xenforeignmemory_map(memory, dom, PROT_READ, 1, &frame, &error) != NULL, 1);
    EXPECT(xenforeignmemory_map(memory, other, PROT_READ, 1, &frame, &error) == NULL && errno == EPERM, 1);
    EXPECT(RESULT(xencall2(call, 17, 0, 0)), -ENOTTY);
    EXPECT(RESULT(xenevtchn_bind_unbound_port(events, dom)), -EACCES);
    EXPECT(RESULT(xenevtchn_bind_interdomain(events, other, 1)), -EACCES);
    EXPECT(before && before[0] == 5, 1);
    EXPECT(xengnttab_map_grant_ref(gnttab, dom, ref, PROT_READ) == NULL && errno == ENOTTY, 1);
    _exit(finish());
}

// SPDX-License-Identifier: Apache-2.0
/*
 * Debian's libxengnttab, as a back end uses it. Usage: grants DOM PORT
 * The program is the front end too: it writes the guest's grant table, which a toolstack may map. It ends without
 * unmapping the last grant.
 */
#include <sys/mman.h>
#include <unistd.h>
#include <stdint.h>
#include <xen/grant_table.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>

#include "check.h"

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define MANY 300

static unsigned dom;
static grant_entry_v1_t *table;
static xengnttab_handle *gnttab;

static void give(uint32_t ref, uint32_t gfn, uint16_t flags)
{
    table[ref] = (grant_entry_v1_t){.flags = GTF_permit_access | flags, .frame = gfn};
}

static unsigned in_use(uint32_t ref)
{
    return table[ref].flags & (GTF_reading | GTF_writing);
}

static void maps(void)
{
    unsigned char *at = xengnttab_map_grant_ref(gnttab, dom, 8, RW);
    EXPECT(at && at[0] == 5, 1);
    EXPECT(in_use(8), GTF_reading | GTF_writing);
    uint32_t refs[] = {9, 8};
    unsigned char *two = xengnttab_map_domain_grant_refs(gnttab, 2, dom, refs, PROT_READ);
    EXPECT(two && two[0] == 6 && two[PAGE] == 5, 1);
    EXPECT(touch_write(two, 1), SIGSEGV);
    EXPECT(in_use(9), GTF_reading);
    EXPECT(RESULT(xengnttab_unmap(gnttab, at, 1)), 0);
    EXPECT(touch_read(at), SIGSEGV);
    EXPECT(in_use(8), GTF_reading);
    EXPECT(RESULT(xengnttab_unmap(gnttab, two, 2)), 0);
    EXPECT(in_use(8) | in_use(9), 0);
    EXPECT(xengnttab_map_grant_ref(gnttab, dom, 10, RW) == NULL && errno == EINVAL, 1);
    EXPECT(xengnttab_map_grant_ref(gnttab, dom, 11, PROT_READ) == NULL && errno == EINVAL, 1);
    EXPECT(RESULT(xengnttab_set_max_grants(gnttab, 8)), 0);
}

static void copies(void)
{
    static char own[3 * PAGE], back[64];
    xengnttab_grant_copy_segment_t segments[] = {
        {.source.virt = own + PAGE - 8,
         .dest.foreign = {.ref = 8, .offset = 16, .domid = (uint16_t)dom},
         .len = 64,
         .flags = GNTCOPY_dest_gref},
        {.source.foreign = {.ref = 8, .offset = 16, .domid = (uint16_t)dom},
         .dest.foreign = {.ref = 10, .offset = 0, .domid = (uint16_t)dom},
         .len = 64,
         .flags = GNTCOPY_source_gref | GNTCOPY_dest_gref},
        {.source.foreign = {.ref = 8, .offset = 16, .domid = (uint16_t)dom},
         .dest.virt = back,
         .len = 64,
         .flags = GNTCOPY_source_gref},
    };
    for (unsigned i = 0; i < sizeof own; i++)
        own[i] = (char)(i % 251);
    EXPECT(RESULT(xengnttab_grant_copy(gnttab, 3, segments)), 0);
    EXPECT(segments[0].status, GNTST_okay);
    EXPECT(segments[1].status, GNTST_general_error);
    EXPECT(segments[2].status, GNTST_okay);
    EXPECT(memcmp(back, own + PAGE - 8, sizeof back), 0);
    EXPECT(in_use(8), 0);

    static xengnttab_grant_copy_segment_t many[MANY];
    static unsigned char bytes[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = segments[2];
        many[i].source.foreign.offset = (uint16_t)(16 + i % 64);
        many[i].dest.virt = bytes + i;
        many[i].len = 1;
    }
    EXPECT(RESULT(xengnttab_grant_copy(gnttab, MANY, many)), 0);
    EXPECT(bytes[MANY - 1], (unsigned char)own[PAGE - 8 + (MANY - 1) % 64]);

    segments[0].source.virt = NULL;
    EXPECT(RESULT(xengnttab_grant_copy(gnttab, 1, segments)), -EFAULT);
    segments[2].dest.virt = NULL;
    EXPECT(RESULT(xengnttab_grant_copy(gnttab, 1, segments + 2)), -EFAULT);
    segments[1].len = PAGE;
    EXPECT(RESULT(xengnttab_grant_copy(gnttab, 1, segments + 1)), -EINVAL);
    segments[1].flags = 0;
    EXPECT(RESULT(xengnttab_grant_copy(gnttab, 1, segments + 1)), -EINVAL);
    EXPECT(RESULT(xengnttab_grant_copy(gnttab, 0, NULL)), 0);
}

static void notices(evtchn_port_t port)
{
    unsigned char *at = xengnttab_map_grant_ref_notify(gnttab, dom, 8, RW, 3, (evtchn_port_t)-1);
    EXPECT(at != NULL, 1);
    memset(at, 0xff, 8);
    unsigned char *also = xengnttab_map_grant_ref(gnttab, dom, 8, PROT_READ);
    EXPECT(RESULT(xengnttab_unmap(gnttab, at, 1)), 0);
    EXPECT(also[2] == 0xff && also[3] == 0 && also[4] == 0xff, 1);
    EXPECT(RESULT(xengnttab_unmap(gnttab, also, 1)), 0);
    EXPECT(xengnttab_map_grant_ref_notify(gnttab, dom, 11, PROT_READ, 3, port) == NULL, 1);

    at = xengnttab_map_grant_ref_notify(gnttab, dom, 9, RW, 5, port);
    EXPECT(at != NULL, 1);
    memset(at, 0xee, 8);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    dom = (unsigned)strtoul(argv[1], NULL, 0);
    catch_touches();
    void *shared = NULL;
    xenforeignmemory_handle *memory = xenforeignmemory_open(NULL, 0);
    xenforeignmemory_map_resource(memory, (domid_t)dom, 1 /* grant table */, 0, 0, 1, &shared, RW, 0);
    gnttab = xengnttab_open(NULL, 0);
    xenevtchn_handle *events = xenevtchn_open(NULL, 0);
    EXPECT(shared && gnttab && events, 1);
    if (n_failed)
        return finish();
    table = shared;
    give(8, 5, 0);
    give(9, 6, 0);
    give(10, 5, GTF_readonly);
    xenevtchn_port_or_error_t port = xenevtchn_bind_interdomain(events, dom, (evtchn_port_t)atoi(argv[2]));
    EXPECT(port > 0, 1);
    maps();
    copies();
    notices((evtchn_port_t)port);
    _exit(finish());
}

// SPDX-License-Identifier: Apache-2.0
/*
 * A correct program, as a checker is to find it: it reads nothing but what a call of Xen's libraries has set, out of
 * variables that it has not set itself. usage: correct [wait]: says its pid, waits for an event, which a byte on its
 * standard input sends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>

#define PAGE 4096
#define BAD 0x7fff0

static uint32_t dom;

static void frames(void)
{
    xenforeignmemory_handle *fm = xenforeignmemory_open(NULL, 0);
    xen_pfn_t asked[3] = {1, 2, BAD};
    int err[3];
    char *at = xenforeignmemory_map(fm, dom, PROT_READ | PROT_WRITE, 3, asked, err);
    for (int i = 0; i < 3; i++)
        if (err[i])
            printf("frame %d: %d\n", i, err[i]);
    at[0] = 1;
    at[PAGE] = at[0];
    xenforeignmemory_unmap(fm, at, 3);
    xenforeignmemory_close(fm);
}

static void hypercalls(void)
{
    xc_interface *xc = xc_interface_open(NULL, NULL, 0);
    xc_domaininfo_t domains[2];
    xc_physinfo_t machine = {0};
    xen_capabilities_info_t text;
    xen_pfn_t last;
    uint64_t store;
    if (xc_domain_getinfolist(xc, dom, 2, domains) == 1 && domains[0].domain == dom)
        printf("%lu pages\n", (unsigned long)domains[0].tot_pages);
    if (!xc_physinfo(xc, &machine) && machine.total_pages)
        puts("a machine");
    if (xc_version(xc, XENVER_capabilities, &text) == 0 && text[0] == 'x')
        puts("capabilities");
    if (!xc_domain_maximum_gpfn(xc, dom, &last) && last)
        puts("a last frame");
    if (!xc_hvm_param_get(xc, dom, HVM_PARAM_STORE_PFN, &store) && !store)
        puts("no store");
    xc_interface_close(xc);
}

static void events(void)
{
    xenevtchn_handle *xe = xenevtchn_open(NULL, 0);
    int offered = xenevtchn_bind_unbound_port(xe, 0), bound = xenevtchn_bind_interdomain(xe, 0, (uint32_t)offered);
    int port = xenevtchn_pending(xe);
    if (port == bound)
        puts("an event");
    xenevtchn_unmask(xe, (uint32_t)port);
    xenevtchn_close(xe);
}

static int wait_for_one(void)
{
    char byte;
    xenevtchn_handle *xe = xenevtchn_open(NULL, 0);
    int offered = xenevtchn_bind_unbound_port(xe, 0), bound = xenevtchn_bind_interdomain(xe, 0, (uint32_t)offered);
    xenevtchn_unmask(xe, (uint32_t)xenevtchn_pending(xe));
    printf("%d\n", (int)getpid());
    fflush(stdout);
    if (!fork()) {
        if (read(0, &byte, 1) == 1)
            xenevtchn_notify(xe, offered);
        _exit(0);
    }
    int port = xenevtchn_pending(xe);
    puts(port == bound ? "an event" : strerror(errno));
    return port != bound;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "wait"))
        return wait_for_one();
    dom = 1;
    frames();
    hypercalls();
    events();
    return 0;
}

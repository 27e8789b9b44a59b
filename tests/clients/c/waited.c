// SPDX-License-Identifier: Apache-2.0
/*
 * A parent looks at a guest's grant table after it has waited for a child that was killed while it had a grant mapped.
 * Usage: waited DOM. The grant table is memory that the parent has mapped: to look takes no request.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xen/grant_table.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>

#include "check.h"

#define ROUNDS 10

static unsigned dom;
static volatile grant_entry_v1_t *table;

/* A child that has grant 8 mapped. */
static pid_t holder(void)
{
    int ready[2];
    char byte;
    if (pipe(ready))
        return -1;
    pid_t child = fork();
    if (!child) {
        xengnttab_handle *gnttab = xengnttab_open(NULL, 0);
        if (!xengnttab_map_grant_ref(gnttab, dom, 8, PROT_READ) || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    EXPECT(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static bool waited(int how, pid_t child)
{
    struct rusage usage;
    siginfo_t info;
    switch (how) {
    case 0:
        return wait(NULL) == child;
    case 1:
        return waitpid(child, NULL, 0) == child;
    case 2:
        return wait3(NULL, 0, &usage) == child;
    case 3:
        return wait4(child, NULL, 0, &usage) == child;
    default:
        return !waitid(P_PID, (id_t)child, &info, WEXITED) && info.si_pid == child;
    }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    dom = (unsigned)strtoul(argv[1], NULL, 0);
    void *shared = NULL;
    xenforeignmemory_handle *memory = xenforeignmemory_open(NULL, 0);
    xenforeignmemory_map_resource(memory, (domid_t)dom, 1 /* grant table */, 0, 0, 1, &shared, PROT_READ | PROT_WRITE,
                                  0);
    EXPECT(shared != NULL, 1);
    if (n_failed)
        return finish();
    table = shared;
    table[8].frame = 5;
    table[8].flags = GTF_permit_access;
    for (int round = 0; round < ROUNDS && !n_failed; round++)
        for (int how = 0; how < 5; how++) {
            pid_t child = holder();
            EXPECT(table[8].flags, GTF_permit_access | GTF_reading);
            kill(child, SIGKILL);
            EXPECT(waited(how, child), 1);
            EXPECT(table[8].flags, GTF_permit_access);
        }
    return finish();
}

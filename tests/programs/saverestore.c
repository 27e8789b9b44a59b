// SPDX-License-Identifier: Apache-2.0
// Saves a domain into a file, or restores one from it, through libxenguest as it is:
//
//     saverestore save DOM FILE [live COMMAND]
//     saverestore restore hvm|pvh|pv MAX_PAGES FILE
//
// A live save runs COMMAND between its first round and the next. A restore prints the number of the new domain. Both
// say last how long libxenguest has taken.

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenguest.h>

struct saving {
    xc_interface *xch;
    uint32_t dom;
    const char *command;
    bool commanded;
};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int suspend(void *data)
{
    struct saving *saving = data;

    return xc_domain_shutdown(saving->xch, (int)saving->dom, SHUTDOWN_suspend) == 0;
}

static int log_dirty_of_device_model(uint32_t dom, unsigned enable, void *data)
{
    (void)dom;
    (void)enable;
    (void)data;
    return 0;
}

// Asked before and after each round: the command runs after the first, and what it dirties is the second.
static int policy(struct precopy_stats stats, void *data)
{
    struct saving *saving = data;

    fprintf(stderr, "round %u: %ld dirty\n", stats.iteration, stats.dirty_count);
    if (stats.iteration == 1 && !saving->commanded) {
        saving->commanded = true;
        if (system(saving->command) != 0)
            return XGS_POLICY_ABORT;
    }
    return stats.iteration >= 2 ? XGS_POLICY_STOP_AND_COPY : XGS_POLICY_CONTINUE_PRECOPY;
}

static int save(xc_interface *xch, int argc, char **argv)
{
    struct saving saving = {.xch = xch, .dom = (uint32_t)atoi(argv[2]), .command = argc > 5 ? argv[5] : NULL};
    struct save_callbacks callbacks = {
        .suspend = suspend,
        .switch_qemu_logdirty = log_dirty_of_device_model,
        .precopy_policy = policy,
        .data = &saving,
    };
    int fd = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    double begun;
    int ret;

    if (fd < 0) {
        perror(argv[3]);
        return 1;
    }
    begun = now();
    ret = xc_domain_save(xch, fd, saving.dom, argc > 4 ? XCFLAGS_LIVE : 0, &callbacks, XC_STREAM_PLAIN, -1);
    if (ret)
        perror("xc_domain_save");
    fprintf(stderr, "took %.6f s\n", now() - begun);
    close(fd);
    return ret != 0;
}

static int restore(xc_interface *xch, char **argv)
{
    bool pv = !strcmp(argv[2], "pv"), pvh = !strcmp(argv[2], "pvh");
    struct xen_domctl_createdomain config = {
        .flags = pv ? 0 : XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
        .max_vcpus = 1,
        .max_evtchn_port = -1,
        .max_grant_frames = 32,
        .max_maptrack_frames = 256,
        .grant_opts = XEN_DOMCTL_GRANT_version(1),
        .arch.emulation_flags = pv    ? 0
                                : pvh ? XEN_X86_EMU_LAPIC
                                      : XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI,
    };
    struct restore_callbacks callbacks = {0};
    unsigned long store, console;
    uint32_t dom = 0;
    double begun;
    int fd = open(argv[4], O_RDONLY);

    if (fd < 0) {
        perror(argv[4]);
        return 1;
    }
    if (xc_domain_create(xch, &dom, &config) || xc_domain_max_vcpus(xch, dom, 1) ||
        xc_domain_setmaxmem(xch, dom, (uint64_t)atoi(argv[3]) << 2)) {
        perror("a new domain");
        return 1;
    }
    begun = now();
    if (xc_domain_restore(xch, fd, dom, 0, &store, 0, 0, &console, 0, XC_STREAM_PLAIN, &callbacks, -1)) {
        perror("xc_domain_restore");
        return 1;
    }
    fprintf(stderr, "took %.6f s\n", now() - begun);
    close(fd);
    printf("%u\n", dom);
    return 0;
}

int main(int argc, char **argv)
{
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);
    int ret;

    if (!xch || argc < 4) {
        fprintf(stderr, "usage: saverestore save DOM FILE [live COMMAND] | restore hvm|pvh|pv MAX_PAGES FILE\n");
        return 2;
    }
    ret = strcmp(argv[1], "save") ? restore(xch, argv) : save(xch, argc, argv);
    xc_interface_close(xch);
    return ret;
}

// SPDX-License-Identifier: Apache-2.0
#include "paths.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "../client.h"
#include "../syscalls.h"
#include "marks.h"
#include "proc.h"

/* The page that the kernel's xenstore client shares with xenstored. There is no such client, so it stays empty. */
static const char ring[4096];
/* Texts that depend on the host that is simulated. */
static const char guest_type[] = "guest_type", major[] = "major", minor[] = "minor", extra[] = "extra",
                  xsd_port[] = "xsd_port";

static const struct {
    const char *path;
    struct xen_path is;
} paths[] = {
    {"/dev/xen/privcmd", {DEVICE_PRIVCMD, NULL, NULL}},
    {"/proc/xen/privcmd", {DEVICE_PRIVCMD, NULL, NULL}},
    {"/dev/xen/hypercall", {DEVICE_HYPERCALL, NULL, NULL}},
    {"/dev/xen/gntdev", {DEVICE_GNTDEV, NULL, NULL}},
    {"/dev/xen/gntalloc", {DEVICE_GNTALLOC, NULL, NULL}},
    {"/dev/xen/evtchn", {DEVICE_EVTCHN, NULL, NULL}},
    {"/proc/xen/capabilities", {DEVICE_NONE, "control_d\n", NULL}},
    {"/proc/xen/xsd_port", {DEVICE_NONE, xsd_port, NULL}},
    {"/proc/xen/xsd_kva", {DEVICE_NONE, ring, NULL}},
    {"/sys/hypervisor/type", {DEVICE_NONE, "xen\n", NULL}},
    {"/sys/hypervisor/guest_type", {DEVICE_NONE, guest_type, NULL}},
    {"/sys/hypervisor/uuid", {DEVICE_NONE, "00000000-0000-0000-0000-000000000000\n", NULL}},
    {"/sys/hypervisor/version/major", {DEVICE_NONE, major, NULL}},
    {"/sys/hypervisor/version/minor", {DEVICE_NONE, minor, NULL}},
    {"/sys/hypervisor/version/extra", {DEVICE_NONE, extra, NULL}},
    {"/proc/self/mem", {DEVICE_NONE, NULL, "/proc/self/mem"}},
    {"/proc/self/pagemap", {DEVICE_NONE, NULL, "/proc/self/pagemap"}},
};

static uid_t owner;

__attribute__((constructor)) static void remember_owner(void)
{
    owner = geteuid();
}

bool paths_find(const char *path, struct xen_path *found)
{
    if (!path || path[0] != '/')
        return false;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (!strcmp(path, paths[i].path)) {
            *found = paths[i].is;
            return true;
        }
    return false;
}

/* A port at which domain 0's kernel waits for its xenstored: a new port for each xenstored, as there may be several. */
static int64_t kernel_port(void)
{
    struct answer answer;
    struct request *request = client_begin("evtchn.alloc_unbound");
    request_uint(request, "remote", 0);
    if (client_call(&answer))
        return 0;
    answer_drop_fds(&answer);
    return mp_find_int(answer.result, "port", 0);
}

/* The text of a file, and its length; NULL when it depends on the broker and there is none. */
static const char *content(const char *text, char *room, size_t size, size_t *length)
{
    *length = sizeof ring;
    if (text == ring)
        return text;
    if (text == guest_type || text == major || text == minor || text == extra || text == xsd_port) {
        struct client_hold hold;
        client_lock(&hold);
        int error = client_connect();
        const struct client_host *host = client_host();
        const char *dot = strchr(host->xen, '.');
        if (text == guest_type)
            snprintf(room, size, "%s\n", host->pvh ? "PVH" : "PV");
        else if (text == xsd_port)
            snprintf(room, size, "%lld\n", error ? 0LL : (long long)kernel_port());
        else if (text == major)
            snprintf(room, size, "%.*s\n", dot ? (int)(dot - host->xen) : 4, host->xen);
        else if (text == minor)
            snprintf(room, size, "%s\n", dot ? dot + 1 : "0");
        else
            snprintf(room, size, "%s\n", strcmp(host->xen, "4.17") ? ".0" : ".7");
        client_unlock(&hold);
        text = error ? NULL : room;
    }
    *length = text ? strlen(text) : 0;
    return text;
}

static int open_text(const char *text, int flags)
{
    char room[64];
    size_t length;
    if (text != ring && (flags & O_ACCMODE) != O_RDONLY) {
        errno = EACCES;
        return -1;
    }
    text = content(text, room, sizeof room, &length);
    if (!text) {
        errno = ENOENT;
        return -1;
    }
    int made = sys_memfd("privcmdd.text", MFD_CLOEXEC);
    if (made < 0)
        return -1;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", made);
    int fd = -1;
    if (syscall(SYS_write, made, text, length) >= 0)
        fd = sys_open(path, flags & (O_ACCMODE | O_CLOEXEC | O_NONBLOCK));
    int error = errno;
    sys_close(made);
    errno = error;
    return fd;
}

int paths_open(const struct xen_path *found, int flags)
{
    if (found->proc)
        return proc_open(found->proc, flags);
    if (found->text)
        return open_text(found->text, flags);
    /* Only their owner may open the devices (mode 0600): a process that has changed its uid cannot any more. */
    if (geteuid() != owner && geteuid() != 0) {
        errno = EACCES;
        return -1;
    }
    struct client_hold hold;
    client_lock(&hold);
    int error = client_connect();
    client_unlock(&hold);
    if (error) {
        errno = error;
        return -1;
    }
    int fd = device_open(found->device, flags);
    marks_add_device(fd);
    return fd;
}

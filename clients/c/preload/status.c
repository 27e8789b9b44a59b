// SPDX-License-Identifier: Apache-2.0
/* access, stat and their relatives, at the paths of a Xen host. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../syscalls.h"
#include "next.h"
#include "paths.h"

#undef stat
#undef lstat
#undef fstatat
#undef stat64
#undef lstat64
#undef fstatat64

DECLARE_NEXT(access);
DECLARE_NEXT(faccessat);
DECLARE_NEXT(statx);

/* Whether a path is one that only we provide: the files of /proc exist without us. */
static bool ours(const char *path, struct xen_path *found)
{
    return paths_find(path, found) && !found->proc;
}

/* access(2) to a file that we provide: no file may be executed, and no text may be written to. */
static int allowed(const struct xen_path *found, int mode)
{
    if (mode & X_OK || (found->text && mode & W_OK)) {
        errno = EACCES;
        return -1;
    }
    return 0;
}

EXPORT int access(const char *path, int mode)
{
    struct xen_path found;
    return ours(path, &found) ? allowed(&found, mode) : NEXT(access)(path, mode);
}

EXPORT int faccessat(int directory, const char *path, int mode, int flags)
{
    struct xen_path found;
    return ours(path, &found) ? allowed(&found, mode) : NEXT(faccessat)(directory, path, mode, flags);
}

static int describe(const struct xen_path *found, struct stat *status)
{
    memset(status, 0, sizeof *status);
    status->st_mode = found->text ? S_IFREG | 0444 : S_IFCHR | 0600;
    status->st_uid = geteuid();
    status->st_nlink = 1;
    status->st_blksize = 4096;
    return 0;
}

EXPORT int fstatat(int directory, const char *restrict path, struct stat *restrict status, int flags)
{
    struct xen_path found;
    if (ours(path, &found))
        return describe(&found, status);
    return (int)syscall(SYS_newfstatat, directory, path, status, flags);
}

EXPORT int stat(const char *restrict path, struct stat *restrict status)
{
    return fstatat(AT_FDCWD, path, status, 0);
}

EXPORT int lstat(const char *restrict path, struct stat *restrict status)
{
    return fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}

/* The same structure, where off_t has 64 bits anyway. */

EXPORT int fstatat64(int directory, const char *restrict path, struct stat64 *restrict status, int flags)
{
    return fstatat(directory, path, (struct stat *)status, flags);
}

EXPORT int stat64(const char *restrict path, struct stat64 *restrict status)
{
    return fstatat(AT_FDCWD, path, (struct stat *)status, 0);
}

EXPORT int lstat64(const char *restrict path, struct stat64 *restrict status)
{
    return fstatat(AT_FDCWD, path, (struct stat *)status, AT_SYMLINK_NOFOLLOW);
}

EXPORT int statx(int directory, const char *restrict path, int flags, unsigned mask, struct statx *restrict status)
{
    struct xen_path found;
    struct stat plain;
    if (!ours(path, &found))
        return NEXT(statx)(directory, path, flags, mask, status);
    describe(&found, &plain);
    memset(status, 0, sizeof *status);
    status->stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID;
    status->stx_mode = (uint16_t)plain.st_mode;
    status->stx_uid = plain.st_uid;
    status->stx_nlink = 1;
    status->stx_blksize = 4096;
    return 0;
}

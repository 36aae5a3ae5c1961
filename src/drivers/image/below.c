/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the stack of layers.  It is walked by descriptors that follow no link, so that what a layer
 * holds leads nowhere else; no mount is needed, which a store on some file systems could not have.
 */
#include "drivers/image/below.h"

#include <fcntl.h>
#include <sys/xattr.h>

#include "os/file.h"

#define OPAQUE "trusted.overlay.opaque"

enum { NAME_BYTES = 256, PROC_PATH = 64, XATTR_BYTES = 65536 };

bool below_is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static void proc_path(int fd, char out[PROC_PATH])
{
    snprintf(out, PROC_PATH, "/proc/self/fd/%d", fd);
}

int below_is_hidden(int fd, struct err *e)
{
    char proc[PROC_PATH], value = 0;

    proc_path(fd, proc);
    ssize_t n = getxattr(proc, OPAQUE, &value, 1);
    if (n < 0 && errno != ENODATA && errno != EOPNOTSUPP && errno != ERANGE /* no "y" */)
        return err_sys(e, errno, "look for the mark of an opaque folder");
    return n == 1 && value == 'y';
}

int below_hide(int fd, struct err *e)
{
    char proc[PROC_PATH];

    proc_path(fd, proc);
    return setxattr(proc, OPAQUE, "y", 1, 0) < 0 ? err_sys(e, errno, "mark an opaque folder") : 0;
}

/* ---- looking ---- */

enum found {
    BROKEN = -1, /* it cannot be told */
    FOUND,
    ABSENT,
    HIDDEN, /* by what this layer has: so it is in all */
};

static enum found look(int layer, const char *path, int *out, struct stat *st, struct err *e)
{
    _cleanup_close_ int fd = openat(layer, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    enum found none = ABSENT;

    if (fd < 0 || fstat(fd, st) < 0)
        return (enum found)err_sys(e, errno, "open a layer");
    while (*path) {
        char name[NAME_BYTES];
        size_t n = strcspn(path, "/");
        if (n >= sizeof(name) || !S_ISDIR(st->st_mode))
            return HIDDEN;
        int hidden = below_is_hidden(fd, e);
        if (hidden < 0)
            return BROKEN;
        if (hidden)
            none = HIDDEN;
        memcpy(name, path, n);
        name[n] = '\0';
        int next = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0 && (errno == ENOENT || errno == ENAMETOOLONG))
            return none;
        if (next < 0)
            return (enum found)err_sys(e, errno, "open a file of a layer");
        close(fd);
        fd = next;
        if (fstat(fd, st) < 0)
            return (enum found)err_sys(e, errno, "stat a file of a layer");
        if (below_is_whiteout(st))
            return HIDDEN;
        path += n + (path[n] == '/');
    }
    *out = TAKE_FD(fd);
    return FOUND;
}

int below_open(const struct below *b, const char *path, int *fd, struct stat *st, struct err *e)
{
    enum found found = ABSENT;

    *fd = -1;
    for (size_t i = 0; i < b->n && found == ABSENT; i++)
        found = look(b->layers[i], path, fd, st, e);
    return found == BROKEN ? -1 : 0;
}

/* ---- copying ---- */

bool below_xattr_ok(const char *name)
{
    return strcmp(name, "security.capability") == 0 || strncmp(name, "user.", 5) == 0;
}

static int copy_xattrs(int from, int to, struct err *e)
{
    char proc[PROC_PATH], *names = malloc(XATTR_BYTES), *value = malloc(XATTR_BYTES);
    int result = 0;

    if (!names || !value)
        abort();
    proc_path(from, proc);
    ssize_t n = listxattr(proc, names, XATTR_BYTES);
    if (n < 0 && errno != EOPNOTSUPP)
        result = err_sys(e, errno, "list what a file of a layer has");
    for (const char *name = names; n > 0 && name < names + n; name += strlen(name) + 1) {
        if (!below_xattr_ok(name))
            continue;
        ssize_t size = getxattr(proc, name, value, XATTR_BYTES);
        if (size < 0 || fsetxattr(to, name, value, (size_t)size, 0) < 0)
            result = err_sys(e, errno, "copy %.60s of a layer", name);
    }
    free(names);
    free(value);
    return result;
}

int below_copy_attributes(int from, const struct stat *st, int to, struct err *e)
{
    const struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };

    /* Owner first: a change of it takes rights away. */
    if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0)
        return err_sys(e, errno, "give a file of a layer its owner and mode");
    TRY(copy_xattrs(from, to, e));
    return futimens(to, t) < 0 ? err_sys(e, errno, "give a file of a layer its time") : 0;
}

static int copy_link(int fd, const struct stat *st, int dir, const char *name, struct err *e)
{
    const struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };
    char target[4097];
    ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);

    if (n < 0)
        return err_sys(e, errno, "read a link of a layer");
    target[n] = '\0';
    if (symlinkat(target, dir, name) < 0 ||
        fchownat(dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        utimensat(dir, name, t, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "copy a link of a layer");
    return 0;
}

int below_copy(int fd, const struct stat *st, int dir, const char *name, struct err *e)
{
    char proc[PROC_PATH];

    if (S_ISLNK(st->st_mode))
        return copy_link(fd, st, dir, name, e);
    if (S_ISFIFO(st->st_mode) && mkfifoat(dir, name, 0600) < 0)
        return err_sys(e, errno, "copy a pipe of a layer");
    proc_path(fd, proc);
    int flags = S_ISFIFO(st->st_mode) ? O_RDWR | O_NONBLOCK : O_WRONLY | O_CREAT | O_EXCL;
    _cleanup_close_ int to = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
    _cleanup_close_ int in = S_ISREG(st->st_mode) ? open(proc, O_RDONLY | O_CLOEXEC) : -1;
    if (to < 0 || (in < 0 && S_ISREG(st->st_mode)))
        return err_sys(e, errno, "copy a file of a layer");
    if (in >= 0)
        TRY(fd_copy_all(in, to, e));
    return below_copy_attributes(fd, st, to, e);
}

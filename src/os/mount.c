/* SPDX-License-Identifier: Apache-2.0 */
/* Hides which of the kernel's two mount interfaces is used: the descriptors of Linux 5.2 and later,
 * by raw system calls, for Debian 12's C library has them but not every flag.  An id map is a user
 * namespace whose only process has ended: the namespace lives by its descriptor. */
#include "os/mount.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- ids ---- */

static int write_map(pid_t pid, const char *file, uint32_t first, uint32_t count, struct err *e)
{
    char path[64], text[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    int n = snprintf(text, sizeof(text), "0 %u %u\n", first, count);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)n) != n)
        return err_sys(e, errno, "write %s", path);
    return 0;
}

int mount_userns(uint32_t first, uint32_t count, struct err *e)
{
    int gate[2];
    char path[64];

    if (pipe2(gate, O_CLOEXEC) < 0)
        return err_sys(e, errno, "pipe");
    /* Without CLONE_VM this is a fork; the child only waits until it is killed. */
    pid_t pid =
        (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_NEWUSER | SIGCHLD), NULL, NULL, NULL, NULL);
    if (pid == 0) {
        char c;
        close(gate[1]);
        while (read(gate[0], &c, 1) < 0 && errno == EINTR)
            continue;
        _exit(0);
    }
    int saved = errno;
    close(gate[0]);
    if (pid < 0) {
        close(gate[1]);
        return err_sys(e, saved, "clone a user namespace");
    }
    int fd = -1;
    if (write_map(pid, "uid_map", first, count, e) == 0 &&
        write_map(pid, "gid_map", first, count, e) == 0) {
        snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            err_sys(e, errno, "open %s", path);
    }
    close(gate[1]);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return fd;
}

/* ---- making ---- */

int mount_clone(const char *path, bool recursive, struct err *e)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0u);
    int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, flags);

    return fd < 0 ? err_sys(e, errno, "clone the mount of %s", path) : fd;
}

/* The kernel says in words, read from the context, why it refused. */
static int context_fails(int fs, int errnum, const char *what, struct err *e)
{
    char text[160];
    ssize_t n = read(fs, text, sizeof(text) - 1);

    if (n > 0 && text[n - 1] == '\n')
        n--;
    text[n > 0 ? n : 0] = '\0';
    return err_sys(e, errnum, "%s: %s", what, text);
}

static int set_string(int fs, const char *key, const char *value, struct err *e)
{
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) < 0)
        return context_fails(fs, errno, key, e);
    return 0;
}

static int set_flag(int fs, const char *key, struct err *e)
{
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, key, NULL, 0) < 0)
        return context_fails(fs, errno, key, e);
    return 0;
}

static int create(int fs, const char *kind, struct err *e)
{
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return context_fails(fs, errno, kind, e);
    int fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0u);
    return fd < 0 ? context_fails(fs, errno, kind, e) : fd;
}

static int context_open(const char *kind, struct err *e)
{
    int fs = (int)syscall(SYS_fsopen, kind, FSOPEN_CLOEXEC);

    return fs < 0 ? err_sys(e, errno, "fsopen %s", kind) : fs;
}

/* Linux 6.5 takes one layer at a time, by "lowerdir+". */
static int overlay_lower(int fs, const int *lower, size_t n, struct err *e)
{
    char path[64];

    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", lower[i]);
        if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir+", path, 0) < 0)
            return i == 0 && errno == EINVAL ? 1 : context_fails(fs, errno, "lowerdir+", e);
    }
    return 0;
}

/* Before it, all stand in one text (at most 255 bytes). */
static int overlay_lower_old(int fs, const int *lower, size_t n, struct err *e)
{
    char text[256];
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        int w =
            snprintf(text + at, sizeof(text) - at, "%s/proc/self/fd/%d", i ? ":" : "", lower[i]);
        at += (size_t)w;
        if (at >= sizeof(text))
            return err_set(e, ERR_NOT_IMPLEMENTED,
                           "this kernel takes no more than %zu layers; Linux 6.5 takes all", i);
    }
    return set_string(fs, "lowerdir", text, e);
}

int mount_overlay(const int *lower, size_t n, const char *upper, const char *work, struct err *e)
{
    if (n == 0 || n > 500)
        return err_set(e, ERR_INVALID, "an overlay has 1 to 500 layers");
    _cleanup_close_ int fs = context_open("overlay", e);
    TRY(fs);
    int old = overlay_lower(fs, lower, n, e);
    if (old < 0 || (old > 0 && overlay_lower_old(fs, lower, n, e) < 0))
        return -1;
    if (upper) {
        TRY(set_string(fs, "upperdir", upper, e));
        TRY(set_string(fs, "workdir", work, e));
    }
    return create(fs, "overlay", e);
}

int mount_new(const char *kind, const char *options, struct err *e)
{
    char text[512];
    _cleanup_close_ int fs = context_open(kind, e);

    TRY(fs);
    if (options && strlen(options) >= sizeof(text))
        return err_set(e, ERR_INVALID, "mount options are too long");
    snprintf(text, sizeof(text), "%s", options ? options : "");
    for (char *at = text, *one; (one = strsep(&at, ","));) {
        char *value = strchr(one, '=');
        if (!*one)
            continue;
        if (value)
            *value++ = '\0';
        TRY(value ? set_string(fs, one, value, e) : set_flag(fs, one, e));
    }
    return create(fs, kind, e);
}

/* ---- preparing ---- */

int mount_idmap(int mount_fd, int userns_fd, struct err *e)
{
    struct mount_attr a = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)userns_fd };

    if (syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH, &a, sizeof(a)) == 0)
        return 0;
    if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)
        return err_cause(e, ERR_NOT_IMPLEMENTED, strerror(errno),
                         "this file system has no idmapped mounts");
    return err_sys(e, errno, "mount_setattr idmap");
}

int mount_set(int mount_fd, unsigned flags, bool recursive, struct err *e)
{
    struct mount_attr a = {
        .attr_set = (flags & MOUNT_READ_ONLY ? (uint64_t)MOUNT_ATTR_RDONLY : 0) |
                    (flags & MOUNT_NO_SUID ? (uint64_t)MOUNT_ATTR_NOSUID : 0) |
                    (flags & MOUNT_NO_DEV ? (uint64_t)MOUNT_ATTR_NODEV : 0) |
                    (flags & MOUNT_NO_EXEC ? (uint64_t)MOUNT_ATTR_NOEXEC : 0),
        .propagation = flags & MOUNT_PRIVATE ? (uint64_t)MS_PRIVATE : 0,
    };
    unsigned at = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0u);

    if (syscall(SYS_mount_setattr, mount_fd, "", at, &a, sizeof(a)) < 0)
        return err_sys(e, errno, "mount_setattr");
    return 0;
}

/* ---- placing ---- */

int mount_place(int mount_fd, int dir_fd, const char *path, struct err *e)
{
    if (syscall(SYS_move_mount, mount_fd, "", dir_fd, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_sys(e, errno, "move_mount to %s", path);
    return 0;
}

int mount_bind(const char *from, const char *to, unsigned flags, struct err *e)
{
    _cleanup_close_ int fd = mount_clone(from, false, e);

    TRY(fd);
    if (flags)
        TRY(mount_set(fd, flags, false, e));
    return mount_place(fd, AT_FDCWD, to, e);
}

int mount_remove(const char *path, struct err *e)
{
    for (int i = 0; i < 64; i++)
        if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return errno == EINVAL || errno == ENOENT ? 0 : err_sys(e, errno, "umount %s", path);
    return err_set(e, ERR_INTERNAL, "too much is mounted at %s", path);
}

bool mount_is(const char *path)
{
    struct statx s;

    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &s) < 0)
        return false;
    return (s.stx_attributes_mask & s.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

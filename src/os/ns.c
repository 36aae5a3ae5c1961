/* SPDX-License-Identifier: Apache-2.0 */
/* Hides that a namespace belongs to a thread: whoever calls from here comes back in the one it had.
 * The names are bind mounts of /proc/thread-self/ns/net, as iproute2 makes them, so that people can
 * look in by `ip netns exec`. */
#include "os/ns.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define SELF_NET "/proc/thread-self/ns/net"

static int path_of(const char *name, char out[128], struct err *e)
{
    if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > 100)
        return err_set(e, ERR_INVALID, "no name of a network namespace");
    snprintf(out, 128, NS_DIR "/%s", name);
    return 0;
}

int ns_open(const char *name, struct err *e)
{
    char path[128];
    struct statfs fs;

    TRY(path_of(name, path, e));
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT)
        return err_sys(e, errno, "open %s", path);
    /* A file that is no namespace was left by somebody killed between the file and the mount. */
    if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC)
        return err_set(e, ERR_NOT_FOUND, "there is no network namespace %s", name);
    return TAKE_FD(fd);
}

/* The folder is a shared mount of its own, so that the names are seen in every mount namespace. */
static int folder_ready(struct err *e)
{
    if (mkdir(NS_DIR, 0755) < 0 && errno != EEXIST)
        return err_sys(e, errno, "mkdir " NS_DIR);
    if (mount("", NS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
        return 0;
    if (errno != EINVAL)
        return err_sys(e, errno, "share " NS_DIR);
    if (mount(NS_DIR, NS_DIR, "none", MS_BIND | MS_REC, NULL) < 0 ||
        mount("", NS_DIR, "none", MS_SHARED | MS_REC, NULL) < 0)
        return err_sys(e, errno, "bind " NS_DIR);
    return 0;
}

static int back(int home, int result)
{
    if (setns(home, CLONE_NEWNET) < 0)
        abort();
    return result;
}

static int make_named(void *ctx, struct err *e)
{
    const char *path = ctx;

    if (mount(SELF_NET, path, "none", MS_BIND, NULL) < 0)
        return err_sys(e, errno, "mount %s", path);
    return 0;
}

int ns_anonymous(struct err *e)
{
    _cleanup_close_ int home = open(SELF_NET, O_RDONLY | O_CLOEXEC);

    if (home < 0)
        return err_sys(e, errno, "open " SELF_NET);
    if (unshare(CLONE_NEWNET) < 0)
        return err_sys(e, errno, "unshare a network namespace");
    int fd = open(SELF_NET, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        err_sys(e, errno, "open " SELF_NET);
    return back(home, fd);
}

int ns_make(const char *name, bool *made, struct err *e)
{
    char path[128];
    struct err absent;

    TRY(path_of(name, path, e));
    int fd = ns_open(name, &absent);
    if (fd >= 0) {
        *made = false;
        return fd;
    }
    if (absent.code != ERR_NOT_FOUND) {
        *e = absent;
        return -1;
    }
    TRY(folder_ready(e));
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC | O_CREAT | O_NOFOLLOW, 0444);
    if (file < 0)
        return err_sys(e, errno, "create %s", path);
    _cleanup_close_ int ns = ns_anonymous(e);
    TRY(ns);
    if (ns_call(ns, make_named, path, e) < 0) {
        unlink(path);
        return -1;
    }
    *made = true;
    return TAKE_FD(ns);
}

int ns_remove(const char *name, struct err *e)
{
    char path[128];

    TRY(path_of(name, path, e));
    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
        return err_sys(e, errno, "umount %s", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(e, errno, "unlink %s", path);
    return 0;
}

int ns_list(struct arena *a, const char *prefix, const char ***out, size_t *n, struct err *e)
{
    DIR *d = opendir(NS_DIR);
    const char **names = NULL;
    size_t count = 0, cap = 0;
    struct dirent *f;

    if (!d && errno != ENOENT)
        return err_sys(e, errno, "open " NS_DIR);
    while (d && (f = readdir(d))) {
        if (strncmp(f->d_name, prefix, strlen(prefix)) != 0 || f->d_name[0] == '.')
            continue;
        names = arena_more(a, names, count, &cap, sizeof(*names));
        names[count++] = arena_strdup(a, f->d_name);
    }
    if (d)
        closedir(d);
    *out = names;
    *n = count;
    return 0;
}

int ns_call(int ns_fd, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e)
{
    _cleanup_close_ int home = open(SELF_NET, O_RDONLY | O_CLOEXEC);

    if (home < 0)
        return err_sys(e, errno, "open " SELF_NET);
    if (setns(ns_fd, CLONE_NEWNET) < 0)
        return err_sys(e, errno, "enter a network namespace");
    return back(home, fn(ctx, e));
}

struct socket_call {
    int family, type, protocol, fd;
};

static int socket_inside(void *ctx, struct err *e)
{
    struct socket_call *c = ctx;

    c->fd = socket(c->family, c->type | SOCK_CLOEXEC, c->protocol);
    return c->fd < 0 ? err_sys(e, errno, "socket in a network namespace") : 0;
}

int ns_socket(int ns_fd, int family, int type, int protocol, struct err *e)
{
    struct socket_call c = { family, type, protocol, -1 };

    TRY(ns_call(ns_fd, socket_inside, &c, e));
    return c.fd;
}

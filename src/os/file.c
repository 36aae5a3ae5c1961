/* SPDX-License-Identifier: Apache-2.0 */
/* A file is there whole or not at all: new content is written beside and renamed over.  Removing
 * goes down by descriptors that follow no link and enter no mount, for tenants' trees may hold
 * both. */
#include "os/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { COPY_CHUNK = 1 << 30 };

/* ---- reading and writing */

int fd_write_all(int fd, const void *p, size_t n, struct err *e)
{
    const char *at = p;

    while (n) {
        ssize_t did = write(fd, at, n);

        if (did < 0 && errno == EINTR)
            continue;
        if (did < 0)
            return err_sys(e, errno, "write");
        at += did;
        n -= (size_t)did;
    }
    return 0;
}

int fd_read_all(int fd, void *p, size_t n, struct err *e)
{
    char *at = p;

    while (n) {
        ssize_t did = read(fd, at, n);

        if (did < 0 && errno == EINTR)
            continue;
        if (did < 0)
            return err_sys(e, errno, "read");
        if (did == 0)
            return err_cause(e, ERR_INTERNAL, "unexpected end of file", "internal error");
        at += did;
        n -= (size_t)did;
    }
    return 0;
}

int fd_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* Reads to the end, whatever fstat() said: files of the kernel have size 0. */
static int read_to_end(int fd, struct arena *a, size_t guess, size_t max, const char *path,
                       struct str *out, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(max + 1);

    for (;;) {
        size_t want = MIN(b.n == 0 && guess ? guess + 1 : (size_t)4096, max + 1 - b.n);
        char *at = want ? buf_room(&b, want) : NULL;
        if (!at)
            return err_set(e, ERR_TOO_LARGE, "%s is over %zu bytes", path, max);
        ssize_t n = read(fd, at, want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "read %s", path);
        if (n == 0)
            break;
        buf_grew(&b, (size_t)n);
    }
    *out = (struct str){ arena_dup(a, b.p, b.n), b.n };
    return 0;
}

int file_read(struct arena *a, const char *path, size_t max, struct str *out, struct err *e)
{
    /* Non-blocking, so that a fifo in the file's place cannot hold us. */
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;

    if (fd < 0 && errno == ENOENT)
        return err_cause(e, ERR_NOT_FOUND, strerrordesc_np(ENOENT), "%s does not exist", path);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, errno, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s is no regular file", path);
    if (st.st_size > 0 && (uint64_t)st.st_size > max)
        return err_set(e, ERR_TOO_LARGE, "%s is over %zu bytes", path, max);
    return read_to_end(fd, a, (size_t)st.st_size, max, path, out, e);
}

static int sync_folder_of(const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    char dir[PATH_MAX] = ".";

    if (slash)
        snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_sys(e, errno, "sync %s", dir);
    return 0;
}

static int write_new(const char *path, const void *p, size_t n, unsigned mode, bool sync,
                     struct err *e)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_sys(e, errno, "create %s", path);
    TRY(fd_write_all(fd, p, n, e));
    if (fchmod(fd, (mode_t)mode) < 0)
        return err_sys(e, errno, "chmod %s", path);
    if (sync && fsync(fd) < 0)
        return err_sys(e, errno, "sync %s", path);
    if (close(TAKE_FD(fd)) < 0 && errno != EINTR)
        return err_sys(e, errno, "close %s", path);
    return 0;
}

static int replace(const char *path, const void *p, size_t n, unsigned mode, bool sync,
                   struct err *e)
{
    static _Atomic unsigned serial;
    char beside[PATH_MAX];
    int len = snprintf(beside, sizeof(beside), "%s.new-%d-%u", path, (int)getpid(),
                       atomic_fetch_add(&serial, 1));

    if (len >= (int)sizeof(beside))
        return err_sys(e, ENAMETOOLONG, "create %s", path);
    unlink(beside); /* of a process of the same number that was killed half-way */
    if (write_new(beside, p, n, mode, sync, e) < 0) {
        unlink(beside);
        return -1;
    }
    if (rename(beside, path) < 0) {
        err_sys(e, errno, "rename %s", path);
        unlink(beside);
        return -1;
    }
    return sync ? sync_folder_of(path, e) : 0;
}

int file_write_atomic(const char *path, const void *p, size_t n, unsigned mode, struct err *e)
{
    return replace(path, p, n, mode, true, e);
}

int file_write(const char *path, const void *p, size_t n, unsigned mode, struct err *e)
{
    return replace(path, p, n, mode, false, e);
}

int file_sync(const char *path, struct err *e)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 || fsync(fd) < 0)
        return err_sys(e, errno, "sync %s", path);
    return sync_folder_of(path, e);
}

int file_poke(const char *path, const char *text, struct err *e)
{
    size_t n = strlen(text);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return err_sys(e, errno, "open %s", path);
    ssize_t did = write(fd, text, n); /* kernel files take a value in one write */
    if (did < 0)
        return err_sys(e, errno, "write %s", path);
    if ((size_t)did != n)
        return err_sys(e, EIO, "write %s", path);
    return 0;
}

/* ---- folders */

int dir_make(const char *path, unsigned mode, struct err *e)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    struct stat st;

    if (n == 0 || n >= sizeof(part))
        return err_sys(e, n ? ENAMETOOLONG : ENOENT, "mkdir");
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char was = part[i];
        part[i] = '\0';
        if (mkdir(part, (mode_t)mode) < 0 && errno != EEXIST && errno != EROFS && errno != EISDIR)
            return err_sys(e, errno, "mkdir %s", part);
        part[i] = was;
    }
    if (stat(path, &st) < 0)
        return err_sys(e, errno, "mkdir %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_sys(e, ENOTDIR, "mkdir %s", path);
    return 0;
}

/* One folder on the way down.  Only the deepest is open: a tree of any depth needs two descriptors.
 */
struct level {
    struct level *up;
    dev_t dev;
    ino_t ino;
    char name[]; /* in its parent */
};

struct walk {
    int fd; /* of the deepest folder */
    struct level *deepest;
    const char *path; /* of the whole, for errors */
};

static int open_folder(int at, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
    };

    return (int)syscall(SYS_openat2, at, name, &how, sizeof(how));
}

static int walk_down(struct walk *w, int at, const char *name, int fd, struct err *e)
{
    struct stat st;
    size_t n = strlen(name);

    if (fd < 0 || fstat(fd, &st) < 0) {
        err_sys(e, errno, "remove %s: open %s", w->path, name);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    struct level *l = malloc(sizeof(*l) + n + 1);
    if (!l)
        abort();
    *l = (struct level){ .up = w->deepest, .dev = st.st_dev, .ino = st.st_ino };
    memcpy(l->name, name, n + 1);
    w->deepest = l;
    w->fd = fd;
    if (at >= 0)
        close(at);
    return 0;
}

/* Goes back to the parent and removes the folder it came from. */
static int walk_up(struct walk *w, struct err *e)
{
    _cleanup_free_ struct level *l = w->deepest;
    struct stat st;
    int up = openat(w->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    w->deepest = l->up;
    close(w->fd);
    w->fd = up;
    if (up < 0 || fstat(up, &st) < 0)
        return err_sys(e, errno, "remove %s: open the parent of %s", w->path, l->name);
    if (st.st_dev != l->up->dev || st.st_ino != l->up->ino)
        return err_sys(e, ESTALE, "remove %s: %s was moved away", w->path, l->name);
    if (unlinkat(up, l->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_sys(e, errno, "remove %s: %s", w->path, l->name);
    return 0;
}

/* Empties the deepest folder of files.  1: it found a folder and stands in it; 0: it is empty. */
static int walk_clear(struct walk *w, struct err *e)
{
    int copy = openat(w->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *f;
    int rc = 0;

    if (!d) {
        err_sys(e, errno, "remove %s: read", w->path);
        if (copy >= 0)
            close(copy);
        return -1;
    }
    while (rc == 0 && (errno = 0, f = readdir(d))) {
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0)
            continue;
        if (unlinkat(w->fd, f->d_name, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != EISDIR && errno != EPERM)
            rc = err_sys(e, errno, "remove %s: %s", w->path, f->d_name);
        else if (unlinkat(w->fd, f->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            rc = walk_down(w, w->fd, f->d_name, open_folder(w->fd, f->d_name), e) < 0 ? -1 : 1;
    }
    if (rc == 0 && errno)
        rc = err_sys(e, errno, "remove %s: read", w->path);
    closedir(d);
    return rc;
}

static int walk_all(struct walk *w, struct err *e)
{
    for (;;) {
        int rc = walk_clear(w, e);

        if (rc < 0)
            return -1;
        if (rc == 0 && !w->deepest->up)
            return 0;
        if (rc == 0 && walk_up(w, e) < 0)
            return -1;
    }
}

int dir_remove(const char *path, struct err *e)
{
    struct walk w = { .fd = -1, .path = path };
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "remove %s", path);
    if (!S_ISDIR(st.st_mode)) {
        if (unlink(path) < 0 && errno != ENOENT)
            return err_sys(e, errno, "remove %s", path);
        return 0;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int rc = walk_down(&w, -1, path, fd, e);
    if (rc == 0)
        rc = walk_all(&w, e);
    while (w.deepest) {
        struct level *l = w.deepest;

        w.deepest = l->up;
        free(l);
    }
    if (w.fd >= 0)
        close(w.fd);
    if (rc == 0 && rmdir(path) < 0 && errno != ENOENT)
        return err_sys(e, errno, "remove %s", path);
    return rc;
}

static ssize_t copy_some(int from, off_t *at, int to, off_t *out, size_t n)
{
    ssize_t did = copy_file_range(from, at, to, out, n, 0);

    if (did >= 0 || (errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS))
        return did;
    if (lseek(to, *out, SEEK_SET) < 0) /* between two file systems */
        return -1;
    did = sendfile(to, from, at, n);
    if (did > 0)
        *out += did;
    return did;
}

int fd_copy_all(int from, int to, struct err *e)
{
    struct stat st;

    if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
        return err_sys(e, errno, "size of a copy");
    for (off_t at = 0;;) {
        at = lseek(from, at, SEEK_DATA);
        if (at < 0 && errno == ENXIO) /* none follows */
            return 0;
        off_t end = at < 0 ? -1 : lseek(from, at, SEEK_HOLE), out = at;
        if (end < 0)
            return err_sys(e, errno, "look for holes of a file");
        while (at < end) {
            ssize_t n = copy_some(from, &at, to, &out, (size_t)MIN(end - at, (off_t)COPY_CHUNK));
            if (n <= 0)
                return err_sys(e, n < 0 ? errno : EIO, "copy of a file");
        }
    }
}

int fd_open_in(int root, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve,
    };
    int fd, tries = 1000;

    do
        fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
    while (fd < 0 && errno == EAGAIN && --tries);
    return fd;
}

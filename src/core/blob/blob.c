/* SPDX-License-Identifier: Apache-2.0 */
/* Files of blobs.  Hides where they lie, and what of a file a crash leaves. */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "codec/id.h"
#include "codec/text.h"
#include "core/blob/blob.h"
#include "os/digest.h"
#include "os/file.h"

enum { LOOK_EVERY = 8 << 20, TAIL = 32, NAME = 64 };
/* So much of the disk is not for blobs. */
enum { KEPT_PERCENT = 5, KEPT_FILES = 1000 };
static const uint64_t KEPT_MOST = GIB(4);

struct blobs {
    char dir[256];
    struct clock *clock;
    int root, fresh; /* the folder, and its new/ */
    atomic_bool moved;
};

struct blob_new {
    struct blobs *home;
    int fd;
    struct uuid name; /* in new/, where the file system has no nameless files; else nil */
    int64_t size, looked;
    struct digest *sha256, *md5;
    bool linked;
};

static int open_folder(const char *path, struct err *e)
{
    TRY(dir_make(path, 0700, e));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_sys(e, errno, "open %s", path) : fd;
}

/* What leads to new/ is as durable as what is in it. */
static int sync_folders(struct blobs *b, struct err *e)
{
    _cleanup_close_ int above = openat(b->root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (above < 0 || fsync(above) < 0 || fsync(b->root) < 0)
        return err_sys(e, errno, "sync the folder of blobs");
    return 0;
}

struct blobs *blobs_new(const char *dir, struct clock *clock, struct err *e)
{
    struct blobs *b = calloc(1, sizeof(*b));
    char fresh[sizeof(b->dir) + 8];

    if (!b)
        abort();
    b->clock = clock;
    b->root = b->fresh = -1;
    b->moved = true; /* what was left behind */
    snprintf(b->dir, sizeof(b->dir), "%s", dir);
    snprintf(fresh, sizeof(fresh), "%s/new", dir);
    if ((b->root = open_folder(dir, e)) >= 0 && (b->fresh = open_folder(fresh, e)) >= 0 &&
        sync_folders(b, e) == 0)
        return b;
    blobs_free(b);
    return NULL;
}

void blobs_free(struct blobs *b)
{
    if (!b)
        return;
    if (b->root >= 0)
        close(b->root);
    if (b->fresh >= 0)
        close(b->fresh);
    free(b);
}

bool blobs_moved(struct blobs *b)
{
    return atomic_exchange(&b->moved, false);
}

/* ---- names */

/* "ab/cd/<id>" */
static void place_of(const struct uuid *id, char out[NAME])
{
    const char *tail = id->s + TAIL;

    snprintf(out, NAME, "%.2s/%.2s/%s", tail, tail + 2, id->s);
}

static int make_place(struct blobs *b, const struct uuid *id, struct err *e)
{
    const char *tail = id->s + TAIL;
    char path[8];

    snprintf(path, sizeof(path), "%.2s", tail);
    if (mkdirat(b->root, path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make a folder for blobs");
    snprintf(path, sizeof(path), "%.2s/%.2s", tail, tail + 2);
    if (mkdirat(b->root, path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make a folder for blobs");
    return 0;
}

/* ---- writing */

/* Where there are no nameless files it has its name at once: what a settling made of it before it
 * was locked is made again. */
static int open_named(struct blob_new *n, struct err *e)
{
    struct stat st;

    for (;;) {
        uuid_new(n->home->clock, &n->name);
        n->fd = openat(n->home->fresh, n->name.s, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
        if (n->fd < 0 || flock(n->fd, LOCK_EX) < 0 || fstat(n->fd, &st) < 0)
            return err_sys(e, errno, "open a file for a blob");
        if (st.st_nlink > 0)
            return 0;
        close(TAKE_FD(n->fd));
    }
}

static int open_new(struct blob_new *n, struct err *e)
{
    n->fd = openat(n->home->fresh, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (n->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
        return open_named(n, e);
    if (n->fd < 0 || flock(n->fd, LOCK_EX | LOCK_NB) < 0)
        return err_sys(e, errno, "open a file for a blob");
    return 0;
}

struct blob_new *blob_begin(struct blobs *b, unsigned sums, struct err *e)
{
    struct blob_new *n = calloc(1, sizeof(*n));

    if (!n)
        abort();
    n->home = b;
    n->fd = -1;
    if ((!(sums & BLOB_SHA256) || (n->sha256 = digest_new(DIGEST_SHA256, e))) &&
        (!(sums & BLOB_MD5) || (n->md5 = digest_new(DIGEST_MD5, e))) && open_new(n, e) == 0)
        return n;
    blob_new_free(n);
    return NULL;
}

/* File systems that make files as they are needed count none. */
static int look_at_disk(struct blob_new *n, struct err *e)
{
    struct statvfs v;

    if (n->size < n->looked)
        return 0;
    n->looked = n->size + LOOK_EVERY;
    if (fstatvfs(n->fd, &v) < 0)
        return err_sys(e, errno, "look at the disk of blobs");
    uint64_t all = (uint64_t)v.f_blocks * v.f_frsize, left = (uint64_t)v.f_bavail * v.f_frsize;
    if (left < MIN(all / 100 * KEPT_PERCENT, KEPT_MOST) + LOOK_EVERY)
        return err_set(e, ERR_NO_SPACE, "There is no room for this on the disk");
    if (v.f_files > 0 && v.f_favail < KEPT_FILES)
        return err_set(e, ERR_NO_SPACE, "There is no room for more files on the disk");
    return 0;
}

int blob_append(struct blob_new *n, const void *p, size_t size, struct err *e)
{
    TRY(look_at_disk(n, e));
    TRY(fd_write_all(n->fd, p, size, e));
    if (n->sha256)
        digest_add(n->sha256, p, size);
    if (n->md5)
        digest_add(n->md5, p, size);
    n->size += (int64_t)size;
    return 0;
}

int64_t blob_size(const struct blob_new *n)
{
    return n->size;
}

ssize_t blob_read(const struct blob_new *n, void *p, size_t size, int64_t at, struct err *e)
{
    ssize_t got;

    do
        got = pread(n->fd, p, size, at);
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_sys(e, errno, "read a blob") : got;
}

static void sum_end(struct digest *d, char *hex)
{
    uint8_t sum[DIGEST_MAX];

    hex[0] = '\0';
    if (d)
        hex_encode(sum, digest_end(d, sum), hex);
}

int blob_link(struct blob_new *n, struct uuid *id, struct blob_sums *sums, struct err *e)
{
    struct blobs *b = n->home;
    char self[40];

    if (n->linked)
        return err_cause(e, ERR_INTERNAL, "a blob was linked twice", "internal error");
    if (fsync(n->fd) < 0)
        return err_sys(e, errno, "sync a blob");
    if (!uuid_is_nil(&n->name)) {
        *id = n->name;
    } else {
        uuid_new(b->clock, id);
        snprintf(self, sizeof(self), "/proc/self/fd/%d", n->fd);
        if (linkat(AT_FDCWD, self, b->fresh, id->s, AT_SYMLINK_FOLLOW) < 0)
            return err_sys(e, errno, "name a blob");
    }
    n->linked = true;
    if (fsync(b->fresh) < 0)
        return err_sys(e, errno, "sync the folder of blobs");
    sum_end(n->sha256, sums->sha256);
    sum_end(n->md5, sums->md5);
    return 0;
}

void blob_new_free(struct blob_new *n)
{
    if (!n)
        return;
    if (!uuid_is_nil(&n->name) && !n->linked)
        unlinkat(n->home->fresh, n->name.s, 0);
    if (n->fd >= 0)
        close(n->fd); /* and its lock with it */
    if (n->linked)
        atomic_store(&n->home->moved, true);
    digest_free(n->sha256);
    digest_free(n->md5);
    free(n);
}

/* ---- what is there */

int blob_fd(struct blobs *b, const struct uuid *id, struct err *e)
{
    char place[NAME];
    int fd = -1;

    place_of(id, place);
    /* It may move from one to the other meanwhile, and no other way. */
    for (int i = 0; fd < 0 && i < 3; i++) {
        fd = i == 1 ? openat(b->fresh, id->s, O_RDONLY | O_CLOEXEC)
                    : openat(b->root, place, O_RDONLY | O_CLOEXEC);
        if (fd < 0 && errno != ENOENT)
            return err_sys(e, errno, "open a blob");
    }
    return fd < 0 ? err_set(e, ERR_NOT_FOUND, "these bytes are not there") : fd;
}

int blob_unlink(struct blobs *b, const struct uuid *id, struct err *e)
{
    char place[NAME];

    place_of(id, place);
    for (int i = 0; i < 3; i++) {
        int rc = i == 1 ? unlinkat(b->fresh, id->s, 0) : unlinkat(b->root, place, 0);

        if (rc < 0 && errno != ENOENT)
            return err_sys(e, errno, "remove a blob");
    }
    return 0;
}

/* Under its lock: nobody else settles it, and who made it has let go. */
static int settle(struct blobs *b, const struct uuid *id,
                  int (*wanted)(void *ctx, const struct uuid *id, struct err *e), void *ctx,
                  struct err *e)
{
    _cleanup_close_ int fd = openat(b->fresh, id->s, O_RDONLY | O_CLOEXEC);
    char place[NAME];

    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "open a blob");
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? 0 : err_sys(e, errno, "lock a blob");
    int rc = wanted(ctx, id, e);
    if (rc == 0) {
        rc = unlinkat(b->fresh, id->s, 0);
    } else if (rc > 0) {
        TRY(make_place(b, id, e));
        place_of(id, place);
        rc = renameat(b->fresh, id->s, b->root, place);
    } else {
        return -1;
    }
    return rc < 0 && errno != ENOENT ? err_sys(e, errno, "settle a blob") : 0;
}

int blobs_settle(struct blobs *b, int most,
                 int (*wanted)(void *ctx, const struct uuid *id, struct err *e), void *ctx,
                 struct err *e)
{
    int fd = openat(b->fresh, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0, rc = 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (!d) {
        rc = err_sys(e, errno, "list new blobs");
        if (fd >= 0)
            close(fd);
        return rc;
    }
    while (rc == 0 && n < most && (entry = readdir(d))) {
        struct uuid id;

        if (!uuid_parse(str_of(entry->d_name), &id))
            continue;
        n++;
        rc = settle(b, &id, wanted, ctx, e);
    }
    closedir(d);
    return rc < 0 ? -1 : n;
}

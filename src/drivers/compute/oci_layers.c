/* SPDX-License-Identifier: Apache-2.0 */
/* Layers for hosts without idmapped mounts: a copy of each, under the ids of one instance.
 *
 * A range of ids has one instance at a time, so the copies lie in that instance's folder: made at
 * its first start, kept over its stops, gone with it.  A copy is there whole or not at all: made
 * under a name that begins with ".new-", written to the disk, renamed. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/log.h"
#include "drivers/compute/oci_impl.h"
#include "os/file.h"

enum { PATH_BYTES = 4200, XATTR_BYTES = 65536 };

struct copy {
    int root;         /* of the copy */
    uint32_t first;   /* id of its root user */
    struct map *seen; /* inodes with several names: the path of the first, in 'arena' */
    struct arena arena;
    char path[PATH_BYTES]; /* where the walk is */
    char names[XATTR_BYTES], value[XATTR_BYTES];
};

/* ---- one file ---- */

/* The right of a file holds for the user namespace of its owner alone: it is written as that of the
 * copy's root. */
static size_t own_capability(const struct copy *c, char *value, size_t n)
{
    struct vfs_ns_cap_data cap;

    if (n != XATTR_CAPS_SZ_2)
        return n;
    memset(&cap, 0, sizeof(cap));
    memcpy(&cap, value, n);
    cap.magic_etc = (cap.magic_etc & (uint32_t)VFS_CAP_FLAGS_MASK) | VFS_CAP_REVISION_3;
    cap.rootid = c->first;
    memcpy(value, &cap, sizeof(cap));
    return sizeof(cap);
}

static int copy_xattrs(struct copy *c, int from, int to, struct err *e)
{
    ssize_t n = flistxattr(from, c->names, sizeof(c->names));

    if (n < 0)
        return errno == EOPNOTSUPP ? 0 : err_sys(e, errno, "extended attributes of a layer");
    for (const char *name = c->names; name < c->names + n; name += strlen(name) + 1) {
        bool capability = strcmp(name, "security.capability") == 0;
        if (!capability && strncmp(name, "user.", 5) != 0 &&
            strcmp(name, "trusted.overlay.opaque") != 0)
            continue;
        ssize_t size = fgetxattr(from, name, c->value, sizeof(c->value));
        if (size < 0)
            return err_sys(e, errno, "read %.60s of a layer", name);
        if (capability)
            size = (ssize_t)own_capability(c, c->value, (size_t)size);
        if (fsetxattr(to, name, c->value, (size_t)size, 0) < 0)
            return err_sys(e, errno, "copy %.60s of a layer", name);
    }
    return 0;
}

/* Owner first: a change of it takes rights away. */
static int copy_metadata(struct copy *c, int from, int to, int dir, const char *name,
                         const struct stat *st, struct err *e)
{
    struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };

    if (fchownat(dir, name, c->first + st->st_uid, c->first + st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "chown of a copied file");
    if (!S_ISLNK(st->st_mode) && fchmodat(dir, name, st->st_mode & 07777, 0) < 0)
        return err_sys(e, errno, "chmod of a copied file");
    if (from >= 0)
        TRY(copy_xattrs(c, from, to, e));
    if (utimensat(dir, name, t, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "time of a copied file");
    return 0;
}

static int copy_link(int from, int to, const char *name, struct err *e)
{
    char target[4097];
    ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

    if (n < 0)
        return err_sys(e, errno, "read a link of a layer");
    target[n] = '\0';
    return symlinkat(target, to, name) < 0 ? err_sys(e, errno, "copy a link of a layer") : 0;
}

static int copy_folder(struct copy *c, int from, int to, size_t len, struct err *e);

static int copy_body(struct copy *c, int from, int to, const char *name, size_t len,
                     const struct stat *st, struct err *e)
{
    bool folder = S_ISDIR(st->st_mode);

    if (folder && mkdirat(to, name, 0700) < 0)
        return err_sys(e, errno, "mkdir in a copied layer");
    _cleanup_close_ int in =
        openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (folder ? O_DIRECTORY : 0));
    _cleanup_close_ int out =
        folder ? openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
               : openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (in < 0 || out < 0)
        return err_sys(e, errno, "open a file of a layer");
    TRY(folder ? copy_folder(c, in, out, len, e) : fd_copy_all(in, out, e));
    return copy_metadata(c, in, out, to, name, st, e);
}

/* 'len' is that of c->path, which names this entry. */
static int copy_entry(struct copy *c, int from, int to, const char *name, size_t len, struct err *e)
{
    struct stat st;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "stat a file of a layer");
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
        const char *first = map_get(c->seen, &st.st_ino, sizeof(st.st_ino));
        if (first)
            return linkat(c->root, first, to, name, 0) < 0
                       ? err_sys(e, errno, "copy a hard link of a layer")
                       : 0;
        if (c->arena.used + len + KIB(128) > c->arena.limit)
            return err_set(e, ERR_TOO_LARGE, "the image has too many hard links");
        map_set(c->seen, &st.st_ino, sizeof(st.st_ino), arena_strdup(&c->arena, c->path));
    }
    if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode))
        return copy_body(c, from, to, name, len, &st, e);
    if (S_ISLNK(st.st_mode))
        TRY(copy_link(from, to, name, e));
    else if (mknodat(to, name, st.st_mode & (S_IFMT | 0600), st.st_rdev) < 0) /* a whiteout too */
        return err_sys(e, errno, "copy a special file of a layer");
    return copy_metadata(c, -1, -1, to, name, &st, e);
}

static int copy_folder(struct copy *c, int from, int to, size_t len, struct err *e)
{
    int again = fcntl(from, F_DUPFD_CLOEXEC, 0);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    int r = 0;

    if (!d) {
        if (again >= 0)
            close(again);
        return err_sys(e, errno, "open a folder of a layer");
    }
    for (struct dirent *f; r == 0 && (f = readdir(d));) {
        size_t n = strlen(f->d_name);
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0)
            continue;
        if (len + n + 2 > sizeof(c->path)) {
            r = err_set(e, ERR_TOO_LARGE, "a name in the image is too long");
            break;
        }
        if (len)
            c->path[len] = '/';
        size_t at = len + (len > 0);
        memcpy(c->path + at, f->d_name, n + 1);
        r = copy_entry(c, from, to, f->d_name, at + n, e);
    }
    closedir(d);
    return r;
}

/* ---- layers ---- */

static int copy_layer(const char *from, const char *to, uint32_t first, struct err *e)
{
    struct stat st;

    if (mkdir(to, 0700) < 0)
        return err_sys(e, errno, "mkdir of a copied layer");
    _cleanup_close_ int in = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int out = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (in < 0 || out < 0 || fstat(in, &st) < 0)
        return err_sys(e, errno, "open a layer");
    struct copy *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->root = out;
    c->first = first;
    c->seen = map_new();
    c->arena = ARENA(MIB(256));
    int r = copy_folder(c, in, out, 0, e);
    if (r == 0)
        r = copy_metadata(c, in, out, out, ".", &st, e);
    map_free(c->seen);
    arena_free(&c->arena);
    free(c);
    if (r == 0 && syncfs(out) < 0)
        return err_sys(e, errno, "sync a copied layer");
    return r;
}

static int keep_layer(struct arena *a, const char *dir, const char *layer, uint32_t first,
                      const char **path, struct err *e)
{
    const char *name = strrchr(layer, '/') + 1, *raw = arena_printf(a, "%s/.new-%s", dir, name);

    *path = arena_printf(a, "%s/%s", dir, name);
    if (access(*path, F_OK) == 0)
        return 0;
    TRY(dir_remove(raw, e)); /* its maker was killed */
    TRY(copy_layer(layer, raw, first, e));
    _cleanup_close_ int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rename(raw, *path) < 0 || folder < 0 || fsync(folder) < 0)
        return err_sys(e, errno, "rename a copied layer");
    return 0;
}

int oci_layers_copy(struct oci *o, struct inst *i, struct oci_boot *b, struct err *e)
{
    const char *dir = oci_path(o, b->a, &i->id, "layers");
    const char **copies = arena_new_n(b->a, const char *, b->n_layers);
    struct err ignored;

    i->copies_known = false;
    int r = dir_make(dir, 0700, e);
    for (size_t k = 0; k < b->n_layers && r == 0; k++)
        r = keep_layer(b->a, dir, b->layers[k], OCI_FIRST_ID + (uint32_t)i->range * OCI_RANGE_IDS,
                       &copies[k], e);
    i->copies_known = false; /* whoever looked meanwhile saw half of them */
    if (r == 0)
        b->layers = copies;
    else if (oci_layers_drop(o, i, b->a, &ignored) < 0)
        log_err(LOG_WARN, "layer_copies_stay", &ignored);
    return r;
}

int oci_layers_drop(struct oci *o, struct inst *i, struct arena *a, struct err *e)
{
    i->copies_known = false;
    return dir_remove(oci_path(o, a, &i->id, "layers"), e);
}

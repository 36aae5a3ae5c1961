/* SPDX-License-Identifier: Apache-2.0 */
/* Hides libarchive, and why unpacking a stranger's archive as root is safe: each name is taken
 * apart here, each parent is opened by openat2(RESOLVE_IN_ROOT), and the last step is an *at() call
 * that follows nothing. An outer reader undoes the compression so that the bytes of the tar itself
 * can be hashed; an inner one reads the tar. */
#include "drivers/image/unpack_private.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "os/file.h"

#define WHITEOUT ".wh."
#define OPAQUE   WHITEOUT WHITEOUT ".opq"

enum {
    ID_MAX = 65535,
    TAR_BLOCK = 512,
};

/* Heads and padding come beside the content; no honest image has a quarter of any. */
const struct unpack_counts unpack_most = {
    .bytes = (int64_t)32 << 30,
    .read = (int64_t)40 << 30,
    .entries = 2000000,
    .steps = 64000000,
    .copies = 100000,
};

/* ---- reading ---- */

static la_ssize_t give_outer(struct archive *a, void *ctx, const void **p)
{
    struct unpack *u = ctx;
    ssize_t n = u->o->read(u->o->ctx, u->in, sizeof(u->in), &u->source);

    if (n < 0) {
        u->source_failed = true;
        archive_set_error(a, EIO, "the source failed");
    }
    *p = u->in;
    return n;
}

/* '*sum' grows by 'n'; 'what' says in words what has come to too much. */
int unpack_count(const struct unpack *u, int64_t *sum, int64_t n, int64_t most, const char *what,
                 struct err *e)
{
    if (n > most - *sum)
        return err_set(e, ERR_TOO_LARGE, "the %s %s %lld", u->o->layer ? "image" : "archive", what,
                       (long long)most);
    *sum += n;
    return 0;
}

int unpack_count_bytes(struct unpack *u, int64_t n, struct err *e)
{
    return unpack_count(u, &u->counts->bytes, n, u->most->bytes, "holds more bytes than", e);
}

int unpack_count_entry(struct unpack *u, struct err *e)
{
    return unpack_count(u, &u->counts->entries, 1, u->most->entries, "holds more files than", e);
}

static la_ssize_t give_inner(struct archive *a, void *ctx, const void **p)
{
    struct unpack *u = ctx;
    la_ssize_t n = archive_read_data(u->outer, u->mid, sizeof(u->mid));

    if (n < 0) {
        archive_set_error(a, EIO, "%s", archive_error_string(u->outer));
        return -1;
    }
    if (n > 0)
        digest_add(u->hash, u->mid, (size_t)n);
    *p = u->mid;
    if (n == 0 && u->given % TAR_BLOCK != 0) {
        /* Some writers (umoci) leave the last file's padding out; the blob's own digest has been
         * verified. */
        n = (la_ssize_t)(TAR_BLOCK - u->given % TAR_BLOCK);
        memset(u->mid, 0, (size_t)n);
    }
    u->given += (uint64_t)n;
    if (unpack_count(u, &u->counts->read, n, u->most->read, "is, unpacked, longer than",
                     &u->source) < 0) {
        u->source_failed = true;
        archive_set_error(a, EFBIG, "too long");
        return -1;
    }
    return n;
}

static int bad(struct unpack *u, struct archive *a, struct err *e)
{
    const char *why = archive_error_string(a);

    if (u->source_failed) {
        *e = u->source;
        return -1;
    }
    return err_cause(e, ERR_INVALID, why ? why : "", "the archive is damaged or of no known form");
}

/* ---- names ---- */

/* Takes a name apart: 'path' gets it without "./" and slashes at both ends; "" is the root itself.
 */
static int clean(const char *name, char path[PATH_BYTES], struct err *e)
{
    size_t n = 0;

    if (!name || strlen(name) >= PATH_BYTES)
        return err_set(e, ERR_INVALID, "a name in the archive is too long");
    while (*name) {
        size_t len = strcspn(name, "/");
        if (len == 2 && name[0] == '.' && name[1] == '.')
            return err_set(e, ERR_INVALID, "a name in the archive leads out of it");
        if (len > 255)
            return err_set(e, ERR_INVALID, "a name in the archive is too long");
        if (len && !(len == 1 && name[0] == '.')) {
            if (n)
                path[n++] = '/';
            memcpy(path + n, name, len);
            n += len;
        }
        name += len + (name[len] == '/');
    }
    path[n] = '\0';
    return 0;
}

/* ---- one entry ---- */

/* What stands there goes, unless both are folders.  '*white': it was a whiteout. */
static int make_way(struct unpack *u, int parent, const char *name, bool folder, bool *white,
                    struct err *e)
{
    struct stat st, dir;
    struct place place;

    *white = false;
    int there = way_look(parent, name, &st, e);
    if (there <= 0)
        return there;
    if (fstat(parent, &dir) < 0)
        return err_sys(e, errno, "stat a folder of a layer");
    if (S_ISDIR(st.st_mode) && folder)
        return 0;
    *white = u->o->layer && below_is_whiteout(&st);
    if (unlinkat(parent, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
        return err_set(e, ERR_INVALID, "the archive replaces a folder that is not empty");
    map_del(u->copied, &place, place_of(&dir, name, &place));
    return 0;
}

static int put_content(struct unpack *u, int fd, struct err *e)
{
    const void *p;
    size_t n;
    la_int64_t at;
    int r;

    while ((r = archive_read_data_block(u->inner, &p, &n, &at)) == ARCHIVE_OK) {
        TRY(unpack_count_bytes(u, (int64_t)n, e));
        for (const char *c = p; n;) {
            ssize_t did = pwrite(fd, c, n, at);
            if (did < 0 && errno == EFBIG)
                return err_set(e, ERR_INVALID, "a file of the archive is larger than files can be");
            if (did < 0)
                return err_sys(e, errno, "write a file of a layer");
            c += did;
            n -= (size_t)did;
            at += did;
        }
    }
    return r == ARCHIVE_EOF ? 0 : bad(u, u->inner, e);
}

static int put_file(struct unpack *u, struct archive_entry *en, int parent, const char *name,
                    struct err *e)
{
    _cleanup_close_ int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_sys(e, errno, "make a file of a layer");
    TRY(put_content(u, fd, e));
    /* A sparse end is a hole. */
    if (archive_entry_size_is_set(en) && ftruncate(fd, archive_entry_size(en)) < 0)
        return err_sys(e, errno, "truncate a file of a layer");
    return 0;
}

/* The file that a hard link names, of this layer or of those below; -1 if there is none. */
static int link_target(struct unpack *u, char *path, struct err *e)
{
    char *slash = strrchr(path, '/'), real[PATH_BYTES];
    const char *leaf = slash ? slash + 1 : path;
    struct stat st;
    struct way w;

    if (slash)
        *slash = '\0';
    _cleanup_close_ int dir = way_walk(u, slash ? path : "", &w, e);
    TRY(dir);
    if (!*leaf ||
        snprintf(real, sizeof(real), "%s%s%s", w.at, *w.at ? "/" : "", leaf) >= PATH_BYTES)
        return err_set(e, ERR_INVALID, "a hard link in the archive points to nothing in it");
    int there = way_look(dir, leaf, &st, e);
    TRY(there);
    if (!there)
        TRY(way_copy_up(u, &w, dir, leaf, real, false, &st, e));
    _cleanup_close_ int fd = openat(dir, leaf, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT && errno != ENAMETOOLONG)
        return err_sys(e, errno, "open a file of a layer");
    if (fd < 0 || fstat(fd, &st) < 0 || S_ISDIR(st.st_mode) || below_is_whiteout(&st))
        return err_set(e, ERR_INVALID, "a hard link in the archive points to nothing in it");
    return TAKE_FD(fd);
}

static int put_hardlink(struct unpack *u, const char *target, int parent, const char *name,
                        struct err *e)
{
    char path[PATH_BYTES], proc[64];

    TRY(clean(target, path, e));
    _cleanup_close_ int fd = link_target(u, path, e);
    TRY(fd);
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    if (linkat(fd, "", parent, name, AT_EMPTY_PATH) < 0 &&
        linkat(AT_FDCWD, proc, parent, name, AT_SYMLINK_FOLLOW) < 0)
        return err_sys(e, errno, "make a hard link of a layer");
    return 0;
}

/* In the place of what the file had.  A file system that keeps none is no fault of the archive. */
static int put_xattrs(struct archive_entry *en, int fd, struct err *e)
{
    char names[PATH_BYTES];
    ssize_t had = flistxattr(fd, names, sizeof(names));
    const char *name;
    const void *value;
    size_t n;

    for (const char *p = names; had > 0 && p < names + had; p += strlen(p) + 1)
        if (below_xattr_ok(p) && fremovexattr(fd, p) < 0)
            return err_sys(e, errno, "remove an attribute of a file of a layer");
    archive_entry_xattr_reset(en);
    while (archive_entry_xattr_next(en, &name, &value, &n) == ARCHIVE_OK)
        if (name && below_xattr_ok(name) && fsetxattr(fd, name, value, n, 0) < 0 &&
            errno != ENOTSUP)
            return errno == E2BIG || errno == ERANGE
                       ? err_set(e, ERR_INVALID, "an attribute in the archive is too long")
                       : err_sys(e, errno, "set an attribute of a file of a layer");
    return 0;
}

static int put_metadata(struct unpack *u, struct archive_entry *en, int parent, const char *name,
                        mode_t type, struct err *e)
{
    int64_t uid = archive_entry_uid(en), gid = archive_entry_gid(en);
    struct timespec t[2] = { { .tv_nsec = UTIME_OMIT },
                             { archive_entry_mtime(en), archive_entry_mtime_nsec(en) } };

    if (u->o->layer) {
        if (uid < 0 || uid > ID_MAX || gid < 0 || gid > ID_MAX)
            return err_set(e, ERR_INVALID, "a file in the archive belongs to an id over %d",
                           ID_MAX);
        if (fchownat(parent, name, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0)
            return err_sys(e, errno, "chown a file of a layer");
    }
    if (type != S_IFLNK) {
        if (fchmodat(parent, name, archive_entry_perm(en) & 07777, 0) < 0)
            return err_sys(e, errno, "chmod a file of a layer");
        if (u->o->layer && (type == S_IFREG || type == S_IFDIR)) {
            _cleanup_close_ int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
            if (fd < 0)
                return err_sys(e, errno, "open a file of a layer");
            TRY(put_xattrs(en, fd, e));
        }
    }
    if (utimensat(parent, name, t, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "set the time of a file of a layer");
    return 0;
}

static bool is_root(const struct unpack *u, int fd)
{
    struct stat a, b;

    return fstat(u->root, &a) == 0 && fstat(fd, &b) == 0 && a.st_ino == b.st_ino;
}

/* What this layer has itself stays, and nothing of below shows in it. */
static int hide(struct unpack *u, int parent, const char *name, struct err *e)
{
    struct stat st, dir;
    struct place place;

    if (fstat(parent, &dir) < 0)
        return err_sys(e, errno, "stat a folder of a layer");
    int there = way_look(parent, name, &st, e);
    TRY(there);
    if (there) {
        if (S_ISDIR(st.st_mode)) {
            _cleanup_close_ int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
            return below_hide(fd, e);
        }
        if (!map_get(u->copied, &place, place_of(&dir, name, &place)))
            return 0;
        bool white;
        TRY(make_way(u, parent, name, false, &white, e));
    }
    if (mknodat(parent, name, S_IFCHR, 0) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make a whiteout");
    return 0;
}

/* Returns 1 if the entry was a whiteout. */
static int put_whiteout(struct unpack *u, int parent, const char *name, struct err *e)
{
    size_t n = sizeof(WHITEOUT) - 1;

    if (strncmp(name, WHITEOUT, n) != 0)
        return 0;
    if (strcmp(name, OPAQUE) == 0) {
        /* overlayfs asks no root: whoever stacks the layers leaves out those below. */
        if (is_root(u, parent))
            u->opaque = true;
        else
            TRY(below_hide(parent, e));
        return 1;
    }
    name += n;
    if (*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        TRY(hide(u, parent, name, e));
    return 1;
}

/* Of no meaning but to aufs. */
static bool is_aufs(const char *path)
{
    for (const char *p = path; p; p = (p = strchr(p, '/')) ? p + 1 : NULL)
        if (strncmp(p, WHITEOUT WHITEOUT, 2 * sizeof(WHITEOUT) - 2) == 0 && strcmp(p, OPAQUE) != 0)
            return true;
    return false;
}

static int put_folder(int parent, const char *name, bool white, struct err *e)
{
    if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make a folder of a layer");
    _cleanup_close_ int fd =
        white ? openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    return white ? below_hide(fd, e) : 0;
}

static int put_in(struct unpack *u, struct archive_entry *en, int parent, const char *name,
                  struct err *e)
{
    const char *link = archive_entry_hardlink(en), *target = archive_entry_symlink(en);
    mode_t type = archive_entry_filetype(en);
    bool white;

    /* Devices come from the runtime, sockets from their servers. */
    if (!link && type != S_IFREG && type != S_IFDIR && type != S_IFLNK && type != S_IFIFO)
        return 0;
    TRY(make_way(u, parent, name, !link && type == S_IFDIR, &white, e));
    if (link)
        return put_hardlink(u, link, parent, name, e);
    if (type == S_IFREG)
        TRY(put_file(u, en, parent, name, e));
    else if (type == S_IFDIR)
        TRY(put_folder(parent, name, white, e));
    else if (type == S_IFLNK && (!target || symlinkat(target, parent, name) < 0))
        return err_sys(e, errno, "make a link of a layer");
    else if (type == S_IFIFO && mkfifoat(parent, name, 0600) < 0)
        return err_sys(e, errno, "make a pipe of a layer");
    return put_metadata(u, en, parent, name, type, e);
}

static int put_entry(struct unpack *u, struct archive_entry *en, struct err *e)
{
    char path[PATH_BYTES];
    struct stat before;

    TRY(clean(archive_entry_pathname(en), path, e));
    if (!*path) {
        if (archive_entry_filetype(en) == S_IFDIR)
            return put_metadata(u, en, u->root, ".", S_IFDIR, e);
        return err_set(e, ERR_INVALID, "a file in the archive has no name");
    }
    if (u->o->layer && is_aufs(path))
        return 0;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    const char *name = slash ? slash + 1 : path;
    _cleanup_close_ int parent = way_folder(u, slash ? path : "", e);
    TRY(parent);
    if (fstat(parent, &before) < 0)
        return err_sys(e, errno, "stat a folder of a layer");
    int white = u->o->layer ? put_whiteout(u, parent, name, e) : 0;
    if (!white)
        white = put_in(u, en, parent, name, e);
    TRY(way_keep_time(parent, &before, e));
    return white < 0 ? -1 : 0;
}

/* ---- the whole ---- */

static int put_all(struct unpack *u, struct err *e)
{
    struct archive_entry *en;
    int r;

    while ((r = archive_read_next_header(u->inner, &en)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
        TRY(unpack_count_entry(u, e));
        TRY(put_entry(u, en, e));
    }
    if (r != ARCHIVE_EOF)
        return bad(u, u->inner, e);
    /* What follows the end of the tar counts in its digest. */
    const void *p;
    la_ssize_t n;
    while ((n = give_inner(u->inner, u, &p)) > 0)
        continue;
    return n < 0 ? bad(u, u->inner, e) : 0;
}

static int open_readers(struct unpack *u, struct err *e)
{
    struct archive_entry *en;

    archive_read_support_filter_gzip(u->outer);
    archive_read_support_filter_zstd(u->outer);
    archive_read_support_filter_xz(u->outer);
    archive_read_support_filter_bzip2(u->outer);
    archive_read_support_format_raw(u->outer);
    archive_read_support_format_empty(u->outer);
    if (archive_read_open(u->outer, u, NULL, give_outer, NULL) != ARCHIVE_OK)
        return bad(u, u->outer, e);
    int r = archive_read_next_header(u->outer, &en);
    if (r != ARCHIVE_OK)
        return r == ARCHIVE_EOF ? err_set(e, ERR_INVALID, "the archive is empty")
                                : bad(u, u->outer, e);
    archive_read_support_format_tar(u->inner);
    archive_read_support_format_gnutar(u->inner);
    if (archive_read_open(u->inner, u, NULL, give_inner, NULL) != ARCHIVE_OK)
        return bad(u, u->inner, e);
    return 0;
}

int unpack_tar(int dir_fd, const struct unpack_opts *o, struct unpack_result *out, struct err *e)
{
    TRY(archive_open(e));
    struct digest *hash = digest_new(DIGEST_SHA256, e);
    if (!hash)
        return -1;
    struct unpack *u = calloc(1, sizeof(*u));
    if (!u)
        abort();
    u->o = o;
    u->counts = o->counts ? o->counts : &u->own;
    u->most = o->most ? o->most : &unpack_most;
    int64_t before = u->counts->bytes;
    u->root = dir_fd;
    u->outer = archive_read_new();
    u->inner = archive_read_new();
    u->copied = map_new();
    u->hash = hash;
    if (!u->outer || !u->inner)
        abort();
    int result = open_readers(u, e) < 0 ? -1 : put_all(u, e);
    if (result == 0) {
        digest_end(u->hash, out->digest);
        out->bytes = u->counts->bytes - before;
        out->opaque = u->opaque;
    }
    archive_read_free(u->inner);
    archive_read_free(u->outer);
    digest_free(u->hash);
    map_free(u->copied);
    free(u);
    malloc_trim(0); /* decompressors are large */
    return result;
}

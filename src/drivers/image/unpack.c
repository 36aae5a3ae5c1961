/* SPDX-License-Identifier: Apache-2.0 */
/* Hides libarchive, and why unpacking a stranger's archive as root is safe: each name is taken
 * apart here, each parent is opened by openat2(RESOLVE_IN_ROOT), and the last step is an *at() call
 * that follows nothing. An outer reader undoes the compression so that the bytes of the tar itself
 * can be hashed; an inner one reads the tar. */
#include "drivers/image/unpack.h"
#include "drivers/image/archive.h"

#include <fcntl.h>
#include <linux/openat2.h> /* RESOLVE_NO_XDEV */
#include <malloc.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "os/file.h"

#define WHITEOUT ".wh."
#define OPAQUE   WHITEOUT WHITEOUT ".opq"

enum {
    PATH_BYTES = 4096,
    BLOCK = 65536,
    ENTRIES_MAX = 2000000,
    ID_MAX = 65535,
    TAR_BLOCK = 512,
    OVERHEAD = 64 << 20, /* heads and padding beside the content, and a quarter of its maximum */
};

struct unpack {
    const struct unpack_opts *o;
    int root;
    struct archive *outer, *inner;
    EVP_MD_CTX *hash;
    struct err source; /* what 'read' said when it failed */
    bool source_failed;
    int64_t bytes, entries;
    uint64_t given; /* bytes of the uncompressed archive so far */
    char in[BLOCK], mid[BLOCK];
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

static int64_t most(const struct unpack *u)
{
    return u->o->max_bytes ? u->o->max_bytes : (int64_t)32 << 30;
}

static int too_large(const struct unpack *u, struct err *e)
{
    return err_set(e, ERR_TOO_LARGE, "the archive holds more than %lld bytes", (long long)most(u));
}

static la_ssize_t give_inner(struct archive *a, void *ctx, const void **p)
{
    struct unpack *u = ctx;
    la_ssize_t n = archive_read_data(u->outer, u->mid, sizeof(u->mid));

    if (n < 0) {
        archive_set_error(a, EIO, "%s", archive_error_string(u->outer));
        return -1;
    }
    if (n > 0 && EVP_DigestUpdate(u->hash, u->mid, (size_t)n) != 1)
        abort();
    *p = u->mid;
    if (n == 0 && u->given % TAR_BLOCK != 0) {
        /* Some writers (umoci) leave the last file's padding out; the blob's own digest has been
         * verified. */
        n = (la_ssize_t)(TAR_BLOCK - u->given % TAR_BLOCK);
        memset(u->mid, 0, (size_t)n);
    }
    u->given += (uint64_t)n;
    if (u->given > (uint64_t)most(u) + (uint64_t)most(u) / 4 + OVERHEAD) {
        u->source_failed = true;
        archive_set_error(a, EFBIG, "too long");
        return too_large(u, &u->source);
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

static int open_in(int root, const char *path, int flags)
{
    return fd_open_in(root, *path ? path : ".", flags, RESOLVE_NO_XDEV);
}

/* The folder 'path', made where it is missing. */
static int open_folder(int root, char *path, struct err *e)
{
    int fd = open_in(root, path, O_RDONLY | O_DIRECTORY);

    if (fd >= 0 || errno != ENOENT)
        return fd < 0 ? err_set(e, ERR_INVALID, "a file in the archive lies in what is no folder")
                      : fd;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    _cleanup_close_ int parent =
        slash ? open_folder(root, path, e) : open_in(root, "", O_RDONLY | O_DIRECTORY);
    if (slash)
        *slash = '/';
    TRY(parent);
    const char *name = slash ? slash + 1 : path;
    if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
        return err_sys(e, errno, "mkdir in a layer");
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_set(e, ERR_INVALID, "a file in the archive lies in what is no folder") : fd;
}

/* ---- one entry ---- */

/* What stands there goes, unless both are folders. */
static int make_way(int parent, const char *name, bool folder, struct err *e)
{
    struct stat st;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (S_ISDIR(st.st_mode) && folder)
        return 0;
    if (unlinkat(parent, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
        return err_set(e, ERR_INVALID, "the archive replaces a folder that is not empty");
    return 0;
}

static int put_content(struct unpack *u, int fd, struct err *e)
{
    const void *p;
    size_t n;
    la_int64_t at;
    int r;

    while ((r = archive_read_data_block(u->inner, &p, &n, &at)) == ARCHIVE_OK) {
        u->bytes += (int64_t)n;
        if (u->bytes > most(u))
            return too_large(u, e);
        for (const char *c = p; n;) {
            ssize_t did = pwrite(fd, c, n, at);
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

static int put_hardlink(struct unpack *u, const char *target, int parent, const char *name,
                        struct err *e)
{
    char path[PATH_BYTES], proc[64];
    struct stat st;

    TRY(clean(target, path, e));
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    _cleanup_close_ int dir = open_in(u->root, slash ? path : "", O_PATH | O_DIRECTORY);
    const char *leaf = slash ? slash + 1 : path;
    _cleanup_close_ int fd =
        dir < 0 || !*leaf ? -1 : openat(dir, leaf, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || S_ISDIR(st.st_mode))
        return err_set(e, ERR_INVALID, "a hard link in the archive points to nothing in it");
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    if (linkat(fd, "", parent, name, AT_EMPTY_PATH) < 0 &&
        linkat(AT_FDCWD, proc, parent, name, AT_SYMLINK_FOLLOW) < 0)
        return err_sys(e, errno, "make a hard link of a layer");
    return 0;
}

/* Only what a program may need; never overlayfs's own, by which a layer could speak for the one
 * below. */
static void put_xattrs(struct archive_entry *en, int fd)
{
    const char *name;
    const void *value;
    size_t n;

    archive_entry_xattr_reset(en);
    while (archive_entry_xattr_next(en, &name, &value, &n) == ARCHIVE_OK)
        if (name && (strcmp(name, "security.capability") == 0 || strncmp(name, "user.", 5) == 0))
            fsetxattr(fd, name, value, n, 0);
}

static int put_metadata(struct unpack *u, struct archive_entry *en, int parent, const char *name,
                        mode_t type, struct err *e)
{
    int64_t uid = archive_entry_uid(en), gid = archive_entry_gid(en);
    struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = archive_entry_mtime(en) } };

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
            if (fd >= 0)
                put_xattrs(en, fd);
        }
    }
    utimensat(parent, name, t, AT_SYMLINK_NOFOLLOW);
    return 0;
}

/* Returns 1 if the entry was a whiteout. */
static int put_whiteout(int parent, const char *name, struct err *e)
{
    size_t n = sizeof(WHITEOUT) - 1;

    if (strncmp(name, WHITEOUT, n) != 0)
        return 0;
    if (strcmp(name, OPAQUE) == 0) {
        if (fsetxattr(parent, "trusted.overlay.opaque", "y", 1, 0) < 0)
            return err_sys(e, errno, "mark an opaque folder");
        return 1;
    }
    name += n;
    if (!*name || strncmp(name, WHITEOUT, n) == 0 || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0)
        return 1; /* aufs's own, of no meaning here */
    TRY(make_way(parent, name, false, e));
    if (mknodat(parent, name, S_IFCHR, 0) < 0)
        return err_sys(e, errno, "make a whiteout");
    return 1;
}

static int put_entry(struct unpack *u, struct archive_entry *en, struct err *e)
{
    const char *link = archive_entry_hardlink(en), *target = archive_entry_symlink(en);
    mode_t type = archive_entry_filetype(en);
    char path[PATH_BYTES];

    TRY(clean(archive_entry_pathname(en), path, e));
    if (!*path) {
        if (type == S_IFDIR)
            return put_metadata(u, en, u->root, ".", type, e);
        return err_set(e, ERR_INVALID, "a file in the archive has no name");
    }
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    const char *name = slash ? slash + 1 : path;
    _cleanup_close_ int parent =
        slash ? open_folder(u->root, path, e) : open_in(u->root, "", O_RDONLY | O_DIRECTORY);
    TRY(parent);
    int white = u->o->layer ? put_whiteout(parent, name, e) : 0;
    if (white)
        return white < 0 ? -1 : 0;
    /* Devices come from the runtime, sockets from their servers. */
    if (!link && type != S_IFREG && type != S_IFDIR && type != S_IFLNK && type != S_IFIFO)
        return 0;
    TRY(make_way(parent, name, !link && type == S_IFDIR, e));
    if (link)
        return put_hardlink(u, link, parent, name, e);
    if (type == S_IFREG)
        TRY(put_file(u, en, parent, name, e));
    else if (type == S_IFDIR && mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make a folder of a layer");
    else if (type == S_IFLNK && (!target || symlinkat(target, parent, name) < 0))
        return err_sys(e, errno, "make a link of a layer");
    else if (type == S_IFIFO && mkfifoat(parent, name, 0600) < 0)
        return err_sys(e, errno, "make a pipe of a layer");
    return put_metadata(u, en, parent, name, type, e);
}

/* ---- the whole ---- */

static int put_all(struct unpack *u, struct err *e)
{
    struct archive_entry *en;
    int r;

    while ((r = archive_read_next_header(u->inner, &en)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
        if (++u->entries > ENTRIES_MAX)
            return err_set(e, ERR_TOO_LARGE, "the archive holds more than %d files", ENTRIES_MAX);
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
    unsigned n = 32;

    TRY(archive_open(e));
    struct unpack *u = calloc(1, sizeof(*u));
    if (!u)
        abort();
    u->o = o;
    u->root = dir_fd;
    u->outer = archive_read_new();
    u->inner = archive_read_new();
    u->hash = EVP_MD_CTX_new();
    if (!u->outer || !u->inner || !u->hash || EVP_DigestInit_ex(u->hash, EVP_sha256(), NULL) != 1)
        abort();
    int result = open_readers(u, e) < 0 ? -1 : put_all(u, e);
    if (result == 0) {
        if (EVP_DigestFinal_ex(u->hash, out->digest, &n) != 1)
            abort();
        out->bytes = u->bytes;
    }
    archive_read_free(u->inner);
    archive_read_free(u->outer);
    EVP_MD_CTX_free(u->hash);
    free(u);
    malloc_trim(0); /* decompressors are large */
    return result;
}

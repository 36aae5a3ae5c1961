/* SPDX-License-Identifier: Apache-2.0 */
/* What an instance has beside its root: files that its order gives, and a folder of data.
 *
 * Files lie in a folder of the instance's own below opts.files_dir, which is memory where the host
 * has it so, and are shown to the instance read-only; the order on disk does not hold them.  One is
 * replaced by a rename, so the instance sees the old or the new one.  Data lie beside the root, on
 * the same disk. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "codec/id.h"
#include "drivers/compute/oci_impl.h"
#include "os/file.h"
#include "os/mount.h"

#define RAW ".new"

static const char *folder(struct oci *o, struct arena *a, const struct uuid *id)
{
    return arena_printf(a, "%s/%s", o->files_dir, id->s);
}

static int write_one(int dir, const struct compute_file *f, uid_t base, struct err *e)
{
    if (unlinkat(dir, RAW, 0) < 0 && errno != ENOENT) /* its maker was killed */
        return err_sys(e, errno, "unlink %s", RAW);
    _cleanup_close_ int fd =
        openat(dir, RAW, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, errno, "make file %s", f->name);
    TRY(fd_write_all(fd, f->content.p, f->content.n, e));
    if (fchown(fd, base + (uid_t)f->uid, base + (gid_t)f->gid) < 0 ||
        fchmod(fd, (mode_t)f->mode) < 0 || fsync(fd) < 0 || renameat(dir, RAW, dir, f->name) < 0)
        return err_sys(e, errno, "place file %s", f->name);
    return 0;
}

static bool is_named(const struct compute_file *f, size_t n, const char *name)
{
    bool found = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;

    for (size_t i = 0; i < n && !found; i++)
        found = strcmp(f[i].name, name) == 0;
    return found;
}

/* What the order does not give any more; takes 'dir'. */
static int remove_others(int dir, const struct compute_file *f, size_t n, struct err *e)
{
    DIR *d = fdopendir(dir);
    int r = 0;

    if (!d) {
        close(dir);
        return err_sys(e, errno, "read a folder of files");
    }
    for (struct dirent *x; r == 0 && (x = readdir(d));)
        if (!is_named(f, n, x->d_name) && unlinkat(dirfd(d), x->d_name, 0) < 0)
            r = err_sys(e, errno, "remove file %s", x->d_name);
    closedir(d);
    return r;
}

int oci_files_write(struct oci *o, struct inst *i, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    const char *path = folder(o, &a, &i->id);
    struct compute_file *f;
    size_t n;

    if (!i->spec.files)
        return 0;
    TRY(compute_files_read(&a, i->spec.files, &f, &n, e));
    TRY(dir_make(path, 0755, e));
    _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return err_sys(e, errno, "open %s", path);
    for (size_t k = 0; k < n; k++)
        TRY(write_one(dir, &f[k], oci_base_id(i), e));
    TRY(remove_others(TAKE_FD(dir), f, n, e));
    i->files_revision = i->spec.files_revision;
    return 0;
}

int oci_files_open(struct oci *o, struct inst *i, struct arena *a, struct err *e)
{
    return mount_clone(folder(o, a, &i->id), false, e);
}

int oci_files_remove(struct oci *o, const struct uuid *id, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));

    return dir_remove(folder(o, &a, id), e);
}

void oci_files_sweep(struct oci *o)
{
    DIR *d = opendir(o->files_dir);
    struct err e;

    for (struct dirent *f; d && (f = readdir(d));) {
        struct uuid id;

        if (uuid_parse(str_of(f->d_name), &id) &&
            !map_get(o->instances, f->d_name, strlen(f->d_name)) &&
            oci_files_remove(o, &id, &e) < 0)
            log_err(LOG_WARN, "files_of_nobody_stay", &e);
    }
    if (d)
        closedir(d);
}

/* ---- data ---- */

int oci_data_make(struct inst *i, int disk, int64_t uid, int64_t gid, struct err *e)
{
    uid_t base = oci_base_id(i);
    struct stat st;

    if (!i->spec.data)
        return 0;
    if (mkdirat(disk, "data", 0700) < 0 && errno != EEXIST)
        return err_sys(e, errno, "mkdir data");
    if (fstatat(disk, "data", &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "look at data");
    if (st.st_uid >= OCI_FIRST_ID) /* it was given to its user when it was made */
        return 0;
    return fchownat(disk, "data", base + (uid_t)uid, base + (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0
               ? err_sys(e, errno, "chown data")
               : 0;
}

int oci_root_renew(struct oci *o, struct inst *i, struct arena *a, int disk, struct err *e)
{
    static const char *const parts[] = { "upper", "work" };

    if (i->spec.root <= i->root)
        return 0;
    /* A root that is half gone is not looked at: it has another name meanwhile. */
    for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
        const char *gone = arena_printf(a, "/proc/self/fd/%d/gone", disk);

        TRY(dir_remove(gone, e));
        if (renameat(disk, parts[k], disk, "gone") < 0) {
            if (errno != ENOENT)
                return err_sys(e, errno, "put %s aside", parts[k]);
            continue;
        }
        TRY(dir_remove(gone, e));
    }
    TRY(oci_disk_work(i, disk, e));
    i->root = i->spec.root;
    return oci_save_state(o, i, e);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Where an instance writes.  Without a limit that is a folder; with one, a file system of that size
 * in a sparse file: no quota of the host's file system is needed, and what is full is full for one
 * instance only.  Making an empty file system costs tens of milliseconds, so each size is made once
 * and then copied, holes left out.  The loop device frees itself with its last mount. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/clock.h"
#include "base/log.h"
#include "drivers/compute/oci_impl.h"
#include "drivers/image/below.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/process.h"

enum { MIN_DISK_MB = 16, MAX_WALK = 200000, LOOP_TRIES = 64 };

/* Owned by the instance's root. */
int oci_disk_work(const struct inst *i, int disk, struct err *e)
{
    uid_t owner = oci_base_id(i);

    if (mkdirat(disk, "work", 0755) < 0)
        return errno == EEXIST ? 0 : err_sys(e, errno, "mkdir work");
    return fchownat(disk, "work", owner, owner, AT_SYMLINK_NOFOLLOW) < 0
               ? err_sys(e, errno, "chown work")
               : 0;
}

int oci_disk_root(const struct inst *i, int disk, const char *layer, struct err *e)
{
    static const char raw[] = "upper.new";
    struct stat st;

    if (faccessat(disk, "upper", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    if (unlinkat(disk, raw, AT_REMOVEDIR) < 0 && errno != ENOENT) /* its maker was killed */
        return err_sys(e, errno, "rmdir %s", raw);
    _cleanup_close_ int from = open(layer, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || fstat(from, &st) < 0 || mkdirat(disk, raw, 0700) < 0)
        return err_sys(e, errno, "make the root of an instance");
    _cleanup_close_ int to = openat(disk, raw, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return err_sys(e, errno, "open %s", raw);
    st.st_uid += oci_base_id(i);
    st.st_gid += oci_base_id(i);
    TRY(below_copy_attributes(from, &st, to, e));
    return renameat(disk, raw, disk, "upper") < 0 ? err_sys(e, errno, "rename %s", raw) : 0;
}

/* ---- a file system in a file ---- */

static int make_template(struct oci *o, struct arena *a, int64_t mb, const char *path,
                         struct err *e)
{
    const char *mkfs = process_which(a, "mkfs.ext4");
    const char *raw = arena_printf(a, "%s.new-%d", path, (int)gettid());
    const char *argv[] = { mkfs,
                           "-q",
                           "-F",
                           "-b",
                           "4096",
                           "-m",
                           "0",
                           "-O",
                           "^resize_inode",
                           "-J",
                           "size=4",
                           "-E",
                           "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
                           raw,
                           NULL };
    struct process_opts p = { .argv = argv };
    struct process_result r;

    if (!mkfs)
        return err_set(e, ERR_ENGINE_UNAVAILABLE,
                       "this host cannot limit disks: mkfs.ext4 is missing");
    TRY(dir_make(arena_printf(a, "%s/.disks", o->dir), 0700, e));
    int fd = open(raw, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)mb << 20) < 0) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        return err_sys(e, why, "make %s", raw);
    }
    close(fd);
    if (process_check(a, &p, &r, e) < 0 || rename(raw, path) < 0) {
        unlink(raw);
        if (strstr(e->cause, "No space"))
            return err_sys(e, ENOSPC, "make %s", raw);
        return e->code ? -1 : err_sys(e, errno, "rename %s", path);
    }
    return 0;
}

static int make_image(struct oci *o, struct arena *a, int64_t mb, const char *path, struct err *e)
{
    const char *template = arena_printf(a, "%s/.disks/%lld.img", o->dir, (long long)mb);
    const char *raw = arena_printf(a, "%s.new", path);

    _cleanup_close_ int from = open(template, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        *e = (struct err){ 0 };
        TRY(make_template(o, a, mb, template, e));
        from = open(template, O_RDONLY | O_CLOEXEC);
    }
    _cleanup_close_ int to = open(raw, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from < 0 || to < 0)
        return err_sys(e, errno, "open %s", raw);
    if (fd_copy_all(from, to, e) < 0) {
        unlink(raw);
        return -1;
    }
    return rename(raw, path) < 0 ? err_sys(e, errno, "rename %s", path) : 0;
}

/* A loop device of the file, open; it goes when nobody holds it. */
static int loop_open(struct arena *a, int file, const char **name, struct err *e)
{
    _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (control < 0)
        return err_set(e, ERR_ENGINE_UNAVAILABLE,
                       "this host cannot limit disks: it has no loop devices");
    for (int tries = 0; tries < LOOP_TRIES; tries++) {
        struct loop_config c = { .fd = (uint32_t)file,
                                 .block_size = 4096,
                                 .info.lo_flags = LO_FLAGS_AUTOCLEAR };
        int n = ioctl(control, LOOP_CTL_GET_FREE);
        if (n < 0)
            return err_sys(e, errno, "free loop device");
        *name = arena_printf(a, "/dev/loop%d", n);
        _cleanup_close_ int fd = open(*name, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return err_sys(e, errno, "open %s", *name);
        if (ioctl(fd, LOOP_CONFIGURE, &c) == 0)
            return TAKE_FD(fd);
        if (errno != EBUSY) /* another was faster */
            return err_sys(e, errno, "configure %s", *name);
    }
    return err_set(e, ERR_OVERLOADED, "no loop device is free");
}

/* A file system below that knows no direct I/O refuses: then what the instance writes is cached
 * twice. */
void oci_disk_direct(int loop)
{
    if (loop >= 0 && ioctl(loop, LOOP_SET_DIRECT_IO, 1UL) < 0)
        log_event(LOG_DEBUG, "disk_not_direct", L_INT("errno", errno));
}

int oci_disk_open(struct oci *o, struct inst *i, struct arena *a, int *fd, int *kept, struct err *e)
{
    const char *image = oci_path(o, a, &i->id, "disk.img"), *device;

    if (i->spec.disk_mb == 0 && access(image, F_OK) < 0) {
        *fd = open(oci_path(o, a, &i->id, NULL), O_PATH | O_DIRECTORY | O_CLOEXEC);
        return *fd < 0 ? err_sys(e, errno, "open the instance's folder") : oci_disk_work(i, *fd, e);
    }
    if (access(image, F_OK) < 0)
        TRY(make_image(o, a, MAX(i->spec.disk_mb, (int64_t)MIN_DISK_MB), image, e));
    _cleanup_close_ int file = open(image, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return err_sys(e, errno, "open %s", image);
    _cleanup_close_ int loop = loop_open(a, file, &device, e);
    if (loop < 0)
        return -1;
    *fd = mount_new("ext4", arena_printf(a, "source=%s,discard", device), e);
    TRY(*fd < 0 ? -1 : oci_disk_work(i, *fd, e));
    *kept = TAKE_FD(loop);
    return 0;
}

/* ---- what is used ---- */

static int64_t walk(int dir, int depth, int *left)
{
    DIR *d = fdopendir(dir);
    int64_t sum = 0;
    struct stat st;

    if (!d) {
        close(dir);
        return 0;
    }
    for (struct dirent *f; (f = readdir(d)) && --*left > 0;) {
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0)
            continue;
        if (fstatat(dirfd(d), f->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        sum += (int64_t)st.st_blocks * 512 /
               (st.st_nlink && !S_ISDIR(st.st_mode) ? (int64_t)st.st_nlink : 1);
        if (!S_ISDIR(st.st_mode) || depth > 64)
            continue;
        int sub = openat(dirfd(d), f->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub >= 0)
            sum += walk(sub, depth + 1, left);
    }
    closedir(d);
    return sum;
}

/* Of the instance's copies of layers, which never change. */
static int64_t copies_used(struct oci *o, struct inst *i, struct arena *a)
{
    int left = MAX_WALK;

    if (!i->copies_known) {
        int fd =
            open(oci_path(o, a, &i->id, "layers"), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        i->copies_bytes = fd >= 0 ? walk(fd, 0, &left) : 0;
        i->copies_known = true;
    }
    return i->copies_bytes;
}

int64_t oci_disk_used(struct oci *o, struct inst *i)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct statfs fs;
    struct stat st;
    int64_t pid, now = clock_mono(clock_system());

    {
        OCI_LOCK(o);
        pid = i->state.pid;
    }
    int64_t copies = copies_used(o, i, &a);
    if (stat(oci_path(o, &a, &i->id, "disk.img"), &st) == 0) {
        const char *root = arena_printf(&a, "/proc/%lld/root", (long long)pid);
        if (pid && statfs(root, &fs) == 0)
            return copies + (int64_t)(fs.f_blocks - fs.f_bfree) * (int64_t)fs.f_bsize;
        return copies + (int64_t)st.st_blocks * 512;
    }
    if (i->disk_at && now - i->disk_at < SECONDS(30))
        return copies + i->disk_bytes;
    static const char *const parts[] = { "upper", "data" };
    int left = MAX_WALK;
    i->disk_bytes = 0;
    for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
        int fd = open(oci_path(o, &a, &i->id, parts[k]),
                      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        i->disk_bytes += fd >= 0 ? walk(fd, 0, &left) : 0;
    }
    i->disk_at = now;
    return copies + i->disk_bytes;
}

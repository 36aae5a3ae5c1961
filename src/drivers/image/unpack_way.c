/* SPDX-License-Identifier: Apache-2.0 */
/* The way along a name of an archive, through links of this layer and of those below it, which are
 * never the host's.  Hides what a folder or link that lies below becomes on the way. */
#include "drivers/image/unpack_private.h"

#include <fcntl.h>
#include <linux/openat2.h> /* RESOLVE_NO_XDEV */

#include "os/file.h"

enum { LINKS_MAX = 40, UPS_MAX = 400 };

static int open_in(int root, const char *path, int flags)
{
    return fd_open_in(root, *path ? path : ".", flags, RESOLVE_NO_XDEV);
}

size_t place_of(const struct stat *dir, const char *name, struct place *out)
{
    *out = (struct place){ .dir = dir->st_ino };
    return offsetof(struct place, name) +
           (size_t)snprintf(out->name, sizeof(out->name), "%s", name);
}

int way_keep_time(int dir, const struct stat *before, struct err *e)
{
    const struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, before->st_mtim };

    return futimens(dir, t) < 0 ? err_sys(e, errno, "set the time of a folder of a layer") : 0;
}

int way_look(int dir, const char *name, struct stat *st, struct err *e)
{
    if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) == 0)
        return 1;
    return errno == ENOENT || errno == ENAMETOOLONG ? 0
                                                    : err_sys(e, errno, "stat a file of a layer");
}

static int no_folder(struct err *e)
{
    return err_set(e, ERR_INVALID, "a file in the archive lies in what is no folder");
}

/* The way goes on at 'target', seen from 'from', and then on as it would have. */
static int turn(struct way *w, const char *from, const char *target, struct err *e)
{
    char rest[2 * PATH_BYTES];

    if (w->links > LINKS_MAX || w->ups > UPS_MAX ||
        snprintf(rest, sizeof(rest), "%s/%s/%s", *target == '/' ? "" : from, target, w->rest) >=
            (int)sizeof(rest))
        return err_set(e, ERR_INVALID, "a name in the archive leads in circles");
    memcpy(w->rest, rest, strlen(rest) + 1);
    return 0;
}

static int count_steps(struct unpack *u, int64_t n, struct err *e)
{
    return unpack_count(u, &u->counts->steps, n, u->most->steps,
                        "leads through more folders and links than", e);
}

static int open_below(struct unpack *u, const char *path, int *fd, struct stat *st, struct err *e)
{
    int64_t looked = 0;

    TRY(below_open(&u->o->below, path, fd, st, &looked, e));
    return count_steps(u, looked, e);
}

/* Makes the folder 'name' in 'dir', as it is below. */
static int make_folder(struct unpack *u, const struct way *w, int dir, const char *name,
                       const char *path, bool replaces, struct err *e)
{
    struct stat before, st;

    TRY(unpack_count_entry(u, e));
    if (fstat(dir, &before) < 0 || mkdirat(dir, name, 0755) < 0)
        return err_sys(e, errno, "mkdir in a layer");
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open a folder of a layer");
    _cleanup_close_ int from = -1;
    if (!w->hidden && !replaces)
        TRY(open_below(u, path, &from, &st, e));
    if (replaces)
        TRY(below_hide(fd, e));
    if (from >= 0 && S_ISDIR(st.st_mode))
        TRY(below_copy_attributes(from, &st, fd, e));
    TRY(way_keep_time(dir, &before, e));
    return TAKE_FD(fd);
}

int way_copy_up(struct unpack *u, const struct way *w, int dir, const char *name, const char *path,
                bool only_links, struct stat *st, struct err *e)
{
    struct stat before;
    struct place place;
    _cleanup_close_ int from = -1;

    if (!w->hidden)
        TRY(open_below(u, path, &from, st, e));
    if (from < 0 || S_ISDIR(st->st_mode) || (only_links && !S_ISLNK(st->st_mode)))
        return 0;
    TRY(unpack_count(u, &u->counts->copies, 1, u->most->copies, "copies more files than", e));
    TRY(unpack_count_entry(u, e));
    TRY(unpack_count_bytes(u, S_ISREG(st->st_mode) ? st->st_size : 0, e));
    if (fstat(dir, &before) < 0)
        return err_sys(e, errno, "stat a folder of a layer");
    TRY(below_copy(from, st, dir, name, e));
    TRY(way_keep_time(dir, &before, e));
    if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "stat a copied file of a layer");
    map_set(u->copied, &place, place_of(&before, name, &place), u);
    return 1;
}

enum step { STEP_IN, STEP_TURN };

/* One part of a name, from the folder '*dir' on. */
static int step(struct unpack *u, struct way *w, int *dir, const char *name, struct err *e)
{
    char path[PATH_BYTES], target[PATH_BYTES];
    struct stat st = { 0 };

    TRY(count_steps(u, 1, e));
    if (snprintf(path, sizeof(path), "%s%s%s", w->at, *w->at ? "/" : "", name) >= PATH_BYTES)
        return err_set(e, ERR_INVALID, "a name in the archive is too long");
    int there = way_look(*dir, name, &st, e);
    TRY(there);
    bool white = there && below_is_whiteout(&st);
    if (!there)
        TRY(there = way_copy_up(u, w, *dir, name, path, true, &st, e));
    if (there && S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(*dir, name, target, sizeof(target) - 1);
        if (n < 0)
            return err_sys(e, errno, "read a link of a layer");
        target[n] = '\0';
        w->links++;
        return turn(w, w->at, target, e) < 0 ? -1 : STEP_TURN;
    }
    if (there && !white && !S_ISDIR(st.st_mode))
        return no_folder(e);
    if (white && unlinkat(*dir, name, 0) < 0)
        return err_sys(e, errno, "replace a whiteout");
    int next = there && !white ? openat(*dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                               : make_folder(u, w, *dir, name, path, white, e);
    if (next < 0)
        return there && !white ? err_sys(e, errno, "open a folder of a layer") : -1;
    close(*dir);
    *dir = next;
    int hidden = below_is_hidden(next, e);
    TRY(hidden);
    w->hidden = w->hidden || hidden;
    memcpy(w->at, path, strlen(path) + 1);
    return STEP_IN;
}

/* The next part of what is left, "" at the end. */
static void next_part(struct way *w, char name[PATH_BYTES])
{
    char *p = w->rest + strspn(w->rest, "/");
    size_t n = MIN(strcspn(p, "/"), (size_t)PATH_BYTES - 1);

    memcpy(name, p, n);
    name[n] = '\0';
    memmove(w->rest, p + n, strlen(p + n) + 1);
}

int way_walk(struct unpack *u, const char *path, struct way *w, struct err *e)
{
    _cleanup_close_ int dir = -1;
    char name[PATH_BYTES];
    int how = STEP_TURN;

    *w = (struct way){ .links = 0 };
    memcpy(w->rest, path, strlen(path) + 1);
    for (;;) {
        if (how == STEP_TURN) {
            if (dir >= 0)
                close(dir);
            dir = open_in(u->root, "", O_RDONLY | O_DIRECTORY);
            if (dir < 0)
                return err_sys(e, errno, "open a layer");
            w->at[0] = '\0';
            w->hidden = u->opaque;
            how = STEP_IN;
        }
        next_part(w, name);
        if (!*name)
            return TAKE_FD(dir);
        if (strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") == 0) {
            char *slash = strrchr(w->at, '/');
            w->at[slash ? slash - w->at : 0] = '\0';
            w->ups++;
            TRY(turn(w, w->at, ".", e));
            how = STEP_TURN;
            continue;
        }
        TRY(how = step(u, w, &dir, name, e));
    }
}

int way_folder(struct unpack *u, const char *path, struct err *e)
{
    struct way w;
    int fd = open_in(u->root, path, O_RDONLY | O_DIRECTORY);

    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ENOTDIR)
        return way_walk(u, path, &w, e);
    return errno == ELOOP || errno == ENAMETOOLONG || errno == EXDEV
               ? no_folder(e)
               : err_sys(e, errno, "open a folder of a layer");
}

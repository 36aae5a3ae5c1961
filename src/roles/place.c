/* SPDX-License-Identifier: Apache-2.0 */
/* Folders, files and names of an installation (contracts 8).
 *
 * The state folder belongs to root and is sticky, and the api's user writes in it by its group: so
 * the role that faces the network can make its store there, but can neither rename nor replace
 * agent/, which root trusts.  Were it the owner, root would follow whatever it put in that place.
 */

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "codec/text.h"
#include "os/file.h"
#include "roles/roles.h"

int user_find(const char *name, uid_t *uid, gid_t *gid, struct err *e)
{
    struct passwd pw, *got = NULL;
    char space[4096];

    if (getpwnam_r(name, &pw, space, sizeof(space), &got) != 0 || !got)
        return err_set(e, ERR_INVALID,
                       "there is no user \"%s\": make it with `useradd --system --no-create-home "
                       "%s`, or set places.user (places.edge_user is the edge's)",
                       name, name);
    *uid = got->pw_uid;
    *gid = got->pw_gid;
    return 0;
}

/* A folder that is ours to set: a link in its place is refused. */
static int folder(const char *path, uid_t uid, gid_t gid, mode_t mode, struct err *e)
{
    _cleanup_close_ int fd = -1;

    TRY(dir_make(path, 0755, e));
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, ERR_INVALID, "%s must be a folder, not a link: %s", path,
                       strerror(errno));
    if (fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0)
        return err_set(e, ERR_INVALID, "%s: cannot set its owner: %s", path, strerror(errno));
    return 0;
}

/* Can the api's user come to 'path' at all? A private folder above it is the usual reason why not.
 */
static int reachable(struct arena *a, const char *path, gid_t gid, struct err *e)
{
    char *p = arena_strdup(a, path);

    for (char *slash = strchr(p + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        struct stat st;

        *slash = '\0';
        if (stat(p, &st) == 0 && !(st.st_mode & S_IXOTH) &&
            !(st.st_gid == gid && st.st_mode & S_IXGRP))
            return err_set(e, ERR_INVALID,
                           "the api's user cannot pass %s (mode %o): take a folder elsewhere, or "
                           "`chmod o+x %s`",
                           p, (unsigned)st.st_mode & 07777, p);
        *slash = '/';
    }
    return 0;
}

int place_make(const struct config *c, uid_t uid, gid_t gid, struct err *e)
{
    struct arena a = ARENA(KIB(64));
    int rc = -1;

    if (reachable(&a, c->state_dir, gid, e) == 0 && reachable(&a, c->run_dir, gid, e) == 0 &&
        folder(c->state_dir, 0, gid, 01770, e) == 0 &&
        folder(arena_printf(&a, "%s/agent", c->state_dir), 0, 0, 0700, e) == 0 &&
        folder(arena_printf(&a, "%s/mail", c->state_dir), uid, gid, 0700, e) == 0 &&
        folder(arena_printf(&a, "%s/blobs", c->state_dir), uid, gid, 0700, e) == 0 &&
        folder(c->run_dir, 0, gid, 01775, e) == 0 && folder(c->cache_dir, 0, 0, 0755, e) == 0)
        rc = 0;
    arena_free(&a);
    return rc;
}

int place_installation(const char *state_dir, char out[9], struct err *e)
{
    struct arena a = ARENA(KIB(64));
    const char *path = arena_printf(&a, "%s/installation", state_dir);
    struct str text;
    uint8_t random[4];
    char made[10];
    int rc = 0;

    if (access(path, F_OK) < 0 && errno == ENOENT) {
        if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
            abort();
        hex_encode(random, sizeof(random), made);
        made[8] = '\n';
        rc = file_write_atomic(path, made, 9, 0644, e);
    }
    if (rc == 0)
        rc = file_read(&a, path, 64, &text, e);
    if (rc == 0 && (text.n < 8 || strspn(text.p, "0123456789abcdef") != 8))
        rc = err_set(e, ERR_INVALID, "%s is damaged: it must hold 8 hexadecimal digits", path);
    if (rc == 0) {
        memcpy(out, text.p, 8);
        out[8] = '\0';
    }
    arena_free(&a);
    return rc;
}

const char *place_shim(struct arena *a)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    const char *const beside[] = { "brume-shim", "../shim/brume-shim",
                                   "../libexec/brume/brume-shim" };

    if (n > 0) {
        self[n] = '\0';
        *strrchr(self, '/') = '\0';
        for (size_t i = 0; i < ARRAY_LEN(beside); i++) {
            const char *path = arena_printf(a, "%s/%s", self, beside[i]);

            if (access(path, X_OK) == 0)
                return path;
        }
    }
    return access(BRUME_SHIM, X_OK) == 0 ? BRUME_SHIM : NULL;
}

const char *place_agent_socket(struct arena *a, const struct config *c)
{
    return arena_printf(a, "%s/agent.sock", c->run_dir);
}

const char *place_control_socket(struct arena *a, const struct config *c)
{
    return arena_printf(a, "%s/control.sock", c->run_dir);
}

const char *place_edge_socket(struct arena *a, const struct config *c)
{
    return arena_printf(a, "%s/edge.sock", c->run_dir);
}

const char *place_feed_socket(struct arena *a, const struct config *c)
{
    return arena_printf(a, "%s/feed.sock", c->run_dir);
}

int place_edge(const struct config *c, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));
    const char *path = arena_printf(&a, "%s/edge", c->state_dir);
    uid_t uid;
    gid_t gid;

    TRY(user_find(c->edge_user, &uid, &gid, e));
    TRY(folder(path, uid, gid, 0700, e));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_sys(e, errno, "open %s", path) : fd;
}

const char *place_store_file(const struct config *c)
{
    return !strncmp(c->store, "sqlite:", 7) ? c->store + 7 : NULL;
}

int place_lock(const char *path, struct err *e)
{
    /* Not O_CREAT on one that is there: in a sticky folder the kernel may refuse that even to root.
     */
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && errno == ENOENT)
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(e, ERR_INVALID, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    close(fd);
    return err_set(e, ERR_INVALID_STATE, "%s is held by another process", path);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* `brume backup FILE` and `brume restore FILE`.  A backup is the SQLite file itself, so that it can
 * be looked at with SQLite's own tools.  master.key is not in it: who has both has everything. */

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/clock.h"
#include "db/db.h"
#include "roles/roles.h"

static int fail(const struct err *e)
{
    fprintf(stderr, "brume: %s\n", e->cause[0] ? e->cause : e->msg);
    return 1;
}

/* The one word that is no flag; the rest is the configuration's. */
static const char *take_file(int *argc, const char *const *argv, const char **rest)
{
    const char *file = NULL;
    int n = 0;

    for (int i = 0; i < *argc && n < 60; i++) {
        if (argv[i][0] != '-' && !file &&
            (i == 0 || argv[i - 1][0] != '-' || strchr(argv[i - 1], '=')))
            file = argv[i];
        else
            rest[n++] = argv[i];
    }
    *argc = n;
    return file;
}

static int sync_folder(const char *path, struct err *e)
{
    struct arena a = ARENA(KIB(64));
    char *dir = arena_strdup(&a, path), *slash = strrchr(dir, '/');
    _cleanup_close_ int fd = -1;
    int rc = 0;

    if (slash == dir)
        slash++;
    if (slash)
        *slash = '\0';
    fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        rc = err_sys(e, errno, "fsync %s", slash ? dir : ".");
    arena_free(&a);
    return rc;
}

/* Copies all of 'from' into the new file 'path', to the disk. */
static int copy_to(int from, const char *path, struct err *e)
{
    _cleanup_close_ int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;
    off_t at = 0;

    if (to < 0 || fstat(from, &st) < 0)
        return err_sys(e, errno, "%s", path);
    while (at < st.st_size) {
        ssize_t n = sendfile(to, from, &at, (size_t)MIN(st.st_size - at, (off_t)1 << 30));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int why = n < 0 ? errno : EIO;

            unlink(path);
            return err_sys(e, why, "write %s", path);
        }
    }
    if (fsync(to) < 0) {
        unlink(path);
        return err_sys(e, errno, "fsync %s", path);
    }
    return 0;
}

/* ---- backup */

/* Asks the running api; a descriptor of the copy, or -1. */
static int ask(const char *socket_path, struct err *e)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } u = { 0 };
    char line[512];
    struct iovec iov = { line, sizeof(line) - 1 };
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.space, .msg_controllen = sizeof(u.space)
    };
    ssize_t n;
    int file;

    if (strlen(socket_path) >= sizeof(at.sun_path))
        return err_set(e, ERR_INVALID, "the path of the socket %s is too long", socket_path);
    memcpy(at.sun_path, socket_path, strlen(socket_path) + 1);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0)
        return err_set(e, ERR_INVALID_STATE,
                       errno == EACCES ? "only root may make a backup: `sudo brume backup FILE`"
                                       : "brume does not serve here (%s): start it, or copy the "
                                         "store's file while nothing runs",
                       socket_path);
    if (send(fd, "backup", 6, MSG_NOSIGNAL) != 6 || (n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC)) <= 0)
        return err_set(e, ERR_INTERNAL, "the api went away during the backup");
    line[n] = '\0';
    if (strcmp(line, "ok") != 0)
        return err_set(e, ERR_INVALID, "%s", !strncmp(line, "error ", 6) ? line + 6 : line);
    if (u.h.cmsg_type != SCM_RIGHTS || u.h.cmsg_len != CMSG_LEN(sizeof(int)))
        return err_set(e, ERR_INTERNAL, "the api sent no file");
    memcpy(&file, CMSG_DATA(&u.h), sizeof(int));
    return file;
}

int backup_main(int argc, const char *const *argv, const char *const *env)
{
    const char *rest[64], *path = take_file(&argc, argv, rest);
    _cleanup_close_ int file = -1;
    struct arena a = ARENA(KIB(64));
    struct config *c;
    struct err e = { 0 };
    const char *part;
    int rc = 0;

    if (!path) {
        fputs("brume: FILE is missing. Usage: brume backup FILE [flags of serve]\n", stderr);
        return 2;
    }
    c = serve_config(argc, rest, env);
    if (!c)
        return 2;
    part = arena_printf(&a, "%s.part", path);
    unlink(part);
    file = ask(place_control_socket(&a, c), &e);
    if (file < 0 || copy_to(file, part, &e) < 0)
        rc = fail(&e);
    else if (rename(part, path) < 0)
        rc = fail((err_sys(&e, errno, "rename %s", part), &e));
    else if (sync_folder(path, &e) < 0)
        rc = fail(&e);
    else
        printf("Wrote %s.  Keep %s/master.key too, elsewhere: without it the secrets in the "
               "backup cannot be read.\n",
               path, c->state_dir);
    arena_free(&a);
    config_free(c);
    return rc;
}

/* ---- restore */

static int on_check(void *ctx, const struct col *cols, size_t n, struct err *e _unused_)
{
    bool *ok = ctx;

    *ok = n == 1 && cols[0].s && !strcmp(cols[0].s, "ok");
    return 0;
}

/* Is it a whole store of ours? Reads every page. */
static int check_store(const char *path, struct err *e)
{
    struct arena a = ARENA(KIB(64));
    struct store_opts o = { .url = arena_printf(&a, "sqlite:%s", path), .clock = clock_system() };
    _cleanup_(store_freep) struct store *s = NULL;
    char magic[16] = "";
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct db *db;
    bool whole = false;
    int64_t tables = 0;
    int rc = -1;

    if (fd < 0 || read(fd, magic, sizeof(magic)) != (ssize_t)sizeof(magic) ||
        memcmp(magic, "SQLite format 3", 16) != 0) {
        arena_free(&a);
        return err_set(e, ERR_INVALID, "it is no backup of brume: not an SQLite file");
    }
    s = store_open(&o, e);
    db = s ? store_reader(s, e) : NULL;
    if (db) {
        rc = db_int(db, "SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'",
                    NO_ARGS, 0, &tables, e);
        if (rc == 0 && !tables)
            rc = err_set(e, ERR_INVALID, "it is no backup of brume: it has none of its tables");
        if (rc == 0)
            rc = db_each(db, "PRAGMA integrity_check(1)", NO_ARGS, on_check, &whole, e);
        if (rc == 0 && !whole)
            rc = err_set(e, ERR_INVALID, "the backup is damaged: SQLite's integrity check failed");
        db_read_done(db);
        store_reader_back(s, db);
    }
    arena_free(&a);
    return rc;
}

static int clear_epoch(struct db *db, void *ctx _unused_, struct err *e)
{
    int64_t tables = 0;

    TRY(db_int(db, "SELECT count(*) FROM sqlite_master WHERE name = 'core_feed_head'", NO_ARGS, 0,
               &tables, e));
    return tables ? db_exec(db, "UPDATE core_feed_head SET epoch = ''", NO_ARGS, e) : 0;
}

/* Edges refuse a feed that is older than what they know, unless it is of another epoch: this one
 * is. */
static int begin_epoch(const char *path, struct err *e)
{
    struct arena a = ARENA(KIB(64));
    struct store_opts o = { .url = arena_printf(&a, "sqlite:%s", path), .clock = clock_system() };
    struct store *s = store_open(&o, e);
    int rc = s ? store_write(s, clear_epoch, NULL, e) : -1;

    store_free(s);
    arena_free(&a);
    return rc;
}

/* Folds the log of the old store into its file; a store that cannot be opened keeps its log beside
 * it, under the old store's new name. */
static int fold_old(struct arena *a, const char *store, const char *aside, struct err *e)
{
    static const char *const tails[] = { "-wal", "-shm" };
    struct store_opts o = { .url = arena_printf(a, "sqlite:%s", store), .clock = clock_system() };
    struct store *s = store_open(&o, e);

    store_free(s);
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        const char *from = arena_printf(a, "%s%s", store, tails[i]);

        if (rename(from, arena_printf(a, "%s%s", aside, tails[i])) < 0 && errno != ENOENT)
            return err_sys(e, errno, "rename %s", from);
    }
    return 0;
}

/* At every moment the store's path holds the old store or the new one, whole. */
static int put_in_place(struct arena *a, const struct config *c, const char *store, int from,
                        const char **aside, struct err *e)
{
    const char *fresh = arena_printf(a, "%s.restore", store);
    uid_t uid;
    gid_t gid;
    int rc;

    *aside = NULL;
    TRY(user_find(c->user, &uid, &gid, e));
    unlink(fresh);
    TRY(copy_to(from, fresh, e));
    rc = check_store(fresh, e);
    if (rc == 0)
        rc = begin_epoch(fresh, e);
    if (rc == 0 && chown(fresh, uid, gid) < 0)
        rc = err_sys(e, errno, "chown %s", fresh);
    if (rc == 0 && access(store, F_OK) == 0) {
        *aside = arena_printf(a, "%s.before-%lld", store, (long long)time(NULL));
        rc = fold_old(a, store, *aside, e);
        if (rc == 0 && link(store, *aside) < 0)
            rc = err_sys(e, errno, "link %s", *aside);
    }
    if (rc == 0 && rename(fresh, store) < 0)
        rc = err_sys(e, errno, "rename %s", fresh);
    if (rc < 0) {
        unlink(fresh);
        return -1;
    }
    return sync_folder(store, e);
}

static int restore(struct arena *a, const struct config *c, const char *path, struct err *e)
{
    const char *store = place_store_file(c), *aside = NULL;
    _cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int supervisor = -1, api = -1;
    const char *agent = arena_printf(a, "%s/agent", c->state_dir);
    uid_t uid;
    gid_t gid;

    if (!store)
        return err_set(e, ERR_NOT_IMPLEMENTED,
                       "the store is PostgreSQL: restore it with pg_restore");
    if (from < 0)
        return err_set(e, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
    TRY(user_find(c->user, &uid, &gid, e));
    TRY(place_make(c, uid, gid, e));
    supervisor = place_lock(arena_printf(a, "%s/supervisor.lock", agent), e);
    if (supervisor >= 0)
        api = place_lock(arena_printf(a, "%s/lock", c->state_dir), e);
    if ((supervisor < 0 || api < 0) && e->code == ERR_INVALID_STATE)
        return err_set(e, ERR_INVALID_STATE, "brume serves from %s: stop it first", c->state_dir);
    if (supervisor < 0 || api < 0)
        return -1;
    if (fchown(api, uid, gid) < 0)
        return err_sys(e, errno, "chown %s/lock", c->state_dir);
    TRY(put_in_place(a, c, store, from, &aside, e));
    printf("%s now holds what %s has.", store, path);
    if (aside)
        printf("  The store before is kept as %s.", aside);
    printf("\n");
    return 0;
}

int restore_main(int argc, const char *const *argv, const char *const *env)
{
    const char *rest[64], *path = take_file(&argc, argv, rest);
    struct arena a = ARENA(KIB(256));
    struct config *c;
    struct err e = { 0 };
    int rc = 0;

    if (!path) {
        fputs("brume: FILE is missing. Usage: brume restore FILE [flags of serve]\n", stderr);
        return 2;
    }
    if (geteuid() != 0) {
        fputs("brume: restoring needs root: `sudo brume restore FILE`\n", stderr);
        return 1;
    }
    c = serve_config(argc, rest, env);
    if (!c)
        return 2;
    if (restore(&a, c, path, &e) < 0)
        rc = fail(&e);
    config_free(c);
    arena_free(&a);
    return rc;
}

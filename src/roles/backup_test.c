/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/app.h"
#include "db/db.h"
#include "os/file.h"
#include "roles/roles.h"

/* A store that is in use, with its control socket, and the two commands run against it as a user
 * would.  Restoring needs root, for the files change their owner. */

static struct arena arena = ARENA(MIB(8));
static char top[64];
static const char *env[8];

static const char *at(const char *name)
{
    return arena_printf(&arena, "%s/%s", top, name);
}

static int prepare(void **state _unused_)
{
    snprintf(top, sizeof(top), "/var/tmp/brume-backup-XXXXXX");
    if (!mkdtemp(top) || chmod(top, 0755) < 0)
        return -1;
    env[0] = arena_printf(&arena, "BRUME_PLACES_STATE_DIR=%s/state", top);
    env[1] = arena_printf(&arena, "BRUME_PLACES_RUN_DIR=%s/run", top);
    env[2] = arena_printf(&arena, "BRUME_PLACES_CACHE_DIR=%s/cache", top);
    env[3] = "BRUME_PLACES_USER=nobody";
    return 0;
}

static int tidy(void **state _unused_)
{
    struct err e;
    int rc = dir_remove(top, &e);

    arena_free(&arena);
    return rc;
}

static struct store *open_store(void)
{
    struct store_opts o = { .url = arena_printf(&arena, "sqlite:%s/state/store.db", top),
                            .clock = clock_system() };
    struct migration_set set = { "core", core_migrations };
    struct err e = { 0 };
    struct store *s;

    assert_int_equal(dir_make(at("state"), 0755, &e), 0);
    assert_int_equal(dir_make(at("run"), 0755, &e), 0);
    s = store_open(&o, &e);
    assert_non_null(s);
    assert_int_equal(store_migrate(s, &set, 1, &e), 0);
    return s;
}

static int put_note(struct db *db, void *ctx, struct err *e)
{
    if (db_exec(db, "CREATE TABLE IF NOT EXISTS note (text TEXT NOT NULL)", NO_ARGS, e) < 0 ||
        db_exec(db, "DELETE FROM note", NO_ARGS, e) < 0)
        return -1;
    return db_exec(db, "INSERT INTO note VALUES ($1)", ARGS(A((const char *)ctx)), e);
}

static void write_note(struct store *s, const char *text)
{
    struct err e = { 0 };

    assert_int_equal(store_write(s, put_note, (void *)(uintptr_t)text, &e), 0);
}

static int64_t notes(struct store *s, const char *text)
{
    struct err e = { 0 };
    struct db *db = store_reader(s, &e);
    int64_t n = -1;

    assert_non_null(db);
    assert_int_equal(
        db_int(db, "SELECT count(*) FROM note WHERE text = $1", ARGS(A(text)), -1, &n, &e), 0);
    db_read_done(db);
    store_reader_back(s, db);
    return n;
}

static int put_epoch(struct db *db, void *ctx, struct err *e)
{
    return db_exec(db, "UPDATE core_feed_head SET epoch = $1", ARGS(A((const char *)ctx)), e);
}

static int64_t epochs(struct store *s, const char *name)
{
    struct err e = { 0 };
    int64_t n = -1;

    assert_int_equal(db_int(store_any_reader(s),
                            "SELECT count(*) FROM core_feed_head WHERE epoch = $1", ARGS(A(name)),
                            -1, &n, &e),
                     0);
    return n;
}

static void *accept_one(void *arg)
{
    control_accept(arg);
    return NULL;
}

static int backup(struct store *s, const char *to)
{
    struct err e = { 0 };
    struct control *c = control_new(at("run/control.sock"), s, at("state"), &e);
    pthread_t t;
    int rc;

    assert_non_null(c);
    /* The listening socket does not block: the thread starts when somebody is there. */
    fcntl(control_fd(c), F_SETFL, 0);
    assert_int_equal(pthread_create(&t, NULL, accept_one, c), 0);
    rc = backup_main(1, (const char *const[]){ to }, env);
    pthread_join(t, NULL);
    control_free(c);
    return rc;
}

static void a_backup_of_the_running_store_is_restored(void **state _unused_)
{
    const char *file = at("copy.db");
    struct err e = { 0 };
    struct store *s;
    struct stat st;

    if (geteuid() != 0)
        skip();
    s = open_store();
    write_note(s, "before");
    assert_int_equal(store_write(s, put_epoch, (char[]){ "first" }, &e), 0);
    assert_int_equal(backup(s, file), 0);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_not_equal(access(at("copy.db.part"), F_OK), 0);
    assert_int_not_equal(access(at("state/backup.new"), F_OK), 0);
    write_note(s, "after");
    store_free(s);

    assert_int_equal(restore_main(1, &file, env), 0);
    assert_int_equal(stat(at("state/store.db"), &st), 0);
    assert_int_equal(st.st_uid, getpwnam("nobody")->pw_uid);
    s = open_store();
    assert_int_equal(notes(s, "before"), 1);
    assert_int_equal(notes(s, "after"), 0);
    /* Edges are to take it though it is older than what they know. */
    assert_int_equal(epochs(s, "first"), 0);
    assert_int_equal(epochs(s, ""), 1);
    store_free(s);
}

static void a_store_in_use_is_not_restored_over(void **state _unused_)
{
    const char *file = at("copy2.db");
    struct err e = { 0 };
    struct store *s;
    int lock;

    if (geteuid() != 0)
        skip();
    s = open_store();
    write_note(s, "kept");
    assert_int_equal(backup(s, file), 0);
    store_free(s);
    lock = place_lock(at("state/lock"), &e);
    assert_true(lock >= 0);
    assert_int_equal(restore_main(1, &file, env), 1);
    close(lock);
}

static void what_is_no_backup_is_refused_and_changes_nothing(void **state _unused_)
{
    const char *text = at("text"), *damaged = at("damaged.db");
    struct err e = { 0 };
    struct store *s;
    char junk[4096];

    if (geteuid() != 0)
        skip();
    s = open_store();
    write_note(s, "still here");
    assert_int_equal(backup(s, damaged), 0);
    store_free(s);
    memset(junk, 'x', sizeof(junk));
    assert_int_equal(file_write(text, junk, sizeof(junk), 0600, &e), 0);
    assert_int_equal(restore_main(1, &text, env), 1);
    int fd = open(damaged, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, junk, sizeof(junk), 4096), sizeof(junk));
    close(fd);
    assert_int_equal(restore_main(1, &damaged, env), 1);
    assert_int_equal(restore_main(1, (const char *const[]){ "/nonexistent" }, env), 1);
    assert_int_not_equal(access(at("state/store.db.restore"), F_OK), 0);
    s = open_store();
    assert_int_equal(notes(s, "still here"), 1);
    store_free(s);
}

static void without_a_running_api_there_is_no_backup(void **state _unused_)
{
    assert_int_equal(backup_main(1, (const char *const[]){ at("none.db") }, env), 1);
    assert_int_not_equal(access(at("none.db"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backup_of_the_running_store_is_restored),
        cmocka_unit_test(a_store_in_use_is_not_restored_over),
        cmocka_unit_test(what_is_no_backup_is_refused_and_changes_nothing),
        cmocka_unit_test(without_a_running_api_there_is_no_backup),
    };

    return cmocka_run_group_tests(tests, prepare, tidy);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: what shares a commit, what becomes of neighbours, what an acknowledgement is worth. */
#include "db/notes.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static void neighbours_share_a_commit(void **state)
{
    struct fixture *f = *state;
    static struct note notes[100];

    memset(notes, 0, sizeof(notes));
    with_table(f);
    uint64_t before = store_commits(f->s);
    run_together(f, notes, 100);
    assert_true(store_commits(f->s) - before <= 4);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 100);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(notes[i].rc, 0);
        assert_int_equal(notes[i].committeds, 1);
        assert_true(notes[i].commits > before);
    }
}

static void a_unique_violation_does_not_hurt_neighbours(void **state)
{
    struct fixture *f = *state;
    struct note notes[5] = { { .id = "a" }, { .id = "b" }, { .id = "a" }, { .id = "c" } };

    with_table(f);
    run_together(f, notes, 5);
    int failed = (notes[0].rc < 0) + (notes[2].rc < 0);
    const struct note *loser = notes[0].rc < 0 ? &notes[0] : &notes[2];
    assert_int_equal(failed, 1);
    assert_int_equal(loser->err.code, ERR_ALREADY_EXISTS);
    assert_int_equal(loser->committeds, 0);
    assert_int_equal(notes[1].rc, 0);
    assert_int_equal(notes[3].rc, 0);
    assert_int_equal(notes[4].rc, 0);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 4);
}

static void a_failed_job_leaves_what_its_hook_wrote_and_no_more(void **state)
{
    struct fixture *f = *state;
    struct note notes[3] = { 0 };

    notes[1].fails = 1;
    notes[1].with = ERR_QUOTA_EXCEEDED;
    notes[1].job.failed = note_failed;
    with_table(f);
    run_together(f, notes, 3);
    assert_int_equal(notes[1].rc, -1);
    assert_int_equal(notes[1].err.code, ERR_QUOTA_EXCEEDED);
    assert_int_equal(notes[1].runs, 1);
    assert_int_equal(notes[1].faileds, 1);
    assert_int_equal(notes[1].committeds, 1);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 4);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes WHERE id = 'n1'"), 0);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes WHERE id = 'failed-n1'"), 1);
}

static void a_failing_hook_leaves_nothing_and_the_first_error_stands(void **state)
{
    struct fixture *f = *state;
    struct note notes[2] = { 0 };

    notes[1].fails = 1;
    notes[1].with = ERR_QUOTA_EXCEEDED;
    notes[1].job.failed = note_failed;
    with_table(f);
    ok(f, fixture_write(f, "INSERT INTO notes (id) VALUES ('last-n1')"));
    run_together(f, notes, 2);
    assert_int_equal(notes[1].err.code, ERR_QUOTA_EXCEEDED);
    assert_int_equal(notes[1].committeds, 0);
    assert_int_equal(notes[0].rc, 0);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 2);
}

static int pass_over(struct db *db, void *ctx _unused_, struct err *e)
{
    struct err ignored;

    TRY(put(db, "kept", e));
    if (put(db, "kept", &ignored) == 0)
        return err_set(e, ERR_INTERNAL, "twice");
    return 0;
}

static void a_statement_that_failed_cannot_be_passed_over(void **state)
{
    struct fixture *f = *state;

    with_table(f);
    fails_with(f, store_write(f->s, pass_over, NULL, &f->e), ERR_INTERNAL);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 0);
    ok(f, fixture_write(f, "INSERT INTO notes (id) VALUES ('next')"));
}

static void a_commit_that_fails_is_tried_again_for_each_alone(void **state)
{
    struct fixture *f = *state;
    struct note notes[3] = { 0 };

    with_table(f);
    fault_arm("db.commit", 2); /* the gate's is the first */
    run_together(f, notes, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(notes[i].rc, 0);
        assert_int_equal(notes[i].runs, 2);
        assert_int_equal(notes[i].committeds, 1);
    }
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 3);
}

static void a_commit_that_fails_on_postgres_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct note note = { 0 };

    with_table(f);
    fault_arm("db.commit", 1);
    run_together(f, &note, 1);
    assert_int_equal(note.rc, -1);
    assert_int_equal(note.committeds, 0);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 0);
    ok(f, fixture_write(f, "INSERT INTO notes (id) VALUES ('next')"));
}

/* ---- a full disk */

static int cap_pages(struct db *db, void *ctx, struct err *e)
{
    char sql[64];
    int64_t pages;

    TRY(db_int(db, "PRAGMA page_count", NO_ARGS, 0, &pages, e));
    snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %d", (int)pages + *(const int *)ctx);
    return db_int(db, sql, NO_ARGS, 0, &pages, e);
}

struct large {
    struct note note;
    int bytes;
};

static int large_run(struct db *db, void *ctx, struct err *e)
{
    struct large *l = ctx;

    atomic_fetch_add(&l->note.runs, 1);
    return db_exec(db, "INSERT INTO notes (id, body) VALUES ($1, hex(zeroblob($2)))",
                   ARGS(A((const char *)l->note.id), A(l->bytes / 2)), e);
}

static void a_full_disk_fails_the_large_job_and_spares_the_small(void **state)
{
    struct fixture *f = *state;
    sem_t done;
    struct gate g = { .job = { .run = gate_run, .done = gate_done, .ctx = &g }, .done = &done };
    struct large all[3] = { { .bytes = 100 }, { .bytes = 400000 }, { .bytes = 100 } };
    int room = 20;

    with_table(f);
    ok(f, store_write(f->s, cap_pages, &room, &f->e));
    sem_init(&done, 0, 0);
    sem_init(&g.entered, 0, 0);
    sem_init(&g.open, 0, 0);
    assert_true(store_submit(f->s, &g.job));
    sem_wait(&g.entered);
    for (int i = 0; i < 3; i++) {
        all[i].note.done = &done;
        snprintf(all[i].note.id, sizeof(all[i].note.id), "l%d", i);
        all[i].note.job = (struct db_job){ .run = large_run, .done = note_done, .ctx = &all[i] };
        assert_true(store_submit(f->s, &all[i].note.job));
    }
    sem_post(&g.open);
    for (int i = 0; i < 4; i++)
        sem_wait(&done);
    assert_int_equal(all[0].note.rc, 0);
    assert_int_equal(all[1].note.rc, -1);
    assert_int_equal(all[1].note.err.code, ERR_OVERLOADED);
    assert_string_equal(all[1].note.err.msg, "no space left for the database");
    assert_int_equal(all[2].note.rc, 0);
    assert_int_equal(all[0].note.runs, 2); /* once with the batch, once alone */
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 2);
    room = 10000;
    ok(f, store_write(f->s, cap_pages, &room, &f->e));
    ok(f, fixture_write(f, "INSERT INTO notes (id) VALUES ('after')"));
}

/* ---- reading what was written */

static void a_round_sees_what_was_acknowledged_and_nothing_else_new(void **state)
{
    struct fixture *f = *state;
    int64_t n;

    with_table(f);
    struct db *db = store_reader(f->s, &f->e);
    static const char count[] = "SELECT count(*) FROM notes";

    ok(f, db_read_round(db, &f->e));
    ok(f, db_int(db, count, NO_ARGS, 0, &n, &f->e));
    assert_int_equal(n, 0);
    ok(f, fixture_write(f, "INSERT INTO notes (id) VALUES ('a')"));
    if (!f->postgres) {
        ok(f,
           db_int(db, count, NO_ARGS, 0, &n, &f->e)); /* the same moment, for nobody asked anew */
        assert_int_equal(n, 0);
    }
    ok(f, db_read_round(db, &f->e));
    ok(f, db_int(db, count, NO_ARGS, 0, &n, &f->e));
    assert_int_equal(n, 1);
    db_read_done(db);
    ok(f, fixture_write(f, "INSERT INTO notes (id) VALUES ('b')"));
    ok(f, db_int(db, count, NO_ARGS, 0, &n, &f->e)); /* outside of rounds */
    assert_int_equal(n, 2);
    store_reader_back(f->s, db);
}

/* ---- many at once */

struct crowd {
    struct fixture *f;
    int number;
    _Atomic int *bad;
};

enum { CROWD = 64, EACH = 40 };

static int count_up(struct db *db, void *ctx, struct err *e)
{
    TRY(put(db, ctx, e));
    return db_exec(db, "UPDATE counter SET n = n + 1", NO_ARGS, e);
}

static void *crowd_thread(void *arg)
{
    struct crowd *c = arg;
    struct err e;
    struct db *db = c->number < 16 ? store_reader(c->f->s, &e) : NULL;

    for (int i = 0; i < EACH; i++) {
        char id[32];
        int64_t n = 0;

        snprintf(id, sizeof(id), "%d-%d", c->number, i);
        if (store_write(c->f->s, count_up, id, &e) < 0)
            atomic_fetch_add(c->bad, 1);
        if (db && (db_read_round(db, &e) < 0 ||
                   db_int(db, "SELECT count(*) FROM notes WHERE id = $1", ARGS(A((const char *)id)),
                          0, &n, &e) < 0 ||
                   n != 1))
            atomic_fetch_add(c->bad, 1);
    }
    store_reader_back(c->f->s, db);
    return NULL;
}

static void sixty_four_submitters_all_get_through(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[CROWD];
    struct crowd crowd[CROWD];
    _Atomic int bad = 0;

    with_table(f);
    ok(f, fixture_write(f, "CREATE TABLE counter (n BIGINT NOT NULL)"));
    ok(f, fixture_write(f, "INSERT INTO counter VALUES (0)"));
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = (struct crowd){ f, i, &bad };
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_thread, &crowd[i]), 0);
    }
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(bad, 0);
    assert_int_equal(fixture_int(f, "SELECT n FROM counter"), CROWD * EACH);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), CROWD * EACH);
}

static void a_full_queue_says_so(void **state)
{
    struct fixture *f = *state;
    struct gate gates[4];
    static struct note notes[5000];
    sem_t done;
    size_t taken = 0, blocked = f->postgres ? 4 : 1;

    memset(notes, 0, sizeof(notes));
    with_table(f);
    sem_init(&done, 0, 0);
    for (size_t i = 0; i < blocked; i++) {
        gates[i] = (struct gate){ .job = { .run = gate_run, .done = gate_done, .ctx = &gates[i] },
                                  .done = &done };
        sem_init(&gates[i].entered, 0, 0);
        sem_init(&gates[i].open, 0, 0);
        assert_true(store_submit(f->s, &gates[i].job));
        sem_wait(&gates[i].entered);
    }
    for (size_t i = 0; i < 5000; i++) {
        notes[i].done = &done;
        snprintf(notes[i].id, sizeof(notes[i].id), "q%zu", i);
        notes[i].job = (struct db_job){ .run = note_run, .done = note_done, .ctx = &notes[i] };
        taken += store_submit(f->s, &notes[i].job);
    }
    assert_int_equal(taken, 4096);
    assert_int_equal(fixture_write(f, "DELETE FROM notes"), -1);
    assert_int_equal(f->e.code, ERR_OVERLOADED);
    for (size_t i = 0; i < blocked; i++)
        sem_post(&gates[i].open);
    store_free(f->s); /* writes what is queued */
    f->s = NULL;
    for (size_t i = 0; i < taken + blocked; i++)
        assert_int_equal(sem_trywait(&done), 0);
    fixture_open(f);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 4096);
}

/* ---- kill -9 */

struct killed {
    struct store *s;
    int number, fd;
};

static void *killed_thread(void *arg)
{
    struct killed *k = arg;
    struct err e;

    for (int i = 0;; i++) {
        char id[16] = { 0 };

        snprintf(id, sizeof(id), "%d-%d", k->number, i);
        if (store_write(k->s, count_up, id, &e) < 0 || write(k->fd, id, sizeof(id)) < 0)
            _exit(1);
    }
    return NULL;
}

static void killed_child(const char *url, int fd)
{
    struct killed k[8];
    pthread_t t;
    struct err e;
    struct store *s = store_open(&(struct store_opts){ .url = url, .workers = 4 }, &e);

    if (!s)
        _exit(2);
    for (int i = 0; i < 8; i++) {
        k[i] = (struct killed){ s, i, fd };
        if (pthread_create(&t, NULL, killed_thread, &k[i]))
            _exit(3);
    }
    pause();
    _exit(4);
}

static int seek(struct db *db, const char *id, struct err *e)
{
    int64_t n;

    TRY(db_int(db, "SELECT count(*) FROM notes WHERE id = $1", ARGS(A(id)), 0, &n, e));
    return n == 1 ? 0 : err_set(e, ERR_NOT_FOUND, "%s was acknowledged and is gone", id);
}

static void what_was_acknowledged_outlives_a_kill(void **state)
{
    struct fixture *f = *state;
    int pipes[2], acknowledged = 0;

    with_table(f);
    ok(f, fixture_write(f, "CREATE TABLE counter (n BIGINT NOT NULL)"));
    ok(f, fixture_write(f, "INSERT INTO counter VALUES (0)"));
    store_free(f->s);
    f->s = NULL;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        killed_child(f->url, pipes[1]);
    close(pipes[1]);
    char(*ids)[16] = calloc(200000, 16);
    while (acknowledged < 200000 && read(pipes[0], ids[acknowledged], 16) == 16)
        if (++acknowledged == 500)
            kill(child, SIGKILL);
    close(pipes[0]);
    int status;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(acknowledged >= 500);
    usleep(f->postgres ? 300000 : 0); /* until the server has noticed */
    fixture_open(f);
    struct db *db = store_reader(f->s, &f->e);
    for (int i = 0; i < acknowledged; i++)
        ok(f, seek(db, ids[i], &f->e));
    store_reader_back(f->s, db);
    assert_int_equal(fixture_int(f, "SELECT n FROM counter"),
                     fixture_int(f, "SELECT count(*) FROM notes"));
    if (!f->postgres) {
        db = store_reader(f->s, &f->e);
        int64_t good = 0;

        ok(f, db_int(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'",
                     NO_ARGS, 0, &good, &f->e));
        assert_int_equal(good, 1);
        store_reader_back(f->s, db);
    }
    free(ids);
}

static void a_second_process_is_refused(void **state)
{
    struct fixture *f = *state;
    int pipes[2], status;
    char c;

    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *s = store_open(&(struct store_opts){ .url = f->url }, &f->e);

        if (!s || write(pipes[1], "x", 1) != 1)
            _exit(1);
        pause();
    }
    assert_int_equal(read(pipes[0], &c, 1), 1);
    assert_null(store_open(&(struct store_opts){ .url = f->url }, &f->e));
    assert_int_equal(f->e.code, ERR_BUSY);
    assert_non_null(strstr(f->e.msg, "in use by another process"));
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(pipes[0]);
    close(pipes[1]);
    fixture_open(f);
}

/* ---- the log and the backup */

static void the_log_does_not_grow_for_ever(void **state)
{
    struct fixture *f = *state;
    char path[100], sql[200];
    struct large big = { .bytes = 200000 };

    with_table(f);
    for (int i = 0; i < 400; i++) { /* 80 MB */
        snprintf(big.note.id, sizeof(big.note.id), "b%d", i);
        ok(f, store_write(f->s, large_run, &big, &f->e));
        snprintf(sql, sizeof(sql), "DELETE FROM notes WHERE id = 'b%d'", i);
        ok(f, fixture_write(f, sql));
    }
    snprintf(path, sizeof(path), "%s/store.db-wal", f->dir);
    FILE *wal = fopen(path, "r");
    assert_non_null(wal);
    fseek(wal, 0, SEEK_END);
    int64_t size = ftell(wal);
    fclose(wal);
    assert_true(size < (int64_t)MIB(56));
}

static void a_backup_is_whole_while_writers_write(void **state)
{
    struct fixture *f = *state;
    char path[100], url[120];
    pthread_t t[4];
    struct crowd crowd[4];
    _Atomic int bad = 0;

    with_table(f);
    ok(f, fixture_write(f, "CREATE TABLE counter (n BIGINT NOT NULL)"));
    ok(f, fixture_write(f, "INSERT INTO counter VALUES (0)"));
    for (int i = 0; i < 4; i++) {
        crowd[i] = (struct crowd){ f, i, &bad };
        assert_int_equal(pthread_create(&t[i], NULL, crowd_thread, &crowd[i]), 0);
    }
    snprintf(path, sizeof(path), "%s/copy.db", f->dir);
    ok(f, store_backup(f->s, path, &f->e));
    ok(f, store_backup(f->s, path, &f->e)); /* over the old one */
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(bad, 0);
    assert_true(store_backup(f->s, "/nowhere/at/all", &f->e) < 0);
    store_free(f->s);
    snprintf(url, sizeof(url), "sqlite:%s", path);
    f->s = store_open(&(struct store_opts){ .url = url }, &f->e);
    assert_non_null(f->s);
    assert_int_equal(fixture_int(f, "SELECT n FROM counter"),
                     fixture_int(f, "SELECT count(*) FROM notes"));
}

static void a_backup_of_postgres_is_refused(void **state)
{
    struct fixture *f = *state;

    fixture_open(f);
    fails_with(f, store_backup(f->s, "/tmp/none", &f->e), ERR_NOT_IMPLEMENTED);
}

int main(void)
{
    static const struct fixture_test tests[] = {
        SQLITE(neighbours_share_a_commit),
        BOTH(a_unique_violation_does_not_hurt_neighbours),
        BOTH(a_failed_job_leaves_what_its_hook_wrote_and_no_more),
        BOTH(a_failing_hook_leaves_nothing_and_the_first_error_stands),
        BOTH(a_statement_that_failed_cannot_be_passed_over),
        SQLITE(a_commit_that_fails_is_tried_again_for_each_alone),
        POSTGRES(a_commit_that_fails_on_postgres_is_an_error),
        SQLITE(a_full_disk_fails_the_large_job_and_spares_the_small),
        BOTH(a_round_sees_what_was_acknowledged_and_nothing_else_new),
        BOTH(sixty_four_submitters_all_get_through),
        BOTH(a_full_queue_says_so),
        BOTH(what_was_acknowledged_outlives_a_kill),
        SQLITE(a_second_process_is_refused),
        SQLITE(the_log_does_not_grow_for_ever),
        SQLITE(a_backup_is_whole_while_writers_write),
        POSTGRES(a_backup_of_postgres_is_refused),
    };

    return fixture_run("write", tests, ARRAY_LEN(tests));
}

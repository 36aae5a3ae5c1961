/* SPDX-License-Identifier: Apache-2.0 */
/* Writing to a server that others write to: lost races and lost connections, which run again, or
 * say why not. */
#include "db/notes.h"

#include <pthread.h>

static void a_busy_job_runs_again(void **state)
{
    struct fixture *f = *state;
    struct note notes[2] = { { .fails = 3, .with = ERR_BUSY }, { .fails = 99, .with = ERR_BUSY } };

    notes[1].job.failed = note_failed;
    with_table(f);
    run_together(f, notes, 2);
    assert_int_equal(notes[0].rc, 0);
    assert_int_equal(notes[0].runs, 4);
    assert_int_equal(notes[1].rc, -1);
    assert_int_equal(notes[1].runs, 6);
    assert_int_equal(notes[1].err.code, ERR_BUSY);
    assert_int_equal(notes[1].faileds, 1);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 3);
}

struct racer {
    struct note note;
    const char *first, *second;
    pthread_barrier_t *start;
};

static int lock_row(struct db *db, const char *id, struct err *e)
{
    return db_exec(db, "UPDATE notes SET body = body || 'x' WHERE id = $1", ARGS(A(id)), e);
}

static int racer_run(struct db *db, void *ctx, struct err *e)
{
    struct racer *r = ctx;
    bool first_time = atomic_fetch_add(&r->note.runs, 1) == 0;

    TRY(lock_row(db, r->first, e));
    if (first_time)
        pthread_barrier_wait(r->start);
    return lock_row(db, r->second, e);
}

static void a_deadlock_is_run_again(void **state)
{
    struct fixture *f = *state;
    pthread_barrier_t start;
    sem_t done;
    struct racer r[2] = { { .first = "a", .second = "b" }, { .first = "b", .second = "a" } };

    with_table(f);
    ok(f, fixture_write(f, "INSERT INTO notes (id, body) VALUES ('a', ''), ('b', '')"));
    pthread_barrier_init(&start, NULL, 2);
    sem_init(&done, 0, 0);
    for (int i = 0; i < 2; i++) {
        r[i].start = &start;
        r[i].note.done = &done;
        r[i].note.job = (struct db_job){ .run = racer_run, .done = note_done, .ctx = &r[i] };
        assert_true(store_submit(f->s, &r[i].note.job));
    }
    sem_wait(&done);
    sem_wait(&done);
    assert_int_equal(r[0].note.rc, 0);
    assert_int_equal(r[1].note.rc, 0);
    assert_true(r[0].note.runs + r[1].note.runs >= 3);
    assert_int_equal(fixture_int(f, "SELECT sum(length(body)) FROM notes"), 4);
    pthread_barrier_destroy(&start);
}

static int lose_race_twice(struct db *db, void *ctx, struct err *e)
{
    int *runs = ctx;

    TRY(put(db, "raced", e));
    if (++*runs <= 2)
        return db_exec(db, "DO $$ BEGIN RAISE 'lost' USING ERRCODE = '40001'; END $$", NO_ARGS, e);
    return 0;
}

static void a_serialization_failure_is_run_again(void **state)
{
    struct fixture *f = *state;
    int runs = 0;

    with_table(f);
    ok(f, store_write(f->s, lose_race_twice, &runs, &f->e));
    assert_int_equal(runs, 3);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 1);
}

static void a_connection_lost_in_the_commit_is_not_run_again(void **state)
{
    struct fixture *f = *state;
    struct note note = { 0 };

    with_table(f);
    ok(f, fixture_write(f, "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                           " PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"));
    ok(f, fixture_write(f, "CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON notes"
                           " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut()"));
    run_together(f, &note, 1);
    assert_int_equal(note.rc, -1);
    assert_int_equal(note.runs, 1);
    assert_int_equal(note.err.code, ERR_INTERNAL);
    assert_non_null(strstr(note.err.msg, "whether it holds is unknown"));
    ok(f, fixture_write(f, "DROP TRIGGER cut ON notes"));
    ok(f, fixture_write(f, "INSERT INTO notes (id) VALUES ('next')"));
}

static int cut_off_once(struct db *db, void *ctx, struct err *e)
{
    int *runs = ctx;

    TRY(put(db, "cut", e));
    if (++*runs == 1)
        return db_exec(db, "SELECT pg_terminate_backend(pg_backend_pid())", NO_ARGS, e);
    return 0;
}

static void a_writer_whose_connection_is_lost_runs_its_job_again(void **state)
{
    struct fixture *f = *state;
    int runs = 0;

    with_table(f);
    ok(f, store_write(f->s, cut_off_once, &runs, &f->e));
    assert_int_equal(runs, 2);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM notes"), 1);
}

static void a_reader_whose_connection_is_lost_reads_on(void **state)
{
    struct fixture *f = *state;
    char sql[100];
    int64_t pid, n;

    with_table(f);
    struct db *db = store_reader(f->s, &f->e);
    ok(f, db_int(db, "SELECT pg_backend_pid()", NO_ARGS, 0, &pid, &f->e));
    snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d)", (int)pid);
    fixture_sql(sql);
    ok(f, db_int(db, "SELECT count(*) FROM notes", NO_ARGS, -1, &n, &f->e));
    assert_int_equal(n, 0);
    ok(f, db_int(db, "SELECT pg_backend_pid()", NO_ARGS, 0, &n, &f->e));
    assert_true(n != pid);
    store_reader_back(f->s, db);
}
int main(void)
{
    static const struct fixture_test tests[] = {
        POSTGRES(a_busy_job_runs_again),
        POSTGRES(a_deadlock_is_run_again),
        POSTGRES(a_serialization_failure_is_run_again),
        POSTGRES(a_connection_lost_in_the_commit_is_not_run_again),
        POSTGRES(a_writer_whose_connection_is_lost_runs_its_job_again),
        POSTGRES(a_reader_whose_connection_is_lost_reads_on),
    };

    return fixture_run("race", tests, ARRAY_LEN(tests));
}

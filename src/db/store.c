/* SPDX-License-Identifier: Apache-2.0 */
/* The opened database: its queue of writes, its threads, its pool of readers.  Which database it is
 * decides how many writers there are and which loop they run; nobody above sees more of it. */
#include <assert.h>
#include <fcntl.h>
#include <semaphore.h>

#include "base/metric.h"
#include "db/driver.h"
#include "os/thread.h"

enum { READERS_SQLITE = 512, READERS_POSTGRES = 64, ANY_WAITS_S = 5 };

static struct metric commit_seconds =
    METRIC(METRIC_HISTOGRAM, "brume_db_commit_seconds", "Time that commits took.");
static struct metric batch_handlers = METRIC(
    METRIC_COUNTER, "brume_db_batch_handlers",
    "Write jobs that shared commits; divided by the number of commits it is the size of a batch.");

/* Set on the writers' threads: who waits for a write there would wait for ever. */
static _Thread_local bool on_writer;

int64_t store_mono(void)
{
    return clock_mono(clock_system());
}

void store_committed(struct store *s, int64_t commit_micros, size_t handlers)
{
    atomic_fetch_add(&s->commits, 1);
    metric_time(&commit_seconds, commit_micros);
    metric_add(&batch_handlers, (int64_t)handlers);
}

uint64_t store_commits(struct store *s)
{
    return atomic_load(&s->commits);
}

bool store_is_postgres(const struct store *s)
{
    return s->postgres;
}

void store_seal_by(struct store *s, const struct db_sealer *sealer)
{
    s->sealer = sealer;
}

void store_on_answers(struct store *s, void (*fn)(bool begin))
{
    atomic_store(&s->answers, fn);
}

/* ---- the queue */

bool store_submit(struct store *s, struct db_job *job)
{
    pthread_mutex_lock(&s->lock);
    bool room = !s->stopping && fair_wait(s->queue, &job->turn) == FAIR_OK;
    if (room)
        pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
    return room;
}

struct db_job *store_take(struct store *s, bool wait)
{
    struct fair_job *turn;

    pthread_mutex_lock(&s->lock);
    while (!(turn = fair_next(s->queue)) && wait && !s->stopping)
        pthread_cond_wait(&s->more, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return turn ? (struct db_job *)(void *)((char *)turn - offsetof(struct db_job, turn)) : NULL;
}

void store_counts(struct store *s, struct fair_counts *out)
{
    pthread_mutex_lock(&s->lock);
    fair_counts(s->queue, out);
    pthread_mutex_unlock(&s->lock);
}

struct waiting {
    struct db_job *job;
    void *ctx;
    sem_t done;
    int rc;
    struct err *err;
};

static int waiting_run(struct db *db, void *ctx, struct err *e)
{
    struct waiting *w = ctx;

    return w->job->run(db, w->ctx, e);
}

static int waiting_failed(struct db *db, void *ctx, const struct err *why, struct err *e)
{
    struct waiting *w = ctx;

    return w->job->failed(db, w->ctx, why, e);
}

static void waiting_committed(void *ctx)
{
    struct waiting *w = ctx;

    w->job->committed(w->ctx);
}

static void waiting_done(void *ctx, int rc, struct err *e)
{
    struct waiting *w = ctx;

    w->rc = rc;
    if (rc < 0)
        *w->err = *e;
    sem_post(&w->done);
}

int store_write_job(struct store *s, struct db_job *job, struct err *e)
{
    struct waiting w = { .job = job, .ctx = job->ctx, .err = e };
    struct db_job mine = {
        .run = waiting_run,
        .failed = job->failed ? waiting_failed : NULL,
        .committed = job->committed ? waiting_committed : NULL,
        .done = waiting_done,
        .ctx = &w,
        .turn = { .flow = job->turn.flow },
    };

    assert(!on_writer);
    sem_init(&w.done, 0, 0);
    if (!store_submit(s, &mine)) {
        sem_destroy(&w.done);
        return err_set(e, ERR_OVERLOADED, "too many writes are waiting");
    }
    while (sem_wait(&w.done) < 0)
        ;
    sem_destroy(&w.done);
    return w.rc;
}

int store_write(struct store *s, int (*run)(struct db *db, void *ctx, struct err *e), void *ctx,
                struct err *e)
{
    struct db_job job = { .run = run, .ctx = ctx };

    return store_write_job(s, &job, e);
}

/* ---- readers */

static struct db *open_db(struct store *s, enum db_role role, struct err *e)
{
    return s->postgres ? pg_open(s, role, e) : lite_open(s, role, e);
}

void store_readers_most(struct store *s, int most)
{
    if (!s->postgres)
        return;
    pthread_mutex_lock(&s->readers_lock);
    s->most_readers = most;
    pthread_mutex_unlock(&s->readers_lock);
}

struct db *store_reader(struct store *s, struct err *e)
{
    pthread_mutex_lock(&s->readers_lock);
    struct db *db = s->readers;
    bool room = s->n_readers < s->most_readers;
    if (db)
        s->readers = db->next;
    else if (room)
        s->n_readers++;
    pthread_mutex_unlock(&s->readers_lock);
    if (db)
        return db;
    if (!room) {
        err_set(e, ERR_OVERLOADED, "too many readers of the database");
        return NULL;
    }
    db = open_db(s, DB_READER, e);
    if (!db) {
        pthread_mutex_lock(&s->readers_lock);
        s->n_readers--;
        pthread_mutex_unlock(&s->readers_lock);
    }
    return db;
}

void store_reader_back(struct store *s, struct db *db)
{
    if (!db)
        return;
    db_read_done(db);
    pthread_mutex_lock(&s->readers_lock);
    db->next = s->readers;
    s->readers = db;
    pthread_cond_signal(&s->reader_back);
    pthread_mutex_unlock(&s->readers_lock);
}

/* A free reader, or the next that is given back; not for ever, for who gives it back may be the one
 * who waits. */
static struct db *any_reader(struct store *s, struct err *e)
{
    struct timespec until;
    struct db *db;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ANY_WAITS_S;
    while (!(db = store_reader(s, e)) && e->code == ERR_OVERLOADED && rc == 0) {
        pthread_mutex_lock(&s->readers_lock);
        while (!s->readers && rc == 0)
            rc = pthread_cond_timedwait(&s->reader_back, &s->readers_lock, &until);
        pthread_mutex_unlock(&s->readers_lock);
    }
    return db;
}

static int any_run(struct db *db, const struct stmt_key *k, const struct arg *args, size_t n,
                   const struct sink *sink, int64_t *changed, struct err *e)
{
    struct db *reader = any_reader(db->store, e);

    if (!reader)
        return -1;
    int rc = reader->class->run(reader, k, args, n, sink, changed, e);
    store_reader_back(db->store, reader);
    return rc;
}

static int any_script(struct db *db _unused_, const char *sql _unused_, struct err *e)
{
    return err_set(e, ERR_INTERNAL, "a statement that stands alone is no script");
}

static int any_control(struct db *db _unused_, enum db_control what _unused_, struct err *e)
{
    return err_set(e, ERR_INTERNAL, "a statement that stands alone is in no transaction");
}

static bool any_in_transaction(struct db *db _unused_)
{
    return false;
}

static int any_now(struct db *db, int64_t *out, struct err *e)
{
    struct db *reader = any_reader(db->store, e);

    if (!reader)
        return -1;
    int rc = reader->class->now(reader, out, e);
    store_reader_back(db->store, reader);
    return rc;
}

static void any_close(struct db *db)
{
    free(db);
}

#define ANY_CLASS(pg)                                                                 \
    {                                                                                 \
        .postgres = (pg), .no_rounds = true, .run = any_run, .script = any_script,    \
        .control = any_control, .in_transaction = any_in_transaction, .now = any_now, \
        .close = any_close,                                                           \
    }
static const struct db_class any_lite = ANY_CLASS(false), any_pg = ANY_CLASS(true);

struct db *store_any_reader(struct store *s)
{
    return s->any;
}

int db_read_round(struct db *db, struct err *e)
{
    uint64_t now = store_commits(db->store);

    if (db->class->postgres || db->class->no_rounds || db->in_job ||
        (db->in_round && db->round == now))
        return 0;
    db_read_done(db);
    TRY(db->class->control(db, DB_BEGIN_READ, e));
    db->in_round = true;
    db->round = now;
    return 0;
}

void db_read_done(struct db *db)
{
    struct err e;

    if (!db->in_round)
        return;
    if (db->class->control(db, DB_COMMIT, &e) < 0 && db->class->in_transaction(db))
        db->class->control(db, DB_ROLLBACK, &e);
    db->in_round = false;
}

/* ---- opening and closing */

struct writer {
    struct store *store;
    struct db *db;
};

static void *writer_thread(void *arg)
{
    struct writer *w = arg;

    on_writer = true;
    thread_gathers();
    if (w->store->postgres)
        retry_loop(w->store, w->db);
    else
        group_loop(w->store, w->db);
    free(w);
    return NULL;
}

static int start_writers(struct store *s, int n, struct err *e)
{
    for (int i = 0; i < n; i++)
        if (!(s->writers[i] = open_db(s, DB_WRITER, e)))
            return -1;
    if (!s->postgres && !(s->checkpointer = checkpointer_new(s, s->writers[0], e)))
        return -1;
    for (int i = 0; i < n; i++) {
        struct writer *w = malloc(sizeof(*w));
        char name[16];

        if (!w)
            abort();
        *w = (struct writer){ s, s->writers[i] };
        snprintf(name, sizeof(name), "db-writer-%d", i);
        s->threads[s->n_threads++] = thread_start(name, writer_thread, w);
    }
    return 0;
}

static bool starts(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

struct store *store_open(const struct store_opts *o, struct err *e)
{
    bool lite = starts(o->url, "sqlite:");
    bool pg = starts(o->url, "postgres://") || starts(o->url, "postgresql://");

    if ((!lite && !pg) || (lite && strlen(o->url) == strlen("sqlite:"))) {
        err_set(e, ERR_INVALID, "a store is sqlite:PATH or postgres://…");
        return NULL;
    }
    struct store *s = calloc(1, sizeof(*s));
    char *url = strdup(lite ? o->url + strlen("sqlite:") : o->url);
    if (!s || !url)
        abort();
    s->postgres = pg;
    s->most_readers = pg ? READERS_POSTGRES : READERS_SQLITE;
    s->url = url;
    s->clock = o->clock ? o->clock : clock_system();
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->more, NULL);
    s->queue = fair_new(0, STORE_QUEUE);
    if (!(s->any = calloc(1, sizeof(*s->any))))
        abort();
    s->any->class = pg ? &any_pg : &any_lite;
    s->any->store = s;
    pthread_mutex_init(&s->readers_lock, NULL);
    pthread_cond_init(&s->reader_back, NULL);
    int workers = o->workers > 0 ? MIN(o->workers, (int)STORE_THREADS) : STORE_WRITERS;
    if (start_writers(s, pg ? workers : 1, e) < 0) {
        store_free(s);
        return NULL;
    }
    return s;
}

void store_free(struct store *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->n_threads; i++)
        pthread_join(s->threads[i], NULL);
    checkpointer_free(s->checkpointer);
    while (s->readers) {
        struct db *db = s->readers;

        s->readers = db->next;
        db->class->close(db);
    }
    /* SQLite's last connection puts the log back into the database. */
    for (int i = 0; i < STORE_THREADS; i++)
        if (s->writers[i])
            s->writers[i]->class->close(s->writers[i]);
    s->any->class->close(s->any);
    fair_free(s->queue);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->readers_lock);
    pthread_cond_destroy(&s->reader_back);
    free(s->url);
    free(s);
}

/* ---- backup */

static int sync_path(const char *path, int flags, struct err *e)
{
    _cleanup_close_ int fd = open(path, flags | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return err_sys(e, errno, "sync %s", path);
    return 0;
}

static int sync_folder(const char *path, struct err *e)
{
    _cleanup_free_ char *dir = strdup(path);

    if (!dir)
        abort();
    char *slash = strrchr(dir, '/');
    if (!slash)
        return sync_path(".", O_RDONLY | O_DIRECTORY, e);
    slash[slash == dir] = '\0';
    return sync_path(dir, O_RDONLY | O_DIRECTORY, e);
}

static int copy_into(struct store *s, const char *path, struct err *e)
{
    unlink(path);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_cause(e, ERR_INVALID, strerrordesc_np(errno), "cannot write %s", path);
    close(fd);
    struct db *db = lite_open(s, DB_ADMIN, e);
    if (!db)
        return -1;
    int rc = db_exec(db, "VACUUM INTO $1", ARGS(A(path)), e);
    db->class->close(db);
    return rc;
}

int store_backup(struct store *s, const char *path, struct err *e)
{
    char tmp[4096];

    if (s->postgres)
        return err_set(e, ERR_NOT_IMPLEMENTED, "the store is PostgreSQL: back it up with pg_dump");
    int n = snprintf(tmp, sizeof(tmp), "%s.new-%d", path, (int)getpid());
    if (n < 0 || (size_t)n >= sizeof(tmp))
        return err_set(e, ERR_INVALID, "the path of the backup is too long");
    int rc = copy_into(s, tmp, e);
    if (rc == 0)
        rc = sync_path(tmp, O_RDONLY, e);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = err_sys(e, errno, "rename %s", tmp);
    if (rc < 0) {
        unlink(tmp);
        return -1;
    }
    return sync_folder(path, e);
}

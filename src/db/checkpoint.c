/* SPDX-License-Identifier: Apache-2.0 */
/* When SQLite's log goes back into its database.  Passive checkpoints run on a thread of their own,
 * paced by pages written, so that no commit pays for one; they are few, for each syncs the database
 * beside the writer's own syncs, and a page that is written ten times goes back once.  Under steady
 * writing they never reach the log's end, and the log would grow for ever: past a size they follow
 * each other closely, and when little is left the writer finishes the last pages itself between two
 * batches, waiting at most a few milliseconds for readers to leave the log. */
#include <time.h>

#include "base/log.h"
#include "db/driver.h"
#include "db/sqlite.h"
#include "os/thread.h"

enum {
    PACE = 6144,    /* pages between two passive checkpoints */
    CLOSE = 256,    /* … when the log is to be finished */
    FINISH = 16384, /* pages of log after which it is to be finished */
    LEFT = 256,     /* pages that the writer goes back for, at most */
    MOST = 24576,   /* … but from here on whatever is left */
    WAITS = 10,     /* of 200 µs each, for readers to leave the log */
    CHUNK = 64,     /* pages after which a passive checkpoint syncs */
};

struct checkpointer {
    struct db *db;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t due;
    bool stopping;
    int pages;  /* in the log */
    int tried;  /* pages in the log when the last checkpoint began */
    int done;   /* pages of it that are back in the database */
    int finish; /* it is to be finished from here on */
};

/* ---- a checkpoint in small portions
 *
 * SQLite syncs the database once, at a checkpoint's end: the disk then takes many megabytes at
 * once, and a commit that syncs the log waits behind all of them.  The checkpointer's own file
 * syncs after each few pages instead. */

static pthread_mutex_t paced_lock = PTHREAD_MUTEX_INITIALIZER;
static const sqlite3_io_methods *plain_file;
static sqlite3_io_methods paced_file;

static int paced_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    static _Thread_local int since;
    int rc = plain_file->xWrite(f, p, n, at);

    if (rc != SQLITE_OK || ++since < CHUNK)
        return rc;
    since = 0;
    return plain_file->xSync(f, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
}

/* Where SQLite does not show the file, its checkpoints are as they were. */
static void pace(sqlite3 *h)
{
    sqlite3_file *f = NULL;

    if (sqlite3_file_control(h, "main", SQLITE_FCNTL_FILE_POINTER, &f) != SQLITE_OK || !f->pMethods)
        return;
    pthread_mutex_lock(&paced_lock);
    if (!plain_file) {
        plain_file = f->pMethods;
        paced_file = *plain_file;
        paced_file.xWrite = paced_write;
    }
    if (f->pMethods == plain_file)
        f->pMethods = &paced_file;
    pthread_mutex_unlock(&paced_lock);
}

/* Under the lock: a passive checkpoint is due.  Past MOST it is the writer's turn, which would find
 * the checkpoint's lock taken again and again. */
static bool is_due(const struct checkpointer *c)
{
    if (c->pages >= MOST && c->tried >= c->finish)
        return false;
    return c->pages - c->tried >= (c->pages >= c->finish ? CLOSE : PACE);
}

/* SQLite calls this on the writer's thread after each commit. */
static int on_commit(void *ctx, sqlite3 *h _unused_, const char *name _unused_, int pages)
{
    struct checkpointer *c = ctx;

    pthread_mutex_lock(&c->lock);
    if (pages < c->pages) { /* the log began anew */
        c->tried = c->done = 0;
        c->finish = FINISH;
    }
    c->pages = pages;
    if (is_due(c))
        pthread_cond_signal(&c->due);
    pthread_mutex_unlock(&c->lock);
    return SQLITE_OK;
}

static void *checkpoint_loop(void *arg)
{
    struct checkpointer *c = arg;

    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->stopping && !is_due(c))
            pthread_cond_wait(&c->due, &c->lock);
        if (c->stopping)
            break;
        int tried = c->tried = c->pages, log = -1, done = -1;
        pthread_mutex_unlock(&c->lock);
        int rc = sqlite3_wal_checkpoint_v2(lite_handle(c->db), NULL, SQLITE_CHECKPOINT_PASSIVE,
                                           &log, &done);
        if (rc != SQLITE_OK && rc != SQLITE_BUSY)
            log_event(LOG_ERROR, "db_checkpoint_failed",
                      L_STR("cause", sqlite3_errmsg(lite_handle(c->db))));
        pthread_mutex_lock(&c->lock);
        if (c->tried == tried && done > 0) /* else the log began anew meanwhile */
            c->done = done;
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static int wait_a_little(void *ctx _unused_, int times)
{
    if (times >= WAITS)
        return 0;
    nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
    return 1;
}

void checkpointer_turn(struct checkpointer *c, struct db *writer)
{
    pthread_mutex_lock(&c->lock);
    bool mine = c->pages >= c->finish && (c->pages - c->done <= LEFT || c->pages >= MOST);
    if (mine)
        c->finish = c->pages + CLOSE; /* the next try, should this one not reach the end */
    pthread_mutex_unlock(&c->lock);
    if (!mine)
        return;

    sqlite3 *h = lite_handle(writer);
    sqlite3_busy_handler(h, wait_a_little, NULL);
    /* A failure is no loss: the log stays as it is and the next turn tries again. */
    sqlite3_wal_checkpoint_v2(h, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    sqlite3_busy_handler(h, NULL, NULL);
}

struct checkpointer *checkpointer_new(struct store *s, struct db *writer, struct err *e)
{
    struct db *db = lite_open(s, DB_ADMIN, e);

    if (!db)
        return NULL;
    struct checkpointer *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->db = db;
    pace(lite_handle(db));
    c->finish = FINISH;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->due, NULL);
    sqlite3_wal_hook(lite_handle(writer), on_commit, c);
    c->thread = thread_start("db-checkpoint", checkpoint_loop, c);
    return c;
}

void checkpointer_free(struct checkpointer *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_signal(&c->due);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->db->class->close(c->db);
    pthread_cond_destroy(&c->due);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

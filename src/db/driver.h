/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the two databases have in common, and what the store asks of each.  Private to db/. */

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "db/db.h"

enum {
    DB_MAX_ARGS = 128,
    DB_MAX_COLS = 128,
    DB_STATEMENTS = 256, /* kept per connection */
    STORE_QUEUE = 4096,  /* jobs waiting */
    STORE_BATCH = 256,   /* jobs in one commit */
    STORE_THREADS = 64,  /* most writers on PostgreSQL */
};

/* ---- SQL text (sql.c) */

/* The text as one database reads it: its own escapes uncommented, all other comments gone, '@' as
 * the record's columns ("q.@" as "q.id, q.name").  'r' NULL leaves '@' alone. */
void sql_render(struct buf *out, const char *sql, const struct record *r, bool postgres);
/* The next statement of '*at' without its ';', or false at the end.  One ends at a ';' that is the
 * last of its line; quotes and comments are respected. */
bool sql_next(const char **at, struct str *out);
void sql_columns(struct buf *out, const struct record *r, struct str qualifier);

/* ---- kept statements (stmt.c) */

enum stmt_kind { STMT_TEXT, STMT_INSERT, STMT_UPDATE };

/* What a statement is known by: its text and record, or a row's table and the set of its fields, so
 * that inserting and updating rows builds no text once the statement is kept. */
struct stmt_key {
    enum stmt_kind kind;
    const struct record *r;
    uint64_t set;
    const char *sql;
};

struct stmt {
    struct stmt_key key; /* .sql is owned */
    void *handle;        /* the driver's; NULL: this place is free */
    uint64_t hash;
    uint64_t used; /* tick of its last use */
    struct stmt *next;
    bool busy;               /* being stepped: neither given out again nor thrown out */
    uint8_t args;            /* $1…$args */
    uint8_t at[DB_MAX_ARGS]; /* SQLite: index of $(i+1), 0 if this database does not read it */
};

struct stmts {
    struct stmt all[DB_STATEMENTS];
    struct stmt *chain[DB_STATEMENTS];
    uint16_t hint[DB_STATEMENTS]; /* by the address of the text: place + 1 */
    uint64_t tick;
};

/* The kept statement, or NULL. */
struct stmt *stmt_find(struct stmts *c, const struct stmt_key *k);
/* A free place for 'k', its key set, its handle NULL; what was used longest ago is thrown out
 * through 'drop'. NULL when all are busy. */
struct stmt *stmt_place(struct stmts *c, const struct stmt_key *k,
                        void (*drop)(void *ctx, struct stmt *st), void *ctx);
/* Forgets one whose handle the driver has let go. */
void stmt_forget(struct stmts *c, struct stmt *st);
/* Forgets all; 'drop' may be NULL. */
void stmt_clear(struct stmts *c, void (*drop)(void *ctx, struct stmt *st), void *ctx);
/* The text of a key for one database. */
void stmt_text(struct buf *out, const struct stmt_key *k, bool postgres);

/* ---- a connection */

/* Where rows go. 'text': integers are wanted as text too. */
struct sink {
    db_row_fn *row;
    void *ctx;
    bool text;
};

enum db_control {
    DB_BEGIN_READ,
    DB_BEGIN_WRITE,
    DB_COMMIT,
    DB_ROLLBACK,
    DB_SAVEPOINT,
    DB_RELEASE,
    DB_UNDO, /* back to the savepoint, and drops it */
    DB_CONTROLS,
};

struct db_class {
    bool postgres;
    bool no_rounds; /* each statement sees what is there when it runs */
    /* Runs one statement to its end. 'sink' and 'changed' may be NULL. */
    int (*run)(struct db *db, const struct stmt_key *k, const struct arg *args, size_t n,
               const struct sink *sink, int64_t *changed, struct err *e);
    /* Runs rendered text that will not come again. */
    int (*script)(struct db *db, const char *sql, struct err *e);
    int (*control)(struct db *db, enum db_control what, struct err *e);
    bool (*in_transaction)(struct db *db);
    int (*now)(struct db *db, int64_t *out, struct err *e);
    void (*close)(struct db *db);
};

struct db {
    const struct db_class *class;
    struct store *store;
    struct db *next; /* free list of readers */
    bool in_job;     /* run or failed of a job is at work */
    bool spoiled; /* a statement of this job failed: as on PostgreSQL, nothing more runs before its
                     undo */
    bool in_round;
    uint64_t round; /* store_commits() at the round's beginning */
    struct stmts stmts;
};

enum db_role { DB_READER, DB_WRITER, DB_ADMIN };

struct db *lite_open(struct store *s, enum db_role role, struct err *e);
struct db *pg_open(struct store *s, enum db_role role, struct err *e);
/* Checks what the arguments of any statement must keep. */
int args_check(const struct arg *args, size_t n, struct err *e);

/* ---- the store */
struct store {
    bool postgres;
    char *url; /* SQLite: the path */
    struct clock *clock;
    _Atomic uint64_t commits;

    pthread_mutex_t lock; /* of the queue */
    pthread_cond_t more;
    struct fair *queue;
    bool stopping;

    pthread_t threads[STORE_THREADS];
    struct db *writers[STORE_THREADS];
    int n_threads;

    pthread_mutex_t readers_lock;
    pthread_cond_t reader_back;
    struct db *readers; /* free ones */
    struct db *any;     /* store_any_reader() */
    int n_readers, most_readers;

    const struct db_sealer *sealer;
    struct checkpointer *checkpointer;   /* SQLite */
    void (*_Atomic answers)(bool begin); /* around those of a batch; may be NULL */
};

/* The next job, or NULL: when the store stops and nothing is queued, or at once if not 'wait'. */
struct db_job *store_take(struct store *s, bool wait);
/* After a commit: counts it. */
void store_committed(struct store *s, int64_t commit_micros, size_t handlers);
int64_t store_mono(void);

/* Bodies of the writer threads: group.c on SQLite, retry.c on PostgreSQL. */
void group_loop(struct store *s, struct db *db);
void retry_loop(struct store *s, struct db *db);
/* Runs the job on this connection under the savepoint that stands; a failed statement that the job
 * passed over is its failure. */
int job_run(struct db *db, struct db_job *job, struct err *e);

/* SQLite's checkpoints, on a thread of their own (checkpoint.c). */
struct checkpointer *checkpointer_new(struct store *s, struct db *writer, struct err *e);
void checkpointer_free(struct checkpointer *c);
/* Called by the writer between two batches. */
void checkpointer_turn(struct checkpointer *c, struct db *writer);

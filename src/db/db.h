/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The store: one SQL text on SQLite or PostgreSQL.
 *
 * A 'struct store' is the opened database; a 'struct db' one connection of it, used by one thread
 * at a time.  SQL takes $1…$n; '@' expands to the record's columns; what stands in a comment after
 * "pg:" or "lite:" is read by that database alone.  Statements are prepared once per connection and
 * kept. Values come by A(): char *, const char * (NULL is NULL), int, int64_t, bool, struct uuid *
 * (the nil uuid is NULL), struct str (text of that length), struct blob (bytes).
 * "q.@" gives each column its qualifier; '@' in quotes stays. */

#include "base/base.h"
#include "base/clock.h"
#include "base/fair.h"
#include "base/record.h"

struct blob {
    const void *p;
    size_t n;
};

struct arg {
    enum { ARG_STR, ARG_INT, ARG_BOOL, ARG_BLOB } type;
    const char *s; /* ARG_STR, ARG_BLOB; NULL: NULL */
    size_t n;
    int64_t i;
};
static inline struct arg arg_str(const char *s)
{
    return (struct arg){ .type = ARG_STR, .s = s, .n = s ? strlen(s) : 0 };
}
static inline struct arg arg_text(struct str s)
{
    return (struct arg){ .type = ARG_STR, .s = s.p ? s.p : "", .n = s.n };
}
static inline struct arg arg_int(int64_t i)
{
    return (struct arg){ .type = ARG_INT, .i = i };
}
static inline struct arg arg_bool(bool v)
{
    return (struct arg){ .type = ARG_BOOL, .i = v };
}
static inline struct arg arg_uuid(const struct uuid *u)
{
    return arg_str(u->s[0] ? u->s : NULL);
}
static inline struct arg arg_blob(struct blob b)
{
    return (struct arg){ .type = ARG_BLOB, .s = b.p, .n = b.n };
}
/* A constant true or false is an int to C: A((bool)true). A time that is absent is 0, not NULL. */
/* clang-format off */
#define A(x) _Generic((x), char *: arg_str, const char *: arg_str, int: arg_int, unsigned: arg_int,          \
                      int64_t: arg_int, bool: arg_bool, struct str: arg_text, struct blob: arg_blob,         \
                      struct uuid *: arg_uuid, const struct uuid *: arg_uuid)(x)
/* clang-format on */
#define ARGS(...)                          \
    ((const struct arg[]){ __VA_ARGS__ }), \
        (sizeof((const struct arg[]){ __VA_ARGS__ }) / sizeof(struct arg))
#define NO_ARGS NULL, 0

/* A column of a free query. 's' is NUL-terminated text or bytes; NULL when the value is NULL. */
struct col {
    const char *s;
    size_t n;
    int64_t i; /* the integer or boolean, 0 for others */
};
typedef int db_row_fn(void *ctx, const struct col *cols, size_t n, struct err *e);

struct db;
struct store;

/* ---- statements.  Errors: a unique or foreign key violated is ERR_ALREADY_EXISTS /
 * ERR_INVALID_STATE; a lost race ERR_BUSY; all else ERR_INTERNAL; e->cause has the driver's words.
 */
int db_exec(struct db *db, const char *sql, const struct arg *args, size_t n,
            struct err *e) _must_check_;
/* As db_exec(); '*changed' gets the number of rows. */
int db_exec_n(struct db *db, const char *sql, const struct arg *args, size_t n, int64_t *changed,
              struct err *e) _must_check_;
enum { DB_ROWS_MAX = 65536, DB_BYTES_MAX = 64 << 20 };
/* Rows of 'r', strings in 'a'.  More rows or bytes than these, or than 'a' has room for, are
 * ERR_TOO_LARGE. */
int db_query(struct db *db, struct arena *a, const struct record *r, const char *sql,
             const struct arg *args, size_t n, struct rows *out, struct err *e) _must_check_;
/* Exactly one row of 'r' into 'row': no row is ERR_NOT_FOUND. */
int db_one(struct db *db, struct arena *a, const struct record *r, const char *sql,
           const struct arg *args, size_t n, void *row, struct err *e) _must_check_;
/* One integer; no row or NULL gives 'dflt'. */
int db_int(struct db *db, const char *sql, const struct arg *args, size_t n, int64_t dflt,
           int64_t *out, struct err *e) _must_check_;
/* Free query: 'fn' sees each row as it comes (columns valid during the call); its -1 ends it. */
int db_each(struct db *db, const char *sql, const struct arg *args, size_t n, db_row_fn *fn,
            void *ctx, struct err *e) _must_check_;
/* INSERT of every column of the row. */
int db_insert(struct db *db, struct arena *a, const struct record *r, const void *row,
              struct err *e) _must_check_;
/* UPDATE of the fields in 'set' (bit i = field i) where id = row's id; no row is ERR_NOT_FOUND. */
int db_update(struct db *db, struct arena *a, const struct record *r, const void *row, uint64_t set,
              struct err *e) _must_check_;
/* The database's own time, for what replicas must agree on. */
int db_now(struct db *db, int64_t *out, struct err *e) _must_check_;
bool db_is_postgres(const struct db *db);
/* The arena-held column list '@' stands for. */
const char *db_columns(const struct record *r, struct arena *a);

/* ---- texts of FF_SEALED columns: sealed as a row is written, opened as it is read, by who has the
 * keys.  'bound_to' is "record/id/column". */
struct db_sealer {
    const void *ctx;
    const char *(*seal)(const void *ctx, struct arena *a, struct str plain, struct str bound_to);
    int (*unseal)(const void *ctx, struct arena *a, const char *sealed, struct str bound_to,
                  struct str *plain, struct err *e);
};
struct store;
/* Before the first such row; NULL: no more.  Outlives its use. */
void store_seal_by(struct store *s, const struct db_sealer *sealer);

/* ---- the store */
enum { STORE_WRITERS = 8 };
struct store_opts {
    const char *url; /* "sqlite:PATH" or "postgres://…" (or "postgresql://…") */
    struct clock *clock;
    int workers; /* PostgreSQL: connections for writes (0: STORE_WRITERS) */
};
struct store *store_open(const struct store_opts *o, struct err *e);
/* Writes what is queued, then closes. */
void store_free(struct store *s);
DEFINE_CLEANUP(struct store *, store_free)
bool store_is_postgres(const struct store *s);
/* 'fn' is called on SQLite's writer thread before (true) and after (false) the answers of a batch.
 * Any thread; a batch that is being answered may still go without. */
void store_on_answers(struct store *s, void (*fn)(bool begin));

/* A read connection for one thread, owned by the caller until given back; made when none is free.
 */
struct db *store_reader(struct store *s, struct err *e);
void store_reader_back(struct store *s, struct db *db);
/* For statements that stand alone: each takes a reader for as long as it runs (and waits for one a
 * while), so that who holds this may wait long for something else.  Any thread; the store's own;
 * rounds do nothing. */
struct db *store_any_reader(struct store *s);
/* PostgreSQL: so many read connections at once; 64 until it is said.  Each is the server's too
 * (max_connections). */
void store_readers_most(struct store *s, int most);
/* A stretch of reads that see one moment.  A commit made since then ends it by itself at the next
 * db_read_round(), so that nobody misses an acknowledged write: call it before every read of a
 * round, and db_read_done() when the round is over.  No-ops on PostgreSQL. */
int db_read_round(struct db *db, struct err *e) _must_check_;
void db_read_done(struct db *db);
/* Number of commits so far (SQLite), for caches: what was read before a commit with a higher number
 * may be stale. */
uint64_t store_commits(struct store *s);

/* ---- writing: group commit (contracts 3).
 *
 * 'run' runs under a savepoint of a transaction it shares with its neighbours, on the writer's
 * thread (SQLite) or a pool's (PostgreSQL); it may run more than once (a lost race, a batch
 * rolled back), so it has no effect but SQL.  If it fails its savepoint is undone, and then
 * 'failed' (may be NULL) may write what must remain.  After the commit 'committed' (may be NULL)
 * runs, before any answer of the batch leaves; then 'done'. rc is what run returned; if the commit
 * itself failed it is -1 and *e says why.  'committed' runs for a job that wrote: run passed, or
 * failed did.  A statement that failed ends the job on both databases: nothing runs after it, and
 * run cannot return 0. */
struct db_job {
    int (*run)(struct db *db, void *ctx, struct err *e);
    int (*failed)(struct db *db, void *ctx, const struct err *why, struct err *e);
    void (*committed)(void *ctx);
    void (*done)(void *ctx, int rc, struct err *e);
    void *ctx;
    struct fair_job turn; /* .flow: whose turn it takes in the queue; none: the system's */
};
/* False if the queue is full, or the flow's share of it (503): 'done' will not run. The job must
 * live until 'done'. */
bool store_submit(struct store *s, struct db_job *job) _must_check_;
/* Submits and waits; not from the writer's thread. */
int store_write(struct store *s, int (*run)(struct db *db, void *ctx, struct err *e), void *ctx,
                struct err *e) _must_check_;
/* How many jobs wait. */
void store_counts(struct store *s, struct fair_counts *out);
/* As store_write() with the whole job (its .done is ours to use). */
int store_write_job(struct store *s, struct db_job *job, struct err *e) _must_check_;

/* ---- migrations: numbered files per service, embedded, forward only */
struct migration {
    const char *name; /* "0001_queue" */
    const char *sql;  /* statements separated by ';' at the end of a line */
};
/* Runs what is missing, each in its transaction, and records it.  A database that has migrations
 * this program does not know is from a newer version: refused, saying so. */
struct migration_set {
    const char *service;
    const struct migration *migrations; /* ends with { 0 } */
};
int store_migrate(struct store *s, const struct migration_set *sets, size_t n,
                  struct err *e) _must_check_;
/* A consistent copy while serving (SQLite: VACUUM INTO; PostgreSQL: refused, says use pg_dump). */
int store_backup(struct store *s, const char *path, struct err *e) _must_check_;

/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite behind db.h.  Hides its way of naming parameters, of reporting errors, and the settings
 * under which a commit is durable and cheap: WAL, synchronous=FULL, small pages, savepoint journals
 * in memory, and no lock that another process could want (unix-excl). */
#include <fcntl.h>

#include "base/fault.h"
#include "db/driver.h"
#include "db/sqlite.h"

struct lite {
    struct db base;
    sqlite3 *h;
    sqlite3_stmt *control[DB_CONTROLS];
};

static struct lite *lite_of(struct db *db)
{
    return (struct lite *)(void *)db;
}

/* ---- errors */

static bool is_full(sqlite3 *h, int rc)
{
    int sys = sqlite3_system_errno(h);

    return (rc & 0xff) == SQLITE_FULL ||
           ((rc & 0xff) == SQLITE_IOERR && (sys == ENOSPC || sys == EDQUOT));
}

static int lite_err(sqlite3 *h, int rc, struct err *e)
{
    const char *said = h ? sqlite3_errmsg(h) : sqlite3_errstr(rc);

    switch (rc) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return err_cause(e, ERR_ALREADY_EXISTS, said, "already exists");
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return err_cause(e, ERR_INVALID_STATE, said,
                         "something else refers to it, or what it refers to is gone");
    default:
        break;
    }
    if (h && is_full(h, rc))
        return err_cause(e, ERR_OVERLOADED, said, "no space left for the database");
    if ((rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED)
        return err_cause(e, ERR_BUSY, said, "the database is busy");
    return err_cause(e, ERR_INTERNAL, said, "database error");
}

/* ---- statements */

static void drop_stmt(void *ctx _unused_, struct stmt *st)
{
    sqlite3_finalize(st->handle);
    st->handle = NULL;
}

/* Parameters are named "$1"…; their indexes are in order of appearance. */
static int map_params(sqlite3_stmt *h, struct stmt *st, struct err *e)
{
    int count = sqlite3_bind_parameter_count(h);

    for (int i = 1; i <= count; i++) {
        const char *name = sqlite3_bind_parameter_name(h, i);
        unsigned k = 0;

        for (const char *p = name ? name + 1 : ""; *p >= '0' && *p <= '9' && k <= DB_MAX_ARGS; p++)
            k = k * 10 + (unsigned)(*p - '0');
        char want[8];
        snprintf(want, sizeof(want), "$%u", k);
        if (!name || k < 1 || k > DB_MAX_ARGS || strcmp(name, want) != 0)
            return err_cause(e, ERR_INTERNAL, name, "a parameter that is not $1 to $%d",
                             DB_MAX_ARGS);
        st->at[k - 1] = (uint8_t)i;
        st->args = (uint8_t)MAX((unsigned)st->args, k);
    }
    return 0;
}

static int prepare(struct lite *l, const char *sql, struct stmt *st, struct err *e)
{
    sqlite3_stmt *h = NULL;
    const char *rest = NULL;
    int rc = sqlite3_prepare_v3(l->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &h, &rest);

    if (rc != SQLITE_OK)
        return lite_err(l->h, rc, e);
    if (!h || rest[strspn(rest, " \t\r\n;")] != '\0') {
        sqlite3_finalize(h);
        return err_cause(e, ERR_INTERNAL, sql, "one statement at a time");
    }
    if (map_params(h, st, e) < 0) {
        sqlite3_finalize(h);
        return -1;
    }
    st->handle = h;
    return 0;
}

/* The statement of a key, prepared; 'spare' is used when the kept one is at work already. */
static struct stmt *stmt_get(struct lite *l, const struct stmt_key *k, struct stmt *spare,
                             struct err *e)
{
    struct stmt *st = stmt_find(&l->base.stmts, k);

    if (st && !st->busy)
        return st;
    struct buf text = BUF(MIB(1));
    struct stmt *place = st ? NULL : stmt_place(&l->base.stmts, k, drop_stmt, NULL);
    st = place ? place : spare;
    stmt_text(&text, k, false);
    int rc = text.failed ? err_set(e, ERR_INTERNAL, "a statement is too long")
                         : prepare(l, buf_cstr(&text), st, e);
    buf_free(&text);
    if (rc < 0 && place)
        stmt_forget(&l->base.stmts, place);
    return rc < 0 ? NULL : st;
}

static int bind(struct lite *l, struct stmt *st, const struct arg *args, size_t n, struct err *e)
{
    if (st->args > n)
        return err_set(e, ERR_INTERNAL, "a statement wants $%d and has %zu arguments", st->args, n);
    for (size_t i = 0; i < n; i++) {
        const struct arg *a = &args[i];
        int at = st->at[i], rc = SQLITE_OK;

        if (!at)
            continue; /* read by the other database */
        if (a->type == ARG_INT || a->type == ARG_BOOL)
            rc = sqlite3_bind_int64(st->handle, at, a->i);
        else if (!a->s)
            rc = sqlite3_bind_null(st->handle, at);
        else if (a->type == ARG_STR)
            rc = sqlite3_bind_text64(st->handle, at, a->s, a->n, SQLITE_STATIC, SQLITE_UTF8);
        else
            rc = sqlite3_bind_blob64(st->handle, at, a->s, a->n, SQLITE_STATIC);
        if (rc != SQLITE_OK)
            return lite_err(l->h, rc, e);
    }
    return 0;
}

static void read_col(sqlite3_stmt *h, int i, bool text, struct col *c)
{
    *c = (struct col){ 0 };
    switch (sqlite3_column_type(h, i)) {
    case SQLITE_NULL:
        return;
    case SQLITE_INTEGER:
        c->i = sqlite3_column_int64(h, i);
        c->s = "";
        if (!text)
            return;
        break;
    case SQLITE_BLOB:
        c->s = sqlite3_column_blob(h, i);
        c->n = (size_t)sqlite3_column_bytes(h, i);
        if (!c->s)
            c->s = "";
        return;
    default:
        break;
    }
    c->s = (const char *)sqlite3_column_text(h, i);
    c->n = (size_t)sqlite3_column_bytes(h, i);
    if (!c->s)
        abort(); /* out of memory */
}

static int step(struct lite *l, sqlite3_stmt *h, const struct sink *sink, struct err *e)
{
    struct col cols[DB_MAX_COLS];
    int n = sqlite3_column_count(h), rc;

    if (n > DB_MAX_COLS)
        return err_set(e, ERR_INTERNAL, "a statement gives more than %d columns", DB_MAX_COLS);
    while ((rc = sqlite3_step(h)) == SQLITE_ROW) {
        if (!sink)
            continue;
        for (int i = 0; i < n; i++)
            read_col(h, i, sink->text, &cols[i]);
        if (sink->row(sink->ctx, cols, (size_t)n, e) < 0)
            return 1;
    }
    return rc == SQLITE_DONE ? 0 : lite_err(l->h, sqlite3_extended_errcode(l->h), e);
}

/* 0, -1 where the database failed, 1 where the taker of rows did. */
static int run_stmt(struct lite *l, const struct stmt_key *k, const struct arg *args, size_t n,
                    const struct sink *sink, int64_t *changed, struct err *e)
{
    struct stmt spare = { 0 };

    TRY(args_check(args, n, e));
    if (FAULT("db.exec"))
        return err_cause(e, ERR_INTERNAL, "fault on purpose", "database error");
    struct stmt *st = stmt_get(l, k, &spare, e);
    if (!st)
        return -1;
    st->busy = true;
    int rc = bind(l, st, args, n, e);
    if (rc == 0)
        rc = step(l, st->handle, sink, e);
    if (rc == 0 && changed)
        *changed = sqlite3_stmt_readonly(st->handle) ? 0 : sqlite3_changes64(l->h);
    sqlite3_reset(st->handle);
    st->busy = false;
    if (st == &spare)
        sqlite3_finalize(spare.handle);
    return rc;
}

static int lite_run(struct db *db, const struct stmt_key *k, const struct arg *args, size_t n,
                    const struct sink *sink, int64_t *changed, struct err *e)
{
    if (db->spoiled)
        return err_set(e, ERR_INTERNAL, "an earlier statement of this transaction failed");
    int rc = run_stmt(lite_of(db), k, args, n, sink, changed, e);
    if (rc < 0 && db->in_job)
        db->spoiled = true;
    return rc ? -1 : 0;
}

static int lite_script(struct db *db, const char *sql, struct err *e)
{
    struct lite *l = lite_of(db);
    int rc = sqlite3_exec(l->h, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : lite_err(l->h, sqlite3_extended_errcode(l->h), e);
}

/* ---- transactions */

static int control_once(struct lite *l, enum db_control what, const char *sql, struct err *e)
{
    sqlite3_stmt **st = &l->control[what];
    int rc = SQLITE_OK;

    if (!*st)
        rc = sqlite3_prepare_v3(l->h, sql, -1, SQLITE_PREPARE_PERSISTENT, st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(*st);
        if (rc != SQLITE_DONE)
            lite_err(l->h, sqlite3_extended_errcode(l->h), e);
        sqlite3_reset(*st);
        return rc == SQLITE_DONE ? 0 : -1;
    }
    return lite_err(l->h, rc, e);
}

static int lite_control(struct db *db, enum db_control what, struct err *e)
{
    static const char *const sql[DB_CONTROLS] = {
        [DB_BEGIN_READ] = "BEGIN",      [DB_BEGIN_WRITE] = "BEGIN IMMEDIATE",
        [DB_COMMIT] = "COMMIT",         [DB_ROLLBACK] = "ROLLBACK",
        [DB_SAVEPOINT] = "SAVEPOINT j", [DB_RELEASE] = "RELEASE j",
        [DB_UNDO] = "ROLLBACK TO j",
    };

    if (what == DB_COMMIT && !db->in_round && FAULT("db.commit"))
        return err_cause(e, ERR_INTERNAL, "fault on purpose", "database error");
    TRY(control_once(lite_of(db), what, sql[what], e));
    if (what == DB_UNDO)
        TRY(control_once(lite_of(db), DB_RELEASE, sql[DB_RELEASE], e));
    return 0;
}

static bool lite_in_transaction(struct db *db)
{
    return !sqlite3_get_autocommit(lite_of(db)->h);
}

static int lite_now(struct db *db, int64_t *out, struct err *e _unused_)
{
    *out = clock_wall(db->store->clock);
    return 0;
}

/* ---- opening and closing */

static int collate_c(void *ctx _unused_, int n, const void *a, int m, const void *b)
{
    int c = memcmp(a, b, (size_t)MIN(n, m));

    return c ? c : (n > m) - (n < m);
}

static void lite_close(struct db *db)
{
    struct lite *l = lite_of(db);

    for (size_t i = 0; i < DB_CONTROLS; i++)
        sqlite3_finalize(l->control[i]);
    stmt_clear(&db->stmts, drop_stmt, NULL);
    if (sqlite3_close(l->h) != SQLITE_OK)
        abort(); /* a statement of ours is still open */
    free(l);
}

static const struct db_class lite_class = {
    .postgres = false,
    .run = lite_run,
    .script = lite_script,
    .control = lite_control,
    .in_transaction = lite_in_transaction,
    .now = lite_now,
    .close = lite_close,
};

/* A new store's file is nobody else's to read; SQLite gives its log the same mode. */
static int make_file(const char *path, struct err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 && errno != EEXIST)
        return err_cause(e, ERR_INTERNAL, strerrordesc_np(errno), "cannot make the database %s",
                         path);
    if (fd >= 0)
        close(fd);
    return 0;
}

static int set_up(struct lite *l, enum db_role role, struct err *e)
{
    static const char first[] = "PRAGMA page_size = 2048; PRAGMA journal_mode = WAL;"
                                "PRAGMA secure_delete = FAST; PRAGMA journal_size_limit = 67108864";
    static const char always[] =
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;"
        "PRAGMA mmap_size = 0; PRAGMA wal_autocheckpoint = 0; PRAGMA trusted_schema = OFF";
    struct db *db = &l->base;

    sqlite3_extended_result_codes(l->h, 1);
    if (sqlite3_create_collation(l->h, "C", SQLITE_UTF8, NULL, collate_c) != SQLITE_OK)
        return lite_err(l->h, SQLITE_NOMEM, e);
    if (role == DB_WRITER)
        TRY(lite_script(db, first, e));
    TRY(lite_script(db, always, e));
    if (role == DB_WRITER)
        return lite_script(db, "PRAGMA cache_size = -6144", e);
    TRY(lite_script(db, "PRAGMA cache_size = -2048", e));
    return role == DB_READER ? lite_script(db, "PRAGMA query_only = ON", e) : 0;
}

/* What no one reads, and what each connection's own thread makes needless, is left out: counts of
 * memory are a lock at every allocation. */
static void configure(void)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
}

struct db *lite_open(struct store *s, enum db_role role, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, configure);
    if (role == DB_WRITER && make_file(s->url, e) < 0)
        return NULL;
    struct lite *l = calloc(1, sizeof(*l));
    if (!l)
        abort();
    l->base.class = &lite_class;
    l->base.store = s;
    int rc =
        sqlite3_open_v2(s->url, &l->h, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, "unix-excl");
    if (rc != SQLITE_OK) {
        err_cause(e, ERR_INTERNAL, sqlite3_errmsg(l->h), "cannot open the database %s", s->url);
        lite_close(&l->base);
        return NULL;
    }
    if (set_up(l, role, e) < 0) {
        if (e->code == ERR_BUSY)
            err_cause(e, ERR_BUSY, sqlite3_errmsg(l->h),
                      "the database %s is in use by another process", s->url);
        else if (e->code == ERR_INTERNAL)
            err_cause(e, ERR_INTERNAL, sqlite3_errmsg(l->h), "cannot open the database %s", s->url);
        lite_close(&l->base);
        return NULL;
    }
    return &l->base;
}

sqlite3 *lite_handle(struct db *db)
{
    return lite_of(db)->h;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* PostgreSQL behind db.h.  Hides libpq: values go out and come in as text except bytes, statements
 * are prepared under names of ours, and a reader's lost connection is made anew without anybody
 * noticing. */
#include "db/postgres.h"

#include "base/fault.h"
#include "base/metric.h"

enum { OID_BOOL = 16, OID_BYTEA = 17, OID_INT8 = 20, NUMBER_TEXT = 24, OLDEST = 150000 };

struct pg {
    struct db base;
    PGconn *h;
    enum db_role role;
    unsigned names; /* statements named so far on this connection */
};

static struct pg *pg_of(struct db *db)
{
    return (struct pg *)(void *)db;
}

static void clearp(PGresult **r)
{
    PQclear(*r);
}

PGconn *pg_handle(struct db *db)
{
    return pg_of(db)->h;
}

bool pg_lost(struct db *db)
{
    return PQstatus(pg_of(db)->h) != CONNECTION_OK;
}

/* ---- errors */

/* SQL states by prefix; the first that fits counts. */
/* clang-format off */
static const struct {
    const char *state;
    enum err_code code;
    const char *msg;
} states[] = {
    { "23505", ERR_ALREADY_EXISTS,     "already exists" },
    { "23P01", ERR_ALREADY_EXISTS,     "already exists" },
    { "23503", ERR_INVALID_STATE,      "something else refers to it, or what it refers to is gone" },
    { "23001", ERR_INVALID_STATE,      "something else refers to it, or what it refers to is gone" },
    { "40001", ERR_BUSY,               "the database is busy" },
    { "40P01", ERR_BUSY,               "the database is busy" },
    { "55P03", ERR_BUSY,               "the database is busy" },
    { "53100", ERR_OVERLOADED,         "no space left for the database" },
    { "53",    ERR_OVERLOADED,         "the database has no room for more work" },
    { "57014", ERR_OVERLOADED,         "the database took too long" },
    { "57P",   ERR_ENGINE_UNAVAILABLE, "the database cannot be reached" },
    { "08P01", ERR_INTERNAL,           "database error" },
    { "08",    ERR_ENGINE_UNAVAILABLE, "the database cannot be reached" },
    { "25P03", ERR_ENGINE_UNAVAILABLE, "the database ended a transaction that took too long" },
    { "22021", ERR_INVALID,            "text is not valid UTF-8" },
};
/* clang-format on */

static int lost_err(PGconn *h, struct err *e)
{
    return err_cause(e, ERR_ENGINE_UNAVAILABLE, PQerrorMessage(h),
                     "the database cannot be reached");
}

/* The cause has state, message and constraint, but not the detail: it quotes values. */
static int pg_err(PGconn *h, const PGresult *r, struct err *e)
{
    char cause[sizeof(e->cause)];
    const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;

    if (!state)
        return PQstatus(h) != CONNECTION_OK
                   ? lost_err(h, e)
                   : err_cause(e, ERR_INTERNAL, PQerrorMessage(h), "database error");
    const char *said = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    snprintf(cause, sizeof(cause), "%s %s", state, said ? said : "");
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (strncmp(state, states[i].state, strlen(states[i].state)) == 0)
            return err_cause(e, states[i].code, cause, "%s", states[i].msg);
    return err_cause(e, ERR_INTERNAL, cause, "database error");
}

static bool is_good(const PGresult *r)
{
    ExecStatusType st = PQresultStatus(r);

    return st == PGRES_COMMAND_OK || st == PGRES_TUPLES_OK;
}

static int simple(PGconn *h, const char *sql, struct err *e)
{
    _cleanup_(clearp) PGresult *r = PQexec(h, sql);

    return is_good(r) ? 0 : pg_err(h, r, e);
}

/* ---- connecting */

static void silent(void *ctx _unused_, const PGresult *r _unused_)
{
}

static int check_server(PGconn *h, struct err *e)
{
    int version = PQserverVersion(h);

    if (version < OLDEST)
        return err_set(e, ERR_ENGINE_UNAVAILABLE,
                       "PostgreSQL %d.%d is too old: the store wants 15 or newer", version / 10000,
                       version % 10000);
    const char *encoding = PQparameterStatus(h, "server_encoding");
    if (!encoding || strcmp(encoding, "UTF8") != 0)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the database's encoding is %s: it must be UTF8",
                       encoding ? encoding : "unknown");
    if (simple(h,
               "SELECT pg_advisory_xact_lock(1651664237),"
               " pg_snapshot_xmin(pg_current_snapshot())",
               e) < 0) {
        char cause[sizeof(e->cause)];

        memcpy(cause, e->cause, sizeof(cause));
        return err_cause(e, ERR_ENGINE_UNAVAILABLE, cause,
                         "the server lacks advisory locks or snapshots: it is no PostgreSQL");
    }
    return 0;
}

static int set_up(struct pg *p, struct err *e)
{
    static const char always[] =
        "SET idle_in_transaction_session_timeout = '5s'; SET bytea_output = 'hex';"
        " SET standard_conforming_strings = on; SET default_transaction_isolation = 'read committed';"
        " SET client_min_messages = warning; SET timezone = 'UTC'";

    TRY(simple(p->h, always, e));
    if (p->role == DB_READER)
        return simple(p->h, "SET statement_timeout = '30s'; SET default_transaction_read_only = on",
                      e);
    return simple(p->h,
                  p->role == DB_ADMIN ? "SET statement_timeout = '10min'"
                                      : "SET statement_timeout = '30s'",
                  e);
}

int pg_connect(struct db *db, struct err *e)
{
    /* What stands before "dbname" the URL may change. */
    static const char *const names[] = { "application_name", "connect_timeout", "tcp_user_timeout",
                                         "dbname",           "client_encoding", NULL };
    struct pg *p = pg_of(db);
    const char *const values[] = { "brume", "5", "10000", db->store->url, "UTF8", NULL };

    TRY(pq_open(e));
    stmt_clear(&db->stmts, NULL, NULL);
    PQfinish(p->h);
    p->names = 0;
    p->h = PQconnectdbParams(names, values, 1);
    if (!p->h)
        abort();
    if (PQstatus(p->h) != CONNECTION_OK)
        return lost_err(p->h, e);
    PQsetNoticeReceiver(p->h, silent, NULL);
    return set_up(p, e);
}

/* ---- arguments */

struct params {
    Oid types[DB_MAX_ARGS];
    const char *values[DB_MAX_ARGS];
    int lengths[DB_MAX_ARGS];
    int formats[DB_MAX_ARGS];
    char few[2048];
    char *many; /* where 'few' is too small */
};

static void params_free(struct params *p)
{
    free(p->many);
}

static size_t arg_room(const struct arg *a)
{
    if (a->type == ARG_INT || a->type == ARG_BOOL)
        return NUMBER_TEXT;
    return a->type == ARG_STR && a->s ? a->n + 1 : 0;
}

/* Texts are copied, for libpq wants a NUL behind them. */
static int params_fill(struct params *p, const struct arg *args, size_t n, struct err *e)
{
    size_t need = 0;

    for (size_t i = 0; i < n; i++) {
        if (args[i].n > GIB(1) - 1)
            return err_set(e, ERR_TOO_LARGE, "a value is too large for the database");
        need += arg_room(&args[i]);
    }
    char *at = p->few;
    if (need > sizeof(p->few) && !(at = p->many = malloc(need)))
        abort();
    for (size_t i = 0; i < n; i++) {
        const struct arg *a = &args[i];

        p->formats[i] = a->type == ARG_BLOB;
        p->types[i] = a->type == ARG_INT ? OID_INT8 : a->type == ARG_BOOL ? OID_BOOL : 0;
        if (a->type == ARG_BLOB)
            p->types[i] = OID_BYTEA;
        p->lengths[i] = (int)a->n;
        p->values[i] = at;
        if (a->type == ARG_INT)
            snprintf(at, NUMBER_TEXT, "%lld", (long long)a->i);
        else if (a->type == ARG_BOOL)
            snprintf(at, NUMBER_TEXT, "%s", a->i ? "t" : "f");
        else if (!a->s)
            p->values[i] = NULL;
        else if (a->type == ARG_BLOB)
            p->values[i] = a->s;
        else {
            memcpy(at, a->s, a->n);
            at[a->n] = '\0';
        }
        at += arg_room(a);
    }
    return 0;
}

/* ---- rows */

/* The integer that a text begins with; a fraction is left out. */
static int64_t read_int(const char *s)
{
    bool minus = *s == '-';
    uint64_t v = 0;

    for (s += minus; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return minus ? INT64_MIN : INT64_MAX;
    if (v > (uint64_t)INT64_MAX)
        return minus ? INT64_MIN : INT64_MAX;
    return minus ? -(int64_t)v : (int64_t)v;
}

/* "\x0a1b" as bytes at 'to'. */
static size_t read_bytes(const char *s, size_t n, char *to)
{
    size_t out = 0;

    for (size_t i = 2; i + 1 < n; i += 2)
        to[out++] = (char)((unsigned)hex_value(s[i]) << 4 | (unsigned)hex_value(s[i + 1]));
    return out;
}

static void read_col(const PGresult *r, int row, int i, char *bytes, struct col *c)
{
    *c = (struct col){ 0 };
    if (PQgetisnull(r, row, i))
        return;
    c->s = PQgetvalue(r, row, i);
    c->n = (size_t)PQgetlength(r, row, i);
    switch (PQftype(r, i)) {
    case OID_BOOL:
        c->i = *c->s == 't';
        c->s = c->i ? "1" : "0";
        break;
    case OID_BYTEA:
        c->n = read_bytes(c->s, c->n, bytes);
        c->s = bytes;
        break;
    case OID_INT8:
    case 21:   /* int2 */
    case 23:   /* int4 */
    case 26:   /* oid */
    case 1700: /* numeric, which sum(int8) gives */
        c->i = read_int(c->s);
        break;
    default:
        break;
    }
}

static struct metric rows_total =
    METRIC(METRIC_COUNTER, "brume_db_rows_total", "Rows that PostgreSQL gave.");

static int give_rows(PGresult *r, const struct sink *sink, struct err *e)
{
    struct col cols[DB_MAX_COLS];
    struct buf bytes = BUF(GIB(2));
    int n = PQnfields(r), rc = 0;

    metric_add(&rows_total, PQntuples(r));
    if (n > DB_MAX_COLS)
        return err_set(e, ERR_INTERNAL, "a statement gives more than %d columns", DB_MAX_COLS);
    for (int row = 0; rc == 0 && row < PQntuples(r); row++) {
        size_t need = 1, used = 0;

        for (int i = 0; i < n; i++)
            if (PQftype(r, i) == OID_BYTEA)
                need += (size_t)PQgetlength(r, row, i) / 2;
        char *at = buf_room(&bytes, need);
        for (int i = 0; i < n; i++) {
            read_col(r, row, i, at + used, &cols[i]);
            if (PQftype(r, i) == OID_BYTEA)
                used += cols[i].n;
        }
        rc = sink->row(sink->ctx, cols, (size_t)n, e);
    }
    buf_free(&bytes);
    return rc;
}

/* ---- statements */

static void name_of(const struct stmt *st, char out[16])
{
    snprintf(out, 16, "s%u", (unsigned)(uintptr_t)st->handle);
}

static void drop_stmt(void *ctx, struct stmt *st)
{
    struct pg *p = ctx;
    char name[16], sql[40];

    name_of(st, name);
    snprintf(sql, sizeof(sql), "DEALLOCATE %s", name);
    PQclear(PQexec(p->h, sql));
    st->handle = NULL;
}

static int prepare(struct pg *p, const struct stmt_key *k, const struct params *v, size_t n,
                   struct stmt **out, struct err *e)
{
    struct stmt *st = stmt_place(&p->base.stmts, k, drop_stmt, p);
    struct buf text = BUF(MIB(1));
    char name[16];

    st->handle = (void *)(uintptr_t)++p->names;
    name_of(st, name);
    stmt_text(&text, k, true);
    int rc = 0;
    if (text.failed) {
        rc = err_set(e, ERR_INTERNAL, "a statement is too long");
    } else {
        _cleanup_(clearp) PGresult *r = PQprepare(p->h, name, buf_cstr(&text), (int)n, v->types);

        if (!is_good(r))
            rc = pg_err(p->h, r, e);
    }
    buf_free(&text);
    if (rc < 0)
        stmt_forget(&p->base.stmts, st);
    *out = st;
    return rc;
}

static int run_stmt(struct pg *p, const struct stmt_key *k, const struct params *v, size_t n,
                    PGresult **out, struct err *e)
{
    struct stmt *st = stmt_find(&p->base.stmts, k);
    char name[16];

    if (!st)
        TRY(prepare(p, k, v, n, &st, e));
    name_of(st, name);
    *out = PQexecPrepared(p->h, name, (int)n, v->values, v->lengths, v->formats, 0);
    return is_good(*out) ? 0 : pg_err(p->h, *out, e);
}

/* Whether a failed statement may run again on a new connection: outside of transactions only. */
static bool may_reconnect(struct pg *p)
{
    return PQstatus(p->h) != CONNECTION_OK && p->role == DB_READER;
}

static int run_params(struct pg *p, const struct stmt_key *k, const struct arg *args, size_t n,
                      PGresult **out, struct err *e)
{
    _cleanup_(params_free) struct params v;

    v.many = NULL;
    TRY(args_check(args, n, e));
    TRY(params_fill(&v, args, n, e));
    if (FAULT("db.exec"))
        return err_cause(e, ERR_INTERNAL, "fault on purpose", "database error");
    if (run_stmt(p, k, &v, n, out, e) == 0)
        return 0;
    if (!may_reconnect(p))
        return -1;
    PQclear(*out);
    *out = NULL;
    TRY(pg_connect(&p->base, e));
    return run_stmt(p, k, &v, n, out, e);
}

static int pg_run(struct db *db, const struct stmt_key *k, const struct arg *args, size_t n,
                  const struct sink *sink, int64_t *changed, struct err *e)
{
    _cleanup_(clearp) PGresult *r = NULL;

    if (db->spoiled)
        return err_set(e, ERR_INTERNAL, "an earlier statement of this transaction failed");
    if (run_params(pg_of(db), k, args, n, &r, e) < 0) {
        db->spoiled = db->in_job;
        return -1;
    }
    if (changed) {
        bool reads = strncmp(PQcmdStatus(r), "SELECT", 6) == 0;

        *changed = reads ? 0 : read_int(PQcmdTuples(r));
    }
    return sink ? give_rows(r, sink, e) : 0;
}

static int pg_script(struct db *db, const char *sql, struct err *e)
{
    return simple(pg_of(db)->h, sql, e);
}

/* ---- transactions */

static int pg_control(struct db *db, enum db_control what, struct err *e)
{
    static const char *const sql[DB_CONTROLS] = {
        [DB_BEGIN_READ] = "BEGIN READ ONLY",
        [DB_BEGIN_WRITE] = "BEGIN",
        [DB_COMMIT] = "COMMIT",
        [DB_ROLLBACK] = "ROLLBACK",
        [DB_SAVEPOINT] = "SAVEPOINT j",
        [DB_RELEASE] = "RELEASE SAVEPOINT j",
        [DB_UNDO] = "ROLLBACK TO SAVEPOINT j; RELEASE SAVEPOINT j",
    };
    PGconn *h = pg_of(db)->h;

    if (what == DB_COMMIT && FAULT("db.commit"))
        return err_cause(e, ERR_INTERNAL, "fault on purpose", "database error");
    _cleanup_(clearp) PGresult *r = PQexec(h, sql[what]);
    if (!is_good(r))
        return pg_err(h, r, e);
    /* A transaction that failed answers COMMIT with ROLLBACK, and calls it a success. */
    if (what == DB_COMMIT && strcmp(PQcmdStatus(r), "COMMIT") != 0)
        return err_cause(e, ERR_INTERNAL, PQcmdStatus(r), "database error");
    return 0;
}

static bool pg_in_transaction(struct db *db)
{
    PGTransactionStatusType st = PQtransactionStatus(pg_of(db)->h);

    return st == PQTRANS_INTRANS || st == PQTRANS_INERROR || st == PQTRANS_ACTIVE;
}

/* A clock that somebody set stands for the database's too. */
static int pg_now(struct db *db, int64_t *out, struct err *e)
{
    if (db->store->clock != clock_system()) {
        *out = clock_wall(db->store->clock);
        return 0;
    }
    return db_int(db, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", NO_ARGS,
                  0, out, e);
}

static void pg_close(struct db *db)
{
    stmt_clear(&db->stmts, NULL, NULL);
    PQfinish(pg_of(db)->h);
    free(db);
}

static const struct db_class pg_class = {
    .postgres = true,
    .run = pg_run,
    .script = pg_script,
    .control = pg_control,
    .in_transaction = pg_in_transaction,
    .now = pg_now,
    .close = pg_close,
};

struct db *pg_open(struct store *s, enum db_role role, struct err *e)
{
    struct pg *p = calloc(1, sizeof(*p));

    if (!p)
        abort();
    p->base.class = &pg_class;
    p->base.store = s;
    p->role = role;
    if (pg_connect(&p->base, e) < 0 || check_server(p->h, e) < 0) {
        pg_close(&p->base);
        return NULL;
    }
    return &p->base;
}

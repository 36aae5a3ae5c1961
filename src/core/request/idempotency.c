/* SPDX-License-Identifier: Apache-2.0 */
/* Idempotency keys (contracts 3): which requests run at this moment, and what earlier ones
 * answered. The record is a part of the write's own journal row.  On SQLite one process owns the
 * store: what keys there are is kept in memory and only the answer is read; on PostgreSQL a unique
 * index and an advisory lock decide.
 *
 * A LONG call has several transactions: the first claims the key, the last keeps the answer in the
 * claim's place.  A claim that nobody runs any more is of a run that was cut short: its retry goes
 * on.  On PostgreSQL a lock says that somebody runs, and ends with its connection, which may end
 * before the run does; so a retry that goes on puts a token of its own into the claim, and each
 * transaction of a run begins with a look whether the token there is still its own.
 *
 * A raw body is summed up while its handler reads it, so its print is whole only when the body is:
 * the first half of the print (all but the body) is compared before anything is read; the second
 * when a retry's body has been read, for which no handler runs.  Nothing is kept of a body that was
 * not read to its end. */
#include <sodium.h>

#include "base/log.h"
#include "base/map.h"
#include "core/request/request.h"
#include "core/secret/seal.h"

enum { PRINT_HALF = (PRINT_HEX - 1) / 2, DRAIN = 16384, ANSWER_MAX = 16 << 20 };
static const char claim_mark[] = "begun ";

struct record_known {
    int64_t seq, until;
    uint64_t flow; /* whose share it is a part of; FLOW_SYSTEM: nobody's */
    bool claim;
    char print[PRINT_HEX];
};
struct idem {
    pthread_mutex_t lock;
    struct map *running;
    struct map *known; /* of struct record_known: SQLite */
};

struct idem *idem_new(void)
{
    struct idem *i = calloc(1, sizeof(*i));

    if (!i)
        abort();
    pthread_mutex_init(&i->lock, NULL);
    i->running = map_new();
    i->known = map_new();
    return i;
}

void idem_free(struct idem *i)
{
    const void *key;
    size_t at = 0, n;
    void *v;

    if (!i)
        return;
    while (map_next(i->known, &at, &key, &n, &v))
        free(v);
    map_free(i->known);
    map_free(i->running);
    pthread_mutex_destroy(&i->lock);
    free(i);
}

/* What a record is known by: 32 bytes. */
static void record_name(const char *scope, const char *key, uint8_t out[32])
{
    char text[600];
    int n = snprintf(text, sizeof(text), "%s\n%s", scope, key);

    sha256(text, MIN((size_t)n, sizeof(text) - 1), out);
}

static void drop(struct app *app, struct record_known *k)
{
    if (k && k->flow != FLOW_SYSTEM)
        shares_give(app->shares, SHARE_KEYS, k->flow, 1);
    free(k);
}

/* What stood there before leaves its part of the share to a record that has none. */
static void remember(struct app *app, const char *scope, const char *key, const char *print,
                     const struct record_known *of)
{
    struct idem *i = app->idem;
    struct record_known *k = malloc(sizeof(*k));
    uint8_t name[32];

    if (!k)
        abort();
    *k = *of;
    snprintf(k->print, sizeof(k->print), "%s", print);
    record_name(scope, key, name);
    pthread_mutex_lock(&i->lock);
    struct record_known *before = map_set(i->known, name, sizeof(name), k);
    if (before && k->flow == FLOW_SYSTEM) {
        k->flow = before->flow;
        before->flow = FLOW_SYSTEM;
    }
    pthread_mutex_unlock(&i->lock);
    drop(app, before);
}

/* 'seq': only if it is known by this row; 0: by any. */
static void forget(struct app *app, const char *scope, const char *key, int64_t seq)
{
    struct idem *i = app->idem;
    uint8_t name[32];

    record_name(scope, key, name);
    pthread_mutex_lock(&i->lock);
    struct record_known *before = map_get(i->known, name, sizeof(name));
    if (before && seq && before->seq != seq)
        before = NULL;
    if (before)
        map_del(i->known, name, sizeof(name));
    pthread_mutex_unlock(&i->lock);
    drop(app, before);
}

struct loading {
    struct app *app;
    struct db *db;
    struct map *flows; /* of tenants: of uint64_t */
};

/* Each tenant is looked up once. */
static int loading_flow(struct loading *l, const struct uuid *tenant, uint64_t *out, struct err *e)
{
    const struct auth_class *auth = l->app->auth;
    uint64_t *known = map_get(l->flows, tenant->s, sizeof(tenant->s));
    struct uuid account = { "" };

    if (!known) {
        if (auth && auth->account)
            TRY(auth->account(l->db, tenant, &account, e));
        if (!(known = malloc(sizeof(*known))))
            abort();
        *known = flow_of_tenant(&account, tenant);
        map_set(l->flows, tenant->s, sizeof(tenant->s), known);
    }
    *out = *known;
    return 0;
}

/* What was promised before a restart is kept, also over a bound that is smaller now. */
static int load_one(void *ctx, const struct col *c, size_t n, struct err *e)
{
    struct loading *l = ctx;
    struct app *app = l->app;

    if (n != 7 || !c[1].s || !c[2].s || !c[3].s)
        return 0;
    struct record_known k = { .seq = c[0].i, .until = c[4].i, .claim = c[5].i != 0 };
    struct uuid tenant = { "" };
    if (c[6].s && uuid_parse((struct str){ c[6].s, c[6].n }, &tenant)) {
        struct flow f = { 0 };

        TRY(loading_flow(l, &tenant, &f.key, e));
        if (shares_take(app->shares, SHARE_KEYS, &f, 1) == FAIR_OK)
            k.flow = f.key;
    }
    remember(app, c[1].s, c[2].s, c[3].s, &k);
    return 0;
}

int idem_load(struct app *app, struct err *e)
{
    if (app->postgres)
        return 0;
    struct loading l = { .app = app, .db = store_any_reader(app->store), .flows = map_new() };
    struct db *db = store_reader(app->store, e);
    const void *key;
    size_t at = 0, n;
    void *v;
    int rc = !db ? -1
                 : db_each(db,
                           "SELECT seq, idem_scope, idem_key, idem_print, idem_until,"
                           " CASE WHEN idem_answer LIKE 'begun %' THEN 1 ELSE 0 END,"
                           " COALESCE(tenant_id, user_id) FROM journal"
                           " WHERE idem_key IS NOT NULL AND idem_until > $1",
                           ARGS(A(clock_wall(app->clock))), load_one, &l, e);
    if (db)
        store_reader_back(app->store, db);
    while (map_next(l.flows, &at, &key, &n, &v))
        free(v);
    map_free(l.flows);
    return rc;
}

void idem_forget(struct app *app, int64_t now)
{
    struct idem *i = app->idem;
    const void *key;
    size_t at = 0, n;
    void *v;

    pthread_mutex_lock(&i->lock);
    while (map_next(i->known, &at, &key, &n, &v)) {
        struct record_known *k = v;

        if (k->until <= now)
            drop(app, map_del(i->known, key, n));
    }
    pthread_mutex_unlock(&i->lock);
}

/* ---- the record */

bool idem_kept(enum err_code code)
{
    int status = err_status(code);

    return code == ERR_NONE || code == ERR_QUOTA_EXCEEDED || status == 500 ||
           (status == 409 && code != ERR_IDEMPOTENCY_IN_PROGRESS);
}

static struct str bound_to(struct call_private *p)
{
    return str_of(arena_printf(p->c.arena, "%s\n%s", p->idem.scope, p->idem.key));
}

bool idem_fits(const struct call_private *p)
{
    return p->body.n <= ANSWER_MAX - KIB(64);
}

/* Status, type, tag, headers, an empty line, the body: sealed, for it may hold a secret shown once.
 */
const char *idem_pack(struct call_private *p, enum idem_step step, struct err *e)
{
    struct buf b = BUF(ANSWER_MAX);
    const char *s = NULL;

    if (step == IDEM_CLAIM)
        return arena_printf(p->c.arena, "%s%s %s", claim_mark, p->audit_kind ? p->audit_id.s : "",
                            p->idem.token.s);
    buf_printf(&b, "%d %d\n%s\n%s\n", p->status, (int)p->code,
               p->content_type ? p->content_type : "", p->etag ? p->etag : "");
    for (const struct reply_header *h = p->headers; h; h = h->next)
        buf_printf(&b, "%s: %s\n", h->name, h->value);
    buf_puts(&b, "\n");
    buf_put(&b, p->body.p, p->body.n);
    if (b.failed)
        err_set(e, ERR_TOO_LARGE, "The answer is too large to be kept under an Idempotency-Key");
    else
        s = keyring_seal(p->c.app->keys, p->c.arena, buf_str(&b), bound_to(p));
    if (b.p)
        sodium_memzero(b.p, b.n);
    buf_free(&b);
    return s;
}

static struct str line_of(struct str *s)
{
    const char *nl = s->n ? memchr(s->p, '\n', s->n) : NULL;
    struct str line = { s->p, nl ? (size_t)(nl - s->p) : s->n };
    size_t used = line.n + (nl ? 1 : 0);

    s->p += used;
    s->n -= used;
    return line;
}

static int unpack(struct call_private *p, const char *sealed, struct err *e)
{
    struct arena *a = p->c.arena;
    struct str s, line;
    int64_t status = 0, code = 0;

    TRY(keyring_unseal(p->c.app->keys, &p->own, sealed, bound_to(p), &s, e));
    line = line_of(&s);
    const char *space = line.n ? memchr(line.p, ' ', line.n) : NULL;
    if (!space || !int_parse((struct str){ line.p, (size_t)(space - line.p) }, 100, 599, &status) ||
        !int_parse((struct str){ space + 1, (size_t)(line.p + line.n - space - 1) }, 0, 1000,
                   &code))
        return err_cause(e, ERR_INTERNAL, "an idempotency record is damaged", "internal error");
    p->headers = NULL;
    p->headers_end = &p->headers;
    p->status = (int)status;
    p->code = (enum err_code)code;
    line = line_of(&s);
    p->content_type = line.n ? arena_dup(a, line.p, line.n) : NULL;
    line = line_of(&s);
    p->etag = line.n ? arena_dup(a, line.p, line.n) : NULL;
    while (s.n && (line = line_of(&s)).n) {
        const char *colon = memchr(line.p, ':', line.n);

        if (colon && colon + 2 <= line.p + line.n)
            reply_header(&p->c, arena_dup(a, line.p, (size_t)(colon - line.p)),
                         arena_dup(a, colon + 2, (size_t)(line.p + line.n - colon - 2)));
    }
    p->body = s;
    p->replied = p->replay = true;
    return 0;
}

static int reused(struct err *e)
{
    return err_set(e, ERR_IDEMPOTENCY_KEY_REUSED,
                   "This Idempotency-Key was used with another request");
}

static int in_progress(struct err *e)
{
    return err_set(e, ERR_IDEMPOTENCY_IN_PROGRESS,
                   "The first request with this Idempotency-Key is still running");
}

struct found {
    struct call_private *p;
    const char *print, *answer;
    int64_t seq, until;
};

/* An answer is larger than a request may be: it is the call's own arena that has room. */
static int found_row(void *ctx, const struct col *c, size_t n _unused_, struct err *e)
{
    struct found *f = ctx;

    f->print = arena_strdup(f->p->c.arena, c[0].s);
    f->answer = arena_try_dup(&f->p->own, c[1].s, c[1].n);
    if (!f->answer)
        return err_cause(e, ERR_INTERNAL, "an idempotency record is too large", "internal error");
    f->until = c[2].i;
    f->seq = c[3].i;
    return 0;
}

static bool is_claim(const struct found *f)
{
    return strncmp(f->answer, claim_mark, sizeof(claim_mark) - 1) == 0;
}

#define RECORD_COLUMNS "SELECT idem_print, idem_answer, idem_until, seq FROM journal"
static const char sql_by_seq[] = RECORD_COLUMNS " WHERE seq = $1 AND idem_key IS NOT NULL";
static const char sql_record[] =
    RECORD_COLUMNS " WHERE idem_scope = $1 AND idem_key = $2 AND idem_key IS NOT NULL";

static int replay_seq(struct call_private *p, struct db *db, int64_t seq, struct err *e)
{
    struct found f = { .p = p };

    TRY(db_read_round(db, e));
    TRY(db_each(db, sql_by_seq, ARGS(A(seq)), found_row, &f, e));
    if (!f.answer) { /* swept: its time came after it was looked up here */
        forget(p->c.app, p->idem.scope, p->idem.key, seq);
        return idem_begin(p, db, e);
    }
    TRY(unpack(p, f.answer, e));
    return 1;
}

int idem_begin(struct call_private *p, struct db *db, struct err *e)
{
    struct idem *i = p->c.app->idem;
    uint8_t name[32];
    int64_t seq = 0;
    int rc = 0;

    record_name(p->idem.scope, p->idem.key, name);
    pthread_mutex_lock(&i->lock);
    struct record_known *k = map_get(i->known, name, sizeof(name));
    if (map_get(i->running, name, sizeof(name)))
        rc = in_progress(e);
    else if (k && k->until > p->c.now && !idem_same(p, k->print))
        rc = reused(e);
    else if (k && k->until > p->c.now && !k->claim && !p->idem.body)
        seq = k->seq;
    else if (!k && call_take(p, SHARE_KEYS, 1, e) < 0)
        rc = -1;
    else {
        if (k && k->until > p->c.now)
            p->idem.row = k->seq; /* looked at by idem_begin_long() */
        map_set(i->running, name, sizeof(name), i);
        p->idem.held = true;
    }
    pthread_mutex_unlock(&i->lock);
    return seq ? replay_seq(p, db, seq, e) : rc;
}

static int64_t lock_number(const struct call_private *p)
{
    uint8_t name[32];
    int64_t number;

    record_name(p->idem.scope, p->idem.key, name);
    memcpy(&number, name, sizeof(number));
    return number;
}

/* Held by a connection of its own while the handler runs: it goes with the process. */
static int lock_long(struct call_private *p, struct err *e)
{
    struct store *store = p->c.app->store;
    struct db *db = store_reader(store, e);
    int64_t got;

    if (!db)
        return -1;
    int rc = db_int(db, "SELECT CASE WHEN pg_try_advisory_lock($1) THEN 1 ELSE 0 END",
                    ARGS(A(lock_number(p))), 0, &got, e);
    if (rc == 0 && !got)
        rc = in_progress(e);
    if (rc == 0)
        p->idem.lock = db;
    else
        store_reader_back(store, db);
    return rc;
}

static int lost(struct err *e)
{
    return err_set(e, ERR_IDEMPOTENCY_IN_PROGRESS,
                   "A retry with this Idempotency-Key has taken this request over");
}

static bool token_ours(const struct call_private *p, const char *answer)
{
    const char *token = strrchr(answer, ' ') + 1;

    return strcmp(token, p->idem.token.s) == 0;
}

/* The claim is ours to the end of this transaction. */
static int claim_hold(struct call_private *p, struct db *db, struct err *e)
{
    struct found f = { .p = p };

    TRY(db_each(db, RECORD_COLUMNS " WHERE seq = $1 AND idem_key IS NOT NULL /*pg: FOR UPDATE */",
                ARGS(A(p->idem.row)), found_row, &f, e));
    return f.answer && is_claim(&f) && token_ours(p, f.answer) ? 0 : lost(e);
}

bool idem_lost(struct call_private *p, struct db *db)
{
    struct err e;

    return p->idem.claimed && claim_hold(p, db, &e) < 0;
}

struct takeover {
    struct call_private *p;
    const char *was, *now;
    int64_t n;
};

static int take_over(struct db *db, void *ctx, struct err *e)
{
    struct takeover *t = ctx;

    return db_exec_n(db, "UPDATE journal SET idem_answer = $1 WHERE seq = $2 AND idem_answer = $3",
                     ARGS(A(t->now), A(t->p->idem.row), A(t->was)), &t->n, e);
}

static int resume(struct call_private *p, const struct found *f, struct err *e)
{
    const char *id = f->answer + sizeof(claim_mark) - 1;
    size_t n = strcspn(id, " ");
    struct takeover t = { .p = p, .was = f->answer };

    p->idem.resumed = true;
    if (!uuid_parse((struct str){ id, n }, &p->idem.object))
        p->idem.object = (struct uuid){ "" };
    if (!p->c.app->postgres)
        return 0;
    t.now = arena_printf(p->c.arena, "%s%.*s %s", claim_mark, (int)n, id, p->idem.token.s);
    TRY(store_write(p->c.app->store, take_over, &t, e));
    p->idem.claimed = t.n == 1;
    return p->idem.claimed ? 0 : in_progress(e);
}

int idem_begin_long(struct call_private *p, struct db *db, struct err *e)
{
    struct found f = { .p = p };

    if (!p->idem.key)
        return 0;
    if (p->c.app->postgres) {
        uuid_new(p->c.app->clock, &p->idem.token);
        TRY(lock_long(p, e));
        TRY(db_each(db, sql_record, ARGS(A(p->idem.scope), A(p->idem.key)), found_row, &f, e));
    } else if (p->idem.row) {
        TRY(db_read_round(db, e));
        TRY(db_each(db, sql_by_seq, ARGS(A(p->idem.row)), found_row, &f, e));
    }
    p->idem.row = f.seq; /* one that has had its time is written over */
    if (!f.answer || f.until <= p->c.now)
        return 0;
    if (!idem_same(p, f.print))
        return reused(e);
    if (is_claim(&f))
        return resume(p, &f, e);
    if (p->idem.body)
        TRY(body_end(&p->c, e));
    if (!idem_same(p, f.print))
        return reused(e);
    TRY(unpack(p, f.answer, e));
    return 1;
}

int idem_begin_pg(struct call_private *p, struct db *db, struct err *e)
{
    struct found f = { .p = p };
    int64_t got = 1;

    if (!p->idem.lock)
        TRY(db_int(db, "SELECT CASE WHEN pg_try_advisory_xact_lock($1) THEN 1 ELSE 0 END",
                   ARGS(A(lock_number(p))), 0, &got, e));
    if (!got)
        return in_progress(e);
    if (p->idem.claimed)
        return claim_hold(p, db, e);
    TRY(db_each(db, sql_record, ARGS(A(p->idem.scope), A(p->idem.key)), found_row, &f, e));
    if (!f.answer || f.seq == p->idem.row)
        return 0;
    if (f.until <= p->c.now) {
        TRY(db_exec(db,
                    "DELETE FROM journal WHERE idem_scope = $1 AND idem_key = $2"
                    " AND events IS NULL AND outcome IS NULL",
                    ARGS(A(p->idem.scope), A(p->idem.key)), e));
        return db_exec(db,
                       "UPDATE journal SET idem_scope = NULL, idem_key = NULL, idem_print = NULL,"
                       " idem_answer = NULL, idem_until = NULL"
                       " WHERE idem_scope = $1 AND idem_key = $2",
                       ARGS(A(p->idem.scope), A(p->idem.key)), e);
    }
    if (!idem_same(p, f.print))
        return reused(e);
    if (p->idem.lock || is_claim(&f))
        return in_progress(e);
    TRY(unpack(p, f.answer, e));
    return 1;
}

void idem_committed(struct call_private *p)
{
    struct app *app = p->c.app;
    int64_t until = p->c.now + HOURS(app->config->idempotency_hours);
    bool claim = p->idem.step == IDEM_CLAIM;

    if (!p->idem.seq)
        return;
    p->idem.row = p->idem.step == IDEM_DROP ? 0 : p->idem.seq;
    p->idem.claimed = claim && app->postgres;
    if (!app->postgres && p->idem.step == IDEM_DROP) {
        forget(app, p->idem.scope, p->idem.key, 0);
    } else if (!app->postgres) {
        struct record_known k = { .seq = p->idem.seq, .until = until, .claim = claim };

        /* Its part of the share goes over to the record. */
        if (p->held[SHARE_KEYS])
            k.flow = call_flow(p)->key;
        p->held[SHARE_KEYS] = 0;
        remember(app, p->idem.scope, p->idem.key, p->idem.print, &k);
    }
    p->idem.seq = 0;
}

static void unlock_long(struct call_private *p)
{
    int64_t had;
    struct err e;

    if (!p->idem.lock)
        return;
    if (db_int(p->idem.lock, "SELECT CASE WHEN pg_advisory_unlock($1) THEN 1 ELSE 0 END",
               ARGS(A(lock_number(p))), 0, &had, &e) < 0)
        log_err(LOG_WARN, "idempotency_lock_stays", &e);
    store_reader_back(p->c.app->store, TAKE(p->idem.lock));
}

void idem_end(struct call_private *p)
{
    struct idem *i = p->c.app->idem;
    uint8_t name[32];

    unlock_long(p);
    if (!p->idem.held)
        return;
    p->idem.held = false;
    record_name(p->idem.scope, p->idem.key, name);
    pthread_mutex_lock(&i->lock);
    map_del(i->running, name, sizeof(name));
    pthread_mutex_unlock(&i->lock);
}

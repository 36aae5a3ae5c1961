/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: one append-only row a request that changed something or must be remembered.  Audit,
 * events and idempotency are columns of it, so that a write pays for one row and not for three. */
#include "base/log.h"
#include "base/put.h"
#include "core/request/request.h"

static const char *const outcomes[] = { NULL, "success", "failure", "denied" };

static int events_text(struct call_private *p, const char **out, struct err *e)
{
    struct buf b = BUF(MIB(32));

    *out = NULL;
    if (!p->commit.events)
        return 0;
    for (const struct event *x = p->commit.events; x; x = x->next) {
        buf_putc(&b, x == p->commit.events ? '[' : ',');
        buf_puts(&b, x->json);
    }
    buf_putc(&b, ']');
    int rc = b.failed ? err_set(e, ERR_TOO_LARGE, "Too much changes at once: ask for less") : 0;
    if (rc == 0)
        *out = arena_dup(p->c.arena, b.p, b.n);
    buf_free(&b);
    return rc;
}

static const char *user_agent(struct call_private *p)
{
    struct str s = { NULL, 0 };

    if (p->r)
        s = http1_header(http_req_head(p->r), "user-agent");
    if (!s.p || !utf8_valid(s))
        return NULL;
    return arena_dup(p->c.arena, s.p, utf8_cut(s.p, s.n, 256));
}

/* PostgreSQL: a transaction has its number before it takes one of the journal (journal_settled()).
 */
#define COLUMNS                                                                                               \
    "INSERT INTO journal (/*pg: seq, */ id, at, tenant_id, project_id, mode, actor, user_id, key_id, action," \
    " object_kind, object_id, outcome, status, ip, user_agent, request_id, trace_id, events"
#define VALUES                                                                                   \
    " /*pg: OVERRIDING SYSTEM VALUE */ VALUES (/*pg: CASE WHEN pg_current_xact_id() IS NOT NULL" \
    " THEN nextval('journal_seq_seq') END, */ $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18"
static const char sql_plain[] = COLUMNS ")" VALUES ")";
static const char sql_keyed[] =
    COLUMNS ", idem_scope, idem_key, idem_print, idem_answer, idem_until)" VALUES
            ", $19, $20, $21, $22, $23) RETURNING seq";
static const char sql_again[] =
    "UPDATE journal SET idem_print = $1, idem_answer = $2, idem_until = $3 WHERE seq = $4";
static const char sql_drop[] =
    "UPDATE journal SET idem_scope = NULL, idem_key = NULL, idem_print = NULL, idem_answer = NULL,"
    " idem_until = NULL WHERE seq = $1";

/* A LONG call's record stands in the row of its first transaction. */
static int record_again(struct call_private *p, struct db *db, enum idem_step step, struct err *e)
{
    int64_t until = p->c.now + HOURS(p->c.app->config->idempotency_hours);

    p->idem.seq = p->idem.row;
    p->idem.step = step;
    if (step == IDEM_DROP)
        return db_exec(db, sql_drop, ARGS(A(p->idem.row)), e);
    const char *sealed = idem_pack(p, step, e);
    if (!sealed)
        return -1;
    return db_exec(db, sql_again,
                   ARGS(A((const char *)p->idem.print), A(sealed), A(until), A(p->idem.row)), e);
}

int journal_write(struct call_private *p, struct db *db, enum outcome outcome, enum idem_step step,
                  struct err *e)
{
    struct call *c = &p->c;
    const struct principal *who = c->who;
    const struct route_info *info = p->mount ? p->mount->info : NULL;
    bool again = p->idem.key && p->idem.row && step != IDEM_NONE;
    bool keyed = p->idem.key && !again && (step == IDEM_CLAIM || step == IDEM_KEEP);
    bool audited = outcome != OUTCOME_NONE;
    const char *kind = p->audit_kind ? p->audit_kind : info ? info->service->name : NULL;
    const struct uuid *object = p->audit_kind ? &p->audit_id : &c->id;
    const char *sealed = keyed ? idem_pack(p, step, e) : NULL;
    const char *events;
    struct uuid id;

    if (info && info->route->no_audit)
        audited = false;
    if (again)
        TRY(record_again(p, db, step, e));
    if (keyed && !sealed)
        return -1;
    if (!audited && !keyed && !p->commit.events)
        return 0;
    TRY(events_text(p, &events, e));
    uuid_new(c->app->clock, &id);
    struct arg args[] = {
        A(&id),
        A(c->now),
        A(&c->tenant),
        A(&who->project_id),
        A(enum_to_str(mode_names, (int)who->mode)),
        A(who->actor[0] ? who->actor : NULL),
        A(&who->user_id),
        A(&who->key_id),
        A(audited && info ? info->audit_action : NULL),
        A(kind),
        A(object),
        A(audited ? outcomes[outcome] : NULL),
        A(p->status),
        A(p->ip[0] ? p->ip : NULL),
        A(user_agent(p)),
        A((const char *)p->request_id),
        A(p->trace_id[0] ? p->trace_id : NULL),
        A(events),
        A(p->idem.scope),
        A(p->idem.key),
        A((const char *)p->idem.print),
        A(sealed),
        A(c->now + HOURS(c->app->config->idempotency_hours)),
    };
    p->commit.journaled = true;
    if (events) {
        char topic[JOURNAL_TOPIC];

        journal_topic(&c->tenant, topic);
        call_signal(c, topic);
    }
    if (!keyed)
        return db_exec(db, sql_plain, args, 18, e);
    p->idem.step = step;
    return db_int(db, sql_keyed, args, ARRAY_LEN(args), 0, &p->idem.seq, e);
}

/* ---- for those who follow it */

/* Numbers are given out in order, and their transactions end in any.  Whoever took one before the
 * row M was seen had his transaction's number before that, so when all transactions have ended that
 * are older than one begun after M was seen, nothing comes any more before M. */
int journal_settled(struct app *app, struct db *db, int64_t *seq, bool *more, struct err *e)
{
    static const char sql_last[] = "SELECT COALESCE(max(seq), 0) FROM journal";
    struct journal_end *j = &app->journal;
    int64_t last, oldest, mine = 0;

    TRY(db_int(db, sql_last, NO_ARGS, 0, &last, e));
    if (!app->postgres) {
        *seq = last;
        *more = false;
        return 0;
    }
    TRY(db_int(db, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint", NO_ARGS, 0,
               &oldest, e));
    pthread_mutex_lock(&j->lock);
    if (j->tx && oldest >= j->tx) {
        j->settled = j->seen;
        j->tx = 0;
    }
    bool look = !j->tx && last > j->settled;
    pthread_mutex_unlock(&j->lock);
    if (look)
        TRY(db_int(db, "SELECT pg_current_xact_id()::text::bigint", NO_ARGS, 0, &mine, e));
    pthread_mutex_lock(&j->lock);
    if (look && !j->tx && last > j->settled) {
        j->seen = last;
        j->tx = mine;
    }
    *seq = j->settled;
    *more = last > j->settled;
    pthread_mutex_unlock(&j->lock);
    return 0;
}

struct following {
    journal_row_fn *fn;
    void *ctx;
};

static int follow_row(void *ctx, const struct col *c, size_t n _unused_, struct err *e)
{
    const struct following *f = ctx;
    struct journal_row row = { .seq = c[0].i,
                               .at = c[1].i,
                               .tenant_id = c[2].s,
                               .project_id = c[3].s,
                               .mode = c[4].s,
                               .request_id = c[5].s,
                               .events = { c[6].s, c[6].n } };

    return f->fn(f->ctx, &row, e);
}

int journal_events(struct db *db, int64_t after, int64_t upto, int64_t most, journal_row_fn *fn,
                   void *ctx, struct err *e)
{
    struct following f = { fn, ctx };

    return db_each(db,
                   "SELECT seq, at, tenant_id, project_id, mode, request_id, events FROM journal"
                   " WHERE seq > $1 AND seq <= $2 AND events IS NOT NULL ORDER BY seq LIMIT $3",
                   ARGS(A(after), A(upto), A(most)), follow_row, &f, e);
}

int journal_events_of(struct db *db, const struct uuid *tenant, enum mode mode, int64_t after,
                      int64_t upto, int64_t most, journal_row_fn *fn, void *ctx, struct err *e)
{
    struct following f = { fn, ctx };

    return db_each(
        db,
        "SELECT seq, at, tenant_id, project_id, mode, request_id, events FROM journal"
        " WHERE tenant_id = $1 AND mode = $2 AND seq > $3 AND seq <= $4"
        " AND events IS NOT NULL ORDER BY seq LIMIT $5",
        ARGS(A(tenant), A(enum_to_str(mode_names, (int)mode)), A(after), A(upto), A(most)),
        follow_row, &f, e);
}

void journal_topic(const struct uuid *tenant, char out[JOURNAL_TOPIC])
{
    snprintf(out, JOURNAL_TOPIC, "events:%s", tenant->s);
}

/* "123.4" */
const char *journal_place(struct call *c, const char *kind, int64_t seq, int64_t index)
{
    const char *text = arena_printf(c->arena, "%lld.%lld", (long long)seq, (long long)index);
    const char *bound = arena_printf(c->arena, "%s\n%s", kind, c->tenant.s);

    return app_seal(c->app, c->arena, str_of(text), str_of(bound));
}

bool journal_place_open(struct call *c, const char *kind, const char *cursor, int64_t *seq,
                        int64_t *index)
{
    const char *bound = arena_printf(c->arena, "%s\n%s", kind, c->tenant.s);
    struct str plain;
    struct err e;

    if (app_unseal(c->app, c->arena, cursor, str_of(bound), &plain, &e) < 0)
        return false;
    const char *dot = memchr(plain.p, '.', plain.n);
    return dot && int_parse((struct str){ plain.p, (size_t)(dot - plain.p) }, 0, INT64_MAX, seq) &&
           int_parse((struct str){ dot + 1, (size_t)(plain.p + plain.n - dot - 1) }, 0, INT64_MAX,
                     index);
}

int journal_place_read(struct call *c, const char *kind, const char *cursor, int64_t *seq,
                       int64_t *index, struct err *e)
{
    *seq = INT64_MAX;
    *index = INT64_MAX;
    if (!cursor || journal_place_open(c, kind, cursor, seq, index))
        return 0;
    fault_add(c, "cursor", "malformed", "is not a cursor of this list");
    return call_faults(c, e);
}

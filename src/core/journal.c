/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: one append-only row a request that changed something or must be remembered.  Audit,
 * events and idempotency are columns of it, so that a write pays for one row and not for three. */
#include "base/log.h"
#include "core/private.h"

static const char *const outcomes[] = { NULL, "success", "failure", "denied" };

static int events_text(struct call_private *p, const char **out, struct err *e)
{
    struct buf b = BUF(MIB(32));

    *out = NULL;
    if (!p->events)
        return 0;
    for (const struct event *x = p->events; x; x = x->next) {
        buf_putc(&b, x == p->events ? '[' : ',');
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
    return arena_dup(p->c.arena, s.p, MIN(s.n, (size_t)256));
}

#define COLUMNS                                                                                 \
    "INSERT INTO journal (id, at, tenant_id, project_id, mode, actor, user_id, key_id, action," \
    " object_kind, object_id, outcome, status, ip, user_agent, request_id, trace_id, events"
#define VALUES \
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18"
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

    p->idem_seq = p->idem_row;
    p->idem_step = step;
    if (step == IDEM_DROP)
        return db_exec(db, sql_drop, ARGS(A(p->idem_row)), e);
    const char *sealed = idem_pack(p, step, e);
    if (!sealed)
        return -1;
    return db_exec(db, sql_again,
                   ARGS(A((const char *)p->idem_print), A(sealed), A(until), A(p->idem_row)), e);
}

int journal_write(struct call_private *p, struct db *db, enum outcome outcome, enum idem_step step,
                  struct err *e)
{
    struct call *c = &p->c;
    const struct principal *who = c->who;
    const struct route_info *info = p->mount ? p->mount->info : NULL;
    bool again = p->idem_key && p->idem_row && step != IDEM_NONE;
    bool keyed = p->idem_key && !again && (step == IDEM_CLAIM || step == IDEM_KEEP);
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
    if (!audited && !keyed && !p->events)
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
        A(p->idem_scope),
        A(p->idem_key),
        A((const char *)p->idem_print),
        A(sealed),
        A(c->now + HOURS(c->app->config->idempotency_hours)),
    };
    if (!keyed)
        return db_exec(db, sql_plain, args, 18, e);
    p->idem_step = step;
    return db_int(db, sql_keyed, args, ARRAY_LEN(args), 0, &p->idem_seq, e);
}

/* ---- what has had its time */

static const char sql_sweep[] =
    "UPDATE journal SET idem_scope = NULL, idem_key = NULL, idem_print = NULL, idem_answer = NULL,"
    " idem_until = NULL"
    " WHERE seq IN (SELECT seq FROM journal WHERE idem_key IS NOT NULL AND idem_until <= $1"
    " LIMIT 500)";

static int sweep_some(struct call *c, void *arg, struct err *e)
{
    return db_exec_n(c->db, sql_sweep, ARGS(A(c->now)), arg, e);
}

/* From the oldest on; at most 500 rows are looked at. */
static const char sql_forget[] = "DELETE FROM journal WHERE at < $1"
                                 " AND seq < (SELECT COALESCE(MIN(seq), 0) FROM journal) + 500";

static int forget_some(struct call *c, void *arg, struct err *e)
{
    const struct config *cf = c->app->config;
    int64_t kept = DAYS(MAX(cf->audit_days, cf->events_days));

    return db_exec_n(c->db, sql_forget, ARGS(A(c->now - kept)), arg, e);
}

static int forget_rates(struct call *c, void *arg, struct err *e)
{
    return lease_sweep(c->db, c->now, arg, e);
}

static void sweep_with(struct app *app, int (*some)(struct call *c, void *arg, struct err *e))
{
    int64_t n = 1;
    struct err e;

    while (n > 0 && !app->stopping)
        if (app_write(app, some, &n, &e) < 0) {
            log_err(LOG_WARN, "journal_not_swept", &e);
            return;
        }
}

void journal_sweep(struct app *app)
{
    sweep_with(app, sweep_some);
    sweep_with(app, forget_some);
    if (app->leases)
        sweep_with(app, forget_rates);
    idem_forget(app, clock_wall(app->clock));
}

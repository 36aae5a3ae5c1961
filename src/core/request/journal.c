/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: one append-only row a request that changed something or must be remembered.  Audit,
 * events and idempotency are columns of it, so that a write pays for one row and not for three. */
#include "base/log.h"
#include "base/put.h"
#include "core/limit/lease.h"
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
    if (!keyed)
        return db_exec(db, sql_plain, args, 18, e);
    p->idem.step = step;
    return db_int(db, sql_keyed, args, ARRAY_LEN(args), 0, &p->idem.seq, e);
}

/* ---- what has had its time */

/* Idempotency records, each by its own time; a row that was nothing else goes whole.  On SQLite
 * only those before the first that is still good are looked at. */
#define OVER                                                                          \
    " WHERE idem_key IS NOT NULL AND idem_until <= $1"                                \
    " /*lite: AND seq < COALESCE((SELECT seq FROM journal WHERE idem_key IS NOT NULL" \
    " AND idem_until > $1 ORDER BY seq LIMIT 1), 9223372036854775807) */"
static const char sql_records_alone[] =
    "DELETE FROM journal WHERE seq IN (SELECT seq FROM journal" OVER
    " AND events IS NULL AND outcome IS NULL LIMIT 500)";
static const char sql_records[] =
    "UPDATE journal SET idem_scope = NULL, idem_key = NULL, idem_print = NULL, idem_answer = NULL,"
    " idem_until = NULL WHERE seq IN (SELECT seq FROM journal" OVER " LIMIT 500)";

static int sweep_records(struct call *c, void *arg, struct err *e)
{
    int64_t *n = arg, alone;

    TRY(db_exec_n(c->db, sql_records_alone, ARGS(A(c->now)), &alone, e));
    TRY(db_exec_n(c->db, sql_records, ARGS(A(c->now)), n, e));
    *n += alone;
    return 0;
}

/* Events and audit, each by its own days, from the oldest on: rows lie in the order of time, so
 * that what has been swept is known by one number.  Who is last takes the row along. */
static const struct part {
    const char *name;
    size_t days; /* the setting's place in struct config */
    const char *sql;
} parts[] = {
    { "events", offsetof(struct config, events_days),
      "UPDATE journal SET events = NULL WHERE seq > $1 AND seq <= $2 AND events IS NOT NULL" },
    { "audit", offsetof(struct config, audit_days),
      "UPDATE journal SET outcome = NULL, action = NULL, actor = NULL, user_id = NULL,"
      " key_id = NULL, object_kind = NULL, object_id = NULL, ip = NULL, user_agent = NULL,"
      " trace_id = NULL WHERE seq > $1 AND seq <= $2 AND outcome IS NOT NULL" },
};
static const char sql_swept[] = "INSERT INTO core_swept (part, seq) VALUES ($1, 0)"
                                " ON CONFLICT (part) DO UPDATE SET seq = core_swept.seq"
                                " RETURNING seq";
/* The last of the next 500 rows before the first of them that is not old enough. */
static const char sql_next[] =
    "WITH next AS (SELECT seq, at FROM journal WHERE seq > $1 ORDER BY seq LIMIT 500)"
    " SELECT max(seq) FROM next WHERE seq < (SELECT COALESCE(min(seq), 9223372036854775807)"
    " FROM next WHERE at >= $2)";
static const char sql_empty[] = "DELETE FROM journal WHERE seq > $1 AND seq <= $2"
                                " AND events IS NULL AND outcome IS NULL AND idem_key IS NULL";

struct sweep {
    const struct part *part;
    bool more;
};

static int sweep_part(struct call *c, void *arg, struct err *e)
{
    struct sweep *s = arg;
    const char *at = (const char *)c->app->config + s->part->days;
    int64_t days, from, to;

    memcpy(&days, at, sizeof(days));
    TRY(db_int(c->db, sql_swept, ARGS(A(s->part->name)), 0, &from, e));
    TRY(db_int(c->db, sql_next, ARGS(A(from), A(c->now - DAYS(days))), 0, &to, e));
    s->more = to > from;
    if (!s->more)
        return 0;
    TRY(db_exec(c->db, s->part->sql, ARGS(A(from), A(to)), e));
    TRY(db_exec(c->db, sql_empty, ARGS(A(from), A(to)), e));
    return db_exec(c->db, "UPDATE core_swept SET seq = $2 WHERE part = $1",
                   ARGS(A(s->part->name), A(to)), e);
}

static int forget_rates(struct call *c, void *arg, struct err *e)
{
    return lease_sweep(c->db, c->now, arg, e);
}

static int sweep_with(struct app *app, int (*some)(struct call *c, void *arg, struct err *e),
                      void *arg)
{
    struct err e;
    int rc = app->stopping ? -1 : app_write(app, some, arg, &e);

    if (rc < 0 && !app->stopping)
        log_err(LOG_WARN, "journal_not_swept", &e);
    return rc;
}

void journal_sweep(struct app *app)
{
    int64_t n = 1;

    while (n > 0 && sweep_with(app, sweep_records, &n) == 0)
        ;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        struct sweep s = { &parts[i], true };

        while (s.more && sweep_with(app, sweep_part, &s) == 0)
            ;
    }
    n = 1;
    while (app->leases && n > 0 && sweep_with(app, forget_rates, &n) == 0)
        ;
    idem_forget(app, clock_wall(app->clock));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What has had its time goes: parts of the journal, each by its own days, and what else is kept for
 * a while only. */
#include "core/loop/sweep.h"

#include "base/log.h"
#include "core/limit/lease.h"
#include "core/loop/chain.h"
#include "core/loop/consumer.h"
#include "core/loop/deliver.h"
#include "core/request/request.h"

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
    size_t days;                         /* the setting's place in struct config */
    const struct consumer_kind *readers; /* what they have not read stays */
    const char *sql;
} parts[] = {
    { "events", offsetof(struct config, events_days), NULL,
      "UPDATE journal SET events = NULL WHERE seq > $1 AND seq <= $2 AND events IS NOT NULL" },
    { "audit", offsetof(struct config, audit_days), &chain_kind,
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
    const char *held; /* by this consumer; NULL: by none */
    int64_t behind;
};

static int sweep_part(struct call *c, void *arg, struct err *e)
{
    struct sweep *s = arg;
    const char *at = (const char *)c->app->config + s->part->days;
    int64_t days, from, to, read;
    const char *last;

    memcpy(&days, at, sizeof(days));
    TRY(db_int(c->db, sql_swept, ARGS(A(s->part->name)), 0, &from, e));
    TRY(db_int(c->db, sql_next, ARGS(A(from), A(c->now - DAYS(days))), 0, &to, e));
    TRY(consumers_read(c->app, c->db, s->part->readers, &read, &last, e));
    s->held = to > read ? last : NULL;
    s->behind = read;
    to = MIN(to, read);
    s->more = to > from;
    if (!s->more)
        return 0;
    if (s->part->readers == &chain_kind)
        TRY(chain_anchor(c, from, to, e));
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
        struct sweep s = { .part = &parts[i], .more = true };

        while (s.more && sweep_with(app, sweep_part, &s) == 0)
            ;
        if (s.held)
            log_event(LOG_WARN, "journal_kept", L_STR("part", parts[i].name),
                      L_STR("consumer", s.held), L_INT("behind", s.behind));
    }
    n = 1;
    while (n > 0 && sweep_with(app, deliveries_sweep, &n) == 0)
        ;
    n = 1;
    while (app->leases && n > 0 && sweep_with(app, forget_rates, &n) == 0)
        ;
    idem_forget(app, clock_wall(app->clock));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One visit of one row: reads the row, calls the loop, and says how its lease is to end.  Hides
 * what a visit may do and how its failures are counted; when and where visits run is reconcile.c's.
 */
#include "core/loop/visit.h"

#include <sodium.h>

#include "base/log.h"
#include "core/request/request.h"

enum { SETTLED = -1, FORGET = -2 }; /* in visit.again, beside the times from 0 on */
enum { STRAIGHT = 16 };             /* visits in a row under one lease */

static struct metric visits_total =
    METRIC(METRIC_COUNTER, "brume_reconcile_visits_total", "Visits of rows by reconcilers.");
static const char *const outcome_names[] = { "again", "settled", "forgotten", "failed" };

int visit_again(struct visit *v, int64_t in)
{
    v->again = MAX(in, (int64_t)0);
    return 0;
}

int visit_settled(struct visit *v)
{
    v->again = SETTLED;
    return 0;
}

int visit_forget(struct visit *v)
{
    v->again = FORGET;
    return 0;
}

/* ---- the row */

/* The row as it is now, or NULL; 'locked': nobody else changes it in this transaction. */
static int row_read(struct visit *v, struct db *db, bool locked, void **row, struct err *e)
{
    const struct record *r = v->loop->record;
    const char *sql = arena_printf(v->arena, "SELECT @ FROM %s WHERE id = $1%s", r->table,
                                   locked ? " /*pg: FOR UPDATE */" : "");
    struct rows got;

    TRY(db_query(db, v->arena, r, sql, ARGS(A(&v->id)), &got, e));
    *row = got.n ? got.v : NULL;
    return 0;
}

static enum mode row_mode(const struct visit *v)
{
    const struct field *f = record_field(v->loop->record, "mode");

    return v->row && f && f->type == F_ENUM ? (enum mode) * FIELD_CAT(v->row, f, int) : MODE_LIVE;
}

static int64_t row_revision(const struct visit *v, const void *row)
{
    const struct field *f = record_field(v->loop->record, "revision");

    return f && f->type == F_INT ? *FIELD_CAT(row, f, int64_t) : 0;
}

/* ---- writing */

struct writing {
    struct visit *v;
    int (*fn)(struct visit *v, struct call *c, void *arg, struct err *e);
    void *arg;
    void *before; /* v->row as the visit knew it */
    bool ran;
};

/* Runs in the writer; perhaps more than once. */
static int write_row(struct call *c, void *arg, struct err *e)
{
    struct writing *w = arg;
    struct visit *v = w->v;
    void *now;

    w->ran = false;
    v->row = w->before;
    TRY(row_read(v, c->db, true, &now, e));
    if (!now || row_revision(v, now) != row_revision(v, w->before))
        return 0;
    v->row = now;
    v->call = c;
    int rc = w->fn(v, c, w->arg, e);
    v->call = NULL;
    w->ran = rc == 0;
    return rc;
}

int visit_write(struct visit *v,
                int (*fn)(struct visit *v, struct call *c, void *arg, struct err *e), void *arg,
                bool *ran, struct err *e)
{
    struct writing w = { .v = v, .fn = fn, .arg = arg, .before = v->row };
    const struct field *f = record_field(v->loop->record, "tenant_id");

    *ran = false;
    if (!v->row)
        return 0;
    const struct uuid *tenant = f ? FIELD_CAT(v->row, f, struct uuid) : NULL;
    int rc = system_call_run(v->app, tenant, v->mode, write_row, &w, e);
    if (rc < 0 || !w.ran)
        v->row = w.before;
    *ran = rc == 0 && w.ran;
    return rc;
}

/* ---- the visit */

static int64_t backoff(const struct reconciler *r, int64_t attempts)
{
    int64_t min = r->backoff.min > 0 ? r->backoff.min : SECONDS(1);
    int64_t max = MAX(r->backoff.max, min);
    int64_t wait = min;

    for (int64_t i = 0; i < attempts && wait < max; i++)
        wait = wait > max / 2 ? max : wait * 2;
    return wait - wait / 100 * (int64_t)randombytes_uniform(25);
}

static int visit_once(struct visit *v, struct err *e)
{
    int rc = db_read_round(v->db, e);

    if (rc == 0)
        rc = row_read(v, v->db, false, &v->row, e);
    db_read_done(v->db);
    TRY(rc);
    v->mode = row_mode(v);
    v->again = SETTLED;
    return v->loop->visit(v, e);
}

static void log_visit(const char *what, const struct visit *v, const struct err *e, int64_t micros)
{
    log_event(LOG_WARN, what, L_STR("loop", v->loop->name), L_STR("id", v->id.s),
              L_STR("code", e ? err_wire(e->code) : ""), L_STR("message", e ? e->msg : ""),
              L_STR("cause", e ? e->cause : ""), L_INT("attempts", v->attempts),
              L_INT("ms", micros / 1000));
}

static void count(struct visit_counts *c, const char *loop, int outcome)
{
    if (!c->cells[outcome]) {
        char labels[120];

        snprintf(labels, sizeof(labels), "loop=\"%s\",outcome=\"%s\"", loop,
                 outcome_names[outcome]);
        c->cells[outcome] = metric_labels(&visits_total, labels);
    }
    metric_cell_add(&visits_total, c->cells[outcome], 1);
}

void visit_row(struct app *app, struct db *db, const struct reconciler *r, struct visit_counts *c,
               struct due_finish *f)
{
    _cleanup_(arena_free) struct arena arena = ARENA(MIB(64));
    struct visit v = { .app = app, .arena = &arena, .db = db, .loop = r, .id = f->id };
    struct err e = { 0 };
    int rc = 0;

    v.attempts = f->attempts;
    for (int i = 0; i < STRAIGHT; i++) {
        int64_t began = clock_mono(clock_system());

        v.now = clock_wall(app->clock);
        rc = visit_once(&v, &e);
        int64_t took = clock_mono(clock_system()) - began;
        if (r->budget && took > r->budget)
            log_visit("visit_over_budget", &v, NULL, took);
        count(c, r->name, rc < 0 ? 3 : v.again == SETTLED ? 1 : v.again == FORGET ? 2 : 0);
        if (rc < 0 || v.again != 0)
            break;
        v.attempts = 0;
        arena_reset(&arena, KIB(64));
    }
    int64_t now = clock_wall(app->clock);
    f->end = DUE_AGAIN;
    if (rc < 0) {
        log_visit("visit_failed", &v, &e, 0);
        f->at = now + backoff(r, v.attempts);
        f->attempts = v.attempts + 1;
        return;
    }
    f->attempts = 0;
    if (v.again == FORGET || (v.again == SETTLED && !r->every))
        f->end = DUE_REST;
    else
        f->at = now + (v.again == SETTLED ? r->every : v.again);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* core's own routes: health, metrics, the API's description of itself, and the events, a
 * part of the journal's rows. */
#include "core/audit.h"
#include "core/event_stream.h"
#include "core/feed/feed.h"
#include "core/loop/chain.h"
#include "core/loop/consumer.h"
#include "core/loop/reconcile.h"
#include "core/request/request.h"

enum { EVENT_ROWS = 5000 }; /* of the journal, looked at for one page */

struct event_query {
    int64_t limit;
    const char *cursor, *type;
};

struct event_data {
    const char *object, *previous;
};

/* What an event looks like: for the description only; its JSON is the journal's own. */
struct event_view {
    const char *id, *type;
    int64_t created_at;
    const void *data; /* struct event_data */
    const char *request_id;
    struct uuid project_id;
};

struct health {
    const char *status;
};
struct readiness {
    const char *status, *checks;
    int64_t time;
};
struct error_help {
    const char *code, *description;
    int64_t status;
    bool retry;
};

/* clang-format off */
#define T struct event_query
static const struct field event_query_fields[] = {
    FIELD_INT (T, limit,  FF_CREATE, .min = 1, .max = 500, .dflt = 50, .doc = "How many at most."),
    FIELD_STR (T, cursor, FF_CREATE, .max = 1000, .doc = "Continues an earlier list."),
    FIELD_STR (T, type,   FF_CREATE, .max = 128, .doc = "Only this type; ends with * for any that begins so."),
};
#undef T
#define T struct event_data
static const struct field event_data_fields[] = {
    FIELD_JSON(T, object,   0, .doc = "The object as it is now."),
    FIELD_JSON(T, previous, 0, .doc = "Of what was changed: the values before."),
};
static const struct record event_data_record = RECORD(event_data, NULL, event_data_fields);
#undef T
#define T struct event_view
static const struct field event_fields[] = {
    FIELD_STR (T, id,         FF_ALWAYS, .doc = "Of the event."),
    FIELD_STR (T, type,       FF_ALWAYS, .doc = "What happened: queue.created."),
    FIELD_TIME(T, created_at, FF_ALWAYS, .doc = "When it happened."),
    FIELD_ROW (T, data, event_data_record, FF_ALWAYS, .doc = "The object, and what it was before."),
    FIELD_STR (T, request_id, FF_NULL, .doc = "Of the request that did it."),
    FIELD_REF (T, project_id, project_ref, FF_NULL, .doc = "Project of the object."),
};
#undef T
#define T struct health
static const struct field health_fields[] = {
    FIELD_STR(T, status, FF_ALWAYS, .doc = "ok while the process runs."),
};
#undef T
#define T struct readiness
static const struct field readiness_fields[] = {
    FIELD_STR (T, status, FF_ALWAYS, .doc = "UP, or DEGRADED when a check fails."),
    FIELD_MAP (T, checks, FF_ALWAYS, .doc = "CONNECTED or DISCONNECTED, for each part."),
    FIELD_TIME(T, time,   FF_ALWAYS, .doc = "When it was looked at."),
};
#undef T
#define T struct error_help
static const struct field error_help_fields[] = {
    FIELD_STR (T, code,        FF_ALWAYS, .doc = "The word on the wire."),
    FIELD_STR (T, description, FF_ALWAYS, .doc = "What it means."),
    FIELD_INT (T, status,      0, .doc = "The HTTP status."),
    FIELD_BOOL(T, retry,       0, .doc = "Whether the same request may succeed later."),
};
#undef T
static const struct record event_query_record = RECORD(event_query, NULL, event_query_fields);
static const struct record event_record = RECORD(event_view, NULL, event_fields);
static const struct record health_record = RECORD(health, NULL, health_fields);
static const struct record readiness_record = RECORD(readiness, NULL, readiness_fields);
static const struct record error_help_record = RECORD(error_help, NULL, error_help_fields);
/* clang-format on */

/* ---- health */

static int health_live(struct call *c, struct err *e _unused_)
{
    struct health h = { "ok" };

    return reply_row(c, &health_record, &h);
}

bool app_runtime_ok(struct app *app)
{
    return drivers_answer(app->drivers);
}

static bool check(struct json_out *o, const char *name, bool ok)
{
    json_kstr(o, name, ok ? "CONNECTED" : "DISCONNECTED");
    return ok;
}

static int health_ready(struct call *c, struct err *e _unused_)
{
    const struct config *cf = c->app->config;
    struct err ignored;
    int64_t one = 0;
    bool database = db_int(c->db, "SELECT 1", NO_ARGS, 0, &one, &ignored) == 0 && one == 1;
    bool runtime = app_runtime_ok(c->app);
    bool storage = !cf->state_dir || !cf->state_dir[0] || access(cf->state_dir, W_OK) == 0;
    bool edge = !c->app->o.edge || feed_followed(c->app);
    bool all = database && runtime && storage && edge;
    struct json_out *o = c->out;

    json_open(o, '{');
    json_kstr(o, "status", all ? "UP" : "DEGRADED");
    json_key(o, "checks");
    json_open(o, '{');
    check(o, "database", database);
    check(o, "runtime", runtime);
    check(o, "docker", runtime);
    check(o, "storage", storage);
    check(o, "network", runtime); /* the same agent does both */
    if (c->app->o.edge)
        check(o, "edge", edge);
    json_close(o);
    json_ktime(o, "time", c->now);
    json_close(o);
    if (!all)
        reply_status(c, c->route->also);
    return reply_json(c);
}

/* ---- shares: how full each is */

static struct metric share_seats =
    METRIC(METRIC_GAUGE, "brume_share_seats", "What there is of a share in all; 0: no bound.");
static struct metric share_used =
    METRIC(METRIC_GAUGE, "brume_share_used", "What is held of a share now.");
static struct metric share_waiting =
    METRIC(METRIC_GAUGE, "brume_share_waiting", "What waits for its turn.");
static struct metric share_flows = METRIC(METRIC_GAUGE, "brume_share_flows",
                                          "Tenants (or addresses) that hold some or wait for it.");
static struct metric share_held_back = METRIC(METRIC_GAUGE, "brume_share_held_back",
                                              "How often a tenant was refused, since the start.");

static void show_share(const char *name, const struct fair_counts *f)
{
    struct {
        struct metric *m;
        int64_t v;
    } all[] = { { &share_seats, f->seats },
                { &share_used, f->used },
                { &share_waiting, f->waiting },
                { &share_flows, f->flows },
                { &share_held_back, f->held_back } };
    char labels[64];

    snprintf(labels, sizeof(labels), "share=\"%s\"", name);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        metric_cell_set(all[i].m, metric_labels(all[i].m, labels), all[i].v);
}

static void show_shares(struct app *app)
{
    static const char *const lanes[LANES] = {
        [LANE_FRONT] = "front", [LANE_SIGN] = "sign",  [LANE_BODY] = "body",
        [LANE_READ] = "reads",  [LANE_CALL] = "calls", [LANE_HOST] = "hosts",
    };
    struct fair_counts f;

    for (int i = 0; i < LANES; i++) {
        pool_counts(app->lanes[i], &f);
        show_share(lanes[i], &f);
    }
    for (int i = 0; i < SHARE_KINDS; i++) {
        if (i == SHARE_READS || i == SHARE_CALLS) /* their lanes count them */
            continue;
        shares_counts(app->shares, (enum share_kind)i, &f);
        show_share(share_rows[i].name, &f);
    }
    store_counts(app->store, &f);
    show_share("writes", &f);
    reconcile_counts(app, &f);
    show_share("visits", &f);
    if (app->server) {
        http_server_peers(app->server, &f);
        show_share("connections", &f);
    }
}

static int metrics_get(struct call *c, struct err *e)
{
    show_shares(c->app);
    TRY(consumers_show(c->app, c->db, e));
    answer_begin(c->p, NULL);
    metric_write(&c->p->buf);
    reply_json(c);
    c->p->content_type = c->route->produces;
    c->p->code = c->p->buf.failed ? ERR_TOO_LARGE : ERR_NONE;
    return 0;
}

static int openapi_get(struct call *c, struct err *e _unused_)
{
    answer_begin(c->p, NULL);
    openapi_write(c->app->services, &c->p->buf);
    reply_json(c);
    c->p->code = c->p->buf.failed ? ERR_TOO_LARGE : ERR_NONE;
    return 0;
}

static int error_get(struct call *c, struct err *e)
{
    const char *word = call_param(c, "code");
    enum err_code code = err_from_wire(word);

    if (strcmp(err_wire(code), word) != 0)
        return err_set(e, ERR_NOT_FOUND, "There is no such error code");
    struct error_help h = { word, err_doc(code), err_status(code), err_retry(code) };
    return reply_row(c, &error_help_record, &h);
}

/* ---- the journal, read */

struct events_read {
    struct call *c;
    const struct event_query *q;
    int64_t seq, index; /* begins below this place */
    int64_t left;       /* how many more fit */
    int64_t last_seq, last_index;
    int64_t rows, seen;
    bool more;
};

static int events_row(void *ctx, const struct col *col, size_t n _unused_, struct err *e)
{
    struct events_read *x = ctx;
    /* What is copied of a row's events is not more than they are. */
    _cleanup_(arena_free) struct arena row = ARENA(col[1].n * 2 + MIB(1));
    _cleanup_(json_freep) struct json_value *all =
        json_parse((struct str){ col[1].s, col[1].n }, e);
    int64_t seq = col[0].i;
    struct uuid project;

    x->rows++;
    x->seen = seq;
    if (!all)
        return -1;
    for (size_t i = json_len(all); i-- > 0;) {
        const struct json_value *v = json_at(all, i);

        if (seq == x->seq && (int64_t)i >= x->index)
            continue;
        event_project(v, col[3].s, &project);
        if (!event_type_fits(x->q->type, json_get_str(&row, v, "type", "")) ||
            !event_may_see(x->c->who, &project))
            continue;
        if (x->left == 0 || x->c->p->buf.n >= PAGE_BYTES) {
            x->more = true;
            return err_set(e, ERR_NONE, "enough");
        }
        x->left--;
        x->last_seq = seq;
        x->last_index = (int64_t)i;
        event_write(x->c->out, &row, v, col[2].s, &project);
    }
    return 0;
}

static const char sql_events[] =
    "SELECT seq, events, request_id, project_id FROM journal"
    " WHERE tenant_id = $1 AND seq <= $2 AND mode = $3 AND events IS NOT NULL"
    " ORDER BY seq DESC LIMIT $4";

/* In portions: a row has an event at least, and what fits may be far between. */
static int events_read(struct events_read *x, struct err *e)
{
    struct call *c = x->c;
    const char *mode = enum_to_str(mode_names, (int)c->who->mode);
    int64_t from = x->seq;

    for (int64_t want = x->q->limit + 1; x->rows < EVENT_ROWS; want *= 2) {
        int64_t before = x->rows;

        want = MIN(want, EVENT_ROWS - x->rows);
        if (db_each(c->db, sql_events, ARGS(A(&c->tenant), A(from), A(mode), A(want)), events_row,
                    x, e) < 0)
            return x->more ? 0 : -1;
        if (x->rows - before < want)
            return 0;
        from = x->seen - 1;
    }
    return 0;
}

static int events_list(struct call *c, struct err *e)
{
    const struct event_query *q = c->query;
    struct events_read x = { .c = c, .q = q, .left = q->limit };
    struct page page;

    TRY(journal_place_read(c, "events", q->cursor, &x.seq, &x.index, e));
    page_open(c, &page);
    TRY(events_read(&x, e));
    const char *next = NULL;
    if (x.more)
        next = journal_place(c, "events", x.last_seq, x.last_index);
    else if (x.rows == EVENT_ROWS) /* none of so many fits: there may be some beyond */
        next = journal_place(c, "events", x.seen, 0);
    return page_close(c, &page, next);
}

/* clang-format off */
static const struct route core_routes[] = {
    /*     path                 action            work   handler       in    out                 */
    { GET, "/health/live",      NULL,             QUICK, health_live,  NULL, &health_record, 200,
      "Says that the process runs.", .on = CLASSIC, .public = true },
    { GET, "/health/ready",     NULL,             LONG,  health_ready, NULL, &readiness_record, 200,
      "Looks at what the cloud stands on.", .on = CLASSIC, .public = true, .class = CLASS_READ,
      .also = 503 },
    { GET, "/metrics",          "system:metrics", READ,  metrics_get,  NULL, NULL, 200,
      "Counters in Prometheus' format.", .on = CLASSIC, .operator = true,
      .produces = "text/plain; version=0.0.4; charset=utf-8",
      .example = "brume_process_start_seconds 1767654000\n" },
    { GET, "/v1/openapi.json",  NULL,             READ,  openapi_get,  NULL, NULL, 200,
      "This API in OpenAPI 3.1.", .on = PLATFORM, .public = true,
      .name = "getOpenapi" },
    { GET, "/errors/{code}",    NULL,             QUICK, error_get,    NULL, &error_help_record, 200,
      "Explains an error code.", .on = CLASSIC, .public = true },
    { GET, "/audit",            "audit:list",     READ,  audit_list,   NULL, &audit_record, 200,
      "Lists who did what, newest first.", .query = &audit_query_record, .rows = true },
    { GET, "/audit/verify",     "audit:verify",   READ,  audit_verify, NULL, &audit_proof_record, 200,
      "Proves that the audit is as it was written.", .query = &audit_verify_query_record },
    { GET, "/events",           "event:list",     READ,  events_list,  NULL, &event_record, 200,
      "Lists what happened, newest first.", .on = PLATFORM, .query = &event_query_record, .rows = true },
    { GET, "/events/stream",    "event:list",     STREAM, events_stream, NULL, NULL, 200,
      "Tells what happens, as server-sent events or over a WebSocket.", .on = PLATFORM, .upgrades = true, .query = &event_stream_query_record,
      .produces = "text/event-stream", .name = "streamEvents",
      .example = "id: 5f0c\nevent: queue.created\ndata: {\"type\":\"queue.created\"}\n" },
    { 0 },
};
/* clang-format on */

static const struct consumer *const core_consumers[] = { &audit_chain, NULL };

/* clang-format off */
static const struct planned core_planned[] = {
    { "GET",  "/docs", CLASSIC },
    { "GET",  "/events/{id}", PLATFORM },
    { "POST", "/events/{id}/replay", PLATFORM },
    { "GET",  "/ping", PLATFORM },
    { "GET",  "/regions", PLATFORM },
    { "GET",  "/scopes", PLATFORM },
    { "GET",  "/status" },
    { 0 },
};
/* clang-format on */

const struct service core_service = {
    .name = "core",
    .doc = "Health, metrics, audit and events.",
    .routes = core_routes,
    .consumers = core_consumers,
    .planned = core_planned,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a call from one run of its handler to the next, and what is told to caches, waiters
 * and loops once it has committed.  Hides that a handler may run several times: all it left behind
 * in a run that does not count is forgotten here. */
#include "core/request/request.h"

static int system_handler(struct call *c _unused_, struct err *e)
{
    return err_set(e, ERR_INTERNAL, "not a route");
}

const struct route system_route = {
    POST, "/", "system:write", WRITE, system_handler, .status = 200, .doc = "The system's own.",
};

void call_init(struct call_private *p, struct app *app, struct arena *a)
{
    p->c.app = app;
    p->c.p = p;
    p->c.arena = a;
    p->c.who = &p->who;
    p->c.out = &p->out;
    p->c.route = &system_route;
    p->c.request_id = p->request_id;
    p->c.ip = p->ip;
    p->c.now = clock_wall(app->clock);
    p->c.surface = CLASSIC;
    p->own = ARENA(MIB(256));
    p->large = ARENA(MIB(64));
    p->buf = BUF(MIB(64));
    p->faults.arena = a;
    p->headers_end = p->headers_kept = &p->headers;
    p->commit.events_end = &p->commit.events;
}

void headers_undo(struct call_private *p)
{
    *p->headers_kept = NULL;
    p->headers_end = p->headers_kept;
}

static void forget_reply(struct call_private *p)
{
    p->replied = false;
    p->status = p->c.route->status;
    p->body = (struct str){ NULL, 0 };
    p->content_type = NULL;
    p->etag = NULL;
    p->etag_weak = false;
    bytes_forget(p);
    p->code = ERR_NONE;
    buf_clear(&p->buf);
    p->out = JSON_OUT(&p->buf);
    p->out.view = (struct json_view){
        .typeid = p->c.surface == PLATFORM,
        .creation = p->c.route->method == POST,
        .region = p->c.app->config->region,
    };
}

void call_undo(struct call_private *p)
{
    p->commit.events = NULL;
    p->commit.events_end = &p->commit.events;
    p->commit.changed = NULL;
    p->commit.revoked = NULL;
    p->commit.topics = NULL;
    p->commit.dues = NULL;
    p->commit.blobs_dropped = p->commit.fed = false;
    p->commit.published = p->commit.journaled = false;
    p->matched = false;
    p->refs = NULL;
    p->idem.seq = 0;
    p->idem.step = IDEM_NONE;
}

void call_reset(struct call_private *p)
{
    if (p->c.arena == &p->own)
        arena_reset(&p->own, KIB(64));
    p->headers_kept = &p->headers;
    headers_undo(p);
    forget_reply(p);
    call_undo(p);
    p->faults = (struct faults){ .arena = p->c.arena };
    p->audit_kind = NULL;
    p->c.parent = NULL;
    p->commit.audited = p->commit.recorded = p->commit.claimed = p->replay = false;
    p->park.parked = p->park.kept = false;
    if (!p->streaming)
        p->park.topic = NULL;
    p->c.parked_until = p->park.until;
    if (p->in_first) /* handlers complete the row they were given */
        memcpy(p->c.in, p->in_first, p->c.route->in->size);
    p->c.now = clock_wall(p->c.app->clock);
    if (p->c.app->park)
        p->park.seen = park_seen(p->c.app->park);
}

static void call_revoked(struct app *app, const struct uuid *user_id, const struct uuid *key_id)
{
    auth_cache_drop(app->auth_cache, user_id, key_id);
    live_revoked(app, user_id, key_id);
}

void call_publish(struct call_private *p)
{
    struct app *app = p->c.app;

    if (p->commit.published)
        return;
    p->commit.published = true;
    uint64_t commits = app->told.row ? store_commits(app->store) : 0;
    for (struct changed *x = p->commit.changed; x && app->told.row; x = x->next)
        app->told.row(app, x->record, &x->id, commits);
    for (struct revoked *x = p->commit.revoked; x; x = x->next)
        call_revoked(app, &x->user_id, &x->key_id);
    idem_committed(p);
    for (struct topic *x = p->commit.topics; x; x = x->next)
        park_signal(app->park, x->name);
    if (p->commit.blobs_dropped)
        atomic_store(&app->blobs_dropped, true);
    for (struct due *x = p->commit.dues; x; x = x->next)
        app->told.due(app, x->loop, &x->id, x->at);
    if (p->commit.fed)
        app->told.feed(app);
    if (p->commit.journaled && app->told.journal)
        app->told.journal(app);
}

void call_release(struct call_private *p)
{
    json_free(TAKE(p->json));
    bytes_forget(p);
    buf_free(&p->buf);
    arena_free(&p->own);
    arena_free(&p->large);
}

bool call_is_system(const struct call *c)
{
    return c->route == &system_route;
}

/* ---- what a handler says */

void call_changed(struct call *c, const struct record *r, const struct uuid *id)
{
    struct changed *x = arena_new(c->arena, struct changed);

    *x = (struct changed){ .next = c->p->commit.changed, .record = r, .id = *id };
    c->p->commit.changed = x;
}

void call_revoke(struct call *c, const struct uuid *user_id, const struct uuid *key_id)
{
    struct revoked *x = arena_new(c->arena, struct revoked);

    x->next = c->p->commit.revoked;
    if (user_id)
        x->user_id = *user_id;
    if (key_id)
        x->key_id = *key_id;
    c->p->commit.revoked = x;
}

void call_signal(struct call *c, const char *topic)
{
    struct topic *x = arena_new(c->arena, struct topic);

    *x = (struct topic){ .next = c->p->commit.topics, .name = arena_strdup(c->arena, topic) };
    c->p->commit.topics = x;
}

void call_audit_object(struct call *c, const char *kind, const struct uuid *id)
{
    c->p->audit_kind = arena_strdup(c->arena, kind);
    c->p->audit_id = id ? *id : (struct uuid){ "" };
}

void call_keep(struct call *c)
{
    c->p->park.kept = true;
}

int call_park(struct call *c, const char *topic, int64_t until, int64_t again)
{
    struct call_private *p = c->p;

    if (c->parked_until && c->now >= c->parked_until)
        return p->replied || p->streaming ? 0 : -1;
    p->park.parked = true;
    /* A stream's own arena does not outlast its run; its topic is the same each time. */
    if (!p->streaming)
        p->park.topic = arena_strdup(c->arena, topic);
    else if (!p->park.topic || strcmp(p->park.topic, topic) != 0)
        p->park.topic = arena_strdup(http_req_arena(p->r), topic);
    p->park.until = c->parked_until ? c->parked_until : until;
    p->park.again = MIN(again, p->park.until);
    return -1;
}

void fault_add(struct call *c, const char *field, const char *code, const char *fmt, ...)
{
    char text[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    faults_add(&c->p->faults, field, code, "%s", text);
}

int call_faults(struct call *c, struct err *e)
{
    const struct faults *f = &c->p->faults;

    if (f->n == 0)
        return 0;
    if (f->n > 1)
        return err_set(e, ERR_INVALID, "%zu parameters are not right", f->n);
    if (strcmp(f->first->code, "required") == 0)
        return err_set(e, ERR_INVALID, "Missing required parameter: %s", f->first->field);
    if (strcmp(f->first->code, "unknown") == 0)
        return err_set(e, ERR_INVALID, "Unknown parameter: %s", f->first->field);
    return err_set(e, ERR_INVALID, "Invalid parameter: %s", f->first->field);
}

/* The bit of a member of the body, which is what the handler takes it for. */
static uint64_t bit_of(const struct call *c, const struct record *in, size_t offset)
{
    if (c->route->in != in)
        abort();
    return record_bit_at(in, offset);
}

bool call_has_at(const struct call *c, const struct record *in, size_t offset)
{
    return c->set & bit_of(c, in, offset);
}

static bool is_given(const struct call *c, const char *name)
{
    const struct json_value *v = name ? json_get(c->p->json, name) : NULL;
    bool update = c->route->method == PATCH || c->route->partial;

    return v && (update || json_type_of(v) != JSON_NULL);
}

bool call_given_at(const struct call *c, const struct record *in, size_t offset)
{
    const struct field *f = &in->fields[__builtin_ctzll(bit_of(c, in, offset))];

    if (!c->p->json || json_type_of(c->p->json) != JSON_OBJ)
        return false;
    return is_given(c, f->name) || is_given(c, f->alias);
}

const char *call_param(struct call *c, const char *name)
{
    const struct router_match *m = &c->p->match;

    for (size_t i = 0; i < m->n_params; i++)
        if (strcmp(m->params[i].name, name) == 0)
            return arena_dup(c->arena, m->params[i].value.p, m->params[i].value.n);
    return NULL;
}

int call_param_id(struct call *c, const char *name, const struct record *r, struct uuid *out,
                  struct err *e)
{
    const char *s = call_param(c, name);

    if (!s || id_parse(str_of(s), r->prefix, out) != ID_OK)
        return err_set(e, ERR_NOT_FOUND, "There is no such %s", r->name);
    return 0;
}

/* ---- transactions */

static void job_committed(void *ctx)
{
    call_publish(ctx);
}

static int write_attempt(struct db *db, void *ctx, struct err *e)
{
    struct call_private *p = ctx;

    call_undo(p);
    headers_undo(p);
    if (!p->replied_before)
        forget_reply(p);
    p->c.db = db;
    p->writing = true;
    int rc = 0;
    if (p->idem.key && p->c.app->postgres && !p->commit.recorded) {
        rc = idem_begin_pg(p, db, e);
    }
    if (rc == 0 && p->mount && p->mount->info->resolve && !p->commit.audited)
        rc = p->mount->info->resolve(&p->c, e);
    if (rc == 0)
        rc = p->write_fn(&p->c, e);
    p->writing = false;
    p->c.db = p->reader;
    TRY(rc);
    if (p->replied && p->c.route->body == BODY_RAW && !p->body_over)
        return err_cause(e, ERR_INTERNAL, "a handler answered before it read its body's end",
                         "internal error");
    enum idem_step step = p->replied ? IDEM_KEEP : p->commit.claimed ? IDEM_NONE : IDEM_CLAIM;
    return journal_write(p, db, p->commit.audited ? OUTCOME_NONE : OUTCOME_SUCCESS, step, e);
}

int call_write(struct call *c, int (*fn)(struct call *c, struct err *e), struct err *e)
{
    struct call_private *p = c->p;
    struct db_job job = { .run = write_attempt,
                          .committed = job_committed,
                          .ctx = p,
                          .turn = { .flow = *call_flow(p) } };

    if (p->writing)
        return fn(c, e);
    if (p->commit.recorded)
        return err_cause(e, ERR_INTERNAL, "a handler wrote after the transaction of its answer",
                         "internal error");
    p->write_fn = fn;
    p->replied_before = p->replied;
    p->headers_kept = p->headers_end;
    p->reader = c->db;
    int rc = store_write_job(c->app->store, &job, e);
    c->db = p->reader;
    if (rc == 0) {
        p->commit.audited = p->commit.claimed = true;
        p->commit.recorded = p->replied;
    } else {
        call_undo(p);
        if (p->replied)
            headers_undo(p); /* of an answer that did not come to be */
        if (!p->replied_before)
            forget_reply(p);
    }
    p->headers_kept = &p->headers;
    return rc;
}

static int claim_only(struct call *c _unused_, struct err *e _unused_)
{
    return 0;
}

int call_claim(struct call *c, struct err *e)
{
    struct call_private *p = c->p;

    if (!p->idem.key)
        return 0;
    if (p->idem.resumed)
        return err_set(e, ERR_INVALID_STATE,
                       "The first request with this Idempotency-Key was cut short: what it did is"
                       " not known; look, and take a new key to do it again");
    TRY(call_write(c, claim_only, e));
    p->idem.spent = true;
    return 0;
}

bool call_resumed(const struct call *c, struct uuid *object)
{
    *object = c->p->idem.object;
    return c->p->idem.resumed;
}

static int write_events(struct call_private *p, struct db *db, struct err *e)
{
    if (!p->commit.events)
        return 0;
    TRY(journal_write(p, db, OUTCOME_NONE, IDEM_NONE, e));
    p->commit.events = NULL;
    p->commit.events_end = &p->commit.events;
    return 0;
}

int system_call_turn(struct call *c, const struct uuid *tenant, enum mode mode, struct err *e)
{
    struct call_private *p = c->p;

    TRY(write_events(p, c->db, e));
    p->who.mode = mode;
    p->who.tenant_id = c->tenant = tenant ? *tenant : (struct uuid){ "" };
    return 0;
}

static int system_attempt(struct db *db, void *ctx, struct err *e)
{
    struct call_private *p = ctx;

    call_reset(p);
    p->c.db = db;
    p->writing = true;
    int rc = p->system_fn(&p->c, p->system_arg, e);
    p->writing = false;
    TRY(rc);
    return write_events(p, db, e);
}

int system_call_run(struct app *app, const struct uuid *tenant, enum mode mode,
                    int (*fn)(struct call *c, void *arg, struct err *e), void *arg, struct err *e)
{
    struct call_private *p = calloc(1, sizeof(*p));
    struct db_job job = { .run = system_attempt, .committed = job_committed, .ctx = p };

    if (!p)
        abort();
    call_init(p, app, NULL);
    p->c.arena = &p->own;
    p->faults.arena = &p->own;
    p->who.role = ROLE_OWNER;
    p->who.operator= true;
    p->who.mode = mode;
    snprintf(p->who.scopes, sizeof(p->who.scopes), "*");
    snprintf(p->who.actor, sizeof(p->who.actor), "system");
    snprintf(p->who.plan, sizeof(p->who.plan), "%s", app->config->default_plan);
    if (tenant)
        p->who.tenant_id = p->c.tenant = *tenant;
    struct uuid id;
    uuid_new(app->clock, &id);
    typeid_format("req", &id, p->request_id);
    p->system_fn = fn;
    p->system_arg = arg;
    int rc = store_write_job(app->store, &job, e);
    call_release(p);
    free(p);
    return rc;
}

int app_write(struct app *app, int (*fn)(struct call *c, void *arg, struct err *e), void *arg,
              struct err *e)
{
    return system_call_run(app, NULL, MODE_LIVE, fn, arg, e);
}

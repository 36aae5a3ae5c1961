/* SPDX-License-Identifier: Apache-2.0 */
/* A service for tests alone: each of its rows owns one unit that serves a file by HTTP.  It stands
 * above all services of the program, of which this file gives a list of its own. */
#include "codec/id.h"
#include "codec/text.h"
#include "services/compute/compute.h"
#include "services/network/network.h"
#include "services/services.h"

struct holder {
    OWNED_MEMBERS;
    const char *name, *image, *status, *reason, *ip, *ports, *text, *secret, *reload;
    struct uuid vpc_id, unit_id;
    int64_t memory_mb, restarts, files, visits;
    bool sick, by_command, of_tenant;
};
static const struct enum_name status_names[] = {
    { UNIT_GONE, "gone" },       { UNIT_STARTING, "starting" },
    { UNIT_RUNNING, "running" }, { UNIT_READY, "ready" },
    { UNIT_STOPPED, "stopped" }, { UNIT_FAILED, "failed" },
    { UNIT_GOING, "going" },     { 0 },
};
/* clang-format off */
#define T struct holder
static const struct field holder_fields[] = {
    OWNED_FIELDS(T),
    FIELD_STR (T, name,      FF_CREATE | FF_REQUIRED | FF_FILTER | FF_SORT, .min = 1, .max = 64, .form = &form_name, .doc = "Its name."),
    FIELD_STR (T, image,     FF_CREATE | FF_UPDATE, .min = 1, .dflt_str = "busybox", .doc = "What it is made of."),
    FIELD_STR (T, status,    FF_ALWAYS, .doc = "Of its unit."),
    FIELD_STR (T, reason,    0, .max = 1000, .doc = "Why."),
    FIELD_STR (T, ip,        0, .doc = "Address of its unit."),
    FIELD_STR (T, ports,     0, .max = 1000, .doc = "Published ports."),
    FIELD_STR (T, text,      FF_CREATE | FF_UPDATE, .min = 1, .max = 1000, .dflt_str = "hello", .doc = "What it serves."),
    FIELD_STR (T, secret,    FF_CREATE | FF_SECRET | FF_VIRTUAL, .max = 1000, .doc = "What it keeps."),
    FIELD_LIST(T, reload,    FF_CREATE, .doc = "Command after a change."),
    FIELD_REF (T, vpc_id,    vpc_record, FF_CREATE, .on_delete = REF_RESTRICT, .doc = "VPC to be in; left out: none."),
    FIELD_UUID(T, unit_id,   0, .doc = "Its unit."),
    FIELD_INT (T, memory_mb, FF_CREATE | FF_UPDATE, .min = 16, .max = 4096, .dflt = 64, .doc = "Memory."),
    FIELD_INT (T, restarts,  0, .doc = "Of its unit."),
    FIELD_INT (T, files,     0, .doc = "Set of files that it has."),
    FIELD_INT (T, visits,    0, .doc = "How often something changed."),
    FIELD_BOOL(T, sick,      FF_CREATE, .doc = "It is to answer nobody."),
    FIELD_BOOL(T, by_command, FF_CREATE, .doc = "A command asks whether it is well."),
    FIELD_BOOL(T, of_tenant, FF_CREATE, .doc = "Its image is one of the tenant's."),
};
static const struct field dump_fields[] = {
    FIELD_STR(T, text, FF_CREATE | FF_REQUIRED, .min = 1, .max = 1000, .doc = "What to run in its shell, or what that printed."),
};
#undef T
/* clang-format on */
static const struct quota quota_holders = { "holders", { 5, 20, 200, 1000, 100000 } };
static const struct quota *const holder_quotas[] = { &quota_holders, NULL };
static const struct record holder_record =
    RECORD(holder, "holders", holder_fields, .prefix = "hold", .quota = &quota_holders);
static const struct record dump_record = {
    .name = "holder_dump",
    .size = sizeof(struct holder),
    .fields = dump_fields,
    .n_fields = ARRAY_LEN(dump_fields),
};
static const struct reconciler holder_loop;

static const struct migration holder_migrations[] = {
    { "0001_holder",
      "CREATE TABLE holders (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT,"
      " project_id TEXT, mode TEXT NOT NULL, revision BIGINT NOT NULL, created_at BIGINT NOT NULL,"
      " updated_at BIGINT NOT NULL, name TEXT NOT NULL, image TEXT NOT NULL, status TEXT NOT NULL,"
      " reason TEXT, ip TEXT, ports TEXT, text TEXT NOT NULL, reload TEXT, vpc_id TEXT,"
      " unit_id TEXT NOT NULL, memory_mb BIGINT NOT NULL, restarts BIGINT NOT NULL,"
      " files BIGINT NOT NULL, visits BIGINT NOT NULL, sick BOOLEAN NOT NULL,"
      " by_command BOOLEAN NOT NULL, of_tenant BOOLEAN NOT NULL);\n"
      "CREATE UNIQUE INDEX holders_name ON holders (tenant_id, mode, name);\n" },
    { 0 },
};

/* ---- what its unit is */

static struct unit_spec spec_of(struct call *c, const struct holder *h)
{
    struct compute_file *f = arena_new_n(c->arena, struct compute_file, 2);

    f[0] = (struct compute_file){ .name = "text", .content = str_of(h->text), .mode = 0444 };
    f[1] = (struct compute_file){ .name = "secret",
                                  .content = str_of(h->secret ? h->secret : ""),
                                  .mode = 0400 };
    return (struct unit_spec){
        .name = "main",
        .image = h->image,
        .image_of_tenant = h->of_tenant,
        .cmd = "[\"sh\",\"-c\",\"date +%N > /born; trap 'exit 0' TERM;"
               " trap 'date +%N > /reloaded' HUP; httpd -f -p 80 -h /run/brume &"
               " while :; do sleep 0.1; done\"]",
        .env = h->sick ? "{\"SIMULATE\":\"sick\"}" : NULL,
        .ports = "0:80",
        .restart = RESTART_ALWAYS,
        .cpu_milli = 500,
        .memory_mb = h->memory_mb,
        .disk_gb = 1,
        .vpc_id = h->vpc_id,
        .files = f,
        .n_files = 2,
        .reload = h->reload,
        .data = "/var/lib/holder",
        .health = { .kind = h->by_command ? UNIT_CHECK_EXEC : UNIT_CHECK_HTTP,
                    .cmd = "[\"test\",\"-r\",\"/run/brume/text\"]",
                    .port = 80,
                    .path = "/text",
                    .interval = SECONDS(1) },
    };
}

static int holder_visited(struct visit *v, struct call *c, void *arg, struct err *e)
{
    const struct record *r = &holder_record;
    const struct unit_state *u = arg;
    struct holder h = *(const struct holder *)v->row;

    h.status = enum_to_str(status_names, (int)u->status);
    h.reason = u->reason;
    h.ip = u->ip;
    h.ports = u->ports;
    h.restarts = u->restarts;
    h.files = u->files;
    h.visits++;
    return call_update(c, r, v->row, &h,
                       FIELD_SET(holder, status, reason, ip, ports, restarts, files, visits), e);
}

/* It shows what its unit is. */
static int holder_visit(struct visit *v, struct err *e)
{
    const struct holder *h = v->row;
    struct unit_state u;
    bool ran;

    if (!h)
        return visit_forget(v);
    TRY(unit_look(v->db, v->arena, &h->unit_id, &u, e));
    TRY(visit_write(v, holder_visited, &u, &ran, e));
    return ran ? visit_settled(v) : visit_again(v, 0);
}

static const struct reconciler holder_loop = {
    .name = "holder",
    .record = &holder_record,
    .visit = holder_visit,
    .backoff = { SECONDS(1), SECONDS(10) },
};

/* ---- routes */

static int holder_create(struct call *c, struct err *e)
{
    struct holder *h = c->in;
    struct unit_spec s = spec_of(c, h);

    uuid_new(app_clock(c->app), &h->id);
    h->status = "starting";
    TRY(unit_launch(c, &holder_loop, &h->id, &s, &h->unit_id, e));
    TRY(call_insert(c, &holder_record, h, e));
    return reply_row(c, &holder_record, h);
}

static int holder_patch(struct call *c, struct err *e)
{
    const struct record *r = &holder_record;
    struct holder old, h;
    unsigned what = 0;

    TRY(call_target(c, r, &old, e));
    h = old;
    record_copy(r, &h, c->in, c->set);
    what |= c->set & FIELD_SET(holder, text) ? UNIT_FILES : 0;
    what |= c->set & FIELD_SET(holder, memory_mb) ? UNIT_LIMITS : 0;
    what |= c->set & FIELD_SET(holder, image) ? UNIT_ROOT : 0;
    struct unit_spec s = spec_of(c, &h);
    TRY(unit_change(c, &h.unit_id, &s, what, e));
    TRY(call_update(c, r, &old, &h, c->set, e));
    return reply_row(c, r, &h);
}

static int turn(struct call *c, enum unit_turn how, struct err *e)
{
    struct holder h;

    TRY(call_target(c, &holder_record, &h, e));
    TRY(unit_turn(c, &h.unit_id, how, e));
    return reply_row(c, &holder_record, &h);
}

static int holder_start(struct call *c, struct err *e)
{
    return turn(c, UNIT_START, e);
}

static int holder_stop(struct call *c, struct err *e)
{
    return turn(c, UNIT_STOP, e);
}

static int holder_restart(struct call *c, struct err *e)
{
    return turn(c, UNIT_RESTART, e);
}

static int holder_exec(struct call *c, struct err *e)
{
    const struct holder *in = c->in;
    struct compute_exec x = { .timeout = SECONDS(10) };
    struct compute_exec_result r = { 0 };
    struct compute *host;
    struct buf b = BUF(KIB(16));
    struct json_out o = JSON_OUT(&b);
    struct holder h;

    TRY(call_target(c, &holder_record, &h, e));
    json_open(&o, '[');
    json_str(&o, "sh");
    json_str(&o, "-c");
    json_str(&o, in->text);
    json_close(&o);
    x.cmd = arena_strdup(c->arena, buf_cstr(&b));
    buf_free(&b);
    TRY(call_claim(c, e));
    TRY(unit_host(c->app, c->db, &h.unit_id, &host, e));
    TRY(compute_exec_in(host, c->arena, &h.unit_id, &x, &r, e));
    h.text = arena_dup(c->arena, r.out.p, MIN(r.out.n, (size_t)1000));
    return reply_row(c, &dump_record, &h);
}

static int holder_drop(struct call *c, struct err *e)
{
    struct holder h;

    TRY(call_target(c, &holder_record, &h, e));
    TRY(call_delete(c, &holder_record, &h, e));
    return reply_deleted(c, "row deleted");
}

static int holder_delete(struct call *c, struct err *e)
{
    struct holder h;

    TRY(call_target(c, &holder_record, &h, e));
    TRY(unit_leave(c, &h.id, e));
    TRY(call_delete(c, &holder_record, &h, e));
    return reply_deleted(c, "holder deleted");
}

/* clang-format off */
#define H &holder_record
static const struct route holder_routes[] = {
    { POST,   "/holders",              "holder:create", WRITE, holder_create,  H,            H,            201, "Makes one." },
    { GET,    "/holders",              "holder:list",   QUICK, crud_list,      NULL,         H,            200, "Lists them.", .list = true },
    { GET,    "/holders/{id}",         "holder:get",    QUICK, crud_get,       NULL,         H,            200, "Shows one.", .by_name = true },
    { PATCH,  "/holders/{id}",         "holder:update", WRITE, holder_patch,   H,            H,            200, "Changes one.", .by_name = true },
    { POST,   "/holders/{id}/start",   "holder:update", WRITE, holder_start,   NULL,         H,            200, "Starts its unit.", .by_name = true },
    { POST,   "/holders/{id}/stop",    "holder:update", WRITE, holder_stop,    NULL,         H,            200, "Stops its unit.", .by_name = true },
    { POST,   "/holders/{id}/restart", "holder:update", WRITE, holder_restart, NULL,         H,            200, "Restarts its unit.", .by_name = true },
    { POST,   "/holders/{id}/exec",    "holder:exec",   LONG,  holder_exec,    &dump_record, &dump_record, 200, "Runs a command in its unit.", .by_name = true },
    { DELETE, "/holders/{id}",         "holder:delete", WRITE, holder_delete,  NULL,         NULL,         204, "Deletes one, and its unit.", .by_name = true },
    { DELETE, "/holders/{id}/row",     "holder:delete", WRITE, holder_drop,    NULL,         NULL,         204, "Deletes its row, and tells nobody.", .by_name = true, .name = "deleteHolderRow" },
    { 0 },
};
/* clang-format on */

static const struct reconciler *const holder_loops[] = { &holder_loop, NULL };
static const struct service holder_service = {
    .name = "holder",
    .doc = "Holders of units, for tests.",
    .migrations = holder_migrations,
    .routes = holder_routes,
    .loops = holder_loops,
    .quotas = holder_quotas,
};

const struct service *const all_services[] = {
#define SERVICE(name) &name##_service,
#include "services/services.def"
#undef SERVICE
    &holder_service,
    NULL,
};

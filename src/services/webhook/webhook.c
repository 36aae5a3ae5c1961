/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks: where a tenant's events are sent, and how the tenant sees what became of them. */
#include <sodium.h>

#include "codec/id.h"
#include "codec/text.h"
#include "services/webhook/webhook_private.h"

extern const struct migration webhook_migrations[];

enum { SECRET_BYTES = 32 };
static const int64_t GRACE = HOURS(24); /* in which the secret before the last one signs too */

static const struct enum_name retry_names[] = { { RETRY_STANDARD, "standard" },
                                                { RETRY_EXTENDED, "extended" },
                                                { 0 } };

static const char *check_pattern(struct arena *a _unused_, const char **v)
{
    size_t n = strlen(*v);

    return n && n <= 100 && strspn(*v, "abcdefghijklmnopqrstuvwxyz0123456789_.*-") == n
               ? NULL
               : "must be a type of events, of a-z, 0-9, '_', '.' and '-', in which '*' stands for"
                 " anything";
}

static const struct form form_pattern = {
    .check = check_pattern,
    .pattern = "^[a-z0-9_.*-]{1,100}$",
    .example = "instance.*",
};

/* clang-format off */
#define T struct webhook
static const struct field webhook_fields[] = {
    OWNED_FIELDS(T),
    FIELD_URL (T, url,             FF_CREATE | FF_UPDATE | FF_REQUIRED | FF_FILTER, .schemes = "https http", .max = 2048, .example = "https://example.com/hook",
                                   .doc = "Where events are sent: http or https, at a public address."),
    FIELD_LIST(T, events,          FF_CREATE | FF_UPDATE, .min = 1, .max = 50, .form = &form_pattern, .dflt_str = "[\"*\"]",
                                   .doc = "Which types of events are sent; * stands for anything.", .example = "[\"queue.*\",\"instance.running\"]"),
    FIELD_ENUM(T, retry_policy, enum retry_policy, FF_CREATE | FF_UPDATE | FF_FILTER, .names = retry_names,
                                   .doc = "standard: five attempts within eight minutes; extended: up to 72 hours."),
    FIELD_BOOL(T, enabled,         FF_CREATE | FF_UPDATE | FF_FILTER, .dflt = 1, .doc = "Whether events are sent."),
    FIELD_STR (T, description,     FF_CREATE | FF_UPDATE | FF_CLEAR, .max = 500, .doc = "For people."),
    FIELD_TIME(T, disabled_at,     0, .doc = "When it was disabled because of its answers."),
    FIELD_STR (T, disabled_reason, 0, .doc = "gone: it answered 410; failing: no attempt succeeded for five days."),
    FIELD_STR (T, sealed,          FF_SECRET, .doc = "The secret."),
    FIELD_STR (T, old_sealed,      FF_SECRET, .doc = "The secret before it."),
    FIELD_TIME(T, old_until,       FF_HIDDEN, .doc = "How long that signs too."),
    FIELD_STR (T, secret,          FF_VIRTUAL | FF_ONCE, .doc = "What deliveries are signed by (whsec_ and base64); shown once."),
};
#undef T
/* clang-format on */
static const struct quota quota_webhooks = { "webhooks", { 5, 20, 100, 500, 5000 } };
static const struct quota *const webhook_quotas[] = { &quota_webhooks, NULL };
const struct record webhook_record =
    RECORD(webhook, "webhooks", webhook_fields, .prefix = "wh", .arn_service = "webhook",
           .arn_type = "webhook", .quota = &quota_webhooks);

/* ---- handlers */

/* What a name leads to is judged at each delivery. */
static void url_check(struct call *c)
{
    const struct webhook *w = c->in;
    struct err e;

    if (w->url && *w->url && app_check_url(c->app, w->url, &e) < 0)
        fault_add(c, "url", "not_allowed", "%s", e.msg);
}

static void new_secret(struct call *c, struct webhook *w)
{
    uint8_t random[SECRET_BYTES];

    randombytes_buf(random, sizeof(random));
    w->secret =
        arena_printf(c->arena, "whsec_%s", base64_encode(c->arena, random, sizeof(random), false));
    w->sealed = app_seal(c->app, c->arena, str_of(w->secret), str_of(w->id.s));
    sodium_memzero(random, sizeof(random));
}

static int webhook_create(struct call *c, struct err *e)
{
    struct webhook *w = c->in;

    uuid_new(app_clock(c->app), &w->id);
    new_secret(c, w);
    TRY(call_insert(c, &webhook_record, w, e));
    return reply_row(c, &webhook_record, w);
}

static int webhook_update(struct call *c, struct err *e)
{
    struct webhook old, w;
    uint64_t set = c->set;

    TRY(call_target(c, &webhook_record, &old, e));
    w = old;
    record_copy(&webhook_record, &w, c->in, set);
    if (w.enabled && !old.enabled) {
        w.disabled_at = 0;
        w.disabled_reason = NULL;
        set |= FIELD_SET(webhook, disabled_at, disabled_reason);
    }
    if (set)
        TRY(call_update(c, &webhook_record, &old, &w, set, e));
    if ((w.enabled && !old.enabled) || strcmp(w.url, old.url) != 0)
        TRY(deliver_well(c, &w.id, e));
    return reply_row(c, &webhook_record, &w);
}

static int webhook_rotate(struct call *c, struct err *e)
{
    struct webhook old, w;

    TRY(call_target(c, &webhook_record, &old, e));
    w = old;
    w.old_sealed = old.sealed;
    w.old_until = c->now + GRACE;
    new_secret(c, &w);
    TRY(call_update(c, &webhook_record, &old, &w, FIELD_SET(webhook, sealed, old_sealed, old_until),
                    e));
    return reply_row(c, &webhook_record, &w);
}

int webhook_disable(struct call *c, struct webhook *w, const char *reason, struct err *e)
{
    struct webhook old = *w;

    w->enabled = false;
    w->disabled_at = c->now;
    w->disabled_reason = reason;
    TRY(call_update(c, &webhook_record, &old, w,
                    FIELD_SET(webhook, enabled, disabled_at, disabled_reason), e));
    return call_event(c, "webhook.disabled", &webhook_record, w, e);
}

/* ---- what is sent, as it is shown */

static int reply_delivery(struct call *c, const struct uuid *id, const struct webhook *w,
                          struct err *e)
{
    struct delivery *d = arena_new(c->arena, struct delivery);

    TRY(delivery_get(c, &w->id, id, d, e));
    TRY(delivery_show(c, d, e));
    return reply_row(c, &delivery_record, d);
}

/* An event of its own kind, of which the journal knows nothing. */
static struct str test_event(struct call *c, const char *event_id, const struct webhook *w)
{
    struct buf b = BUF(MIB(1));
    struct json_out o = JSON_OUT(&b);

    o.view.typeid = true;
    json_open(&o, '{');
    json_kstr(&o, "id", event_id);
    json_kstr(&o, "type", "webhook.test");
    json_ktime(&o, "created_at", c->now);
    json_key(&o, "data");
    json_open(&o, '{');
    json_key(&o, "object");
    json_row(&o, &webhook_record, w);
    json_close(&o);
    json_key(&o, "project_id");
    if (uuid_is_nil(&w->project_id))
        json_null(&o);
    else
        json_id(&o, project_ref.prefix, &w->project_id);
    json_kstr(&o, "request_id", c->request_id);
    json_close(&o);
    struct str s = { arena_dup(c->arena, b.p, b.n), b.n };
    buf_free(&b);
    return s;
}

static int need_enabled(const struct webhook *w, struct err *e)
{
    return w->enabled ? 0
                      : err_set(e, ERR_INVALID_STATE, "The webhook is disabled: enable it first");
}

static int webhook_test(struct call *c, struct err *e)
{
    struct webhook w;
    struct uuid event, id;
    char name[TYPEID_MAX];

    TRY(call_target(c, &webhook_record, &w, e));
    TRY(need_enabled(&w, e));
    uuid_new(app_clock(c->app), &event);
    typeid_format("evt", &event, name);
    struct delivery_to to = { w.id, w.project_id };
    struct delivery_new x = { .event_id = name,
                              .event_type = "webhook.test",
                              .body = test_event(c, name, &w) };
    TRY(deliver(c, &webhook_kind, &x, &to, 1, &id, e));
    return reply_delivery(c, &id, &w, e);
}

static int deliveries_list(struct call *c, struct err *e)
{
    struct webhook w;

    TRY(call_target(c, &webhook_record, &w, e));
    return list_query(c, "SELECT @ FROM core_deliveries WHERE owner_id = $1", ARGS(A(&w.id)), e);
}

static int delivery_one(struct call *c, struct err *e)
{
    struct webhook w;
    struct uuid id;

    TRY(call_target(c, &webhook_record, &w, e));
    TRY(call_param_id(c, "delivery_id", &delivery_record, &id, e));
    return reply_delivery(c, &id, &w, e);
}

static int delivery_again(struct call *c, struct err *e)
{
    struct delivery d;
    struct webhook w;
    struct uuid id;

    TRY(call_target(c, &webhook_record, &w, e));
    TRY(call_param_id(c, "delivery_id", &delivery_record, &id, e));
    TRY(delivery_get(c, &w.id, &id, &d, e));
    TRY(need_enabled(&w, e));
    TRY(deliver_again(c, &d, e));
    return reply_delivery(c, &id, &w, e);
}

static const struct consumer *const webhook_consumers[] = { &webhook_feed, NULL };
static const struct delivery_kind *const webhook_deliveries[] = { &webhook_kind, NULL };

/* clang-format off */
#define W &webhook_record
#define D &delivery_record
static const struct route webhook_routes[] = {
    /*        path                                              action                work   handler          in    out   */
    { POST,   "/webhooks",                                      "webhook:create",     WRITE, webhook_create,  W,    W,    201, "Makes a webhook; its secret is shown once.", .check = url_check },
    { GET,    "/webhooks",                                      "webhook:list",       READ,  crud_list,       NULL, W,    200, "Lists webhooks.", .list = true },
    { GET,    "/webhooks/{id}",                                 "webhook:get",        QUICK, crud_get,        NULL, W,    200, "Shows one webhook." },
    { PATCH,  "/webhooks/{id}",                                 "webhook:update",     WRITE, webhook_update,  W,    W,    200, "Changes a webhook.", .check = url_check },
    { DELETE, "/webhooks/{id}",                                 "webhook:delete",     WRITE, crud_delete,     NULL, NULL, 204, "Deletes a webhook with its deliveries." },
    { POST,   "/webhooks/{id}/rotate",                          "webhook:rotate",     WRITE, webhook_rotate,  NULL, W,    200, "Gives it a new secret, shown once; the one before signs too for 24 hours." },
    { POST,   "/webhooks/{id}/test",                            "webhook:test",       WRITE, webhook_test,    NULL, D,    202, "Sends it an event of the type webhook.test." },
    { GET,    "/webhooks/{id}/deliveries",                      "webhook:list-deliveries", READ, deliveries_list, NULL, D, 200, "Lists what was and will be sent to it.", .list = true, .cli = "webhook deliveries" },
    { GET,    "/webhooks/{id}/deliveries/{delivery_id}",        "webhook:get-delivery", READ, delivery_one,   NULL, D,    200, "Shows one delivery with every attempt.", .cli = "webhook delivery" },
    { POST,   "/webhooks/{id}/deliveries/{delivery_id}/redeliver", "webhook:redeliver", WRITE, delivery_again, NULL, D,   202, "Sends it once more, and begins its schedule anew.", .cli = "webhook redeliver" },
    { 0 },
};
/* clang-format on */

const struct service webhook_service = {
    .name = "webhook",
    .doc = "Events sent to URLs.",
    .migrations = webhook_migrations,
    .routes = webhook_routes,
    .consumers = webhook_consumers,
    .deliveries = webhook_deliveries,
    .quotas = webhook_quotas,
};

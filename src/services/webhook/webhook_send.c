/* SPDX-License-Identifier: Apache-2.0 */
/* From an event to a signed request: which webhooks it fits, what is signed by what, and when an
 * endpoint is given up. */
#include <sodium.h>

#include "codec/text.h"
#include "services/webhook/webhook_private.h"

static const int64_t GIVEN_UP = DAYS(5);

bool pattern_fits(const char *pattern, const char *type)
{
    const char *star = NULL, *retry = type;

    while (*type) {
        if (*pattern == '*') {
            star = pattern++;
            retry = type;
        } else if (*pattern == *type) {
            pattern++;
            type++;
        } else if (star) {
            pattern = star + 1;
            type = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

/* ---- the feed */

static const char sql_enabled[] =
    "SELECT @ FROM webhooks WHERE tenant_id = $1 AND mode = $2 AND enabled ORDER BY id";

static bool wants(const struct webhook *w, const struct happened *h)
{
    struct err e;

    if (!uuid_is_nil(&w->project_id) && !uuid_eq(&w->project_id, &h->project))
        return false;
    _cleanup_(json_freep) struct json_value *list = json_parse(str_of(w->events), &e);
    for (size_t i = 0; list && i < json_len(list); i++)
        if (pattern_fits(json_str_of(json_at(list, i), NULL), h->type))
            return true;
    return false;
}

/* On the writer, for each event there is. */
static int feed(struct call *c, const struct happened *h, struct err *e)
{
    struct delivery_new x = { .event_id = h->id, .event_type = h->type };
    struct rows got;
    size_t n = 0;

    if (uuid_is_nil(&h->tenant))
        return 0;
    TRY(db_query(c->db, c->arena, &webhook_record, sql_enabled,
                 ARGS(A(&h->tenant), A(enum_to_str(mode_names, (int)h->mode))), &got, e));
    if (!got.n)
        return 0;
    struct delivery_to *to = arena_new_n(c->arena, struct delivery_to, got.n);
    for (size_t i = 0; i < got.n; i++) {
        const struct webhook *w = &((const struct webhook *)got.v)[i];

        if (wants(w, h))
            to[n++] = (struct delivery_to){ w->id, w->project_id };
    }
    if (!n)
        return 0;
    x.body = happened_json(c->arena, h);
    x.object = json_get_str(c->arena, h->object, "id", NULL);
    return deliver(c, &webhook_kind, &x, to, n, NULL, e);
}

static const char *const all_types[] = { "*", NULL };
const struct consumer webhook_feed = {
    .name = "webhook.feed",
    .types = all_types,
    .handle = feed,
};

/* ---- an attempt */

/* Of the reference 000, and of 002: at once, then later and later. */
static const struct delivery_schedule schedules[] = {
    [RETRY_STANDARD] = { 5, { 0, SECONDS(5), SECONDS(30), MINUTES(2), MINUTES(5) }, 0 },
    [RETRY_EXTENDED] = { 13,
                         { 0, MINUTES(1), MINUTES(5), MINUTES(30), HOURS(2), HOURS(6), HOURS(12),
                           HOURS(12), HOURS(12), HOURS(12), HOURS(12), HOURS(12), HOURS(12) },
                         HOURS(72) },
};

static const struct delivery_schedule *schedule(const void *owner)
{
    return &schedules[((const struct webhook *)owner)->retry_policy];
}

static void mac(const void *key, size_t n_key, const struct str *parts, size_t n,
                uint8_t out[crypto_auth_hmacsha256_BYTES])
{
    crypto_auth_hmacsha256_state s;

    crypto_auth_hmacsha256_init(&s, key, n_key);
    for (size_t i = 0; i < n; i++)
        crypto_auth_hmacsha256_update(&s, (const uint8_t *)parts[i].p, parts[i].n);
    crypto_auth_hmacsha256_final(&s, out);
}

/* "v1,<base64>" over id.timestamp.body (Standard Webhooks, "Signature scheme"), keyed by what
 * stands behind "whsec_". */
static int sign(struct attempt *a, const char *sealed, const char *id, const char *at,
                char **secret, char **out, struct err *e)
{
    const struct webhook *w = a->owner;
    uint8_t sum[crypto_auth_hmacsha256_BYTES];
    struct str plain;
    size_t n;

    TRY(app_unseal(a->app, a->arena, sealed, str_of(w->id.s), &plain, e));
    *secret = arena_dup(a->arena, plain.p, plain.n);
    const void *key = plain.n > 6 ? base64_decode(a->arena, str_of(*secret + 6), false, &n) : NULL;
    if (!key)
        return err_cause(e, ERR_INTERNAL, "a webhook's secret is none", "internal error");
    const struct str parts[] = { str_of(id), STR("."), str_of(at), STR("."), a->body };
    mac(key, n, parts, ARRAY_LEN(parts), sum);
    *out = arena_printf(a->arena, "v1,%s", base64_encode(a->arena, sum, sizeof(sum), false));
    return 0;
}

static void add(struct attempt *a, const char *name, const char *value)
{
    a->headers[a->n_headers++] = (struct client_header){ .name = name, .value = value };
}

static int make(struct attempt *a, struct err *e)
{
    const struct webhook *w = a->owner;
    uint8_t sum[crypto_auth_hmacsha256_BYTES];
    char *secret, *old, *signature, *also;
    char hex[2 * sizeof(sum) + 1];

    if (!w->enabled) {
        a->cancel = "the webhook is disabled";
        return 0;
    }
    const char *at = arena_printf(a->arena, "%lld", (long long)(a->now / SECONDS(1)));
    TRY(sign(a, w->sealed, a->delivery->event_id, at, &secret, &signature, e));
    if (w->old_sealed && w->old_until > a->now) {
        TRY(sign(a, w->old_sealed, a->delivery->event_id, at, &old, &also, e));
        signature = arena_printf(a->arena, "%s %s", signature, also);
    }
    mac(secret, strlen(secret), &a->body, 1, sum);
    hex_encode(sum, sizeof(sum), hex);
    a->url = w->url;
    add(a, "Content-Type", "application/json");
    add(a, "webhook-id", a->delivery->event_id);
    add(a, "webhook-timestamp", at);
    add(a, "webhook-signature", signature);
    add(a, "X-Signature-256", arena_printf(a->arena, "sha256=%s", hex));
    return 0;
}

/* ---- what came of it */

static int told(struct call *c, const struct delivery_told *t, struct err *e)
{
    struct webhook w;
    struct rows got;

    if (t->succeeded || (!t->gone && c->now - t->failing_since < GIVEN_UP))
        return 0;
    TRY(db_query(c->db, c->arena, &webhook_record,
                 "SELECT @ FROM webhooks WHERE id = $1 AND enabled /*pg: FOR UPDATE */",
                 ARGS(A(&t->owner_id)), &got, e));
    if (!got.n)
        return 0;
    w = *(const struct webhook *)got.v;
    return webhook_disable(c, &w, t->gone ? "gone" : "failing", e);
}

const struct delivery_kind webhook_kind = {
    .name = "webhook",
    .owner = &webhook_record,
    .schedule = schedule,
    .make = make,
    .told = told,
};

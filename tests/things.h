/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A service for core's own tests: things, and users that are known by the words of their
 * credential. */

#include "tests/world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "core/request/request.h"
#include "os/file.h"

/* ---- a service */

struct thing {
    OWNED_MEMBERS;
    const char *name, *note, *secret;
    int64_t size;
};
struct tick {
    int64_t n;
};
struct wait_query {
    int64_t wait;
};

/* clang-format off */
#define T struct thing
static const struct field thing_fields[] = {
    OWNED_FIELDS(T),
    FIELD_STR(T, name,   FF_CREATE | FF_UPDATE | FF_REQUIRED | FF_FILTER | FF_SORT, .min = 1, .max = 64, .doc = "Unique."),
    FIELD_STR(T, note,   FF_CREATE | FF_UPDATE | FF_CLEAR, .max = 100000, .doc = "Anything."),
    FIELD_STR(T, secret, FF_SECRET, .doc = "Never out."),
    FIELD_INT(T, size,   FF_CREATE | FF_UPDATE, .min = 0, .max = 100, .dflt = 7, .doc = "How big."),
};
#undef T
static const struct field tick_fields[] = {
    FIELD_INT(struct tick, n, 0, .doc = "How many things."),
};
static const struct field wait_fields[] = {
    FIELD_INT(struct wait_query, wait, FF_CREATE, .max = 20, .alias = "wait_seconds", .doc = "Seconds."),
};
static const struct record thing_record = RECORD(thing, "things", thing_fields, .prefix = "thing");
static const struct record tick_record = RECORD(tick, NULL, tick_fields);
static const struct record wait_record = RECORD(wait_query, NULL, wait_fields);
/* clang-format on */

static int thing_create(struct call *c, struct err *e)
{
    struct thing *t = c->in;

    if (strcmp(t->name, "later") == 0) {
        reply_header(c, "Retry-After", "77");
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "Not now");
    }
    if (strcmp(t->name, "over quota") == 0)
        return err_set(e, ERR_QUOTA_EXCEEDED, "No more things");
    if (strcmp(t->name, "broken") == 0)
        return err_cause(e, ERR_INTERNAL, "a cause that nobody may see", "a message neither");
    t->secret = "hush";
    TRY(call_insert(c, &thing_record, t, e));
    call_signal(c, "things");
    reply_header(c, "X-Made", "yes");
    return reply_row(c, &thing_record, t);
}

static int long_insert(struct call *c, struct err *e)
{
    const struct thing *t = c->in;

    reply_header(c, "X-Inner", "yes");
    if (strcmp(t->name, "later") == 0) {
        reply_header(c, "Retry-After", "77");
        return err_set(e, ERR_RATE_LIMITED, "Not now");
    }
    TRY(call_insert(c, &thing_record, c->in, e));
    return reply_row(c, &thing_record, c->in);
}

/* Two transactions, the answer in the second; told to, it ends between them as a killed one does.
 */
static _Atomic bool cut_short;
static struct thing *long_made;

static int long_first(struct call *c, struct err *e)
{
    struct uuid id;

    if (!call_resumed(c, &id))
        return call_insert(c, &thing_record, c->in, e);
    long_made = arena_new(c->arena, struct thing);
    return call_get(c, &thing_record, &id, long_made, e);
}

static int long_second(struct call *c, struct err *e _unused_)
{
    struct uuid id;

    return reply_row(c, &thing_record, call_resumed(c, &id) ? long_made : c->in);
}

static int thing_long(struct call *c, struct err *e)
{
    const struct thing *t = c->in;

    reply_header(c, "X-Outer", "yes");
    if (strcmp(t->name, "late") != 0)
        return call_write(c, long_insert, e);
    /* As no handler may: the answer after the last transaction. */
    TRY(call_write(c, long_first, e));
    return reply_row(c, &thing_record, c->in);
}

static void (*_Atomic between)(struct call *c);

static int thing_twice(struct call *c, struct err *e)
{
    TRY(call_write(c, long_first, e));
    if (between)
        between(c);
    if (cut_short) {
        c->p->idem.spent = true; /* nobody undoes anything */
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "cut short");
    }
    return call_write(c, long_second, e);
}

/* An answer of so many bytes. */
static int reply_large(struct call *c, size_t n)
{
    char *text = arena_alloc(c->arena, n + 1);

    memset(text, 'x', n);
    json_open(c->out, '{');
    json_kstr(c->out, "text", text);
    json_close(c->out);
    return reply_json(c);
}

/* An effect that no transaction holds. */
static _Atomic int effects;

static int thing_once(struct call *c, struct err *e)
{
    struct thing *t = c->in;

    TRY(call_claim(c, e));
    if (strcmp(t->name, "refused") == 0)
        return err_set(e, ERR_INVALID, "before it began");
    effects++;
    if (strcmp(t->name, "large") == 0)
        return reply_large(c, MIB(3));
    if (strcmp(t->name, "huge") == 0)
        return reply_large(c, MIB(17));
    if (strcmp(t->name, "lost") == 0)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "nobody knows");
    return reply_message(c, "%d", (int)effects);
}

static int count_things(struct call *c, int64_t *n, struct err *e)
{
    return db_int(c->db, "SELECT COUNT(*) FROM things WHERE tenant_id = $1", ARGS(A(&c->tenant)), 0,
                  n, e);
}

/* Waits until there is a thing, as a queue's receive does. */
static int thing_wait(struct call *c, struct err *e)
{
    const struct wait_query *q = c->query;
    struct tick t = { 0 };

    TRY(count_things(c, &t.n, e));
    bool over = c->parked_until && c->now >= c->parked_until;
    if (t.n == 0 && q->wait && !over)
        return call_park(c, "things", c->now + SECONDS(q->wait), c->now + SECONDS(q->wait));
    return reply_row(c, &tick_record, &t);
}

/* Signals its own topic in each run, and never answers one that waits. */
static _Atomic int noises;

static int thing_noise(struct call *c, struct err *e _unused_)
{
    const struct wait_query *q = c->query;
    struct tick t = { ++noises };

    call_signal(c, "noise");
    if (q->wait)
        return call_park(c, "noise", c->now + SECONDS(q->wait), c->now + SECONDS(q->wait));
    return reply_row(c, &tick_record, &t);
}

static int thing_stream(struct call *c, struct err *e)
{
    TRY(stream_begin(c, "text/event-stream", e));
    for (int i = 0; i < 3; i++)
        TRY(stream_write(c, STR("data: hello\n\n"), e));
    return 0;
}

/* Work that ends when the test lets it. */
static _Atomic bool hold;
static _Atomic int holding;

/* Lets all of it end. */
static inline void release(struct world *w)
{
    hold = false;
    app_signal(world_app(w), "hold");
}

static void hold_on(void)
{
    atomic_fetch_add(&holding, 1);
    while (hold)
        usleep(1000);
    atomic_fetch_sub(&holding, 1);
}

static int thing_hold_read(struct call *c, struct err *e _unused_)
{
    hold_on();
    return reply_message(c, "held");
}

static int thing_hold(struct call *c, struct err *e)
{
    bool gone = false;

    atomic_fetch_add(&holding, 1);
    while (hold && !(gone = call_gone(c)))
        usleep(1000);
    atomic_fetch_sub(&holding, 1);
    return gone ? err_set(e, ERR_ENGINE_UNAVAILABLE, "nobody waits") : reply_message(c, "held");
}

static int thing_hold_stream(struct call *c, struct err *e)
{
    bool *begun = stream_state(c, sizeof(*begun));

    if (!*begun)
        TRY(stream_begin(c, "text/plain", e));
    *begun = true;
    return hold ? call_park(c, "hold", INT64_MAX, c->now + MILLIS(50)) : 0;
}

static int thing_raw(struct call *c, struct err *e)
{
    struct tick t = { 0 };
    char p[4096];
    ssize_t n;

    while ((n = body_read(c, p, sizeof(p), e)) > 0)
        t.n += n;
    if (n < 0)
        return -1;
    return reply_row(c, &tick_record, &t);
}

static int thing_revoke(struct call *c, struct err *e _unused_)
{
    call_revoke(c, NULL, &c->who->key_id);
    return reply_message(c, "revoked");
}

static int thing_public(struct call *c, struct err *e _unused_)
{
    struct tick t = { 1 };

    return reply_row(c, &tick_record, &t);
}

/* Whether the connection it was given belongs to the thread it runs on. */
static int thing_where(struct call *c, struct err *e _unused_)
{
    bool of_io = false;
    char name[16];

    pthread_getname_np(pthread_self(), name, sizeof(name));
    for (size_t i = 0; i < IO_MAX; i++)
        of_io = of_io || (c->db && c->db == c->app->io_db[i]);
    return reply_message(c, "%s", of_io == (strncmp(name, "http-", 5) == 0) ? "mine" : "another's");
}

/* clang-format off */
#define TH &thing_record
#define TI &tick_record
static const char *const thing_alias[] = { "/stuff", NULL };
static const struct route test_routes[] = {
    { POST,   "/things",        "thing:create", WRITE,  thing_create, TH,   TH, 201, "Makes one.", .alias = thing_alias },
    { GET,    "/things",        "thing:list",   QUICK,  crud_list,    NULL, TH, 200, "Lists.", .list = true, .alias = thing_alias },
    { GET,    "/things/{id}",   "thing:get",    QUICK,  crud_get,     NULL, TH, 200, "Shows one.", .by_name = true },
    { PATCH,  "/things/{id}",   "thing:update", WRITE,  crud_patch,   TH,   TH, 200, "Changes one.", .by_name = true },
    { DELETE, "/things/{id}",   "thing:delete", WRITE,  crud_delete,  NULL, NULL, 200, "Deletes one." },
    { POST,   "/long-things",   "thing:long",   LONG,   thing_long,   TH,   TH, 201, "Makes one slowly." },
    { POST,   "/twice-things",  "thing:twice",  LONG,   thing_twice,  TH,   TH, 201, "Makes one in two steps." },
    { POST,   "/once",          "thing:once",   LONG,   thing_once,   TH,   NULL, 200, "Cannot be undone." },
    { GET,    "/old-things",    "thing:list",   QUICK,  crud_list,    NULL, TH, 200, "Lists, as of old.", .list = true, .deprecated = 1767225600, .sunset = 1830297600, .successor = "/things" },
    { PATCH,  "/strict/{id}",   "thing:update", WRITE,  crud_patch,   TH,   TH, 200, "Changes one as it was read.", .must_match = true },
    { GET,    "/where",         "thing:list",   QUICK,  thing_where,  NULL, NULL, 200, "Says whose connection it has." },
    { GET,    "/wait",          "thing:wait",   READ,   thing_wait,   NULL, TI, 200, "Waits.", .query = &wait_record },
    { GET,    "/wait-write",    "thing:take",   WRITE,  thing_wait,   NULL, TI, 200, "Waits.", .query = &wait_record, .no_audit = true },
    { GET,    "/noise",         "thing:take",   WRITE,  thing_noise,  NULL, TI, 200, "Waits for itself.", .query = &wait_record, .no_audit = true },
    { GET,    "/stream",        "thing:stream", STREAM, thing_stream, NULL, NULL, 200, "Streams.", .produces = "text/plain" },
    { POST,   "/hold",          "thing:hold",   LONG,   thing_hold,   NULL, NULL, 200, "Holds a thread." },
    { GET,    "/hold-read",     "thing:hold",   READ,   thing_hold_read, NULL, NULL, 200, "Holds a reading thread." },
    { GET,    "/hold-stream",   "thing:hold",   STREAM, thing_hold_stream, NULL, NULL, 200, "Holds a stream.", .produces = "text/plain" },
    { PUT,    "/raw",           "thing:raw",    LONG,   thing_raw,    NULL, TI, 200, "Counts bytes.", .body = BODY_RAW, .body_max = 1 << 20 },
    { POST,   "/revoke",        "thing:revoke", WRITE,  thing_revoke, NULL, NULL, 200, "Revokes its key." },
    { POST,   "/admin",         "thing:admin",  WRITE,  thing_revoke, NULL, NULL, 200, "For admins.", .class = CLASS_ADMIN },
    { POST,   "/operate",       "thing:operate", WRITE, thing_revoke, NULL, NULL, 200, "For operators.", .operator = true },
    { POST,   "/auth/sign",     NULL,           LONG,   thing_public, NULL, TI, 200, "Signs in.", .public = true, .limit = LIMIT_AUTH, .on = CLASSIC },
    { GET,    "/health",        NULL,           LONG,   thing_public, NULL, TI, 200, "Health.", .public = true, .on = CLASSIC },
    { POST,   "/auth/knock",    NULL,           READ,   thing_public, NULL, TI, 200, "Public.", .public = true, .limit = LIMIT_AUTH, .on = CLASSIC },
    { POST,   "/resources",     "thing:resource", WRITE, thing_create, TH,  TH, 201, "Makes one.", .on = PLATFORM },
    { 0 },
};
static const struct migration test_migrations[] = {
    { "0001_test",
      "CREATE TABLE things (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT,"
      " project_id TEXT, mode TEXT NOT NULL, revision BIGINT NOT NULL, created_at BIGINT NOT NULL,"
      " updated_at BIGINT NOT NULL, name TEXT NOT NULL, note TEXT, secret TEXT, size BIGINT NOT NULL,"
      " UNIQUE (tenant_id, mode, name));\n" },
    { 0 },
};
/* clang-format on */

/* ---- who there is: the words after the dash of a credential say it */

static _Atomic int lookups;
static _Atomic bool doom;  /* credentials with "doomed" in them are nobody's any more */
static _Atomic bool mute;  /* nobody can say whose they are */
static _Atomic int unsaid; /* so often */
static _Atomic int64_t touched_at;
static char tenant_one[] = "01890000-0000-7000-8000-0000000000a1";
static const struct uuid sybil = { "01890000-0000-7000-8000-0000000000b1" };
static char tenant_two[] = "01890000-0000-7000-8000-0000000000a2";

/* Credentials with "dated" in them remember the version of their first use. */
static struct pinned {
    struct uuid key_id;
    char version[11];
} pinned[16];

static struct pinned *pinned_of(const struct uuid *key_id)
{
    for (size_t i = 0; i < ARRAY_LEN(pinned); i++)
        if (uuid_is_nil(&pinned[i].key_id) || uuid_eq(&pinned[i].key_id, key_id))
            return &pinned[i];
    abort();
}

static int test_lookup(struct app *app _unused_, struct db *db _unused_, struct arena *a _unused_,
                       struct str secret, const struct uuid *tenant, struct principal *out,
                       struct err *e)
{
    char s[256];

    snprintf(s, sizeof(s), "%.*s", (int)secret.n, secret.p);
    if (strncmp(s, "test-", 5) != 0 || (doom && strstr(s, "doomed")))
        return err_set(e, ERR_UNAUTHORIZED, "The credential is not valid");
    if (mute && strstr(s, "doomed")) {
        unsaid++;
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the store does not answer");
    }
    lookups++;
    *out = (struct principal){ .role = ROLE_OWNER, .rate = 100000 };
    snprintf(out->scopes, sizeof(out->scopes), "*");
    snprintf(out->actor, sizeof(out->actor), "%.200s@example.test", s + 5);
    snprintf(out->plan, sizeof(out->plan), "enterprise");
    uint64_t h = 5381;
    for (const char *p = s; *p; p++)
        h = h * 33 + (unsigned char)*p;
    snprintf(out->key_id.s, sizeof(out->key_id.s), "01890000-0000-7000-8000-%012llx",
             (unsigned long long)(h & 0xffffffffffff));
    out->user_id = out->key_id;
    memcpy(out->tenant_id.s, strstr(s, "stranger") ? tenant_two : tenant_one, 37);
    if (!uuid_is_nil(tenant) && strstr(s, "traveller"))
        out->tenant_id = *tenant;
    out->account = out->tenant_id;
    if (strstr(s, "sybil")) { /* one who makes many tenants */
        out->account = out->user_id = sybil;
        out->tenant_id = out->key_id;
    }
    if (strstr(s, "viewer"))
        out->role = ROLE_VIEWER;
    if (strstr(s, "member"))
        out->role = ROLE_MEMBER;
    out->operator= strstr(s, "operator") != NULL;
    if (strstr(s, "testmode"))
        out->mode = MODE_TEST;
    if (strstr(s, "project"))
        memcpy(out->project_id.s, strstr(s, "project2") ? tenant_two : tenant_one, 37);
    if (strstr(s, "rich"))
        out->rate = 1000000000;
    if (strstr(s, "poor") || strstr(s, "bursting"))
        out->rate = 3;
    if (strstr(s, "bursting"))
        out->burst = 3;
    if (strstr(s, "far"))
        snprintf(out->allowed_ips, sizeof(out->allowed_ips), "10.0.0.0/8 192.0.2.1");
    if (strstr(s, "near"))
        snprintf(out->allowed_ips, sizeof(out->allowed_ips), "127.0.0.0/8");
    if (strstr(s, "dated")) {
        pinned_of(&out->key_id)->key_id = out->key_id;
        memcpy(out->version, pinned_of(&out->key_id)->version, sizeof(out->version));
    }
    if (strstr(s, "expired"))
        out->expires_at = SECONDS(1000);
    const char *scopes = strstr(s, "scopes=");
    if (scopes) {
        snprintf(out->scopes, sizeof(out->scopes), "%s", scopes + 7);
        for (char *p = out->scopes; *p; p++)
            if (*p == ',')
                *p = ' ';
    }
    return 0;
}

static int test_touched(struct db *db _unused_, const struct uuid *key_id, const char *version,
                        int64_t now, struct err *e _unused_)
{
    struct pinned *p = pinned_of(key_id);

    touched_at = now;
    if (uuid_eq(&p->key_id, key_id) && !p->version[0])
        snprintf(p->version, sizeof(p->version), "%s", version);
    return 0;
}

/* All tenants but the two are of the one who makes many. */
static int test_account(struct db *db _unused_, const struct uuid *tenant, struct uuid *out,
                        struct err *e _unused_)
{
    bool own = strcmp(tenant->s, tenant_one) == 0 || strcmp(tenant->s, tenant_two) == 0;

    *out = own ? *tenant : sybil;
    return 0;
}

static const struct auth_class test_auth = { test_lookup, test_touched, test_account };
static const struct service test_service = {
    .name = "test",
    .doc = "For tests.",
    .migrations = test_migrations,
    .routes = test_routes,
    .auth = &test_auth,
};
#ifndef FURTHER_SERVICES /* a test's own: "&mine," */
#    define FURTHER_SERVICES
#endif
const struct service *const all_services[] = { &test_service, FURTHER_SERVICES NULL };

static const char *credentials(struct world *w _unused_, enum speaker who, const char *scopes)
{
    static const char *const names[] = {
        [AS_OWNER] = "test-owner",
        [AS_VIEWER] = "test-viewer",
        [AS_MEMBER] = "test-member",
        [AS_STRANGER] = "test-stranger",
        [AS_NO_SCOPE] = "test-scopes=nothing:read",
        [AS_NOBODY] = "",
        [AS_OPERATOR] = "test-operator",
        [AS_TEST_KEY] = "test-testmode",
    };

    return scopes ? fmt("test-scopes=%s", scopes) : names[who];
}

static void configure(struct config *c)
{
    c->cors_origins = "https://app.example";
    c->host_live = "api.example";
    c->host_test = "api-test.example,sandbox*.example";
    c->trusted_proxies = "";
}

__attribute__((constructor)) static void set_up(void)
{
    world_credentials = credentials;
    world_configure = configure;
}

static _unused_ struct reply with(struct world *w, enum method m, const char *path,
                                  const char *headers, const char *body)
{
    return ask(w, m, path, NULL, headers, body);
}

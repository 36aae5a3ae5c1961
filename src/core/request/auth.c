/* SPDX-License-Identifier: Apache-2.0 */
/* Who calls, and may they?  Hides how a credential travels, where verified ones are remembered, and
 * what a scope or a role covers.
 *
 * A verified credential is known by a keyed hash of what was presented; what revokes it drops it
 * before the revoking request is answered.  A look-up that began before such a drop cannot put the
 * old answer back: it passes the epoch it began in. */
#include <sodium.h>

#include "base/log.h"
#include "base/map.h"
#include "base/pages.h"
#include "core/request/request.h"

enum { SHARDS = 16, WAYS = 4, TOUCHED = 4096, TOUCHED_WAYS = 8, CONCURRENT = 100 };

struct known {
    uint8_t key[16];
    uint64_t used;
    struct principal who;
};
struct shard {
    pthread_mutex_t lock;
    uint64_t tick;
    struct known **slots; /* sets of WAYS */
};
/* When something was last done for a key: once a minute is enough. */
struct minutes {
    pthread_mutex_t lock;
    struct minute {
        struct uuid key_id;
        int64_t at;
    } v[TOUCHED]; /* sets of TOUCHED_WAYS */
};
struct auth_cache {
    uint8_t hash_key[16];
    size_t sets; /* of each shard, a power of two */
    _Atomic uint64_t epoch;
    struct shard shards[SHARDS];
    struct minutes touched, turned_away;
};

struct auth_cache *auth_cache_new(size_t entries)
{
    struct auth_cache *c = calloc(1, sizeof(*c));

    if (!c)
        abort();
    randombytes_buf(c->hash_key, sizeof(c->hash_key));
    c->sets = 1;
    while (c->sets * WAYS * SHARDS < entries)
        c->sets *= 2;
    pthread_mutex_init(&c->touched.lock, NULL);
    pthread_mutex_init(&c->turned_away.lock, NULL);
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&c->shards[i].lock, NULL);
        c->shards[i].slots = pages_new(c->sets * WAYS, sizeof(struct known *));
    }
    return c;
}

static void known_free(struct known *k)
{
    if (k)
        sodium_memzero(k, sizeof(*k));
    free(k);
}

void auth_cache_free(struct auth_cache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < SHARDS; i++) {
        for (size_t j = 0; j < c->sets * WAYS; j++)
            known_free(c->shards[i].slots[j]);
        pages_free(c->shards[i].slots, c->sets * WAYS, sizeof(struct known *));
        pthread_mutex_destroy(&c->shards[i].lock);
    }
    pthread_mutex_destroy(&c->touched.lock);
    pthread_mutex_destroy(&c->turned_away.lock);
    free(c);
}

uint64_t auth_cache_epoch(struct auth_cache *c)
{
    return atomic_load(&c->epoch);
}

static struct shard *place(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                           uint8_t key[16], struct known ***set)
{
    char text[2048 + 40];
    size_t n = MIN(secret.n, (size_t)2048);
    uint64_t h;

    memcpy(text, secret.p, n);
    text[n] = '\n';
    memcpy(text + n + 1, tenant->s, sizeof(tenant->s));
    hash_sip128(c->hash_key, text, n + 1 + strlen(tenant->s), key);
    sodium_memzero(text, n);
    memcpy(&h, key, sizeof(h));
    struct shard *s = &c->shards[h % SHARDS];
    *set = s->slots + (h / SHARDS % c->sets) * WAYS;
    return s;
}

bool auth_cache_get(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                    struct principal *out)
{
    uint8_t key[16];
    struct known **set;
    bool found = false;

    if (secret.n > 2048)
        return false;
    struct shard *s = place(c, secret, tenant, key, &set);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < WAYS && !found; i++)
        if (set[i] && memcmp(set[i]->key, key, sizeof(key)) == 0) {
            set[i]->used = ++s->tick;
            *out = set[i]->who;
            found = true;
        }
    pthread_mutex_unlock(&s->lock);
    return found;
}

void auth_cache_put(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                    const struct principal *p, uint64_t epoch)
{
    uint8_t key[16];
    struct known **set;

    if (secret.n > 2048)
        return;
    struct shard *s = place(c, secret, tenant, key, &set);
    pthread_mutex_lock(&s->lock);
    size_t at = 0;
    for (size_t i = 0; i < WAYS; i++) {
        if (!set[i] || memcmp(set[i]->key, key, sizeof(key)) == 0) {
            at = i;
            break;
        }
        if (set[i]->used < set[at]->used)
            at = i;
    }
    if (atomic_load(&c->epoch) == epoch) {
        if (!set[at] && !(set[at] = malloc(sizeof(*set[at]))))
            abort();
        memcpy(set[at]->key, key, sizeof(key));
        set[at]->used = ++s->tick;
        set[at]->who = *p;
    }
    pthread_mutex_unlock(&s->lock);
}

void auth_cache_drop(struct auth_cache *c, const struct uuid *user_id, const struct uuid *key_id)
{
    bool user = user_id && !uuid_is_nil(user_id), one = key_id && !uuid_is_nil(key_id);

    atomic_fetch_add(&c->epoch, 1);
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];

        pthread_mutex_lock(&s->lock);
        for (size_t j = 0; j < c->sets * WAYS; j++) {
            struct known *k = s->slots[j];

            if (k && ((user && uuid_eq(&k->who.user_id, user_id)) ||
                      (one && uuid_eq(&k->who.key_id, key_id)) || (!user && !one)))
                known_free(TAKE(s->slots[j]));
        }
        pthread_mutex_unlock(&s->lock);
    }
}

void auth_cache_pin(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                    const char *version)
{
    uint8_t key[16];
    struct known **set;

    if (secret.n > 2048)
        return;
    struct shard *s = place(c, secret, tenant, key, &set);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < WAYS; i++)
        if (set[i] && memcmp(set[i]->key, key, sizeof(key)) == 0 && !set[i]->who.version[0])
            snprintf(set[i]->who.version, sizeof(set[i]->who.version), "%s", version);
    pthread_mutex_unlock(&s->lock);
}

static bool minute_over(struct minutes *m, const struct uuid *key_id, int64_t now)
{
    uint64_t h;

    /* Its end is random, and of our making: it needs no keyed hash. */
    memcpy(&h, key_id->s + sizeof(key_id->s) - 1 - sizeof(h), sizeof(h));
    h = (h * 0x9e3779b97f4a7c15U >> 32) % (TOUCHED / TOUCHED_WAYS);
    struct minute *set = &m->v[h * TOUCHED_WAYS], *t = set;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < TOUCHED_WAYS; i++) {
        if (uuid_eq(&set[i].key_id, key_id)) {
            t = &set[i];
            break;
        }
        if (set[i].at < t->at)
            t = &set[i];
    }
    bool due = !uuid_eq(&t->key_id, key_id) || now - t->at >= MINUTES(1);
    if (due)
        *t = (struct minute){ .key_id = *key_id, .at = now };
    pthread_mutex_unlock(&m->lock);
    return due;
}

bool auth_cache_touch(struct auth_cache *c, const struct uuid *key_id, int64_t now)
{
    return minute_over(&c->touched, key_id, now);
}

bool auth_cache_turned_away(struct auth_cache *c, const struct uuid *key_id, int64_t now)
{
    return minute_over(&c->turned_away, key_id, now);
}

/* ---- what was presented */

static const char *const prefixes[] = { "thecloud_", "sk_live_", "sk_test_", "cap_" };

static bool begins(struct str s, const char *with)
{
    size_t n = strlen(with);

    return s.p && s.n >= n && memcmp(s.p, with, n) == 0;
}

static int query_refused(struct str query, struct err *e)
{
    static const char *const names[] = { "access_token=", "api_key=", "apikey=", "x-api-key=" };

    for (size_t i = 0; i < query.n;) {
        struct str part = { query.p + i, query.n - i };
        const char *amp = memchr(part.p, '&', part.n);

        if (amp)
            part.n = (size_t)(amp - part.p);
        const char *eq = memchr(part.p, '=', part.n);
        struct str value = { eq ? eq + 1 : part.p, 0 };
        value.n = (size_t)(part.p + part.n - value.p);
        bool bad = false;
        for (size_t j = 0; j < ARRAY_LEN(names); j++)
            bad = bad || (part.n >= strlen(names[j]) &&
                          strncasecmp(part.p, names[j], strlen(names[j])) == 0);
        for (size_t j = 0; eq && j < ARRAY_LEN(prefixes); j++)
            bad = bad || (begins(value, prefixes[j]) && secret_check(prefixes[j], value));
        if (bad)
            return err_set(e, ERR_INVALID,
                           "A credential in the query is refused: send it in a header");
        i += part.n + 1;
    }
    return 0;
}

static int unauthorized(struct call_private *p, const char *error, struct err *e, const char *text)
{
    p->auth.www_error = error;
    return err_set(e, ERR_UNAUTHORIZED, "%s", text);
}

static int tenant_header(struct call_private *p, struct err *e)
{
    struct str want = http1_header(http_req_head(p->r), "x-tenant-id");

    if (!want.p)
        return 0;
    if (id_parse(want, tenant_ref.prefix, &p->auth.tenant_wanted) != ID_OK) {
        fault_add(&p->c, "X-Tenant-ID", "malformed", "must be the id of a tenant");
        return call_faults(&p->c, e);
    }
    return 0;
}

int auth_credential(struct call_private *p, struct err *e)
{
    const struct http_head *h = http_req_head(p->r);
    struct str key = http1_header(h, "x-api-key");
    struct str bearer = http1_header(h, "authorization");

    TRY(query_refused(h->query, e));
    if (http1_header_count(h, "x-api-key") > 1 || http1_header_count(h, "authorization") > 1)
        return err_set(e, ERR_AMBIGUOUS_CREDENTIALS, "More than one credential was sent");
    if (bearer.p) {
        if (bearer.n < 7 || strncasecmp(bearer.p, "bearer ", 7) != 0)
            return unauthorized(p, NULL, e, "Authorization must be: Bearer <credential>");
        bearer.p += 7;
        bearer.n -= 7;
        while (bearer.n && *bearer.p == ' ') {
            bearer.p++;
            bearer.n--;
        }
    }
    if (key.p && bearer.p && !str_eq(key, bearer))
        return err_set(e, ERR_AMBIGUOUS_CREDENTIALS, "Two different credentials were sent");
    p->auth.secret = key.p ? key : bearer;
    if (p->auth.secret.n == 0)
        return unauthorized(p, NULL, e,
                            "A credential is needed: X-API-Key or Authorization: Bearer");
    if (p->auth.secret.n > 8192)
        return unauthorized(p, "invalid_token", e, "The credential is not valid");
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (begins(p->auth.secret, prefixes[i]) && !secret_check(prefixes[i], p->auth.secret))
            return unauthorized(p, "invalid_token", e, "The credential is not valid");
    return tenant_header(p, e);
}

int auth_lookup(struct call_private *p, struct db *db, struct err *e)
{
    struct app *app = p->c.app;
    uint64_t epoch = auth_cache_epoch(app->auth_cache);
    struct principal who = { 0 };

    if (!app->auth)
        return unauthorized(p, "invalid_token", e, "The credential is not valid");
    TRY(db_read_round(db, e));
    if (app->auth->lookup(app, db, p->c.arena, p->auth.secret, &p->auth.tenant_wanted, &who, e) <
        0) {
        p->auth.www_error = "invalid_token";
        return -1;
    }
    /* Several processes over one PostgreSQL: none of them learns of another's revocations.  And who
     * is refused may be let in at any time. */
    if (!app->postgres && !who.refused)
        auth_cache_put(app->auth_cache, p->auth.secret, &p->auth.tenant_wanted, &who, epoch);
    p->who = who;
    return 0;
}

/* ---- may they come in */

/* 'list' of names separated by commas, in which '*' stands for any run of characters. */
static bool host_is(struct str host, const char *list)
{
    const char *colon = memrchr(host.p, ':', host.n);

    if (colon && !memchr(colon, ']', (size_t)(host.p + host.n - colon)))
        host.n = (size_t)(colon - host.p);
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ", ");
        const char *star = memchr(at, '*', n);
        size_t head = star ? (size_t)(star - at) : n, tail = star ? n - head - 1 : 0;

        if (n && (star ? host.n >= head + tail : host.n == n) &&
            strncasecmp(host.p, at, head) == 0 &&
            strncasecmp(host.p + host.n - tail, at + n - tail, tail) == 0)
            return true;
        at += n + strspn(at + n, ", ");
    }
    return false;
}

static int admit_host(struct call_private *p, struct err *e)
{
    const struct config *cf = p->c.app->config;
    struct str host = http_req_head(p->r)->host;
    bool live, test;

    if (!host.p || (!cf->host_live[0] && !cf->host_test[0]))
        return 0;
    live = host_is(host, cf->host_live);
    test = host_is(host, cf->host_test);
    if (live == test)
        return 0;
    if (uuid_is_nil(&p->who.project_id)) { /* a user's own credential: the host decides */
        p->who.mode = test ? MODE_TEST : MODE_LIVE;
        return 0;
    }
    if ((p->who.mode == MODE_TEST) == test)
        return 0;
    return err_set(e, ERR_WRONG_ENVIRONMENT, "This is a %s key and this host is %s",
                   enum_to_str(mode_names, (int)p->who.mode), test ? "test" : "live");
}

static int admit_ip(struct call_private *p, struct err *e)
{
    struct ip ip;

    if (!p->who.allowed_ips[0])
        return 0;
    if (ip_parse(str_of(p->ip), &ip))
        for (const char *at = p->who.allowed_ips; *at;) {
            size_t n = strcspn(at, " ");
            struct cidr net;

            if (n && cidr_parse((struct str){ at, n }, false, &net) && cidr_contains(&net, &ip))
                return 0;
            at += n + strspn(at + n, " ");
        }
    return err_set(e, ERR_FORBIDDEN, "This credential may not be used from %s", p->ip);
}

int auth_admit(struct call_private *p, struct err *e)
{
    const struct principal *who = &p->who;

    if (who->expires_at && who->expires_at <= p->c.now)
        return unauthorized(p, "invalid_token", e, "The credential has expired");
    p->c.tenant = who->tenant_id;
    p->auth.authenticated = true;
    return admit_host(p, e);
}

/* ---- what they may do */

static bool names_service(const struct route_info *info, const char *s, size_t n)
{
    for (size_t i = 0; i < SCOPE_NAMES && info->scope_names[i][0]; i++)
        if (strlen(info->scope_names[i]) == n && memcmp(info->scope_names[i], s, n) == 0)
            return true;
    return false;
}

bool auth_scope_covers(const char *scopes, const struct route_info *info)
{
    const char *action = info->route->action;
    enum action_class class = info->class;

    for (const char *at = scopes; *at;) {
        size_t n = strcspn(at, " ");
        const char *colon = memchr(at, ':', n);

        if ((n == 1 && *at == '*') || (action && strlen(action) == n && memcmp(at, action, n) == 0))
            return true;
        if (colon && names_service(info, at, (size_t)(colon - at))) {
            struct str verb = { colon + 1, (size_t)(at + n - colon - 1) };

            if (str_is(verb, "*") || (str_is(verb, "read") && class == CLASS_READ) ||
                (str_is(verb, "write") && (class == CLASS_READ || class == CLASS_WRITE)))
                return true;
        }
        at += n + strspn(at + n, " ");
    }
    return false;
}

int auth_allowed(struct call_private *p, struct err *e)
{
    const struct route_info *info = p->mount->info;
    const struct principal *who = &p->who;

    p->auth.wrong_door = true;
    if (who->refused)
        return err_set(e, ERR_FORBIDDEN, "%s", who->refused);
    if (!uuid_is_nil(&p->auth.tenant_wanted) && !uuid_eq(&p->auth.tenant_wanted, &who->tenant_id))
        return err_set(e, ERR_FORBIDDEN, "This credential is bound to another tenant");
    TRY(admit_ip(p, e));
    p->auth.wrong_door = false;
    if (!auth_scope_covers(who->scopes, info)) {
        p->auth.www_error = "insufficient_scope";
        return err_set(e, ERR_FORBIDDEN, "Missing scope: %s", info->route->action);
    }
    if (info->route->operator&& !who->operator)
        return err_set(e, ERR_FORBIDDEN, "Only an operator of this installation may do this");
    if (info->route->own_account)
        return 0;
    if (uuid_is_nil(&who->tenant_id))
        return err_set(
            e, ERR_FORBIDDEN,
            "You are a member of no tenant: make one (POST /tenants), or be added to one");
    if (who->role == ROLE_VIEWER && info->class != CLASS_READ)
        return err_set(e, ERR_FORBIDDEN, "A viewer may not do this: %s", info->route->action);
    if (who->role == ROLE_MEMBER && info->class == CLASS_ADMIN)
        return err_set(e, ERR_FORBIDDEN, "This needs an admin of the tenant: %s",
                       info->route->action);
    return 0;
}

/* ---- last_used */

struct touch {
    struct db_job job;
    const struct auth_class *auth;
    struct uuid key_id;
    char version[11];
    int64_t now;
};

static int touch_run(struct db *db, void *ctx, struct err *e)
{
    struct touch *t = ctx;

    return t->auth->touched(db, &t->key_id, t->version, t->now, e);
}

static void touch_done(void *ctx, int rc, struct err *e)
{
    if (rc < 0)
        log_err(LOG_WARN, "last_used_not_noted", e);
    free(ctx);
}

void auth_touch(struct call_private *p)
{
    struct app *app = p->c.app;
    const struct principal *who = &p->who;

    if (!who->version[0])
        auth_cache_pin(app->auth_cache, p->auth.secret, &p->auth.tenant_wanted, p->version);
    if (!app->auth->touched || uuid_is_nil(&who->key_id) ||
        !auth_cache_touch(app->auth_cache, &who->key_id, p->c.now))
        return;
    struct touch *t = calloc(1, sizeof(*t));
    if (!t)
        abort();
    *t = (struct touch){ .auth = app->auth, .key_id = who->key_id, .now = p->c.now };
    snprintf(t->version, sizeof(t->version), "%s", p->version);
    t->job = (struct db_job){ .run = touch_run, .done = touch_done, .ctx = t };
    if (!store_submit(app->store, &t->job))
        free(t);
}

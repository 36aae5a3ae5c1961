/* SPDX-License-Identifier: Apache-2.0 */
/* What no key's own type can say of the configuration: forms of addresses, lists and folders, what
 * belongs together, and the defaults that depend on other keys. */
#include "codec/cidr.h"
#include "codec/json.h"
#include "codec/text.h"
#include "core/config/config_yaml.h"

static const int64_t SHARE_MOST = INT64_C(1) << 50;

/* The fault names the key and where its value came from. */
#define WRONG(l, key, ...) config_fault((l), where_of((l), (key)), __VA_ARGS__)

static const char *where_of(struct config_load *l, const char *key)
{
    const char *origin = l->c->origin[config_find(str_of(key))];

    return arena_printf(&l->c->arena, "%s (%s)", key, origin ? origin : "default");
}

static bool set(const char *s)
{
    return *s != '\0';
}

static bool starts(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

/* ---- addresses */

/* "127.0.0.1:80", "[::1]:80", "localhost:80", "unix:PATH". */
static bool listen_parse(const char *s, bool *loopback)
{
    struct ip ip;
    int64_t port;

    if (starts(s, "unix:")) {
        *loopback = true;
        return s[5] == '/';
    }
    const char *colon = strrchr(s, ':');
    if (!colon || !int_parse(str_of(colon + 1), 0, 65535, &port))
        return false;
    struct str host = { s, (size_t)(colon - s) };
    bool brackets = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (brackets)
        host = (struct str){ host.p + 1, host.n - 2 };
    if (str_is(host, "localhost")) {
        *loopback = true;
        return true;
    }
    if (!ip_parse(host, &ip) || brackets != (ip.family == 6))
        return false;
    static const uint8_t one[16] = { [15] = 1 };
    *loopback = ip.family == 4 ? ip.b[0] == 127 : memcmp(ip.b, one, 16) == 0;
    return true;
}

static bool on_loopback(const struct config *c)
{
    bool loopback = false;

    return listen_parse(c->listen, &loopback) && loopback;
}

const char *config_registration(const struct config *c)
{
    if (set(c->registration))
        return c->registration;
    return on_loopback(c) ? "open" : "invite";
}

const char *config_registration_plan(const struct config *c)
{
    if (set(c->registration_plan))
        return c->registration_plan;
    return on_loopback(c) ? c->default_plan : "free";
}

const char *config_public_url(const struct config *c, struct arena *a)
{
    const char *listen = c->listen, *colon = strrchr(listen, ':');
    size_t n = strlen(c->public_url);

    while (n && c->public_url[n - 1] == '/')
        n--;
    if (n)
        return arena_dup(a, c->public_url, n);
    if (starts(listen, "unix:") || starts(listen, "0.0.0.0:") || starts(listen, "[::]:") ||
        !colon || strcmp(colon, ":0") == 0)
        return "";
    return arena_printf(a, "%s://%s", set(c->tls_cert) ? "https" : "http", listen);
}

static void check_server(struct config_load *l)
{
    const struct config *c = l->c;
    bool loopback = true;

    if (!listen_parse(c->listen, &loopback))
        WRONG(l, "server.listen", "must be ADDRESS:PORT or unix:/PATH");
    if (set(c->tls_cert) != set(c->tls_key))
        WRONG(l, set(c->tls_cert) ? "server.tls_key" : "server.tls_cert",
              "must be given too: TLS needs certificate and key");
    else if (!loopback && !set(c->tls_cert) && !c->allow_plain)
        WRONG(l, "server.listen",
              "is no loopback address: give server.tls_cert and server.tls_key, or set "
              "server.allow_plain to serve without encryption");
    if (set(c->public_url) && !starts(c->public_url, "http://") &&
        !starts(c->public_url, "https://"))
        WRONG(l, "server.public_url", "must begin with http:// or https://");
}

/* ---- lists between commas */

static void each_of(struct config_load *l, const char *key, const char *list, const char *what,
                    bool (*ok)(struct str))
{
    struct str rest = str_of(list);

    while (rest.n) {
        const char *comma = memchr(rest.p, ',', rest.n);
        struct str one = { rest.p, comma ? (size_t)(comma - rest.p) : rest.n };

        rest.p += one.n + (comma ? 1 : 0);
        rest.n -= one.n + (comma ? 1 : 0);
        while (one.n && one.p[0] == ' ')
            one = (struct str){ one.p + 1, one.n - 1 };
        while (one.n && one.p[one.n - 1] == ' ')
            one.n--;
        if (!ok(one))
            WRONG(l, key, "'%.*s' is no %s", (int)MIN(one.n, (size_t)60), one.p, what);
    }
}

static bool is_cidr(struct str s)
{
    struct cidr c;

    return cidr_parse(s, true, &c);
}

/* A network, or a host with :port or without. */
static bool is_registry(struct str s)
{
    const char *colon = memchr(s.p, ':', s.n);
    size_t n = colon ? (size_t)(colon - s.p) : s.n;
    int64_t port;

    if (is_cidr(s))
        return true;
    if (colon && !int_parse((struct str){ colon + 1, s.n - n - 1 }, 1, 65535, &port))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", s.p[i]))
            return false;
    return n > 0 && n < 254;
}

static bool is_origin(struct str s)
{
    const char *sep = memmem(s.p, s.n, "://", 3);

    if (str_is(s, "*"))
        return true;
    return sep && sep > s.p && sep + 3 < s.p + s.n &&
           !memchr(sep + 3, '/', (size_t)(s.p + s.n - sep - 3));
}

/* ---- store, places */

static void check_store(struct config_load *l)
{
    struct config *c = l->c;

    if (!set(c->store))
        c->store = arena_printf(&c->arena, "sqlite:%s/store.db", c->state_dir);
    bool postgres = starts(c->store, "postgres://") || starts(c->store, "postgresql://");
    if (!postgres && !(starts(c->store, "sqlite:") && c->store[7]))
        WRONG(l, "store.url", "must begin with sqlite: or postgres://");
    if (set(c->store_password_file) && !postgres)
        WRONG(l, "store.password_file", "is for PostgreSQL only");
}

static void check_folder(struct config_load *l, const char *key, const char *path)
{
    if (path[0] != '/' || strlen(path) > 200)
        WRONG(l, key, "must be an absolute path of at most 200 bytes");
}

/* ---- compute */

static bool type_ok(const struct json_value *t, struct arena *a, const char **wrong)
{
    static const char *const numbers[] = { "vcpus", "memory_mb", "disk_gb", "network_mbps" };
    static const char *const texts[] = { "id", "name", "category" };

    if (json_type_of(t) != JSON_OBJ) {
        *wrong = "each must be an object";
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const char *s = json_get_str(a, t, texts[i], NULL);

        if (!s || !*s || strlen(s) > 64) {
            *wrong = arena_printf(a, "each needs a text '%s'", texts[i]);
            return false;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (json_get_int(t, numbers[i], 0) < 1) {
            *wrong = arena_printf(a, "each needs an integer '%s' of at least 1", numbers[i]);
            return false;
        }
    const struct json_value *price = json_get(t, "price_per_hour");
    if (!price || (json_type_of(price) != JSON_INT && json_type_of(price) != JSON_REAL)) {
        *wrong = "each needs a number 'price_per_hour'";
        return false;
    }
    return true;
}

static void check_types(struct config_load *l)
{
    struct err e;
    const char *wrong = NULL;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(l->c->instance_types), &e);

    if (!v) {
        WRONG(l, "compute.instance_types", "%s", e.msg);
        return;
    }
    if (json_type_of(v) != JSON_ARR || json_len(v) == 0 || json_len(v) > 200) {
        WRONG(l, "compute.instance_types", "must be a list of 1 to 200 types");
        return;
    }
    for (size_t i = 0; i < json_len(v); i++) {
        if (!type_ok(json_at(v, i), &l->c->arena, &wrong)) {
            WRONG(l, "compute.instance_types", "%s", wrong);
            return;
        }
        for (size_t j = 0; j < i; j++)
            if (strcmp(json_get_str(&l->c->arena, json_at(v, i), "id", ""),
                       json_get_str(&l->c->arena, json_at(v, j), "id", "")) == 0) {
                WRONG(l, "compute.instance_types", "an id is given twice");
                return;
            }
    }
}

static void check_compute(struct config_load *l)
{
    struct cidr c;

    if (l->c->port_min > l->c->port_max)
        WRONG(l, "compute.port_min", "must not be over compute.port_max");
    if (!cidr_parse(str_of(l->c->transit_cidr), true, &c) || c.ip.family != 4 || c.bits > 24)
        WRONG(l, "compute.transit_cidr", "must be an IPv4 network of /24 or larger");
    check_types(l);
}

static bool region_ok(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return n > 0 && n <= 32 && s[n] == '\0' && s[0] != '-';
}

/* ---- shares */

/* A member of the setting: {"total":256,"free":4}. */
static void read_share(struct config_load *l, const char *name, const struct json_value *v,
                       struct share_bounds *b)
{
    for (size_t i = 0; i < json_len(v); i++) {
        const char *word;
        const struct json_value *n = json_member(v, i, &word);
        int64_t *to = NULL;

        if (strcmp(word, "total") == 0)
            to = &b->total;
        for (size_t k = 0; k < PLANS; k++)
            if (strcmp(word, config_plan_at(k)->name) == 0)
                to = &b->limit[k];
        if (!to)
            WRONG(l, "platform.shares", "%s: '%.40s' is neither total nor a plan", name, word);
        else if (json_type_of(n) != JSON_INT || json_int_of(n) < 1 || json_int_of(n) > SHARE_MOST)
            WRONG(l, "platform.shares", "%s.%s must be an integer from 1 to %lld", name, word,
                  (long long)SHARE_MOST);
        else
            *to = json_int_of(n);
    }
}

static void check_shares(struct config_load *l)
{
    struct config *c = l->c;
    struct err e;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(c->shares), &e);

    for (size_t k = 0; k < SHARE_KINDS; k++) {
        c->share[k].total = share_rows[k].total;
        memcpy(c->share[k].limit, share_rows[k].limit, sizeof(c->share[k].limit));
    }
    if (!v || json_type_of(v) != JSON_OBJ) {
        WRONG(l, "platform.shares", "%s", v ? "must be an object" : e.msg);
        return;
    }
    for (size_t i = 0; i < json_len(v); i++) {
        const char *name;
        const struct json_value *one = json_member(v, i, &name);
        size_t k = 0;

        while (k < SHARE_KINDS && strcmp(share_rows[k].name, name) != 0)
            k++;
        if (k == SHARE_KINDS || json_type_of(one) != JSON_OBJ)
            WRONG(l, "platform.shares", "'%.40s' %s", name,
                  k == SHARE_KINDS ? "is no share" : "must be an object");
        else
            read_share(l, name, one, &c->share[k]);
    }
}

void config_check(struct config_load *l)
{
    struct config *c = l->c;

    check_server(l);
    each_of(l, "server.cors_origins", c->cors_origins, "origin (scheme://host)", is_origin);
    each_of(l, "outgoing.allowed_networks", c->allowed_networks, "network", is_cidr);
    each_of(l, "server.trusted_proxies", c->trusted_proxies, "address or network", is_cidr);
    each_of(l, "compute.allowed_registries", c->allowed_registries, "host, host:port or network",
            is_registry);
    check_folder(l, "places.state_dir", c->state_dir);
    check_folder(l, "places.run_dir", c->run_dir);
    check_folder(l, "places.cache_dir", c->cache_dir);
    check_store(l);
    if (!set(c->password_policy))
        c->password_policy = set(c->tls_cert) ? "strong" : "basic";
    if (set(c->smtp_url) && !starts(c->smtp_url, "smtp://") && !starts(c->smtp_url, "smtps://"))
        WRONG(l, "mail.smtp_url", "must begin with smtp:// or smtps://");
    if (!region_ok(c->region))
        WRONG(l, "platform.region", "must be 1 to 32 of a-z, 0-9 and '-'");
    check_compute(l);
    check_shares(l);
}

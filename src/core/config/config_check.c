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
    const struct config_key *k = config_find(l->c, str_of(key));

    return arena_printf(&l->c->arena, "%s (%s)", key, k && k->origin ? k->origin : "default");
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

static int unix_parse(const char *text, struct listen_address *out, struct err *e)
{
    if (text[5] != '/')
        return err_set(e, ERR_INVALID, "must be ADDRESS:PORT or unix:/PATH");
    if (strlen(text) >= sizeof(out->host))
        return err_set(e, ERR_INVALID, "has a path of over %zu bytes", sizeof(out->host) - 6);
    *out = (struct listen_address){ .loopback = true };
    snprintf(out->host, sizeof(out->host), "%s", text);
    return 0;
}

int listen_parse(const char *text, struct listen_address *out, struct err *e)
{
    static const uint8_t one[16] = { [15] = 1 };
    const char *colon = strrchr(text, ':');
    struct str host = { text, colon ? (size_t)(colon - text) : 0 };
    bool brackets = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    struct ip ip;
    int64_t port;

    if (starts(text, "unix:"))
        return unix_parse(text, out, e);
    if (brackets)
        host = (struct str){ host.p + 1, host.n - 2 };
    if (str_is(host, "localhost"))
        host = STR("127.0.0.1");
    if (!colon || host.n >= sizeof(out->host) || !int_parse(str_of(colon + 1), 0, 65535, &port) ||
        !ip_parse(host, &ip) || brackets != (ip.family == 6))
        return err_set(e, ERR_INVALID, "must be ADDRESS:PORT or unix:/PATH");
    snprintf(out->host, sizeof(out->host), STR_FMT, STR_ARG(host));
    out->port = (int)port;
    out->loopback = ip.family == 4 ? ip.b[0] == 127 : memcmp(ip.b, one, sizeof(one)) == 0;
    return 0;
}

bool config_on_loopback(const struct config *c)
{
    struct listen_address at;
    struct err e;

    return listen_parse(c->listen, &at, &e) == 0 && at.loopback;
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
    struct listen_address at = { .loopback = true };
    struct err e;

    if (listen_parse(c->listen, &at, &e) < 0)
        WRONG(l, "server.listen", "%s", e.msg);
    if (set(c->tls_cert) != set(c->tls_key))
        WRONG(l, set(c->tls_cert) ? "server.tls_key" : "server.tls_cert",
              "must be given too: TLS needs certificate and key");
    else if (!at.loopback && !set(c->tls_cert) && !c->allow_plain)
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
    struct str rest = str_of(list), one;

    while (str_part(&rest, ',', &one))
        if (!ok(one))
            WRONG(l, key, "'%.*s' is no %s", (int)MIN(one.n, (size_t)60), one.p, what);
}

static bool is_cidr(struct str s)
{
    struct cidr c;

    return cidr_parse(s, true, &c);
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

/* ---- platform */

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

/* ---- the tables of others */

struct checking {
    struct setting_check base;
    struct config_load *l;
};

static void wrong(struct setting_check *c, const char *key, const char *what)
{
    WRONG(((struct checking *)(void *)c)->l, key, "%s", what);
}

static void check_others(struct config_load *l)
{
    struct checking c = { .base = { .arena = &l->c->arena, .wrong = wrong }, .l = l };

    for (size_t i = 0; i < l->c->n_parts; i++)
        if (l->c->parts[i].of->check)
            l->c->parts[i].of->check(&c.base, l->c->parts[i].values);
}

void config_check(struct config_load *l)
{
    struct config *c = l->c;

    check_server(l);
    each_of(l, "server.cors_origins", c->cors_origins, "origin (scheme://host)", is_origin);
    each_of(l, "outgoing.allowed_networks", c->allowed_networks, "network", is_cidr);
    each_of(l, "server.trusted_proxies", c->trusted_proxies, "address or network", is_cidr);
    check_folder(l, "places.state_dir", c->state_dir);
    check_folder(l, "places.run_dir", c->run_dir);
    check_folder(l, "places.cache_dir", c->cache_dir);
    check_store(l);
    if (!region_ok(c->region))
        WRONG(l, "platform.region", "must be 1 to 32 of a-z, 0-9 and '-'");
    check_shares(l);
    check_others(l);
}

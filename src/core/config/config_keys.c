/* SPDX-License-Identifier: Apache-2.0 */
/* The facts of core's configuration: its keys, the plans, the shares.  Code that reads them is in
 * config.c; quotas and other keys stand where they are of use. */
#include "core/config/config.h"

/* clang-format off */
#define S(key, fl, member, def, ...) SETTING_STR(struct config, key, member, def, __VA_ARGS__, .flag = (fl))
#define I(key, fl, member, def, lo, hi, ...) SETTING_INT(struct config, key, member, def, lo, hi, __VA_ARGS__, .flag = (fl))
#define B(key, fl, member, def, ...) SETTING_BOOL(struct config, key, member, def, __VA_ARGS__, .flag = (fl))

static const struct setting keys[] = {
    /* key                         flag           member               default            sentence */
    S("server.listen",            "listen",      listen,              "127.0.0.1:8080",  "Address and port of the API, or unix:PATH."),
    I("server.io_threads",        "io-threads",  io_threads,          "0", 0, 64,        "Threads that own sockets; 0: one per core, at most 4."),
    I("server.workers",           "workers",     workers,             "0", 0, 256,       "Threads that run blocking handlers; 0: four per core, 4 to 64."),
    I("server.reconcilers",       NULL,          reconcilers,         "16", 1, 32,       "Rows that are brought to what they should be at once."),
    I("server.max_connections",   NULL,          max_connections,     "20000", 1, 1000000, "Connections open at once; those over it are answered 503."),
    S("server.tls_cert",          "tls-cert",    tls_cert,            "",                "PEM file of the certificate chain; empty: plain HTTP. SIGHUP reads the file again."),
    S("server.tls_key",           "tls-key",     tls_key,             "",                "PEM file of the certificate's key. SIGHUP reads the file again."),
    I("server.hsts_max_age",      NULL,          hsts_max_age,        "31536000", 0, 63072000, "Seconds for which browsers that came by TLS come by TLS only (Strict-Transport-Security); 0: no such header.", .reload = true),
    B("server.allow_plain",       "allow-plain", allow_plain,         "false",           "Serves plain HTTP on addresses other than loopback."),
    S("server.cors_origins",      NULL,          cors_origins,        "",                "Origins that browsers may call from, separated by commas; * is any.", .reload = true),
    S("server.trusted_proxies",   NULL,          trusted_proxies,     "",                "CIDRs of proxies whose X-Forwarded-For is believed, separated by commas.", .reload = true),
    S("server.public_url",        "public-url",  public_url,          "",                "URL under which clients reach the API, told in mails; empty: that of server.listen.", .reload = true),
    S("server.host_live",         NULL,          host_live,           "",                "Host name that takes live keys only; empty: the key decides.", .reload = true),
    S("server.host_test",         NULL,          host_test,           "",                "Host name that takes test keys only; empty: the key decides.", .reload = true),
    S("store.url",                "store",       store,               "",                "sqlite:PATH or postgres://USER@HOST/NAME; empty: store.db in places.state_dir.", .password = "store.password_file"),
    S("store.password_file",      NULL,          store_password_file, "",                "File that holds the password of the PostgreSQL user."),
    S("places.state_dir",         "state-dir",   state_dir,           "/var/lib/brume",  "What must not be lost: store, keys, blobs."),
    S("places.run_dir",           "run-dir",     run_dir,             "/run/brume",      "Sockets between the roles."),
    S("places.cache_dir",         "cache-dir",   cache_dir,           "/var/cache/brume", "What can be made again: built images."),
    S("places.user",              "user",        user,                "brume",           "User of the api role."),
    S("places.edge_user",         NULL,          edge_user,           "brume-edge",      "User of the edge role."),
    I("identity.argon2_memory_kib", NULL,        argon2_memory_kib,   "65536", 8192, 4194304, "Memory of one password hash."),
    I("identity.argon2_passes",   NULL,          argon2_passes,       "3", 1, 64,        "Passes of one password hash."),
    S("platform.region",          "region",      region,              "local",           "Region in ARNs and availability zones."),
    S("platform.default_plan",    NULL,          default_plan,        "enterprise",      "Plan of the first tenant; others have the plan of the tenant they are made from.", .words = " free starter standard professional enterprise ", .reload = true),
    S("platform.shares",          NULL,          shares,              "{}",              "What a tenant may have at once of what all share, as JSON: {\"streams\":{\"total\":256,\"free\":4}}; what is not named stays as it is."),
    I("platform.idempotency_hours", NULL,        idempotency_hours,   "24", 24, 720,     "Hours for which answers to keyed requests are kept.", .reload = true),
    I("platform.audit_days",      NULL,          audit_days,          "90", 1, 3650,     "Days for which audit records are kept.", .reload = true),
    I("platform.events_days",     NULL,          events_days,         "30", 1, 3650,     "Days for which events are kept.", .reload = true),
    B("compute.fake_drivers",     NULL,          fake_drivers,        "false",           "Live mode runs on the simulation too: for tests of the API alone."),
    S("outgoing.allowed_networks", NULL,         allowed_networks,    "",                "Networks at internal addresses that requests to tenants' URLs may lead to, separated by commas."),
    I("outgoing.deliveries_days", NULL,          deliveries_days,     "30", 1, 3650,     "Days for which deliveries that came to an end are kept.", .reload = true),
    S("log.level",                "log-level",   log_level,           "info",            "Least level that is logged.", .words = " debug info warn error ", .reload = true),
    S("log.format",               "log-format",  log_format,          "json",            "json or text.", .words = " json text "),
};
const struct settings config_own = SETTINGS(struct config, keys);

/* Requests a minute for each credential, and the allowance over ten minutes. */
static const struct plan plans[PLANS] = {
    { "free",            60,     0, 1 },
    { "starter",        100,     0, 1 },
    { "standard",      1000,     0, 2 },
    { "professional",  1000,     0, 4 },
    { "enterprise",   10000, 10000, 8 },
};

#define MB(n) ((int64_t)(n) << 20)
/* What a tenant may have at once of what all tenants share in a process. */
const struct share_row share_rows[SHARE_KINDS] = {
    /*                                                                          total      free  starter standard professional enterprise */
    [SHARE_READS]        = { "reads",        "reads at work at once",               0, {      2,       2,       4,        16,       64 } },
    [SHARE_CALLS]        = { "calls",        "long calls at work at once",         64, {      2,       4,       8,        16,       24 } },
    [SHARE_STREAMS]      = { "streams",      "streams at once",                 10000, {     16,      64,     256,      1024,     2500 } },
    [SHARE_PARKED]       = { "parked",       "requests that wait at once",      10000, {     16,      64,     256,      1024,     2500 } },
    [SHARE_UPLOADS]      = { "uploads",      "uploads at once",                   256, {      2,       4,       8,        16,       32 } },
    [SHARE_DOWNLOADS]    = { "downloads",    "downloads at once",                1024, {      8,      16,      64,       128,      256 } },
    [SHARE_UPLOAD_BYTES] = { "upload_bytes", "bytes of uploads at once",    MB(65536), { MB(2048), MB(4096), MB(20480), MB(20480), MB(24576) } },
    [SHARE_BODY_BYTES]   = { "body_bytes",   "bytes of bodies at once",       MB(256), {  MB(4),   MB(8),  MB(16),    MB(48),   MB(96) } },
    [SHARE_KEYS]         = { "keys",         "idempotency keys on record",    2000000, {  10000,   20000,  100000,    200000,   500000 } },
};
/* clang-format on */

static size_t plan_index(const char *name)
{
    for (size_t i = 0; i < PLANS; i++)
        if (strcmp(plans[i].name, name) == 0)
            return i;
    return PLANS;
}

const struct plan *config_plan(const struct config *c, const char *name)
{
    size_t i = plan_index(name);

    (void)c;
    return i < PLANS ? &plans[i] : NULL;
}

const struct plan *config_plan_at(size_t i)
{
    return &plans[i];
}

const struct plan *config_plan_or_free(const char *name)
{
    size_t i = plan_index(name);

    return &plans[i < PLANS ? i : 0];
}

int64_t config_share(const struct config *c, const char *plan, enum share_kind kind)
{
    size_t i = plan_index(plan);

    return c->share[kind].limit[i < PLANS ? i : 0];
}

int64_t config_quota(const struct config *c, const char *plan, const struct quota *q)
{
    size_t i = plan_index(plan);

    (void)c;
    return q->limit[i < PLANS ? i : 0];
}

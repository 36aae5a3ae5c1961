/* SPDX-License-Identifier: Apache-2.0 */
/* The facts of the configuration: every key, the plans, the instance types.  Code that
 * reads them is in config.c; quotas stand in their services. */
#include "core/config/config.h"

#include "base/record.h"

/* clang-format off */
#define INSTANCE_TYPES                                                                                                                                                   \
    "[{\"id\":\"basic-1\",\"name\":\"Basic 1\",\"vcpus\":1,\"memory_mb\":512,\"disk_gb\":5,\"network_mbps\":500,\"price_per_hour\":0.01,\"category\":\"general-purpose\"},"       \
    "{\"id\":\"basic-2\",\"name\":\"Basic 2\",\"vcpus\":1,\"memory_mb\":1024,\"disk_gb\":10,\"network_mbps\":1000,\"price_per_hour\":0.02,\"category\":\"general-purpose\"},"     \
    "{\"id\":\"standard-1\",\"name\":\"Standard 1\",\"vcpus\":1,\"memory_mb\":2048,\"disk_gb\":20,\"network_mbps\":1000,\"price_per_hour\":0.04,\"category\":\"general-purpose\"}," \
    "{\"id\":\"standard-2\",\"name\":\"Standard 2\",\"vcpus\":2,\"memory_mb\":4096,\"disk_gb\":40,\"network_mbps\":2000,\"price_per_hour\":0.08,\"category\":\"general-purpose\"}," \
    "{\"id\":\"standard-4\",\"name\":\"Standard 4\",\"vcpus\":4,\"memory_mb\":8192,\"disk_gb\":80,\"network_mbps\":4000,\"price_per_hour\":0.16,\"category\":\"general-purpose\"}," \
    "{\"id\":\"performance-1\",\"name\":\"Performance 1\",\"vcpus\":4,\"memory_mb\":16384,\"disk_gb\":160,\"network_mbps\":5000,\"price_per_hour\":0.3,\"category\":\"performance\"}," \
    "{\"id\":\"performance-2\",\"name\":\"Performance 2\",\"vcpus\":8,\"memory_mb\":32768,\"disk_gb\":320,\"network_mbps\":10000,\"price_per_hour\":0.6,\"category\":\"performance\"}]"

#define AT(m, ctype) (offsetof(struct config, m) + MEMBER_IS(struct config, m, ctype))
#define S(key, fl, member, def, text, ...) { .name = (key), .flag = (fl), .type = CFG_STR,  .offset = AT(member, const char *), .dflt = (def), .doc = (text), __VA_ARGS__ }
#define I(key, fl, member, def, lo, hi, text, ...) { .name = (key), .flag = (fl), .type = CFG_INT, .offset = AT(member, int64_t), .dflt = (def), .min = (lo), .max = (hi), .doc = (text), __VA_ARGS__ }
#define B(key, fl, member, def, text, ...) { .name = (key), .flag = (fl), .type = CFG_BOOL, .offset = AT(member, bool), .dflt = (def), .doc = (text), __VA_ARGS__ }

const struct config_key config_keys[] = {
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
    S("store.url",                "store",       store,               "",                "sqlite:PATH or postgres://USER@HOST/NAME; empty: store.db in places.state_dir."),
    S("store.password_file",      NULL,          store_password_file, "",                "File that holds the password of the PostgreSQL user."),
    S("places.state_dir",         "state-dir",   state_dir,           "/var/lib/brume",  "What must not be lost: store, keys, blobs."),
    S("places.run_dir",           "run-dir",     run_dir,             "/run/brume",      "Sockets between the roles."),
    S("places.cache_dir",         "cache-dir",   cache_dir,           "/var/cache/brume", "What can be made again: built images."),
    S("places.user",              "user",        user,                "brume",           "User of the api role."),
    S("places.edge_user",         NULL,          edge_user,           "brume-edge",      "User of the edge role."),
    S("identity.registration",    NULL,          registration,        "",                "Who may register: open (anyone), invite (who was invited to a tenant) or off (nobody); empty: open on a loopback listener, else invite.", .words = " open invite off ", .reload = true),
    S("identity.registration_plan", NULL,        registration_plan,   "",                "Plan of who registers uninvited; empty: platform.default_plan on a loopback listener, else free.", .words = " free starter standard professional enterprise ", .reload = true),
    S("identity.password_policy", NULL,          password_policy,     "",                "basic (length only) or strong; empty: strong where TLS is on.", .words = " basic strong ", .reload = true),
    I("identity.argon2_memory_kib", NULL,        argon2_memory_kib,   "65536", 8192, 4194304, "Memory of one password hash."),
    I("identity.argon2_passes",   NULL,          argon2_passes,       "3", 1, 64,        "Passes of one password hash."),
    S("mail.smtp_url",            NULL,          smtp_url,            "",                "smtp://HOST:PORT or smtps://…; empty: mails are written to the state folder.", .reload = true),
    S("mail.smtp_user",           NULL,          smtp_user,           "",                "User at the mail server.", .reload = true),
    S("mail.smtp_password_file",  NULL,          smtp_password_file,  "",                "File that holds that user's password.", .reload = true),
    S("mail.from",                NULL,          mail_from,           "brume@localhost", "Sender of mails.", .reload = true),
    S("platform.region",          "region",      region,              "local",           "Region in ARNs and availability zones."),
    S("platform.default_plan",    NULL,          default_plan,        "enterprise",      "Plan of the first tenant; others have the plan of the tenant they are made from.", .words = " free starter standard professional enterprise ", .reload = true),
    S("platform.shares",          NULL,          shares,              "{}",              "What a tenant may have at once of what all share, as JSON: {\"streams\":{\"total\":256,\"free\":4}}; what is not named stays as it is."),
    I("platform.idempotency_hours", NULL,        idempotency_hours,   "24", 24, 720,     "Hours for which answers to keyed requests are kept.", .reload = true),
    I("platform.audit_days",      NULL,          audit_days,          "90", 1, 3650,     "Days for which audit records are kept.", .reload = true),
    I("platform.events_days",     NULL,          events_days,         "30", 1, 3650,     "Days for which events are kept.", .reload = true),
    S("compute.runtime",          NULL,          runtime,             "auto",            "OCI runtime: auto, crun or runc.", .words = " auto crun runc "),
    I("compute.port_min",         NULL,          port_min,            "30000", 1, 65535, "First port that port 0 may pick."),
    I("compute.port_max",         NULL,          port_max,            "32767", 1, 65535, "Last port that port 0 may pick."),
    S("compute.transit_cidr",     NULL,          transit_cidr,        "198.18.0.0/15",   "Addresses between the host and its VPCs; no VPC may touch them."),
    S("compute.instance_types",   NULL,          instance_types,      INSTANCE_TYPES,    "Instance types as a JSON list."),
    S("compute.debian_mirror",    NULL,          debian_mirror,       "",                "Mirror for built-in images; empty: the host's own."),
    S("compute.allowed_registries", NULL,        allowed_registries,  "",                "Registries at internal addresses that images may come from: hosts (with :port or without) and networks, separated by commas."),
    B("compute.fake_drivers",     NULL,          fake_drivers,        "false",           "Live mode runs on the simulation too: for tests of the API alone."),
    S("outgoing.allowed_networks", NULL,         allowed_networks,    "",                "Networks at internal addresses that requests to tenants' URLs may lead to, separated by commas."),
    I("outgoing.deliveries_days", NULL,          deliveries_days,     "30", 1, 3650,     "Days for which deliveries that came to an end are kept.", .reload = true),
    S("log.level",                "log-level",   log_level,           "info",            "Least level that is logged.", .words = " debug info warn error ", .reload = true),
    S("log.format",               "log-format",  log_format,          "json",            "json or text.", .words = " json text "),
};
const size_t config_n_keys = ARRAY_LEN(config_keys);
_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) <= CONFIG_MAX_KEYS, "too many keys");

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

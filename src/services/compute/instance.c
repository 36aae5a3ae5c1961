/* SPDX-License-Identifier: Apache-2.0 */
/* Instances as the API sees them: rows that say what is wanted.  Nothing here touches a host; the
 * loop in instance_loop.c takes the hosts there. */
#include "codec/id.h"
#include "codec/text.h"
#include "services/compute/compute_private.h"

extern const struct migration compute_migrations[];

static const struct enum_name status_names[] = {
    { INSTANCE_PENDING, "pending" },       { INSTANCE_PROVISIONING, "provisioning" },
    { INSTANCE_RUNNING, "running" },       { INSTANCE_STOPPED, "stopped" },
    { INSTANCE_PAUSED, "paused" },         { INSTANCE_RESTARTING, "restarting" },
    { INSTANCE_ERROR, "error" },           { INSTANCE_TERMINATING, "terminating" },
    { INSTANCE_TERMINATED, "terminated" }, { 0 },
};
static const struct enum_name wanted_names[] = { { INSTANCE_RUNNING, "running" },
                                                 { INSTANCE_STOPPED, "stopped" },
                                                 { INSTANCE_PAUSED, "paused" },
                                                 { 0 } };
static const struct enum_name driver_names[] = { { DRIVER_CONTAINER, "container" },
                                                 { DRIVER_VM, "vm" },
                                                 { 0 } };
static const struct enum_name policy_names[] = { { RESTART_ON_FAILURE, "on-failure" },
                                                 { RESTART_ALWAYS, "always" },
                                                 { RESTART_NEVER, "never" },
                                                 { 0 } };

/* ---- the table */

const char *check_env(const char *key, const char *value _unused_, const char **code _unused_)
{
    return !*key ? "must have a name" : strchr(key, '=') ? "must have no '=' in its name" : NULL;
}

static const char *check_cmd(struct arena *a, const char **v)
{
    struct texts words;

    return texts_read(a, *v, &words) && words.n && words.v[0][0] ? NULL
                                                                 : "must begin with a command";
}

/* Its name is a host name, and resolves in its VPC by whatever its programs resolve names with. */
static const char *check_host_name(struct arena *a, const char **v)
{
    const char *wrong = form_name.check(a, v), *s = *v;
    bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X') && s[2];

    if (wrong)
        return wrong;
    if (s[strlen(s) - 1] == '-')
        return "must end with a letter or a digit, as host names do";
    if (s[strspn(s, "0123456789")] == '\0' ||
        (hex && s[2 + strspn(s + 2, "0123456789abcdefABCDEF")] == '\0'))
        return "must not be a number, which resolvers take for an address";
    if (strcasecmp(s, "localhost") == 0 || strcasecmp(s, "ip6-localhost") == 0)
        return "must not be a name that every instance has for itself";
    return NULL;
}

static const struct form form_host_name = {
    .check = check_host_name,
    .pattern = "^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9_])?$",
    .example = "web-1",
};

struct volume_mount {
    const char *volume_id, *mount_path;
};
/* clang-format off */
static const struct field volume_mount_fields[] = {
    FIELD_STR(struct volume_mount, volume_id,  FF_CREATE | FF_REQUIRED, .min = 1, .max = 64,   .doc = "Volume."),
    FIELD_STR(struct volume_mount, mount_path, FF_CREATE | FF_REQUIRED, .min = 1, .max = 4096, .doc = "Where it is seen in the instance."),
};
/* clang-format on */
static const struct record volume_mount_record = RECORD(volume_mount, NULL, volume_mount_fields);

/* clang-format off */
#define T struct instance
static const struct field instance_fields[] = {
    OWNED_FIELDS(T),
    FIELD_STR (T, name,           FF_CREATE | FF_UPDATE | FF_REQUIRED | FF_FILTER | FF_SORT, .min = 1, .max = 63, .form = &form_host_name,
                                  .doc = "Unique within the tenant, and within its VPC whatever its case; its host name."),
    FIELD_STR (T, image,          FF_CREATE | FF_REQUIRED | FF_FILTER, .min = 1, .max = 255, .example = "nginx", .doc = "A built-in image, an image of yours, or a registry's reference."),
    FIELD_STR (T, instance_type,  FF_CREATE | FF_FILTER | FF_ALWAYS, .min = 1, .max = 64, .dflt_str = "basic-1", .doc = "Size; see instance-types."),
    FIELD_ENUM(T, driver,         enum instance_driver, FF_CREATE | FF_FILTER | FF_PLANNED, .names = driver_names, .doc = "container or vm."),
    FIELD_ENUM(T, status,         enum instance_status, FF_UPDATE | FF_FILTER, .names = status_names, .accepts = wanted_names, .doc = "Where it is; set it to running, stopped or paused."),
    FIELD_STR (T, status_reason,  0, .max = 500, .doc = "Why, in plain words."),
    FIELD_REF (T, vpc_id,         vpc_record, FF_CREATE | FF_FILTER | FF_ALWAYS, .doc = "VPC it is in; the VPC default if left out."),
    FIELD_REF (T, subnet_id,      subnet_record, FF_CREATE | FF_FILTER | FF_ALWAYS, .doc = "Subnet it is in; the VPC's first if left out."),
    FIELD_STR (T, private_ip,     FF_FILTER | FF_ALWAYS, .doc = "Its address in the VPC."),
    FIELD_JSON(T, ports,          FF_CREATE, .max = 1024, .form = &form_ports, .check_entry = check_port, .doc = "Published ports, host:instance; host port 0 picks one."),
    FIELD_ROWS(T, volumes,        volume_mount_record, FF_CREATE | FF_VIRTUAL | FF_PLANNED, .max = 20, .doc = "Volumes to mount: not built yet."),
    FIELD_MAP (T, env,            FF_CREATE, .max = 100, .check_entry = check_env, .doc = "Environment of its command.", .example = "{\"TZ\":\"UTC\"}"),
    FIELD_LIST(T, entrypoint,     FF_CREATE, .min = 1, .max = 100, .check = check_cmd, .doc = "How its command begins, in the place of all that the image runs."),
    FIELD_LIST(T, cmd,            FF_CREATE, .min = 1, .max = 100, .check = check_cmd, .doc = "Command and arguments, after the entrypoint if there is one; the image's if left out."),
    FIELD_STR (T, user_data,      FF_CREATE | FF_SECRET, .max = 16384, .doc = "Kept for the instance's own use."),
    FIELD_ENUM(T, restart_policy, enum restart_policy, FF_CREATE | FF_UPDATE, .names = policy_names, .doc = "When its command ends: on-failure, always or never."),
    FIELD_INT (T, cpu_limit,      0, .doc = "Thousandths of a CPU."),
    FIELD_INT (T, memory_limit,   0, .doc = "Megabytes of memory."),
    FIELD_INT (T, disk_limit,     0, .doc = "Gigabytes of disk."),
    FIELD_INT (T, network_limit,  0, .doc = "Megabits a second."),
    FIELD_MAP (T, metadata,       FF_CREATE | FF_UPDATE | FF_CLEAR, .doc = "Data of your own."),
    FIELD_MAP (T, labels,         FF_CREATE | FF_UPDATE | FF_CLEAR, .alias = "tags", .doc = "Labels of your own."),
    FIELD_STR (T, node,           FF_ALWAYS, .doc = "Host it is on."),
    FIELD_TIME(T, started_at,     0, .doc = "When its command was last started."),
    FIELD_INT (T, exit_code,      FF_ABSENT_NEGATIVE, .doc = "How its command last ended; 128 and more: by a signal. Absent until it has ended."),
    FIELD_INT (T, restart_count,  0, .doc = "How often it was restarted."),
    { .name = "version", .type = F_INT, .flags = FF_VIRTUAL, .offset = offsetof(T, revision), .doc = "Counts its changes." },
    FIELD_UUID(T, image_id,       FF_HIDDEN, .doc = "Row of the image."),
    FIELD_ENUM(T, want,           enum compute_want, FF_HIDDEN, .names = compute_want_names, .doc = "What it should be."),
    FIELD_INT (T, boot,           FF_HIDDEN, .doc = "Start number."),
    FIELD_INT (T, failures,       FF_HIDDEN, .doc = "Quick ends in a row."),
    FIELD_INT (T, deadline_at,    FF_HIDDEN, .doc = "When a transition has taken too long."),
    FIELD_INT (T, deleted_at,     FF_HIDDEN, .doc = "When its deletion was asked for."),
    FIELD_STR (T, gateway_ip,     FF_HIDDEN, .doc = "Gateway of its subnet."),
    FIELD_STR (T, dns_ip,         FF_HIDDEN, .doc = "Resolver of its subnet."),
    FIELD_STR (T, vpc_cidr,       FF_HIDDEN, .doc = "Addresses of its VPC."),
    FIELD_STR (T, subnet_cidr,    FF_HIDDEN, .doc = "Addresses of its subnet."),
};
#undef T
/* clang-format on */
const struct quota quota_instances = { "instances", { 3, 10, 50, 200, 10000 } };
const struct quota quota_vcpus = { "vcpus", { 4, 20, 100, 500, 40000 } };
const struct quota quota_memory_mb = { "memory_mb", { 4096, 32768, 204800, 1048576, 100000000 } };

const struct record instance_record =
    RECORD(instance, "instances", instance_fields, .prefix = "inst", .arn_service = "compute",
           .arn_type = "instance",
           .unique = { "instances_vpc_name",
                       "is in this VPC already: names there differ by more than their case" });
const struct record unit_instance_record =
    RECORD(instance, "unit_instances", instance_fields, .quiet = true);

struct instance_resize {
    const char *instance_type;
};
/* clang-format off */
static const struct field instance_resize_fields[] = {
    FIELD_STR(struct instance_resize, instance_type, FF_CREATE | FF_REQUIRED, .min = 1, .max = 64, .example = "basic-2", .doc = "Size to have; see instance-types."),
};
/* clang-format on */
static const struct record instance_resize_record =
    RECORD(instance_resize, NULL, instance_resize_fields);

/* ---- launch and delete */

static void type_check(struct call *c, const char *type)
{
    if (type && !(c->checked = instance_type_find(c, type)))
        fault_add(c, "instance_type", "not_found", "there is no instance type '%s'", type);
}

static void launch_check(struct call *c)
{
    const struct instance *i = c->in;

    type_check(c, i->instance_type);
    if (i->image)
        image_check(c, i->image);
}

int instance_resized(struct call *c, struct instance *i, int64_t cpu_milli, int64_t memory_mb,
                     struct err *e)
{
    TRY(quota_take(c, &quota_vcpus, vcpus_of(cpu_milli) - vcpus_of(i->cpu_limit), e));
    TRY(quota_take(c, &quota_memory_mb, memory_mb - i->memory_limit, e));
    i->cpu_limit = cpu_milli;
    i->memory_limit = memory_mb;
    return 0;
}

static int instance_launch(struct call *c, struct err *e)
{
    const struct instance_type *type = c->checked;
    struct instance *i = c->in;
    struct image image;
    struct vpc vpc;
    struct subnet subnet;
    char ip[NETWORK_IP_TEXT], dns[NETWORK_IP_TEXT];

    int placed = network_place(c, &i->vpc_id, &i->subnet_id, &vpc, &subnet, e);
    if (placed < 0 && e->code != ERR_NOT_FOUND)
        return -1;
    struct err other; /* an image that is not there either is named beside it */
    TRY(image_for_launch(c, i->image, &image, placed < 0 ? &other : e));
    TRY(placed);
    TRY(quota_take(c, &quota_instances, 1, e));
    TRY(instance_resized(c, i, type->vcpus * 1000, type->memory_mb, e));
    i->status = INSTANCE_PENDING;
    i->image = image.name;
    i->image_id = image.id;
    i->vpc_id = vpc.id;
    i->subnet_id = subnet.id;
    i->vpc_cidr = vpc.cidr_block;
    i->subnet_cidr = subnet.cidr_block;
    i->gateway_ip = subnet.gateway_ip;
    i->disk_limit = type->disk_gb;
    i->network_limit = type->network_mbps;
    i->node = "local";
    i->want = COMPUTE_WANT_RUNNING;
    i->boot = 1;
    i->exit_code = -1;
    i->deadline_at = c->now + MINUTES(TRANSITION_MINUTES);
    uuid_new(app_clock(c->app), &i->id);
    TRY(network_address_take(c, &subnet, &i->id, ip, e));
    TRY(network_dns_ip(&subnet, dns, e));
    i->private_ip = arena_strdup(c->arena, ip);
    i->dns_ip = arena_strdup(c->arena, dns);
    TRY(call_insert(c, &instance_record, i, e));
    TRY(call_due(c, &instance_loop, &i->id, c->now, e));
    TRY(call_feed(c, &names_feed, &i->id, e));
    return reply_row(c, &instance_record, i);
}

/* It is shown, and counts, until its host has ended it; nothing waits for that but what it holds:
 * its name is free at once, and its VPC, subnet and image can be deleted, to go with it. */
int instance_end(struct call *c, const struct reconciler *loop, const struct instance *old,
                 struct err *e)
{
    const struct record *r = loop->record;
    struct instance i = *old;

    i.status = INSTANCE_TERMINATING;
    i.status_reason = NULL;
    i.deleted_at = c->now;
    i.deadline_at = c->now + MINUTES(TRANSITION_MINUTES);
    TRY(call_update(c, r, old, &i,
                    FIELD_SET(instance, status, status_reason, deleted_at, deadline_at), e));
    TRY(network_address_leave(c, &i.id, e));
    TRY(call_due(c, loop, &i.id, c->now, e));
    return call_feed(c, &names_feed, &i.id, e);
}

static int instance_delete(struct call *c, struct err *e)
{
    struct instance old;

    TRY(call_target(c, &instance_record, &old, e));
    if (old.deleted_at)
        return reply_deleted(c, "instance is being terminated");
    TRY(instance_end(c, &instance_loop, &old, e));
    return reply_deleted(c, "instance is being terminated");
}

int instance_there(struct call *c, struct instance *out, struct err *e)
{
    TRY(call_target(c, &instance_record, out, e));
    return call_stays(&instance_record, out, e);
}

struct grave {
    struct arena *arena;
    const char *body; /* NULL: there is none */
    bool destroyed;
};

static int grave_read(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct grave *g = ctx;

    g->body = arena_dup(g->arena, cols[0].s ? cols[0].s : "", cols[0].n);
    g->destroyed = cols[1].i != 0;
    return 0;
}

static const char sql_grave[] =
    "SELECT body, destroyed FROM instance_graves"
    " WHERE id = $1 AND tenant_id = $2 AND mode = $3 AND (deleted_at > $4 OR NOT destroyed)";

/* The row of a deleted instance; ERR_NOT_FOUND as 'miss' has it where there is none. */
static int grave_get(struct call *c, struct instance *i, const struct err *miss, struct err *e)
{
    struct grave g = { .arena = c->arena };
    const char *mode = enum_to_str(mode_names, (int)c->who->mode);

    TRY(db_each(c->db, sql_grave, ARGS(A(&c->id), A(&c->tenant), A(mode), A(c->now - HOURS(1))),
                grave_read, &g, e));
    if (g.body) {
        _cleanup_(json_freep) struct json_value *v = json_parse(str_of(g.body), e);
        if (!v)
            return -1;
        TRY(json_load_row(c->arena, &instance_record, v, i, e));
    }
    bool mine = g.body &&
                (uuid_is_nil(&c->who->project_id) || uuid_eq(&c->who->project_id, &i->project_id));
    if (!mine) {
        *e = *miss;
        return -1;
    }
    i->status = g.destroyed ? INSTANCE_TERMINATED : INSTANCE_TERMINATING;
    i->status_reason = g.destroyed ? "deleted" : NULL;
    i->revision += g.destroyed; /* it is not what it was: another ETag */
    return 0;
}

/* An instance that has gone is shown for an hour as terminated, by its id alone. */
static int instance_get(struct call *c, struct err *e)
{
    struct instance i = { 0 };

    if (crud_get(c, e) == 0)
        return 0;
    if (e->code != ERR_NOT_FOUND || uuid_is_nil(&c->id))
        return -1;
    struct err miss = *e;
    struct uuid id;
    if (call_param_id(c, "id", &instance_record, &id, e) < 0) { /* a right form, of another kind */
        *e = miss;
        return -1;
    }
    TRY(grave_get(c, &i, &miss, e));
    return reply_row(c, &instance_record, &i);
}

/* ---- what is wanted of it */

static int state_refused(const struct instance *i, const char *verb, struct err *e)
{
    return err_set(e, ERR_INVALID_STATE, "instance '%s' is %s: it cannot be %s", i->name,
                   enum_to_str(status_names, (int)i->status), verb);
}

uint64_t instance_want_fields(void)
{
    return FIELD_SET(instance, want, boot, status, status_reason, failures, deadline_at,
                     restart_count);
}

int instance_want(struct call *c, struct instance *i, enum compute_want want, bool again,
                  struct err *e)
{
    bool alive = i->status == INSTANCE_RUNNING || i->status == INSTANCE_PAUSED ||
                 i->status == INSTANCE_RESTARTING;

    if (want == COMPUTE_WANT_PAUSED && i->status != INSTANCE_RUNNING &&
        i->status != INSTANCE_PAUSED)
        return state_refused(i, "paused", e);
    if (want == COMPUTE_WANT_PAUSED && i->want == COMPUTE_WANT_STOPPED)
        return err_set(e, ERR_INVALID_STATE, "instance '%s' is being stopped: it cannot be paused",
                       i->name);
    if (again && !alive)
        return state_refused(i, "restarted", e);
    if (want == COMPUTE_WANT_STOPPED && i->status == INSTANCE_ERROR)
        return state_refused(i, "stopped", e);
    bool start = want == COMPUTE_WANT_RUNNING &&
                 (again || i->want == COMPUTE_WANT_STOPPED || i->status == INSTANCE_STOPPED ||
                  i->status == INSTANCE_ERROR);
    if (i->want == want && !start)
        return 0;
    i->want = want;
    i->failures = 0;
    i->deadline_at = again ? 0 : c->now + MINUTES(TRANSITION_MINUTES);
    i->status_reason = want == COMPUTE_WANT_STOPPED  ? "stopping"
                       : want == COMPUTE_WANT_PAUSED ? "pausing"
                                                     : "starting";
    if (start) {
        i->boot++;
        i->restart_count += again;
        i->status = again ? INSTANCE_RESTARTING : INSTANCE_PROVISIONING;
    }
    return 0;
}

static int instance_turn(struct call *c, enum compute_want want, bool again, struct err *e)
{
    struct instance old, i;

    TRY(call_target(c, &instance_record, &old, e));
    i = old;
    TRY(instance_want(c, &i, want, again, e));
    if (i.boot != old.boot)
        TRY(image_retry(c, &i.image_id, e));
    if (i.want != old.want || i.boot != old.boot) {
        TRY(call_update(c, &instance_record, &old, &i, instance_want_fields(), e));
        TRY(call_due(c, &instance_loop, &i.id, c->now, e));
    }
    return reply_row(c, &instance_record, &i);
}

static int instance_start(struct call *c, struct err *e)
{
    return instance_turn(c, COMPUTE_WANT_RUNNING, false, e);
}

static int instance_stop(struct call *c, struct err *e)
{
    return instance_turn(c, COMPUTE_WANT_STOPPED, false, e);
}

static int instance_restart(struct call *c, struct err *e)
{
    return instance_turn(c, COMPUTE_WANT_RUNNING, true, e);
}

static int instance_pause(struct call *c, struct err *e)
{
    return instance_turn(c, COMPUTE_WANT_PAUSED, false, e);
}

static int instance_resume(struct call *c, struct err *e)
{
    struct instance i;

    TRY(call_target(c, &instance_record, &i, e));
    if (i.status != INSTANCE_PAUSED && i.want != COMPUTE_WANT_PAUSED)
        return state_refused(&i, "resumed", e);
    return instance_turn(c, COMPUTE_WANT_RUNNING, false, e);
}

/* PUT and PATCH: the fields given, and 'status' as what is wanted. */
static int instance_update(struct call *c, struct err *e)
{
    const struct instance *in = c->in;
    uint64_t status = FIELD_SET(instance, status), set = c->set & ~status;
    struct instance old, i;

    TRY(call_target(c, &instance_record, &old, e));
    i = old;
    record_copy(&instance_record, &i, in, set);
    if (c->set & status)
        TRY(instance_want(c, &i,
                          in->status == INSTANCE_RUNNING   ? COMPUTE_WANT_RUNNING
                          : in->status == INSTANCE_STOPPED ? COMPUTE_WANT_STOPPED
                                                           : COMPUTE_WANT_PAUSED,
                          false, e));
    if (i.boot != old.boot)
        TRY(image_retry(c, &i.image_id, e));
    if (i.want != old.want || i.boot != old.boot)
        set |= instance_want_fields();
    if (set) {
        TRY(call_update(c, &instance_record, &old, &i, set, e));
        TRY(call_due(c, &instance_loop, &i.id, c->now, e));
        if (set & FIELD_SET(instance, name))
            TRY(call_feed(c, &names_feed, &i.id, e));
    }
    return reply_row(c, &instance_record, &i);
}

static void resize_check(struct call *c)
{
    type_check(c, ((const struct instance_resize *)c->in)->instance_type);
}

/* What runs gets more at once; less memory than it uses could end it, so that needs a stop.  The
 * disk stays as it was made. */
static int instance_resize(struct call *c, struct err *e)
{
    const struct record *r = &instance_record;
    const struct instance_type *type = c->checked;
    struct instance old, i;

    TRY(call_target(c, r, &old, e));
    if (type->memory_mb < old.memory_limit && old.want != COMPUTE_WANT_STOPPED)
        return err_set(e, ERR_INVALID_STATE,
                       "instance '%s' has %lld MB of memory and '%s' has less: stop it first",
                       old.name, (long long)old.memory_limit, type->id);
    i = old;
    TRY(instance_resized(c, &i, type->vcpus * 1000, type->memory_mb, e));
    i.instance_type = type->id;
    i.network_limit = type->network_mbps;
    TRY(call_update(c, r, &old, &i,
                    FIELD_SET(instance, instance_type, cpu_limit, memory_limit, network_limit), e));
    TRY(call_due(c, &instance_loop, &i.id, c->now, e));
    return reply_row(c, r, &i);
}

static const struct reconciler *const compute_loops[] = { &image_loop, &instance_loop, &unit_loop,
                                                          NULL };
static const struct feed_part *const compute_feeds[] = { &names_feed, NULL };

/* clang-format off */
#define I &instance_record
#define G &image_record
static const struct route compute_routes[] = {
    /*        path                        action               work   handler               in                     out                           */
    { POST,   "/instances",               "instance:launch",   WRITE, instance_launch,      I,                     I,    201, "Launches an instance.", .check = launch_check },
    { GET,    "/instances",               "instance:list",     QUICK, crud_list,            NULL,                  I,    200, "Lists instances.", .list = true },
    { GET,    "/instances/{id}",          "instance:get",      QUICK, instance_get,         NULL,                  I,    200, "Shows one instance.", .by_name = true },
    { PUT,    "/instances/{id}",          "instance:update",   WRITE, instance_update,      I,                     I,    200, "Starts, stops or pauses an instance, or changes it.", .by_name = true, .partial = true, .name = "putInstance" },
    { PATCH,  "/instances/{id}",          "instance:update",   WRITE, instance_update,      I,                     I,    200, "Changes an instance.", .by_name = true },
    { DELETE, "/instances/{id}",          "instance:terminate", WRITE, instance_delete,     NULL,                  NULL, 204, "Terminates an instance: it is terminating until it has gone.", .by_name = true },
    { POST,   "/instances/{id}/start",    "instance:update",   WRITE, instance_start,       NULL,                  I,    200, "Starts a stopped instance.", .by_name = true },
    { POST,   "/instances/{id}/stop",     "instance:update",   WRITE, instance_stop,        NULL,                  I,    200, "Stops an instance; its files stay.", .by_name = true },
    { POST,   "/instances/{id}/restart",  "instance:update",   WRITE, instance_restart,     NULL,                  I,    200, "Stops and starts an instance.", .by_name = true },
    { POST,   "/instances/{id}/pause",    "instance:update",   WRITE, instance_pause,       NULL,                  I,    200, "Freezes an instance.", .by_name = true },
    { POST,   "/instances/{id}/resume",   "instance:update",   WRITE, instance_resume,      NULL,                  I,    200, "Lets a frozen instance go on.", .by_name = true },
    { POST,   "/instances/{id}/resize",   "instance:update",   WRITE, instance_resize,      &instance_resize_record, I,  200, "Gives an instance another type; its disk stays as it is.", .by_name = true, .check = resize_check },
    { GET,    "/instances/{id}/logs",     "instance:logs",     STREAM, instance_logs,       NULL,                  NULL, 200, "Shows what an instance has printed, as text or as server-sent events.", .by_name = true, .query = &instance_logs_query, .asks_host = true, .produces = "text/plain; charset=utf-8", .example = "GET / 200" },
    { GET,    "/instances/{id}/stats",    "instance:stats",    LONG,  instance_stats,       NULL,                  &compute_stats_record, 200, "Shows what an instance uses.", .by_name = true, .class = CLASS_READ },
    { POST,   "/instances/{id}/exec",     "instance:exec",     LONG,  instance_exec,        &instance_exec_record, &instance_exec_result_record, 200, "Runs a command in an instance; its output is cut at 1 MiB each.", .by_name = true, .check = instance_exec_check },
    { GET,    "/instances/{id}/console",  "instance:console",  READ,  instance_console,     NULL,                  NULL, 200, "The console of a virtual machine: not built yet.", .by_name = true, .planned = true },
    { GET,    "/instance-types",          "instance:list-types", READ, instance_types,        NULL,                  &instance_type_record, 200, "Lists instance types.", .rows = true },
    { POST,   "/images",                  "image:create",      WRITE, image_create,         G,                     G,    201, "Gets an image: builds a recipe or pulls from a registry." },
    { GET,    "/images",                  "image:list",        QUICK, crud_list,            NULL,                  G,    200, "Lists images.", .list = true },
    { GET,    "/images/recipes",          "image:list",        LONG,  image_recipes_route,  NULL,                  &image_recipe_record, 200, "Lists the built-in images.", .class = CLASS_READ, .rows = true },
    { POST,   "/images/import",           "image:import",      LONG,  image_import_route,   NULL,                  G,    201, "Imports an archive: the body is the file.", .body = BODY_RAW, .admit = image_import_admit, .body_max = GIB(20), .query = &image_import_query, .check = image_import_check, .body_quota = &quota_image_bytes, .sums = BLOB_SHA256 },
    { GET,    "/images/{id}/archive",     "image:archive",     READ,  image_archive,        NULL,                  NULL, 200, "Gives back what was imported, byte for byte; a download that broke off goes on by Range.", .by_name = true, .bytes = true, .produces = "application/octet-stream", .fails = "409" },
    { GET,    "/images/{id}",             "image:get",         QUICK, crud_get,             NULL,                  G,    200, "Shows one image.", .by_name = true },
    { PATCH,  "/images/{id}",             "image:update",      WRITE, crud_patch,           G,                     G,    200, "Changes an image's tags.", .by_name = true },
    { DELETE, "/images/{id}",             "image:delete",      WRITE, image_delete,         NULL,                  NULL, 204, "Deletes an image that no instance uses, or only such as are being deleted.", .by_name = true },
    { 0 },
};
/* clang-format on */

static const struct quota *const compute_quotas[] = { &quota_instances,   &quota_vcpus,
                                                      &quota_memory_mb,   &quota_images,
                                                      &quota_image_bytes, NULL };

/* clang-format off */
static const struct planned compute_planned[] = {
    { "GET POST",   "/instances/{id}/snapshots" },
    { "GET POST",   "/ssh-keys" },
    { "GET DELETE", "/ssh-keys/{id}" },
    { 0 },
};
/* clang-format on */

const struct service compute_service = {
    .name = "compute",
    .doc = "Instances and images.",
    .migrations = compute_migrations,
    .routes = compute_routes,
    .planned = compute_planned,
    .loops = compute_loops,
    .feeds = compute_feeds,
    .quotas = compute_quotas,
    .settings = &instance_settings,
};

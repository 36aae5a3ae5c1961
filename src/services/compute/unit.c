/* SPDX-License-Identifier: Apache-2.0 */
/* Units as their services see them: rows that say what is wanted.  A unit is the row of an instance
 * in a table that no route reads, and beside it what instances do not have.  What takes hosts there
 * is instance_loop.c's, by unit_loop.c. */
#include "codec/id.h"
#include "codec/text.h"
#include "services/compute/compute_private.h"

enum { OWN_FIRST = 3, OWN_LAST = 254, CHECK_SECONDS = 10, CHECK_TIMEOUT_SECONDS = 2, MISSES = 3 };
/* Of the network that an owner's units have to themselves; .1 is the gateway, .2 the resolver. */
#define OWN_CIDR "10.0.0.0/24"
#define OWN_IP   "10.0.0."

static const struct enum_name check_names[] = { { UNIT_CHECK_NONE, "none" },
                                                { UNIT_CHECK_TCP, "tcp" },
                                                { UNIT_CHECK_HTTP, "http" },
                                                { UNIT_CHECK_EXEC, "exec" },
                                                { 0 } };
/* clang-format off */
#define T struct unit
static const struct field unit_fields[] = {
    FIELD_UUID(T, id,              0, .doc = "Its instance's."),
    FIELD_STR (T, owner_loop,      0, .doc = "Loop that visits its owner."),
    FIELD_UUID(T, owner_id,        0, .doc = "Row that owns it."),
    FIELD_STR (T, digest,          0, .doc = "Of its image, once it is known."),
    FIELD_STR (T, data,            0, .doc = "Folder that outlives its root."),
    FIELD_INT (T, root,            0, .doc = "Number of its root."),
    FIELD_STR (T, files,           FF_SECRET, .doc = "Its files, sealed."),
    FIELD_INT (T, files_revision,  0, .doc = "Number of its files."),
    FIELD_INT (T, files_done,      0, .doc = "Number of those that its host has."),
    FIELD_INT (T, done_revision,   0, .doc = "Order that its host has done."),
    FIELD_LIST(T, reload,          0, .doc = "Command after its files were replaced."),
    FIELD_BOOL(T, reload_due,      0, .doc = "That has not run yet."),
    FIELD_ENUM(T, check_kind,      enum unit_check, 0, .names = check_names, .doc = "How it is asked whether it is well."),
    FIELD_INT (T, check_port,      0, .doc = "Port that is asked."),
    FIELD_STR (T, check_path,      0, .doc = "Path that is asked for."),
    FIELD_LIST(T, check_cmd,       0, .doc = "Command that asks."),
    FIELD_INT (T, check_interval,  0, .doc = "Microseconds between two looks."),
    FIELD_INT (T, check_timeout,   0, .doc = "Microseconds of a look."),
    FIELD_INT (T, check_threshold, 0, .doc = "Looks that fail before it is not ready."),
    FIELD_INT (T, ready_boot,      0, .doc = "Start that was found ready."),
    FIELD_INT (T, misses,          0, .doc = "Looks in a row that failed."),
    FIELD_STR (T, check_fault,     0, .doc = "What the last look found wrong."),
};
#undef T
/* clang-format on */
const struct record unit_record = RECORD(unit, "units", unit_fields, .quiet = true);

/* ---- reading */

static const char sql_unit[] = "SELECT @ FROM units WHERE id = $1";

int unit_get(struct db *db, struct arena *a, const struct uuid *id, struct unit *out, struct err *e)
{
    return db_one(db, a, &unit_record, sql_unit, ARGS(A(id)), out, e);
}

/* Both rows, locked; of this call's tenant, where it has one.  False: there is none. */
static int unit_take(struct call *c, const struct uuid *id, struct instance *i, struct unit *u,
                     bool *found, struct err *e)
{
    struct rows got;

    TRY(db_query(c->db, c->arena, &unit_instance_record,
                 "SELECT @ FROM unit_instances WHERE id = $1 /*pg: FOR UPDATE */", ARGS(A(id)),
                 &got, e));
    *found = got.n == 1;
    if (!*found)
        return 0;
    *i = *(const struct instance *)got.v;
    if (!uuid_is_nil(&c->tenant) && !uuid_eq(&c->tenant, &i->tenant_id))
        return err_cause(e, ERR_INTERNAL, "a unit of another tenant", "internal error");
    return unit_get(c->db, c->arena, id, u, e);
}

static enum unit_status status_of(const struct instance *i, const struct unit *u)
{
    if (i->deleted_at)
        return UNIT_GOING;
    switch (i->status) {
    case INSTANCE_RUNNING:
        return u->check_kind == UNIT_CHECK_NONE || u->ready_boot == i->boot ? UNIT_READY
                                                                            : UNIT_RUNNING;
    case INSTANCE_STOPPED:
    case INSTANCE_PAUSED:
        return UNIT_STOPPED;
    case INSTANCE_ERROR:
        return UNIT_FAILED;
    case INSTANCE_TERMINATING:
    case INSTANCE_TERMINATED:
        return UNIT_GOING;
    case INSTANCE_PENDING:
    case INSTANCE_PROVISIONING:
    case INSTANCE_RESTARTING:
        break;
    }
    return UNIT_STARTING;
}

static void show(struct arena *a, const struct instance *i, const struct unit *u,
                 struct unit_state *out)
{
    enum unit_status status = status_of(i, u);

    *out =
        (struct unit_state){ .id = i->id,
                             .status = status,
                             .name = i->name,
                             .reason = status == UNIT_RUNNING ? u->check_fault : i->status_reason,
                             .ip = i->private_ip,
                             .ports = ports_for_host(a, i->ports),
                             .exit_code = i->exit_code,
                             .started_at = i->started_at,
                             .restarts = i->restart_count,
                             .files = u->files_done };
}

static int show_all(struct db *db, struct arena *a, const char *where, const struct uuid *id,
                    struct unit_state **out, size_t *n, struct err *e)
{
    struct rows instances, units;
    size_t k = 0;

    TRY(db_query(db, a, &unit_instance_record,
                 arena_printf(a,
                              "SELECT @ FROM unit_instances WHERE id IN"
                              " (SELECT id FROM units WHERE %s = $1) ORDER BY id",
                              where),
                 ARGS(A(id)), &instances, e));
    TRY(db_query(db, a, &unit_record,
                 arena_printf(a, "SELECT @ FROM units WHERE %s = $1 ORDER BY id", where),
                 ARGS(A(id)), &units, e));
    *out = arena_new_n(a, struct unit_state, instances.n);
    *n = 0;
    for (size_t j = 0; j < instances.n; j++) { /* one may come or go between the two */
        const struct instance *i = (const struct instance *)instances.v + j;
        const struct unit *u = units.v;

        while (k < units.n && strcmp(u[k].id.s, i->id.s) < 0)
            k++;
        if (k < units.n && uuid_eq(&u[k].id, &i->id))
            show(a, i, &u[k], &(*out)[(*n)++]);
    }
    return 0;
}

int unit_look(struct db *db, struct arena *a, const struct uuid *id, struct unit_state *out,
              struct err *e)
{
    struct unit_state *all;
    size_t n;

    TRY(show_all(db, a, "id", id, &all, &n, e));
    *out = n ? all[0] : (struct unit_state){ .id = *id, .status = UNIT_GONE, .exit_code = -1 };
    return 0;
}

int unit_list(struct db *db, struct arena *a, const struct uuid *owner_id, struct unit_state **out,
              size_t *n, struct err *e)
{
    return show_all(db, a, "owner_id", owner_id, out, n, e);
}

int unit_count(struct db *db, const struct uuid *owner_id, int64_t *n, struct err *e)
{
    return db_int(db, "SELECT count(*) FROM units WHERE owner_id = $1", ARGS(A(owner_id)), 0, n, e);
}

int unit_host(struct app *app, struct db *db, const struct uuid *id, struct compute **out,
              struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(4));
    struct text_out mode = { .arena = &a };

    TRY(db_each(db, "SELECT mode FROM unit_instances WHERE id = $1", ARGS(A(id)), take_text, &mode,
                e));
    if (!mode.s)
        return err_set(e, ERR_NOT_FOUND, "there is no such unit");
    *out = app_compute(app, (enum mode)enum_from_str(mode_names, mode.s));
    return 0;
}

/* ---- what a spec says */

static int wrong(struct err *e, const char *what)
{
    return err_set(e, ERR_INVALID, "a unit's %s is not as it must be", what);
}

static int check_health(const struct unit_health *h, struct err *e)
{
    bool asks = h->kind == UNIT_CHECK_TCP || h->kind == UNIT_CHECK_HTTP;

    if (asks && (h->port < 1 || h->port > 65535))
        return wrong(e, "port of health");
    if (h->kind == UNIT_CHECK_HTTP && (!h->path || h->path[0] != '/'))
        return wrong(e, "path of health");
    if (h->kind == UNIT_CHECK_EXEC && !h->cmd)
        return wrong(e, "command of health");
    if (h->timeout < 0 || h->timeout > COMPUTE_PROBE_MAX || h->interval < 0 || h->threshold < 0)
        return wrong(e, "health");
    return 0;
}

static int check_limits(const struct unit_spec *s, struct err *e)
{
    return s->cpu_milli > 0 && s->memory_mb > 0 && s->disk_gb >= 0 && s->network_mbps >= 0
               ? 0
               : wrong(e, "limit");
}

static int check_spec(const struct unit_spec *s, struct err *e)
{
    size_t n = s->name ? strlen(s->name) : 0;

    if (n < 1 || n > 63 || s->name[strspn(s->name, "abcdefghijklmnopqrstuvwxyz0123456789-")] ||
        s->name[0] == '-' || s->name[n - 1] == '-')
        return wrong(e, "name");
    if (s->data && (s->data[0] != '/' || !s->data[1] || strstr(s->data, "..")))
        return wrong(e, "folder of data");
    TRY(check_limits(s, e));
    return check_health(&s->health, e);
}

static int take_files(struct call *c, const struct unit_spec *s, struct unit *u, struct err *e)
{
    u->files_revision++;
    u->files = NULL;
    u->reload = s->reload;
    if (!s->n_files && u->files_revision == 1)
        return 0;
    const char *text = compute_files_text(c->arena, s->files, s->n_files, e);
    if (!text)
        return -1;
    u->files = app_seal(c->app, c->arena, str_of(text), str_of(u->id.s));
    return 0;
}

/* A built-in recipe has no row of the tenant's; what the tenant named has. */
static int take_image(struct call *c, const struct unit_spec *s, struct instance *i, struct unit *u,
                      struct err *e)
{
    struct image image = { 0 };

    u->digest = NULL;
    i->image = s->image;
    i->image_id = (struct uuid){ "" };
    i->entrypoint = s->entrypoint;
    i->cmd = s->cmd;
    i->env = s->env;
    if (s->image_of_tenant) {
        TRY(image_for_launch(c, s->image, &image, e));
        i->image = image.name;
        i->image_id = image.id;
        return 0;
    }
    for (const struct image_recipe *r = image_recipes; r->name; r++)
        if (s->image && strcmp(r->name, s->image) == 0)
            return 0;
    return err_set(e, ERR_NOT_FOUND, "there is no recipe '%s'", s->image ? s->image : "");
}

/* ---- where it is */

/* The lowest number that no unit there has: on PostgreSQL the index says who was second. */
static const char sql_own_ips[] = "SELECT private_ip FROM unit_instances WHERE vpc_id = $1";

static int ip_taken(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    const char *last = strrchr(cols[0].s, '.');
    bool *taken = ctx;
    int64_t number;

    if (last && int_parse(str_of(last + 1), 0, 255, &number))
        taken[number] = true;
    return 0;
}

static int place_alone(struct call *c, const struct uuid *owner_id, struct instance *i,
                       struct err *e)
{
    bool taken[256] = { false };
    int number = OWN_FIRST;

    TRY(db_each(c->db, sql_own_ips, ARGS(A(owner_id)), ip_taken, taken, e));
    while (number <= OWN_LAST && taken[number])
        number++;
    if (number > OWN_LAST)
        return err_set(e, ERR_QUOTA_EXCEEDED, "an owner has %d units at most",
                       OWN_LAST - OWN_FIRST + 1);
    i->vpc_id = *owner_id;
    i->vpc_cidr = i->subnet_cidr = OWN_CIDR;
    i->gateway_ip = OWN_IP "1";
    i->dns_ip = OWN_IP "2";
    i->private_ip = arena_printf(c->arena, OWN_IP "%d", number);
    return 0;
}

static int place_in_vpc(struct call *c, const struct unit_spec *s, const struct record *owner,
                        struct instance *i, struct err *e)
{
    char ip[NETWORK_IP_TEXT], dns[NETWORK_IP_TEXT];
    struct vpc vpc;
    struct subnet subnet;

    TRY(network_place(c, &s->vpc_id, &s->subnet_id, &vpc, &subnet, e));
    i->vpc_id = vpc.id;
    i->subnet_id = subnet.id;
    i->vpc_cidr = vpc.cidr_block;
    i->subnet_cidr = subnet.cidr_block;
    i->gateway_ip = subnet.gateway_ip;
    TRY(network_address_take(c, &subnet, &i->id, ip, e));
    TRY(network_dns_ip(&subnet, dns, e));
    i->private_ip = arena_strdup(c->arena, ip);
    i->dns_ip = arena_strdup(c->arena, dns);
    i->name = arena_printf(c->arena, "%s.%s.service.internal", s->name, owner->name);
    return 0;
}

/* ---- writing */

static void take_health(const struct unit_health *h, struct unit *u)
{
    u->check_kind = h->kind;
    u->check_port = h->port;
    u->check_path = h->path;
    u->check_cmd = h->cmd;
    u->check_interval = h->interval ? h->interval : SECONDS(CHECK_SECONDS);
    u->check_timeout = h->timeout ? h->timeout : SECONDS(CHECK_TIMEOUT_SECONDS);
    u->check_threshold = h->threshold ? h->threshold : MISSES;
}

static int insert(struct call *c, struct instance *i, const struct unit *u, struct err *e)
{
    if (call_insert(c, &unit_instance_record, i, e) < 0) {
        if (e->code == ERR_ALREADY_EXISTS && strstr(e->cause, "ip"))
            e->code = ERR_BUSY; /* another launch has just taken the address: run again */
        return -1;
    }
    TRY(db_insert(c->db, c->arena, &unit_record, u, e));
    TRY(call_due(c, &unit_loop, &i->id, c->now, e));
    return call_feed(c, &names_feed, &i->id, e);
}

static int take_ports(struct call *c, const struct unit_spec *s, struct instance *i, struct err *e)
{
    if (!s->ports)
        return 0;
    i->ports = arena_printf(c->arena, "\"%s\"", s->ports);
    return ports_check(c->arena, &i->ports) ? wrong(e, "list of ports") : 0;
}

int unit_launch(struct call *c, const struct reconciler *owner, const struct uuid *owner_id,
                const struct unit_spec *s, struct uuid *id, struct err *e)
{
    struct instance i = { .name = s->name,
                          .instance_type = "unit",
                          .status = INSTANCE_PENDING,
                          .restart_policy = s->restart,
                          .disk_limit = s->disk_gb,
                          .network_limit = s->network_mbps,
                          .node = "local",
                          .want = COMPUTE_WANT_RUNNING,
                          .boot = 1,
                          .exit_code = -1,
                          .deadline_at = c->now + MINUTES(TRANSITION_MINUTES) };
    struct unit u = { .owner_loop = owner->name, .owner_id = *owner_id };

    TRY(check_spec(s, e));
    uuid_new(app_clock(c->app), &i.id);
    u.id = i.id;
    u.data = s->data;
    take_health(&s->health, &u);
    TRY(take_ports(c, s, &i, e));
    TRY(take_files(c, s, &u, e));
    TRY(uuid_is_nil(&s->vpc_id) ? place_alone(c, owner_id, &i, e)
                                : place_in_vpc(c, s, owner->record, &i, e));
    TRY(take_image(c, s, &i, &u, e));
    TRY(instance_resized(c, &i, s->cpu_milli, s->memory_mb, e));
    TRY(insert(c, &i, &u, e));
    *id = i.id;
    return 0;
}

/* Both rows as they are now: the instance's gets a new revision also where none of its fields
 * changed, for that is the number of the order. */
static int write_both(struct call *c, const struct instance *old, struct instance *i, uint64_t set,
                      const struct unit *u, struct err *e)
{
    uint64_t all = (UINT64_C(1) << unit_record.n_fields) - 1;

    TRY(call_update(c, &unit_instance_record, old, i, set, e));
    TRY(db_update(c->db, c->arena, &unit_record, u, all & ~FIELD_SET(unit, id), e));
    TRY(unit_told(c, &i->id, e));
    return call_due(c, &unit_loop, &i->id, c->now, e);
}

static int must_stay(bool found, const struct instance *i, struct err *e)
{
    if (!found)
        return err_set(e, ERR_NOT_FOUND, "there is no such unit");
    return i->deleted_at ? err_set(e, ERR_INVALID_STATE, "unit '%s' is being removed", i->name) : 0;
}

int unit_change(struct call *c, const struct uuid *id, const struct unit_spec *s, unsigned what,
                struct err *e)
{
    uint64_t set = 0;
    struct instance old, i;
    struct unit u;
    bool found;

    TRY(unit_take(c, id, &old, &u, &found, e));
    TRY(must_stay(found, &old, e));
    i = old;
    if (what & UNIT_FILES)
        TRY(take_files(c, s, &u, e));
    if (what & UNIT_LIMITS) {
        TRY(check_limits(s, e));
        TRY(instance_resized(c, &i, s->cpu_milli, s->memory_mb, e));
        set |= FIELD_SET(instance, cpu_limit, memory_limit);
    }
    if (what & UNIT_ROOT) {
        TRY(take_image(c, s, &i, &u, e));
        u.root++;
        set |= FIELD_SET(instance, image, image_id, entrypoint, cmd, env);
    }
    bool again = (what & UNIT_ROOT) || ((what & UNIT_FILES) && !u.reload) ||
                 i.memory_limit < old.memory_limit;
    u.reload_due = !again && (u.reload_due || (what & UNIT_FILES));
    if (again && i.want == COMPUTE_WANT_RUNNING) { /* what is stopped finds it at its next start */
        i.boot++;
        i.failures = 0;
        i.status = INSTANCE_PROVISIONING;
        i.status_reason = "starting";
        i.deadline_at = c->now + MINUTES(TRANSITION_MINUTES);
        set |= instance_want_fields();
    }
    TRY(write_both(c, &old, &i, set, &u, e));
    if (!uuid_is_nil(&old.image_id) && !uuid_eq(&old.image_id, &i.image_id))
        TRY(image_left(c, &old.image_id, e));
    return 0;
}

int unit_turn(struct call *c, const struct uuid *id, enum unit_turn turn, struct err *e)
{
    enum compute_want want = turn == UNIT_STOP ? COMPUTE_WANT_STOPPED : COMPUTE_WANT_RUNNING;
    struct instance old, i;
    struct unit u;
    bool found;

    TRY(unit_take(c, id, &old, &u, &found, e));
    TRY(must_stay(found, &old, e));
    if (turn == UNIT_STOP && old.status == INSTANCE_ERROR)
        return 0; /* nothing runs */
    i = old;
    bool alive = i.status == INSTANCE_RUNNING || i.status == INSTANCE_RESTARTING;
    TRY(instance_want(c, &i, want, turn == UNIT_RESTART && alive, e));
    if (i.want == old.want && i.boot == old.boot)
        return 0;
    if (i.boot != old.boot && !uuid_is_nil(&i.image_id))
        TRY(image_retry(c, &i.image_id, e));
    return write_both(c, &old, &i, instance_want_fields(), &u, e);
}

int unit_remove(struct call *c, const struct uuid *id, struct err *e)
{
    struct instance i;
    struct unit u;
    bool found;

    TRY(unit_take(c, id, &i, &u, &found, e));
    return found && !i.deleted_at ? instance_end(c, &unit_loop, &i, e) : 0;
}

int unit_leave(struct call *c, const struct uuid *owner_id, struct err *e)
{
    struct rows units;

    TRY(db_query(c->db, c->arena, &unit_record,
                 "SELECT @ FROM units WHERE owner_id = $1 ORDER BY id", ARGS(A(owner_id)), &units,
                 e));
    for (size_t k = 0; k < units.n; k++)
        TRY(unit_remove(c, &((const struct unit *)units.v)[k].id, e));
    return 0;
}

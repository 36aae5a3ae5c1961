/* SPDX-License-Identifier: Apache-2.0 */
/* Subnets, and which address belongs to which instance.  The first addresses are the gateway's (.1)
 * and the resolver's (.2); the last is the broadcast address. */
#include "core/config/config.h"
#include "services/network/network_private.h"

enum { RESERVED_FIRST = 3, RESERVED_LAST = 1, TRIES = 16 };

static const struct enum_name subnet_status_names[] = { { SUBNET_AVAILABLE, "available" },
                                                        { SUBNET_DELETING, "deleting" },
                                                        { SUBNET_ERROR, "error" },
                                                        { 0 } };

/* clang-format off */
#define T struct subnet
static const struct field subnet_fields[] = {
    OWNED_FIELDS(T),
    FIELD_REF (T, vpc_id,            vpc_record, FF_ALWAYS, .doc = "VPC it lies in."),
    FIELD_STR (T, name,              FF_CREATE | FF_UPDATE | FF_REQUIRED | FF_FILTER | FF_SORT, .min = 1, .max = 64, .form = &form_name,
                                     .doc = "Unique within the VPC."),
    FIELD_STR (T, cidr_block,        FF_CREATE | FF_REQUIRED, .max = 18, .form = &form_cidr_block,
                                     .doc = "Part of the VPC's addresses that no other subnet has."),
    FIELD_STR (T, availability_zone, FF_CREATE | FF_ALWAYS, .min = 1, .max = 64, .form = &form_name,
                                     .doc = "Zone; the region's first one if left out."),
    FIELD_STR (T, gateway_ip,        FF_ALWAYS, .doc = "Address of the gateway: the first."),
    FIELD_ENUM(T, status,            enum subnet_status, 0, .names = subnet_status_names, .doc = "available; or deleting, until its last instances have gone."),
    FIELD_STR (T, status_reason,     0, .max = 500, .doc = "Why, in plain words."),
    FIELD_MAP (T, tags,              FF_CREATE | FF_UPDATE | FF_CLEAR, .doc = "Labels of your own."),
    FIELD_INT (T, deleted_at,        FF_HIDDEN, .doc = "When its deletion was asked for."),
    FIELD_INT (T, available_ips,     FF_VIRTUAL, .doc = "Addresses that are free."),
};
#undef T
/* clang-format on */
const struct quota quota_subnets = { "subnets", { 4, 20, 100, 500, 50000 } };
static int subnet_count(struct call *c, void *row, struct err *e);
const struct record subnet_record =
    RECORD(subnet, "subnets", subnet_fields, .prefix = "sub", .arn_service = "vpc",
           .arn_type = "subnet", .quota = &quota_subnets, .show = subnet_count);

/* First and last address an instance can have, as numbers. */
static int subnet_range(const struct subnet *s, int64_t *first, int64_t *last, struct err *e)
{
    struct cidr c;

    if (!cidr_parse(str_of(s->cidr_block), true, &c) || c.ip.family != 4)
        return err_cause(e, ERR_INTERNAL, s->cidr_block, "internal error");
    int64_t base = ip4_num(&c.ip);
    *first = base + RESERVED_FIRST;
    *last = base + (INT64_C(1) << (32 - c.bits)) - 1 - RESERVED_LAST;
    return 0;
}

static const char *ip_text(struct arena *a, uint32_t n)
{
    char text[IP_TEXT];
    struct ip ip = ip4_from(n);

    ip_format(&ip, text);
    return arena_strdup(a, text);
}

static const char sql_used[] = "SELECT count(*) FROM subnet_addresses WHERE subnet_id = $1";

static int subnet_count(struct call *c, void *row, struct err *e)
{
    struct subnet *s = row;
    int64_t first, last, used;

    TRY(subnet_range(s, &first, &last, e));
    TRY(db_int(c->db, sql_used, ARGS(A(&s->id)), 0, &used, e));
    s->available_ips = last - first + 1 - used;
    return 0;
}

/* ---- handlers */

static const char sql_of_vpc[] = "SELECT @ FROM subnets WHERE vpc_id = $1 ORDER BY created_at, id";

/* The VPC's row is locked by the caller, so that of two overlapping subnets one sees the other. */
static int subnet_check(struct call *c, const struct vpc *vpc, const struct subnet *s,
                        struct err *e)
{
    struct cidr whole, own, other;
    struct rows all;

    if (!cidr_parse(str_of(vpc->cidr_block), true, &whole) ||
        !cidr_parse(str_of(s->cidr_block), true, &own))
        return err_cause(e, ERR_INTERNAL, vpc->cidr_block, "internal error");
    if (!cidr_within(&own, &whole)) {
        fault_add(c, "cidr_block", "out_of_range", "must lie in the VPC's %s", vpc->cidr_block);
        return call_faults(c, e);
    }
    TRY(db_query(c->db, c->arena, &subnet_record, sql_of_vpc, ARGS(A(&vpc->id)), &all, e));
    for (size_t i = 0; i < all.n; i++) {
        const struct subnet *x = &((struct subnet *)all.v)[i];

        if (cidr_parse(str_of(x->cidr_block), true, &other) && cidr_overlaps(&own, &other))
            return err_set(e, ERR_ALREADY_EXISTS, "%s overlaps subnet '%s' (%s)%s", s->cidr_block,
                           x->name, x->cidr_block, x->deleted_at ? ", which is being deleted" : "");
    }
    return 0;
}

static int subnet_make(struct call *c, const struct vpc *vpc, struct subnet *s, struct err *e)
{
    int64_t first, last;

    TRY(subnet_check(c, vpc, s, e));
    TRY(subnet_range(s, &first, &last, e));
    s->vpc_id = vpc->id;
    s->gateway_ip = ip_text(c->arena, (uint32_t)(first - RESERVED_FIRST + 1));
    if (!s->availability_zone)
        s->availability_zone = arena_printf(c->arena, "%sa", app_config(c->app)->region);
    return call_insert(c, &subnet_record, s, e);
}

int subnet_create(struct call *c, struct err *e)
{
    struct subnet *s = c->in;

    TRY(subnet_make(c, c->parent, s, e));
    return reply_shown(c, &subnet_record, s, e);
}

/* ---- the end of a subnet: with the last address in it */

static const char sql_staying[] =
    "SELECT count(*) FROM subnet_addresses WHERE subnet_id = $1 AND NOT leaving";

static int subnet_erase(struct call *c, const struct subnet *s, struct err *e)
{
    TRY(db_exec(c->db, "DELETE FROM network_counters WHERE name = $1", ARGS(A(&s->id)), e));
    TRY(call_delete(c, &subnet_record, s, e));
    return call_due(c, &vpc_loop, &s->vpc_id, c->now, e);
}

static int subnet_status_set(struct call *c, const struct subnet *old, struct subnet *s,
                             struct err *e)
{
    return call_update(c, &subnet_record, old, s,
                       FIELD_SET(subnet, status, status_reason, deleted_at), e);
}

/* '*gone': at once; else with its last instances. */
static int subnet_remove(struct call *c, const struct subnet *s, bool *gone, struct err *e)
{
    struct subnet now = *s;
    int64_t staying, used;

    TRY(db_int(c->db, sql_staying, ARGS(A(&s->id)), 0, &staying, e));
    if (staying > 0)
        return err_set(e, ERR_INVALID_STATE,
                       "subnet '%s' is in use by %lld instance%s: delete those first", s->name,
                       (long long)staying, staying == 1 ? "" : "s");
    TRY(db_int(c->db, sql_used, ARGS(A(&s->id)), 0, &used, e));
    *gone = used == 0;
    if (*gone)
        return subnet_erase(c, s, e);
    if (s->deleted_at)
        return 0;
    now.status = SUBNET_DELETING;
    now.status_reason = "waiting for the last instances in it to be gone";
    now.deleted_at = c->now;
    TRY(subnet_status_set(c, s, &now, e));
    return call_due(c, &subnet_loop, &s->id, c->now, e);
}

int subnet_delete(struct call *c, struct err *e)
{
    struct subnet s;
    bool gone;

    TRY(call_target(c, &subnet_record, &s, e));
    TRY(subnet_remove(c, &s, &gone, e));
    return reply_deleted(c, gone ? "subnet deleted" : "subnet is being deleted");
}

/* Nobody else deletes one of them meanwhile. */
static const char sql_all_locked[] =
    "SELECT @ FROM subnets WHERE vpc_id = $1 ORDER BY created_at, id /*pg: FOR UPDATE */";

int subnet_delete_all(struct call *c, const struct vpc *vpc, int64_t *left, struct err *e)
{
    struct rows all;

    *left = 0;
    TRY(db_query(c->db, c->arena, &subnet_record, sql_all_locked, ARGS(A(&vpc->id)), &all, e));
    for (size_t i = 0; i < all.n; i++) {
        bool gone;

        TRY(subnet_remove(c, &((struct subnet *)all.v)[i], &gone, e));
        *left += !gone;
    }
    return 0;
}

static int subnet_end(struct visit *v, struct call *c, void *arg _unused_, struct err *e)
{
    return subnet_erase(c, v->row, e);
}

static int subnet_late(struct visit *v, struct call *c, void *arg _unused_, struct err *e)
{
    const struct subnet *old = v->row;
    struct subnet now = *old;

    now.status = SUBNET_ERROR;
    now.status_reason =
        "it was not deleted in time: instances in it are not gone; it goes with them";
    return subnet_status_set(c, old, &now, e);
}

static int subnet_visit(struct visit *v, struct err *e)
{
    const struct subnet *now = v->row;
    bool ran = true;
    int64_t used;

    if (!now || !now->deleted_at)
        return visit_forget(v);
    TRY(db_int(v->db, sql_used, ARGS(A(&v->id)), 0, &used, e));
    if (used == 0) {
        TRY(visit_write(v, subnet_end, NULL, &ran, e));
        return ran ? visit_forget(v) : visit_again(v, 0);
    }
    if (now->status != SUBNET_ERROR && v->now > now->deleted_at + MINUTES(DELETION_MINUTES))
        TRY(visit_write(v, subnet_late, NULL, &ran, e));
    return visit_again(v, ran ? SECONDS(DELETION_LOOK_SECONDS) : 0);
}

const struct reconciler subnet_loop = {
    .name = "subnet",
    .record = &subnet_record,
    .visit = subnet_visit,
    .budget = SECONDS(1),
    .backoff = { SECONDS(1), SECONDS(60) },
    .sweep = "SELECT id FROM subnets WHERE deleted_at > 0",
};

/* Nobody deletes it before this transaction's end. */
static const char sql_keep[] =
    "SELECT 1 FROM subnets WHERE id = $1 AND deleted_at = 0 /*pg: FOR KEY SHARE */";
static const char sql_staying_of_vpc[] =
    "SELECT @ FROM subnets WHERE vpc_id = $1 AND deleted_at = 0 ORDER BY created_at, id";

int subnet_default(struct call *c, const struct vpc *vpc, struct subnet *out, struct err *e)
{
    struct cidr whole;
    struct rows all;
    char text[CIDR_TEXT];

    TRY(db_query(c->db, c->arena, &subnet_record, sql_staying_of_vpc, ARGS(A(&vpc->id)), &all, e));
    if (all.n > 0) {
        int64_t there;

        *out = *(struct subnet *)all.v;
        TRY(db_int(c->db, sql_keep, ARGS(A(&out->id)), 0, &there, e));
        return there ? 0 : err_set(e, ERR_BUSY, "subnet '%s' is being deleted", out->name);
    }
    if (!cidr_parse(str_of(vpc->cidr_block), true, &whole))
        return err_cause(e, ERR_INTERNAL, vpc->cidr_block, "internal error");
    whole.bits = MAX(whole.bits, 24);
    cidr_format(&whole, text);
    *out = (struct subnet){ .name = "default", .cidr_block = arena_strdup(c->arena, text) };
    return network_retry(subnet_make(c, vpc, out, e), e);
}

/* ---- addresses */

static const char sql_take[] =
    "INSERT INTO subnet_addresses (subnet_id, ip, instance_id) VALUES ($1, $2, $3)"
    " ON CONFLICT (subnet_id, ip) DO NOTHING";
/* The first address after a taken one that is free itself. */
static const char sql_gap[] =
    "SELECT min(a.ip) + 1 FROM subnet_addresses a WHERE a.subnet_id = $1 AND a.ip < $2"
    " AND NOT EXISTS (SELECT 1 FROM subnet_addresses b"
    "                  WHERE b.subnet_id = a.subnet_id AND b.ip = a.ip + 1)";

static int address_try(struct call *c, const struct subnet *s, int64_t ip,
                       const struct uuid *instance, bool *taken, struct err *e)
{
    int64_t n;

    TRY(db_exec_n(c->db, sql_take, ARGS(A(&s->id), A(ip), A(instance)), &n, e));
    *taken = n == 1;
    return 0;
}

int network_address_take(struct call *c, const struct subnet *s, const struct uuid *instance,
                         char ip[NETWORK_IP_TEXT], struct err *e)
{
    int64_t first, last, next = 0, used;
    bool taken = false;

    TRY(subnet_range(s, &first, &last, e));
    for (int i = 0; !taken && i < TRIES; i++) {
        TRY(network_counter(c->db, s->id.s, 0, &next, e));
        next = first + next % (last - first + 1);
        TRY(address_try(c, s, next, instance, &taken, e));
    }
    if (!taken) {
        TRY(db_int(c->db, sql_used, ARGS(A(&s->id)), 0, &used, e));
        if (used >= last - first + 1)
            return err_set(e, ERR_QUOTA_EXCEEDED, "subnet '%s' (%s) has no free address", s->name,
                           s->cidr_block);
        TRY(address_try(c, s, next = first, instance, &taken, e));
    }
    if (!taken) {
        TRY(db_int(c->db, sql_gap, ARGS(A(&s->id), A(last)), last, &next, e));
        TRY(address_try(c, s, next, instance, &taken, e));
    }
    if (!taken)
        return err_set(e, ERR_BUSY, "addresses of subnet '%s' are being taken: try again", s->name);
    struct ip address = ip4_from((uint32_t)next);
    char text[IP_TEXT];
    ip_format(&address, text);
    snprintf(ip, NETWORK_IP_TEXT, "%s", text);
    return 0;
}

int network_address_leave(struct call *c, const struct uuid *instance, struct err *e)
{
    return db_exec(c->db, "UPDATE subnet_addresses SET leaving = TRUE WHERE instance_id = $1",
                   ARGS(A(instance)), e);
}

/* The subnet is visited also if it stays: it may be deleted by a transaction beside this one. */
int network_address_release(struct call *c, const struct uuid *instance, struct err *e)
{
    struct uuid subnet = { 0 };

    TRY(db_each(c->db, "DELETE FROM subnet_addresses WHERE instance_id = $1 RETURNING subnet_id",
                ARGS(A(instance)), take_uuid, &subnet, e));
    return uuid_is_nil(&subnet) ? 0 : call_due(c, &subnet_loop, &subnet, c->now, e);
}

int network_dns_ip(const struct subnet *s, char ip[NETWORK_IP_TEXT], struct err *e)
{
    int64_t first, last;
    char text[IP_TEXT];

    TRY(subnet_range(s, &first, &last, e));
    struct ip address = ip4_from((uint32_t)(first - 1));
    ip_format(&address, text);
    snprintf(ip, NETWORK_IP_TEXT, "%s", text);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* VPCs: isolated networks with a CIDR of their own.  Here are only the rows; the hosts make the
 * network when the first instance needs it and remove it with the last one. */
#include "codec/id.h"
#include "core/config/config.h"
#include "drivers/net/net.h"
#include "services/network/network_private.h"

extern const struct migration network_migrations[];

enum { VXLAN_FIRST = 4096, VXLAN_LAST = 16777214 };

static const struct enum_name vpc_status_names[] = {
    { VPC_ACTIVE, "active" }, { VPC_DELETING, "deleting" }, { VPC_ERROR, "error" }, { 0 }
};

static const char *check_cidr(struct arena *a _unused_, const char **v)
{
    struct str text = { *v, strlen(*v) };
    struct cidr c;

    if (!memchr(text.p, '/', text.n) || !cidr_parse(text, false, &c) || c.ip.family != 4)
        return "must be an IPv4 network such as 10.0.0.0/16";
    if (c.bits < 16 || c.bits > 28)
        return "must be between /16 and /28";
    if (!cidr_parse(text, true, &c))
        return "must have zeros for its host bits";
    /* "This" network, loopback, link-local (where metadata is), multicast and what is reserved. */
    static const char *const taken[] = { "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16",
                                         "224.0.0.0/3" };
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        struct cidr other;

        if (cidr_parse(str_of(taken[i]), true, &other) && cidr_overlaps(&c, &other))
            return "must be addresses that hosts may have: not loopback, link-local or multicast";
    }
    return NULL;
}

#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
const struct form form_cidr_block = {
    .check = check_cidr,
    .pattern = "^(" OCTET "[.]){3}" OCTET "/(1[6-9]|2[0-8])$",
    .example = "10.0.0.0/24",
};

/* clang-format off */
#define T struct vpc
static const struct field vpc_fields[] = {
    OWNED_FIELDS(T),
    FIELD_STR (T, name,       FF_CREATE | FF_UPDATE | FF_REQUIRED | FF_FILTER | FF_SORT, .min = 1, .max = 64, .form = &form_name,
                              .doc = "Unique within the tenant."),
    FIELD_STR (T, cidr_block, FF_CREATE | FF_ALWAYS, .max = 18, .dflt_str = "10.0.0.0/16", .form = &form_cidr_block,
                              .doc = "Addresses of the network, /16 to /28; other VPCs may use the same."),
    FIELD_STR (T, network_id, FF_ALWAYS, .doc = "Ends the name of the network on the hosts."),
    FIELD_INT (T, vxlan_id,   0, .doc = "Number of the network between hosts."),
    FIELD_ENUM(T, status,     enum vpc_status, FF_FILTER, .names = vpc_status_names, .doc = "active; or deleting, until its last instances have gone."),
    FIELD_STR (T, status_reason, 0, .max = 500, .doc = "Why, in plain words."),
    FIELD_MAP (T, tags,       FF_CREATE | FF_UPDATE | FF_CLEAR, .doc = "Labels of your own."),
    FIELD_INT (T, deleted_at, FF_HIDDEN, .doc = "When its deletion was asked for."),
};
#undef T
/* clang-format on */
static const struct quota quota_vpcs = { "vpcs", { 2, 5, 20, 50, 5000 } };
static int vpc_fill(struct call *c, void *row, struct err *e);
const struct record vpc_record =
    RECORD(vpc, "vpcs", vpc_fields, .prefix = "vpc", .arn_service = "vpc", .arn_type = "vpc",
           .quota = &quota_vpcs, .fill = vpc_fill);

static const char sql_counter[] =
    "INSERT INTO network_counters (name, value) VALUES ($1, $2)"
    " ON CONFLICT (name) DO UPDATE SET value = network_counters.value + 1 RETURNING value";

int network_counter(struct db *db, const char *name, int64_t first, int64_t *out, struct err *e)
{
    return db_int(db, sql_counter, ARGS(A(name), A(first)), 0, out, e);
}

static const char *transit_of(struct call *c)
{
    return ((const struct net_settings *)app_settings(c->app, &net_settings))->transit_cidr;
}

/* VPCs may not touch the addresses between them and the host. */
static bool is_free(struct call *c, const char *cidr)
{
    struct cidr transit, own;

    return !cidr_parse(str_of(transit_of(c)), true, &transit) ||
           !cidr_parse(str_of(cidr), true, &own) || !cidr_overlaps(&transit, &own);
}

/* 'field' is what names it. */
static void vpc_check(struct call *c, const char *field, const struct vpc *v)
{
    if (!is_free(c, v->cidr_block))
        fault_add(c, field, "not_allowed",
                  "must not touch %s, which the platform uses itself (network %s)", transit_of(c),
                  v->cidr_block);
}

static int vpc_fill(struct call *c, void *row, struct err *e)
{
    struct vpc *v = row;

    TRY(network_counter(c->db, "vxlan", VXLAN_FIRST, &v->vxlan_id, e));
    if (v->vxlan_id > VXLAN_LAST)
        return err_set(e, ERR_QUOTA_EXCEEDED, "this installation has no network number left");
    v->network_id = arena_strdup(c->arena, v->id.s + 24);
    return 0;
}

static void create_check(struct call *c)
{
    const struct vpc *v = c->in;

    if (v->cidr_block)
        vpc_check(c, "cidr_block", v);
}

/* ---- the end of a VPC: with its last subnet, which goes with its last instance */

static int vpc_status_set(struct call *c, const struct vpc *old, struct vpc *v, struct err *e)
{
    return call_update(c, &vpc_record, old, v, FIELD_SET(vpc, status, status_reason, deleted_at),
                       e);
}

static int vpc_delete(struct call *c, struct err *e)
{
    struct vpc old, v;
    int64_t left = 0;

    TRY(call_target(c, &vpc_record, &old, e));
    if (old.deleted_at)
        return reply_deleted(c, "vpc is being deleted");
    TRY(subnet_delete_all(c, &old, &left, e));
    if (!left) {
        TRY(call_delete(c, &vpc_record, &old, e));
        return reply_deleted(c, "vpc deleted");
    }
    v = old;
    v.status = VPC_DELETING;
    v.status_reason = "waiting for the last instances in it to be gone";
    v.deleted_at = c->now;
    TRY(vpc_status_set(c, &old, &v, e));
    TRY(call_due(c, &vpc_loop, &v.id, c->now, e));
    return reply_deleted(c, "vpc is being deleted");
}

static const char sql_subnets[] = "SELECT count(*) FROM subnets WHERE vpc_id = $1";

static int vpc_end(struct visit *v, struct call *c, void *arg _unused_, struct err *e)
{
    return call_delete(c, &vpc_record, v->row, e);
}

static int vpc_late(struct visit *v, struct call *c, void *arg _unused_, struct err *e)
{
    const struct vpc *old = v->row;
    struct vpc now = *old;

    now.status = VPC_ERROR;
    now.status_reason =
        "it was not deleted in time: instances in it are not gone; it goes with them";
    return vpc_status_set(c, old, &now, e);
}

static int vpc_visit(struct visit *v, struct err *e)
{
    const struct vpc *now = v->row;
    bool ran = true;
    int64_t left;

    if (!now || !now->deleted_at)
        return visit_forget(v);
    TRY(db_int(v->db, sql_subnets, ARGS(A(&v->id)), 0, &left, e));
    if (left == 0) {
        TRY(visit_write(v, vpc_end, NULL, &ran, e));
        return ran ? visit_forget(v) : visit_again(v, 0);
    }
    if (now->status != VPC_ERROR && v->now > now->deleted_at + MINUTES(DELETION_MINUTES))
        TRY(visit_write(v, vpc_late, NULL, &ran, e));
    return visit_again(v, ran ? SECONDS(DELETION_LOOK_SECONDS) : 0);
}

const struct reconciler vpc_loop = {
    .name = "vpc",
    .record = &vpc_record,
    .visit = vpc_visit,
    .budget = SECONDS(1),
    .backoff = { SECONDS(1), SECONDS(60) },
    .sweep = "SELECT id FROM vpcs WHERE deleted_at > 0",
};

int network_retry(int rc, struct err *e)
{
    if (rc < 0 && e->code == ERR_ALREADY_EXISTS)
        e->code = ERR_BUSY;
    return rc;
}

static int vpc_default(struct call *c, struct vpc *out, struct err *e)
{
    int found = call_find(c, vpc, name, "default", out, e);

    TRY(found);
    if (found)
        return 0;
    /* No transit network covers all of them. */
    static const char *const blocks[] = { "10.0.0.0/16", "172.16.0.0/16", "192.168.0.0/16" };
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(blocks) && !is_free(c, blocks[i]))
        i++;
    *out = (struct vpc){ .name = "default", .cidr_block = blocks[i] };
    return network_retry(call_insert(c, &vpc_record, out, e), e);
}

int network_place(struct call *c, const struct uuid *vpc_id, const struct uuid *subnet_id,
                  struct vpc *vpc, struct subnet *subnet, struct err *e)
{
    bool by_vpc = !uuid_is_nil(vpc_id), by_subnet = !uuid_is_nil(subnet_id);
    struct err other; /* of two that are not there the first is in the message */
    int rc = by_vpc ? call_ref(c, &vpc_record, "vpc_id", vpc_id, vpc, e) : 0;

    if (rc < 0 && e->code != ERR_NOT_FOUND)
        return -1;
    if (by_subnet)
        TRY(call_ref(c, &subnet_record, "subnet_id", subnet_id, subnet, rc < 0 ? &other : e));
    TRY(rc);
    if (by_vpc && by_subnet && !uuid_eq(vpc_id, &subnet->vpc_id))
        fault_add(c, "subnet_id", "not_allowed", "must be a subnet of vpc_id");
    TRY(call_faults(c, e));
    if (!by_vpc && by_subnet)
        TRY(call_ref(c, &vpc_record, "vpc_id", &subnet->vpc_id, vpc, e));
    else if (!by_vpc)
        TRY(vpc_default(c, vpc, e));
    vpc_check(c, by_subnet ? "subnet_id" : "vpc_id", vpc);
    TRY(call_faults(c, e));
    return by_subnet ? 0 : subnet_default(c, vpc, subnet, e);
}

/* clang-format off */
#define V &vpc_record
#define S &subnet_record
static const struct route network_routes[] = {
    /*        path                  action           work   handler        in    out        */
    { POST,   "/vpcs",              "vpc:create",    WRITE, crud_create,   V,    V,    201, "Makes a VPC.", .check = create_check },
    { GET,    "/vpcs",              "vpc:list",      QUICK, crud_list,     NULL, V,    200, "Lists VPCs.", .list = true },
    { GET,    "/vpcs/{id}",         "vpc:get",       QUICK, crud_get,      NULL, V,    200, "Shows one VPC.", .by_name = true },
    { PATCH,  "/vpcs/{id}",         "vpc:update",    WRITE, crud_patch,    V,    V,    200, "Changes a VPC's name or tags.", .by_name = true },
    { DELETE, "/vpcs/{id}",         "vpc:delete",    WRITE, vpc_delete,    NULL, NULL, 204, "Deletes a VPC that no instance is in, or only such as are being deleted.", .by_name = true },
    { POST,   "/vpcs/{id}/subnets", "subnet:create", WRITE, subnet_create, S,    S,    201, "Makes a subnet in a VPC.", .by_name = true, .parent = V, .alone = held_alone },
    { GET,    "/vpcs/{id}/subnets", "subnet:list",   READ,  crud_list,     NULL, S,    200, "Lists a VPC's subnets.", .list = true, .by_name = true, .parent = V },
    { GET,    "/subnets/{id}",      "subnet:get",    READ,  crud_get,      NULL, S,    200, "Shows one subnet." },
    { PATCH,  "/subnets/{id}",      "subnet:update", WRITE, crud_patch,    S,    S,    200, "Changes a subnet's name or tags." },
    { DELETE, "/subnets/{id}",      "subnet:delete", WRITE, subnet_delete, NULL, NULL, 204, "Deletes a subnet that no instance is in, or only such as are being deleted." },
    { 0 },
};
/* clang-format on */

static const struct reconciler *const network_loops[] = { &subnet_loop, &vpc_loop, NULL };

static const struct quota *const network_quotas[] = { &quota_vpcs, &quota_subnets, NULL };

/* clang-format off */
static const struct planned network_planned[] = {
    { "GET POST",         "/elastic-ips" },
    { "GET DELETE",       "/elastic-ips/{id}" },
    { "POST",             "/elastic-ips/{id}/associate" },
    { "POST",             "/elastic-ips/{id}/disassociate" },
    { "GET POST",         "/internet-gateways" },
    { "GET PATCH DELETE", "/internet-gateways/{id}" },
    { "GET POST",         "/nat-gateways" },
    { "GET PATCH DELETE", "/nat-gateways/{id}" },
    { "GET POST",         "/route-tables" },
    { "GET PATCH DELETE", "/route-tables/{id}" },
    { "GET POST",         "/security-groups" },
    { "POST",             "/security-groups/attach" },
    { "POST",             "/security-groups/detach" },
    { "DELETE",           "/security-groups/rules/{rule_id}" },
    { "GET PATCH DELETE", "/security-groups/{id}" },
    { "POST",             "/security-groups/{id}/rules" },
    { "GET POST",         "/vpc-peerings" },
    { "GET DELETE",       "/vpc-peerings/{id}" },
    { "POST",             "/vpc-peerings/{id}/accept" },
    { "POST",             "/vpc-peerings/{id}/reject" },
    { 0 },
};
/* clang-format on */

const struct service network_service = {
    .name = "network",
    .doc = "Isolated networks and their subnets.",
    .migrations = network_migrations,
    .routes = network_routes,
    .planned = network_planned,
    .loops = network_loops,
    .quotas = network_quotas,
};

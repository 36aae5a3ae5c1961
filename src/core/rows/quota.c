/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas: one counter row per tenant and quota, taken by one statement inside the caller's
 * transaction.  PostgreSQL locks that row until the commit, SQLite has one writer, so two takers
 * never share the last one. */
#include "core/request/request.h"

static const char sql_take[] =
    "INSERT INTO core_quota (tenant_id, name, used) VALUES ($1, $2, $3)"
    " ON CONFLICT (tenant_id, name) DO UPDATE SET used = core_quota.used + $3"
    "  WHERE core_quota.used + $3 <= $4";
static const char sql_give[] =
    "UPDATE core_quota SET used = CASE WHEN used < $3 THEN 0 ELSE used - $3 END"
    " WHERE tenant_id = $1 AND name = $2";
static const char sql_used[] = "SELECT used FROM core_quota WHERE tenant_id = $1 AND name = $2";

/* What the system does in a tenant (a visit) is of that tenant's plan too. */
static int limit_of(struct call *c, const struct quota *q, int64_t *out, struct err *e)
{
    const struct auth_class *auth = c->app->auth;
    const char *plan = c->who->plan;

    if (call_is_system(c) && auth && auth->plan)
        TRY(auth->plan(c->db, c->arena, &c->tenant, &plan, e));
    *out = config_quota(c->app->config, *plan ? plan : c->who->plan, q);
    return 0;
}

int quota_take(struct call *c, const struct quota *q, int64_t n, struct err *e)
{
    int64_t changed = 0, limit, used;

    if (n == 0 || uuid_is_nil(&c->tenant))
        return 0;
    if (n < 0)
        return db_exec(c->db, sql_give, ARGS(A(&c->tenant), A(q->name), A(-n)), e);
    TRY(limit_of(c, q, &limit, e));
    if (n <= limit)
        TRY(db_exec_n(c->db, sql_take, ARGS(A(&c->tenant), A(q->name), A(n), A(limit)), &changed,
                      e));
    if (changed)
        return 0;
    TRY(db_int(c->db, sql_used, ARGS(A(&c->tenant), A(q->name)), 0, &used, e));
    return err_set(e, ERR_QUOTA_EXCEEDED, "quota '%s' is %lld and %lld are in use", q->name,
                   (long long)limit, (long long)used);
}

int quota_left(struct call *c, const struct quota *q, int64_t *out, struct err *e)
{
    int64_t limit, used;

    TRY(limit_of(c, q, &limit, e));
    TRY(db_int(c->db, sql_used, ARGS(A(&c->tenant), A(q->name)), 0, &used, e));
    *out = MAX(limit - used, (int64_t)0);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Routes that the published references describe, or that belong to them, and that are not built
 * yet: they answer 501 not_implemented, so that a client can tell them from a typing error.  A row
 * leaves this table when its routes are mounted, which are found first.
 *
 * Of two rows that fit a path the first is meant: fixed segments stand before parameters. */
#include "core/request/request.h"

static const struct planned {
    unsigned on, methods;
    const char *path;
} planned[] = {
/* clang-format off */
#define BOTH (CLASSIC | PLATFORM)
#define G    (1u << GET)
#define P    (1u << POST)
#define U    (1u << PUT)
#define X    (1u << PATCH)
#define D    (1u << DELETE)
#define MANY (G | P)     /* a collection */
#define ONE  (G | X | D) /* what is in it */
    { BOTH,     P,         "/account/close" },
    { BOTH,     P,         "/account/reopen" },
    { BOTH,     MANY,      "/alerts" },
    { BOTH,     ONE,       "/alerts/{id}" },
    { BOTH,     P,         "/auth/logout" },
    { BOTH,     P,         "/auth/verify-email" },
    { PLATFORM, P,         "/auth/token" },
    { PLATFORM, P | D,     "/auth/session" },
    { PLATFORM, G,         "/auth/sessions" },
    { PLATFORM, D,         "/auth/sessions/{id}" },
    { BOTH,     MANY,      "/autoscaling/groups" },
    { BOTH,     ONE,       "/autoscaling/groups/{id}" },
    { BOTH,     MANY,      "/autoscaling/groups/{id}/policies" },
    { BOTH,     X | D,     "/autoscaling/groups/{id}/policies/{policy_id}" },
    { BOTH,     G,         "/billing/summary" },
    { BOTH,     G,         "/billing/usage" },
    { BOTH,     MANY,      "/caches" },
    { BOTH,     ONE,       "/caches/{id}" },
    { BOTH,     G,         "/caches/{id}/connection" },
    { BOTH,     G,         "/caches/{id}/stats" },
    { BOTH,     P,         "/caches/{id}/flush" },
    { BOTH,     MANY,      "/clusters" },
    { BOTH,     ONE,       "/clusters/{id}" },
    { BOTH,     G,         "/clusters/{id}/kubeconfig" },
    { BOTH,     G,         "/clusters/{id}/health" },
    { BOTH,     P,         "/clusters/{id}/upgrade" },
    { BOTH,     P | U,     "/clusters/{id}/scale" },
    { BOTH,     P,         "/clusters/{id}/repair" },
    { BOTH,     MANY,      "/clusters/{id}/backups" },
    { BOTH,     P,         "/clusters/{id}/restore" },
    { BOTH,     MANY,      "/cron" },
    { BOTH,     MANY,      "/cron/jobs" },
    { BOTH,     ONE,       "/cron/jobs/{id}" },
    { BOTH,     P,         "/cron/jobs/{id}/pause" },
    { BOTH,     P,         "/cron/jobs/{id}/resume" },
    { BOTH,     P,         "/cron/jobs/{id}/run" },
    { BOTH,     G,         "/cron/jobs/{id}/runs" },
    { BOTH,     ONE,       "/cron/{id}" },
    { BOTH,     P,         "/cron/{id}/pause" },
    { BOTH,     P,         "/cron/{id}/resume" },
    { BOTH,     P,         "/cron/{id}/run" },
    { BOTH,     G,         "/cron/{id}/runs" },
    { PLATFORM, G,         "/data" },
    { BOTH,     MANY,      "/databases" },
    { BOTH,     ONE,       "/databases/{id}" },
    { BOTH,     G,         "/databases/{id}/connection" },
    { BOTH,     MANY,      "/databases/{id}/replicas" },
    { BOTH,     P,         "/databases/{id}/promote" },
    { BOTH,     P,         "/databases/{id}/start" },
    { BOTH,     P,         "/databases/{id}/stop" },
    { BOTH,     MANY,      "/databases/{id}/backups" },
    { BOTH,     P,         "/databases/{id}/restore" },
    { BOTH,     MANY,      "/deployments" },
    { BOTH,     G,         "/deployments/{id}" },
    { BOTH,     P,         "/deployments/{id}/rollback" },
    { BOTH,     P,         "/deployments/{id}/cancel" },
    { BOTH,     G,         "/deployments/{id}/logs" },
    { CLASSIC,  G,         "/docs" },
    { BOTH,     MANY,      "/elastic-ips" },
    { BOTH,     G | D,     "/elastic-ips/{id}" },
    { BOTH,     P,         "/elastic-ips/{id}/associate" },
    { BOTH,     P,         "/elastic-ips/{id}/disassociate" },
    { PLATFORM, G,         "/events/{id}" },
    { PLATFORM, P,         "/events/{id}/replay" },
    { BOTH,     MANY,      "/exports" },
    { BOTH,     G,         "/exports/{id}" },
    { BOTH,     MANY,      "/functions" },
    { BOTH,     ONE,       "/functions/{id}" },
    { BOTH,     P,         "/functions/{id}/invoke" },
    { BOTH,     G,         "/functions/{id}/invocations" },
    { BOTH,     G,         "/functions/{id}/invocations/{invocation_id}" },
    { BOTH,     G,         "/functions/{id}/logs" },
    { BOTH,     G,         "/functions/{id}/versions" },
    { BOTH,     MANY,      "/gateway/routes" },
    { BOTH,     ONE,       "/gateway/routes/{id}" },
    { BOTH,     MANY,      "/global-lb" },
    { BOTH,     ONE,       "/global-lb/{id}" },
    { BOTH,     MANY,      "/global-lb/{id}/endpoints" },
    { BOTH,     X | D,     "/global-lb/{id}/endpoints/{endpoint_id}" },
    { BOTH,     G | P | U | X | D, "/gw/{path...}" },
    { BOTH,     MANY,      "/iam/groups" },
    { BOTH,     ONE,       "/iam/groups/{id}" },
    { BOTH,     MANY,      "/iam/policies" },
    { BOTH,     ONE | U,   "/iam/policies/{id}" },
    { BOTH,     MANY,      "/iam/roles" },
    { BOTH,     ONE,       "/iam/roles/{id}" },
    { BOTH,     MANY,      "/iam/service-accounts" },
    { BOTH,     ONE,       "/iam/service-accounts/{id}" },
    { BOTH,     P,         "/iam/simulate" },
    { BOTH,     G,         "/iam/users/{user_id}/policies" },
    { BOTH,     P | D,     "/iam/users/{user_id}/policies/{policy_id}" },
    { BOTH,     P,         "/instances/{id}/resize" },
    { BOTH,     MANY,      "/instances/{id}/snapshots" },
    { BOTH,     MANY,      "/internet-gateways" },
    { BOTH,     ONE,       "/internet-gateways/{id}" },
    { PLATFORM, G,         "/jobs" },
    { PLATFORM, G,         "/jobs/{id}" },
    { PLATFORM, MANY,      "/keys" },
    { PLATFORM, G | D,     "/keys/{id}" },
    { PLATFORM, P,         "/keys/{id}/rotate" },
    { BOTH,     MANY,      "/lb" },
    { BOTH,     ONE,       "/lb/{id}" },
    { BOTH,     G,         "/logs" },
    { PLATFORM, G,         "/logs/stream" },
    { BOTH,     G,         "/logs/{resource_id}" },
    { BOTH,     MANY,      "/nat-gateways" },
    { BOTH,     ONE,       "/nat-gateways/{id}" },
    { BOTH,     MANY,      "/notify/topics" },
    { BOTH,     ONE,       "/notify/topics/{id}" },
    { BOTH,     P,         "/notify/topics/{id}/publish" },
    { BOTH,     MANY,      "/notify/topics/{id}/subscriptions" },
    { PLATFORM, MANY,      "/oauth/clients" },
    { PLATFORM, ONE,       "/oauth/clients/{id}" },
    { CLASSIC,  MANY,      "/oauth2/authorize" },
    { CLASSIC,  MANY,      "/oauth2/device" },
    { CLASSIC,  P,         "/oauth2/device_authorization" },
    { CLASSIC,  P,         "/oauth2/introspect" },
    { CLASSIC,  P,         "/oauth2/revoke" },
    { CLASSIC,  P,         "/oauth2/token" },
    { PLATFORM, G,         "/ping" },
    { BOTH,     MANY,      "/pipelines" },
    { BOTH,     G,         "/pipelines/runs/{run_id}" },
    { BOTH,     P,         "/pipelines/runs/{run_id}/cancel" },
    { BOTH,     G,         "/pipelines/runs/{run_id}/logs" },
    { BOTH,     G,         "/pipelines/runs/{run_id}/steps" },
    { BOTH,     ONE | U,   "/pipelines/{id}" },
    { BOTH,     MANY,      "/pipelines/{id}/runs" },
    { BOTH,     P,         "/pipelines/{id}/webhook/{provider}" },
    { PLATFORM, MANY,      "/projects" },
    { PLATFORM, ONE,       "/projects/{id}" },
    { PLATFORM, MANY,      "/projects/{id}/deployments" },
    { PLATFORM, G,         "/projects/{id}/deployments/{deployment_id}" },
    { PLATFORM, P,         "/projects/{id}/deployments/{deployment_id}/cancel" },
    { PLATFORM, G,         "/projects/{id}/deployments/{deployment_id}/logs" },
    { PLATFORM, P,         "/projects/{id}/deployments/{deployment_id}/rollback" },
    { PLATFORM, MANY,      "/projects/{id}/environments" },
    { PLATFORM, ONE,       "/projects/{id}/environments/{environment_id}" },
    { PLATFORM, G,         "/projects/{id}/environments/{environment_id}/versions" },
    { PLATFORM, P,         "/projects/{id}/environments/{environment_id}/versions/{version}/restore" },
    { PLATFORM, G,         "/projects/{id}/logs" },
    { PLATFORM, G,         "/projects/{id}/metrics" },
    { PLATFORM, G,         "/projects/{id}/status" },
    { PLATFORM, G,         "/projects/{id}/usage" },
    { PLATFORM, G,         "/regions" },
    { PLATFORM, MANY,      "/resources" },
    { PLATFORM, ONE,       "/resources/{id}" },
    { PLATFORM, G,         "/resources/{id}/versions" },
    { PLATFORM, P,         "/resources/{id}/versions/{version}/restore" },
    { BOTH,     MANY,      "/roles" },
    { BOTH,     ONE,       "/roles/{id}" },
    { BOTH,     MANY,      "/route-tables" },
    { BOTH,     ONE,       "/route-tables/{id}" },
    { BOTH,     MANY,      "/routes" },
    { BOTH,     ONE,       "/routes/{id}" },
    { PLATFORM, G,         "/scopes" },
    { BOTH,     MANY,      "/secrets" },
    { BOTH,     ONE,       "/secrets/{id}" },
    { BOTH,     P,         "/secrets/{id}/rotate" },
    { BOTH,     G,         "/secrets/{id}/versions" },
    { BOTH,     MANY,      "/security-groups" },
    { BOTH,     P,         "/security-groups/attach" },
    { BOTH,     P,         "/security-groups/detach" },
    { BOTH,     D,         "/security-groups/rules/{rule_id}" },
    { BOTH,     ONE,       "/security-groups/{id}" },
    { BOTH,     P,         "/security-groups/{id}/rules" },
    { BOTH,     MANY,      "/service-accounts" },
    { BOTH,     ONE,       "/service-accounts/{id}" },
    { BOTH,     MANY,      "/snapshots" },
    { BOTH,     G | D,     "/snapshots/{id}" },
    { BOTH,     P,         "/snapshots/{id}/restore" },
    { BOTH,     MANY,      "/ssh-keys" },
    { BOTH,     G | D,     "/ssh-keys/{id}" },
    { BOTH,     MANY,      "/stacks" },
    { BOTH,     ONE,       "/stacks/{id}" },
    { BOTH,     P,         "/stacks/{id}/apply" },
    { BOTH,     P,         "/stacks/{id}/destroy" },
    { BOTH,     G,         "/stacks/{id}/drift" },
    { BOTH,     P,         "/stacks/{id}/plan" },
    { BOTH,     G,         "/status" },
    { BOTH,     MANY,      "/storage/access-keys" },
    { BOTH,     D,         "/storage/access-keys/{id}" },
    { BOTH,     MANY,      "/storage/buckets" },
    { BOTH,     ONE,       "/storage/buckets/{bucket}" },
    { BOTH,     MANY,      "/storage/buckets/{bucket}/lifecycle" },
    { BOTH,     D,         "/storage/buckets/{bucket}/lifecycle/{id}" },
    { BOTH,     X,         "/storage/buckets/{bucket}/versioning" },
    { BOTH,     G,         "/storage/cluster/status" },
    { BOTH,     D,         "/storage/multipart/abort/{id}" },
    { BOTH,     P,         "/storage/multipart/complete/{id}" },
    { BOTH,     P,         "/storage/multipart/init/{bucket}/{key...}" },
    { BOTH,     U,         "/storage/multipart/upload/{id}/parts" },
    { BOTH,     G,         "/storage/versions/{bucket}/{key...}" },
    { BOTH,     G,         "/storage/{bucket}" },
    { BOTH,     G | U | D, "/storage/{bucket}/{key...}" },
    { BOTH,     MANY,      "/subscriptions" },
    { BOTH,     ONE,       "/subscriptions/{id}" },
    { PLATFORM, MANY,      "/tokens" },
    { PLATFORM, G | D,     "/tokens/{id}" },
    { BOTH,     MANY,      "/topics" },
    { BOTH,     ONE,       "/topics/{id}" },
    { BOTH,     P,         "/topics/{id}/publish" },
    { BOTH,     MANY,      "/topics/{id}/subscriptions" },
    { PLATFORM, G,         "/usage" },
    { PLATFORM, MANY,      "/users" },
    { PLATFORM, ONE,       "/users/{id}" },
    { BOTH,     MANY,      "/volumes" },
    { BOTH,     ONE,       "/volumes/{id}" },
    { BOTH,     P,         "/volumes/{id}/attach" },
    { BOTH,     P,         "/volumes/{id}/clone" },
    { BOTH,     P,         "/volumes/{id}/detach" },
    { BOTH,     P,         "/volumes/{id}/resize" },
    { BOTH,     MANY,      "/volumes/{id}/snapshots" },
    { BOTH,     MANY,      "/vpc-peerings" },
    { BOTH,     G | D,     "/vpc-peerings/{id}" },
    { BOTH,     P,         "/vpc-peerings/{id}/accept" },
    { BOTH,     P,         "/vpc-peerings/{id}/reject" },
    { BOTH,     MANY,      "/zones" },
    { BOTH,     ONE,       "/zones/{id}" },
    { BOTH,     MANY,      "/zones/{id}/records" },
    { BOTH,     ONE,       "/zones/{id}/records/{record_id}" },
    { CLASSIC,  G,         "/.well-known/jwks.json" },
    { CLASSIC,  G,         "/.well-known/oauth-authorization-server" },
#undef BOTH
#undef G
#undef P
#undef U
#undef X
#undef D
#undef MANY
#undef ONE
    /* clang-format on */
};

/* Takes the first segment, without its slash, off 's'. */
static struct str next_segment(struct str *s)
{
    const char *slash = memchr(s->p + 1, '/', s->n - 1);
    size_t n = slash ? (size_t)(slash - s->p) : s->n;
    struct str segment = { s->p + 1, n - 1 };

    s->p += n;
    s->n -= n;
    return segment;
}

static bool fits(struct str pattern, struct str path)
{
    while (pattern.n && path.n) {
        struct str rest = path, want = next_segment(&pattern), got = next_segment(&path);
        bool parameter = want.n && want.p[0] == '{';

        if (parameter && want.n > 5 && memcmp(want.p + want.n - 4, "...}", 4) == 0)
            return rest.n > 1;
        if (parameter ? got.n == 0 : !str_eq(want, got))
            return false;
    }
    return !pattern.n && !path.n;
}

unsigned planned_methods(struct str path)
{
    static const char *const prefixes[] = { "/api/v1", "/v1", "/v2" };
    enum surface surface = CLASSIC;

    for (size_t i = 0; i < ARRAY_LEN(prefixes) && surface == CLASSIC; i++) {
        size_t n = strlen(prefixes[i]);

        if (path.n <= n || memcmp(path.p, prefixes[i], n) != 0 || path.p[n] != '/')
            continue;
        surface = PLATFORM;
        path = (struct str){ path.p + n, path.n - n };
    }
    if (path.n == 0 || path.p[0] != '/')
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(planned); i++)
        if ((planned[i].on & surface) && fits(str_of(planned[i].path), path))
            return planned[i].methods;
    return 0;
}

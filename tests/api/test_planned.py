# SPDX-License-Identifier: Apache-2.0
"""Every route that the published references print is there: served, or 501 where it is still to be built; and Allow names what is offered."""
import re

import pytest

# As the references print them; the platform API's first, under its prefix.
PLATFORM = """
GET POST /projects; GET PATCH DELETE /projects/x; GET /projects/x/status; GET POST /projects/x/environments; GET PATCH DELETE /projects/x/environments/y
GET POST /projects/x/deployments; GET /projects/x/deployments/y; POST /projects/x/deployments/y/rollback; GET /projects/x/usage; GET /projects/x/logs
GET /projects/x/metrics; GET /data; GET POST /resources; GET PATCH DELETE /resources/x; GET /ping; GET /regions; GET POST /deployments
POST /deployments/x/rollback; GET /logs; GET /logs/stream; POST /keys; DELETE /keys/x; POST /auth/token; GET /users; POST /tokens; GET /usage
GET /status; GET POST /webhooks; GET PATCH DELETE /webhooks/x; POST /webhooks/x/test; GET /webhooks/x/deliveries; GET /webhooks/x/deliveries/y
POST /webhooks/x/deliveries/y/redeliver; GET /events; GET /events/x; POST /events/x/replay; POST /exports; GET /jobs/x
GET POST /alerts; GET /audit; GET /audit/verify; POST DELETE /auth/session; GET /auth/sessions; DELETE /auth/sessions/x; POST /keys/x/rotate
POST /account/close; POST /account/reopen; GET /scopes; GET /resources/x/versions; POST /resources/x/versions/1/restore; POST /deployments/x/cancel
GET /deployments/x/logs; GET /projects/x/environments/y/versions; POST /projects/x/environments/y/versions/1/restore; GET POST /oauth/clients
"""
CLASSIC = """
POST /auth/register; POST /auth/login; POST /auth/forgot-password; POST /auth/reset-password; GET POST /auth/keys; DELETE /auth/keys/x
POST /auth/keys/x/rotate; POST /auth/keys/x/regenerate; GET POST /tenants; POST /tenants/x/switch; POST /tenants/x/members; GET /health/live
GET /health/ready; GET POST /instances; GET /instance-types; GET PUT DELETE /instances/x; GET /instances/x/console; GET POST /vpcs; DELETE /vpcs/x
GET POST /vpc-peerings; GET DELETE /vpc-peerings/x; POST /vpc-peerings/x/accept; POST /vpc-peerings/x/reject; GET POST /security-groups
GET DELETE /security-groups/x; POST /security-groups/x/rules; DELETE /security-groups/rules/x; POST /security-groups/attach
POST /security-groups/detach; GET POST /vpcs/x/subnets; GET DELETE /subnets/x; GET POST /elastic-ips; GET DELETE /elastic-ips/x
POST /elastic-ips/x/associate; POST /elastic-ips/x/disassociate; GET POST /pipelines; GET PUT DELETE /pipelines/x; GET POST /pipelines/x/runs
GET /pipelines/runs/x; GET /pipelines/runs/x/steps; GET /pipelines/runs/x/logs; POST /pipelines/x/webhook/github; GET POST /storage/buckets
DELETE /storage/buckets/x; PATCH /storage/buckets/x/versioning; GET /storage/x; GET PUT DELETE /storage/x/a/b/c; GET /storage/versions/x/a/b
GET /storage/cluster/status; POST /storage/multipart/init/x/a/b; PUT /storage/multipart/upload/x/parts; POST /storage/multipart/complete/x
DELETE /storage/multipart/abort/x; GET POST /storage/buckets/x/lifecycle; DELETE /storage/buckets/x/lifecycle/y; GET POST /volumes
GET POST /databases; GET PATCH DELETE /databases/x; GET /databases/x/connection; POST /databases/x/replicas; POST /databases/x/promote
GET POST /global-lb; GET DELETE /global-lb/x; POST /global-lb/x/endpoints; DELETE /global-lb/x/endpoints/y; GET POST /autoscaling/groups
GET POST /routes; DELETE /routes/x; GET POST /functions; POST /functions/x/invoke; GET /functions/x/logs; GET /logs; GET /logs/x; GET POST /caches
DELETE /caches/x; GET POST /queues; GET POST /queues/x/messages; GET POST /topics; POST /subscriptions; GET POST /cron; POST /cron/x/pause
POST /cron/x/resume; GET POST /iam/policies; GET DELETE /iam/policies/x; POST DELETE /iam/users/x/policies/y; GET /iam/users/x/policies
GET /billing/summary; GET /billing/usage; GET /audit; GET POST /clusters; GET DELETE /clusters/x; GET /clusters/x/kubeconfig; GET /clusters/x/health
POST /clusters/x/upgrade; POST PUT /clusters/x/scale; POST /clusters/x/repair; POST /clusters/x/backups; POST /clusters/x/restore
GET POST /notify/topics; GET POST /notify/topics/x/subscriptions; POST /notify/topics/x/publish; GET POST /cron/jobs; GET DELETE /cron/jobs/x
GET POST /gateway/routes; DELETE /gateway/routes/x; POST /instances/x/stop; POST /instances/x/start; POST /instances/x/pause
POST /instances/x/resume; POST /instances/x/resize; GET POST /zones; GET POST /roles; GET POST /secrets; GET POST /stacks; GET POST /snapshots
GET POST /ssh-keys; GET POST /lb; GET POST /service-accounts
"""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def printed():
    for text, prefixes in ((PLATFORM, ("/v1", "/v2", "/api/v1")), (CLASSIC, ("", "/v1"))):
        for entry in text.replace("\n", ";").split(";"):
            if not entry.strip():
                continue
            *methods, path = entry.split()
            for prefix in prefixes:
                if prefix == "/v1" and path.startswith("/health"):
                    continue
                yield methods, prefix + path


def test_what_the_references_print_is_served_or_501(api):
    count = 0
    for methods, path in printed():
        for method in methods:
            r = api.nobody.req(method, path)
            assert r.status not in (404, 405), (method, path, r)
            count += 1
    assert count > 500


def test_what_is_planned_says_so_before_it_asks_who_calls(api):
    for who in (api.nobody, api.admin):
        r = who.post("/volumes", {"name": "x"})
        assert (r.status, r.code) == (501, "not_implemented"), r
        assert who.req("HEAD", "/v1/projects").status == 501


@pytest.mark.parametrize("path", ["/volumes/x/y/z", "/projects", "/v1/storage", "/v1/users/x/y", "/zones/", "/v1//zones", "/billing"])
def test_what_nobody_planned_is_no_path(api, path):
    r = api.nobody.get(path)
    assert (r.status, r.code) == (404, "route_not_found"), r


def test_allow_names_exactly_what_is_offered(api):
    served = [re.sub(r"\{\w+\}", "x", p) for p in api.nobody.get("/v1/openapi.json").json["paths"]]
    for path in sorted(set(served) | {p for _, p in printed()}):
        r = api.nobody.req("OPTIONS", path)
        assert (r.status, r.body) == (204, b""), (path, r)
        allow = r.headers["Allow"].split(", ")
        for method in METHODS:
            r = api.nobody.req(method, path)
            assert (r.status == 405) == (method not in allow), (method, path, allow, r)
            if r.status == 405:
                assert r.headers["Allow"].split(", ") == allow, (method, path, r)


def test_allow_of_what_is_planned(api):
    assert api.nobody.req("OPTIONS", "/volumes").headers["Allow"] == "GET, HEAD, POST, OPTIONS"
    r = api.nobody.req("PATCH", "/volumes")
    assert (r.status, r.headers["Allow"]) == (405, "GET, HEAD, POST, OPTIONS")
    assert api.nobody.req("OPTIONS", "/storage/buckets/x").headers["Allow"] == "GET, HEAD, PATCH, DELETE, OPTIONS"
    assert api.nobody.req("PUT", "/volumes").error["details"] == "Offered here: GET, HEAD, POST, OPTIONS"

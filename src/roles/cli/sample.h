/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Route tables for the client's tests: one of each kind of path. */

#include "core/service.h"

/* clang-format off */
enum sample_status { SAMPLE_PENDING, SAMPLE_RUNNING };
static const struct enum_name sample_status_names[] = { { SAMPLE_PENDING, "pending" }, { SAMPLE_RUNNING, "running" }, { 0 } };

struct thing {
    struct uuid id, vpc_id;
    const char *name, *ports, *env, *tags, *note, *token;
    int64_t size, created_at, price;
    bool public_;
    enum sample_status status, wanted;
};
struct vpc {
    struct uuid id;
    const char *name;
};
struct thing_exec {
    const char *cmd;
    int64_t timeout;
};
struct credentials {
    const char *email, *password;
};
struct logs_query {
    bool follow;
    int64_t tail;
};

#define T struct vpc
static const struct field vpc_fields[] = {
    FIELD_UUID(T, id,   0, .doc = "Given by the server."),
    FIELD_STR (T, name, FF_CREATE | FF_REQUIRED | FF_FILTER, .doc = "Unique."),
};
#undef T
static const struct record vpc_record = RECORD(vpc, "vpcs", vpc_fields, .prefix = "vpc");

static const char *check_port(const char *key _unused_, const char *value, const char **code _unused_)
{
    return value[0] ? NULL : "is no port";
}

#define T struct thing
static const struct field thing_fields[] = {
    FIELD_UUID (T, id,         0, .doc = "Given by the server."),
    FIELD_STR  (T, name,       FF_CREATE | FF_REQUIRED | FF_FILTER, .doc = "Unique."),
    FIELD_ENUM (T, status,     enum sample_status, FF_FILTER, .names = sample_status_names, .doc = "How it is."),
    FIELD_INT  (T, size,       FF_CREATE | FF_UPDATE, .alias = "size_gb", .doc = "How large it is."),
    FIELD_BOOL (T, public_,    FF_CREATE | FF_UPDATE, .doc = "Whether all may see it."),
    FIELD_REF  (T, vpc_id,     vpc_record, FF_CREATE, .doc = "Where it is."),
    FIELD_JSON (T, ports,      FF_CREATE, .check_entry = check_port, .doc = "Published ports."),
    FIELD_MAP  (T, env,        FF_CREATE | FF_UPDATE, .doc = "Environment."),
    FIELD_LIST (T, tags,       FF_CREATE | FF_UPDATE, .doc = "Words."),
    FIELD_STR  (T, note,       FF_CREATE | FF_UPDATE | FF_CLEAR, .doc = "Anything."),
    FIELD_MICRO(T, price,      FF_CREATE, .doc = "What it costs."),
    FIELD_STR  (T, token,      FF_CREATE | FF_SECRET, .doc = "A secret."),
    FIELD_ENUM (T, wanted,     enum sample_status, FF_UPDATE, .names = sample_status_names, .doc = "How it is to be."),
    FIELD_TIME (T, created_at, 0, .doc = "When it was made."),
};
#undef T
static const struct record thing_record = RECORD(thing, "things", thing_fields, .prefix = "thing");

#define T struct thing_exec
static const struct field exec_fields[] = {
    FIELD_LIST(T, cmd,     FF_CREATE | FF_REQUIRED, .doc = "What to run."),
    FIELD_INT (T, timeout, FF_CREATE, .min = 1, .max = 90, .dflt = 60, .doc = "Seconds."),
};
#undef T
static const struct record exec_record = RECORD(thing_exec, NULL, exec_fields);

#define T struct credentials
static const struct field credentials_fields[] = {
    FIELD_STR(T, email,    FF_CREATE | FF_REQUIRED, .doc = "Address."),
    FIELD_STR(T, password, FF_CREATE | FF_REQUIRED, .doc = "Password."),
};
#undef T
static const struct record credentials_record = RECORD(credentials, NULL, credentials_fields);

#define T struct logs_query
static const struct field logs_fields[] = {
    FIELD_BOOL(T, follow, FF_CREATE, .doc = "Goes on."),
    FIELD_INT (T, tail,   FF_CREATE, .doc = "Last lines."),
};
#undef T
static const struct record logs_record = RECORD(logs_query, NULL, logs_fields);

struct upload_query {
    const char *label;
};
static const struct field upload_fields[] = {
    FIELD_STR(struct upload_query, label, FF_CREATE | FF_REQUIRED, .doc = "Its label."),
};
static const struct record upload_record = RECORD(upload_query, NULL, upload_fields);

#define H &thing_record
static const struct route sample_routes[] = {
    { POST,   "/things",                 "thing:create",  WRITE,  NULL, H,    H,    201, "Makes a thing." },
    { GET,    "/things",                 "thing:list",    QUICK,  NULL, NULL, H,    200, "Lists things.", .list = true },
    { GET,    "/things/{id}",            "thing:get",     QUICK,  NULL, NULL, H,    200, "Shows a thing.", .by_name = true },
    { PATCH,  "/things/{id}",            "thing:update",  WRITE,  NULL, H,    H,    200, "Changes a thing." },
    { PUT,    "/things/{id}",            "thing:put",     WRITE,  NULL, H,    H,    200, "Replaces a thing." },
    { DELETE, "/things/{id}",            "thing:delete",  WRITE,  NULL, NULL, NULL, 204, "Deletes a thing.", .by_name = true },
    { POST,   "/things/{id}/purge",      "thing:purge",   WRITE,  NULL, NULL, H,    200, "Empties it.", .by_name = true },
    { POST,   "/things/{id}/stop",       "thing:stop",    WRITE,  NULL, NULL, H,    200, "Stops it.", .by_name = true },
    { GET,    "/things/{id}/logs",       "thing:logs",    STREAM, NULL, NULL, NULL, 200, "Its output.", .by_name = true, .query = &logs_record },
    { POST,   "/things/{id}/exec",       "thing:exec",    LONG,   NULL, &exec_record, NULL, 200, "Runs a command in it.", .by_name = true },
    { GET,    "/things/{id}/messages",   "thing:receive", WRITE,  NULL, NULL, H,    200, "Receives." },
    { POST,   "/things/{id}/messages",   "thing:send",    WRITE,  NULL, H,    H,    201, "Sends." },
    { DELETE, "/things/{id}/messages/{message_id}", "thing:ack", WRITE, NULL, NULL, NULL, 204, "Acknowledges." },
    { POST,   "/things/{id}/messages/delete", "thing:ack", WRITE, NULL, NULL, NULL, 200, "Acknowledges many." },
    { POST,   "/things/{id}/upload",     "thing:upload",  LONG,   NULL, NULL, H,    201, "Takes a file.", .body = BODY_RAW },
    { POST,   "/things/{id}/import",     "thing:import",  LONG,   NULL, NULL, H,    201, "Takes a labelled file.", .body = BODY_RAW, .query = &upload_record },
    { GET,    "/things/{id}/metadata",   "thing:meta",    QUICK,  NULL, NULL, NULL, 200, "Shows metadata." },
    { PUT,    "/things/{id}/metadata",   "thing:setmeta", WRITE,  NULL, H,    NULL, 200, "Sets metadata." },
    { GET,    "/auth/keys",              "key:list",      QUICK,  NULL, NULL, NULL, 200, "Lists keys.", .list = true },
    { DELETE, "/auth/keys/{id}",         "key:delete",    WRITE,  NULL, NULL, NULL, 200, "Deletes a key." },
    { POST,   "/auth/login",             NULL,            LONG,   NULL, &credentials_record, NULL, 200, "Logs in.", .public = true },
    { GET,    "/policies",               "policy:list",   QUICK,  NULL, NULL, NULL, 200, "Lists policies.", .list = true },
    { GET,    "/iam/policies",           "iam:list",      QUICK,  NULL, NULL, NULL, 200, "Lists others.", .list = true },
    { GET,    "/billing/summary",        "bill:get",      READ,   NULL, NULL, NULL, 200, "What it costs." },
    { GET,    "/status",                 NULL,            QUICK,  NULL, NULL, NULL, 200, "How it is.", .public = true },
    { GET,    "/projects/{id}",          "proj:get",      QUICK,  NULL, NULL, H,    200, "Shows a project.", .on = PLATFORM },
    { GET,    "/objects/{bucket}/{key...}", "obj:get",    READ,   NULL, NULL, NULL, 200, "Shows an object.", .cli = "object get" },
    { POST,   "/hidden",                 "x:hide",        WRITE,  NULL, NULL, NULL, 200, "No command.", .cli = "" },
    { GET,    "/thing-types",            "thing:list-types", QUICK, NULL, NULL, NULL, 200, "Lists types." },
    { GET,    "/v1/openapi.json",        NULL,            READ,   NULL, NULL, NULL, 200, "This API.", .on = PLATFORM, .public = true },
    { POST,   "/vpcs/{id}/parts",        "part:create",   WRITE,  NULL, H,    H,    201, "Makes a part.", .by_name = true },
    { GET,    "/vpcs/{id}/parts",        "part:list",     READ,   NULL, NULL, H,    200, "Lists parts.", .list = true, .by_name = true },
    { GET,    "/parts/{id}",             "part:get",      READ,   NULL, NULL, H,    200, "Shows a part." },
    { POST,   "/vpcs/{id}/mail",         "vpc:send",      WRITE,  NULL, H,    H,    201, "Sends mail.", .by_name = true, .cli = "vpc send" },
    { GET,    "/vpcs",                   "vpc:list",      QUICK,  NULL, NULL, &vpc_record, 200, "Lists VPCs.", .list = true },
    { 0 },
};
#undef H
/* clang-format on */

static const struct service sample_service = {
    .name = "sample",
    .doc = "Things for tests.",
    .routes = sample_routes,
};
static const struct service *const sample_services[] = { &sample_service, NULL };

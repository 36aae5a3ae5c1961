/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of the OpenAPI document share. */

#include "core/describe/openapi_schema.h"
#include "core/request/request.h"

struct entry { /* a row at one of its paths */
    const char *path;
    const struct route *route;
    const struct service *service;
    enum surface surface;
    int alias; /* 0: its own path; else the n-th of its older ones */
};

struct doc {
    struct arena arena;
    struct json_out o;
    struct schemas schemas;
    struct entry *entries;
    size_t n, cap;
    uint64_t answers, headers; /* components that were referred to */
};

/* Like listQueues, sendMessage: from the row's path and action, or its .name; the classic form of
 * what stands on both surfaces ends with "Classic". */
const char *operation_name(struct arena *a, const struct entry *en);

/* "parameters" of an operation. */
void operation_parameters(struct doc *d, const struct entry *en);
/* Those that all share. */
void common_parameters(struct json_out *o);

/* "requestBody" and "responses" of an operation. */
void operation_body(struct doc *d, const struct route *r);
void operation_answers(struct doc *d, const struct entry *en);
/* Schemas, responses and headers that all share; after the paths. */
void common_schemas(struct json_out *o);
void common_answers(struct doc *d);

bool route_matches(const struct route *r); /* it may change what If-Match names */
bool route_tagged(const struct route *r);  /* its answer has an ETag that If-None-Match may name */

/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies and answers of operations.  Hides which errors a route can answer: they follow from the
 * row, as the way of a request does, so that each is named and none is left to a "default". */
#include "core/describe/openapi_private.h"

bool route_matches(const struct route *r)
{
    return route_writes(r) && r->method != GET;
}

bool route_tagged(const struct route *r)
{
    if (r->bytes)
        return true;
    if (r->method != GET || r->work == STREAM || r->work == WRITE || !r->out)
        return false;
    if (r->list || r->rows)
        return true;
    const struct field *id = record_field(r->out, "id"), *rev = record_field(r->out, "revision");
    return id && rev && id->type == F_UUID && rev->type == F_INT;
}

/* ---- the errors */

enum header {
    H_WWW,
    H_RETRY,
    H_TAG,
    H_LINK,
    H_REPLAYED,
    H_DEPRECATION,
    H_SUNSET,
    H_VERSION,
    H_LIMIT,
    H_LEFT,
    H_RESET,
    H_POLICY,
    H_RATE,
    H_REQUEST,
    H_RANGES,
    H_PART,
    HEADERS
};
#define BIT(h)       (1u << (h))
#define RATE_HEADERS (BIT(H_LIMIT) | BIT(H_LEFT) | BIT(H_RESET) | BIT(H_POLICY) | BIT(H_RATE))

/* clang-format off */
static const struct {
    const char *key, *name, *type, *doc;
} headers[HEADERS] = {
    [H_WWW]         = { "www_authenticate", "WWW-Authenticate", "string", "Which credential is due, and why this one was refused." },
    [H_RETRY]       = { "retry_after", "Retry-After", "integer", "Seconds after which to ask again." },
    [H_TAG]         = { "etag", "ETag", "string", "Names this state of it: for If-Match and If-None-Match." },
    [H_LINK]        = { "link", "Link", "string", "rel=\"next\": the next page of a list; rel=\"successor-version\": what replaces it." },
    [H_REPLAYED]    = { "idempotent_replayed", "Idempotent-Replayed", "string", "true: the answer that was kept for this Idempotency-Key." },
    [H_DEPRECATION] = { "deprecation", "Deprecation", "string", "Since when it is deprecated (RFC 9745)." },
    [H_SUNSET]      = { "sunset", "Sunset", "string", "Until when it is offered (RFC 8594)." },
    [H_VERSION]     = { "api_version", "X-API-Version", "string", "Version of the API that answered." },
    [H_LIMIT]       = { "rate_limit", "X-RateLimit-Limit", "integer", "Requests a minute." },
    [H_LEFT]        = { "rate_limit_remaining", "X-RateLimit-Remaining", "integer", "Requests that are left of them." },
    [H_RESET]       = { "rate_limit_reset", "X-RateLimit-Reset", "integer", "When the minute ends, in seconds since 1970." },
    [H_POLICY]      = { "rate_policy", "RateLimit-Policy", "string", "The same as a structured field: the policy." },
    [H_RATE]        = { "rate", "RateLimit", "string", "The same as a structured field: what is left." },
    [H_RANGES]      = { "accept_ranges", "Accept-Ranges", "string", "bytes: Range may ask for a part." },
    [H_PART]        = { "content_range", "Content-Range", "string", "Which bytes these are, of how many." },
    [H_REQUEST]     = { "request_id", "X-Request-Id", "string", "Finds the request in the log." },
};

static const struct answer {
    enum err_code code; /* the example's */
    const char *key;
    const char *doc; /* of a status with several meanings; NULL: what its code means */
    unsigned headers;
} answers[] = {
    { ERR_INVALID,                "bad_request",            "Something in the request is not right: every fault is named.", 0 },
    { ERR_UNAUTHORIZED,           "unauthorized",           "Who calls is not known.", BIT(H_WWW) },
    { ERR_FORBIDDEN,              "forbidden",              "The credential may not do this, or a limit of the plan is reached.", BIT(H_WWW) },
    { ERR_NOT_FOUND,              "not_found",              NULL, 0 },
    { ERR_NOT_ACCEPTABLE,         "not_acceptable",         NULL, 0 },
    { ERR_REQUEST_TIMEOUT,        "request_timeout",        NULL, 0 },
    { ERR_INVALID_STATE,          "conflict",               "Its state does not allow it, its name is taken, or the same request runs.", BIT(H_REPLAYED) },
    { ERR_PRECONDITION_FAILED,    "precondition_failed",    NULL, 0 },
    { ERR_TOO_LARGE,              "payload_too_large",      NULL, 0 },
    { ERR_UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", NULL, 0 },
    { ERR_RANGE,                  "range_not_satisfiable",  NULL, BIT(H_PART) },
    { ERR_IDEMPOTENCY_KEY_REUSED, "idempotency_key_reused", NULL, 0 },
    { ERR_PRECONDITION_REQUIRED,  "precondition_required",  NULL, 0 },
    { ERR_RATE_LIMITED,           "rate_limited",           NULL, BIT(H_RETRY) | RATE_HEADERS },
    { ERR_INTERNAL,               "internal_error",         NULL, 0 },
    { ERR_NOT_IMPLEMENTED,        "not_implemented",        NULL, 0 },
    { ERR_OVERLOADED,             "unavailable",            "Not available at this moment.", BIT(H_RETRY) },
    { ERR_NO_SPACE,               "insufficient_storage",   NULL, 0 },
};
/* clang-format on */

static bool takes(const struct record *in, unsigned flag, enum field_type type)
{
    for (size_t i = 0; in && i < in->n_fields; i++)
        if ((in->fields[i].flags & flag) && (!type || in->fields[i].type == type))
            return true;
    return false;
}

static bool named_by_row(const struct route *r, int status)
{
    char word[8];

    snprintf(word, sizeof(word), "%d", status);
    return r->fails && strstr(r->fails, word);
}

/* Whether the way of such a request can end with this error. */
static bool can_answer(const struct entry *en, enum err_code code)
{
    const struct route *r = en->route;
    bool body = r->body == BODY_RAW || body_is_due(r);

    switch (code) {
    case ERR_UNAUTHORIZED:
        return !r->public;
    case ERR_NOT_FOUND:
        return strchr(en->path, '{') || takes(r->in, FF_CREATE | FF_UPDATE, F_REF);
    case ERR_NOT_ACCEPTABLE:
        return r->out != NULL;
    case ERR_REQUEST_TIMEOUT:
    case ERR_TOO_LARGE:
        return body;
    case ERR_UNSUPPORTED_MEDIA_TYPE:
        return body_is_due(r);
    case ERR_INVALID_STATE:
    case ERR_IDEMPOTENCY_KEY_REUSED:
        return route_keyed(r);
    case ERR_RANGE:
        return r->bytes;
    case ERR_PRECONDITION_FAILED:
        return r->bytes || (route_matches(r) && strstr(en->path, "{id}"));
    case ERR_PRECONDITION_REQUIRED:
        return r->must_match;
    case ERR_RATE_LIMITED:
        return !r->public || r->limit == LIMIT_AUTH;
    case ERR_NOT_IMPLEMENTED:
        return r->planned || takes(r->in, FF_PLANNED, 0);
    case ERR_NO_SPACE:
        return r->body == BODY_RAW;
    case ERR_OVERLOADED:
        return r->also != 503;
    default:
        return true; /* 400, 403 over plain HTTP, 500 */
    }
}

static void raw(struct json_out *o, const char *key, const char *json)
{
    json_key(o, key);
    json_raw(o, json);
}

static void ref(struct json_out *o, const char *kind, const char *name)
{
    char text[96];

    snprintf(text, sizeof(text), "#/components/%s/%s", kind, name);
    json_open(o, '{');
    json_kstr(o, "$ref", text);
    json_close(o);
}

static void errors(struct doc *d, const struct entry *en)
{
    char status[8];

    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        int n = err_status(answers[i].code);

        if (!can_answer(en, answers[i].code) && !named_by_row(en->route, n))
            continue;
        d->answers |= UINT64_C(1) << i;
        snprintf(status, sizeof(status), "%d", n);
        json_key(&d->o, status);
        ref(&d->o, "responses", answers[i].key);
    }
}

/* ---- headers */

static void put_headers(struct doc *d, unsigned which)
{
    json_key(&d->o, "headers");
    json_open(&d->o, '{');
    for (size_t i = 0; i < HEADERS; i++) {
        if (!(which >> i & 1))
            continue;
        d->headers |= UINT64_C(1) << i;
        json_key(&d->o, headers[i].name);
        ref(&d->o, "headers", headers[i].key);
    }
    json_close(&d->o);
}

static unsigned headers_of(const struct entry *en, bool deleted)
{
    const struct route *r = en->route;
    unsigned h = BIT(H_REQUEST);
    bool row = r->out && !r->list && !r->rows && record_field(r->out, "revision");

    if (!r->public)
        h |= RATE_HEADERS | BIT(H_VERSION);
    if (r->limit == LIMIT_AUTH)
        h |= RATE_HEADERS;
    if (!deleted && (route_tagged(r) || (row && route_matches(r))))
        h |= BIT(H_TAG);
    if (r->bytes)
        h |= BIT(H_RANGES);
    if (r->list || (r->rows && r->query))
        h |= BIT(H_LINK);
    if (route_keyed(r))
        h |= BIT(H_REPLAYED);
    if (r->deprecated)
        h |=
            BIT(H_DEPRECATION) | (r->sunset ? BIT(H_SUNSET) : 0) | (r->successor ? BIT(H_LINK) : 0);
    return h;
}

/* ---- bodies and what is answered */

static void content_begin(struct json_out *o, const char *type)
{
    json_key(o, "content");
    json_open(o, '{');
    json_key(o, type);
    json_open(o, '{');
    json_key(o, "schema");
    json_open(o, '{');
}

static void content_end(struct json_out *o)
{
    json_close(o);
    json_close(o);
}

void operation_body(struct doc *d, const struct route *r)
{
    struct json_out *o = &d->o;
    enum schema_kind kind = r->method == PATCH || r->partial ? SCHEMA_UPDATE : SCHEMA_CREATE;
    bool due =
        takes(r->in, FF_REQUIRED | FF_EITHER, 0) || r->body != BODY_AUTO || kind == SCHEMA_UPDATE;

    if (!r->in && r->body == BODY_AUTO)
        return;
    json_key(o, "requestBody");
    json_open(o, '{');
    json_kbool(o, "required", due);
    content_begin(o, r->body == BODY_RAW ? "application/octet-stream" : "application/json");
    if (r->body == BODY_AUTO)
        schema_ref(o, &d->schemas, r->in, kind);
    json_close(o);
    if (r->body == BODY_AUTO) {
        json_key(o, "example");
        schema_example(o, r->in, kind);
    }
    content_end(o);
    json_close(o);
}

static void list_of(struct doc *d, const struct record *out)
{
    struct json_out *o = &d->o;

    json_kstr(o, "type", "array");
    json_key(o, "items");
    json_open(o, '{');
    schema_ref(o, &d->schemas, out, SCHEMA_OUT);
    json_close(o);
}

static void example_of(struct doc *d, const struct entry *en)
{
    const struct route *r = en->route;
    bool many = r->list || r->rows, page = many && en->surface == PLATFORM;
    struct json_out *o = &d->o;

    json_key(o, "example");
    if (page) {
        json_open(o, '{');
        json_key(o, "data");
    }
    if (many)
        json_open(o, '[');
    schema_example(o, r->out, SCHEMA_OUT);
    if (many)
        json_close(o);
    if (page) {
        json_kstr(o, "next_cursor", NULL);
        json_kbool(o, "has_more", false);
        json_kstr(o, "request_id", "req_01h455vb4pex5vsknk084sn02q");
        json_close(o);
    }
}

static const char *media_type(struct doc *d, const struct route *r)
{
    if (!r->produces)
        return "application/json";
    return arena_dup(&d->arena, r->produces, strcspn(r->produces, ";"));
}

static void answer_content(struct doc *d, const struct entry *en, bool message)
{
    const struct route *r = en->route;
    struct json_out *o = &d->o;

    content_begin(o, media_type(d, r));
    if (message)
        json_kstr(o, "$ref", "#/components/schemas/message_answer");
    else if (r->produces)
        json_kstr(o, "type", "string");
    else if (!r->out)
        json_kstr(o, "type", "object");
    else if (!r->list && !r->rows)
        schema_ref(o, &d->schemas, r->out, SCHEMA_OUT);
    else if (en->surface == PLATFORM)
        schema_ref(o, &d->schemas, r->out, SCHEMA_PAGE);
    else
        list_of(d, r->out);
    json_close(o);
    if (r->example)
        json_kstr(o, "example", r->example);
    else if (message)
        raw(o, "example", "{\"message\":\"done\"}");
    else if (r->out)
        example_of(d, en);
    content_end(o);
}

static void answer(struct doc *d, const struct entry *en, int status, const char *doc)
{
    const struct route *r = en->route;
    bool deleted = r->status == 204;
    char text[8];

    snprintf(text, sizeof(text), "%d", status);
    json_key(&d->o, text);
    json_open(&d->o, '{');
    json_kstr(&d->o, "description", doc);
    put_headers(d, headers_of(en, deleted) | (status == 206 ? BIT(H_PART) : 0));
    if (!r->planned && !(deleted && en->surface == PLATFORM))
        answer_content(d, en, deleted || r->message);
    json_close(&d->o);
}

void operation_answers(struct doc *d, const struct entry *en)
{
    const struct route *r = en->route;
    struct json_out *o = &d->o;

    json_key(o, "responses");
    json_open(o, '{');
    answer(d, en, r->status == 204 && en->surface == CLASSIC ? 200 : r->status,
           r->planned ? "Not built yet: this answer does not come."
           : r->doc   ? r->doc
                      : "Done.");
    if (r->bytes)
        answer(d, en, 206, "The part that Range asks for.");
    if (route_tagged(r)) {
        json_key(o, "304");
        json_open(o, '{');
        json_kstr(o, "description", "It is still as If-None-Match says.");
        put_headers(d, headers_of(en, false) & ~BIT(H_LINK));
        json_close(o);
    }
    if (r->also)
        answer(d, en, r->also, "The same, where not all is well.");
    errors(d, en);
    json_close(o);
}

/* ---- what all have in common */

static const char fault_schema[] =
    "{\"type\":\"object\",\"required\":[\"field\",\"code\",\"message\"],\"properties\":{"
    "\"field\":{\"type\":\"string\"},\"code\":{\"type\":\"string\"},\"message\":{\"type\":"
    "\"string\"}}}";
static const char error_schema[] =
    "{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{\"error\":{\"type\":\"object\","
    "\"required\":[\"code\",\"message\",\"details\",\"request_id\"],\"properties\":{\"code\":{"
    "\"type\":\"string\",\"description\":\"A word for programs; /errors/{code} explains it.\"},"
    "\"message\":{\"type\":\"string\"},\"details\":{\"description\":\"Text, or every fault of the "
    "request.\",\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"$ref\":"
    "\"#/components/schemas/fault\"}}]},\"request_id\":{\"type\":\"string\",\"description\":"
    "\"Finds the request in the log.\"}}}}}";
static const char message_schema[] =
    "{\"type\":\"object\",\"required\":[\"message\"],\"properties\":{\"message\":{\"type\":"
    "\"string\",\"description\":\"What was done.\"}}}";

void common_schemas(struct json_out *o)
{
    raw(o, "error", error_schema);
    raw(o, "fault", fault_schema);
    raw(o, "message_answer", message_schema);
}

static void error_content(struct json_out *o, enum err_code code)
{
    json_key(o, "content");
    json_open(o, '{');
    json_key(o, "application/json");
    json_open(o, '{');
    raw(o, "schema", "{\"$ref\":\"#/components/schemas/error\"}");
    json_key(o, "example");
    json_open(o, '{');
    json_key(o, "error");
    json_open(o, '{');
    json_kstr(o, "code", err_wire(code));
    json_kstr(o, "message", "What went wrong.");
    json_kstr(o, "details", "What can be done about it.");
    json_kstr(o, "request_id", "req_01h455vb4pex5vsknk084sn02q");
    json_close(o);
    json_close(o);
    json_close(o);
    json_close(o);
}

void common_answers(struct doc *d)
{
    struct json_out *o = &d->o;

    json_key(o, "responses");
    json_open(o, '{');
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        if (!(d->answers >> i & 1))
            continue;
        json_key(o, answers[i].key);
        json_open(o, '{');
        json_kstr(o, "description", answers[i].doc ? answers[i].doc : err_doc(answers[i].code));
        put_headers(d, answers[i].headers | BIT(H_REQUEST));
        error_content(o, answers[i].code);
        json_close(o);
    }
    json_close(o);
    json_key(o, "headers");
    json_open(o, '{');
    for (size_t i = 0; i < HEADERS; i++) {
        if (!(d->headers >> i & 1))
            continue;
        json_key(o, headers[i].key);
        json_open(o, '{');
        json_kstr(o, "description", headers[i].doc);
        json_key(o, "schema");
        json_open(o, '{');
        json_kstr(o, "type", headers[i].type);
        json_close(o);
        json_close(o);
    }
    json_close(o);
}

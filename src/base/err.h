/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Errors: one closed list of codes, each with its HTTP status, its word on the wire and its
 * meaning.
 *
 * A function that can fail returns 0 or -1 (or a pointer or NULL) and on failure has filled '*e',
 * which sits on the caller's stack: failing allocates nothing. */

#include <stdbool.h>

/* clang-format off */
#define ERR_CODES(X) \
    /*  symbol                  status  wire code                      retry   what it means, in a sentence */ \
    X(INVALID,                  400,    "invalid_request",            false, "Something in the request is not right; details names every fault.") \
    X(INVALID_JSON,             400,    "invalid_json",               false, "The body is not JSON; the message says where.") \
    X(AMBIGUOUS_CREDENTIALS,    400,    "ambiguous_credentials",      false, "More than one credential came with the request.") \
    X(UNSUPPORTED_VERSION,      400,    "unsupported_version",        false, "X-API-Version names a version that there is not.") \
    X(UNAUTHORIZED,             401,    "unauthorized",               false, "The credential, or the password, is missing or not valid (any more).") \
    X(WRONG_ENVIRONMENT,        401,    "wrong_environment",          false, "A live key came to the host for test keys, or the other way round.") \
    X(FORBIDDEN,                403,    "forbidden",                  false, "The credential is valid, and its role, scopes or addresses do not allow this.") \
    X(HTTPS_REQUIRED,           403,    "https_required",             false, "The request came in clear to what is served over https only.") \
    X(QUOTA_EXCEEDED,           403,    "quota_exceeded",             false, "A limit of the tenant's plan is reached.") \
    X(NOT_FOUND,                404,    "not_found",                  false, "There is no such thing, or it is another tenant's.") \
    X(ROUTE_NOT_FOUND,          404,    "route_not_found",            false, "There is no such path in this API.") \
    X(METHOD_NOT_ALLOWED,       405,    "method_not_allowed",         false, "The path is right, and does not take this method; Allow names those it takes.") \
    X(NOT_ACCEPTABLE,           406,    "not_acceptable",             false, "Accept wants a form in which there is no answer.") \
    X(REQUEST_TIMEOUT,          408,    "request_timeout",            true,  "The request, or its body, did not come in time.") \
    X(ALREADY_EXISTS,           409,    "already_exists",             false, "Something of that name, or in that range, is there already.") \
    X(INVALID_STATE,            409,    "invalid_state",              false, "The thing is not in a state in which this can be done.") \
    X(IDEMPOTENCY_IN_PROGRESS,  409,    "idempotency_in_progress",    true,  "The first request under this Idempotency-Key still runs.") \
    X(PRECONDITION_FAILED,      412,    "precondition_failed",        false, "It has changed since its ETag in If-Match was read.") \
    X(TOO_LARGE,                413,    "payload_too_large",          false, "The body, or the answer, is larger than is taken.") \
    X(URI_TOO_LONG,             414,    "uri_too_long",               false, "The path with its query is longer than is taken.") \
    X(UNSUPPORTED_MEDIA_TYPE,   415,    "unsupported_media_type",     false, "The body has a Content-Type or encoding that is not taken here.") \
    X(RANGE,                    416,    "range_not_satisfiable",      false, "Range asks for bytes behind the end; Content-Range says how many there are.") \
    X(IDEMPOTENCY_KEY_REUSED,   422,    "idempotency_key_reused",     false, "The Idempotency-Key was used for another request before.") \
    X(PRECONDITION_REQUIRED,    428,    "precondition_required",      false, "This must not be changed without If-Match.") \
    X(RATE_LIMITED,             429,    "rate_limited",               true,  "Too many requests came; Retry-After says when the next is taken.") \
    X(HEAD_TOO_LARGE,           431,    "request_head_too_large",     false, "The head of the request, with its fields, is larger than is taken.") \
    X(INTERNAL,                 500,    "internal_error",             false, "The server failed; its log has the cause under the request's id.") \
    X(NOT_IMPLEMENTED,          501,    "not_implemented",            false, "This is planned and not built, or not offered by this installation.") \
    X(OVERLOADED,               503,    "overloaded",                 true,  "Too much is under way at this moment; Retry-After says when to ask again.") \
    X(ENGINE_UNAVAILABLE,       503,    "engine_unavailable",         true,  "A part that this needs, such as the host of the containers, does not answer now.") \
    X(BUSY,                     503,    "overloaded",                 true,  "Too much is under way at this moment; Retry-After says when to ask again.") /* the database lost a race; run again */ \
    X(HTTP_VERSION,             505,    "http_version_not_supported", false, "The request is of a version of HTTP that is not spoken here.") \
    X(NO_SPACE,                 507,    "insufficient_storage",       false, "A disk of the host is full.")
/* clang-format on */

enum err_code {
    ERR_NONE,
#define X(sym, status, wire, retry, doc) ERR_##sym,
    ERR_CODES(X)
#undef X
};

struct err {
    enum err_code code;
    char msg[160];   /* For the client. */
    char cause[160]; /* For the log: errno, SQL state, driver text.  Never shown to a client. */
};

/* All of these fill '*e' and are worth -1 (macros, so that an analyzer sees that they are). */
#define err_set(e, code, ...)               \
    ({                                      \
        err_fill((e), (code), __VA_ARGS__); \
        -1;                                 \
    })
/* As err_set() with a cause for the log. */
#define err_cause(e, code, cause, ...)                     \
    ({                                                     \
        err_fill_cause((e), (code), (cause), __VA_ARGS__); \
        -1;                                                \
    })
/* A failed system call: ERR_INTERNAL, the client reads "internal error", the log the rest. */
#define err_sys(e, errnum, ...)                   \
    ({                                            \
        err_fill_sys((e), (errnum), __VA_ARGS__); \
        -1;                                       \
    })

void err_fill(struct err *e, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void err_fill_cause(struct err *e, enum err_code code, const char *cause, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void err_fill_sys(struct err *e, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

int err_status(enum err_code code);
const char *err_wire(enum err_code code);
bool err_retry(enum err_code code);
/* What it means, in a sentence for a client. */
const char *err_doc(enum err_code code);
/* The code whose wire word is 'wire', ERR_INTERNAL if none: for errors that cross a socket. */
enum err_code err_from_wire(const char *wire);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Errors: one closed list of codes, each with its HTTP status and its word on the wire.
 *
 * A function that can fail returns 0 or -1 (or a pointer or NULL) and on failure has filled '*e',
 * which sits on the caller's stack: failing allocates nothing. */

#include <stdbool.h>

/* clang-format off */
#define ERR_CODES(X)                                                    \
    /*  symbol                  status  wire code                retry */ \
    X(INVALID,                  400,    "invalid_request",       false) \
    X(INVALID_JSON,             400,    "invalid_json",          false) \
    X(AMBIGUOUS_CREDENTIALS,    400,    "ambiguous_credentials", false) \
    X(UNSUPPORTED_VERSION,      400,    "unsupported_version",   false) \
    X(UNAUTHORIZED,             401,    "unauthorized",          false) \
    X(WRONG_ENVIRONMENT,        401,    "wrong_environment",     false) \
    X(FORBIDDEN,                403,    "forbidden",             false) \
    X(HTTPS_REQUIRED,           403,    "https_required",        false) \
    X(QUOTA_EXCEEDED,           403,    "quota_exceeded",        false) \
    X(NOT_FOUND,                404,    "not_found",             false) \
    X(ROUTE_NOT_FOUND,          404,    "route_not_found",       false) \
    X(METHOD_NOT_ALLOWED,       405,    "method_not_allowed",    false) \
    X(NOT_ACCEPTABLE,           406,    "not_acceptable",        false) \
    X(REQUEST_TIMEOUT,          408,    "request_timeout",       true)  \
    X(ALREADY_EXISTS,           409,    "already_exists",        false) \
    X(INVALID_STATE,            409,    "invalid_state",         false) \
    X(IDEMPOTENCY_IN_PROGRESS,  409,    "idempotency_in_progress", true) \
    X(PRECONDITION_FAILED,      412,    "precondition_failed",   false) \
    X(TOO_LARGE,                413,    "payload_too_large",     false) \
    X(URI_TOO_LONG,             414,    "uri_too_long",          false) \
    X(UNSUPPORTED_MEDIA_TYPE,   415,    "unsupported_media_type", false) \
    X(IDEMPOTENCY_KEY_REUSED,   422,    "idempotency_key_reused", false) \
    X(PRECONDITION_REQUIRED,    428,    "precondition_required", false) \
    X(RATE_LIMITED,             429,    "rate_limited",          true)  \
    X(HEAD_TOO_LARGE,           431,    "request_head_too_large", false) \
    X(INTERNAL,                 500,    "internal_error",        false) \
    X(NOT_IMPLEMENTED,          501,    "not_implemented",       false) \
    X(OVERLOADED,               503,    "overloaded",            true)  \
    X(ENGINE_UNAVAILABLE,       503,    "engine_unavailable",    true)  \
    X(NO_SPACE,                 503,    "insufficient_storage",  false) /* a disk of the host is full */ \
    X(BUSY,                     503,    "overloaded",            true)  /* the database lost a race; run again */ \
    X(HTTP_VERSION,             505,    "http_version_not_supported", false)
/* clang-format on */

enum err_code {
    ERR_NONE,
#define X(sym, status, wire, retry) ERR_##sym,
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
/* The code whose wire word is 'wire', ERR_INTERNAL if none: for errors that cross a socket. */
enum err_code err_from_wire(const char *wire);

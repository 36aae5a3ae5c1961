/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Requests to URLs that tenants gave: deliveries, exports, probes.  One client for all services.
 *
 * Where they lead: public addresses alone, and what the operator's list allows.  What is judged is
 * the address of the socket that is opened, so no name, however it is spelled and whatever it
 * resolves to the next time, leads elsewhere.  http and https, no redirects, no proxy, no
 * credentials in URLs, no cookies.
 *
 * How many: bounded in all, for each flow (a tenant), and at once for each host (a name, or an
 * address, with its port), where those who wait take turns by flow.  No request waits for another
 * host's: names are looked up on a few threads that are shared fairly too.  Connections are kept
 * for a while and are used again by their own flow only: what one tenant put on a connection can
 * never be taken for a part of another's request or answer. */

#include "base/base.h"
#include "base/fair.h"
#include "codec/cidr.h"
#include "http/client.h"

/* clang-format off */
#define OUTGOING_ENDS(X) \
    /*  symbol         word                    result.err.code         what it means */ \
    X(ANSWERED,        "answered",             ERR_NONE)               /* whatever the status; no other has it surely */ \
    X(NOT_ALLOWED,     "address_not_allowed",  ERR_INVALID)            /* it leads to no address that is allowed */ \
    X(NO_NAME,         "name_not_found",       ERR_ENGINE_UNAVAILABLE) \
    X(NO_CONNECTION,   "connection_refused",   ERR_ENGINE_UNAVAILABLE) /* or there is no way there */ \
    X(TIMED_OUT,       "timed_out",            ERR_ENGINE_UNAVAILABLE) \
    X(TLS,             "tls",                  ERR_ENGINE_UNAVAILABLE) /* a certificate, most of the time */ \
    X(CUT,             "connection_cut",       ERR_ENGINE_UNAVAILABLE) /* no whole answer came, or it is none of HTTP */ \
    X(CROWDED,         "crowded",              ERR_OVERLOADED)         /* no turn came with time enough left: nothing was sent */ \
    X(CANCELLED,       "cancelled",            ERR_INVALID_STATE)      /* by outgoing_cancel() or outgoing_free() */
/* clang-format on */
enum outgoing_end {
#define X(symbol, word, code) OUTGOING_##symbol,
    OUTGOING_ENDS(X)
#undef X
};
/* The word of an end. */
const char *outgoing_word(enum outgoing_end end);

/* All of it is copied. */
struct outgoing_request {
    struct flow flow; /* whose; .seats: most in hand, 0: the bound for each flow that opts say */
    const char *method, *url;
    const struct client_header *headers;
    size_t n_headers;
    struct str body;
    int64_t timeout; /* in all, from outgoing_send() on; 0: 10 s.  Its turn must come before the
                      * last half of it, or the last second */
    int64_t connect; /* for the connection with its TLS; 0: 5 s */
    size_t keep;     /* most bytes of the answer's body that are kept, up to 16 MiB; 0: 4 KiB */
};
enum { OUTGOING_KEEP = 4096, OUTGOING_MOST_KEPT = 16 << 20, OUTGOING_READ = 64 << 10 };
/* All of it is valid until the completion returns. */
struct outgoing_result {
    enum outgoing_end end;
    struct err err;        /* plain words for who gave the URL; .code as the table above says */
    int status;            /* 0: no head came */
    struct str body;       /* its first bytes, as sent: no encoding is undone */
    bool more;             /* the body was longer: up to OUTGOING_READ was read, the rest cut off */
    int64_t retry_after;   /* seconds; -1: it said nothing that could be read */
    int64_t duration;      /* since its turn came; 0: never */
    char address[IP_TEXT]; /* that it was sent to, or "" */
};
/* Called exactly once for each request that was taken, by the client's own thread (or within
 * outgoing_free()), never within outgoing_send() or outgoing_cancel(), which it may call.  It must
 * not wait for anything: all others do meanwhile. */
typedef void outgoing_done(void *ctx, uint64_t id, const struct outgoing_result *r);

struct outgoing;
struct outgoing_ops {
    uint64_t (*send)(struct outgoing *o, const struct outgoing_request *q, outgoing_done *done,
                     void *ctx, struct err *e);
    bool (*cancel)(struct outgoing *o, uint64_t id);
    void (*free)(struct outgoing *o);
};
struct outgoing {
    const struct outgoing_ops *ops;
};

struct outgoing_opts {
    const struct cidr *allowed; /* besides public addresses; copied */
    size_t n_allowed;
    int64_t most;           /* requests in hand, in all; 0: 1024 */
    int64_t own;            /* and of one flow; 0: 128 */
    int64_t bytes;          /* of bodies of requests and answers; 0: 64 MiB */
    int64_t per_host;       /* at once to one host; 0: 16, of which one flow alone gets 6 */
    int lookups;            /* at once; 0: 32, of which one flow alone gets 12 */
    const char *ca_file;    /* NULL: the system's; must stay valid */
    const char *user_agent; /* NULL: "brume/VERSION"; must stay valid */
    /* Up to 'max' addresses of a name, in the order in which they are tried; 0: there is none. May
     * block. NULL: the system's resolver, without its search domains. */
    int (*resolve)(void *ctx, const char *name, struct ip *out, int max);
    void *resolve_ctx;
};
/* Costs nothing before the first request, which opens libcurl and starts the thread. */
struct outgoing *outgoing_new(const struct outgoing_opts *opts);

/* The id of the request, never 0; or 0, and 'done' is never called: ERR_INVALID (what is wrong with
 * it), ERR_RATE_LIMITED (this flow has its share in hand), ERR_OVERLOADED (what is left is for
 * others), ERR_ENGINE_UNAVAILABLE (no libcurl here). */
static inline uint64_t outgoing_send(struct outgoing *o, const struct outgoing_request *q,
                                     outgoing_done *done, void *ctx, struct err *e)
{
    return o->ops->send(o, q, done, ctx, e);
}
/* Has it end soon, with OUTGOING_CANCELLED unless it came to another end before.  False if it is
 * no longer (or was never) in hand, or is cancelled already. */
static inline bool outgoing_cancel(struct outgoing *o, uint64_t id)
{
    return o->ops->cancel(o, id);
}
/* Ends all that is in hand, then waits for look-ups that are under way. */
static inline void outgoing_free(struct outgoing *o)
{
    if (o)
        o->ops->free(o);
}
DEFINE_CLEANUP(struct outgoing *, outgoing_free)

/* ---- the rules, for those who check what a tenant gave before it is kept */

/* Whether requests may lead to 'ip': by the list, or because it is public (ip_is_public()).  Of
 * public ones, those of this machine are refused too, when it comes to them. */
bool outgoing_allowed(const struct ip *ip, const struct cidr *allowed, size_t n_allowed);
/* http or https, a host in ASCII, no credentials, at most 8192 bytes; an address must be allowed.
 * ERR_INVALID says what is wrong. */
int outgoing_check_url(const char *url, const struct cidr *allowed, size_t n_allowed,
                       struct err *e);
/* A token and a value of visible characters, blanks and tabs (RFC 9110, 5.1 and 5.5), and none of
 * the headers that say where a request goes or how it is framed. */
int outgoing_check_header(const char *name, const char *value, struct err *e);
/* Retry-After (RFC 9110, 10.2.3): seconds, or a date in one of the three forms of 5.6.7, of which
 * 'now' (wall time) is taken away, at least 0 and at most 366 days; -1: neither. */
int64_t outgoing_retry_after(struct str value, int64_t now);

/* SPDX-License-Identifier: Apache-2.0 */
/* What the head of a request says beside its route: from where it comes and under which name, which
 * form and version of the API it wants. */
#include "core/request/request.h"

/* The last element that is left of a list, without the spaces around it. */
static struct str take_last(struct str *list)
{
    const char *comma = memrchr(list->p, ',', list->n);
    struct str last = { comma ? comma + 1 : list->p, 0 };

    last.n = (size_t)(list->p + list->n - last.p);
    list->n = comma ? (size_t)(comma - list->p) : 0;
    while (last.n && (*last.p == ' ' || *last.p == '\t')) {
        last.p++;
        last.n--;
    }
    while (last.n && (last.p[last.n - 1] == ' ' || last.p[last.n - 1] == '\t'))
        last.n--;
    return last;
}

/* Several lines of a field are one list (RFC 9110 5.3): the last element of the last line is what
 * the nearest proxy wrote.  False when none is left. */
static bool forwarded_for(const struct http_head *h, size_t *line, struct str *list,
                          struct str *out)
{
    while (list->n == 0) {
        if (*line == 0)
            return false;
        if (str_is_nocase(h->headers[--*line].name, "x-forwarded-for"))
            *list = h->headers[*line].value;
    }
    *out = take_last(list);
    return true;
}

void head_client_ip(struct call_private *p)
{
    const struct lists *lists = p->c.app->lists;
    const struct http_head *h = http_req_head(p->r);
    struct ip ip = *http_req_peer(p->r), next;
    struct str list = { NULL, 0 }, last;
    size_t line = h->n_headers;

    for (;;) {
        bool trusted = false;

        for (size_t i = 0; i < lists->n_proxies && !trusted; i++)
            trusted = cidr_contains(&lists->proxies[i], &ip);
        if (!trusted || !forwarded_for(h, &line, &list, &last) || !ip_parse(last, &next))
            break;
        ip = next;
    }
    if (ip.family)
        ip_format(&ip, p->ip);
    p->client = ip;
}

void head_name(struct call_private *p)
{
    struct uuid id;
    struct str s = { NULL, 0 };

    if (p->r && http_req_head(p->r))
        s = http1_header(http_req_head(p->r), "x-request-id");
    if (s.n == 36 && uuid_parse(s, &id)) {
        memcpy(p->request_id, s.p, s.n); /* as it was sent */
        return;
    }
    uuid_new(p->c.app->clock, &id);
    typeid_format("req", &id, p->request_id);
}

/* W3C Trace Context: 00-<32 hex>-<16 hex>-<2 hex>. */
void head_trace(struct call_private *p)
{
    struct str s = http1_header(http_req_head(p->r), "traceparent");

    if (s.n < 55 || s.p[2] != '-' || s.p[35] != '-' || s.p[52] != '-')
        return;
    for (size_t i = 3; i < 35; i++)
        if (!strchr("0123456789abcdef", s.p[i]) || s.p[i] == '\0')
            return;
    memcpy(p->trace_id, s.p + 3, 32);
}

int head_accept(struct call_private *p, struct err *e)
{
    static const char *const named_only[] = { "application/problem+json", "text/event-stream" };
    struct str accept = http1_header(http_req_head(p->r), "accept");
    bool named, any = false;

    if (!accept.n)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(named_only); i++)
        if (accept_quality(accept, named_only[i], &named) && named) {
            any = true;
            p->problem_json |= i == 0;
        }
    if ((p->mount && !p->c.route->out) || any || accept_quality(accept, "application/json", &named))
        return 0;
    return err_set(e, ERR_NOT_ACCEPTABLE, "The answer is application/json");
}

static const char *const versions[] = { "2026-01-01", "2026-04-01" };

/* NULL: there is no such version. */
static const char *version_of(struct str v)
{
    for (size_t i = 0; i < ARRAY_LEN(versions); i++)
        if (str_is(v, versions[i]))
            return versions[i];
    return NULL;
}

int head_version(struct call_private *p, struct err *e)
{
    struct str v = http1_header(http_req_head(p->r), "x-api-version");

    if (!v.p || (p->version = version_of(v)))
        return 0;
    return err_set(e, ERR_UNSUPPORTED_VERSION, "X-API-Version must be 2026-01-01 or 2026-04-01");
}

/* Where no header says it: the version of the credential's first use, which may be this one. */
void head_version_kept(struct call_private *p)
{
    if (!p->version)
        p->version = version_of(str_of(p->who.version));
    if (!p->version)
        p->version = versions[ARRAY_LEN(versions) - 1];
}

/* Of two lines nobody could say which counts. */
int head_singles(struct call_private *p, struct err *e)
{
    static const char *const singles[] = { "content-type", "idempotency-key", "x-api-version",
                                           "x-tenant-id" };

    for (size_t i = 0; i < ARRAY_LEN(singles); i++)
        if (http1_header_count(http_req_head(p->r), singles[i]) > 1)
            return err_set(e, ERR_INVALID, "The header %s was given more than once", singles[i]);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Reads heads of requests.  Hides the rule that decides all doubtful cases: what two servers could
 * read in two ways is refused, so that no proxy before us can be made to see other messages than we
 * do.  Each line is looked at once; nothing is copied. */
#include "codec/http1.h"

#include "codec/http1_bytes.h"

/* clang-format off */
#define VT (VALUE | TARGET)
const uint8_t http1_classes[256] = {
    ['\t'] = VALUE, [' '] = VALUE,
    ['!'] = VT | TOKEN | HOSTC, ['"'] = VT, ['#'] = VALUE | TOKEN, ['$'] = VT | TOKEN | HOSTC,
    ['%'] = VT | TOKEN | HOSTC, ['&'] = VT | TOKEN | HOSTC, ['\''] = VT | TOKEN | HOSTC,
    ['('] = VT | HOSTC, [')'] = VT | HOSTC, ['*'] = VT | TOKEN | HOSTC, ['+'] = VT | TOKEN | HOSTC,
    [','] = VT | HOSTC, ['-'] = VT | TOKEN | HOSTC, ['.'] = VT | TOKEN | HOSTC, ['/'] = VT,
    ['0' ... '9'] = VT | TOKEN | HOSTC | DIGIT,
    [':'] = VT, [';'] = VT | HOSTC, ['<'] = VT, ['='] = VT | HOSTC, ['>'] = VT, ['?'] = VT, ['@'] = VT,
    ['A' ... 'Z'] = VT | TOKEN | HOSTC,
    ['['] = VT, ['\\'] = VT, [']'] = VT, ['^'] = VT | TOKEN, ['_'] = VT | TOKEN | HOSTC,
    ['`'] = VT | TOKEN,
    ['a' ... 'z'] = VT | TOKEN | HOSTC,
    ['{'] = VT, ['|'] = VT | TOKEN, ['}'] = VT, ['~'] = VT | TOKEN | HOSTC,
    [0x80 ... 0xff] = VALUE,
};
#undef VT

static const struct {
    struct str name;
    enum method method;
} methods[] = {
    { STR("GET"), GET }, { STR("HEAD"), HEAD }, { STR("POST"), POST }, { STR("PUT"), PUT },
    { STR("PATCH"), PATCH }, { STR("DELETE"), DELETE }, { STR("OPTIONS"), OPTIONS },
};
/* clang-format on */

enum { MAX_METHOD = 32 };

/* What the framing fields said, besides what stands in the head. */
struct seen {
    int host, length, coding;
    bool close, keep_alive, upgrade, websocket;
};

static size_t span(const char *p, const char *end, unsigned class)
{
    const char *at = p;

    while (at < end && is(*at, class))
        at++;
    return (size_t)(at - p);
}

const char *method_name(enum method m)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (methods[i].method == m)
            return methods[i].name.p;
    return m == METHOD_OTHER ? "OTHER" : "NONE";
}

enum method method_parse(struct str s)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (str_eq(s, methods[i].name))
            return methods[i].method;
    return METHOD_OTHER;
}

static enum http1_result bad(struct err *e, enum err_code code, const char *why)
{
    err_set(e, code, "%s", why);
    return HTTP1_BAD;
}

static struct str trim(struct str s)
{
    while (s.n && (*s.p == ' ' || *s.p == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* ---- the target */

/* uri-host [ ":" port ], where the host is a name, an IPv4 address or an IPv6 address in brackets.
 */
static bool host_ok(struct str s)
{
    const char *p = s.p, *end = s.p + s.n;

    if (s.n && *p == '[') {
        const char *from = ++p;
        while (p < end && *p != ']' && (is(*p, HOSTC) || *p == ':'))
            p++;
        if (p == end || *p != ']' || p == from)
            return false;
        p++;
    } else {
        size_t n = span(p, end, HOSTC);
        if (n == 0)
            return false;
        p += n;
    }
    if (p == end)
        return true;
    if (*p++ != ':')
        return false;
    return (size_t)(end - p) <= 5 && span(p, end, DIGIT) == (size_t)(end - p);
}

static void split_target(struct http_head *h)
{
    const char *q = memchr(h->target.p, '?', h->target.n);

    h->path = h->target;
    if (q) {
        h->path.n = (size_t)(q - h->target.p);
        h->query = (struct str){ q + 1, h->target.n - h->path.n - 1 };
    }
}

/* "http://host[:port]/path": the host stands in for the Host field. */
static enum http1_result absolute_form(struct http_head *h, struct err *e)
{
    struct str t = h->target;
    size_t scheme = 0;

    if (t.n > 7 && str_is_nocase((struct str){ t.p, 7 }, "http://"))
        scheme = 7;
    else if (t.n > 8 && str_is_nocase((struct str){ t.p, 8 }, "https://"))
        scheme = 8;
    if (!scheme)
        return bad(e, ERR_INVALID, "the request target is malformed");

    const char *from = t.p + scheme, *end = t.p + t.n, *slash = from;
    while (slash < end && *slash != '/' && *slash != '?')
        slash++;
    h->host = (struct str){ from, (size_t)(slash - from) };
    if (!host_ok(h->host) || (slash < end && *slash == '?'))
        return bad(e, ERR_INVALID, "the request target is malformed");
    h->target = slash == end ? STR("/") : (struct str){ slash, (size_t)(end - slash) };
    split_target(h);
    return HTTP1_OK;
}

static enum http1_result read_target(struct http_head *h, size_t max_path, struct err *e)
{
    struct str t = h->target;

    if (t.n > max_path)
        return bad(e, ERR_URI_TOO_LONG, "the request target is too long");
    if (span(t.p, t.p + t.n, TARGET) != t.n)
        return bad(e, ERR_INVALID, "the request target has a byte that must be encoded");
    if (str_is(h->method_text, "CONNECT"))
        return bad(e, ERR_NOT_IMPLEMENTED, "CONNECT is not served");
    if (t.p[0] == '/') {
        split_target(h);
        return HTTP1_OK;
    }
    if (t.n == 1 && t.p[0] == '*' && h->method == OPTIONS) {
        h->path = t;
        return HTTP1_OK;
    }
    return absolute_form(h, e);
}

/* ---- the request line */

/* Not one byte of it may be looked at before the whole line is there, but two cases are clear
 * earlier: what begins like no method, and a target without end. */
static enum http1_result first_line_unfinished(struct str s, size_t max_path, bool *not_http,
                                               struct err *e)
{
    size_t n = span(s.p, s.p + s.n, TOKEN);

    if (n > MAX_METHOD || (n < s.n && (n == 0 || s.p[n] != ' '))) {
        *not_http = true;
        return bad(e, ERR_INVALID, "this is no HTTP");
    }
    if (n < s.n && s.n - n - 1 > max_path && !memchr(s.p + n + 1, ' ', max_path + 1))
        return bad(e, ERR_URI_TOO_LONG, "the request target is too long");
    return HTTP1_MORE;
}

/* 'line' is the request line without its CR LF. */
static enum http1_result read_first_line(struct str line, size_t max_path, struct http_head *h,
                                         bool *not_http, struct err *e)
{
    const char *p = line.p, *end = line.p + line.n;
    size_t n = span(p, end, TOKEN);
    const char *version = memrchr(line.p, ' ', line.n);

    if (n == 0 || p + n == end || p[n] != ' ' || !version || end - version < 6 ||
        memcmp(version + 1, "HTTP/", 5) != 0) {
        *not_http = true;
        return bad(e, ERR_INVALID, "this is no HTTP");
    }
    h->method_text = (struct str){ p, n };
    h->method = method_parse(h->method_text);
    version++;
    if (end - version != 8 || !is(version[5], DIGIT) || version[6] != '.' || !is(version[7], DIGIT))
        return bad(e, ERR_INVALID, "the HTTP version is malformed");
    if (version[5] != '1' || version[7] > '1')
        return bad(e, ERR_HTTP_VERSION, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    h->minor = version[7] - '0';
    h->keep_alive = h->minor == 1;
    p += n + 1;
    if (version - 1 <= p)
        return bad(e, ERR_INVALID, "the request target is missing");
    h->target = (struct str){ p, (size_t)(version - 1 - p) };
    if (n > MAX_METHOD)
        return bad(e, ERR_NOT_IMPLEMENTED, "the method is unknown");
    return read_target(h, max_path, e);
}

/* ---- fields that decide where a message ends */

static enum http1_result read_length(struct str v, struct http_head *h, struct err *e)
{
    int64_t n = 0;

    if (v.n == 0 || v.n > 18 || span(v.p, v.p + v.n, DIGIT) != v.n)
        return bad(e, ERR_INVALID, "Content-Length is malformed");
    for (size_t i = 0; i < v.n; i++)
        n = n * 10 + (v.p[i] - '0');
    h->content_length = n;
    return HTTP1_OK;
}

static enum http1_result read_coding(struct str v, struct http_head *h, struct err *e)
{
    struct str last = v, before = { v.p, 0 };
    const char *comma = memrchr(v.p, ',', v.n);

    if (str_is_nocase(v, "chunked")) {
        h->chunked = true;
        return HTTP1_OK;
    }
    if (comma) {
        last = trim((struct str){ comma + 1, (size_t)(v.p + v.n - comma - 1) });
        before = trim((struct str){ v.p, (size_t)(comma - v.p) });
    }
    /* One coding below chunked is well-formed, only not spoken here. */
    if (before.n && span(before.p, before.p + before.n, TOKEN) == before.n &&
        str_is_nocase(last, "chunked") && !str_is_nocase(before, "chunked") &&
        !str_is_nocase(before, "identity"))
        return bad(e, ERR_NOT_IMPLEMENTED, "no Transfer-Encoding but chunked is understood");
    return bad(e, ERR_INVALID, "Transfer-Encoding must be chunked");
}

/* Walks a comma-separated list: false at its end. */
static bool next_item(struct str *list, struct str *item)
{
    while (list->n) {
        const char *comma = memchr(list->p, ',', list->n);
        size_t n = comma ? (size_t)(comma - list->p) : list->n;

        *item = trim((struct str){ list->p, n });
        list->p += n + (comma != NULL);
        list->n -= n + (comma != NULL);
        if (item->n)
            return true;
    }
    return false;
}

static void read_connection(struct str v, struct seen *seen)
{
    struct str item;

    while (next_item(&v, &item)) {
        if (str_is_nocase(item, "close"))
            seen->close = true;
        else if (str_is_nocase(item, "keep-alive"))
            seen->keep_alive = true;
        else if (str_is_nocase(item, "upgrade"))
            seen->upgrade = true;
    }
}

static void read_upgrade(struct str v, struct seen *seen)
{
    struct str item;

    while (next_item(&v, &item))
        if (str_is_nocase(item, "websocket"))
            seen->websocket = true;
}

static enum http1_result read_host(struct str v, struct http_head *h, struct err *e)
{
    if (!host_ok(v))
        return bad(e, ERR_INVALID, "Host is malformed");
    if (h->host.n == 0) /* an absolute-form target has set it already and rules */
        h->host = v;
    return HTTP1_OK;
}

/* Looks at the few fields that matter to the connection; their lengths differ, mostly. */
static enum http1_result note(const struct http_header *f, struct http_head *h, struct seen *seen,
                              struct err *e)
{
    switch (f->name.n) {
    case 4:
        if (str_is_nocase(f->name, "host")) {
            if (seen->host++)
                return bad(e, ERR_INVALID, "Host is given twice");
            return read_host(f->value, h, e);
        }
        break;
    case 6:
        if (str_is_nocase(f->name, "expect") && str_is_nocase(f->value, "100-continue"))
            h->expect_continue = h->minor == 1;
        break;
    case 7:
        if (str_is_nocase(f->name, "upgrade"))
            read_upgrade(f->value, seen);
        break;
    case 10:
        if (str_is_nocase(f->name, "connection"))
            read_connection(f->value, seen);
        break;
    case 14:
        if (str_is_nocase(f->name, "content-length")) {
            if (seen->length++)
                return bad(e, ERR_INVALID, "Content-Length is given twice");
            return read_length(f->value, h, e);
        }
        break;
    case 17:
        if (str_is_nocase(f->name, "transfer-encoding")) {
            if (seen->coding++)
                return bad(e, ERR_INVALID, "Transfer-Encoding is given twice");
            return read_coding(f->value, h, e);
        }
        break;
    default:
        break;
    }
    return HTTP1_OK;
}

/* 'line' is a field line without its CR LF, not empty. */
static enum http1_result read_field(struct str line, struct http_head *h, struct seen *seen,
                                    struct err *e)
{
    const char *p = line.p, *end = line.p + line.n;
    size_t n = span(p, end, TOKEN);

    if (*p == ' ' || *p == '\t')
        return bad(e, ERR_INVALID, "folded header lines are not accepted");
    if (n == 0 || p + n == end || p[n] != ':')
        return bad(e, ERR_INVALID, "a header line is malformed");
    if (h->n_headers == HTTP_MAX_HEADERS)
        return bad(e, ERR_HEAD_TOO_LARGE, "the request has too many headers");

    struct http_header *f = &h->headers[h->n_headers];
    f->name = (struct str){ p, n };
    p += n + 1;
    if (span(p, end, VALUE) != (size_t)(end - p))
        return bad(e, ERR_INVALID, "a header value has a control character");
    f->value = trim((struct str){ p, (size_t)(end - p) });
    h->n_headers++;
    return note(f, h, seen, e);
}

/* The head is whole: what only all fields together can tell. */
static enum http1_result conclude(struct http_head *h, const struct seen *seen, struct err *e)
{
    if (!seen->host && h->minor == 1)
        return bad(e, ERR_INVALID, "Host is missing");
    if (seen->length && seen->coding)
        return bad(e, ERR_INVALID, "Content-Length and Transfer-Encoding exclude each other");
    if (seen->coding && h->minor == 0)
        return bad(e, ERR_INVALID, "HTTP/1.0 has no Transfer-Encoding");
    h->keep_alive = !seen->close && (h->minor == 1 || seen->keep_alive);
    h->upgrade_websocket = seen->upgrade && seen->websocket && h->minor == 1 && h->method == GET;
    return HTTP1_OK;
}

/* ---- the whole head */

/* Everything but the array of headers, which 'n_headers' closes. */
static void clear(struct http_head *h)
{
    h->method = METHOD_NONE;
    h->method_text = h->target = h->path = h->query = h->host = (struct str){ "", 0 };
    h->minor = 1;
    h->n_headers = 0;
    h->content_length = -1;
    h->chunked = h->keep_alive = h->expect_continue = h->upgrade_websocket = false;
    h->size = 0;
}

/* Takes the next line, ended by CR LF, off 's' at '*at'.  A line ended by LF alone is bad. */
static enum http1_result next_line(struct str s, size_t *at, struct str *line, struct err *e)
{
    const char *p = s.p + *at;
    const char *lf = memchr(p, '\n', s.n - *at);

    if (!lf)
        return HTTP1_MORE;
    if (lf == p || lf[-1] != '\r')
        return bad(e, ERR_INVALID, "a line must end with CR LF");
    *line = (struct str){ p, (size_t)(lf - 1 - p) };
    *at += (size_t)(lf + 1 - p);
    return HTTP1_OK;
}

enum http1_result http1_parse(struct str p, size_t max_head, size_t max_path, struct http_head *out,
                              bool *not_http, struct err *e)
{
    struct seen seen = { 0 };
    struct str line;
    size_t at = 0;
    enum http1_result got;

    clear(out);
    *not_http = false;
    /* One empty line before a request is left over by old clients (RFC 9112 2.2). */
    if (p.n && p.p[0] == '\r') {
        if (p.n == 1)
            return HTTP1_MORE;
        at = p.p[1] == '\n' ? 2 : 0;
    }
    got = next_line(p, &at, &line, e);
    if (got == HTTP1_MORE) {
        got = first_line_unfinished((struct str){ p.p + at, p.n - at }, max_path, not_http, e);
        if (got == HTTP1_MORE && p.n > max_head)
            return bad(e, ERR_HEAD_TOO_LARGE, "the request's head is too large");
        return got;
    }
    if (got == HTTP1_BAD) {
        const char *lf = memchr(p.p + at, '\n', p.n - at);
        *not_http = !memmem(p.p + at, (size_t)(lf - p.p) - at, " HTTP/", 6);
        return got;
    }
    if (read_first_line(line, max_path, out, not_http, e) != HTTP1_OK)
        return HTTP1_BAD;

    for (;;) {
        got = next_line(p, &at, &line, e);
        if (at > max_head || (got == HTTP1_MORE && p.n > max_head))
            return bad(e, ERR_HEAD_TOO_LARGE, "the request's head is too large");
        if (got != HTTP1_OK)
            return got;
        if (line.n == 0)
            break;
        if (read_field(line, out, &seen, e) != HTTP1_OK)
            return HTTP1_BAD;
    }
    out->size = at;
    return conclude(out, &seen, e);
}

struct str http1_header(const struct http_head *h, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < h->n_headers; i++)
        if (h->headers[i].name.n == n && str_is_nocase(h->headers[i].name, name))
            return h->headers[i].value;
    return (struct str){ NULL, 0 };
}

size_t http1_header_count(const struct http_head *h, const char *name)
{
    size_t n = strlen(name), count = 0;

    for (size_t i = 0; i < h->n_headers; i++)
        count += h->headers[i].name.n == n && str_is_nocase(h->headers[i].name, name);
    return count;
}

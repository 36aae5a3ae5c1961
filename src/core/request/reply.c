/* SPDX-License-Identifier: Apache-2.0 */
/* Presenters: what a handler answers becomes bytes here, once for each surface.  Hides the envelope
 * of lists, entity tags, the two shapes of errors. */
#include "base/map.h"
#include "base/put.h"
#include "core/request/request.h"

/* ---- what handlers say */

void answer_begin(struct call_private *p, const char *content_type)
{
    buf_clear(&p->buf);
    p->out.depth = 0;
    p->out.failed = false;
    p->out.comma = 0;
    p->out.list = 0;
    p->out.keyed = false;
    p->content_type = content_type;
}

static int reply_end(struct call_private *p)
{
    p->replied = true;
    if (json_done(&p->out) < 0)
        p->code = ERR_TOO_LARGE;
    p->body = buf_str(&p->buf);
    return 0;
}

const char *etag_of(struct arena *a, const struct uuid *id, int64_t revision)
{
    char text[16 + PUT_INT_MAX], *at = text;

    *at++ = '"';
    for (const char *s = id->s[0] ? id->s + 30 : ""; *s; s++)
        *at++ = *s;
    *at++ = '-';
    *at++ = 'r';
    at += put_int(at, revision);
    *at++ = '"';
    return arena_dup(a, text, (size_t)(at - text));
}

int reply_row(struct call *c, const struct record *r, const void *row)
{
    struct call_private *p = c->p;
    const struct field *id = record_field(r, "id"), *rev = record_field(r, "revision");

    answer_begin(p, "application/json");
    json_row(&p->out, r, row);
    if (id && rev && id->type == F_UUID && rev->type == F_INT)
        p->etag = etag_of(c->arena, FIELD_CAT(row, id, struct uuid), *FIELD_CAT(row, rev, int64_t));
    return reply_end(p);
}

/* Weak, over the rows: two lists with the same rows have the same tag, whatever request asked. */
static void etag_list(struct call_private *p, size_t from)
{
    static const uint8_t key[16] = "brume list etag";
    uint8_t sum[16];
    char hex[33];

    hash_sip128(key, p->buf.p + from, p->buf.n - from, sum);
    hex_encode(sum, sizeof(sum), hex);
    p->etag = arena_printf(p->c.arena, "W/\"%.24s\"", hex);
    p->etag_weak = true;
}

/* The request's own URL with another cursor. */
static void link_next(struct call_private *p, const char *next)
{
    const struct http_head *h = http_req_head(p->r);
    struct buf b = BUF(KIB(32));

    buf_puts(&b, "<");
    buf_put(&b, h->path.p, h->path.n);
    buf_puts(&b, "?");
    for (size_t i = 0; i < h->query.n;) {
        size_t end = i;

        while (end < h->query.n && h->query.p[end] != '&')
            end++;
        struct str part = { h->query.p + i, end - i };
        bool paging = (part.n >= 7 && memcmp(part.p, "cursor=", 7) == 0) ||
                      (part.n >= 7 && memcmp(part.p, "offset=", 7) == 0);
        if (part.n && !paging) {
            buf_put(&b, part.p, part.n);
            buf_puts(&b, "&");
        }
        i = end + 1;
    }
    buf_printf(&b, "cursor=%s>; rel=\"next\"", next);
    if (!b.failed)
        reply_header(&p->c, "Link", buf_cstr(&b));
    buf_free(&b);
}

void page_open(struct call *c, struct page *page)
{
    struct call_private *p = c->p;

    answer_begin(p, "application/json");
    if (c->surface == PLATFORM) {
        json_open(&p->out, '{');
        json_key(&p->out, "data");
    }
    page->from = p->buf.n;
    json_open(&p->out, '[');
}

void page_rows(struct call *c, const struct record *r, const struct rows *rows)
{
    for (size_t i = 0; i < rows->n; i++)
        json_row(&c->p->out, r, (const char *)rows->v + i * r->size);
}

int page_close(struct call *c, const struct page *page, const char *next)
{
    struct call_private *p = c->p;

    json_close(&p->out);
    if (p->mount && p->mount->info->class == CLASS_READ)
        etag_list(p, page->from);
    if (c->surface == PLATFORM) {
        json_kstr(&p->out, "next_cursor", next);
        json_kbool(&p->out, "has_more", next != NULL);
        json_kstr(&p->out, "request_id", p->request_id);
        json_close(&p->out);
    }
    if (next && p->r)
        link_next(p, next);
    return reply_end(p);
}

int reply_page(struct call *c, const struct record *r, const struct rows *rows, const char *next)
{
    struct page page;

    page_open(c, &page);
    page_rows(c, r, rows);
    return page_close(c, &page, next);
}

int reply_rows(struct call *c, const struct record *r, const struct rows *rows)
{
    return reply_page(c, r, rows, NULL);
}

int reply_json(struct call *c)
{
    c->p->content_type = "application/json";
    return reply_end(c->p);
}

static int reply_vmessage(struct call_private *p, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
static int reply_vmessage(struct call_private *p, const char *fmt, va_list ap)
{
    char text[512];

    vsnprintf(text, sizeof(text), fmt, ap);
    answer_begin(p, "application/json");
    json_open(&p->out, '{');
    json_kstr(&p->out, "message", text);
    json_close(&p->out);
    return reply_end(p);
}

int reply_message(struct call *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int rc = reply_vmessage(c->p, fmt, ap);
    va_end(ap);
    return rc;
}

int reply_deleted(struct call *c, const char *fmt, ...)
{
    struct call_private *p = c->p;
    va_list ap;

    if (c->surface == PLATFORM) {
        answer_begin(p, NULL);
        p->status = 204;
        p->replied = true;
        p->body = (struct str){ NULL, 0 };
        return 0;
    }
    va_start(ap, fmt);
    int rc = reply_vmessage(p, fmt, ap);
    va_end(ap);
    p->status = 200;
    return rc;
}

void reply_status(struct call *c, int status)
{
    c->p->status = status;
}

void reply_header(struct call *c, const char *name, const char *value)
{
    struct call_private *p = c->p;

    if (strpbrk(value, "\r\n") || strpbrk(name, "\r\n: "))
        return;
    struct reply_header *h = arena_new(c->arena, struct reply_header);
    h->name = arena_strdup(c->arena, name);
    h->value = arena_strdup(c->arena, value);
    *p->headers_end = h;
    p->headers_end = &h->next;
}

bool has_header(const struct call_private *p, const char *name)
{
    for (const struct reply_header *h = p->headers; h; h = h->next)
        if (strcasecmp(h->name, name) == 0)
            return true;
    return false;
}

/* ---- errors */

static const char *title_of(int status)
{
    switch (status) {
    case 400:
        return "The request is not right";
    case 401:
        return "Who calls is not known";
    case 403:
        return "This is not allowed";
    case 404:
        return "There is no such thing";
    case 405:
        return "This method is not offered here";
    case 409:
        return "The state does not allow it";
    case 412:
        return "It is not as the request assumes";
    case 413:
        return "The body is too large";
    case 416:
        return "There are no such bytes";
    case 415:
        return "This type of body is not taken";
    case 429:
        return "Too many requests";
    case 501:
        return "This is not built";
    case 503:
        return "Not available at this moment";
    case 507:
        return "There is no room for it";
    default:
        return status >= 500 ? "The server failed" : "The request cannot be served";
    }
}

/* What to do about it, where the message does not say. */
static const char *advice_of(enum err_code code)
{
    /* clang-format off */
    static const struct { enum err_code code; const char *text; } advice[] = {
        { ERR_UNAUTHORIZED,            "Send an API key as X-API-Key, or a key or token as Authorization: Bearer" },
        { ERR_FORBIDDEN,               "The credential's role, scopes or policies do not allow this action" },
        { ERR_HTTPS_REQUIRED,          "Send it to https://, and replace a credential that was sent in clear" },
        { ERR_QUOTA_EXCEEDED,          "Delete what is not needed, or have the limit raised" },
        { ERR_NOT_FOUND,               "It does not exist, or is another tenant's" },
        { ERR_ROUTE_NOT_FOUND,         "All paths are in /v1/openapi.json" },
        { ERR_METHOD_NOT_ALLOWED,      "The header Allow names the methods of this path" },
        { ERR_ALREADY_EXISTS,          "Take another name or range, or use what is there" },
        { ERR_INVALID_STATE,           "Look at its status; it may be possible later" },
        { ERR_IDEMPOTENCY_IN_PROGRESS, "Ask again once the first request has been answered" },
        { ERR_IDEMPOTENCY_KEY_REUSED,  "Take a new key for each new request" },
        { ERR_PRECONDITION_FAILED,     "It has changed: read it again for its present ETag" },
        { ERR_PRECONDITION_REQUIRED,   "Send If-Match with the ETag that was read" },
        { ERR_RANGE,                   "Ask for bytes that there are, or without Range for all" },
        { ERR_TOO_LARGE,               "Send less, or in several requests" },
        { ERR_UNSUPPORTED_MEDIA_TYPE,  "Taken here: application/json" },
        { ERR_RATE_LIMITED,            "Ask again after the seconds in Retry-After" },
        { ERR_INTERNAL,                "The fault is not in the request; its request_id finds it in the log" },
        { ERR_NOT_IMPLEMENTED,         "This is planned and not built, or not offered; what is there is in /v1/openapi.json" },
        { ERR_OVERLOADED,              "Ask again after the seconds in Retry-After" },
        { ERR_NO_SPACE,                "Whoever runs this installation has to make room; nothing of the request was kept" },
        { ERR_BUSY,                    "Ask again after the seconds in Retry-After" },
        { ERR_ENGINE_UNAVAILABLE,      "Ask again after the seconds in Retry-After; /health/ready says what is missing" },
    };
    /* clang-format on */

    for (size_t i = 0; i < ARRAY_LEN(advice); i++)
        if (advice[i].code == code)
            return advice[i].text;
    return "What a request may hold is in /v1/openapi.json";
}

/* What no credential is asked of refuses a password. */
static const char *login_advice(const struct call_private *p, enum err_code code)
{
    if (code != ERR_UNAUTHORIZED || !p->mount || !p->mount->info->route->public)
        return NULL;
    return "Check both; POST /auth/forgot-password mails a token that sets a new password";
}

static void faults_write(struct json_out *o, const struct faults *f)
{
    json_key(o, "details");
    json_open(o, '[');
    for (const struct fault_item *i = f->first; i; i = i->next) {
        json_open(o, '{');
        json_kstr(o, "field", i->field);
        json_kstr(o, "code", i->code);
        json_kstr(o, "message", i->message);
        json_close(o);
    }
    json_close(o);
}

void error_body(struct buf *b, const struct err *e, const struct faults *f, const char *request_id,
                bool problem, const char *path, const char *details)
{
    struct json_out o = JSON_OUT(b);
    int status = err_status(e->code);
    const char *msg = e->code == ERR_INTERNAL
                          ? "Something failed here; the log has it under this request's id"
                          : e->msg;

    json_open(&o, '{');
    if (problem) {
        json_key(&o, "type");
        char type[96];
        snprintf(type, sizeof(type), "/errors/%s", err_wire(e->code));
        json_str(&o, type);
        json_kstr(&o, "title", title_of(status));
        json_kint(&o, "status", status);
        json_kstr(&o, "detail", msg);
        if (path)
            json_kstr(&o, "instance", path);
    } else {
        json_key(&o, "error");
        json_open(&o, '{');
    }
    json_kstr(&o, "code", err_wire(e->code));
    if (!problem)
        json_kstr(&o, "message", msg);
    if (f && f->n && (e->code == ERR_INVALID || e->code == ERR_NOT_FOUND))
        faults_write(&o, f);
    else
        json_kstr(&o, "details", details ? details : advice_of(e->code));
    json_kstr(&o, "request_id", request_id);
    json_close(&o);
    if (!problem)
        json_close(&o);
}

static void error_log(const struct call_private *p, const struct err *e)
{
    int status = err_status(e->code);

    if (status != 500 && !(status == 503 && e->cause[0]))
        return;
    log_event(LOG_ERROR, "request_failed", L_STR("code", err_wire(e->code)),
              L_STR("route", p->mount ? p->mount->info->route->path : ""), L_STR("message", e->msg),
              L_STR("cause", e->cause), L_STR("request_id", p->request_id));
}

void reply_error(struct call_private *p, const struct err *e)
{
    const struct http_head *h = p->r ? http_req_head(p->r) : NULL;
    struct str path = h ? h->path : (struct str){ NULL, 0 };
    const char *allow = p->not_allowed && p->r ? dispatch_allow(p) : NULL;

    if (!p->replied)
        p->headers_kept = p->headers_end; /* they were set for this error */
    headers_undo(p);
    p->etag = NULL;
    bytes_forget(p);
    buf_clear(&p->buf);
    error_body(&p->buf, e, &p->faults, p->request_id, p->problem_json,
               path.p ? arena_dup(p->c.arena, path.p, MIN(path.n, (size_t)512)) : NULL,
               allow ? arena_printf(p->c.arena, "Offered here: %s", allow)
                     : login_advice(p, e->code));
    p->body = buf_str(&p->buf);
    p->content_type = p->problem_json ? "application/problem+json" : "application/json";
    p->status = err_status(e->code);
    if (p->code == ERR_NONE)
        error_log(p, e);
    p->code = e->code;
    p->replied = true;
    if (allow)
        reply_header(&p->c, "Allow", allow);
    if (p->status == 401)
        reply_header(&p->c, "WWW-Authenticate",
                     p->auth.www_error ? "Bearer realm=\"brume\", error=\"invalid_token\""
                                       : "Bearer realm=\"brume\"");
    if (p->status == 403 && p->auth.www_error && p->mount)
        reply_header(&p->c, "WWW-Authenticate",
                     arena_printf(p->c.arena, "Bearer realm=\"brume\", error=\"%s\", scope=\"%s\"",
                                  p->auth.www_error, p->c.route->action));
    if (p->status == 503 && !has_header(p, "Retry-After"))
        reply_header(&p->c, "Retry-After", "1");
}

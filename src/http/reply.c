/* SPDX-License-Identifier: Apache-2.0 */
/* Answers in one piece.  Hides how the head is made: by hand into the thread's buffer, with the
 * body behind it where it is small, so that most answers are one copy and one system call. */
#include <time.h>

#include "http/internal.h"

/* clang-format off */
static const struct {
    int status;
    const char *reason;
} reasons[] = {
    { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" },
    { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
    { 405, "Method Not Allowed" }, { 406, "Not Acceptable" }, { 409, "Conflict" },
    { 304, "Not Modified" }, { 206, "Partial Content" }, { 301, "Moved Permanently" },
    { 302, "Found" }, { 303, "See Other" }, { 307, "Temporary Redirect" },
    { 308, "Permanent Redirect" }, { 101, "Switching Protocols" }, { 203, "Non-Authoritative Information" },
    { 205, "Reset Content" }, { 207, "Multi-Status" }, { 300, "Multiple Choices" },
    { 402, "Payment Required" }, { 407, "Proxy Authentication Required" }, { 408, "Request Timeout" },
    { 410, "Gone" }, { 411, "Length Required" }, { 412, "Precondition Failed" },
    { 413, "Content Too Large" }, { 414, "URI Too Long" }, { 415, "Unsupported Media Type" },
    { 416, "Range Not Satisfiable" }, { 417, "Expectation Failed" }, { 418, "I'm a teapot" },
    { 421, "Misdirected Request" }, { 422, "Unprocessable Content" }, { 423, "Locked" },
    { 424, "Failed Dependency" }, { 426, "Upgrade Required" }, { 428, "Precondition Required" },
    { 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
    { 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" },
    { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
    { 505, "HTTP Version Not Supported" }, { 507, "Insufficient Storage" },
};
/* clang-format on */

const char *reason_of(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Status";
}

/* ---- headers of the application */

/* Those that only the server can know. */
static bool ours(const char *name, size_t n)
{
    switch (n) {
    case 4:
        return strcasecmp(name, "Date") == 0;
    case 10:
        return strcasecmp(name, "Connection") == 0 || strcasecmp(name, "Keep-Alive") == 0;
    case 14:
        return strcasecmp(name, "Content-Length") == 0;
    case 17:
        return strcasecmp(name, "Transfer-Encoding") == 0;
    default:
        return false;
    }
}

/* Whether a byte below ' ' is in it; eight at a time, for all but the last few. */
static bool has_control(const char *p, size_t n)
{
    const uint64_t ones = UINT64_MAX / 255;
    uint64_t found = 0, word;

    for (; n >= sizeof(word); p += sizeof(word), n -= sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        found |= (word - ones * ' ') & ~word & (ones * 0x80);
    }
    for (; n > 0; p++, n--)
        found |= (uint8_t)*p < ' ';
    return found != 0;
}

void http_header(struct http_req *r, const char *name, const char *value)
{
    size_t n = strlen(name), v = strlen(value);

    if (ours(name, n))
        return;
    char *at = buf_room(&r->headers, n + v + 4);
    if (!at) {
        r->headers.failed = false; /* the line is left out, the answer stands */
        return;
    }
    memcpy(at, name, n);
    memcpy(at + n, ": ", 2);
    memcpy(at + n + 2, value, v);
    memcpy(at + n + 2 + v, "\r\n", 2);
    /* No value can end its line: what could is a space. */
    if (has_control(at, n + 2 + v))
        for (size_t i = 0; i < n + 2 + v; i++)
            if ((uint8_t)at[i] < ' ' && at[i] != '\t')
                at[i] = ' ';
    buf_grew(&r->headers, n + v + 4);
}

void http_headerf(struct http_req *r, const char *name, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    http_header(r, name, arena_vprintf(&r->arena, fmt, ap));
    va_end(ap);
}

/* ---- the head */

static char *put_text(char *p, const char *s, size_t n)
{
    memcpy(p, s, n);
    return p + n;
}
#define PUT(p, lit) put_text((p), (lit), sizeof(lit) - 1)

static char *put_number(char *p, uint64_t n)
{
    char digits[20];
    size_t i = sizeof(digits);

    do
        digits[--i] = (char)('0' + n % 10);
    while (n /= 10);
    return put_text(p, digits + i, sizeof(digits) - i);
}

static char *put_date(struct io *io, char *p)
{
    if (io->now >= io->date_until) {
        int64_t wall = clock_wall(io->server->clock);
        time_t second = (time_t)(wall / SECONDS(1));
        struct tm tm;

        gmtime_r(&second, &tm);
        io->date_n =
            strftime(io->date, sizeof(io->date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        io->date_until = io->now + SECONDS(1) - wall % SECONDS(1);
    }
    return put_text(p, io->date, io->date_n);
}

/* An answer ends the connection where it was asked for, where the peer cannot go on, and where more
 * of the request is unread than is worth reading. */
static bool must_close(const struct http_req *r)
{
    const struct conn *c = r->conn;

    return r->close_after || !r->head.keep_alive || c->io->draining || c->linger ||
           (!c->body_over && (c->continue_due || (!c->chunked && c->body_left > DISCARD_MAX)));
}

static bool bodiless(int status)
{
    return status == 204 || status == 304 || status < 200;
}

enum framing { FRAME_LENGTH, FRAME_CHUNKED, FRAME_CLOSE };

/* Makes the head in the thread's buffer and returns its size. */
static size_t make_head(struct http_req *r, enum framing framing, uint64_t length)
{
    struct io *io = r->io;
    char *p = io->scratch;
    const char *reason = reason_of(r->status);

    r->closing = must_close(r) || framing == FRAME_CLOSE;
    p = PUT(p, "HTTP/1.1 ");
    p = put_number(p, (uint64_t)r->status);
    *p++ = ' ';
    p = put_text(p, reason, strlen(reason));
    p = PUT(p, "\r\n");
    p = put_date(io, p);
    if (framing == FRAME_CHUNKED && r->head.minor == 1) {
        p = PUT(p, "Transfer-Encoding: chunked\r\n");
    } else if (framing == FRAME_LENGTH && !bodiless(r->status)) {
        p = PUT(p, "Content-Length: ");
        p = put_number(p, length);
        p = PUT(p, "\r\n");
    }
    if (r->closing)
        p = PUT(p, "Connection: close\r\n");
    else if (r->head.minor == 0)
        p = PUT(p, "Connection: keep-alive\r\n");
    p = put_text(p, r->headers.p ? r->headers.p : "", r->headers.n);
    p = PUT(p, "\r\n");
    return (size_t)(p - io->scratch);
}

/* ---- answers */

static void emit_file(struct http_req *r)
{
    struct conn *c = r->conn;
    struct iovec v = { c->io->scratch, make_head(r, FRAME_LENGTH, (uint64_t)r->file_n) };

    bool sent = r->head.method != HEAD && !bodiless(r->status) && r->file_n > 0;
    /* A small one that is in memory leaves with its head. */
    ssize_t got = sent && r->file_n <= SMALL_BODY ? file_peek(r->file, c->io->scratch + v.iov_len,
                                                              (size_t)r->file_n, r->file_at)
                                                  : 0;
    if (sent && got == r->file_n)
        v.iov_len += (size_t)got;
    if (!sent || got == r->file_n)
        close(TAKE_FD(r->file));
    conn_write(c, &v, 1, NULL);
    if (!c->dead && r->file >= 0)
        out_file(c, TAKE_FD(r->file), r->file_at, r->file_n);
}

static void emit_bytes(struct http_req *r, struct str body, char *owned)
{
    struct conn *c = r->conn;
    char *head = c->io->scratch;
    struct iovec v[2] = { { head, make_head(r, FRAME_LENGTH, body.n) }, { NULL, body.n } };

    if (r->head.method == HEAD || bodiless(r->status))
        body.n = 0;
    if (body.n <= SMALL_BODY) {
        if (body.n)
            memcpy(head + v[0].iov_len, body.p, body.n);
        v[0].iov_len += body.n;
        free(owned);
        conn_write(c, v, 1, NULL);
        return;
    }
    memcpy(&v[1].iov_base, &body.p, sizeof(body.p));
    conn_write(c, v, 2, owned);
}

void reply_emit(struct http_req *r, struct str body, char *owned)
{
    struct conn *c = r->conn;

    if (!c) {
        free(owned);
        req_let_go(r);
        return;
    }
    r->app_done = r->answered = true;
    if (r->file >= 0)
        emit_file(r);
    else
        emit_bytes(r, body, owned);
    if (!c->busy)
        conn_ready(c);
}

static void reply_later(struct http_req *r, char *p, size_t n)
{
    r->reply_p = p;
    r->reply_n = n;
    req_post_end(r, OP_REPLY);
}

void http_reply(struct http_req *r, int status, struct str body)
{
    r->status = status;
    if (req_here(r)) {
        reply_emit(r, body, NULL);
        return;
    }
    char *copy = malloc(body.n ? body.n : 1);
    if (!copy)
        abort();
    if (body.n)
        memcpy(copy, body.p, body.n);
    reply_later(r, copy, body.n);
}

void http_reply_buf(struct http_req *r, int status, struct buf *body)
{
    struct str bytes = buf_str(body);

    r->status = status;
    *body = BUF(body->max);
    if (req_here(r)) {
        char *owned;
        memcpy(&owned, &bytes.p, sizeof(owned));
        reply_emit(r, bytes, owned);
    } else {
        char *p;
        memcpy(&p, &bytes.p, sizeof(p));
        reply_later(r, p, bytes.n);
    }
}

void http_reply_file(struct http_req *r, int status, int fd, int64_t offset, int64_t length)
{
    r->status = status;
    r->file = fd;
    r->file_at = offset;
    r->file_n = length;
    if (req_here(r))
        reply_emit(r, (struct str){ NULL, 0 }, NULL);
    else
        reply_later(r, NULL, 0);
}

void reply_begin(struct http_req *r)
{
    struct conn *c = r->conn;
    enum framing framing = r->head.minor == 1 ? FRAME_CHUNKED : FRAME_CLOSE;
    struct iovec v = { c->io->scratch, make_head(r, framing, 0) };

    r->streaming = true;
    buf_free(&r->headers); /* it may last long */
    conn_write(c, &v, 1, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Heads and chunked bodies: whatever comes, everything handed out lies inside the input, a head
 * does not change with what follows it, and a body does not depend on how it was cut. */
#include "codec/http1.h"

static void inside(struct str whole, struct str part)
{
    static const char *const constants[] = { "", "/" };

    for (size_t i = 0; i < ARRAY_LEN(constants); i++)
        if (str_is(part, constants[i]))
            return;
    if (part.p < whole.p || part.p + part.n > whole.p + whole.n)
        abort();
}

static void check_head(struct str s, const struct http_head *h)
{
    inside(s, h->method_text);
    inside(s, h->target);
    inside(s, h->path);
    inside(s, h->query);
    inside(s, h->host);
    if (h->n_headers > HTTP_MAX_HEADERS || h->size > s.n)
        abort();
    for (size_t i = 0; i < h->n_headers; i++) {
        inside(s, h->headers[i].name);
        if (h->headers[i].value.n)
            inside(s, h->headers[i].value);
    }
}

/* Sum of the data of a body cut into 'step' bytes, and where it ended. */
static uint32_t digest(struct str s, size_t step, enum http1_result *res, size_t *end)
{
    struct http1_chunked c = { 0 };
    struct err e;
    struct str data;
    uint32_t sum = 0;
    size_t at = 0, used;

    *res = HTTP1_MORE;
    while (*res == HTTP1_MORE && at < s.n) {
        struct str piece = { s.p + at, MIN(step, s.n - at) };

        *res = http1_chunked(&c, piece, &used, &data, &e);
        if (*res != HTTP1_BAD && (used > piece.n || (used == 0 && *res == HTTP1_MORE)))
            abort();
        if (data.n) {
            inside(piece, data);
            for (size_t i = 0; i < data.n; i++)
                sum = sum * 31 + (uint8_t)data.p[i];
        }
        at += used;
    }
    *end = at;
    return sum;
}

static void body(struct str s)
{
    enum http1_result a, b;
    size_t end_a, end_b;
    uint32_t sum_a = digest(s, s.n, &a, &end_a), sum_b = digest(s, 1, &b, &end_b);

    if (a != b || (a != HTTP1_BAD && (sum_a != sum_b || end_a != end_b)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_head h, again;
    struct str s = { (const char *)data, size };
    bool not_http;
    struct err e;

    enum http1_result res = http1_parse(s, KIB(16), KIB(8), &h, &not_http, &e);
    check_head(s, &h);
    if (res == HTTP1_OK) {
        if (http1_parse((struct str){ s.p, h.size }, KIB(16), KIB(8), &again, &not_http, &e) !=
                HTTP1_OK ||
            again.content_length != h.content_length || again.chunked != h.chunked)
            abort();
        if (h.chunked && h.content_length >= 0)
            abort();
        if (h.chunked && s.n > h.size)
            body((struct str){ s.p + h.size, s.n - h.size });
    }
    if (s.n)
        body(s);
    return 0;
}

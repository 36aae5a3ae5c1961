/* SPDX-License-Identifier: Apache-2.0 */
/* Shows what our parser makes of bytes, for the differential test.  Input: records of a 4-byte
 * big-endian length and as many bytes each; a record holds what one connection would carry. Output,
 * a line each, texts in hex:
 *     request METHOD TARGET HOST BODY keep|close
 *     header NAME VALUE
 *     bad STATUS REASON | more | end */
#include "base/buf.h"
#include "codec/http1.h"

static void hex(struct str s)
{
    putchar(' ');
    for (size_t i = 0; i < s.n; i++)
        printf("%02x", (uint8_t)s.p[i]);
    if (s.n == 0)
        putchar('-');
}

static enum http1_result chunked_body(struct str in, size_t *used, struct buf *body, struct err *e)
{
    struct http1_chunked c = { 0 };
    enum http1_result r = HTTP1_MORE;
    struct str data;
    size_t n;

    for (*used = 0; r == HTTP1_MORE && *used < in.n; *used += n) {
        r = http1_chunked(&c, (struct str){ in.p + *used, in.n - *used }, &n, &data, e);
        buf_put(body, data.p, data.n);
    }
    return r;
}

static enum http1_result whole_body(struct str in, const struct http_head *h, size_t *used,
                                    struct buf *body, struct err *e)
{
    if (h->chunked)
        return chunked_body(in, used, body, e);
    uint64_t n = h->content_length > 0 ? (uint64_t)h->content_length : 0;
    if (n > in.n)
        return HTTP1_MORE;
    buf_put(body, in.p, (size_t)n);
    *used = (size_t)n;
    return HTTP1_OK;
}

static void show(const struct http_head *h, const struct buf *body)
{
    printf("request");
    hex(h->method_text);
    hex(h->target);
    hex(h->host);
    hex(buf_str(body));
    printf(" %s\n", h->keep_alive ? "keep" : "close");
    for (size_t i = 0; i < h->n_headers; i++) {
        printf("header");
        hex(h->headers[i].name);
        hex(h->headers[i].value);
        putchar('\n');
    }
}

static void probe(struct str in)
{
    static struct http_head h;
    enum http1_result r = HTTP1_OK;
    bool keep = true, not_http;
    struct err e;

    while (in.n && keep && r == HTTP1_OK) {
        struct buf body = BUF(MIB(16));
        size_t used = 0;

        r = http1_parse(in, KIB(16), KIB(8), &h, &not_http, &e);
        if (r == HTTP1_OK) {
            in.p += h.size;
            in.n -= h.size;
            r = whole_body(in, &h, &used, &body, &e);
        }
        if (r == HTTP1_OK) {
            show(&h, &body);
            in.p += used;
            in.n -= used;
            keep = h.keep_alive;
        }
        buf_free(&body);
    }
    if (r == HTTP1_BAD)
        printf("bad %d %s\n", err_status(e.code), e.msg);
    else if (r == HTTP1_MORE)
        printf("more\n");
    printf("end\n");
}

int main(void)
{
    uint8_t size[4];

    while (fread(size, 1, 4, stdin) == 4) {
        size_t n = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
        char *p = malloc(n ? n : 1);

        if (!p || fread(p, 1, n, stdin) != n)
            return 1;
        probe((struct str){ p, n });
        free(p);
    }
    return 0;
}

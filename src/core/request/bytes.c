/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of bytes: a file's or a text's, whole or a part.  Hides that the conditions are looked at
 * as the handler answers, so that a refusal is an error as any other. */
#include "codec/partial.h"
#include "core/request/request.h"

void bytes_forget(struct call_private *p)
{
    if (p->bytes.file && p->bytes.fd >= 0)
        close(TAKE_FD(p->bytes.fd));
    p->bytes = (struct bytes_part){ .fd = -1 };
    call_give(p, SHARE_DOWNLOADS);
}

/* A list field's lines are one value (RFC 9110 5.3); of any other a second line is a fault of the
 * client's, and the field is none. */
static struct str field(struct call_private *p, const char *name, bool list)
{
    const struct http_head *h = http_req_head(p->r);
    size_t n = http1_header_count(h, name);
    struct str value = http1_header(h, name);
    const char *all = "";

    if (n < 2)
        return value;
    if (!list)
        return (struct str){ NULL, 0 };
    for (size_t i = 0; i < h->n_headers; i++)
        if (str_is_nocase(h->headers[i].name, name))
            all = arena_printf(p->c.arena, "%s%s%.*s", all, *all ? "," : "",
                               (int)h->headers[i].value.n, h->headers[i].value.p);
    return str_of(all);
}

static void headers(struct call_private *p, const struct bytes_known *k)
{
    char date[HTTP_DATE];

    reply_header(&p->c, "Accept-Ranges", "bytes");
    if (k->modified) {
        http_date_format(k->modified / SECONDS(1), date);
        reply_header(&p->c, "Last-Modified", date);
    }
    if (k->name)
        reply_header(&p->c, "Content-Disposition",
                     arena_printf(p->c.arena, "attachment; filename=\"%s\"", k->name));
}

static int refuse(struct call_private *p, const struct partial *part, int64_t size, struct err *e)
{
    if (part->status == 412)
        return err_set(e, ERR_PRECONDITION_FAILED, "It is at %s now", p->etag);
    reply_header(&p->c, "Accept-Ranges", "bytes");
    reply_header(&p->c, "Content-Range", arena_printf(p->c.arena, "bytes */%lld", (long long)size));
    return err_set(e, ERR_RANGE, "There are %lld bytes", (long long)size);
}

/* What of it is asked for, in p->bytes. */
static int judge(struct call *c, const struct bytes_known *k, int64_t size, struct err *e)
{
    struct call_private *p = c->p;
    enum method m = p->r ? http_req_head(p->r)->method : POST;
    int64_t seconds = k->modified / SECONDS(1);
    struct partial part = { 200, 0, size };

    answer_begin(p, k->type ? k->type : c->route->produces);
    p->etag = arena_printf(c->arena, "\"%s\"", k->etag);
    if (m == GET || m == HEAD) {
        const struct validators v = { p->etag, seconds, size };
        const struct conditions asked = {
            .if_match = field(p, "if-match", true),
            .if_none_match = field(p, "if-none-match", true),
            .if_modified_since =
                k->modified ? field(p, "if-modified-since", false) : (struct str){ 0 },
            .if_unmodified_since =
                k->modified ? field(p, "if-unmodified-since", false) : (struct str){ 0 },
            .if_range = field(p, "if-range", false),
            .range = m == GET ? field(p, "range", false) : (struct str){ 0 },
        };
        partial_of(&asked, &v, c->now / SECONDS(1), &part);
    }
    if (part.status == 412 || part.status == 416)
        return refuse(p, &part, size, e);
    headers(p, k);
    if (part.status == 206)
        reply_header(c, "Content-Range",
                     arena_printf(c->arena, "bytes %lld-%lld/%lld", (long long)part.first,
                                  (long long)(part.first + part.n - 1), (long long)size));
    if (part.status != 200)
        p->status = part.status;
    p->bytes = (struct bytes_part){ .known = true, .fd = -1, .first = part.first, .n = part.n };
    p->replied = true;
    return 0;
}

int reply_bytes(struct call *c, const struct bytes_known *k, struct str bytes, struct err *e)
{
    struct call_private *p = c->p;

    TRY(judge(c, k, (int64_t)bytes.n, e));
    buf_put(&p->buf, bytes.p + p->bytes.first, (size_t)p->bytes.n);
    if (p->buf.failed)
        return err_set(e, ERR_TOO_LARGE, "The answer is too large: ask for a part of it");
    p->body = buf_str(&p->buf);
    return 0;
}

int reply_file(struct call *c, const struct bytes_known *k, int fd, int64_t size, struct err *e)
{
    struct call_private *p = c->p;
    _cleanup_close_ int own = fd;

    TRY(judge(c, k, size, e));
    bool sent = p->status != 304 && p->r && http_req_head(p->r)->method != HEAD;
    if (sent)
        TRY(call_take(p, SHARE_DOWNLOADS, 1, e));
    p->bytes.fd = TAKE_FD(own);
    p->bytes.file = true;
    return 0;
}

/* ---- on its way */

static void warm_on_worker(void *ctx, void *worker _unused_)
{
    http_file_warm(ctx);
}

/* From the disk as to the disk: by turns of the tenants. */
bool dispatch_cold(void *ctx, struct http_req *r)
{
    struct app *app = ctx;
    struct call_private *p = http_req_user(r);

    return p && app->lanes[LANE_BODY] &&
           pool_submit_for(app->lanes[LANE_BODY], call_flow(p), warm_on_worker, r) == FAIR_OK;
}

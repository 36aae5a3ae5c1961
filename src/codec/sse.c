/* SPDX-License-Identifier: Apache-2.0 */
/* Hides what ends a line there: CR, LF or both, so that data of any lines comes out as they are,
 * but for each end, which is an LF to who reads. */
#include "codec/sse.h"

static void field(struct buf *out, const char *name, const char *value)
{
    if (value)
        buf_printf(out, "%s: %s\n", name, value);
}

static void data_lines(struct buf *out, struct str data)
{
    size_t at = 0;

    for (bool more = true; more;) {
        size_t end = at;

        while (end < data.n && data.p[end] != '\n' && data.p[end] != '\r')
            end++;
        buf_puts(out, "data: ");
        if (end > at)
            buf_put(out, data.p + at, end - at);
        buf_putc(out, '\n');
        more = end < data.n;
        at = end + 1;
        if (more && data.p[end] == '\r' && at < data.n && data.p[at] == '\n')
            at++;
    }
}

bool sse_put(struct buf *out, const struct sse *ev)
{
    static const char ends[] = "\r\n";

    if ((ev->id && strpbrk(ev->id, ends)) || (ev->event && strpbrk(ev->event, ends)))
        return false;
    if (ev->retry_ms > 0)
        buf_printf(out, "retry: %lld\n", (long long)ev->retry_ms);
    field(out, "id", ev->id);
    field(out, "event", ev->event);
    if (ev->data.p)
        data_lines(out, ev->data);
    buf_putc(out, '\n');
    return true;
}

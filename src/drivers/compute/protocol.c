/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of logs as bytes. */
#include "drivers/compute/protocol.h"

static uint32_t get32(const char *p)
{
    uint8_t b[4];

    memcpy(b, p, sizeof(b));
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void put32(struct buf *b, uint32_t v)
{
    for (int i = 24; i >= 0; i -= 8)
        buf_putc(b, (char)(v >> i));
}

enum { LINE_HEAD = 2 + 5 * 8 + 4 };

static void put64(struct buf *b, int64_t v)
{
    for (int i = 56; i >= 0; i -= 8)
        buf_putc(b, (char)((uint64_t)v >> i));
}

static int64_t get64(const char *p)
{
    return (int64_t)((uint64_t)get32(p) << 32 | get32(p + 4));
}

void line_encode(const struct compute_line *l, struct buf *out)
{
    size_t n = MIN(l->text.n, (size_t)LINE_TEXT_MAX);

    buf_putc(out, (char)l->kind);
    buf_putc(out, (char)l->stream);
    put64(out, l->time);
    for (int k = 0; k < 2; k++) {
        put64(out, l->after.file[k]);
        put64(out, l->after.at[k]);
    }
    put32(out, (uint32_t)n);
    buf_put(out, l->text.p, n);
}

int line_decode(struct str in, struct compute_line *out, size_t *used, struct err *e)
{
    if (in.n < LINE_HEAD)
        return 0;
    uint32_t n = get32(in.p + LINE_HEAD - 4);
    if ((uint8_t)in.p[0] > COMPUTE_LINE_IDLE || (uint8_t)in.p[1] > 2 || n > LINE_TEXT_MAX)
        return err_set(e, ERR_INVALID, "a line of a log is malformed");
    if (in.n - LINE_HEAD < n)
        return 0;
    *out = (struct compute_line){ .kind = (enum compute_line_kind)in.p[0],
                                  .stream = in.p[1],
                                  .time = get64(in.p + 2),
                                  .text = { in.p + LINE_HEAD, n } };
    for (int k = 0; k < 2; k++) {
        out->after.file[k] = get64(in.p + 10 + (size_t)k * 16);
        out->after.at[k] = get64(in.p + 18 + (size_t)k * 16);
    }
    *used = LINE_HEAD + n;
    return 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "drivers/compute/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = { (const char *)data, size };
    struct frame f;
    struct err e;
    size_t used;

    while (frame_decode(in, &f, &used, &e) == 1) {
        if (used < FRAME_HEAD || used > in.n || f.body.n != used - FRAME_HEAD ||
            f.body.n > FRAME_MAX || f.kind < FRAME_JSON || f.kind > FRAME_CANCEL)
            abort();
        in.p += used;
        in.n -= used;
    }
    struct compute_line l;
    in = (struct str){ (const char *)data, size };
    while (line_decode(in, &l, &used, &e) == 1) {
        struct buf b = BUF(SIZE_MAX);
        line_encode(&l, &b);
        if (used > in.n || b.n != used || memcmp(b.p, in.p, used) != 0)
            abort();
        buf_free(&b);
        in.p += used;
        in.n -= used;
    }
    return 0;
}

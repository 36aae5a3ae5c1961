/* SPDX-License-Identifier: Apache-2.0 */
/* Wishes of clients: weights have their range, what is handed out lies inside the input, and a list
 * of tags that is read is written and read again to the same. */
#include "base/buf.h"
#include "codec/negotiate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str s = { (const char *)data, size }, list = s, again;
    _cleanup_(buf_free) struct buf b = BUF(MIB(4));
    struct etag t, u;
    bool named;

    int q = accept_quality(s, "application/json", &named);
    check(q >= 0 && q <= 1000);
    check(q == 0 || !named || size >= strlen("application/json"));
    q = coding_quality(s, "gzip");
    check(q >= 0 && q <= 1000);
    etag_any(s);
    while (etag_next(&list, &t)) {
        check(t.opaque.p >= s.p && t.opaque.p + t.opaque.n <= s.p + s.n);
        check(t.opaque.n == 0 || !memchr(t.opaque.p, '"', t.opaque.n));
        buf_clear(&b);
        buf_puts(&b, t.weak ? "W/\"" : "\"");
        buf_put(&b, t.opaque.p, t.opaque.n);
        buf_puts(&b, "\"");
        again = buf_str(&b);
        check(etag_next(&again, &u) && u.weak == t.weak && str_eq(u.opaque, t.opaque));
        check(again.n == 0);
    }
    return 0;
}

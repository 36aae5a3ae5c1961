/* SPDX-License-Identifier: Apache-2.0 */
/* URLs, percent, time, base64, hex and integers: what is read is written and read again to the
 * same. */
#include "codec/text.h"

#include "codec/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static void percent(struct arena *a, struct str s)
{
    for (int query = 0; query < 2; query++) {
        struct str decoded, encoded, again;

        if (percent_decode(a, s, query, &decoded) < 0)
            continue;
        check(decoded.n <= s.n);
        percent_encode(a, decoded, &encoded);
        check(percent_decode(a, encoded, query, &again) == 0 && str_eq(decoded, again));
    }
}

/* The normal form of a URL is right, and its own. */
static void whole(struct arena *a, const char *text)
{
    for (int user = 0; user < 2; user++) {
        const char *url = text;

        if (url_check(a, "https http amqp", user, &url))
            continue;
        const char *again = url;
        check(url_check(a, "https http amqp", user, &again) == NULL && strcmp(url, again) == 0);
    }
}

static void base64(struct arena *a, struct str s)
{
    for (int url = 0; url < 2; url++) {
        size_t n;
        void *p = base64_decode(a, s, url, &n);

        if (p)
            check(str_is(s, base64_encode(a, p, n, url)));
        const char *text = base64_encode(a, s.p, s.n, url);
        p = base64_decode(a, str_of(text), url, &n);
        check(p && n == s.n && (n == 0 || memcmp(p, s.p, n) == 0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct str s = { (const char *)data, size };
    char out[TIME_TEXT];
    int64_t t, again;
    uint8_t bytes[32];

    percent(&a, s);
    whole(&a, arena_dup(&a, s.p, s.n));
    base64(&a, s);
    if (time_parse(s, &t)) {
        time_format(t, out);
        check(time_parse(str_of(out), &again));
        check(again <= t && t - again < 1000); /* written in milliseconds */
    }
    if (int_parse(s, -1000, INT64_MAX, &t))
        check(t >= -1000);
    hex_decode(s, bytes, MIN(size / 2, sizeof(bytes)));
    utf8_valid(s);
    return 0;
}

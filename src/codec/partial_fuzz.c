/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges and dates: a range lies within what there is, one that is written again is read to the
 * same, and so is a date.  The first byte is the size, the second chooses. */
#include "codec/partial.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NOW = 1767225600 };

static void check(bool right)
{
    if (!right)
        abort();
}

static void one_range(struct str s, int64_t size)
{
    int64_t first = -1, n = -1, first2, n2;
    char text[64];

    if (range_read(s, size, &first, &n) != RANGE_ONE) {
        check(first == -1 && n == -1);
        return;
    }
    check(first >= 0 && n > 0 && first < size && n <= size - first);
    snprintf(text, sizeof(text), "bytes=%lld-%lld", (long long)first, (long long)(first + n - 1));
    check(range_read(str_of(text), size, &first2, &n2) == RANGE_ONE);
    check(first2 == first && n2 == n);
}

static void one_date(struct str s)
{
    int64_t at, again;
    char text[HTTP_DATE];

    if (!http_date_parse(s, NOW, &at))
        return;
    http_date_format(at, text);
    /* A leap second at the end of the year 9999 is past what can be written. */
    if (at < INT64_C(253402300800))
        check(http_date_parse(str_of(text), NOW, &again) && again == at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct validators v = { "\"a\"", NOW - 10, 100 };
    struct partial p;

    if (size < 2)
        return 0;
    struct str s = { (const char *)data + 2, size - 2 };
    struct conditions c = {
        .if_match = data[1] & 1 ? s : (struct str){ NULL, 0 },
        .if_none_match = data[1] & 2 ? s : (struct str){ NULL, 0 },
        .if_modified_since = data[1] & 4 ? s : (struct str){ NULL, 0 },
        .if_unmodified_since = data[1] & 8 ? s : (struct str){ NULL, 0 },
        .if_range = data[1] & 16 ? s : (struct str){ NULL, 0 },
        .range = s,
    };
    one_range(s, data[0]);
    one_range(s, INT64_MAX);
    one_date(s);
    partial_of(&c, &v, NOW, &p);
    check(p.status == 200 || p.status == 206 || p.status == 304 || p.status == 412 ||
          p.status == 416);
    check(p.first >= 0 && p.n >= 0 && p.first + p.n <= v.size);
    return 0;
}

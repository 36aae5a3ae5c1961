/* SPDX-License-Identifier: Apache-2.0 */
/* Any text is rendered within its bounds; what it is split into lies within it, in order. */
#include "db/driver.h"

struct pair {
    struct uuid id;
    const char *name;
};
/* clang-format off */
#define T struct pair
static const struct field pair_fields[] = {
    FIELD_UUID(T, id, 0),
    FIELD_STR(T, name, 0),
};
#undef T
static const struct record pair_record = RECORD(pair, "pairs", pair_fields);
/* clang-format on */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf in = BUF(KIB(64)), out = BUF(KIB(256));

    buf_put(&in, data, n);
    for (int pg = 0; pg < 2; pg++) {
        const char *text = buf_cstr(&in);
        struct str one;

        buf_clear(&out);
        sql_render(&out, text, pg ? &pair_record : NULL, pg);
        const char *at = buf_cstr(&out), *end = at + strlen(at);
        while (sql_next(&at, &one))
            if (one.n == 0 || one.p + one.n > at || at > end)
                abort();
    }
    buf_free(&in);
    buf_free(&out);
    return 0;
}

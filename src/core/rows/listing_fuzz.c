/* SPDX-License-Identifier: Apache-2.0 */
/* Query strings of lists: whatever comes, there are faults or a statement whose placeholders match
 * its arguments, and a cursor of that list is taken by that list. */
#include "core/rows/listing.h"

enum state { BOX_NEW, BOX_OLD };
static const struct enum_name states[] = { { BOX_NEW, "new" }, { BOX_OLD, "old" }, { 0, NULL } };

struct box {
    struct uuid id, shelf_id;
    const char *name;
    int64_t weight;
    bool open;
    enum state status;
    int64_t price;
    int64_t created_at, updated_at;
};

/* clang-format off */
#define T struct box
static const struct field fields[] = {
    FIELD_UUID (T, id,                 FF_FILTER),
    FIELD_UUID (T, shelf_id,           FF_FILTER),
    FIELD_STR  (T, name,               FF_FILTER | FF_SORT),
    FIELD_INT  (T, weight,             FF_FILTER | FF_SORT),
    FIELD_BOOL (T, open,               FF_FILTER),
    FIELD_ENUM (T, status, enum state, FF_FILTER | FF_SORT, .names = states),
    FIELD_MICRO(T, price,              FF_FILTER | FF_SORT),
    FIELD_TIME (T, created_at,         FF_SORT | FF_FILTER),
    FIELD_TIME (T, updated_at,         FF_SORT),
};
static const struct record record = RECORD(box, "boxes", fields, .prefix = "box");
/* clang-format on */

static void check(const struct listing *l)
{
    size_t most = 0;

    for (const char *p = strchr(l->sql, '$'); p; p = strchr(p + 1, '$')) {
        size_t n = (size_t)strtoul(p + 1, NULL, 10);

        if (n > most)
            most = n;
    }
    if (most != l->n_args || l->limit < 1 || l->limit > 100)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[32] = "k";
    struct arena a = ARENA(MIB(64));
    struct faults f = { .arena = &a };
    struct listing l;
    struct listing_scope scope = { "tenant_id", arg_str("t") };
    struct listing_request q = { .record = &record,
                                 .scope = &scope,
                                 .n_scope = 1,
                                 .query = { (const char *)data, size },
                                 .page = 20,
                                 .page_max = 100,
                                 .sign_key = key };
    struct box row = { .id = { "01900000-0000-7000-8000-0000000000aa" }, .name = "x" };

    if (size > 8192)
        return 0;
    listing_plan(&a, &q, &l, &f);
    if (f.n == 0 && !memmem(data, size, "cursor", 6) && !memmem(data, size, "offset", 6)) {
        check(&l);
        const char *c = listing_cursor(&a, &q, &l, &row);
        const char *again = arena_printf(&a, "%.*s&cursor=%s", (int)size, (const char *)data, c);
        q.query = str_of(again);
        if (memchr(data, '\0', size) == NULL) {
            listing_plan(&a, &q, &l, &f);
            if (f.n)
                abort();
            check(&l);
        }
    }
    arena_free(&a);
    return 0;
}

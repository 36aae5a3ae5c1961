/* SPDX-License-Identifier: Apache-2.0 */
/* A record that is not as its table is refused, whatever is wrong with it. */
#include "core/service.h"

static const struct service odd_service;
#define FURTHER_SERVICES &odd_service,
#include "tests/things.h"

#include "core/rows/columns.h"

struct odd {
    OWNED_MEMBERS;
    const char *name, *note;
    int64_t size;
    bool good;
};

enum { NAME = 8, NOTE, SIZE, GOOD, FIELDS };
/* clang-format off */
static struct field odd_fields[] = {
    OWNED_FIELDS(struct odd),
    FIELD_STR (struct odd, name, FF_CREATE | FF_REQUIRED | FF_SORT, .doc = "NOT NULL."),
    FIELD_STR (struct odd, note, FF_CREATE, .doc = "Perhaps none."),
    FIELD_INT (struct odd, size, FF_CREATE, .doc = "NOT NULL."),
    FIELD_BOOL(struct odd, good, FF_CREATE, .doc = "NOT NULL."),
};
static struct record odd_record = RECORD(odd, "odds", odd_fields, .prefix = "odd");
static const struct migration odd_migrations[] = {
    { "0001_odd", "CREATE TABLE odds (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT,"
                  " project_id TEXT, mode TEXT NOT NULL, revision BIGINT NOT NULL, created_at BIGINT NOT NULL,"
                  " updated_at BIGINT NOT NULL, name TEXT NOT NULL, note TEXT, size BIGINT NOT NULL,"
                  " good BOOLEAN NOT NULL, later BIGINT NOT NULL DEFAULT 0);\n" },
    { 0 },
};
static const struct route odd_routes[] = {
    { GET, "/odds/{id}", "odd:get", QUICK, crud_get, NULL, &odd_record, 200, "Shows one." },
    { DELETE, "/odds/{id}", "odd:delete", WRITE, crud_delete, NULL, NULL, 200, "Deletes one." },
    { 0 },
};
/* clang-format on */
static const struct service odd_service = {
    .name = "odd", .doc = "For tests.", .migrations = odd_migrations, .routes = odd_routes
};

/* What is said of the record with that field in the place of the right one. */
static const char *said_of(struct world *w, int at, struct field f)
{
    static struct err e;
    struct field right = odd_fields[at];

    odd_fields[at] = f;
    CHECK_EQ(columns_check(world_app(w), &e), -1);
    odd_fields[at] = right;
    return e.msg;
}

static struct field but(int at, enum field_type type, unsigned flags)
{
    struct field f = odd_fields[at];

    f.type = type;
    f.flags = flags;
    return f;
}

TEST(a_record_that_is_not_as_its_table_is_named)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct field renamed = odd_fields[SIZE];
    struct err e;

    CHECK_EQ(columns_check(world_app(w), &e), 0);
    renamed.name = "sizes";
    CHECK_STR(said_of(w, SIZE, renamed), "odd.sizes has no column (table odds)");
    CHECK_STR(said_of(w, SIZE, but(SIZE, F_STR, 0)),
              "odd.size has a column of another type (table odds)");
    CHECK_STR(said_of(w, GOOD, but(GOOD, F_INT, 0)),
              "odd.good has a column of another type (table odds)");
    CHECK_STR(said_of(w, NOTE, but(NOTE, F_STR, FF_SORT)),
              "odd.note is sorted by, so its column must be NOT NULL (table odds)");
    CHECK_STR(said_of(w, NOTE, but(NOTE, F_STR, FF_ALWAYS)),
              "odd.note is never absent, so its column must be NOT NULL (table odds)");
    CHECK_STR(said_of(w, NAME, but(NAME, F_STR, FF_CREATE)),
              "odd.name may be absent, and its column is NOT NULL (table odds)");
    CHECK_STR(said_of(w, NAME, but(NAME, F_STR, FF_REQUIRED | FF_CLEAR)),
              "odd.name may be absent, and its column is NOT NULL (table odds)");
    CHECK_STR(said_of(w, SIZE, but(SIZE, F_INT, FF_VIRTUAL)),
              "record odd does not fill odds.size, which is NOT NULL");
    odd_record.table = "evens";
    CHECK_EQ(columns_check(world_app(w), &e), -1);
    CHECK_STR(e.msg, "record odd: there is no table evens");
    odd_record.table = "odds";
    CHECK_EQ(get(w, "/odds/%s", tenant_one).status, 404);
}

TESTS(columns, a_record_that_is_not_as_its_table_is_named)

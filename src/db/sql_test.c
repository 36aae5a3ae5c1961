/* SPDX-License-Identifier: Apache-2.0 */
/* SQL text, before any database sees it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/driver.h"

struct pair {
    struct uuid id;
    const char *name;
    int64_t shown;
};
/* clang-format off */
#define T struct pair
static const struct field pair_fields[] = {
    FIELD_UUID(T, id, 0),
    FIELD_INT(T, shown, FF_VIRTUAL),
    FIELD_STR(T, name, 0),
};
#undef T
static const struct record pair_record = RECORD(pair, "pairs", pair_fields);
/* clang-format on */

static void renders(const char *sql, const struct record *r, const char *lite, const char *pg)
{
    for (int i = 0; i < 2; i++) {
        struct buf b = BUF(4096);

        sql_render(&b, sql, r, i == 1);
        assert_string_equal(buf_cstr(&b), i ? pg : lite);
        buf_free(&b);
    }
}

static void an_at_sign_becomes_the_columns(void **state _unused_)
{
    renders("SELECT @ FROM p", &pair_record, "SELECT id, name FROM p", "SELECT id, name FROM p");
    renders("SELECT p.@ FROM p", &pair_record, "SELECT p.id, p.name FROM p",
            "SELECT p.id, p.name FROM p");
    renders("SELECT @", NULL, "SELECT @", "SELECT @");
    renders("SELECT '@', \"@\", @", &pair_record, "SELECT '@', \"@\", id, name",
            "SELECT '@', \"@\", id, name");
}

static void an_escape_is_read_by_one_database(void **state _unused_)
{
    renders("a /*pg: b @ */ /*lite: c */ d", &pair_record, "a    c  d", "a  b id, name    d");
    renders("'/*pg: x */'", NULL, "'/*pg: x */'", "'/*pg: x */'");
    renders("/*pg: '*/' */x", NULL, " ' */x", " '*/' x");
}

static void comments_are_left_out(void **state _unused_)
{
    renders("a -- don't @\nb /* it's @ */ c", &pair_record, "a  \nb   c", "a  \nb   c");
    renders("a /* open", NULL, "a  ", "a  ");
    renders("a 'open", NULL, "a 'open", "a 'open");
}

static void statements_end_at_the_ends_of_lines(void **state _unused_)
{
    const char *at = "A ';\n' x;\n\n;\nB; b; \nC \"it;\n\";  -- and; so\n -- it's;\nD";
    const char *want[] = { "A ';\n' x", "\nB; b", " \nC \"it;\n\"", "  -- and; so\n -- it's;\nD" };
    struct str got;

    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_true(sql_next(&at, &got));
        assert_int_equal(got.n, strlen(want[i]));
        assert_memory_equal(got.p, want[i], got.n);
    }
    assert_false(sql_next(&at, &got));
}

static void text_of(const struct stmt_key *k, const char *want)
{
    struct buf b = BUF(4096);

    stmt_text(&b, k, true);
    assert_string_equal(buf_cstr(&b), want);
    buf_free(&b);
}

static void rows_make_their_own_statements(void **state _unused_)
{
    text_of(&(struct stmt_key){ .kind = STMT_INSERT, .r = &pair_record },
            "INSERT INTO pairs (id, name) VALUES ($1, $2)");
    text_of(&(struct stmt_key){ .kind = STMT_UPDATE, .r = &pair_record, .set = 4 },
            "UPDATE pairs SET name = $1 WHERE id = $2");
}

static int dropped;

static void drop(void *ctx _unused_, struct stmt *st)
{
    st->handle = NULL;
    dropped++;
}

static void kept_statements_are_known_by_content_not_by_address(void **state _unused_)
{
    struct stmts *c = calloc(1, sizeof(*c));
    char text[32] = "SELECT 1", same[32] = "SELECT 1";
    struct stmt_key k = { .sql = text }, k2 = { .sql = same };

    assert_null(stmt_find(c, &k));
    struct stmt *st = stmt_place(c, &k, drop, NULL);
    st->handle = c;
    assert_ptr_equal(stmt_find(c, &k), st);
    assert_ptr_equal(stmt_find(c, &k), st);
    assert_ptr_equal(stmt_find(c, &k2), st);
    text[7] = '2';
    assert_null(stmt_find(c, &k));
    assert_ptr_equal(stmt_find(c, &k2), st);
    k2.r = &pair_record;
    assert_null(stmt_find(c, &k2));
    k2.r = NULL;

    st->busy = true;
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), "SELECT a%d", i);
        stmt_place(c, &k, drop, NULL)->handle = c;
    }
    assert_int_equal(dropped, 1000 - (DB_STATEMENTS - 1));
    assert_ptr_equal(stmt_find(c, &k2), st); /* at work: not thrown out */
    snprintf(text, sizeof(text), "SELECT a%d", 999);
    assert_non_null(stmt_find(c, &k));
    snprintf(text, sizeof(text), "SELECT a%d", 1);
    assert_null(stmt_find(c, &k));
    stmt_clear(c, drop, NULL);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_at_sign_becomes_the_columns),
        cmocka_unit_test(an_escape_is_read_by_one_database),
        cmocka_unit_test(comments_are_left_out),
        cmocka_unit_test(statements_end_at_the_ends_of_lines),
        cmocka_unit_test(rows_make_their_own_statements),
        cmocka_unit_test(kept_statements_are_known_by_content_not_by_address),
    };

    return cmocka_run_group_tests_name("sql", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Rows below rows, as clients of a small service see them. */
#include "core/service.h"

static const struct service tree_service;
#define FURTHER_SERVICES &tree_service,
#include "tests/things.h"

struct tree {
    OWNED_MEMBERS;
    const char *name, *mark, *owl;
    int64_t deleted_at;
    int64_t branches; /* counted when shown */
};
struct branch { /* of a tree */
    OWNED_MEMBERS;
    struct uuid tree_id;
    const char *name, *note;
};

static int tree_count(struct call *c, void *row, struct err *e)
{
    struct tree *t = row;

    return db_int(c->db, "SELECT count(*) FROM branches WHERE tree_id = $1", ARGS(A(&t->id)), 0,
                  &t->branches, e);
}

static int tree_fill(struct call *c, void *row, struct err *e _unused_)
{
    struct tree *t = row;

    t->mark = arena_printf(c->arena, "mark-%s", t->id.s + 24);
    return 0;
}

/* clang-format off */
static const struct field tree_fields[] = {
    OWNED_FIELDS(struct tree),
    FIELD_STR(struct tree, name,       FF_CREATE | FF_REQUIRED, .min = 1, .max = 64, .doc = "Unique."),
    FIELD_STR(struct tree, mark,       FF_ALWAYS, .doc = "Given by the server."),
    FIELD_STR(struct tree, owl,        FF_CREATE | FF_UPDATE | FF_CLEAR | FF_SECRET | FF_SEALED, .max = 1000, .doc = "Who lives in it."),
    FIELD_INT(struct tree, deleted_at, FF_HIDDEN, .doc = "When it went."),
    FIELD_INT(struct tree, branches,   FF_VIRTUAL, .doc = "How many it has."),
};
static const struct record tree_record = RECORD(tree, "trees", tree_fields, .prefix = "tree", .show = tree_count, .fill = tree_fill);
static const struct field branch_fields[] = {
    OWNED_FIELDS(struct branch),
    FIELD_REF(struct branch, tree_id, tree_record, FF_ALWAYS, .on_delete = REF_CASCADE, .doc = "Whose it is."),
    FIELD_STR(struct branch, name, FF_CREATE | FF_REQUIRED | FF_SORT | FF_FILTER, .min = 1, .max = 64, .doc = "Unique in the tree."),
    FIELD_STR(struct branch, note, FF_CREATE | FF_UPDATE, .doc = "Anything."),
};
static const struct record branch_record = RECORD(branch, "branches", branch_fields, .prefix = "branch");
/* clang-format on */

static int branch_make_slowly(struct call *c, struct err *e)
{
    return call_write(c, crud_create, e);
}

/* By another column than its id. */
static int tree_find(struct call *c, struct err *e)
{
    struct tree t;
    int found = call_find(c, tree, mark, call_param(c, "mark"), &t, e);

    TRY(found);
    if (found && t.owl) /* what a handler sees of what is sealed */
        reply_header(c, "X-Owl", t.owl);
    return found ? reply_shown(c, &tree_record, &t, e) : reply_message(c, "none");
}

static int tree_end(struct call *c, struct err *e)
{
    struct tree old, now;

    TRY(call_target(c, &tree_record, &old, e));
    now = old;
    now.deleted_at = c->now;
    TRY(call_update(c, &tree_record, &old, &now, FIELD_SET(tree, deleted_at), e));
    return reply_message(c, "ending");
}

/* clang-format off */
#define OWNED_SQL "(id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT,"             \
                  " project_id TEXT, mode TEXT NOT NULL, revision BIGINT NOT NULL, created_at BIGINT" \
                  " NOT NULL, updated_at BIGINT NOT NULL, name TEXT NOT NULL"
static const struct migration tree_migrations[] = {
    { "0001_tree", "CREATE TABLE trees " OWNED_SQL ", mark TEXT NOT NULL, owl TEXT, deleted_at BIGINT NOT NULL);\n"
                   "CREATE TABLE branches " OWNED_SQL ", tree_id TEXT NOT NULL, note TEXT, UNIQUE (tree_id, name));\n" },
    { 0 },
};
#define P &tree_record
#define S &branch_record
#define BELOW .by_name = true, .parent = P
static const struct route tree_routes[] = {
    { POST,   "/trees",                        "tree:create",  WRITE, crud_create,       P,    P,    201, "Makes one." },
    { GET,    "/trees/{id}",                   "tree:get",     QUICK, crud_get,          NULL, P,    200, "Shows one.", .by_name = true },
    { GET,    "/trees",                        "tree:list",    QUICK, crud_list,         NULL, P,    200, "Lists them.", .list = true },
    { PATCH,  "/trees/{id}",                   "tree:update",  WRITE, crud_patch,        P,    P,    200, "Changes one.", .by_name = true },
    { GET,    "/marked/{mark}",                "tree:find",    READ,  tree_find,         NULL, NULL, 200, "Shows the one of a mark." },
    { DELETE, "/trees/{id}",                   "tree:delete",  WRITE, crud_delete,       NULL, NULL, 200, "Deletes one.", .by_name = true },
    { POST,   "/trees/{id}/end",               "tree:end",     WRITE, tree_end,          NULL, NULL, 200, "Ends one.", .by_name = true, .message = true },
    { POST,   "/trees/{id}/branches",            "branch:create", WRITE, crud_create,       S,    S,    201, "Makes one.", BELOW },
    { POST,   "/trees/{id}/slow-branches",       "branch:slow",   LONG,  branch_make_slowly, S,    S,    201, "Makes one slowly.", BELOW, .alone = held_alone },
    { GET,    "/trees/{id}/branches",            "branch:list",   QUICK, crud_list,         NULL, S,    200, "Lists them.", .list = true, BELOW },
    { GET,    "/trees/{id}/branches/{branch_id}", "branch:get",    QUICK, crud_get,          NULL, S,    200, "Shows one.", BELOW },
    { PATCH,  "/trees/{id}/branches/{branch_id}", "branch:update", WRITE, crud_patch,        S,    S,    200, "Changes one.", BELOW },
    { DELETE, "/trees/{id}/branches/{branch_id}", "branch:delete", WRITE, crud_delete,       NULL, NULL, 200, "Deletes one.", BELOW },
    { 0 },
};
/* clang-format on */
static const struct service tree_service = {
    .name = "tree", .doc = "Trees.", .migrations = tree_migrations, .routes = tree_routes
};

static const char *made(struct world *w, const char *path, const char *body)
{
    struct reply r = post(w, path, body);

    CHECK_EQ(r.status, 201);
    return member(r, "id");
}

static bool said(struct reply r, const char *word)
{
    return memmem(r.body.p, r.body.n, word, strlen(word)) != NULL;
}

TEST(what_hangs_below_a_row_is_found_through_it_alone)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *a = made(w, "/trees", "{'name':'a'}"), *b = made(w, "/trees", "{'name':'b'}");
    const char *one = made(w, "/trees/a/branches", "{'name':'one'}");
    const char *two = made(w, fmt("/trees/%s/slow-branches", a), "{'name':'two'}");
    const char *other = made(w, fmt("/trees/%s/branches", b), "{'name':'one'}");

    CHECK_STR(member(get(w, "/trees/a/branches/%s", one), "tree_id"), a);
    CHECK_STR(member(get(w, "/trees/%s/branches/two", a), "id"), two);
    CHECK_STR(member(get(w, "/trees/b/branches/one"), "id"), other);
    CHECK_EQ(get(w, "/trees/a/branches").len, 2);
    CHECK_EQ(get(w, "/trees/b/branches").len, 1);
    CHECK_EQ(get(w, "/trees/a/branches?name=one").len, 1);

    /* Twice, for what the first has read may be remembered. */
    for (int i = 0; i < 2; i++) {
        struct reply r = get(w, "/trees/b/branches/%s", one);
        CHECK_EQ(r.status, 404);
        CHECK(said(r, "no such branch"));
        CHECK_EQ(get(w, "/trees/a/branches/%s", one).status, 200);
    }
    CHECK_EQ(patch(w, fmt("/trees/b/branches/%s", one), "{'note':'x'}").status, 404);
    CHECK_EQ(del(w, "/trees/b/branches/%s", one).status, 404);
    CHECK_EQ(get(w, "/trees/b/branches/two").status, 404);
    CHECK_EQ(get(w, "/trees/a/branches/%s", a).status, 404);
    CHECK_EQ(get(w, "/v1/trees/%s/branches/one", a).status, 404);
    CHECK_STR(member(patch(w, "/trees/a/branches/one", "{'note':'x'}"), "note"), "x");
    CHECK_STR(member(get(w, "/trees/a/branches/one"), "note"), "x");
    CHECK_EQ(del(w, "/trees/a/branches/one").status, 200);
    CHECK_EQ(get(w, "/trees/a/branches/one").status, 404);
}

TEST(a_parent_that_is_not_there_is_named_and_one_that_goes_takes_nothing_more)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *a = made(w, "/trees", "{'name':'a'}");
    const char *one = made(w, "/trees/a/branches", "{'name':'one'}");
    const struct {
        enum method m;
        const char *path, *body;
    } all[] = {
        { POST, fmt("/trees/%s/branches", a), "{'name':'x'}" },
        { POST, fmt("/trees/%s/slow-branches", a), "{'name':'x'}" },
        { GET, fmt("/trees/%s/branches", a), NULL },
        { GET, fmt("/trees/%s/branches/%s", a, one), NULL },
        { PATCH, fmt("/trees/%s/branches/%s", a, one), "{'note':'x'}" },
        { DELETE, fmt("/trees/%s/branches/%s", a, one), NULL },
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct reply r = as(w, AS_STRANGER, all[i].m, all[i].path, all[i].body);
        CHECK_EQ(r.status, 404);
        CHECK(said(r, "no such tree"));
    }
    CHECK_EQ(post(w, "/trees/none/branches", "{'name':'x'}").status, 404);
    CHECK_EQ(post(w, fmt("/trees/%s/branches", one), "{'name':'x'}").status, 404);
    CHECK_EQ(post(w, "/trees/a/branches", "{'name':'one'}").status, 409);

    /* The audit says of what it was. */
    CHECK_EQ(patch(w, fmt("/trees/a/branches/%s", one), "{'note':'x'}").status, 200);
    struct reply audit = get(w, "/audit?limit=2");
    CHECK_STR(member(audit, "0.action"), "BRANCH_UPDATE");
    CHECK_STR(member(audit, "0.resource"), fmt("branch/%s", one));
    CHECK_STR(member(get(w, "/audit?action=BRANCH_CREATE&limit=500"), "0.resource"),
              fmt("tree/%s", a));

    CHECK_EQ(post(w, "/trees/a/end", NULL).status, 200);
    CHECK_EQ(post(w, fmt("/trees/%s/branches", a), "{'name':'y'}").status, 409);
    CHECK_EQ(patch(w, fmt("/trees/%s/branches/one", a), "{'note':'y'}").status, 409);
    CHECK_EQ(get(w, "/trees/%s/branches", a).len, 1);
    CHECK_EQ(del(w, "/trees/%s/branches/one", a).status, 200);
}

TEST(what_the_server_gives_and_counts_is_in_every_answer)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/trees", "{'name':'a'}");
    const char *a = member(r, "id"), *mark = member(r, "mark");

    CHECK_STR(mark, fmt("mark-%s", a + 24));
    CHECK_EQ(member_int(r, "branches"), 0);
    for (int i = 1; i < 4; i++) {
        CHECK_EQ(post(w, "/trees/a/branches", fmt("{'name':'b%d'}", i)).status, 201);
        CHECK_EQ(member_int(get(w, "/trees/%s", a), "branches"), i);
        CHECK_EQ(member_int(get(w, "/trees"), "0.branches"), i);
        CHECK_EQ(member_int(patch(w, "/trees/a", "{}"), "branches"), i);
        CHECK_EQ(member_int(get(w, "/marked/%s", mark), "branches"), i);
    }
    CHECK_STR(member(get(w, "/marked/mark-none"), "message"), "none");
    CHECK_STR(member(as(w, AS_STRANGER, GET, fmt("/marked/%s", mark), NULL), "message"), "none");
    CHECK_STR(member(as(w, AS_TEST_KEY, GET, fmt("/marked/%s", mark), NULL), "message"), "none");
    CHECK_EQ(post(w, "/trees/a/end", NULL).status, 200);
    CHECK_STR(member(get(w, "/marked/%s", mark), "message"), "none");
}

static int move_owl(struct call *c, void *arg _unused_, struct err *e)
{
    return db_exec(c->db,
                   "UPDATE trees SET owl = (SELECT owl FROM trees b WHERE b.name = 'b')"
                   " WHERE name = 'a'",
                   NO_ARGS, e);
}

TEST(a_sealed_column_is_plain_to_handlers_and_to_nobody_else)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static const char sealed[] = "SELECT count(*) FROM trees WHERE owl LIKE 'k1.%'";
    struct reply r = post(w, "/trees", "{'name':'a','owl':'Strix aluco'}");
    const char *mark = member(r, "mark");

    CHECK_EQ(r.status, 201);
    CHECK(!said(r, "Strix"));
    CHECK(!said(get(w, "/trees/a"), "owl"));
    CHECK_EQ(world_int(w, sealed), 1);
    CHECK_STR(header(get(w, "/marked/%s", mark), "X-Owl"), "Strix aluco");
    CHECK_EQ(patch(w, "/trees/a", "{'owl':'Bubo bubo'}").status, 200);
    CHECK_STR(header(get(w, "/marked/%s", mark), "X-Owl"), "Bubo bubo");
    CHECK_EQ(world_int(w, "SELECT count(*) FROM trees WHERE owl LIKE '%Bubo%'"), 0);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM journal WHERE events LIKE '%tree.created%'"), 1);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM journal WHERE events LIKE '%Bubo%'"
                          " OR events LIKE '%Strix%' OR events LIKE '%k1.%'"),
             0);
    CHECK_EQ(patch(w, "/trees/a", "{'owl':null}").status, 200);
    CHECK_EQ(world_int(w, sealed), 0);
    CHECK(!header(get(w, "/marked/%s", mark), "X-Owl"));
    CHECK_EQ(post(w, "/trees", "{'name':'b','owl':''}").status, 201);
    CHECK_EQ(world_int(w, sealed), 1);

    /* What is sealed for one row opens in no other. */
    struct err e;
    CHECK_EQ(app_write(world_app(w), move_owl, NULL, &e), 0);
    CHECK_EQ(get(w, "/trees/a").status, 500);
    CHECK_EQ(get(w, "/trees/b").status, 200);
}

TESTS(parents, a_sealed_column_is_plain_to_handlers_and_to_nobody_else,
      what_the_server_gives_and_counts_is_in_every_answer,
      what_hangs_below_a_row_is_found_through_it_alone,
      a_parent_that_is_not_there_is_named_and_one_that_goes_takes_nothing_more)

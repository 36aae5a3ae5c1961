/* SPDX-License-Identifier: Apache-2.0 */
/* Rows that point to rows, as clients of a small service see them. */
#include "core/service.h"

static const struct service shelf_service;
#define FURTHER_SERVICES &shelf_service,
#include "tests/things.h"

struct shelf {
    OWNED_MEMBERS;
    const char *name;
};
struct book { /* stays where its shelf is */
    OWNED_MEMBERS;
    const char *name;
    struct uuid shelf_id, next_to;
};
struct label { /* goes with its shelf */
    OWNED_MEMBERS;
    const char *name;
    struct uuid shelf_id;
};

struct note { /* on a shelf or a book */
    OWNED_MEMBERS;
    const char *name;
    struct uuid on_id, by_id;
    const char *on_kind, *by_kind;
};

/* clang-format off */
static const struct field shelf_fields[] = {
    OWNED_FIELDS(struct shelf),
    FIELD_STR(struct shelf, name, FF_CREATE | FF_REQUIRED, .min = 1, .max = 64, .doc = "Unique."),
};
static const struct quota quota_labels = { "labels", { 2, 2, 2, 2, 2 } };
static const struct record shelf_record = RECORD(shelf, "shelves", shelf_fields, .prefix = "shelf");
static const struct record book_record;
static const struct field book_fields[] = {
    OWNED_FIELDS(struct book),
    FIELD_STR(struct book, name, FF_CREATE | FF_REQUIRED, .min = 1, .max = 64, .doc = "Unique."),
    FIELD_REF(struct book, shelf_id, shelf_record, FF_CREATE | FF_UPDATE | FF_CLEAR, .on_delete = REF_RESTRICT, .doc = "Where it stands."),
    FIELD_REF(struct book, next_to, book_record, FF_CREATE | FF_UPDATE | FF_CLEAR, .on_delete = REF_CLEAR, .doc = "Its neighbour."),
};
static const struct record book_record = RECORD(book, "books", book_fields, .prefix = "book");
static const struct field label_fields[] = {
    OWNED_FIELDS(struct label),
    FIELD_STR(struct label, name, FF_CREATE | FF_REQUIRED, .min = 1, .max = 64, .doc = "Unique."),
    FIELD_REF(struct label, shelf_id, shelf_record, FF_CREATE, .on_delete = REF_CASCADE, .doc = "What it is on."),
};
static const struct record label_record = RECORD(label, "labels", label_fields, .prefix = "label", .quota = &quota_labels);
static const struct record *const note_kinds[] = { &shelf_record, &book_record, NULL };
static const struct field note_fields[] = {
    OWNED_FIELDS(struct note),
    FIELD_STR(struct note, name, FF_CREATE | FF_REQUIRED, .min = 1, .max = 64, .doc = "Unique."),
    FIELD_REF_ANY(struct note, on_id, on_kind, note_kinds, FF_CREATE | FF_UPDATE | FF_CLEAR | FF_FILTER, .on_delete = REF_CLEAR, .doc = "What it is on."),
    FIELD_REF_ANY(struct note, by_id, by_kind, note_kinds, FF_CREATE, .on_delete = REF_CASCADE, .doc = "What it came with."),
    FIELD_STR(struct note, on_kind, 0, .doc = "What that is."),
    FIELD_STR(struct note, by_kind, FF_HIDDEN, .doc = "What that is."),
};
static const struct record note_record = RECORD(note, "notes", note_fields, .prefix = "note");
/* clang-format on */

/* What core does before a handler is all that these rely on. */
static int make(struct call *c, struct err *e)
{
    TRY(call_insert(c, c->route->in, c->in, e));
    return reply_row(c, c->route->in, c->in);
}

static int make_step(struct call *c, struct err *e)
{
    return make(c, e);
}

static int make_slowly(struct call *c, struct err *e)
{
    return call_write(c, make_step, e);
}

#define OWNED_SQL                                                                       \
    "(id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT,"             \
    " project_id TEXT, mode TEXT NOT NULL, revision BIGINT NOT NULL, created_at BIGINT" \
    " NOT NULL, updated_at BIGINT NOT NULL, name TEXT NOT NULL"
static const struct migration shelf_migrations[] = {
    { "0001_shelf", "CREATE TABLE shelves " OWNED_SQL ");"
                    "CREATE TABLE books " OWNED_SQL ", shelf_id TEXT, next_to TEXT);"
                    "CREATE TABLE labels " OWNED_SQL ", shelf_id TEXT);"
                    "CREATE TABLE notes " OWNED_SQL ", on_id TEXT, by_id TEXT, on_kind TEXT,"
                    " by_kind TEXT);\n" },
    { 0 },
};

/* clang-format off */
#define SHELF &shelf_record
#define BOOK  &book_record
#define LABEL &label_record
#define NOTE  &note_record
static const struct route shelf_routes[] = {
    { POST,   "/shelves",      "shelf:create", WRITE, make,        SHELF, SHELF, 201, "Makes one." },
    { GET,    "/shelves/{id}", "shelf:get",    QUICK, crud_get,    NULL,  SHELF, 200, "Shows one." },
    { DELETE, "/shelves/{id}", "shelf:delete", WRITE, crud_delete, NULL,  NULL,  200, "Deletes one." },
    { POST,   "/books",        "book:create",  WRITE, make,        BOOK,  BOOK,  201, "Makes one." },
    { POST,   "/slow-books",   "book:slow",    LONG,  make_slowly, BOOK,  BOOK,  201, "Makes one slowly." },
    { GET,    "/books/{id}",   "book:get",     QUICK, crud_get,    NULL,  BOOK,  200, "Shows one." },
    { PATCH,  "/books/{id}",   "book:update",  WRITE, crud_patch,  BOOK,  BOOK,  200, "Changes one." },
    { DELETE, "/books/{id}",   "book:delete",  WRITE, crud_delete, NULL,  NULL,  200, "Deletes one." },
    { POST,   "/labels",       "label:create", WRITE, make,        LABEL, LABEL, 201, "Makes one." },
    { POST,   "/notes",        "note:create",  WRITE, crud_create, NOTE, NOTE,  201, "Makes one." },
    { GET,    "/notes",        "note:list",    QUICK, crud_list,   NULL, NOTE,  200, "Lists them.", .list = true },
    { DELETE, "/notes/{id}",   "note:delete",  WRITE, crud_delete, NULL, NULL,  200, "Deletes one." },
    { GET,    "/notes/{id}",   "note:get",     QUICK, crud_get,    NULL, NOTE,  200, "Shows one." },
    { PATCH,  "/notes/{id}",   "note:update",  WRITE, crud_patch,  NOTE, NOTE,  200, "Changes one." },
    { GET,    "/labels/{id}",  "label:get",    QUICK, crud_get,    NULL,  LABEL, 200, "Shows one." },
    { DELETE, "/labels/{id}",  "label:delete", WRITE, crud_delete, NULL,  NULL,  200, "Deletes one." },
    { 0 },
};
/* clang-format on */
static const struct quota *const shelf_quotas[] = { &quota_labels, NULL };
static const struct service shelf_service = {
    .name = "shelf",
    .doc = "Shelves.",
    .migrations = shelf_migrations,
    .routes = shelf_routes,
    .quotas = shelf_quotas,
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

TEST(what_a_body_refers_to_is_the_tenants)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *shelf = made(w, "/shelves", "{'name':'a'}");
    const char *book = made(w, "/books", fmt("{'name':'b','shelf_id':'%s'}", shelf));
    static const char none[] = "0189c1a2-0000-7000-8000-000000000000";
    const char *const paths[] = { "/books", "/slow-books" };

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct reply r =
            post(w, paths[i], fmt("{'name':'c','shelf_id':'%s','next_to':'%s'}", none, none));
        CHECK_EQ(r.status, 404);
        CHECK(said(r, "shelf_id") && said(r, "next_to"));
        /* Another tenant's is none either; nor is a book a shelf. */
        r = as(w, AS_STRANGER, POST, paths[i], fmt("{'name':'c','shelf_id':'%s'}", shelf));
        CHECK_EQ(r.status, 404);
        CHECK_EQ(post(w, paths[i], fmt("{'name':'c','shelf_id':'%s'}", book)).status, 404);
    }
    CHECK_EQ(patch(w, fmt("/books/%s", book), fmt("{'shelf_id':'%s'}", none)).status, 404);
    CHECK_EQ(patch(w, fmt("/books/%s", book), "{'shelf_id':null}").status, 200);
}

TEST(a_deletion_is_refused_goes_on_or_clears_as_each_column_says)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *shelf = made(w, "/shelves", "{'name':'a'}");
    const char *first = made(w, "/books", fmt("{'name':'b','shelf_id':'%s'}", shelf));
    const char *next = made(w, "/slow-books", fmt("{'name':'c','next_to':'%s'}", first));
    const char *label = made(w, "/labels", fmt("{'name':'l','shelf_id':'%s'}", shelf));
    struct reply r = del(w, "/shelves/%s", shelf);

    CHECK_EQ(r.status, 409);
    CHECK(strstr(member(r, "error.message"), "shelf 'a' is the shelf_id of book 'b'") != NULL);
    CHECK_EQ(get(w, "/labels/%s", label).status, 200); /* nothing is half done */
    CHECK_STR(member(get(w, "/books/%s", next), "next_to"), first);
    CHECK_EQ(del(w, "/books/%s", first).status, 200);
    r = get(w, "/books/%s", next);
    CHECK_EQ(r.status, 200);
    CHECK(member(r, "next_to") == NULL);
    CHECK_EQ(del(w, "/shelves/%s", shelf).status, 200);
    CHECK_EQ(get(w, "/labels/%s", label).status, 404);
    /* The quota of what went along has been given back. */
    shelf = made(w, "/shelves", "{'name':'d'}");
    made(w, "/labels", fmt("{'name':'m','shelf_id':'%s'}", shelf));
    made(w, "/labels", fmt("{'name':'n','shelf_id':'%s'}", shelf));
    CHECK_EQ(post(w, "/labels", "{'name':'o'}").status, 403);
}

TEST(a_reference_may_be_to_one_of_several_kinds)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *shelf = made(w, "/shelves", "{'name':'a'}"),
               *book = made(w, "/books", "{'name':'b'}");
    const char *typed = member(get(w, "/v1/books/%s", book), "id");
    const char *label = made(w, "/labels", "{'name':'l'}");
    const char *note = made(w, "/notes", fmt("{'name':'n','on_id':'%s'}", shelf));
    struct reply r = get(w, "/notes/%s", note);

    CHECK_STR(member(r, "on_id"), shelf);
    CHECK_STR(member(r, "on_kind"), "shelf");
    CHECK(strncmp(member(get(w, "/v1/notes/%s", note), "on_id"), "shelf_", 6) == 0);
    r = patch(w, fmt("/notes/%s", note), fmt("{'on_id':'%s'}", typed));
    CHECK_EQ(r.status, 200);
    CHECK_STR(member(r, "on_kind"), "book");
    CHECK_STR(member(get(w, "/v1/notes/%s", note), "on_id"), typed);
    CHECK_EQ(get(w, "/notes?on_id=%s", typed).len, 1);
    CHECK_EQ(get(w, "/notes?on_id=%s", shelf).len, 0);
    CHECK_EQ(get(w, "/notes?on_id=label_x").status, 400);

    /* A label is none of them, and another tenant's is none either. */
    r = post(w, "/notes", fmt("{'name':'x','on_id':'%s','by_id':'%s'}", label, label));
    CHECK_EQ(r.status, 404);
    CHECK(said(r, "shelf or book") && said(r, "on_id") && said(r, "by_id"));
    CHECK_EQ(post(w, "/notes", "{'name':'x','on_id':'label_01h455vb4pex5vsknk084sn02q'}").status,
             400);
    CHECK_EQ(post(w, "/notes", "{'name':'x','on_id':7}").status, 400);
    r = as(w, AS_STRANGER, POST, "/notes", fmt("{'name':'x','on_id':'%s'}", shelf));
    CHECK_EQ(r.status, 404);
    /* The right id of a shelf in the words of a book is no book. */
    const char *wrong = fmt("book_%s", member(get(w, "/v1/shelves/%s", shelf), "id") + 6);
    CHECK_EQ(post(w, "/notes", fmt("{'name':'x','on_id':'%s'}", wrong)).status, 404);

    /* What is pointed to goes: one forgets it, the other goes with it. */
    const char *gone = made(w, "/notes", fmt("{'name':'g','by_id':'%s'}", book));
    CHECK_EQ(del(w, "/books/%s", book).status, 200);
    r = get(w, "/notes/%s", note);
    CHECK_EQ(r.status, 200);
    CHECK(!said(r, "on_id") && !said(r, "on_kind"));
    CHECK_EQ(get(w, "/notes/%s", gone).status, 404);
    CHECK_STR(member(patch(w, fmt("/notes/%s", note), fmt("{'on_id':'%s'}", shelf)), "on_kind"),
              "shelf");
    r = patch(w, fmt("/notes/%s", note), "{'on_id':null}");
    CHECK_EQ(r.status, 200);
    CHECK(!said(r, "on_id") && !said(r, "on_kind"));
    CHECK_EQ(world_int(w, "SELECT count(*) FROM notes WHERE on_kind IS NOT NULL"), 0);
}

TESTS(refs, a_reference_may_be_to_one_of_several_kinds, what_a_body_refers_to_is_the_tenants,
      a_deletion_is_refused_goes_on_or_clears_as_each_column_says)

/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that are kept as they came, beside the rows that name them. */
#include "core/service.h"

struct parcel {
    OWNED_MEMBERS;
    const char *name;
    struct uuid blob_id;
};
static int parcel_put(struct call *c, struct err *e);
static int parcel_get(struct call *c, struct err *e);
static int parcel_delete(struct call *c, struct err *e);
static const struct quota parcel_bytes = { "parcel_bytes", { 10, 100, 1000, 10000, 1 << 20 } };
/* clang-format off */
#define T struct parcel
static const struct field parcel_fields[] = {
    OWNED_FIELDS(T),
    FIELD_STR (T, name,    FF_CREATE | FF_REQUIRED, .min = 1, .max = 64, .doc = "Unique."),
    FIELD_UUID(T, blob_id, FF_HIDDEN, .doc = "Its bytes."),
};
#undef T
static const struct record parcel_record = RECORD(parcel, "parcels", parcel_fields, .prefix = "parcel");
struct parcel_query { const char *name; };
static const struct field query_fields[] = {
    FIELD_STR(struct parcel_query, name, FF_CREATE | FF_REQUIRED, .doc = "Its name."),
};
static const struct record query_record = RECORD(parcel_query, NULL, query_fields);
static const struct route parcel_routes[] = {
    { POST,   "/parcels",            "parcel:put",    LONG,  parcel_put,    NULL, &parcel_record, 201, "Keeps a body.", .query = &query_record, .body = BODY_RAW, .body_max = MIB(64), .body_quota = &parcel_bytes, .sums = BLOB_SHA256 | BLOB_MD5 },
    { GET,    "/parcels/{id}/bytes", "parcel:get",    READ,  parcel_get,    NULL, NULL, 200, "Gives it.", .bytes = true, .produces = "application/octet-stream" },
    { DELETE, "/parcels/{id}",       "parcel:delete", WRITE, parcel_delete, NULL, NULL, 200, "Lets it go." },
    { 0 },
};
static const struct migration parcel_migrations[] = {
    { "0001_parcel",
      "CREATE TABLE parcels (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT,"
      " project_id TEXT, mode TEXT NOT NULL, revision BIGINT NOT NULL, created_at BIGINT NOT NULL,"
      " updated_at BIGINT NOT NULL, name TEXT NOT NULL, blob_id TEXT, UNIQUE (tenant_id, mode, name));\n" },
    { 0 },
};
/* clang-format on */
static const struct quota *const parcel_quotas[] = { &parcel_bytes, NULL };
static const struct service parcel_service = { .name = "parcel",
                                               .doc = "Keeps bodies.",
                                               .migrations = parcel_migrations,
                                               .routes = parcel_routes,
                                               .quotas = parcel_quotas };
#define FURTHER_SERVICES &parcel_service,
#include "tests/things.h"

#include <dirent.h>

#include "core/rows/blobs.h"

static struct kept_blob blob;
static _Atomic bool cut_before_row;
static struct uuid last_blob;

static int parcel_kept(struct call *c, struct err *e)
{
    const struct parcel_query *q = c->query;
    struct parcel *p = arena_new(c->arena, struct parcel);

    p->name = q->name;
    p->blob_id = blob.id;
    TRY(blob_keep(c, &blob, &parcel_bytes, e));
    TRY(call_insert(c, &parcel_record, p, e));
    return reply_row(c, &parcel_record, p);
}

static int parcel_put(struct call *c, struct err *e)
{
    TRY(body_blob(c, &blob, e));
    last_blob = blob.id;
    if (cut_before_row)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "cut short");
    TRY(call_write(c, parcel_kept, e));
    return 0;
}

static int parcel_get(struct call *c, struct err *e)
{
    struct parcel p;

    TRY(call_target(c, &parcel_record, &p, e));
    return reply_blob(c, &p.blob_id, &(struct bytes_known){ 0 }, e);
}

static int parcel_delete(struct call *c, struct err *e)
{
    struct parcel p;

    TRY(call_target(c, &parcel_record, &p, e));
    TRY(blob_drop(c, &p.blob_id, &parcel_bytes, e));
    TRY(call_delete(c, &parcel_record, &p, e));
    return reply_deleted(c, "gone");
}

static const char raw[] = "Content-Type: application/octet-stream";

static struct reply upload(struct world *w, const char *name, const char *bytes)
{
    return ask(w, POST, fmt("/parcels?name=%s", name), NULL, raw, bytes);
}

/* Files below a folder of the blobs. */
static int count_files(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    int n = 0;

    while (d && (entry = readdir(d))) {
        if (entry->d_name[0] == '.')
            continue;
        n += entry->d_type == DT_DIR ? count_files(fmt("%s/%s", dir, entry->d_name)) : 1;
    }
    if (d)
        closedir(d);
    return n;
}

static int files(struct world *w)
{
    return count_files(fmt("%s/blobs", world_app(w)->config->state_dir));
}

static int fresh(struct world *w)
{
    return count_files(fmt("%s/blobs/new", world_app(w)->config->state_dir));
}

static void settle(struct world *w)
{
    blobs_tick(world_app(w), true, true);
}

static int64_t used(struct world *w)
{
    return world_int(w,
                     "SELECT COALESCE(MAX(used), 0) FROM core_quota WHERE name = 'parcel_bytes'");
}

TEST(a_body_is_kept_as_it_came_and_given_back)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = upload(w, "one", "hello world");

    CHECK_EQ(r.status, 201);
    CHECK_EQ(used(w), 11);
    for (int i = 0; i < 2; i++) {
        struct reply got = get(w, "/parcels/%s/bytes", r.id);

        CHECK_EQ(got.status, 200);
        CHECK(got.body.n == 11 && memcmp(got.body.p, "hello world", 11) == 0);
        CHECK_STR(header(got, "ETag"),
                  "\"b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2"
                  "efcde9\"");
        CHECK(header(got, "Last-Modified") != NULL);
        settle(w);
        CHECK_EQ(fresh(w), 0);
        CHECK_EQ(files(w), 1);
    }
    CHECK_STR(blob.sums.md5, "5eb63bbbe01eeed093cb22bb8f5acdc3");
    CHECK_EQ(with(w, GET, fmt("/parcels/%s/bytes", r.id), "Range: bytes=6-", NULL).status, 206);
    CHECK_EQ(as(w, AS_STRANGER, GET, fmt("/parcels/%s/bytes", r.id), NULL).status, 404);
    CHECK_EQ(del(w, "/parcels/%s", r.id).status, 200);
    CHECK_EQ(used(w), 0);
    settle(w);
    CHECK_EQ(files(w), 0);
    CHECK_EQ(world_int(w, "SELECT COUNT(*) FROM core_blobs"), 0);
}

TEST(what_no_row_came_to_name_goes)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(upload(w, "one", "hello").status, 201);
    /* Its name is taken: the transaction fails, with the blob's row in it. */
    CHECK_EQ(upload(w, "one", "other").status, 409);
    cut_before_row = true;
    CHECK_EQ(upload(w, "two", "third").status, 503);
    cut_before_row = false;
    CHECK_EQ(used(w), 5);
    settle(w);
    CHECK_EQ(files(w), 1);
    CHECK_EQ(fresh(w), 0);
}

/* As a kill after the commit leaves it: the file is new, its row is there. */
TEST(what_was_not_moved_is_found_and_moved_after_a_restart)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = upload(w, "one", "hello");
    const char *dir = fmt("%s/blobs", world_app(w)->config->state_dir);

    settle(w);
    const char *to = fmt("%s/new/%s", dir, last_blob.s);
    CHECK_EQ(
        rename(fmt("%s/%.2s/%.2s/%s", dir, last_blob.s + 32, last_blob.s + 34, last_blob.s), to),
        0);
    /* And one that is nobody's. */
    CHECK_EQ(file_write(fmt("%s/new/01890000-0000-7000-8000-0000000000ff", dir), "x", 1, 0600,
                        &(struct err){ 0 }),
             0);
    CHECK_EQ(fresh(w), 2);
    world_restart(w);
    CHECK_EQ(get(w, "/parcels/%s/bytes", r.id).body.n, 5);
    for (int i = 0; i < 500 && fresh(w) > 0; i++)
        usleep(10000);
    CHECK_EQ(fresh(w), 0);
    CHECK_EQ(files(w), 1);
    CHECK_EQ(get(w, "/parcels/%s/bytes", r.id).body.n, 5);
}

TEST(a_store_from_a_backup_loses_no_bytes_and_says_which_are_gone)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply one = upload(w, "one", "hello"), two = upload(w, "two", "world");
    const char *dir = fmt("%s/blobs", world_app(w)->config->state_dir);

    CHECK_EQ(two.status, 201);
    settle(w);
    /* The second one's file went after the backup; the row that is lost is of a third. */
    CHECK_EQ(unlink(fmt("%s/%.2s/%.2s/%s", dir, last_blob.s + 32, last_blob.s + 34, last_blob.s)),
             0);
    const char *strange = fmt("%s/12/34/01890000-0000-7000-8000-000000001234", dir);
    CHECK_EQ(dir_make(fmt("%s/12/34", dir), 0700, &(struct err){ 0 }), 0);
    CHECK_EQ(file_write(strange, "x", 1, 0600, &(struct err){ 0 }), 0);
    world_restart(w);
    settle(w);
    CHECK_EQ(access(strange, F_OK), 0);
    CHECK_EQ(get(w, "/parcels/%s/bytes", one.id).status, 200);
    struct reply r = get(w, "/parcels/%s/bytes", two.id);
    CHECK_EQ(r.status, 409);
    CHECK(strstr(member(r, "error.message"), "its bytes are gone") != NULL);
    CHECK_EQ(del(w, "/parcels/%s", two.id).status, 200);
    settle(w);
    CHECK_EQ(world_int(w, "SELECT COUNT(*) FROM core_blobs"), 1);
}

TEST(a_body_is_no_larger_than_what_its_quota_has_left)
{
    _cleanup_(world_freep) struct world *w = world_new();
    size_t n = (1 << 20) - 3;
    char *large = arena_alloc(&world_app(w)->arena, n + 1);

    memset(large, 'x', n);
    large[n] = '\0';
    CHECK_EQ(upload(w, "large", large).status, 201);
    CHECK_EQ(upload(w, "fits", "abc").status, 201);
    CHECK_EQ(used(w), 1 << 20);
    /* It is not even asked for. */
    int fd =
        ask_begin(w, POST, "/parcels?name=more", NULL, fmt("%s\nContent-Length: 10", raw), NULL);
    struct reply r = ask_end(w, fd);
    CHECK_EQ(r.status, 403);
    CHECK_STR(r.code, "quota_exceeded");
    CHECK(strstr(member(r, "error.message"), "'parcel_bytes' has 0 left") != NULL);
    CHECK_EQ(upload(w, "empty", "").status, 201);
    /* One of unknown length ends when it is over. */
    fd = ask_begin(w, POST, "/parcels?name=chunks", NULL,
                   fmt("%s\nTransfer-Encoding: chunked", raw), NULL);
    static const char chunk[] = "a\r\n0123456789\r\n0\r\n\r\n";
    CHECK_EQ(write(fd, chunk, sizeof(chunk) - 1), sizeof(chunk) - 1);
    r = ask_end(w, fd);
    CHECK_EQ(r.status, 403);
    CHECK_STR(r.code, "quota_exceeded");
    /* A key's record may hold the answer, so it is only told when it is kept. */
    r = ask(w, POST, "/parcels?name=keyed", NULL, fmt("%s\nIdempotency-Key: k1", raw), "abc");
    CHECK_EQ(r.status, 403);
    settle(w);
    CHECK_EQ(files(w), 3);
}

TEST(what_is_missing_is_named)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(ask(w, POST, "/parcels", NULL, raw, "hello").status, 400);
    CHECK_EQ(
        as(w, AS_STRANGER, DELETE, fmt("/parcels/%s", upload(w, "one", "hello").id), NULL).status,
        404);
}

TEST(a_keyed_upload_is_kept_once)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *keyed = fmt("%s\nIdempotency-Key: k1", raw);
    struct reply one = ask(w, POST, "/parcels?name=one", NULL, keyed, "hello");
    struct reply two = ask(w, POST, "/parcels?name=one", NULL, keyed, "hello");

    CHECK_EQ(one.status, 201);
    CHECK_EQ(two.status, 201);
    CHECK_STR(two.id, one.id);
    CHECK_EQ(ask(w, POST, "/parcels?name=one", NULL, keyed, "hullo").status, 422);
    settle(w);
    CHECK_EQ(files(w), 1);
    CHECK_EQ(used(w), 5);
}

TEST(who_reads_while_it_is_deleted_reads_to_the_end)
{
    _cleanup_(world_freep) struct world *w = world_new();
    size_t n = 1 << 20;
    char *large = arena_alloc(&world_app(w)->arena, n + 1);

    memset(large, 'x', n);
    large[n] = '\0';
    struct reply r = upload(w, "large", large);
    CHECK_EQ(r.status, 201);
    int fd = ask_begin(w, GET, fmt("/parcels/%s/bytes", r.id), NULL, NULL, NULL);
    struct fair_counts c = { 0 };
    char first;
    CHECK_EQ(recv(fd, &first, 1, MSG_PEEK), 1);
    CHECK_EQ(del(w, "/parcels/%s", r.id).status, 200);
    settle(w);
    CHECK_EQ(files(w), 0);
    CHECK_EQ(ask_end(w, fd).body.n, n);
    pool_counts(world_app(w)->lanes[LANE_BODY], &c);
    CHECK_EQ(c.used, 0);
}

TESTS(parcel)

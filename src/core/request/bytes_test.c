/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of bytes: what a request asks of them, and who reads them slowly. */
#include "core/service.h"

static int blob_get(struct call *c, struct err *e);
static int text_get(struct call *c, struct err *e);
static int short_get(struct call *c, struct err *e);
/* clang-format off */
static const struct route bytes_routes[] = {
    { GET, "/bytes/file",  "bytes:get", READ, blob_get,  NULL, NULL, 200, "Gives a file.", .bytes = true, .produces = "application/octet-stream" },
    { GET, "/bytes/text",  "bytes:get", QUICK, text_get, NULL, NULL, 200, "Gives a text.", .bytes = true, .produces = "text/plain; charset=utf-8" },
    { GET, "/bytes/short", "bytes:get", READ, short_get, NULL, NULL, 200, "Gives a short file.", .bytes = true, .produces = "text/plain" },
    { 0 },
};
/* clang-format on */
static const struct service bytes_service = { .name = "bytes",
                                              .doc = "Gives bytes.",
                                              .routes = bytes_routes };
#define FURTHER_SERVICES &bytes_service,
#include "tests/things.h"

#include <fcntl.h>
#include <poll.h>

enum { SIZE = 8 * 1024 * 1024 };
static const char letters[] = "abcdefghijklmnopqrstuvwxyz";

/* 1994-11-06T08:49:37.5Z */
static const struct bytes_known known = { .etag = "a", .modified = INT64_C(784111777500000) };

static int file_of(struct call *c, size_t n, struct err *e)
{
    char *bytes = arena_alloc(c->arena, n);
    int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    for (size_t i = 0; i < n; i++)
        bytes[i] = letters[i % 26];
    if (fd < 0 || fd_write_all(fd, bytes, n, e) < 0)
        return err_sys(e, errno, "make a file");
    return fd;
}

static int blob_get(struct call *c, struct err *e)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int made = -1;

    pthread_mutex_lock(&lock);
    if (made < 0)
        made = file_of(c, SIZE, e);
    pthread_mutex_unlock(&lock);
    return made < 0 ? -1 : reply_file(c, &known, dup(made), SIZE, e);
}

static int short_get(struct call *c, struct err *e)
{
    struct bytes_known k = known;
    int fd = file_of(c, 26, e);

    k.name = "letters.txt";
    return fd < 0 ? -1 : reply_file(c, &k, fd, 26, e);
}

static int text_get(struct call *c, struct err *e)
{
    return reply_bytes(c, &known, STR(letters), e);
}

static const char *const paths[] = { "/bytes/text", "/bytes/short" };

static bool body_is(struct reply r, const char *text)
{
    return r.body.n == strlen(text) && memcmp(r.body.p, text, r.body.n) == 0;
}

TEST(all_of_it_says_what_may_be_asked_for)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct reply r = get(w, "%s", paths[i]);

        CHECK_EQ(r.status, 200);
        CHECK(body_is(r, letters));
        CHECK_STR(header(r, "ETag"), "\"a\"");
        CHECK_STR(header(r, "Last-Modified"), "Sun, 06 Nov 1994 08:49:37 GMT");
        CHECK_STR(header(r, "Accept-Ranges"), "bytes");
        CHECK_STR(header(r, "Content-Length"), "26");
        CHECK(header(r, "Content-Range") == NULL);
        CHECK(strncmp(header(r, "Content-Type"), "text/plain", 10) == 0);
        CHECK_STR(header(r, "Cache-Control"), "private, no-cache");
    }
    CHECK_STR(header(get(w, "/bytes/short"), "Content-Disposition"),
              "attachment; filename=\"letters.txt\"");
}

TEST(a_part_is_206_and_says_where_it_is)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct reply r = with(w, GET, paths[i], "Range: bytes=2-4", NULL);

        CHECK_EQ(r.status, 206);
        CHECK(body_is(r, "cde"));
        CHECK_STR(header(r, "Content-Range"), "bytes 2-4/26");
        CHECK_STR(header(r, "Content-Length"), "3");
        CHECK_STR(header(r, "ETag"), "\"a\"");
        r = with(w, GET, paths[i], "Range: bytes=-2", NULL);
        CHECK(r.status == 206 && body_is(r, "yz"));
        r = with(w, GET, paths[i], "Range: bytes=20-\nIf-Range: \"a\"", NULL);
        CHECK(r.status == 206 && body_is(r, "uvwxyz"));
        r = with(w, GET, paths[i], "Range: bytes=20-\nIf-Range: \"b\"", NULL);
        CHECK(r.status == 200 && body_is(r, letters));
        r = with(w, GET, paths[i], "Range: bytes=0-1,4-5", NULL);
        CHECK(r.status == 200 && body_is(r, letters));
        r = with(w, GET, paths[i], "Range: bytes=0-1\nRange: bytes=4-5", NULL);
        CHECK(r.status == 200 && body_is(r, letters));
        r = with(w, GET, paths[i], "Range: bytes=26-\nAccept-Encoding: gzip", NULL);
        CHECK_EQ(r.status, 416);
        CHECK_STR(r.code, "range_not_satisfiable");
        CHECK_STR(header(r, "Content-Range"), "bytes */26");
        CHECK(header(r, "ETag") == NULL);
    }
}

TEST(conditions_decide_before_ranges)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct reply r = with(w, GET, paths[i], "If-None-Match: \"a\"\nRange: bytes=0-1", NULL);

        CHECK_EQ(r.status, 304);
        CHECK_EQ(r.body.n, 0);
        CHECK_STR(header(r, "ETag"), "\"a\"");
        CHECK(header(r, "Content-Length") == NULL);
        CHECK(header(r, "Content-Range") == NULL);
        r = with(w, GET, paths[i], "If-None-Match: \"b\"\nIf-None-Match: \"a\"", NULL);
        CHECK_EQ(r.status, 304);
        r = with(w, GET, paths[i], "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", NULL);
        CHECK_EQ(r.status, 304);
        r = with(w, GET, paths[i], "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT", NULL);
        CHECK_EQ(r.status, 200);
        r = with(w, GET, paths[i], "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT", NULL);
        CHECK_EQ(r.status, 412);
        r = with(w, GET, paths[i], "If-Match: \"b\"\nIf-None-Match: \"a\"", NULL);
        CHECK_EQ(r.status, 412);
        CHECK_STR(r.code, "precondition_failed");
        CHECK_EQ(with(w, GET, paths[i], "If-Match: \"a\"", NULL).status, 200);
    }
}

TEST(head_is_the_same_without_the_bytes)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct reply r = with(w, HEAD, paths[i], "Range: bytes=2-4", NULL);

        CHECK_EQ(r.status, 200); /* ranges are of GET alone (RFC 9110 14.2) */
        CHECK_EQ(r.body.n, 0);
        CHECK_STR(header(r, "Content-Length"), "26");
        CHECK_STR(header(r, "Accept-Ranges"), "bytes");
        CHECK_EQ(with(w, HEAD, paths[i], "If-None-Match: *", NULL).status, 304);
        CHECK_EQ(with(w, HEAD, paths[i], "If-Match: \"b\"", NULL).status, 412);
    }
}

static int64_t downloads(struct world *w)
{
    struct fair_counts c;

    shares_counts(world_app(w)->shares, SHARE_DOWNLOADS, &c);
    return c.used;
}

static void downloads_are(struct world *w, int64_t n)
{
    for (int i = 0; i < 2000 && downloads(w) != n; i++)
        usleep(2000);
    CHECK_EQ(downloads(w), n);
}

TEST(who_reads_slowly_holds_downloads_of_his_own_and_no_thread)
{
    enum { SLOW = 256 };
    _cleanup_(world_freep) struct world *w = world_new();
    static int fds[SLOW];
    struct fair_counts c;

    for (int i = 0; i < SLOW; i++)
        fds[i] = ask_begin(w, GET, "/bytes/file", fmt("test-slow%d", i / 64), NULL, NULL);
    downloads_are(w, SLOW);
    struct reply r = get(w, "/bytes/file");
    CHECK_EQ(r.status, 429);
    CHECK(strstr(member(r, "error.message"), "256 downloads at once") != NULL);
    pool_counts(world_app(w)->lanes[LANE_READ], &c);
    CHECK_EQ(c.used + c.waiting, 0);
    r = ask(w, GET, "/bytes/file", "test-stranger", NULL, NULL);
    CHECK(r.status == 200 && r.body.n == SIZE);
    CHECK_EQ(get(w, "/things").status, 200);
    r = ask_end(w, fds[0]); /* one that reads on after all */
    CHECK(r.status == 200 && r.body.n == SIZE);
    for (size_t i = 0; i < SIZE; i++)
        if (r.body.p[i] != letters[i % 26])
            fail_msg("byte %zu is another", i);
    for (int i = 1; i < SLOW; i++)
        close(fds[i]);
    downloads_are(w, 0);
}

TESTS(bytes)

/* SPDX-License-Identifier: Apache-2.0 */
/* Streams from their peers' side: what comes, when, how often; and what who reads nothing holds. */
#include "tests/things.h"

#include <poll.h>
#include <sys/socket.h>

enum { CROWD = 300 };

static int follow(struct world *w, const char *key, const char *query, const char *last)
{
    return ask_begin(w, GET, fmt("/v1/events/stream%s", query), key,
                     last ? fmt("Last-Event-ID: %s", last) : NULL, NULL);
}

/* Reads on until 'text' has come; all that came since 'b' was emptied is in it.  Over PostgreSQL
 * time must pass, for who follows looks by himself. */
static bool comes(struct world *w, int fd, struct buf *b, const char *text)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char part[65536];

    for (int waits = 0; !b->n || !strstr(buf_cstr(b), text);) {
        if (poll(&p, 1, 20) == 0) {
            if (++waits == 500)
                return false;
            if (world_is_postgres(w))
                clock_advance(world_clock(w), MILLIS(20));
            continue;
        }
        ssize_t n = read(fd, part, sizeof(part));
        if (n <= 0)
            return false;
        buf_put(b, part, (size_t)n);
    }
    return true;
}

static int count(const struct buf *b, const char *text)
{
    int n = 0;

    for (const char *at = b->p; (at = strstr(at, text)); at++)
        n++;
    return n;
}

/* The id of the n-th event that is in it. */
static const char *id_of(struct buf *b, int n)
{
    const char *at = buf_cstr(b);

    while (n-- > 0 && at)
        at = strstr(at + 1, "\nid: ");
    CHECK(at != NULL);
    return fmt("%.*s", (int)strcspn(at + 5, "\n"), at + 5);
}

static void make(struct world *w, const char *name)
{
    CHECK_EQ(post(w, "/things", fmt("{'name':'%s'}", name)).status, 201);
}

TEST(a_commit_reaches_all_who_follow_its_tenant_once)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct buf b = BUF(MIB(1));
    int fds[CROWD], theirs;

    for (int i = 0; i < CROWD; i++) { /* far more than a credential's requests at once */
        fds[i] = follow(w, "test-owner", i % 2 ? "?type=thing.cr*" : "", NULL);
        CHECK(comes(w, fds[i], &b, "retry: "));
        buf_clear(&b);
    }
    theirs = follow(w, "test-stranger", "", NULL);
    CHECK(comes(w, theirs, &b, "retry: "));
    make(w, "one");
    make(w, "two");
    for (int i = 0; i < CROWD; i++) {
        buf_clear(&b);
        CHECK(comes(w, fds[i], &b, "\"name\":\"two\""));
        CHECK_EQ(count(&b, "event: thing.created\n"), 2);
        CHECK(strstr(b.p, "\"name\":\"one\"") < strstr(b.p, "\"name\":\"two\""));
        close(fds[i]);
    }
    buf_clear(&b);
    CHECK_EQ(as(w, AS_STRANGER, POST, "/things", "{'name':'other'}").status, 201);
    CHECK(comes(w, theirs, &b, "\"name\":\"other\""));
    CHECK_EQ(count(&b, "event: "), 1);
    close(theirs);
    buf_free(&b);
}

TEST(who_comes_back_goes_on_behind_what_they_had)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct buf b = BUF(MIB(1));
    const char *ids[4];
    int fd = follow(w, "test-owner", "", NULL);

    CHECK(comes(w, fd, &b, "retry: "));
    for (int i = 0; i < 3; i++)
        make(w, fmt("n%d", i));
    CHECK(comes(w, fd, &b, "\"name\":\"n2\""));
    for (int i = 0; i < 3; i++)
        ids[i] = id_of(&b, i + 1);
    close(fd);
    world_restart(w);
    make(w, "n3");
    for (int i = 0; i < 3; i++) {
        fd = follow(w, "test-owner", "", ids[i]);
        buf_clear(&b);
        CHECK(comes(w, fd, &b, "\"name\":\"n3\""));
        CHECK_EQ(count(&b, "event: "), 3 - i);
        close(fd);
    }
    CHECK_EQ(get(w, "/v1/events/stream?last_event_id=%sx", ids[0]).status, 400);
    CHECK_EQ(
        ask(w, GET, "/v1/events/stream", "test-stranger", fmt("Last-Event-ID: %s", ids[0]), NULL)
            .status,
        400);
    buf_free(&b);
}

TEST(a_key_of_a_project_sees_the_events_of_its_project_alone)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct buf b = BUF(MIB(1));
    int fd = follow(w, "test-project", "", NULL);

    CHECK(comes(w, fd, &b, "retry: "));
    make(w, "ours");
    CHECK_EQ(ask(w, POST, "/things", "test-project", NULL, "{\"name\":\"mine\"}").status, 201);
    CHECK(comes(w, fd, &b, "\"name\":\"mine\""));
    CHECK_EQ(count(&b, "event: "), 1);
    struct reply r = ask(w, GET, "/v1/events", "test-project", NULL, NULL);
    CHECK_EQ(r.len, 1);
    CHECK_STR(member(r, "data.0.data.object.name"), "mine");
    CHECK_EQ(get(w, "/v1/events").len, 2);
    close(fd);
    buf_free(&b);
}

TEST(silence_is_broken_by_a_comment)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct buf b = BUF(MIB(1));
    int fd = follow(w, "test-owner", "", NULL);

    CHECK(comes(w, fd, &b, "retry: 2000\n\n"));
    for (int i = 0; i < 3; i++) {
        buf_clear(&b);
        while (park_count(world_app(w)->park) == 0)
            usleep(1000);
        clock_advance(world_clock(w), SECONDS(16));
        CHECK(comes(w, fd, &b, ":\n\n"));
        CHECK_EQ(count(&b, ":\n\n"), 1);
    }
    close(fd);
    buf_free(&b);
}

/* What is behind who reads nothing is in the journal, not here. */
TEST(who_reads_late_misses_nothing)
{
    enum { MANY = 120 };
    _cleanup_(world_freep) struct world *w = world_new();
    static char thing[100000];
    struct buf b = BUF(MIB(64));
    int fd = follow(w, "test-owner", "", NULL);

    CHECK(comes(w, fd, &b, "retry: "));
    buf_clear(&b);
    for (int i = 0; i < MANY; i++) { /* 11 MB */
        snprintf(thing, sizeof(thing), "{\"name\":\"n%d.\",\"note\":\"%090000d\"}", i, 0);
        CHECK_EQ(ask(w, POST, "/things", "test-owner", NULL, thing).status, 201);
    }
    CHECK(comes(w, fd, &b, fmt("\"name\":\"n%d.\"", MANY - 1)));
    CHECK_EQ(count(&b, "event: thing.created\n"), MANY);
    for (int i = 1; i < MANY; i++)
        CHECK(strstr(b.p, fmt("\"name\":\"n%d.\"", i - 1)) <
              strstr(b.p, fmt("\"name\":\"n%d.\"", i)));
    close(fd);
    buf_free(&b);
}

TEST(a_drain_says_farewell_to_each)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct buf b = BUF(MIB(1));
    int fds[20];

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        buf_clear(&b);
        fds[i] = follow(w, "test-owner", "", NULL);
        CHECK(comes(w, fds[i], &b, "retry: "));
    }
    world_restart(w);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        buf_clear(&b);
        CHECK(comes(w, fds[i], &b, "event: end\ndata: {\"reason\":\"shutdown\"}\n\n"));
        CHECK(comes(w, fds[i], &b, "\r\n0\r\n\r\n")); /* it is whole */
        close(fds[i]);
    }
    buf_free(&b);
}

TEST(a_stream_gives_back_what_it_held)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct shares *shares = world_app(w)->shares;
    struct buf b = BUF(MIB(1));
    struct fair_counts c;

    for (int i = 0; i < 3; i++) {
        int fd = follow(w, "test-owner", "", NULL);
        buf_clear(&b);
        CHECK(comes(w, fd, &b, "retry: "));
        shares_counts(shares, SHARE_STREAMS, &c);
        CHECK_EQ(c.used, 1);
        close(fd);
        for (int k = 0; k < 1000 && c.used > 0; k++, usleep(2000))
            shares_counts(shares, SHARE_STREAMS, &c);
        CHECK_EQ(c.used, 0);
        CHECK_EQ(park_count(world_app(w)->park), 0);
    }
    buf_free(&b);
}

TESTS(stream)

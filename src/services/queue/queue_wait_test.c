/* SPDX-License-Identifier: Apache-2.0 */
/* Receivers that wait for a message. */
#include <poll.h>

#include "core/request/request.h"
#include "tests/world.h"

/* A receipt handle of the first message received, or NULL when none is there. */
static const char *receive_one(struct world *w, const char *queue)
{
    return member(get(w, "/queues/%s/messages", queue), "0.receipt_handle");
}

/* The queue "jobs", whose messages go to 'dead' when they have been received 'max' times; hidden
 * for 'hidden' seconds each time. */
static const char *jobs_new(struct world *w, const char *dead, int hidden, int max)
{
    return post(w, "/queues",
                fmt("{'name':'jobs','visibility_timeout':%d,'max_receives':%d,"
                    "'dead_letter_queue_id':'%s'}",
                    hidden, max, dead))
        .id;
}

static const char *send_one(struct world *w, const char *q, const char *body)
{
    struct reply r = post(w, fmt("/queues/%s/messages", q), body);

    CHECK_EQ(r.status, 201);
    return r.id;
}

/* A receiver that waits for twenty seconds, and does already. */
static int wait_begin(struct world *w, const char *q)
{
    int fd = ask_begin(w, GET, fmt("/queues/%s/messages?wait=20", q), NULL, NULL, NULL);

    for (int n = 0; n < 1000 && park_count(world_app(w)->park) == 0; n++)
        usleep(2000);
    CHECK_EQ(park_count(world_app(w)->park), 1);
    return fd;
}

/* Its twenty seconds are those of the world's clock, which stands still: what comes was woken. */
static void wait_gets(struct world *w, int fd, const char *body)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    CHECK_EQ(poll(&p, 1, 5000), 1);
    CHECK_STR(member(ask_end(w, fd), "0.body"), body);
}

TEST(who_waits_is_woken_by_a_timeout_that_is_made_shorter)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs','visibility_timeout':60}").id;

    send_one(w, q, "{'body':'x'}");
    for (int seconds = 2; seconds >= 0; seconds -= 2) {
        const char *handle = receive_one(w, q);
        int fd = wait_begin(w, q);
        const char *path = fmt("/queues/%s/messages/%s", q, handle);

        CHECK_EQ(patch(w, path, "{'visibility_timeout':90}").status, 200);
        CHECK_EQ(park_count(world_app(w)->park), 1);
        CHECK_EQ(patch(w, path, fmt("{'visibility_timeout':%d}", seconds)).status, 200);
        world_sleep(w, SECONDS(seconds));
        wait_gets(w, fd, "x");
        world_sleep(w, SECONDS(61));
    }
}

TEST(who_waits_is_woken_when_a_message_falls_due)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs','visibility_timeout':5}").id;
    int fd = wait_begin(w, q);

    send_one(w, q, "{'body':'late','delay_seconds':15}");
    send_one(w, q, "{'body':'early','delay_seconds':3}");
    world_sleep(w, SECONDS(4));
    wait_gets(w, fd, "early"); /* and it is out now, until its timeout */
    fd = wait_begin(w, q);
    world_sleep(w, SECONDS(6));
    wait_gets(w, fd, "early");
}

TEST(who_waits_is_woken_by_the_next_of_a_group)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'s','fifo':true,'retention_days':1}").id;

    send_one(w, q, "{'body':'1','group_id':'g'}");
    world_sleep(w, MINUTES(30));
    send_one(w, q, "{'body':'2','group_id':'g'}");
    send_one(w, q, "{'body':'3','group_id':'g'}");
    clock_advance(world_clock(w), HOURS(23));
    CHECK_EQ(get(w, "/queues/%s/messages?visibility_timeout=43200", q).len, 1);
    clock_advance(world_clock(w), MINUTES(41)); /* the first is past its retention, and hidden */
    int fd = wait_begin(w, q);
    world_settle(w);
    wait_gets(w, fd, "2");
    CHECK_EQ(patch(w, fmt("/queues/%s", q), "{'visibility_timeout':5}").status, 200);
    world_sleep(w, SECONDS(31));
    struct reply two = get(w, "/queues/%s/messages", q);
    CHECK_STR(member(two, "0.body"), "2");
    fd = wait_begin(w, q);
    CHECK_EQ(post(w, fmt("/queues/%s/messages/delete", q),
                  fmt("{'receipt_handles':['%s']}", member(two, "0.receipt_handle")))
                 .status,
             200);
    wait_gets(w, fd, "3");
}

TEST(who_waits_is_woken_by_a_dead_letter_and_by_a_longer_retention)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *dead = post(w, "/queues", "{'name':'dead','retention_days':1}").id;
    const char *q = jobs_new(w, dead, 1, 1);

    send_one(w, q, "{'body':'poison'}");
    CHECK(receive_one(w, q) != NULL);
    world_sleep(w, SECONDS(2));
    int fd = wait_begin(w, dead);
    CHECK(receive_one(w, q) == NULL);
    wait_gets(w, fd, "poison");
    clock_advance(world_clock(w), DAYS(1) + MINUTES(10)); /* and no sweep */
    fd = wait_begin(w, dead);
    CHECK_EQ(patch(w, fmt("/queues/%s", dead), "{'retention_days':2}").status, 200);
    wait_gets(w, fd, "poison");
}

TEST(many_dead_letters_before_a_message_do_not_end_a_wait)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *dead = post(w, "/queues", "{'name':'dead'}").id;
    const char *q = jobs_new(w, dead, 1, 1);

    for (int i = 0; i < 120; i++)
        send_one(w, q, "{'body':'poison'}");
    for (int i = 0; i < 12; i++)
        CHECK_EQ(get(w, "/queues/%s/messages?count=10", q).len, 10);
    world_sleep(w, SECONDS(2));
    send_one(w, q, "{'body':'good'}");
    struct reply r = get(w, "/queues/%s/messages?wait=20", q);
    CHECK_EQ(r.len, 1);
    CHECK_STR(member(r, "0.body"), "good");
    CHECK_EQ(member_int(get(w, "/queues/%s", dead), "depth"), 120);
}

TEST(one_receive_hands_out_nothing_twice_and_nothing_that_it_gives_up)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *dead = post(w, "/queues", "{'name':'dead'}").id;
    const char *q = jobs_new(w, dead, 0, 1);

    send_one(w, q, "{'body':'old'}");
    CHECK(receive_one(w, q) != NULL);
    send_one(w, q, "{'body':'a'}");
    send_one(w, q, "{'body':'b'}");
    world_sleep(w, SECONDS(1));
    struct reply r = get(w, "/queues/%s/messages?count=10", q);
    CHECK_EQ(r.len, 2);
    CHECK_STR(member(r, "0.body"), "a");
    CHECK_STR(member(r, "1.body"), "b");
    CHECK_EQ(member_int(get(w, "/queues/%s", dead), "depth"), 1);
    CHECK_STR(member(get(w, "/queues/%s/messages", dead), "0.body"), "old");
    world_sleep(w, SECONDS(1));
    CHECK_EQ(get(w, "/queues/%s/messages?count=10", q).len, 0);
    CHECK_EQ(member_int(get(w, "/queues/%s", dead), "depth"), 2);
}

static void check_same(struct reply a, struct reply b)
{
    static const char *const members[] = {
        "id",         "body",     "attributes.colour", "group_id",      "created_at",
        "visible_at", "queue_id", "deduplication_id",  "received_count"
    };

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (member(a, members[i]) || member(b, members[i]))
            CHECK_STR(member(b, members[i]), member(a, members[i]));
}

static struct reply send_keyed(struct world *w, const char *path, const char *body,
                               const char *more, const char *group)
{
    return post(w, path,
                fmt("{'body':'%s','deduplication_id':'1'%s%s%s%s}", body, more,
                    *group ? ",'group_id':'" : "", group, *group ? "'" : ""));
}

TEST(a_duplicate_is_answered_as_the_first_was)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (int fifo = 0; fifo < 2; fifo++) {
        const char *q =
            post(w, "/queues", fmt("{'name':'q%d','fifo':%s}", fifo, fifo ? "true" : "false")).id;
        const char *path = fmt("/queues/%s/messages", q), *g = fifo ? "g" : "",
                   *h = fifo ? "h" : "";
        struct reply first = send_keyed(w, path, "first", ",'attributes':{'colour':'red'}", g);

        world_sleep(w, SECONDS(10));
        check_same(first, send_keyed(w, path, "second", "", h));
        CHECK_EQ(del(w, "%s/%s", path, receive_one(w, q)).status, 200);
        check_same(first, send_keyed(w, path, "second", "", h));
        CHECK_EQ(member_int(get(w, "/queues/%s", q), "depth"), 0);
        world_sleep(w, MINUTES(5));
        CHECK_STR(member(send_keyed(w, path, "second", "", h), "body"), "second");
    }
}

TEST(a_duplicate_in_a_batch_is_answered_as_the_first_was)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;
    struct reply r = post(w, fmt("/queues/%s/messages/batch", q),
                          "{'messages':[{'body':'x','deduplication_id':'2','delay_seconds':9},"
                          "{'body':'y','deduplication_id':'2'}]}");

    CHECK_STR(member(r, "1.id"), member(r, "0.id"));
    CHECK_STR(member(r, "1.body"), "x");
    CHECK_STR(member(r, "1.visible_at"), member(r, "0.visible_at"));
    CHECK_EQ(member_int(get(w, "/queues/%s", q), "in_flight"), 1);
}

TESTS(queue_wait)

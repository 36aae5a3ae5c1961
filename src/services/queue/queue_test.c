/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>

#include "core/request/request.h"
#include "tests/world.h"

/* A receipt handle of the first message received, or NULL when none is there. */
static const char *receive_one(struct world *w, const char *queue)
{
    return member(get(w, "/queues/%s/messages", queue), "0.receipt_handle");
}

TEST(a_queue_has_the_defaults_of_its_table)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/queues", "{'name':'jobs'}");

    CHECK_EQ(r.status, 201);
    CHECK_EQ(member_int(r, "visibility_timeout"), 30);
    CHECK_EQ(member_int(r, "retention_days"), 4);
    CHECK_EQ(member_int(r, "max_message_size"), 262144);
    CHECK_STR(member(r, "status"), "ACTIVE");
    CHECK(strncmp(member(r, "arn"), "arn:thecloud:queue:", 19) == 0);
}

TEST(every_fault_of_a_body_is_named)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r =
        post(w, "/queues", "{'name':'no spaces','visibility_timeout':43201,'nope':1,'fifo':'yes'}");

    CHECK_EQ(r.status, 400);
    CHECK_STR(r.code, "invalid_request");
    CHECK(member(r, "error.details.3.field") != NULL);
    CHECK(member(r, "error.details.4.field") == NULL);
}

TEST(a_patch_of_nothing_changes_nothing)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *tag = header(post(w, "/queues", "{'name':'jobs'}"), "ETag");

    world_sleep(w, SECONDS(1));
    CHECK_STR(header(patch(w, "/queues/jobs", "{}"), "ETag"), tag);
    CHECK(strcmp(header(patch(w, "/queues/jobs", "{'delay_seconds':1}"), "ETag"), tag) != 0);
}

TEST(max_messages_is_another_word_for_count)
{
    _cleanup_(world_freep) struct world *w = world_new();

    post(w, "/queues", "{'name':'jobs'}");
    for (int i = 0; i < 3; i++)
        CHECK_EQ(post(w, "/queues/jobs/messages", "{'body':'x'}").status, 201);
    CHECK_EQ(get(w, "/queues/jobs/messages?max_messages=2").len, 2);
}

TEST(a_name_is_taken_once_and_works_as_an_id)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(post(w, "/queues", "{'name':'jobs'}").status, 201);
    struct reply r = post(w, "/queues", "{'name':'jobs'}");
    CHECK_EQ(r.status, 409);
    CHECK_STR(r.code, "already_exists");
    CHECK_STR(member(get(w, "/queues/jobs"), "name"), "jobs");
    CHECK_EQ(post(w, "/queues", "{'name':'q_01h455vb4pex5vsknk084sn02q'}").status, 400);
    CHECK_EQ(post(w, "/queues", "{'name':'0189c1a2-0000-7000-8000-000000000000'}").status, 400);
}

TEST(a_received_message_stays_hidden_until_its_timeout)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs','visibility_timeout':30}").id;

    CHECK_EQ(post(w, fmt("/queues/%s/messages", q), "{'body':'hello'}").status, 201);
    CHECK_EQ(member_int(get(w, "/queues/%s", q), "depth"), 1);
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 1);
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 0);
    CHECK_EQ(member_int(get(w, "/queues/%s", q), "depth"), 0);
    CHECK_EQ(member_int(get(w, "/queues/%s", q), "in_flight"), 1);
    world_sleep(w, SECONDS(31));
    struct reply r = get(w, "/queues/%s/messages", q);
    CHECK_EQ(r.len, 1);
    CHECK_EQ(member_int(r, "0.received_count"), 2);
    CHECK_STR(member(r, "0.body"), "hello");
}

TEST(a_deleted_message_is_gone_and_an_old_handle_deletes_nothing)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs','visibility_timeout':1}").id;

    post(w, fmt("/queues/%s/messages", q), "{'body':'hello'}");
    const char *old = receive_one(w, q);
    world_sleep(w, SECONDS(2));
    const char *now = receive_one(w, q);
    CHECK_EQ(del(w, "/queues/%s/messages/%s", q, old).status, 404);
    CHECK_EQ(del(w, "/queues/%s/messages/%s", q, now).status, 200);
    CHECK_EQ(del(w, "/queues/%s/messages/%s", q, now).status, 404);
    CHECK_EQ(del(w, "/queues/%s/messages/nonsense", q).status, 404);
    world_sleep(w, SECONDS(2));
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 0);
}

TEST(a_batch_is_sent_whole_or_not_at_all)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;
    const char *path = fmt("/queues/%s/messages/batch", q);

    struct reply r = post(w, path, "{'messages':[{'body':'a'},{'body':''},{'x':1},7]}");
    CHECK_EQ(r.status, 400);
    CHECK_STR(member(r, "error.details.0.field"), "messages[1].body");
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 0);
    CHECK_EQ(post(w, path, "{'messages':[{'body':'a'},{'body':'b'},{'body':'c'}]}").status, 201);
    r = get(w, "/queues/%s/messages?count=10", q);
    CHECK_EQ(r.len, 3);
    CHECK_STR(member(r, "0.body"), "a");
    CHECK_STR(member(r, "2.body"), "c");
}

TEST(received_messages_are_deleted_in_a_batch)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;

    post(w, fmt("/queues/%s/messages", q), "{'body':'a'}");
    const char *handle = receive_one(w, q);
    struct reply r = post(w, fmt("/queues/%s/messages/delete", q),
                          fmt("{'receipt_handles':['%s','1-999']}", handle));
    CHECK_EQ(r.status, 200);
    CHECK_STR(member(r, "results.0.deleted"), "true");
    CHECK_STR(member(r, "results.1.deleted"), "false");
}

TEST(a_delayed_message_comes_later)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs','delay_seconds':60}").id;

    post(w, fmt("/queues/%s/messages", q), "{'body':'queue'}");
    post(w, fmt("/queues/%s/messages", q), "{'body':'own','delay_seconds':0}");
    struct reply r = get(w, "/queues/%s/messages?count=10", q);
    CHECK_EQ(r.len, 1);
    CHECK_STR(member(r, "0.body"), "own");
    world_sleep(w, SECONDS(61));
    CHECK_STR(member(get(w, "/queues/%s/messages", q), "0.body"), "own");
}

TEST(attributes_come_back_as_they_were_sent)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;

    post(w, fmt("/queues/%s/messages", q), "{'body':'x','attributes':{'colour':'blue'}}");
    CHECK_STR(member(get(w, "/queues/%s/messages", q), "0.attributes.colour"), "blue");
}

TEST(a_message_larger_than_its_queue_takes_is_refused)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs','max_message_size':1024}").id;
    char body[1200];

    memset(body, 'x', sizeof(body) - 1);
    body[sizeof(body) - 1] = '\0';
    struct reply r = post(w, fmt("/queues/%s/messages", q), fmt("{'body':'%s'}", body));
    CHECK_EQ(r.status, 400);
    CHECK_STR(member(r, "error.details.0.code"), "too_long");
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

TEST(what_is_received_too_often_goes_to_the_dead_letter_queue)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *dead = post(w, "/queues", "{'name':'dead'}").id;
    const char *q = jobs_new(w, dead, 1, 2);

    post(w, fmt("/queues/%s/messages", q), "{'body':'poison'}");
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(get(w, "/queues/%s/messages", q).len, 1);
        world_sleep(w, SECONDS(2));
    }
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 0);
    struct reply r = get(w, "/queues/%s/messages", dead);
    CHECK_STR(member(r, "0.body"), "poison");
    CHECK_EQ(member_int(r, "0.received_count"), 1);
    CHECK_EQ(del(w, "/queues/%s", dead).status, 409);
}

TEST(a_message_goes_to_the_dead_letter_queue_while_its_receiver_waits_on)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *dead = post(w, "/queues", "{'name':'dead'}").id;
    const char *q = jobs_new(w, dead, 1, 1);
    struct reply r = { 0 };

    post(w, fmt("/queues/%s/messages", q), "{'body':'poison'}");
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 1);
    world_sleep(w, SECONDS(2));
    int fd = ask_begin(w, GET, fmt("/queues/%s/messages?wait=20", q), NULL, NULL, NULL);
    for (int n = 0; n < 500 && r.len == 0; n++) {
        r = get(w, "/queues/%s/messages", dead);
        usleep(2000);
    }
    CHECK_EQ(r.len, 1);
    CHECK_STR(member(r, "0.body"), "poison");
    post(w, fmt("/queues/%s/messages", q), "{'body':'next'}");
    CHECK_STR(member(ask_end(w, fd), "0.body"), "next");
}

TEST(a_dead_letter_queue_must_fit)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *fifo = post(w, "/queues", "{'name':'fifo','fifo':true}").id;

    CHECK_EQ(post(w, "/queues", "{'name':'a','max_receives':3}").status, 400);
    CHECK_EQ(post(w, "/queues", fmt("{'name':'a','dead_letter_queue_id':'%s'}", fifo)).status, 400);
    CHECK_EQ(
        post(w, "/queues", fmt("{'name':'a','dead_letter_queue_id':'%s','max_receives':3}", fifo))
            .status,
        400);
    CHECK_EQ(post(w, "/queues",
                  "{'name':'a','dead_letter_queue_id':'0189c1a2-0000-7000-8000-000000000000',"
                  "'max_receives':3}")
                 .status,
             404);
}

TEST(messages_of_a_fifo_group_come_one_after_the_other)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'steps','fifo':true}").id;
    const char *path = fmt("/queues/%s/messages", q);

    CHECK_EQ(post(w, path, "{'body':'none'}").status, 400);
    post(w, path, "{'body':'a1','group_id':'a'}");
    post(w, path, "{'body':'a2','group_id':'a'}");
    post(w, path, "{'body':'b1','group_id':'b'}");
    CHECK_EQ(member_int(get(w, "/queues/%s", q), "depth"), 3);
    struct reply r = get(w, "/queues/%s/messages?count=10", q);
    CHECK_EQ(r.len, 2);
    CHECK_STR(member(r, "0.body"), "a1");
    CHECK_STR(member(r, "1.body"), "b1");
    CHECK_EQ(get(w, "/queues/%s/messages?count=10", q).len, 0);
    CHECK_EQ(del(w, "/queues/%s/messages/%s", q, member(r, "0.receipt_handle")).status, 200);
    CHECK_STR(member(get(w, "/queues/%s/messages", q), "0.body"), "a2");
}

TEST(a_deduplication_id_is_sent_once_in_five_minutes)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;
    const char *path = fmt("/queues/%s/messages", q);

    struct reply first = post(w, path, "{'body':'a','deduplication_id':'1'}");
    struct reply again = post(w, path, "{'body':'a','deduplication_id':'1'}");
    CHECK_EQ(again.status, 201);
    CHECK_STR(again.id, first.id);
    CHECK_EQ(get(w, "/queues/%s/messages?count=10", q).len, 1);
    world_sleep(w, MINUTES(5) + SECONDS(1));
    CHECK(strcmp(post(w, path, "{'body':'a','deduplication_id':'1'}").id, first.id) != 0);
}

TEST(a_receiver_may_hide_a_message_longer_or_give_it_back)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs','visibility_timeout':10}").id;

    post(w, fmt("/queues/%s/messages", q), "{'body':'x'}");
    const char *path = fmt("/queues/%s/messages/%s", q, receive_one(w, q));
    CHECK_EQ(patch(w, path, "{'visibility_timeout':100}").status, 200);
    world_sleep(w, SECONDS(50));
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 0);
    CHECK_EQ(patch(w, path, "{'visibility_timeout':0}").status, 200);
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 1);
    CHECK_EQ(patch(w, path, "{'visibility_timeout':9}").status, 404);
}

TEST(purging_drops_all_messages_and_keeps_the_queue)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;

    for (int i = 0; i < 20; i++)
        post(w, fmt("/queues/%s/messages", q), "{'body':'x'}");
    CHECK_EQ(post(w, fmt("/queues/%s/purge", q), NULL).status, 200);
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 0);
    CHECK_EQ(member_int(get(w, "/queues/%s", q), "depth"), 0);
    world_settle(w);
    CHECK_EQ(post(w, fmt("/queues/%s/messages", q), "{'body':'y'}").status, 201);
    CHECK_EQ(get(w, "/queues/%s/messages?count=10", q).len, 1);
}

TEST(a_message_past_its_retention_is_dropped)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs','retention_days':1}").id;

    post(w, fmt("/queues/%s/messages", q), "{'body':'x'}");
    world_sleep(w, DAYS(1) + MINUTES(10));
    CHECK_EQ(get(w, "/queues/%s/messages", q).len, 0);
    world_sleep(w, MINUTES(11));
    CHECK_EQ(member_int(get(w, "/queues/%s", q), "depth"), 0);
}

TEST(a_queue_is_changed_and_deleted)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;

    CHECK_EQ(member_int(patch(w, fmt("/queues/%s", q), "{'visibility_timeout':5}"),
                        "visibility_timeout"),
             5);
    CHECK_EQ(patch(w, fmt("/queues/%s", q), "{'name':'other'}").status, 400);
    CHECK_EQ(del(w, "/queues/%s", q).status, 200);
    CHECK_EQ(get(w, "/queues/%s", q).status, 404);
    CHECK_EQ(post(w, "/queues", "{'name':'jobs'}").status, 201);
}

TEST(both_surfaces_show_the_same_queue)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;
    struct reply r = get(w, "/v1/queues/%s", q);

    CHECK_EQ(r.status, 200);
    CHECK(strncmp(r.id, "q_", 2) == 0);
    CHECK_EQ(get(w, "/queues/%s", r.id).status, 200);
    CHECK_EQ(get(w, "/v1/queues").len, 1);
    CHECK_EQ(del(w, "/v1/queues/%s", r.id).status, 204);
}

TEST(strangers_and_viewers_reach_no_queue)
{
    _cleanup_(world_freep) struct world *w = world_new();

    strangers_are_refused(w, "/queues/{id}", post(w, "/queues", "{'name':'jobs'}").id);
    CHECK_EQ(as(w, AS_STRANGER, GET, "/queues", NULL).len, 0);
    CHECK_EQ(as(w, AS_VIEWER, POST, "/queues", "{'name':'x'}").status, 403);
}

TEST(a_long_poll_gets_the_message_that_is_delayed_into_it)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;

    post(w, fmt("/queues/%s/messages", q), "{'body':'x'}");
    CHECK_EQ(get(w, "/queues/%s/messages?wait=5", q).len, 1);
}

static int64_t rows_of(struct world *w, const char *table)
{
    struct store *s = app_store(world_app(w));
    struct err e;
    struct db *db = store_reader(s, &e);
    int64_t n = -1;

    CHECK(db != NULL);
    CHECK_EQ(db_read_round(db, &e), 0);
    CHECK_EQ(db_int(db, fmt("SELECT count(*) FROM %s", table), NO_ARGS, 0, &n, &e), 0);
    db_read_done(db);
    store_reader_back(s, db);
    return n;
}

TEST(a_fifo_message_that_comes_forward_keeps_its_own_delay)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'s','fifo':true,'delay_seconds':60}").id;
    const char *path = fmt("/queues/%s/messages", q);

    post(w, path, "{'body':'1','group_id':'a'}");
    world_sleep(w, SECONDS(50));
    post(w, path, "{'body':'2','group_id':'a'}");
    world_sleep(w, SECONDS(11));
    const char *handle = receive_one(w, q);
    CHECK(handle != NULL);
    CHECK_EQ(del(w, "/queues/%s/messages/%s", q, handle).status, 200);
    CHECK_EQ(get(w, "%s", path).len, 0);
    world_sleep(w, SECONDS(50));
    CHECK_STR(member(get(w, "%s", path), "0.body"), "2");
}

TEST(an_expired_head_does_not_hold_its_group_until_the_sweep)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'s','fifo':true,'retention_days':1}").id;
    const char *path = fmt("/queues/%s/messages", q);

    post(w, path, "{'body':'old','group_id':'a'}");
    world_sleep(w, HOURS(1));
    post(w, path, "{'body':'new','group_id':'a'}");
    clock_advance(world_clock(w), HOURS(23) + MINUTES(10)); /* and no sweep */
    CHECK_STR(member(get(w, "%s", path), "0.body"), "new");
}

TEST(what_a_fifo_queue_gives_up_comes_in_turn_in_its_dead_letter_queue)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *dead = post(w, "/queues", "{'name':'d','fifo':true}").id;
    const char *one = post(w, "/queues",
                           fmt("{'name':'one','fifo':true,'visibility_timeout':1,"
                               "'max_receives':1,'dead_letter_queue_id':'%s'}",
                               dead))
                          .id;
    const char *two = post(w, "/queues",
                           fmt("{'name':'two','fifo':true,'visibility_timeout':1,"
                               "'max_receives':1,'dead_letter_queue_id':'%s'}",
                               dead))
                          .id;
    post(w, fmt("/queues/%s/messages", one), "{'body':'1','group_id':'g'}");
    post(w, fmt("/queues/%s/messages", one), "{'body':'2','group_id':'g'}");
    post(w, fmt("/queues/%s/messages", two), "{'body':'3','group_id':'g'}");
    CHECK(receive_one(w, two) != NULL);
    world_sleep(w, SECONDS(2));
    CHECK(receive_one(w, two) == NULL); /* 3 has gone over, though it was sent last */
    CHECK(receive_one(w, one) != NULL);
    world_sleep(w, SECONDS(2));
    CHECK_STR(member(get(w, "/queues/%s/messages", one), "0.body"), "2");
    world_sleep(w, SECONDS(2));
    CHECK(receive_one(w, one) == NULL);
    const char *first = receive_one(w, dead);
    CHECK(first != NULL);
    CHECK(receive_one(w, dead) == NULL); /* one of the group at a time */
    CHECK_EQ(del(w, "/queues/%s/messages/%s", dead, first).status, 200);
    CHECK_STR(member(get(w, "/queues/%s/messages", dead), "0.body"), "1");
}

TEST(who_waits_at_a_queue_that_is_purged_gets_the_next_message)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;
    int64_t began = clock_mono(clock_system());
    int fd = ask_begin(w, GET, fmt("/queues/%s/messages?wait=20", q), NULL, NULL, NULL);

    usleep(200000);
    CHECK_EQ(post(w, fmt("/queues/%s/purge", q), NULL).status, 200);
    usleep(200000);
    CHECK_EQ(post(w, fmt("/queues/%s/messages", q), "{'body':'after'}").status, 201);
    struct reply r = ask_end(w, fd);
    CHECK_EQ(r.len, 1);
    CHECK_STR(member(r, "0.body"), "after");
    CHECK(clock_mono(clock_system()) - began < SECONDS(10));
}

TEST(nothing_of_a_purged_queue_is_left_behind)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs'}").id;

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5; i++)
            post(w, fmt("/queues/%s/messages", q),
                 fmt("{'body':'x','deduplication_id':'%d-%d'}", round, i));
        CHECK_EQ(post(w, fmt("/queues/%s/purge", q), NULL).status, 200);
    }
    post(w, fmt("/queues/%s/messages", q), "{'body':'x','deduplication_id':'stays'}");
    world_settle(w);
    CHECK_EQ(rows_of(w, "queue_messages"), 1);
    CHECK_EQ(rows_of(w, "queue_dedup"), 1);
    CHECK_EQ(rows_of(w, "queue_dead_boxes"), 0);
    world_sleep(w, MINUTES(11));
    CHECK_EQ(rows_of(w, "queue_dedup"), 0);
    CHECK_EQ(del(w, "/queues/%s", q).status, 200);
    world_settle(w);
    CHECK_EQ(rows_of(w, "queue_messages"), 0);
    CHECK_EQ(rows_of(w, "queue_dead_boxes"), 0);
}

static void check_counts(struct world *w, const char *q, int depth, int in_flight)
{
    struct reply r = get(w, "/queues/%s", q);

    CHECK_EQ(member_int(r, "depth"), depth);
    CHECK_EQ(member_int(r, "in_flight"), in_flight);
}

TEST(depth_and_in_flight_are_exact_at_every_step)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *d = post(w, "/queues", "{'name':'dead'}").id;
    const char *q = jobs_new(w, d, 10, 1);
    const char *path = fmt("/queues/%s/messages", q);

    check_counts(w, q, 0, 0);
    post(w, path, "{'body':'a','deduplication_id':'x'}");
    post(w, path, "{'body':'a','deduplication_id':'x'}"); /* sent once */
    post(w, fmt("%s/batch", path), "{'messages':[{'body':'b'},{'body':'c'},{'body':'d'}]}");
    post(w, path, "{'body':'later','delay_seconds':5}");
    check_counts(w, q, 4, 1);
    CHECK_EQ(post(w, fmt("%s/batch", path), "{'messages':[{'body':'e'},{'body':''}]}").status, 400);
    check_counts(w, q, 4, 1);
    struct reply got = get(w, "%s?count=2", path);
    CHECK_EQ(got.len, 2);
    check_counts(w, q, 2, 3);
    CHECK_EQ(del(w, "%s/%s", path, member(got, "0.receipt_handle")).status, 200);
    CHECK_EQ(del(w, "%s/%s", path, member(got, "0.receipt_handle")).status, 404);
    check_counts(w, q, 2, 2);
    CHECK_EQ(get(w, "/queues").len, 2);
    world_sleep(w, SECONDS(6));
    check_counts(w, q, 3, 1);
    world_sleep(w, SECONDS(5));
    check_counts(w, q, 4, 0);
    got = get(w, "%s?count=10", path); /* the one that was received goes over */
    CHECK_EQ(got.len, 3);
    check_counts(w, q, 0, 3);
    check_counts(w, d, 1, 0);
    CHECK_EQ(post(w, fmt("/queues/%s/purge", q), NULL).status, 200);
    check_counts(w, q, 0, 0);
    world_settle(w);
    CHECK_EQ(rows_of(w, "queue_counts"), 1);
    CHECK_EQ(del(w, "/queues/%s/messages/%s", d, receive_one(w, d)).status, 200);
    check_counts(w, d, 0, 0);
    world_sleep(w, MINUTES(11));
    CHECK_EQ(rows_of(w, "queue_counts"), 0); /* what counts nothing goes */
}

TEST(what_is_past_its_retention_is_not_counted_before_the_sweep)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'jobs','retention_days':1}").id;
    const char *path = fmt("/queues/%s/messages", q);

    post(w, path, "{'body':'old'}");
    post(w, path, "{'body':'old and hidden'}");
    clock_advance(world_clock(w), HOURS(20));
    CHECK_EQ(get(w, "%s?visibility_timeout=43200", path).len, 1);
    post(w, path, "{'body':'new'}");
    post(w, path, "{'body':'new and delayed','delay_seconds':900}");
    check_counts(w, q, 2, 2);
    clock_advance(world_clock(w), HOURS(4) + MINUTES(10)); /* and no sweep */
    check_counts(w, q, 2, 0);
    CHECK_EQ(get(w, "%s?count=10&visibility_timeout=60", path).len, 2);
    check_counts(w, q, 0, 2);
    world_sleep(w, MINUTES(11));
    check_counts(w, q, 2, 0);
    CHECK_EQ(rows_of(w, "queue_messages"), 2);
}

TEST(many_senders_to_one_fifo_group_do_not_wait_for_each_other_for_ever)
{
    enum { SENDERS = 24 };
    _cleanup_(world_freep) struct world *w = world_new();
    const char *q = post(w, "/queues", "{'name':'s','fifo':true}").id;
    const char *path = fmt("/queues/%s/messages", q);
    int fd[SENDERS], out = 0;

    for (int i = 0; i < SENDERS; i++)
        fd[i] = ask_begin(w, POST, path, NULL, "Content-Type: application/json",
                          "{\"body\":\"x\",\"group_id\":\"a\"}");
    for (int i = 0; i < SENDERS; i++)
        CHECK_EQ(ask_end(w, fd[i]).status, 201);
    for (const char *h; (h = receive_one(w, q)); out++)
        CHECK_EQ(del(w, "/queues/%s/messages/%s", q, h).status, 200);
    CHECK_EQ(out, SENDERS);
}

/* ---- who waits */

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

TESTS(queue, a_queue_has_the_defaults_of_its_table, every_fault_of_a_body_is_named,
      a_name_is_taken_once_and_works_as_an_id, a_received_message_stays_hidden_until_its_timeout,
      a_deleted_message_is_gone_and_an_old_handle_deletes_nothing,
      a_batch_is_sent_whole_or_not_at_all, received_messages_are_deleted_in_a_batch,
      a_delayed_message_comes_later, attributes_come_back_as_they_were_sent,
      a_message_larger_than_its_queue_takes_is_refused,
      what_is_received_too_often_goes_to_the_dead_letter_queue,
      a_message_goes_to_the_dead_letter_queue_while_its_receiver_waits_on,
      a_dead_letter_queue_must_fit, messages_of_a_fifo_group_come_one_after_the_other,
      a_deduplication_id_is_sent_once_in_five_minutes,
      a_receiver_may_hide_a_message_longer_or_give_it_back,
      purging_drops_all_messages_and_keeps_the_queue, a_message_past_its_retention_is_dropped,
      a_queue_is_changed_and_deleted, both_surfaces_show_the_same_queue,
      strangers_and_viewers_reach_no_queue, a_long_poll_gets_the_message_that_is_delayed_into_it,
      a_fifo_message_that_comes_forward_keeps_its_own_delay,
      an_expired_head_does_not_hold_its_group_until_the_sweep,
      what_a_fifo_queue_gives_up_comes_in_turn_in_its_dead_letter_queue,
      who_waits_at_a_queue_that_is_purged_gets_the_next_message,
      nothing_of_a_purged_queue_is_left_behind, depth_and_in_flight_are_exact_at_every_step,
      what_is_past_its_retention_is_not_counted_before_the_sweep,
      many_senders_to_one_fifo_group_do_not_wait_for_each_other_for_ever,
      who_waits_is_woken_by_a_timeout_that_is_made_shorter,
      who_waits_is_woken_when_a_message_falls_due, who_waits_is_woken_by_the_next_of_a_group,
      who_waits_is_woken_by_a_dead_letter_and_by_a_longer_retention,
      many_dead_letters_before_a_message_do_not_end_a_wait,
      one_receive_hands_out_nothing_twice_and_nothing_that_it_gives_up,
      a_duplicate_is_answered_as_the_first_was, a_duplicate_in_a_batch_is_answered_as_the_first_was)

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fair.h"

struct job {
    struct fair_job turn; /* first */
    int who;
};

static struct flow flow(int who)
{
    return (struct flow){ .key = flow_key(&who, sizeof(who)) };
}

static enum fair_result take(struct fair *f, int who, int64_t n)
{
    struct flow w = flow(who);

    return fair_take(f, &w, n);
}

static enum fair_result wait_for(struct fair *f, struct job *j, int who, int weight)
{
    j->who = who;
    j->turn.flow = flow(who);
    j->turn.flow.weight = weight;
    return fair_wait(f, &j->turn);
}

static int next(struct fair *f)
{
    struct fair_job *j = fair_next(f);

    return j ? ((struct job *)j)->who : -1;
}

static void one_flow_alone_gets_three_eighths(void **state _unused_)
{
    struct fair *f = fair_new(8, 8);

    for (int i = 0; i < 3; i++)
        assert_int_equal(take(f, 1, 1), FAIR_OK);
    assert_int_equal(take(f, 1, 1), FAIR_FULL);
    assert_int_equal(take(f, 2, 1), FAIR_OK);
    assert_int_equal(take(f, 2, 1), FAIR_OK);
    assert_int_equal(take(f, 2, 1), FAIR_FULL);
    assert_int_equal(take(f, 3, 1), FAIR_OK);
    assert_int_equal(take(f, 4, 1), FAIR_OK);
    assert_int_equal(take(f, 5, 1), FAIR_OK);
    assert_int_equal(take(f, 6, 1), FAIR_FULL); /* now all is held */
    fair_give(f, flow(1).key, 1);
    assert_int_equal(take(f, 1, 1), FAIR_FULL); /* it holds two */
    assert_int_equal(take(f, 6, 1), FAIR_OK);
    fair_free(f);
}

static void a_quarter_is_kept_for_those_who_hold_nothing(void **state _unused_)
{
    enum { SEATS = 32 };
    struct fair *f = fair_new(SEATS, 1);
    int found = 0;

    for (int who = 0; who < 4; who++)
        while (take(f, who, 1) == FAIR_OK)
            ;
    for (int who = 4; take(f, who, 1) == FAIR_OK; who++)
        found++;
    assert_true(found >= SEATS / 4);
    fair_free(f);
}

static void a_bound_of_ones_own_is_told_from_a_full_house(void **state _unused_)
{
    struct fair *f = fair_new(100, 1);
    struct flow w = flow(1);
    struct fair_counts c;

    w.seats = 2;
    assert_int_equal(fair_take(f, &w, 2), FAIR_OK);
    assert_int_equal(fair_take(f, &w, 1), FAIR_OWN);
    assert_int_equal(take(f, 2, 101), FAIR_FULL);
    assert_int_equal(fair_held(f, w.key), 2);
    assert_int_equal(fair_held(f, flow(7).key), 0);
    fair_counts(f, &c);
    assert_int_equal(c.seats, 100);
    assert_int_equal(c.used, 2);
    assert_int_equal(c.held_back, 2);
    assert_int_equal(c.flows, 1);
    fair_give(f, w.key, 2);
    fair_counts(f, &c);
    assert_int_equal(c.used, 0);
    assert_int_equal(c.flows, 0);
    fair_free(f);
}

static void the_system_is_bound_by_the_total_alone(void **state _unused_)
{
    struct fair *f = fair_new(4, 1);
    struct flow system = { .key = FLOW_SYSTEM };

    for (int i = 0; i < 4; i++)
        assert_int_equal(fair_take(f, &system, 1), FAIR_OK);
    assert_int_equal(fair_take(f, &system, 1), FAIR_FULL);
    fair_free(f);
}

static void turns_go_round_the_flows_and_not_round_the_jobs(void **state _unused_)
{
    struct fair *f = fair_new(0, 1000);
    struct job many[100], few[3];

    for (int i = 0; i < 100; i++)
        assert_int_equal(wait_for(f, &many[i], 1, 0), FAIR_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(wait_for(f, &few[i], 2, 0), FAIR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(next(f), 1);
        assert_int_equal(next(f), 2);
    }
    for (int i = 0; i < 97; i++)
        assert_int_equal(next(f), 1);
    assert_int_equal(next(f), -1);
    fair_free(f);
}

static void a_flow_of_weight_takes_as_many_turns_in_a_row(void **state _unused_)
{
    static const int want[] = { 1, 1, 1, 2, 1, 1, 1, 2, 1, 2 };
    struct fair *f = fair_new(0, 100);
    struct job a[7], b[3];

    for (int i = 0; i < 7; i++)
        assert_int_equal(wait_for(f, &a[i], 1, 3), FAIR_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(wait_for(f, &b[i], 2, 1), FAIR_OK);
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_int_equal(next(f), want[i]);
    fair_free(f);
}

static void a_flow_that_holds_its_share_waits_while_others_begin(void **state _unused_)
{
    struct fair *f = fair_new(4, 100);
    struct job a[10], b;

    for (int i = 0; i < 10; i++)
        assert_int_equal(wait_for(f, &a[i], 1, 0), FAIR_OK);
    assert_int_equal(next(f), 1);
    assert_int_equal(next(f), 1);
    assert_false(fair_ready(f));
    assert_int_equal(next(f), -1);
    assert_int_equal(wait_for(f, &b, 2, 0), FAIR_OK);
    assert_true(fair_ready(f));
    assert_int_equal(next(f), 2);
    assert_int_equal(next(f), -1);
    fair_give(f, flow(2).key, 1);
    fair_give(f, flow(1).key, 1);
    assert_int_equal(next(f), 1);
    fair_free(f);
}

static void places_in_the_queue_are_shared_like_seats(void **state _unused_)
{
    struct fair *f = fair_new(1, 8);
    struct job j[9];
    int n = 0;

    while (wait_for(f, &j[n], 1, 0) == FAIR_OK)
        n++;
    assert_int_equal(n, 3);
    assert_int_equal(wait_for(f, &j[n], 2, 0), FAIR_OK);
    fair_free(f);
}

static void what_waits_can_be_taken_back(void **state _unused_)
{
    struct fair *f = fair_new(0, 100);
    struct job j[6];
    struct fair_counts c;

    for (int i = 0; i < 4; i++)
        assert_int_equal(wait_for(f, &j[i], 1, 0), FAIR_OK);
    assert_int_equal(wait_for(f, &j[4], 2, 0), FAIR_OK);
    j[5].turn.flow = flow(1);
    assert_false(fair_drop(f, &j[5].turn)); /* never waited */
    assert_true(fair_drop(f, &j[0].turn));  /* the first, one between, the last */
    assert_false(fair_drop(f, &j[0].turn));
    assert_true(fair_drop(f, &j[2].turn));
    assert_true(fair_drop(f, &j[3].turn));
    assert_int_equal(wait_for(f, &j[5], 1, 0), FAIR_OK); /* behind the one that is left */
    assert_ptr_equal(fair_next(f), &j[1].turn);
    assert_true(fair_drop(f, &j[4].turn)); /* its flow's only one */
    assert_ptr_equal(fair_next(f), &j[5].turn);
    assert_null(fair_next(f));
    fair_counts(f, &c);
    assert_int_equal(c.waiting, 0);
    assert_int_equal(c.flows, 0);
    fair_free(f);
}

static void flows_that_come_and_go_are_forgotten(void **state _unused_)
{
    struct fair *f = fair_new(1000000, 1);
    struct fair_counts c;

    for (int who = 0; who < 20000; who++)
        assert_int_equal(take(f, who, 1), FAIR_OK);
    for (int who = 0; who < 20000; who++)
        fair_give(f, flow(who).key, 1);
    fair_counts(f, &c);
    assert_int_equal(c.used, 0);
    assert_int_equal(c.flows, 0);
    assert_int_equal(take(f, 5, 1), FAIR_OK);
    fair_free(f);
    fair_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_flow_alone_gets_three_eighths),
        cmocka_unit_test(a_quarter_is_kept_for_those_who_hold_nothing),
        cmocka_unit_test(a_bound_of_ones_own_is_told_from_a_full_house),
        cmocka_unit_test(the_system_is_bound_by_the_total_alone),
        cmocka_unit_test(turns_go_round_the_flows_and_not_round_the_jobs),
        cmocka_unit_test(a_flow_of_weight_takes_as_many_turns_in_a_row),
        cmocka_unit_test(a_flow_that_holds_its_share_waits_while_others_begin),
        cmocka_unit_test(places_in_the_queue_are_shared_like_seats),
        cmocka_unit_test(what_waits_can_be_taken_back),
        cmocka_unit_test(flows_that_come_and_go_are_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

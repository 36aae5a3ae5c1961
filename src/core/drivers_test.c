/* SPDX-License-Identifier: Apache-2.0 */
#include "core/drivers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Two classes: the second is made of the first, is simulated, and follows its settings. */
struct values {
    const char *word;
};
static const struct setting keys[] = {
    SETTING_STR(struct values, "upper.word", word, "one", "What it is opened with.",
                .reload = true),
};
static const struct settings upper_settings = SETTINGS(struct values, keys);
static struct buf heard;

static void *lower_open(const struct driver_opts *o _unused_, struct err *e _unused_)
{
    return strdup("lower");
}

static void said_and_freed(void *driver)
{
    buf_printf(&heard, "-%s ", (char *)driver);
    free(driver);
}

static const struct driver_class lower = { .name = "lower",
                                           .open = lower_open,
                                           .close = said_and_freed };
static const struct driver_class nowhere = { .name = "nowhere" };

static void *upper_open(const struct driver_opts *o, struct err *e)
{
    const struct values *v = o->settings;
    char text[64];

    if (strcmp(v->word, "bad") == 0) {
        err_set(e, ERR_ENGINE_UNAVAILABLE, "it is bad");
        return NULL;
    }
    snprintf(text, sizeof(text), "%s of %s", v->word, (char *)o->other(o, &lower));
    return strdup(text);
}

static void *upper_simulate(void)
{
    return strdup("simulated");
}

static bool upper_answers(void *driver)
{
    return strcmp(driver, "mute of lower") != 0;
}

static const struct driver_class upper = { .name = "upper",
                                           .settings = &upper_settings,
                                           .open = upper_open,
                                           .simulate = upper_simulate,
                                           .close = said_and_freed,
                                           .answers = upper_answers,
                                           .reload = true };

static struct config *with(const char *yaml)
{
    static const struct settings *const tables[] = { &upper_settings, NULL };
    struct buf faults = BUF(KIB(4));
    struct err e;
    struct config *c =
        config_load_text(tables, str_of(yaml), "test.yaml", 0, NULL, NULL, &faults, &e);

    buf_free(&faults);
    assert_non_null(c);
    return c;
}

static const struct driver_class *const all[] = { &lower, &nowhere, &upper, NULL };

static struct drivers *opened(const struct config *c, struct err *e)
{
    struct drivers_opts o = { .classes = all, .config = c };

    return drivers_open(&o, e);
}

static void a_mode_has_its_driver(void **state _unused_)
{
    _cleanup_(config_freep) struct config *c = with("");
    struct err e;
    struct drivers *d = opened(c, &e);

    assert_string_equal(drivers_get(d, &upper, MODE_LIVE), "one of lower");
    assert_string_equal(drivers_get(d, &upper, MODE_TEST), "simulated");
    assert_ptr_equal(drivers_get(d, &lower, MODE_TEST), drivers_get(d, &lower, MODE_LIVE));
    assert_null(drivers_get(d, &nowhere, MODE_LIVE));
    assert_true(drivers_answer(d));
    heard = BUF(KIB(1));
    drivers_free(d);
    assert_string_equal(buf_cstr(&heard), "-simulated -one of lower -lower ");
    buf_free(&heard);
}

static void new_settings_open_anew_what_follows_them(void **state _unused_)
{
    _cleanup_(config_freep) struct config *c = with(""), *mute = with("upper: {word: mute}");
    struct err e;
    struct drivers *d = opened(c, &e), *later = drivers_renew(d, mute, &e);

    assert_string_equal(drivers_get(later, &upper, MODE_LIVE), "mute of lower");
    assert_string_equal(drivers_get(d, &upper, MODE_LIVE), "one of lower");
    assert_ptr_equal(drivers_get(later, &lower, MODE_LIVE), drivers_get(d, &lower, MODE_LIVE));
    assert_false(drivers_answer(later));
    heard = BUF(KIB(1));
    drivers_free(later);
    assert_string_equal(buf_cstr(&heard), "-simulated -mute of lower ");
    drivers_free(d);
    buf_free(&heard);
}

static void one_that_cannot_be_opened_leaves_none(void **state _unused_)
{
    _cleanup_(config_freep) struct config *c = with(""), *bad = with("upper: {word: bad}");
    struct err e;

    heard = BUF(KIB(1));
    assert_null(opened(bad, &e));
    assert_string_equal(e.msg, "it is bad");
    assert_string_equal(buf_cstr(&heard), "-lower ");
    struct drivers *d = opened(c, &e);
    assert_null(drivers_renew(d, bad, &e));
    assert_string_equal(buf_cstr(&heard), "-lower ");
    drivers_free(d);
    buf_free(&heard);
}

static void where_it_is_asked_for_live_mode_is_simulated_too(void **state _unused_)
{
    _cleanup_(config_freep) struct config *c = with("compute: {fake_drivers: true}");
    struct err e;

    heard = BUF(KIB(1));
    _cleanup_(drivers_freep) struct drivers *d = opened(c, &e);
    assert_string_equal(drivers_get(d, &upper, MODE_LIVE), "simulated");
    assert_ptr_not_equal(drivers_get(d, &upper, MODE_LIVE), drivers_get(d, &upper, MODE_TEST));
    assert_string_equal(drivers_get(d, &lower, MODE_LIVE), "lower");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mode_has_its_driver),
        cmocka_unit_test(new_settings_open_anew_what_follows_them),
        cmocka_unit_test(one_that_cannot_be_opened_leaves_none),
        cmocka_unit_test(where_it_is_asked_for_live_mode_is_simulated_too),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    buf_free(&heard);
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* All tables of settings together, as the program reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/app.h"
#include "drivers/drivers.h"
#include "drivers/mail/mail.h"
#include "drivers/net/net.h"
#include "services/services.h"

static struct config *load(const char *yaml, struct buf *faults)
{
    struct err e;

    return config_load_text(settings_of(all_services, all_drivers).of, str_of(yaml), "test.yaml", 0,
                            NULL, NULL, faults, &e);
}

static void every_key_is_one_of_a_section_and_says_what_it_is(void **state _unused_)
{
    _cleanup_(buf_free) struct buf faults = BUF(MIB(1)), text = BUF(MIB(1));
    _cleanup_(config_freep) struct config *c = load("", &faults);

    if (!c)
        fail_msg("%s", buf_cstr(&faults));
    for (size_t i = 0; i < c->n_keys; i++) {
        const struct setting *k = c->keys[i].is;

        assert_non_null(strchr(k->name, '.'));
        assert_true(k->doc && k->doc[strlen(k->doc) - 1] == '.');
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(c->keys[i].at, c->keys[j].at);
    }
    config_print(c, &text);
    _cleanup_(config_freep) struct config *again = load(buf_cstr(&text), &faults);
    if (!again)
        fail_msg("%s", buf_cstr(&faults));
}

static void values_and_defaults_are_those_of_the_tables(void **state _unused_)
{
    _cleanup_(buf_free) struct buf faults = BUF(MIB(1));
    _cleanup_(config_freep) struct config *c =
        load("compute: {port_max: 31000}\nmail: {from: a@b.c}\n", &faults);

    assert_non_null(c);
    const struct net_settings *net = config_values(c, &net_settings);
    const struct mail_settings *mail = config_values(c, &mail_settings);
    assert_int_equal(net->port_min, 30000);
    assert_int_equal(net->port_max, 31000);
    assert_string_equal(net->transit_cidr, "198.18.0.0/15");
    assert_string_equal(mail->from, "a@b.c");
    assert_string_equal(mail->smtp_url, "");
}

static void what_is_wrong_in_any_table_is_told_at_once(void **state _unused_)
{
    static const char *const told[] = {
        "compute.port_min (file test.yaml:1): must not be over compute.port_max\n",
        "compute.transit_cidr (file test.yaml:1): must be an IPv4 network",
        "compute.allowed_registries (file test.yaml:1): 'a b' is no host, host:port or network\n",
        "compute.instance_types (file test.yaml:1): each needs a text 'name'\n",
        "test.yaml:1: compute.runtime: must be one of: auto crun runc",
        "mail.smtp_url (file test.yaml:2): must begin with smtp:// or smtps://\n",
        "test.yaml:3: identity.registration: must be one of: open invite off",
        "test.yaml:4: queue: no such section\n",
    };
    _cleanup_(buf_free) struct buf faults = BUF(MIB(1)), none = BUF(MIB(1));

    assert_null(load("compute: {port_min: 40000, transit_cidr: x, allowed_registries: 'h:1,a b', "
                     "instance_types: '[{\"id\":\"a\"}]', runtime: x}\n"
                     "mail: {smtp_url: http://x}\n"
                     "identity: {registration: maybe}\n"
                     "queue: {}\n",
                     &faults));
    for (size_t i = 0; i < ARRAY_LEN(told); i++)
        if (!strstr(buf_cstr(&faults), told[i]))
            fail_msg("'%s' is not in: %s", told[i], buf_cstr(&faults));
    assert_null(load("compute: {instance_types: '[]'}", &none));
    assert_non_null(strstr(buf_cstr(&none), "must be a list of 1 to 200 types"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_one_of_a_section_and_says_what_it_is),
        cmocka_unit_test(values_and_defaults_are_those_of_the_tables),
        cmocka_unit_test(what_is_wrong_in_any_table_is_told_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

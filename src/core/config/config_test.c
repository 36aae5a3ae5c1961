/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/json.h"
#include "core/config/config.h"
#include "os/file.h"

struct outcome {
    struct config *c;
    struct buf faults;
    struct err e;
};

static void outcome_free(struct outcome *o)
{
    config_free(o->c);
    buf_free(&o->faults);
}
#define OUTCOME _cleanup_(outcome_free) struct outcome

static const struct settings *const *more; /* beside core's */

static struct outcome load(const char *yaml, const char *const *argv, const char *const *env)
{
    struct outcome o = { .faults = BUF(MIB(1)) };
    int argc = 0;

    while (argv && argv[argc])
        argc++;
    o.c = config_load_text(more, str_of(yaml), "test.yaml", argc, argv, env, &o.faults, &o.e);
    return o;
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void is_fault(struct outcome *o, const char *line)
{
    assert_null(o->c);
    assert_int_equal(o->e.code, ERR_INVALID);
    if (!strstr(buf_cstr(&o->faults), line))
        fail_msg("'%s' is not in: %s", line, buf_cstr(&o->faults));
}

static void nothing_given_gives_the_defaults(void **state _unused_)
{
    OUTCOME o = load("", NULL, NULL);

    if (!o.c)
        fail_msg("%s", buf_cstr(&o.faults));
    assert_string_equal(o.c->listen, "127.0.0.1:8080");
    assert_string_equal(o.c->store, "sqlite:/var/lib/brume/store.db");
    assert_string_equal(o.c->run_dir, "/run/brume");
    assert_string_equal(o.c->cache_dir, "/var/cache/brume");
    assert_string_equal(o.c->region, "local");
    assert_string_equal(o.c->default_plan, "enterprise");
    assert_false(o.c->allow_plain);
}

static void later_sources_win(void **state _unused_)
{
    static const char yaml[] = "server:\n  listen: 127.0.0.1:1\n  workers: 5\n  io_threads: 2\n";
    OUTCOME o = load(yaml, WORDS("--listen", "127.0.0.1:3"),
                     WORDS("BRUME_SERVER_LISTEN=127.0.0.1:2", "BRUME_SERVER_WORKERS=6",
                           "BRUME_URL=x", "HOME=/"));

    if (!o.c)
        fail_msg("%s", buf_cstr(&o.faults));
    assert_string_equal(o.c->listen, "127.0.0.1:3");
    assert_int_equal(o.c->workers, 6);
    assert_int_equal(o.c->io_threads, 2);
    _cleanup_(buf_free) struct buf b = BUF(MIB(1));
    config_print(o.c, &b);
    const char *text = buf_cstr(&b);
    assert_non_null(strstr(text, "  # From: flag --listen\n  listen: \"127.0.0.1:3\"\n"));
    assert_non_null(strstr(text, "  # From: environment BRUME_SERVER_WORKERS\n  workers: 6\n"));
    assert_non_null(strstr(text, "  # From: file test.yaml:4\n  io_threads: 2\n"));
    assert_non_null(strstr(text, "  # From: default\n  region: \"local\"\n"));
}

static void heard(void *ctx, const struct setting *key)
{
    buf_printf(ctx, "%s ", key->name);
}

static void what_needs_a_restart_stays_and_is_named(void **state _unused_)
{
    OUTCOME old =
        load("server: {workers: 3, cors_origins: 'https://a'}\nplaces: {user: x}\n", NULL, NULL);
    OUTCOME new =
        load("server: {workers: 4, cors_origins: 'https://b', allow_plain: true}\n", NULL, NULL);
    _cleanup_(buf_free) struct buf b = BUF(KIB(64));

    config_follow(new.c, old.c, heard, &b);
    assert_string_equal(buf_cstr(&b), "server.workers server.allow_plain places.user ");
    assert_int_equal(new.c->workers, 3);
    assert_false(new.c->allow_plain);
    assert_string_equal(new.c->user, "x");
    assert_string_equal(new.c->cors_origins, "https://b");
    buf_clear(&b);
    config_print(new.c, &b);
    assert_non_null(
        strstr(buf_cstr(&b), "# On a change: restart\n  # From: file test.yaml:1\n  workers: 3\n"));
    assert_non_null(strstr(
        buf_cstr(&b),
        "# On a change: reload (SIGHUP)\n  # From: file test.yaml:1\n  cors_origins: \"https://b\"\n"));
}

static void what_is_printed_reads_back_the_same(void **state _unused_)
{
    OUTCOME o = load("log: {level: debug}\nserver:\n  cors_origins: \"a://\\\"b\\\" \\\\ <c@d>\"\n",
                     NULL, NULL);
    _cleanup_(buf_free) struct buf one = BUF(MIB(1));

    if (!o.c)
        fail_msg("%s", buf_cstr(&o.faults));
    config_print(o.c, &one);
    OUTCOME again = load(buf_cstr(&one), NULL, NULL);
    if (!again.c)
        fail_msg("%s", buf_cstr(&again.faults));
    for (size_t i = 0; i < o.c->n_keys; i++)
        if (o.c->keys[i].is->type == SET_STR)
            assert_string_equal(*(char *const *)o.c->keys[i].at,
                                *(char *const *)again.c->keys[i].at);
}

static void every_fault_is_reported_with_its_line(void **state _unused_)
{
    static const char yaml[] = "server:\n"
                               "  listen: [1]\n"
                               "  workers: many\n"
                               "  colour: red\n"
                               "  io_threads: \"2\"\n"
                               "  max_connections: 0\n"
                               "  tls_cert:\n"
                               "  allow_plain: yes\n"
                               "  workers: 3\n"
                               "stor:\n"
                               "  url: x\n"
                               "log:\n"
                               "  level: loud\n"
                               "server:\n"
                               "  public_url: \"\"\n";
    OUTCOME o = load(yaml, WORDS("--nonsense=1", "word", "--listen"),
                     WORDS("BRUME_SERVER_COLOUR=red", "BRUME_LOG_FORMAT=xml"));

    is_fault(&o, "test.yaml:2: server.listen must be one value, not a list\n");
    is_fault(&o, "test.yaml:3: server.workers: must be an integer from 0 to 256\n");
    is_fault(&o, "test.yaml:4: server.colour: no such key\n");
    is_fault(&o, "test.yaml:5: server.io_threads must be an integer, without quotes\n");
    is_fault(&o, "test.yaml:6: server.max_connections: must be an integer from 1 to 1000000\n");
    is_fault(&o, "test.yaml:7: server.tls_cert has no value; write \"\" for none\n");
    is_fault(&o, "test.yaml:8: server.allow_plain: must be true or false\n");
    is_fault(&o, "test.yaml:9: server.workers is given twice, first in line 3\n");
    is_fault(&o, "test.yaml:10: stor: no such section\n");
    is_fault(&o, "test.yaml:13: log.level: must be one of: debug info warn error");
    is_fault(&o, "test.yaml:14: section server is given twice, first in line 1\n");
    is_fault(&o, "environment BRUME_SERVER_COLOUR: no such key\n");
    is_fault(&o, "environment BRUME_LOG_FORMAT: must be one of: json text");
    is_fault(&o, "--nonsense: no such flag\n");
    is_fault(&o, "command line: unexpected word 'word'\n");
    is_fault(&o, "--listen: needs a value\n");
}

static void what_is_no_yaml_is_reported_with_its_line(void **state _unused_)
{
    OUTCOME o = load("server:\n  listen: \"x\n", NULL, NULL);
    OUTCOME list = load("- a\n- b\n", NULL, NULL);
    OUTCOME two = load("log: {level: info}\n---\nlog: {level: info}\n", NULL, NULL);
    OUTCOME comments = load("# nothing\nserver:\n  # listen: x\n", NULL, NULL);

    is_fault(&o, "test.yaml:3: ");
    is_fault(&list, "test.yaml:1: the file must hold sections of keys\n");
    is_fault(&two, "test.yaml: has more than one document\n");
    assert_non_null(comments.c);
}

static void loopback_is_where_nobody_comes_from_outside(void **state _unused_)
{
    static const struct {
        const char *listen;
        bool loopback;
    } all[] = {
        { "127.0.0.1:80", true }, { "[::1]:80", true },    { "unix:/run/x", true },
        { "localhost:80", true }, { "0.0.0.0:80", false }, { "[::]:80", false },
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        OUTCOME o = load("", WORDS("--listen", all[i].listen, "--allow-plain"), NULL);

        assert_non_null(o.c);
        assert_int_equal(config_on_loopback(o.c), all[i].loopback);
    }
}

static void where_clients_reach_it_is_set_or_where_it_listens(void **state _unused_)
{
    static const struct {
        const char *listen, *more, *url;
    } all[] = {
        { "127.0.0.1:80", NULL, "http://127.0.0.1:80" },
        { "[::1]:80", NULL, "http://[::1]:80" },
        { "192.0.2.1:80", NULL, "http://192.0.2.1:80" },
        { "0.0.0.0:80", NULL, "" },
        { "[::]:80", NULL, "" },
        { "127.0.0.1:0", NULL, "" },
        { "unix:/run/x", NULL, "" },
        { "0.0.0.0:80", "--server.public_url=https://cloud.example.com/",
          "https://cloud.example.com" },
    };
    struct arena a = ARENA(MIB(1));

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        OUTCOME o = load("", WORDS("--listen", all[i].listen, "--allow-plain", all[i].more), NULL);

        assert_non_null(o.c);
        assert_string_equal(config_public_url(o.c, &a), all[i].url);
    }
    arena_free(&a);
}

static void a_password_in_a_flag_is_refused_with_the_way_to_do_it(void **state _unused_)
{
    static const char url[] = "--store=postgres://u:hunter2@db/brume";
    OUTCOME o = load("", WORDS(url), NULL);
    OUTCOME two = load("", WORDS("--store.url", "postgres://db/brume?password=hunter2"), NULL);
    OUTCOME env = load("", NULL, WORDS("BRUME_STORE_URL=postgres://u:hunter2@db/brume"));
    OUTCOME fine =
        load("", WORDS("--store=postgres://u@db/brume", "--store.password_file=/p"), NULL);

    is_fault(&o, "store.password_file");
    is_fault(&o, "environment");
    assert_null(strstr(buf_cstr(&o.faults), "hunter2"));
    is_fault(&two, "store.password_file");
    assert_non_null(env.c);
    assert_string_equal(env.c->store, "postgres://u:hunter2@db/brume");
    _cleanup_(buf_free) struct buf b = BUF(MIB(1));
    config_print(env.c, &b);
    assert_null(strstr(buf_cstr(&b), "hunter2"));
    assert_non_null(strstr(buf_cstr(&b), "postgres://u:****@db/brume"));
    assert_non_null(fine.c);
}

static void what_does_not_go_together_is_refused(void **state _unused_)
{
    OUTCOME open = load("", WORDS("--listen=0.0.0.0:80"), NULL);
    OUTCOME plain = load("", WORDS("--listen=0.0.0.0:80", "--allow-plain"), NULL);
    OUTCOME v6 = load("", WORDS("--listen=[::1]:80"), NULL);
    OUTCOME tls = load("", WORDS("--tls-cert=/c", "--tls-key=/k", "--listen=[::]:443"), NULL);
    OUTCOME half = load("", WORDS("--tls-cert=/c"), NULL);
    OUTCOME bad =
        load("server: {listen: here, trusted_proxies: \"10.0.0.0/8, x\", cors_origins: a}\n"
             "places: {state_dir: relative}\n"
             "store: {url: \"mysql://x\"}\n"
             "platform: {region: \"a b\"}\n"
             "outgoing: {allowed_networks: \"127.0.0.0/8, 10.0.0.1/8\"}\n",
             NULL, NULL);

    is_fault(&open, "server.listen (flag --listen): is no loopback address");
    assert_non_null(plain.c);
    assert_non_null(v6.c);
    assert_non_null(tls.c);
    is_fault(&half, "server.tls_key (default): must be given too");
    is_fault(&bad, "server.listen (file test.yaml:1): must be ADDRESS:PORT");
    is_fault(&bad, "'x' is no address or network");
    is_fault(&bad, "'a' is no origin");
    is_fault(&bad, "places.state_dir");
    is_fault(&bad, "store.url");
    is_fault(&bad, "platform.region");
    is_fault(&bad, "'10.0.0.1/8' is no network");
}

static void shares_are_settings_by_plan(void **state _unused_)
{
    OUTCOME o = load("platform: {shares: '{\"streams\":{\"total\":40,\"free\":3}}'}", NULL, NULL);
    OUTCOME bad = load("platform: {shares: '{\"streams\":{\"golden\":1,\"free\":0},\"dreams\":{},"
                       "\"calls\":7}'}",
                       NULL, NULL);
    OUTCOME list = load("platform: {shares: '[]'}", NULL, NULL);

    assert_non_null(o.c);
    assert_int_equal(o.c->share[SHARE_STREAMS].total, 40);
    assert_int_equal(config_share(o.c, "free", SHARE_STREAMS), 3);
    assert_int_equal(config_share(o.c, "standard", SHARE_STREAMS), 256);
    assert_int_equal(config_share(o.c, "no such plan", SHARE_STREAMS), 3);
    assert_int_equal(o.c->share[SHARE_CALLS].total, share_rows[SHARE_CALLS].total);
    assert_null(bad.c);
    assert_non_null(strstr(bad.faults.p, "'golden' is neither total nor a plan"));
    assert_non_null(strstr(bad.faults.p, "streams.free must be an integer from 1"));
    assert_non_null(strstr(bad.faults.p, "'dreams' is no share"));
    assert_non_null(strstr(bad.faults.p, "'calls' must be an object"));
    assert_null(list.c);
}

static void files_are_read_where_they_are_named(void **state _unused_)
{
    char path[] = "/tmp/brume-config-XXXXXX";
    struct buf faults = BUF(MIB(1));
    struct err e;
    int fd = mkstemp(path);

    assert_int_equal(fd_write_all(fd, "log:\n  level: warn\n", 19, &e), 0);
    close(fd);
    struct config *c = config_load(NULL, path, 0, NULL, NULL, NULL, &faults, &e);
    assert_non_null(c);
    assert_string_equal(c->log_level, "warn");
    config_free(c);
    c = config_load(NULL, CONFIG_DEFAULT_FILE, 4, WORDS("--role", "api", "--config", path), NULL,
                    NULL, &faults, &e);
    assert_non_null(c);
    assert_string_equal(c->log_level, "warn");
    config_free(c);
    unlink(path);
    assert_null(config_load(NULL, path, 0, NULL, NULL, NULL, &faults, &e));
    assert_non_null(strstr(buf_cstr(&faults), "cannot be read"));
    buf_free(&faults);
}

static void what_stands_below_goes_over_the_default_alone(void **state _unused_)
{
    static const struct config_below below[] = { { "places.state_dir", "/below", "below" },
                                                 { "places.run_dir", "/below", "below" },
                                                 { "places.cache_dir", "/below", "below" },
                                                 { "log.level", "warn", "below" },
                                                 { NULL, NULL, NULL } };
    char path[] = "/tmp/brume-config-XXXXXX";
    static const char text[] = "places:\n  state_dir: /file\n";
    struct buf faults = BUF(MIB(1));
    struct err e;
    int fd = mkstemp(path);

    assert_int_equal(fd_write_all(fd, text, sizeof(text) - 1, &e), 0);
    close(fd);
    struct config *c = config_load(NULL, path, 1, WORDS("--places.cache_dir=/flag"), below,
                                   WORDS("BRUME_PLACES_RUN_DIR=/env"), &faults, &e);
    assert_non_null(c);
    assert_string_equal(c->state_dir, "/file");
    assert_string_equal(c->store, "sqlite:/file/store.db");
    assert_string_equal(c->run_dir, "/env");
    assert_string_equal(c->cache_dir, "/flag");
    assert_string_equal(c->log_level, "warn");
    for (size_t i = 0; i < c->n_keys; i++)
        assert_int_equal(strcmp(c->keys[i].origin, "below") == 0,
                         strcmp(c->keys[i].is->name, "log.level") == 0);
    config_free(c);
    unlink(path);
    buf_free(&faults);
}

static void plans_are_those_of_the_table(void **state _unused_)
{
    static const char *const names[] = { "free", "starter", "standard", "professional",
                                         "enterprise" };
    static const struct quota quota = { "things", { 1, 2, 3, 4, 5 } };
    static const int64_t rates[] = { 60, 100, 1000, 1000, 10000 };
    OUTCOME o = load("", NULL, NULL);

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct plan *p = config_plan(o.c, names[i]);

        assert_non_null(p);
        assert_int_equal(p->rate, rates[i]);
        assert_int_equal(p->burst, i == 4 ? 10000 : 0);
        assert_int_equal(config_quota(o.c, names[i], &quota), (int64_t)i + 1);
    }
    assert_null(config_plan(o.c, "gold"));
    assert_int_equal(config_quota(o.c, "gold", &quota), 1);
}

/* ---- the tables of others */

struct fruit {
    int64_t pears;
    const char *colour, *shape;
};
/* clang-format off */
#define T struct fruit
static const struct setting fruit_keys[] = {
    SETTING_INT(T, "fruit.pears",  pears,  "3", 1, 9, "How many.", .reload = true),
    SETTING_STR(T, "log.colour",   colour, "red",     "Stands behind core's keys of its section."),
    SETTING_STR(T, "fruit.shape",  shape,  "",        "Empty: by the colour.", .flag = "shape"),
};
static const struct setting twice_keys[] = {
    SETTING_INT(T, "fruit.pears",  pears,  "3", 1, 9, "How many."),
    SETTING_STR(T, "fruit.form",   shape,  "",        "What it looks like.", .flag = "shape"),
};
#undef T
/* clang-format on */

static void fruit_check(struct setting_check *c, void *values)
{
    struct fruit *f = values;

    if (!*f->shape)
        f->shape = arena_printf(c->arena, "%s one", f->colour);
    if (f->pears == 7)
        setting_wrong(c, "fruit.pears", "must not be %d", 7);
}

static const struct settings fruit = SETTINGS(struct fruit, fruit_keys, .check = fruit_check);
static const struct settings twice = SETTINGS(struct fruit, twice_keys);

static void tables_of_others_are_read_as_cores_own_is(void **state _unused_)
{
    more = (const struct settings *const[]){ &fruit, NULL };
    OUTCOME o =
        load("fruit: {pears: 4}\n", WORDS("--shape=round"), WORDS("BRUME_LOG_COLOUR=green"));
    OUTCOME next = load("fruit: {pears: 5}\nlog: {colour: blue}\n", NULL, NULL);
    OUTCOME bad =
        load("fruit: {pears: 7, plums: 1}\n", WORDS("--log.colour="), WORDS("BRUME_FRUIT_PLUMS=1"));
    more = NULL;
    _cleanup_(buf_free) struct buf b = BUF(MIB(1));

    assert_non_null(o.c);
    assert_non_null(next.c);
    const struct fruit *f = config_values(o.c, &fruit), *g = config_values(next.c, &fruit);
    assert_int_equal(f->pears, 4);
    assert_string_equal(f->colour, "green");
    assert_string_equal(f->shape, "round");
    assert_string_equal(g->shape, "blue one");
    config_print(o.c, &b);
    assert_non_null(strstr(buf_cstr(&b), "  # Stands behind core's keys of its section.\n"
                                         "  # On a change: restart\n"
                                         "  # From: environment BRUME_LOG_COLOUR\n"
                                         "  colour: \"green\"\n"
                                         "fruit:\n"));
    buf_clear(&b);
    config_follow(next.c, o.c, heard, &b);
    assert_string_equal(buf_cstr(&b), "log.colour fruit.shape ");
    assert_int_equal(g->pears, 5);
    assert_string_equal(g->colour, "green");
    is_fault(&bad, "fruit.pears (file test.yaml:1): must not be 7\n");
    is_fault(&bad, "test.yaml:1: fruit.plums: no such key\n");
    is_fault(&bad, "environment BRUME_FRUIT_PLUMS: no such key\n");
}

static void a_key_or_a_flag_of_two_tables_is_refused(void **state _unused_)
{
    more = (const struct settings *const[]){ &fruit, &twice, NULL };
    OUTCOME o = load("", NULL, NULL);
    more = NULL;

    is_fault(&o, "fruit.pears: is a key of two tables of settings\n");
    is_fault(&o, "fruit.form: has the flag --shape of fruit.shape\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_gives_the_defaults),
        cmocka_unit_test(later_sources_win),
        cmocka_unit_test(what_needs_a_restart_stays_and_is_named),
        cmocka_unit_test(what_is_printed_reads_back_the_same),
        cmocka_unit_test(every_fault_is_reported_with_its_line),
        cmocka_unit_test(what_is_no_yaml_is_reported_with_its_line),
        cmocka_unit_test(loopback_is_where_nobody_comes_from_outside),
        cmocka_unit_test(where_clients_reach_it_is_set_or_where_it_listens),
        cmocka_unit_test(a_password_in_a_flag_is_refused_with_the_way_to_do_it),
        cmocka_unit_test(what_does_not_go_together_is_refused),
        cmocka_unit_test(shares_are_settings_by_plan),
        cmocka_unit_test(files_are_read_where_they_are_named),
        cmocka_unit_test(what_stands_below_goes_over_the_default_alone),
        cmocka_unit_test(plans_are_those_of_the_table),
        cmocka_unit_test(tables_of_others_are_read_as_cores_own_is),
        cmocka_unit_test(a_key_or_a_flag_of_two_tables_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

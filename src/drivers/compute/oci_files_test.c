/* SPDX-License-Identifier: Apache-2.0 */
/* Files, data and probes of real containers. */
#include "drivers/compute/oci_test_host.h"

static const char *files(struct host *h, const char *name, const char *content, int64_t mode,
                         int64_t uid)
{
    struct compute_file f = { name, str_of(content), mode, uid, uid };
    struct err e = { 0 };
    const char *text = compute_files_text(&h->a, &f, 1, &e);

    assert_non_null(text);
    return text;
}

static const char *out_of(struct host *h, const struct uuid *id, const char *shell)
{
    struct compute_exec_result r =
        exec_in(h, id, arena_printf(&h->a, "[\"sh\",\"-c\",\"%s\"]", shell));

    return arena_dup(&h->a, r.out.p, r.out.n);
}

TEST_HOST(what_is_no_list_of_files_is_refused)
{
    static const char *const bad[] = {
        "{}",
        "[7]",
        "[{\"name\":\"a\",\"mode\":1,\"uid\":0,\"gid\":0,\"content\":\"*\"}]",
        "[{\"name\":\"../a\",\"mode\":1,\"uid\":0,\"gid\":0,\"content\":\"\"}]",
        "[{\"name\":\".new\",\"mode\":1,\"uid\":0,\"gid\":0,\"content\":\"\"}]",
        "[{\"name\":\"a\",\"mode\":512,\"uid\":0,\"gid\":0,\"content\":\"\"}]",
        "[{\"name\":\"a\",\"mode\":1,\"uid\":65536,\"gid\":0,\"content\":\"\"}]",
        "[{\"name\":\"a\",\"mode\":1,\"uid\":0,\"gid\":0,\"content\":\"\"},"
        "{\"name\":\"a\",\"mode\":1,\"uid\":0,\"gid\":0,\"content\":\"\"}]",
    };
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    struct compute_file *f, big = { .name = "a", .mode = 0400 };
    struct err e = { 0 };
    size_t n;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(compute_files_read(&a, bad[i], &f, &n, &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
    }
    big.content = (struct str){ arena_alloc(&a, COMPUTE_FILE_BYTES + 1), COMPUTE_FILE_BYTES + 1 };
    assert_null(compute_files_text(&a, &big, 1, &e));
    big.content.n--;
    assert_int_equal(compute_files_read(&a, compute_files_text(&a, &big, 1, &e), &f, &n, &e), 0);
    assert_int_equal(f[0].content.n, COMPUTE_FILE_BYTES);
}

TEST_HOST(files_are_there_before_the_start_and_its_users_alone)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sh\",\"-c\",\"cat /run/brume/secret; exec sleep 600\"]");

    s.files = files(h, "secret", "hunter2\n", 0400, 0);
    s.files_revision = 1;
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    await_output(h, &s.id);
    assert_string_equal(logs(h, &s.id, -1), "1:hunter2\n");
    assert_string_equal(out_of(h, &s.id, "stat -c %a:%u:%g /run/brume/secret"), "400:0:0\n");
    assert_string_equal(out_of(h, &s.id, "touch /run/brume/x 2>/dev/null || echo no"), "no\n");
    assert_string_equal(out_of(h, &s.id,
                               "id -u; cd /tmp; su guest -c 'cat /run/brume/secret' "
                               "2>/dev/null || echo no"),
                        "0\nno\n");
    /* Nor does the order on disk have it. */
    struct compute_exec_result env = exec_in(h, &s.id, "[\"env\"]");
    assert_null(memmem(env.out.p, env.out.n, "hunter2", 7));
    struct str order;
    struct err e = { 0 };
    assert_int_equal(file_read(&h->a,
                               arena_printf(&h->a, "%s/instances/%s/order.json", h->dir, s.id.s),
                               MIB(1), &order, &e),
                     0);
    assert_null(memmem(order.p, order.n, "files\"", 6));
}

TEST_HOST(files_are_replaced_while_it_runs_and_others_go)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct err e = { 0 };

    s.files = files(h, "one", "1", 0444, 0);
    s.files_revision = 1;
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    s.files = files(h, "two", "22", 0444, 1000);
    s.files_revision = 2;
    s.revision = ++h->revision;
    struct compute_state st = ensure(h, &s);
    assert_int_equal(st.status, COMPUTE_RUNNING);
    assert_string_equal(out_of(h, &s.id, "cd /run/brume; ls; cat two; stat -c :%u two"),
                        "two\n22:1000\n");
    /* An agent that was killed meanwhile finds them, and the next order replaces them. */
    compute_free(h->c);
    h->c = open_driver(h);
    assert_string_equal(out_of(h, &s.id, "cat /run/brume/two"), "22");
    s.files = files(h, "two", "3", 0444, 0);
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).pid, st.pid);
    assert_string_equal(out_of(h, &s.id, "cat /run/brume/two"), "3");
    assert_int_equal(destroy_now(h, &s.id, &e), 0);
    assert_int_equal(access(arena_printf(&h->a, "%s/instances/.files/%s", h->dir, s.id.s), F_OK),
                     -1);
}

static void data_outlives_its_root(struct host *h, int64_t disk_mb)
{
    struct compute_spec s = spec_of(h, "[\"sh\",\"-c\",\"trap 'exit 0' TERM; sleep 600 & wait\"]");

    s.data = "/var/lib/thing";
    s.disk_mb = disk_mb;
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    out_of(h, &s.id, "echo kept > /var/lib/thing/a; echo lost > /tmp/b; echo lost > /root.txt");
    s.boot = 2;
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    assert_string_equal(out_of(h, &s.id, "cat /var/lib/thing/a /tmp/b"), "kept\nlost\n");
    s.boot = 3;
    s.root = 1;
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    assert_string_equal(out_of(h, &s.id, "cat /var/lib/thing/a; ls /tmp /root.txt 2>/dev/null"),
                        "kept\n/tmp:\n");
    /* Known over a restart of the agent: the root stays as it is. */
    out_of(h, &s.id, "echo stays > /tmp/c");
    compute_free(h->c);
    h->c = open_driver(h);
    s.boot = 4;
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    assert_string_equal(out_of(h, &s.id, "cat /var/lib/thing/a /tmp/c"), "kept\nstays\n");
}

TEST_HOST(data_outlive_a_root_that_is_renewed)
{
    HOST;
    data_outlives_its_root(h, 0);
}

TEST_HOST(data_on_a_limited_disk_outlive_a_root_that_is_renewed)
{
    HOST;
    data_outlives_its_root(h, 64);
}

static const char *probe(struct host *h, const struct uuid *id, enum compute_probe_kind kind,
                         int64_t port)
{
    struct compute_probe p = { kind, port, "/", SECONDS(2) };
    const char *fault;
    struct err e = { 0 };

    if (compute_probe_in(h->c, &h->a, id, &p, &fault, &e) < 0)
        fail_msg("probe: %s (%s)", e.msg, e.cause);
    return fault;
}

static const char *probe_soon(struct host *h, const struct uuid *id, enum compute_probe_kind kind,
                              int64_t port)
{
    const char *fault = "";

    for (int i = 0; i < 500 && fault; i++) {
        fault = probe(h, id, kind, port);
        pause_ms(fault ? 10 : 0);
    }
    return fault;
}

TEST_HOST(what_listens_is_asked_from_inside_of_its_network)
{
    HOST;
    struct compute_spec s = spec_of(
        h,
        "[\"sh\",\"-c\",\"while :; do printf 'HTTP/1.1 200 OK\\\\r\\\\n\\\\r\\\\n' | nc -l -p 80; "
        "done & while :; do printf 'HTTP/1.1 503 No\\\\r\\\\n\\\\r\\\\n' | nc -l -p 81; done & "
        "while :; do echo SSH-2.0-hello-there | nc -l -p 22; done & exec sleep 600\"]");
    struct compute_probe p = { COMPUTE_PROBE_TCP, 0, NULL, SECONDS(2) };
    const char *fault;
    struct err e = { 0 };

    assert_int_equal(compute_probe_in(h->c, &h->a, &s.id, &p, &fault, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    p.port = 80;
    assert_int_equal(compute_probe_in(h->c, &h->a, &s.id, &p, &fault, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    assert_null(probe_soon(h, &s.id, COMPUTE_PROBE_TCP, 80));
    assert_null(probe_soon(h, &s.id, COMPUTE_PROBE_HTTP, 80));
    assert_string_equal(probe(h, &s.id, COMPUTE_PROBE_TCP, 7), "port 7 refuses connections");
    pause_ms(300);
    assert_string_equal(probe(h, &s.id, COMPUTE_PROBE_HTTP, 81), "GET / answers 503");
    assert_string_equal(probe(h, &s.id, COMPUTE_PROBE_HTTP, 22), "port 22 does not speak HTTP");
    s.want = COMPUTE_WANT_STOPPED;
    s.revision = ++h->revision;
    ensure(h, &s);
    assert_int_equal(compute_probe_in(h->c, &h->a, &s.id, &p, &fault, &e), -1);
    assert_int_equal(e.code, ERR_INVALID_STATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_list_of_files_is_refused),
        HOST_TEST(files_are_there_before_the_start_and_its_users_alone),
        HOST_TEST(files_are_replaced_while_it_runs_and_others_go),
        HOST_TEST(data_outlive_a_root_that_is_renewed),
        HOST_TEST(data_on_a_limited_disk_outlive_a_root_that_is_renewed),
        HOST_TEST(what_listens_is_asked_from_inside_of_its_network),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

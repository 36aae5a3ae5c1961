/* SPDX-License-Identifier: Apache-2.0 */
/* Registries, recipes, the fake. */
#include "drivers/image/image_case.h"

/* ---- a registry ---- */

static const char registry[] =
    "import http.server, json, os, sys\n"
    "root = sys.argv[1]\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    def do_HEAD(self): self.do_GET()\n"
    "    def do_GET(self):\n"
    "        p = self.path.split('/')\n"
    "        name, kind = None, 'application/octet-stream'\n"
    "        if self.path == '/v2/': name, kind = 'empty', 'application/json'\n"
    "        elif self.path.startswith('/v2/team/app/manifests/'):\n"
    "            name, kind = 'manifest', 'application/vnd.oci.image.manifest.v1+json'\n"
    "        elif self.path.startswith('/v2/team/app/blobs/sha256:'): name = p[-1][7:]\n"
    "        if p[2] == 'away':\n"
    "            where = open(os.path.join(root, 'where')).read()\n"
    "            self.send_response(307)\n"
    "            self.send_header('Location', where); self.send_header('Content-Length', '0')\n"
    "            self.end_headers(); return\n"
    "        if not name or not os.path.exists(os.path.join(root, name)):\n"
    "            self.send_response(404); self.send_header('Content-Length', '2')\n"
    "            self.end_headers(); self.wfile.write(b'{}'); return\n"
    "        data = open(os.path.join(root, name), 'rb').read()\n"
    "        self.send_response(200); self.send_header('Content-Type', kind)\n"
    "        self.send_header('Content-Length', str(len(data)))\n"
    "        self.end_headers()\n"
    "        if self.command == 'GET': self.wfile.write(data)\n"
    "    def log_message(self, *a): pass\n"
    "s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
    "print(s.server_port, flush=True)\n"
    "s.serve_forever()\n";

static pid_t registry_pid;
static int registry_out = -1;

static int registry_start(const struct oci *o)
{
    const struct str *blobs[] = { &o->config, &o->layer[0], &o->layer[1], &o->manifest };
    const char *dir = at("%s/registry", top);
    struct err e;
    int out[2];
    char line[16] = "";

    assert_int_equal(dir_make(dir, 0755, &e), 0);
    for (size_t i = 0; i < ARRAY_LEN(blobs); i++)
        assert_int_equal(file_write(at("%s/%s", dir, i == 3 ? "manifest" : digest(*blobs[i]) + 7),
                                    blobs[i]->p, blobs[i]->n, 0644, &e),
                         0);
    assert_int_equal(file_write(at("%s/empty", dir), "{}", 2, 0644, &e), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    registry_pid = fork();
    if (registry_pid == 0) {
        dup2(out[1], 1);
        execlp("python3", "python3", "-c", registry, dir, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    registry_out = out[0];
    for (size_t n = 0; !strchr(line, '\n'); n++)
        assert_int_equal(read(out[0], line + n, n < sizeof(line) - 1), 1);
    int64_t port = 0;
    assert_true(int_parse((struct str){ line, strcspn(line, "\n") }, 1, 65535, &port));
    return (int)port;
}

static int registry_stop(void **state _unused_)
{
    if (registry_pid > 0) {
        kill(registry_pid, SIGKILL);
        waitpid(registry_pid, NULL, 0);
        registry_pid = 0;
        close(registry_out);
    }
    return 0;
}

static void an_image_is_pulled_from_a_registry(void **state _unused_)
{
    struct oci o = make_oci();
    int port = registry_start(&o);
    struct image_state st = wait_for(at("127.0.0.1:%d/team/app:1", port), SECONDS(60));

    if (st.status != IMAGE_READY)
        fail_msg("%s", st.reason ? st.reason : "not ready");
    assert_string_equal(st.source, "registry");
    assert_string_equal(st.digest, digest(o.manifest));
    check_two_layers(&st);
    /* The list has it, and neither recipes nor imports, nor any configuration. */
    struct image_state *all;
    struct err e;
    size_t n;
    assert_int_equal(image_list(store, &arena, &all, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_string_equal(all[0].name, st.name);
    assert_string_equal(all[0].source, "registry");
    assert_int_equal(all[0].status, IMAGE_READY);
    assert_null(all[0].env);
    st = wait_for(at("docker://127.0.0.1:%d/team/none:1", port), SECONDS(60));
    assert_int_equal(st.status, IMAGE_FAILED);
    assert_non_null(strstr(st.reason, "has no public team/none:1"));
}

/* 'name' is refused, and says so. */
static void assert_refused(const char *name, const char *why)
{
    struct image_state st = wait_for(name, SECONDS(60));

    assert_int_equal(st.status, IMAGE_FAILED);
    if (!strstr(st.reason, why))
        fail_msg("%s: %s", name, st.reason);
}

static void an_internal_registry_is_refused_unless_it_is_listed(void **state _unused_)
{
    assert_refused("10.99.1.2:5000/team/app:1", "10.99.1.2 leads to an internal address");
    assert_refused("169.254.169.254/team/app:1", "169.254.169.254 leads to an internal address");
    assert_refused("100.64.1.1/team/app:1", "100.64.1.1 leads to an internal address");
    assert_refused("0.0.0.0:5000/team/app:1", "0.0.0.0 leads to an internal address");
    assert_refused("127.0.0.2:5000/team/app:1", "is this machine itself");
}

static void a_registry_cannot_send_us_to_internal_addresses(void **state _unused_)
{
    struct oci o = make_oci();
    int port = registry_start(&o);
    const char *where = at("%s/registry/where", top);
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof(sa);
    struct err e;
    int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_int_equal(bind(other, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(other, 4), 0);
    assert_int_equal(getsockname(other, (struct sockaddr *)&sa, &n), 0);
    const char *url = "https://169.254.169.254/latest/meta-data";
    assert_int_equal(file_write(where, url, strlen(url), 0644, &e), 0);
    assert_refused(at("127.0.0.1:%d/away/app:1", port),
                   "169.254.169.254 leads to an internal address");
    /* Another port of the machine that the registry is on. */
    url = at("http://127.0.0.1:%d/", ntohs(sa.sin_port));
    assert_int_equal(file_write(where, url, strlen(url), 0644, &e), 0);
    assert_refused(at("127.0.0.1:%d/away/app:2", port), "does not answer");
    assert_int_equal(accept(other, NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    close(other);
}

/* One who waits for registries that say nothing leaves the turns of others alone, also for what he
 * has asked for first. */
static void slow_registries_of_one_do_not_hold_up_another(void **state _unused_)
{
    struct oci o = make_oci();
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof(sa);
    struct image_state st;
    struct err e;
    int mute = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(mute, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(mute, 64), 0);
    assert_int_equal(getsockname(mute, (struct sockaddr *)&sa, &n), 0);
    int port = registry_start(&o);
    const char *wanted = at("127.0.0.1:%d/team/app:2", port);
    for (int i = 0; i < 12; i++)
        assert_int_equal(image_ensure(store, &arena,
                                      at("127.0.0.1:%d/slow/app:%d", ntohs(sa.sin_port), i), "hog",
                                      false, &st, &e),
                         0);
    assert_int_equal(image_ensure(store, &arena, wanted, "hog", false, &st, &e), 0);
    usleep(300000);
    assert_int_equal(image_inspect(store, &arena, wanted, &st, &e), 0);
    assert_int_equal(st.status, IMAGE_BUILDING);
    assert_string_equal(st.step, "waiting");
    assert_int_equal(image_ensure(store, &arena, wanted, "other", false, &st, &e), 0);
    for (int i = 0; i < 6000 && st.status == IMAGE_BUILDING; i++) {
        usleep(5000);
        assert_int_equal(image_inspect(store, &arena, wanted, &st, &e), 0);
    }
    if (st.status != IMAGE_READY)
        fail_msg("%s", st.reason ? st.reason : "not ready");
    close(mute); /* and so resets those that wait */
    for (int i = 0; i < 12; i++)
        assert_int_equal(
            wait_for(at("127.0.0.1:%d/slow/app:%d", ntohs(sa.sin_port), i), SECONDS(60)).status,
            IMAGE_FAILED);
}

static void a_registry_that_is_away_is_told_of_in_words(void **state _unused_)
{
    int64_t start = clock_mono(clock_system());
    struct image_state st = wait_for("localhost:1/some/thing:1", SECONDS(60));
    struct err e;

    assert_int_equal(st.status, IMAGE_FAILED);
    assert_non_null(strstr(st.reason, "localhost:1 does not answer"));
    assert_true(clock_mono(clock_system()) - start < SECONDS(30));
    /* It stays failed until asked for again. */
    assert_int_equal(image_ensure(store, &arena, "localhost:1/some/thing:1", NULL, false, &st, &e),
                     0);
    assert_int_equal(st.status, IMAGE_FAILED);
    assert_int_equal(image_ensure(store, &arena, "localhost:1/some/thing:1", NULL, true, &st, &e),
                     0);
    assert_int_equal(st.status, IMAGE_BUILDING);
    assert_int_equal(image_ensure(store, &arena, "--evil", NULL, true, &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    wait_for("localhost:1/some/thing:1", SECONDS(60));
}

/* Needs a Debian mirror and minutes: only where BRUME_TEST_BUILD is set. */
static void nginx_is_built_from_debian_packages(void **state _unused_)
{
    const char *const *dirs;
    struct process_result r;
    struct err e;

    if (!getenv("BRUME_TEST_BUILD"))
        skip();
    struct image_state st = wait_for("nginx", SECONDS(280));
    if (st.status != IMAGE_READY)
        fail_msg("%s", st.reason ? st.reason : "not ready");
    assert_int_equal(layers(st.digest, &dirs), 2);
    const char *const argv[] = { "chroot", dirs[1], "nginx", "-v", NULL };
    struct process_opts o = { .argv = argv };
    assert_int_equal(process_check(&arena, &o, &r, &e), 0);
    assert_non_null(strstr(r.err.p, "nginx version"));
    image_local_release(store, &user);
}

static void the_fake_has_every_recipe_and_says_what_it_has_not(void **state _unused_)
{
    _cleanup_(image_freep) struct image_store *f = image_fake();
    struct image_state st;
    struct err e;

    for (const struct image_recipe *r = image_recipes; r->name; r++) {
        assert_int_equal(image_ensure(f, &arena, r->name, NULL, false, &st, &e), 0);
        assert_int_equal(st.status, IMAGE_READY);
        assert_int_equal(strlen(st.digest), 71);
    }
    assert_int_equal(image_ensure(f, &arena, "whatever", NULL, false, &st, &e), 0);
    assert_int_equal(st.status, IMAGE_FAILED);
    assert_int_equal(image_ensure(f, &arena, "slow-one", NULL, false, &st, &e), 0);
    assert_int_equal(st.status, IMAGE_BUILDING);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(image_inspect(f, &arena, "slow-one", &st, &e), 0);
        assert_int_equal(st.status, IMAGE_BUILDING);
    }
    assert_int_equal(image_inspect(f, &arena, "slow-one", &st, &e), 0);
    assert_int_equal(st.status, IMAGE_READY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_image_is_pulled_from_a_registry, registry_stop),
        cmocka_unit_test(an_internal_registry_is_refused_unless_it_is_listed),
        cmocka_unit_test_teardown(a_registry_cannot_send_us_to_internal_addresses, registry_stop),
        cmocka_unit_test_teardown(slow_registries_of_one_do_not_hold_up_another, registry_stop),
        cmocka_unit_test(a_registry_that_is_away_is_told_of_in_words),
        cmocka_unit_test(nginx_is_built_from_debian_packages),
        cmocka_unit_test(the_fake_has_every_recipe_and_says_what_it_has_not),
    };

    return run_cases(tests, ARRAY_LEN(tests));
}

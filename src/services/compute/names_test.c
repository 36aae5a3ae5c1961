/* SPDX-License-Identifier: Apache-2.0 */
/* What an edge hears of instances and units by the feed. */
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/feed/feed.h"
#include "core/feed/line.h"
#include "os/file.h"
#include "os/link.h"
#include "os/unixsock.h"
#include "services/compute/compute_private.h"
#include "tests/world.h"

#define INSTALLATION "0a1b2c3d"

static char dir[64];

static const char *place(void)
{
    return fmt("%s/feed.sock", dir);
}

static void feed_begins(struct world *w)
{
    struct feed_opts o = { .socket_path = place(), .installation = INSTALLATION, .edge_uid = 1 };
    struct err e;

    snprintf(dir, sizeof(dir), "/var/tmp/brume-feed-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    chmod(dir, 0755);
    o.socket_path = place();
    if (feed_serve(world_app(w), &o, &e) < 0)
        fail_msg("%s: %s", e.msg, e.cause);
}

static void feed_ends(struct world *w)
{
    struct err e;

    feed_close(world_app(w));
    CHECK_EQ(dir_remove(dir, &e), 0);
}

static struct link *edge_comes(void)
{
    struct timeval patience = { .tv_sec = 10 };
    struct err e;
    int fd = unix_connect(place(), UNIX_STREAM, &e);

    CHECK(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    struct link *l = link_new(fd, "api");
    CHECK_EQ(link_greet(l, INSTALLATION, &e), 0);
    return l;
}

static void edge_goes(struct link *l)
{
    link_break(l);
    link_unref(l);
}

static void wait_followed(struct world *w, bool yes)
{
    for (int i = 0; i < 500 && feed_followed(world_app(w)) != yes; i++)
        usleep(10000);
    CHECK_EQ(feed_followed(world_app(w)), yes);
}

/* The next line, as "rows a b 7": the names and the revision; "end 7"; "gone 7"; "" at the end. */
static const char *hear(struct link *l)
{
    struct arena a = ARENA(MIB(4));
    struct feed_line line = { 0 };
    const char *text = "";
    struct err e;
    struct message *m = link_receive(l, &e);

    if (m && feed_line_read(&a, (struct str){ m->p, m->n }, &line, &e) < 0)
        fail_msg("%s", e.msg);
    if (m && line.kind == FEED_ROWS) {
        struct json_value *all = json_parse(str_of(line.rows), &e);

        CHECK_STR(line.part, "names");
        text = "rows";
        for (size_t i = 0; i < json_len(all); i++) {
            struct vpc_name n;

            CHECK_EQ(json_load_row(&a, &vpc_name_record, json_at(all, i), &n, &e), 0);
            CHECK(!uuid_is_nil(&n.id) && !uuid_is_nil(&n.vpc_id));
            CHECK(strncmp(n.private_ip, "10.0.0.", 7) == 0);
            text = fmt("%s %s", text, n.name);
        }
        json_free(all);
        text = fmt("%s %lld", text, (long long)line.revision);
    } else if (m) {
        static const char *const words[] = {
            [FEED_BEGIN] = "begin", [FEED_GONE] = "gone", [FEED_END] = "end"
        };
        text = fmt("%s %lld", words[line.kind], (long long)line.revision);
    }
    free(m);
    arena_free(&a);
    return text;
}

/* A whole snapshot. */
static const char *hear_all(struct link *l)
{
    const char *text = "";

    for (;;) {
        const char *one = hear(l);
        text = fmt("%s%s; ", text, one);
        if (!*one || strncmp(one, "end", 3) == 0)
            return text;
    }
}

static int run_sql(struct db *db, void *ctx, struct err *e)
{
    return db_exec(db, ctx, NO_ARGS, e);
}

static void sql(struct world *w, const char *text)
{
    struct err e;

    CHECK_EQ(store_write(app_store(world_app(w)), run_sql, (void *)(uintptr_t)text, &e), 0);
}

static const char *launch(struct world *w, const char *name)
{
    struct reply r = post(w, "/instances", fmt("{'name':'%s','image':'nginx'}", name));

    CHECK_EQ(r.status, 201);
    return r.id;
}

TEST(an_edge_hears_all_names_and_then_what_changes)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(as(w, AS_TEST_KEY, POST, "/instances", "{'name':'simulated','image':'nginx'}").status,
             201);
    const char *a = launch(w, "a");
    feed_begins(w);
    CHECK(!feed_followed(world_app(w)));
    struct link *l = edge_comes();
    CHECK_STR(hear_all(l), "begin 2; rows a 0; end 2; ");
    wait_followed(w, true);
    /* A name is known before its instance runs. */
    const char *b = launch(w, "b");
    CHECK_STR(member(get(w, "/instances/b"), "status"), "pending");
    CHECK_STR(hear(l), "rows b 3");
    world_settle(w);
    CHECK_EQ(patch(w, fmt("/instances/%s", a), "{'name':'c'}").status, 200);
    CHECK_STR(hear(l), "rows c 4");
    CHECK_EQ(patch(w, fmt("/instances/%s", a), "{'labels':{'x':'y'}}").status, 200);
    CHECK_EQ(post(w, fmt("/instances/%s/stop", a), NULL).status, 200);
    world_settle(w);
    CHECK_EQ(del(w, "/instances/%s", b).status, 200);
    CHECK_STR(hear(l), "gone 5");
    world_settle(w);
    /* What is refused changes nothing. */
    CHECK_EQ(post(w, "/instances", "{'name':'c','image':'nginx'}").status, 409);
    launch(w, "d");
    CHECK_STR(hear(l), "rows d 6");
    /* The next edge takes its place. */
    struct link *next = edge_comes();
    CHECK_STR(hear(l), "");
    CHECK_STR(hear_all(next), "begin 6; rows c d 0; end 6; ");
    edge_goes(l);
    edge_goes(next);
    wait_followed(w, false);
    feed_ends(w);
}

TEST(an_edge_hears_of_units_as_of_instances)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *vpc = post(w, "/vpcs", "{'name':'shop'}").id;

    CHECK_EQ(as(w, AS_TEST_KEY, POST, "/holders", "{'name':'simulated'}").status, 201);
    CHECK_EQ(post(w, "/holders", "{'name':'one'}").status, 201);
    launch(w, "a");
    feed_begins(w);
    struct link *l = edge_comes();
    const char *all = hear_all(l);
    CHECK(strcmp(all, "begin 3; rows a main 0; end 3; ") == 0 ||
          strcmp(all, "begin 3; rows main a 0; end 3; ") == 0);
    CHECK_EQ(post(w, "/holders", fmt("{'name':'two','vpc_id':'%s'}", vpc)).status, 201);
    CHECK_STR(hear(l), "rows main.holder.service.internal 4");
    world_settle(w);
    CHECK_EQ(del(w, "/holders/two").status, 200);
    CHECK_STR(hear(l), "gone 5");
    /* Its owner went without a word: it goes at its next visit. */
    CHECK_EQ(del(w, "/holders/one/row").status, 200);
    world_sleep(w, MINUTES(1));
    CHECK_STR(hear(l), "gone 6");
    edge_goes(l);
    feed_ends(w);
}

TEST(an_edge_that_stays_behind_or_a_store_that_was_restored_begin_anew)
{
    _cleanup_(world_freep) struct world *w = world_new();

    launch(w, "a");
    feed_begins(w);
    struct link *l = edge_comes();
    CHECK_STR(hear_all(l), "begin 1; rows a 0; end 1; ");
    /* Old changes are forgotten. */
    sql(w, "UPDATE core_feed_head SET revision = 10000");
    launch(w, "b");
    CHECK_STR(hear(l), "rows b 10001");
    for (int i = 0; i < 500 && world_int(w, "SELECT count(*) FROM core_feed") != 1; i++)
        usleep(10000);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM core_feed"), 1);
    CHECK_EQ(world_int(w, "SELECT swept FROM core_feed_head"), 10001 - FEED_KEPT);
    sql(w, "UPDATE core_feed_head SET swept = revision + 10, revision = revision + 10");
    launch(w, "c");
    CHECK_STR(hear_all(l), "begin 10012; rows a b c 0; end 10012; ");
    sql(w, "UPDATE core_feed_head SET epoch = '', revision = 3");
    launch(w, "d");
    CHECK_STR(hear_all(l), "begin 4; rows a b c d 0; end 4; ");
    edge_goes(l);
    feed_ends(w);
}

/* Straight into the table: a launch of each takes its time. */
static int multiply(struct db *db, void *ctx, struct err *e)
{
    const int *n = ctx;

    for (int i = 0; i < *n; i++) {
        _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
        struct instance row;

        TRY(db_one(db, &a, &instance_record, "SELECT @ FROM instances WHERE name = 'a'", NO_ARGS,
                   &row, e));
        snprintf(row.id.s, sizeof(row.id.s), "0199aaaa-0000-7000-8000-%012d", i);
        row.name = arena_printf(&a, "n%d", i);
        TRY(db_insert(db, &a, &instance_record, &row, e));
    }
    return 0;
}

TEST(a_snapshot_of_many_names_comes_in_pages)
{
    enum { MANY = 1201 };
    _cleanup_(world_freep) struct world *w = world_new();
    int64_t rows = 0;

    launch(w, "a");
    struct err e;
    CHECK_EQ(store_write(app_store(world_app(w)), multiply, &(int){ MANY }, &e), 0);
    feed_begins(w);
    struct link *l = edge_comes();
    for (;;) {
        const char *line = hear(l);
        if (strncmp(line, "end", 3) == 0)
            break;
        for (const char *p = line; (p = strchr(p, ' ')); p++)
            rows += strncmp(line, "rows", 4) == 0;
        rows -= strncmp(line, "rows", 4) == 0; /* the revision */
    }
    CHECK_EQ(rows, MANY + 1);
    edge_goes(l);
    feed_ends(w);
}

TEST(strangers_hear_nothing)
{
    _cleanup_(world_freep) struct world *w = world_new();
    int status;

    launch(w, "a");
    feed_begins(w);
    pid_t pid = fork();
    if (pid == 0) {
        struct err e;
        char c;
        int fd;

        if (setresuid(65534, 65534, 65534) < 0)
            _exit(3);
        fd = unix_connect(place(), UNIX_STREAM, &e);
        _exit(fd < 0 ? 2 : read(fd, &c, 1) > 0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), geteuid() == 0 ? 0 : 3);
    feed_ends(w);
}

TESTS(compute_names, an_edge_hears_all_names_and_then_what_changes,
      an_edge_hears_of_units_as_of_instances,
      an_edge_that_stays_behind_or_a_store_that_was_restored_begin_anew,
      a_snapshot_of_many_names_comes_in_pages, strangers_hear_nothing)

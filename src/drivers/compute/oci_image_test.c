/* SPDX-License-Identifier: Apache-2.0 */
/* Images as their specification means them: made here, imported, run, and looked at from inside. */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/utsname.h>
#include <sys/xattr.h>

#include "codec/text.h"
#include "drivers/compute/oci_test_host.h"

enum { LAYERS = 4 };

/* ---- making images ---- */

struct entry {
    const char *path;
    mode_t type; /* 0: hard link */
    const char *text;
    unsigned mode;
    int uid, gid;
    int64_t mtime;
    const char *note; /* user.note */
};

static la_ssize_t put(struct archive *a _unused_, void *ctx, const void *p, size_t n)
{
    buf_put(ctx, p, n);
    return (la_ssize_t)n;
}

static void put_entry(struct archive *a, const struct entry *in)
{
    struct archive_entry *en = archive_entry_new();

    archive_entry_set_pathname(en, in->path);
    archive_entry_set_perm(en, in->mode ? in->mode : in->type == S_IFREG ? 0644 : 0755);
    archive_entry_set_filetype(en, in->type ? in->type : S_IFREG);
    archive_entry_set_uid(en, in->uid);
    archive_entry_set_gid(en, in->gid);
    archive_entry_set_mtime(en, in->mtime ? in->mtime : 1, 0);
    if (in->note)
        archive_entry_xattr_add_entry(en, "user.note", in->note, strlen(in->note));
    if (!in->type)
        archive_entry_set_hardlink(en, in->text);
    else if (in->type == S_IFLNK)
        archive_entry_set_symlink(en, in->text);
    else if (in->type == S_IFREG)
        archive_entry_set_size(en, (la_int64_t)strlen(in->text ? in->text : ""));
    assert_int_equal(archive_write_header(a, en), ARCHIVE_OK);
    if (in->type == S_IFREG && in->text)
        archive_write_data(a, in->text, strlen(in->text));
    archive_entry_free(en);
}

static struct str tar_of(struct host *h, const struct entry *list)
{
    struct buf b = BUF(MIB(8));
    struct archive *a = archive_write_new();

    archive_write_set_format_pax(a);
    archive_write_set_bytes_in_last_block(a, 1);
    assert_int_equal(archive_write_open(a, &b, NULL, put, NULL), ARCHIVE_OK);
    for (; list->path; list++)
        put_entry(a, list);
    archive_write_close(a);
    archive_write_free(a);
    struct str out = { arena_dup(&h->a, b.p, b.n), b.n };
    buf_free(&b);
    return out;
}

static const char *hex_of(struct host *h, struct str s)
{
    char *out = arena_alloc(&h->a, 65);
    uint8_t hash[32];

    sha256(s.p, s.n, hash);
    hex_encode(hash, sizeof(hash), out);
    return out;
}

static void put_file(struct archive *a, const char *path, struct str s)
{
    struct archive_entry *en = archive_entry_new();

    archive_entry_set_pathname(en, path);
    archive_entry_set_perm(en, 0644);
    archive_entry_set_filetype(en, S_IFREG);
    archive_entry_set_size(en, (la_int64_t)s.n);
    archive_write_header(a, en);
    archive_write_data(a, s.p, s.n);
    archive_entry_free(en);
}

static ssize_t give(void *ctx, void *p, size_t n, struct err *e _unused_)
{
    struct str *s = ctx;

    n = MIN(n, s->n);
    memcpy(p, s->p, n);
    s->p += n;
    s->n -= n;
    return (ssize_t)n;
}

static const char *machine(void)
{
    static struct utsname u;

    uname(&u);
    return strcmp(u.machine, "x86_64") == 0    ? "amd64"
           : strcmp(u.machine, "aarch64") == 0 ? "arm64"
                                               : u.machine;
}

/* The archive of an OCI layout; 'layers' from the lowest. */
static struct str archive_of(struct host *h, const struct str *layers, size_t n, const char *config)
{
    struct buf diffs = BUF(KIB(8)), refs = BUF(KIB(8)), b = BUF(MIB(32));
    struct archive *a = archive_write_new();

    archive_write_set_format_ustar(a);
    archive_write_open(a, &b, NULL, put, NULL);
    for (size_t i = 0; i < n; i++) {
        const char *hex = hex_of(h, layers[i]);
        put_file(a, arena_printf(&h->a, "blobs/sha256/%s", hex), layers[i]);
        buf_printf(&diffs, "%s\"sha256:%s\"", i ? "," : "", hex);
        buf_printf(&refs, "%s{\"digest\":\"sha256:%s\"}", i ? "," : "", hex);
    }
    struct str text = str_of(arena_printf(&h->a,
                                          "{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":%s,"
                                          "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[%s]}}",
                                          machine(), config, buf_cstr(&diffs)));
    struct str manifest = str_of(arena_printf(
        &h->a, "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:%s\"},\"layers\":[%s]}",
        hex_of(h, text), buf_cstr(&refs)));
    put_file(a, arena_printf(&h->a, "blobs/sha256/%s", hex_of(h, text)), text);
    put_file(a, arena_printf(&h->a, "blobs/sha256/%s", hex_of(h, manifest)), manifest);
    put_file(a, "index.json",
             str_of(arena_printf(&h->a, "{\"manifests\":[{\"digest\":\"sha256:%s\"}]}",
                                 hex_of(h, manifest))));
    archive_write_close(a);
    archive_write_free(a);
    struct str out = { arena_dup(&h->a, b.p, b.n), b.n };
    buf_free(&b);
    buf_free(&diffs);
    buf_free(&refs);
    return out;
}

static int try_import(struct host *h, const struct str *layers, size_t n, const char *config,
                      struct err *e)
{
    struct str bytes = archive_of(h, layers, n, config);
    struct image_state st;

    if (image_import(h->images, &h->a, "made", IMAGE_OCI_ARCHIVE, NULL, give, &bytes, &st, e) < 0)
        return -1;
    h->digest = arena_strdup(&h->a, st.digest);
    return 0;
}

/* busybox, and the layers above it. */
static void make(struct host *h, const char *config, const struct entry *one,
                 const struct entry *two)
{
    struct str layers[LAYERS];
    struct err e = { 0 };
    size_t n = 1;

    if (file_read(&h->a, arena_printf(&h->a, "%s/rootfs.tar", h->dir), MIB(16), &layers[0], &e) < 0)
        fail_msg("%s: %s", e.msg, e.cause);
    if (one)
        layers[n++] = tar_of(h, one);
    if (two)
        layers[n++] = tar_of(h, two);
    if (try_import(h, layers, n, config, &e) < 0)
        fail_msg("%s (%s)", e.msg, e.cause);
}

/* ---- running them ---- */

static struct compute_spec start(struct host *h, const char *cmd)
{
    struct compute_spec s = spec_of(h, cmd);
    struct compute_state st = ensure(h, &s);

    assert_int_equal(st.status, COMPUTE_RUNNING);
    return s;
}

/* What a script prints inside. */
static const char *say(struct host *h, const struct uuid *id, const char *script)
{
    struct compute_exec_result r =
        exec_in(h, id, arena_printf(&h->a, "[\"sh\",\"-c\",\"%s\"]", script));

    return arena_printf(&h->a, "%.*s%.*s", (int)r.out.n, r.out.p, (int)r.err.n, r.err.p);
}

/* The same with layers shown under other ids and with copies of them. */
static void each_way(struct host *h, void (*fn)(struct host *h, const struct uuid *id),
                     const char *cmd)
{
    for (int copies = 0; copies < 2; copies++) {
        compute_free(h->c);
        h->copy_layers = copies;
        h->c = open_driver(h);
        struct compute_spec s = start(h, cmd);
        fn(h, &s.id);
    }
}

#define SLEEP "[\"sleep\",\"600\"]"

/* ---- layers ---- */

static void look_at_parents(struct host *h, const struct uuid *id)
{
    struct compute_state st;
    char note[8] = "";
    struct err e;

    assert_string_equal(say(h, id,
                            "stat -c '%a %u %g' /; "
                            "stat -c '%n %a %u %g %Y' /srv /srv/data /srv/data/old /tmp"),
                        "751 3 4\n/srv 2750 7 8 1000000\n/srv/data 1777 1000 1000 2000000\n"
                        "/srv/data/old 755 9 9 3000000\n/tmp 1777 0 0 7\n");
    assert_string_equal(say(h, id, "cat /srv/data/old/new /tmp/b"), "newb");
    assert_int_equal(compute_inspect(h->c, &h->a, id, &st, &e), 0);
    const char *srv = arena_printf(&h->a, "/proc/%lld/root/srv", (long long)st.pid);
    assert_int_equal(getxattr(srv, "user.note", note, sizeof(note)), 4);
    assert_string_equal(note, "mine");
}

TEST_HOST(a_folder_that_a_layer_does_not_name_stays_what_it_is)
{
    HOST;
    static const struct entry one[] = {
        { "./", S_IFDIR, NULL, 0751, 3, 4, 5000, NULL },
        { "tmp/", S_IFDIR, NULL, 01777, 0, 0, 7, NULL },
        { "srv/", S_IFDIR, NULL, 02750, 7, 8, 1000000, "mine" },
        { "srv/data/", S_IFDIR, NULL, 01777, 1000, 1000, 2000000, NULL },
        { "srv/data/old/", S_IFDIR, NULL, 0755, 9, 9, 3000000, NULL },
        { "srv/data/old/file", S_IFREG, "x", 0644, 0, 0, 1, NULL },
        { 0 },
    };
    static const struct entry two[] = {
        { "srv/data/old/new", S_IFREG, "new", 0644, 0, 0, 1, NULL },
        { "tmp/b", S_IFREG, "b", 0644, 0, 0, 1, NULL },
        { 0 },
    };

    make(h, "{}", one, two);
    each_way(h, look_at_parents, SLEEP);
}

static void look_at_whiteouts(struct host *h, const struct uuid *id)
{
    assert_string_equal(say(h, id, "cd /; find a d f gone k m x 2>/dev/null | sort | xargs"),
                        "a a/b a/b/c a/b/c/foo d d/new f k k/new m m/sub m/sub/own\n");
    assert_string_equal(say(h, id, "cat /f; stat -c ' %a %u' /a/b"), "second 700 0\n");
}

TEST_HOST(a_whiteout_hides_what_lies_below_and_nothing_beside_it)
{
    HOST;
    static const struct entry one[] = {
        { "a/", S_IFDIR, NULL, 0, 0, 0, 0, NULL },
        { "a/b/", S_IFDIR, NULL, 0, 0, 0, 0, NULL },
        { "a/b/c/", S_IFDIR, NULL, 0, 0, 0, 0, NULL },
        { "a/b/c/bar", S_IFREG, "bar", 0, 0, 0, 0, NULL },
        { "d/old", S_IFREG, "old", 0, 0, 0, 0, NULL },
        { "f", S_IFREG, "first", 0, 0, 0, 0, NULL },
        { "gone/deep/er", S_IFREG, "gone", 0, 0, 0, 0, NULL },
        { "k/old", S_IFREG, "old", 0, 0, 0, 0, NULL },
        { "m/sub/old", S_IFREG, "old", 0, 0, 0, 0, NULL },
        { "x", S_IFREG, "x", 0, 0, 0, 0, NULL },
        { 0 },
    };
    /* Before and behind what they lie beside: the order does not count. */
    static const struct entry two[] = {
        { "a/b/", S_IFDIR, NULL, 0700, 0, 0, 0, NULL },
        { "a/b/c/", S_IFDIR, NULL, 0, 0, 0, 0, NULL },
        { "a/b/c/foo", S_IFREG, "foo", 0, 0, 0, 0, NULL },
        { "a/.wh..wh..opq", S_IFREG, "", 0, 0, 0, 0, NULL },
        { "d/", S_IFDIR, NULL, 0, 0, 0, 0, NULL },
        { "d/new", S_IFREG, "new", 0, 0, 0, 0, NULL },
        { ".wh.d", S_IFREG, "", 0, 0, 0, 0, NULL },
        { "f", S_IFREG, "second", 0, 0, 0, 0, NULL },
        { ".wh.f", S_IFREG, "", 0, 0, 0, 0, NULL },
        { ".wh.gone", S_IFREG, "", 0, 0, 0, 0, NULL },
        { ".wh.k", S_IFREG, "", 0, 0, 0, 0, NULL },
        { "k/new", S_IFREG, "new", 0, 0, 0, 0, NULL },
        { "m/.wh.sub", S_IFREG, "", 0, 0, 0, 0, NULL },
        { "m/sub/", S_IFDIR, NULL, 0, 0, 0, 0, NULL },
        { "m/sub/own", S_IFREG, "own", 0, 0, 0, 0, NULL },
        { ".wh.x", S_IFREG, "", 0, 0, 0, 0, NULL },
        { ".wh..wh.plnk/5.7", S_IFREG, "aufs", 0, 0, 0, 0, NULL },
        { 0 },
    };

    make(h, "{}", one, two);
    each_way(h, look_at_whiteouts, SLEEP);
}

static void look_at_links(struct host *h, const struct uuid *id)
{
    assert_string_equal(say(h, id, "readlink /lib; ls /lib /deep/l | xargs; cat /lib/two"),
                        "usr/lib\n/deep/l: three /lib: one two\ntwo");
    /* One file under two names, as it was below. */
    assert_string_equal(say(h, id,
                            "cat /opt/link; stat -c '%h %a %u %Y' /opt/link /etc/base; "
                            "[ /opt/link -ef /etc/base ] && echo same"),
                        "base2 640 5 777\n2 640 5 777\nsame\n");
    assert_string_equal(say(h, id, "stat -c '%a %u %Y' /etc/conf; readlink /opt/sym"),
                        "750 6 888\nnowhere\n");
}

TEST_HOST(names_lead_through_what_lies_below)
{
    HOST;
    static const struct entry one[] = {
        { "usr/lib/one", S_IFREG, "one", 0, 0, 0, 0, NULL },
        { "lib", S_IFLNK, "usr/lib", 0, 0, 0, 0, NULL },
        { "far/", S_IFDIR, NULL, 0, 0, 0, 0, NULL },
        { "deep/l", S_IFLNK, "/deep/../far/.", 0, 0, 0, 0, NULL },
        { "etc/base", S_IFREG, "base", 0640, 5, 0, 777, NULL },
        { "etc/conf/", S_IFDIR, NULL, 0750, 6, 0, 888, NULL },
        { "etc/conf/old", S_IFREG, "old", 0, 0, 0, 0, NULL },
        { "etc/sym", S_IFLNK, "nowhere", 0, 0, 0, 0, NULL },
        { 0 },
    };
    static const struct entry two[] = {
        { "lib/two", S_IFREG, "two", 0, 0, 0, 0, NULL },
        { "deep/l/three", S_IFREG, "three", 0, 0, 0, 0, NULL },
        { "opt/link", 0, "etc/base", 0, 0, 0, 0, NULL },
        { "opt/other", 0, "./etc/conf/old", 0, 0, 0, 0, NULL },
        { "opt/sym", 0, "etc/sym", 0, 0, 0, 0, NULL },
        { 0 },
    };

    make(h, "{}", one, two);
    each_way(h, look_at_links, SLEEP);
}

TEST_HOST(a_hard_link_to_what_is_hidden_is_refused)
{
    HOST;
    static const struct entry one[] = {
        { "etc/gone", S_IFREG, "x", 0, 0, 0, 0, NULL },
        { "dir/file", S_IFREG, "x", 0, 0, 0, 0, NULL },
        { 0 },
    };
    static const struct entry two[][4] = {
        { { "etc/.wh.gone", S_IFREG, "", 0, 0, 0, 0, NULL },
          { "link", 0, "etc/gone", 0, 0, 0, 0, NULL } },
        { { "dir/.wh..wh..opq", S_IFREG, "", 0, 0, 0, 0, NULL },
          { "link", 0, "dir/file", 0, 0, 0, 0, NULL } },
        { { ".wh.dir", S_IFREG, "", 0, 0, 0, 0, NULL },
          { "link", 0, "dir/file", 0, 0, 0, 0, NULL } },
        { { "link", 0, "dir", 0, 0, 0, 0, NULL } },
        { { "link", 0, "nothing", 0, 0, 0, 0, NULL } },
    };

    for (size_t i = 0; i < ARRAY_LEN(two); i++) {
        struct str layers[] = { tar_of(h, one), tar_of(h, two[i]) };
        struct err e = { 0 };
        assert_int_equal(try_import(h, layers, 2, "{}", &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
        assert_string_equal(e.msg, "a hard link in the archive points to nothing in it");
    }
}

TEST_HOST(an_opaque_root_hides_all_that_lies_below)
{
    HOST;
    static const struct entry junk[] = {
        { "./", S_IFDIR, NULL, 0700, 9, 9, 9, NULL },
        { "junk/file", S_IFREG, "junk", 0, 0, 0, 0, NULL },
        { 0 },
    };
    static const struct entry opaque[] = {
        { ".wh..wh..opq", S_IFREG, "", 0, 0, 0, 0, NULL },
        { 0 },
    };
    struct str layers[3] = { tar_of(h, junk), tar_of(h, opaque) };
    struct err e = { 0 };

    assert_int_equal(
        file_read(&h->a, arena_printf(&h->a, "%s/rootfs.tar", h->dir), MIB(16), &layers[2], &e), 0);
    if (try_import(h, layers, 3, "{}", &e) < 0)
        fail_msg("%s (%s)", e.msg, e.cause);
    struct compute_spec s = start(h, SLEEP);
    assert_string_equal(say(h, &s.id, "ls -d /junk /bin"),
                        "/bin\nls: /junk: No such file or directory\n");
}

/* ---- what runs, and as whom ---- */

static const struct entry people[] = {
    { "etc/passwd", S_IFREG, "root:x:0:0::/root:/bin/sh\napp:x:50:60::/home/app:/bin/sh\n", 0, 0, 0,
      0, NULL },
    { "etc/group", S_IFREG,
      "root:x:0:root\nwheel:x:10:root,app\napp:x:60:\nextra:x:70:other,app\ndata:x:80:\n", 0, 0, 0,
      0, NULL },
    { "home/app/", S_IFDIR, NULL, 0, 50, 60, 0, NULL },
    { 0 },
};

TEST_HOST(users_and_groups_are_those_of_the_finished_root)
{
    HOST;
    static const struct {
        const char *user, *ids, *home;
    } cases[] = {
        { "", "0 0 0 10", "/root" },
        { "root", "0 0 0 10", "/root" },
        { "0", "0 0 0 10", "/root" },
        { "app", "50 60 60 10 70", "/home/app" },
        { "50", "50 60 60 10 70", "/home/app" },
        { "app:", "50 60 60 10 70", "/home/app" },
        { "app:data", "50 80 80", "/home/app" },
        { "app:81", "50 81 81", "/home/app" },
        { "50:60", "50 60 60", "/home/app" },
        { "77", "77 0 0", "/" },
        { "77:data", "77 80 80", "/" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make(h, arena_printf(&h->a, "{\"User\":\"%s\"}", cases[i].user), people, NULL);
        struct compute_spec s =
            spec_of(h, "[\"sh\",\"-c\",\"echo $(id -u) $(id -g) $(id -G); echo $HOME\"]");
        ensure(h, &s);
        await(h, &s.id, COMPUTE_EXITED);
        const char *want = arena_printf(&h->a, "1:%s\n1:%s\n", cases[i].ids, cases[i].home);
        const char *got = logs(h, &s.id, -1);
        if (strcmp(got, want) != 0)
            fail_msg("user '%s': '%s', not '%s'", cases[i].user, got, want);
    }
}

TEST_HOST(a_command_finds_the_home_of_its_user_or_the_one_that_is_said)
{
    HOST;
    make(h, "{\"User\":\"app\",\"Env\":[\"HOME=/image\"]}", people, NULL);
    struct compute_spec s = start(h, SLEEP);
    assert_string_equal(say(h, &s.id, "echo $HOME"), "/image\n");
    s = spec_of(h, SLEEP);
    s.env = "{\"HOME\":\"/own\"}";
    ensure(h, &s);
    assert_string_equal(say(h, &s.id, "echo $HOME"), "/own\n");
    make(h, "{\"User\":\"app\"}", people, NULL);
    s = start(h, SLEEP);
    assert_string_equal(say(h, &s.id, "echo $HOME; id -G"), "/home/app\n60 10 70\n");
}

TEST_HOST(a_user_of_a_layer_that_is_hidden_is_no_user)
{
    HOST;
    static const struct entry hidden[][3] = {
        { { "etc/.wh.passwd", S_IFREG, "", 0, 0, 0, 0, NULL } },
        { { "etc/.wh..wh..opq", S_IFREG, "", 0, 0, 0, 0, NULL } },
        { { ".wh.etc", S_IFREG, "", 0, 0, 0, 0, NULL } },
        { { "etc/passwd", S_IFREG, "root:x:0:0::/:/bin/sh\n", 0, 0, 0, 0, NULL } },
    };
    static const struct entry linked[] = {
        { "etc/.wh.passwd", S_IFREG, "", 0, 0, 0, 0, NULL },
        { "etc/passwd", S_IFLNK, "../usr/share/users", 0, 0, 0, 0, NULL },
        { "usr/share/users", S_IFREG, "app:x:51:61::/srv:/bin/sh\n", 0, 0, 0, 0, NULL },
        { 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
        make(h, "{\"User\":\"app\"}", people, hidden[i]);
        struct compute_spec s = spec_of(h, SLEEP);
        struct compute_state st = ensure(h, &s);
        assert_int_equal(st.status, COMPUTE_FAILED);
        assert_string_equal(st.reason, "user 'app' is not in the image");
    }
    make(h, "{\"User\":\"app\"}", people, linked);
    struct compute_spec s = start(h, SLEEP);
    assert_string_equal(say(h, &s.id, "id -u; id -g; echo $HOME"), "51\n61\n/srv\n");
}

TEST_HOST(a_working_folder_is_made_where_it_is_missing)
{
    HOST;
    static const struct {
        const char *said, *is, *owner;
    } cases[] = {
        { "/var/lib/app/data", "/var/lib/app/data", "0 0 755" },
        { "srv/rel", "/srv/rel", "0 0 755" },
        { "", "/", NULL },
        { "/home/app", "/home/app", "50 60 755" },
        { "/link/to", "/home/app/to", "0 0 755" },
    };
    static const struct entry link[] = {
        { "link", S_IFLNK, "/home/app", 0, 0, 0, 0, NULL },
        { 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make(h, arena_printf(&h->a, "{\"WorkingDir\":\"%s\"}", cases[i].said), people, link);
        struct compute_spec s = start(h, SLEEP);
        assert_string_equal(say(h, &s.id, "readlink -f ."),
                            arena_printf(&h->a, "%s\n", cases[i].is));
        if (cases[i].owner)
            assert_string_equal(say(h, &s.id, "stat -c '%u %g %a' ."),
                                arena_printf(&h->a, "%s\n", cases[i].owner));
    }
    make(h, "{\"WorkingDir\":\"/etc/passwd\"}", people, NULL);
    struct compute_spec s = spec_of(h, SLEEP);
    struct compute_state st = ensure(h, &s);
    assert_int_equal(st.status, COMPUTE_FAILED);
    assert_string_equal(st.reason, "the working directory '/etc/passwd' is no folder");
    make(h, "{\"WorkingDir\":\"etc/passwd/deep\"}", people, NULL);
    s = spec_of(h, SLEEP);
    assert_string_equal(ensure(h, &s).reason,
                        "the working directory '/etc/passwd/deep' is no folder");
}

TEST_HOST(an_image_that_leaves_no_place_for_mounts_is_not_said_to_have_a_bad_folder)
{
    HOST;
    static const struct entry one[] = {
        { "dev", S_IFREG, "x", 0, 0, 0, 0, NULL },
        { 0 },
    };

    make(h, "{\"WorkingDir\":\"/srv\"}", one, NULL);
    struct compute_spec s = spec_of(h, SLEEP);
    struct compute_state st = ensure(h, &s);
    assert_int_equal(st.status, COMPUTE_FAILED);
    assert_null(strstr(st.reason, "working directory"));
}

TEST_HOST(a_stop_is_said_by_the_signal_of_the_image)
{
    HOST;
    static const char cmd[] = "[\"sh\",\"-c\",\"trap 'exit 5' TERM; trap 'exit 42' USR1; "
                              "trap 'exit 43' 40; echo up; while :; do sleep 0.05; done\"]";
    static const struct {
        const char *said;
        int code;
    } cases[] = { { "SIGUSR1", 42 }, { "USR1", 42 }, { "10", 42 },
                  { "SIGTERM", 5 },  { "", 5 },      { "SIGRTMIN+6", 43 } };
    struct err e;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make(h, arena_printf(&h->a, "{\"StopSignal\":\"%s\"}", cases[i].said), people, NULL);
        struct compute_spec s = start(h, cmd);
        await_output(h, &s.id);
        if (i == 0) { /* it is known to the next agent too */
            compute_free(h->c);
            h->c = open_driver(h);
        }
        s.revision = ++h->revision;
        s.want = COMPUTE_WANT_STOPPED;
        struct compute_state st = ensure(h, &s);
        assert_int_equal(st.status, COMPUTE_STOPPED);
        assert_int_equal(st.exit_code, cases[i].code);
    }
    struct str layer = tar_of(h, people);
    assert_int_equal(try_import(h, &layer, 1, "{\"StopSignal\":\"SIGNONE\"}", &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_string_equal(e.msg, "the image's StopSignal 'SIGNONE' is no signal");
}

TEST_HOST(a_command_follows_the_entrypoint)
{
    HOST;
    static const struct {
        const char *config, *cmd, *want, *entrypoint;
    } cases[] = {
        { "{\"Entrypoint\":[\"echo\",\"a\"],\"Cmd\":[\"b\",\"c\"]}", NULL, "1:a b c\n" },
        { "{\"Entrypoint\":[\"echo\",\"a\"],\"Cmd\":[\"b\",\"c\"]}", "[\"d\"]", "1:a d\n" },
        { "{\"Entrypoint\":[\"echo\",\"a\"]}", NULL, "1:a\n" },
        { "{\"Entrypoint\":[\"false\"],\"Cmd\":[\"b\"]}", NULL, "1:own\n", "[\"echo\",\"own\"]" },
        { "{\"Entrypoint\":[\"false\"],\"Cmd\":[\"b\"]}", "[\"c\"]", "1:own c\n",
          "[\"echo\",\"own\"]" },
        { "{\"Cmd\":[\"echo\",\"b\"]}", NULL, "1:b\n" },
        { "{\"Cmd\":[\"echo\",\"b\"]}", "[\"echo\",\"d\"]", "1:d\n" },
        { "{\"Entrypoint\":null,\"Cmd\":null,\"Env\":null}", "[\"echo\",\"d\"]", "1:d\n" },
        { "null", "[\"echo\",\"d\"]", "1:d\n" },
        { "{\"Cmd\":[\"sh\",\"-c\",\"echo $PATH\"]}", NULL,
          "1:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" },
        { "{\"Env\":[\"PATH=/bin:/x\",\"A=1\",\"A=2\"],\"Cmd\":[\"sh\",\"-c\",\"echo $PATH $A\"]}",
          NULL, "1:/bin:/x 2\n" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make(h, cases[i].config, NULL, NULL);
        struct compute_spec s = spec_of(h, cases[i].cmd);
        s.entrypoint = cases[i].entrypoint;
        ensure(h, &s);
        await(h, &s.id, COMPUTE_EXITED);
        assert_string_equal(logs(h, &s.id, -1), cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HOST_TEST(a_folder_that_a_layer_does_not_name_stays_what_it_is),
        HOST_TEST(a_whiteout_hides_what_lies_below_and_nothing_beside_it),
        HOST_TEST(names_lead_through_what_lies_below),
        HOST_TEST(a_hard_link_to_what_is_hidden_is_refused),
        HOST_TEST(an_opaque_root_hides_all_that_lies_below),
        HOST_TEST(users_and_groups_are_those_of_the_finished_root),
        HOST_TEST(a_command_finds_the_home_of_its_user_or_the_one_that_is_said),
        HOST_TEST(a_user_of_a_layer_that_is_hidden_is_no_user),
        HOST_TEST(a_working_folder_is_made_where_it_is_missing),
        HOST_TEST(an_image_that_leaves_no_place_for_mounts_is_not_said_to_have_a_bad_folder),
        HOST_TEST(a_stop_is_said_by_the_signal_of_the_image),
        HOST_TEST(a_command_follows_the_entrypoint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

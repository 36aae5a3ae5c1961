/* SPDX-License-Identifier: Apache-2.0 */
#include "drivers/image/image.h"

#include <archive.h>
#include <archive_entry.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/id.h"
#include "codec/text.h"
#include "drivers/image/unpack.h"
#include "os/file.h"
#include "os/process.h"
#include "os/thread.h"

static char top[64];
static struct image_store *store;
static struct arena arena = ARENA((size_t)256 << 20);

/* ---- making archives ---- */

struct entry {
    const char *path;
    mode_t type; /* S_IFREG, S_IFDIR, S_IFLNK; 0: hard link */
    const char *text;
    unsigned mode;
    size_t note; /* bytes of an extended attribute; 0: it has none */
};

static la_ssize_t put(struct archive *a _unused_, void *ctx, const void *p, size_t n)
{
    buf_put(ctx, p, n);
    return (la_ssize_t)n;
}

static struct str make_tar(const struct entry *list, bool gzip)
{
    struct buf b = BUF(MIB(8));
    struct archive *a = archive_write_new();

    archive_write_set_format_pax_restricted(a);
    archive_write_set_bytes_in_last_block(a, 1);
    if (gzip)
        archive_write_add_filter_gzip(a);
    assert_int_equal(archive_write_open(a, &b, NULL, put, NULL), ARCHIVE_OK);
    for (; list->path; list++) {
        struct archive_entry *en = archive_entry_new();
        archive_entry_set_pathname(en, list->path);
        archive_entry_set_perm(en, list->mode ? list->mode : 0755);
        archive_entry_set_filetype(en, list->type ? list->type : S_IFREG);
        if (!list->type)
            archive_entry_set_hardlink(en, list->text);
        else if (list->type == S_IFLNK)
            archive_entry_set_symlink(en, list->text);
        else if (list->type == S_IFREG)
            archive_entry_set_size(en, (la_int64_t)strlen(list->text));
        if (list->note)
            archive_entry_xattr_add_entry(en, "user.note", arena_alloc(&arena, list->note),
                                          list->note);
        assert_int_equal(archive_write_header(a, en), ARCHIVE_OK);
        if (list->type == S_IFREG)
            archive_write_data(a, list->text, strlen(list->text));
        archive_entry_free(en);
    }
    archive_write_close(a);
    archive_write_free(a);
    struct str out = { arena_dup(&arena, b.p, b.n), b.n };
    buf_free(&b);
    return out;
}

static const char *digest(struct str s)
{
    char *out = arena_alloc(&arena, 80);
    uint8_t hash[32];

    sha256(s.p, s.n, hash);
    memcpy(out, "sha256:", 7);
    hex_encode(hash, sizeof(hash), out + 7);
    return out;
}

static const char *at(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const char *at(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    char *s = arena_vprintf(&arena, fmt, ap);
    va_end(ap);
    return s;
}

/* ---- an image of two layers ---- */

static const struct entry lower[] = {
    { "etc/", S_IFDIR, NULL, 0 },          { "etc/gone", S_IFREG, "old", 0644 },
    { "etc/kept", S_IFREG, "kept", 0644 }, { "dir/", S_IFDIR, NULL, 0 },
    { "dir/old", S_IFREG, "old", 0644 },   { "link", S_IFLNK, "etc/kept", 0 },
    { "hard", 0, "etc/kept", 0 },          { NULL, 0, NULL, 0 },
};
static const struct entry upper[] = {
    { "etc/.wh.gone", S_IFREG, "", 0644 },
    { "dir/", S_IFDIR, NULL, 0 },
    { "dir/.wh..wh..opq", S_IFREG, "", 0644 },
    { "dir/new", S_IFREG, "new", 04755 },
    { NULL, 0, NULL, 0 },
};

struct oci {
    struct str layer[2], config, manifest, index;
};

static struct oci make_oci(void)
{
    struct str plain = make_tar(upper, false);
    struct oci o = { .layer = { make_tar(lower, false), make_tar(upper, true) } };

    o.config = str_of(at("{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Entrypoint\":"
                         "[\"/bin/a\"],\"Cmd\":[\"b\"],\"Env\":[\"X=1\",\"Y=2\",\"X=3\"],"
                         "\"WorkingDir\":\"/srv\",\"User\":\"7\"},\"rootfs\":{\"type\":\"layers\","
                         "\"diff_ids\":[\"%s\",\"%s\"]}}",
                         digest(o.layer[0]), digest(plain)));
    o.manifest = str_of(at(
        "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
        "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\","
        "\"size\":%zu},\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\","
        "\"digest\":\"%s\",\"size\":%zu},{\"mediaType\":"
        "\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"%s\",\"size\":%zu}]}",
        digest(o.config), o.config.n, digest(o.layer[0]), o.layer[0].n, digest(o.layer[1]),
        o.layer[1].n));
    o.index = str_of(
        at("{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
           "\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"%s\",\"size\":%zu}]}",
           digest(o.manifest), o.manifest.n));
    return o;
}

static struct str oci_archive(const struct oci *o)
{
    const struct str *blobs[] = { &o->config, &o->manifest, &o->layer[0], &o->layer[1] };
    struct buf b = BUF(MIB(8));
    struct archive *a = archive_write_new();

    archive_write_set_format_ustar(a);
    archive_write_open(a, &b, NULL, put, NULL);
    for (size_t i = 0; i <= ARRAY_LEN(blobs); i++) {
        const struct str *s = i < ARRAY_LEN(blobs) ? blobs[i] : &o->index;
        struct archive_entry *en = archive_entry_new();
        archive_entry_set_pathname(en, s == &o->index ? "index.json"
                                                      : at("blobs/sha256/%s", digest(*s) + 7));
        archive_entry_set_perm(en, 0644);
        archive_entry_set_filetype(en, S_IFREG);
        archive_entry_set_size(en, (la_int64_t)s->n);
        archive_write_header(a, en);
        archive_write_data(a, s->p, s->n);
        archive_entry_free(en);
    }
    archive_write_close(a);
    archive_write_free(a);
    struct str out = { arena_dup(&arena, b.p, b.n), b.n };
    buf_free(&b);
    return out;
}

/* ---- asking the store ---- */

static ssize_t give(void *ctx, void *p, size_t n, struct err *e _unused_)
{
    struct str *s = ctx;

    n = n < s->n ? n : s->n;
    n = MIN(n, (size_t)1000);
    memcpy(p, s->p, n);
    s->p += n;
    s->n -= n;
    return (ssize_t)n;
}

static int import(const char *name, enum image_format f, const char *config, struct str bytes,
                  struct image_state *out, struct err *e)
{
    return image_import(store, &arena, name, f, config, give, &bytes, out, e);
}

static struct image_state wait_for(const char *name, int64_t patience)
{
    struct image_state st;
    struct err e;

    assert_int_equal(image_ensure(store, &arena, name, NULL, false, &st, &e), 0);
    for (int64_t t = 0; st.status == IMAGE_BUILDING && t < patience; t += MILLIS(5)) {
        usleep(5000);
        assert_int_equal(image_inspect(store, &arena, name, &st, &e), 0);
    }
    return st;
}

static const struct uuid user = { "0199aaaa-0000-7000-8000-000000000001" };

static size_t layers(const char *dig, const char *const **dirs)
{
    struct image_state config;
    struct err e;
    size_t n;

    if (image_local_layers(store, &arena, dig, &user, dirs, &n, &config, &e) < 0)
        fail_msg("%s", e.msg);
    return n;
}

static size_t files_in(const char *folder)
{
    const char *const argv[] = { "ls", "-A", at("%s/%s", top, folder), NULL };
    struct process_opts o = { .argv = argv };
    struct process_result r;
    struct err e;
    size_t n = 0;

    assert_int_equal(process_run(&arena, &o, &r, &e), 0);
    for (const char *p = r.out.p; *p; p++)
        n += *p == '\n';
    return n;
}

static const char *registries = "127.0.0.1,localhost:1";

static struct image_store *open_store(void)
{
    struct image_local_opts o = { .dir = at("%s/images", top),
                                  .cache_dir = at("%s/cache", top),
                                  .registries = registries };
    struct err e;
    struct image_store *s = image_local(&o, &e);

    if (!s)
        fail_msg("%s: %s", e.msg, e.cause);
    return s;
}

/* ---- the tests ---- */

static void busybox_is_there_within_a_second_and_runs(void **state _unused_)
{
    const char *const *dirs;
    struct process_result r;
    struct err e;
    int64_t start = clock_mono(clock_system());
    struct image_state st = wait_for("busybox", SECONDS(20));

    print_message("busybox: %lld ms\n", (long long)(clock_mono(clock_system()) - start) / 1000);
    assert_int_equal(st.status, IMAGE_READY);
    assert_string_equal(st.source, "recipe");
    assert_true(st.size_bytes > 100000);
    assert_int_equal(layers(st.digest, &dirs), 1);
    const char *const argv[] = { "chroot", dirs[0], "/bin/sh", "-c", "echo $((6*7)) | cat", NULL };
    struct process_opts o = { .argv = argv };
    assert_int_equal(process_check(&arena, &o, &r, &e), 0);
    assert_string_equal(r.out.p, "42\n");
    image_local_release(store, &user);
}

static void a_root_filesystem_is_imported_with_its_configuration(void **state _unused_)
{
    static const char config[] =
        "{\"cmd\":[\"/hard\"],\"env\":{\"A\":\"1\"},\"cwd\":\"/dir\",\"user\":\"5:6\"}";
    const char *const *dirs;
    struct image_state st;
    struct str text;
    struct err e;

    assert_int_equal(import("mine", IMAGE_ROOTFS_TAR, config, make_tar(lower, true), &st, &e), 0);
    assert_int_equal(st.status, IMAGE_READY);
    assert_string_equal(st.cmd, "[\"/hard\"]");
    assert_string_equal(st.env, "{\"A\":\"1\"}");
    assert_string_equal(st.cwd, "/dir");
    assert_string_equal(st.user, "5:6");
    assert_int_equal(layers(st.digest, &dirs), 1);
    if (file_read(&arena, at("%s/hard", dirs[0]), 100, &text, &e) < 0)
        fail_msg("%s: %s", e.msg, e.cause);
    assert_string_equal(text.p, "kept");
    image_local_release(store, &user);
    assert_int_equal(import("x", IMAGE_ROOTFS_TAR, "{\"cmd\":1}", make_tar(lower, false), &st, &e),
                     -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(import("busybox", IMAGE_ROOTFS_TAR, NULL, make_tar(lower, false), &st, &e),
                     -1);
    assert_int_equal(e.code, ERR_ALREADY_EXISTS);
}

static void check_two_layers(const struct image_state *st)
{
    const char *const *dirs;
    struct stat s;
    char value[4];

    assert_int_equal(st->status, IMAGE_READY);
    assert_string_equal(st->entrypoint, "[\"/bin/a\"]");
    assert_string_equal(st->cmd, "[\"b\"]");
    assert_string_equal(st->env, "{\"Y\":\"2\",\"X\":\"3\"}");
    assert_string_equal(st->cwd, "/srv");
    assert_string_equal(st->user, "7");
    assert_int_equal(layers(st->digest, &dirs), 2);
    /* Topmost first; whiteouts are overlayfs's. */
    assert_int_equal(lstat(at("%s/etc/gone", dirs[0]), &s), 0);
    assert_true(S_ISCHR(s.st_mode) && s.st_rdev == 0);
    assert_int_equal(lstat(at("%s/etc/.wh.gone", dirs[0]), &s), -1);
    assert_int_equal(getxattr(at("%s/dir", dirs[0]), "trusted.overlay.opaque", value, 4), 1);
    assert_int_equal(lstat(at("%s/dir/new", dirs[0]), &s), 0);
    assert_int_equal(s.st_mode & 07777, 04755);
    assert_int_equal(lstat(at("%s/etc/gone", dirs[1]), &s), 0);
    assert_true(S_ISREG(s.st_mode));
    image_local_release(store, &user);
}

static void an_oci_archive_is_imported_layer_by_layer(void **state _unused_)
{
    struct oci o = make_oci();
    struct image_state st;
    struct err e;

    if (import("app", IMAGE_OCI_ARCHIVE, NULL, oci_archive(&o), &st, &e) < 0)
        fail_msg("%s: %s", e.msg, e.cause);
    assert_string_equal(st.digest, digest(o.manifest));
    check_two_layers(&st);
}

static void what_docker_saved_is_imported(void **state _unused_)
{
    struct oci o = make_oci();
    struct str plain = make_tar(upper, false);
    struct entry list[] = {
        { "manifest.json", S_IFREG,
          "[{\"Config\":\"c.json\",\"RepoTags\":[\"a:b\"],\"Layers\":[\"1/layer.tar\","
          "\"2/layer.tar\"]}]",
          0644 },
        { "c.json", S_IFREG, o.config.p, 0644 },
        { NULL, 0, NULL, 0 },
    };
    struct image_state st;
    struct err e;
    const struct str l[2] = { o.layer[0], plain };
    struct buf b = BUF(MIB(8));
    struct archive *a = archive_write_new();

    archive_write_set_format_ustar(a);
    archive_write_open(a, &b, NULL, put, NULL);
    for (int i = 0; i < 4; i++) {
        struct str s = i < 2 ? str_of(list[i].text) : l[i - 2];
        struct archive_entry *en = archive_entry_new();
        archive_entry_set_pathname(en, i < 2 ? list[i].path : at("%d/layer.tar", i - 1));
        archive_entry_set_perm(en, 0644);
        archive_entry_set_filetype(en, S_IFREG);
        archive_entry_set_size(en, (la_int64_t)s.n);
        archive_write_header(a, en);
        archive_write_data(a, s.p, s.n);
        archive_entry_free(en);
    }
    archive_write_close(a);
    archive_write_free(a);
    int r = import("saved", IMAGE_OCI_ARCHIVE, NULL, buf_str(&b), &st, &e);
    buf_free(&b);
    if (r < 0)
        fail_msg("%s: %s", e.msg, e.cause);
    check_two_layers(&st);
}

static void an_attribute_that_cannot_be_kept_is_an_error(void **state _unused_)
{
    const struct entry good[] = { { "a", S_IFREG, "x", 0644, .note = 100 }, { 0 } };
    const struct entry bad[] = { { "a", S_IFREG, "x", 0644, .note = 100 },
                                 { "b", S_IFREG, "x", 0644, .note = XATTR_SIZE_MAX + 1 },
                                 { 0 } };
    struct image_state st;
    struct err e;

    assert_int_equal(import("noted", IMAGE_ROOTFS_TAR, NULL, make_tar(good, false), &st, &e), 0);
    assert_int_equal(image_remove(store, "noted", &e), 0);
    assert_int_equal(import("noted", IMAGE_ROOTFS_TAR, NULL, make_tar(bad, false), &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
}

static void a_blob_that_is_not_what_it_says_is_refused(void **state _unused_)
{
    struct oci o = make_oci();
    struct str archive = oci_archive(&o);
    struct image_state st;
    struct err e;
    size_t before = files_in("images/layers");

    char *p = memmem(archive.p, archive.n, "\"Entrypoint\"", 12);
    assert_non_null(p);
    p[1] = 'F';
    assert_int_equal(import("bad", IMAGE_OCI_ARCHIVE, NULL, archive, &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.msg, "digest"));
    assert_int_equal(import("bad", IMAGE_OCI_ARCHIVE, NULL, STR("garbage"), &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(import("bad", IMAGE_OCI_ARCHIVE, NULL, STR(""), &st, &e), -1);
    assert_int_equal(import("bad", IMAGE_OCI_ARCHIVE, NULL, make_tar(lower, false), &st, &e), -1);
    struct str cut = oci_archive(&o);
    cut.n = cut.n / 2;
    assert_int_equal(import("bad", IMAGE_OCI_ARCHIVE, NULL, cut, &st, &e), -1);
    assert_int_equal(files_in("images/tmp"), 0);
    assert_int_equal(files_in("images/layers"), before);
    assert_int_equal(image_inspect(store, &arena, "bad", &st, &e), 0);
    assert_int_equal(st.status, IMAGE_ABSENT);
}

/* Documents of strangers do not run into the limit of the caller's arena, behind which is the end
 * of the agent. */
static void an_index_of_long_documents_is_refused_and_costs_no_more(void **state _unused_)
{
    struct arena small = ARENA(MIB(2));
    char *long_text = arena_alloc(&arena, MIB(3) + 1);
    struct entry list[6] = { 0 };
    struct buf index = BUF(MIB(1));
    struct image_state st;
    struct err e = { 0 };

    for (size_t i = 0; i < 2; i++) {
        memset(long_text, ' ', MIB(3));
        long_text[0] = '{';
        long_text[MIB(3) - 1] = '}';
        long_text[1 + i] = '\n';
        char *doc = arena_strdup(&arena, long_text);
        const char *name = digest(str_of(doc));
        list[i] = (struct entry){ at("blobs/sha256/%s", name + 7), S_IFREG, doc, 0644 };
        buf_printf(&index, "%s{\"digest\":\"%s\"}", i ? "," : "{\"manifests\":[", name);
    }
    buf_puts(&index, "]}");
    list[2] = (struct entry){ "index.json", S_IFREG, buf_cstr(&index), 0644 };
    struct str tar = make_tar(list, false);
    assert_int_equal(
        image_import(store, &small, "long", IMAGE_OCI_ARCHIVE, NULL, give, &tar, &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    buf_free(&index);
    arena_free(&small);
}

static void a_fifo_in_an_archive_holds_up_nobody(void **state _unused_)
{
    struct entry list[2] = { { "index.json", S_IFIFO, "", 0644 } };
    struct arena small = ARENA(MIB(2));
    struct str tar = make_tar(list, false);
    struct image_state st;
    struct err e = { 0 };

    alarm(60); /* a wait for its writer would have no end */
    assert_int_equal(
        image_import(store, &small, "fifo", IMAGE_OCI_ARCHIVE, NULL, give, &tar, &st, &e), -1);
    alarm(0);
    assert_int_equal(e.code, ERR_INVALID);
    arena_free(&small);
}

static struct str endless_left;
static ssize_t give_endless(void *ctx, void *p, size_t n, struct err *e)
{
    return endless_left.n ? give(&endless_left, p, n, e) : give(ctx, p, n, e);
}

/* They count as content does: a few kilobytes may stand for terabytes of them. */
static void zeros_behind_an_archive_come_to_an_end(void **state _unused_)
{
    struct str zeros = { arena_alloc(&arena, MIB(100)), MIB(100) };
    struct unpack_counts most = unpack_most;
    struct unpack_opts o = { .read = give_endless, .ctx = &zeros, .most = &most };
    struct unpack_result r;
    struct err e = { 0 };

    most.read = MIB(50);
    assert_int_equal(mkdir(at("%s/zeros", top), 0755), 0);
    _cleanup_close_ int fd = open(at("%s/zeros", top), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    endless_left = make_tar(lower, false);
    assert_int_equal(unpack_tar(fd, &o, &r, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_true(zeros.n > 0);
}

/* Of several archives, one on the other, each of which keeps to the bound. */
static int unpack_bounded(const struct unpack_counts *most, const struct entry *const *list,
                          struct err *e)
{
    struct unpack_counts counts = { 0 };
    int fds[4] = { -1, -1, -1, -1 }, rc = 0;
    size_t n = 0;

    for (; rc == 0 && list[n]; n++) {
        struct str tar = make_tar(list[n], false);
        const char *dir = at("%s/bounded-%zu", top, n);
        struct unpack_result r;
        assert_int_equal(mkdir(dir, 0755), 0);
        fds[n] = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct unpack_opts o = { .read = give,
                                 .ctx = &tar,
                                 .layer = true,
                                 .most = most,
                                 .counts = &counts,
                                 .below = { &fds[n - (n > 0)], n > 0 } };
        rc = unpack_tar(fds[n], &o, &r, e);
    }
    while (n-- > 0) {
        struct err ignored;
        close(fds[n]);
        assert_int_equal(dir_remove(at("%s/bounded-%zu", top, n), &ignored), 0);
    }
    return rc;
}

static void the_layers_of_an_image_keep_to_its_bounds_together(void **state _unused_)
{
    static const struct entry five[] = { { "a", S_IFREG, "12345", 0 },
                                         { "b", S_IFREG, "12345", 0 },
                                         { NULL, 0, NULL, 0 } };
    static const struct entry deep[] = { { "x/y/z/f", S_IFREG, "12345", 0 }, { NULL, 0, NULL, 0 } };
    static const struct entry links[] = { { "c", 0, "a", 0 },
                                          { "d", 0, "b", 0 },
                                          { NULL, 0, NULL, 0 } };
    static const struct entry steps[] = { { "x/y/z/", S_IFDIR, NULL, 0 },
                                          { "x/l", S_IFLNK, "y/../y/../y/../y", 0 },
                                          { "x/l/f", S_IFREG, "", 0 },
                                          { "h", 0, "x/l/f", 0 },
                                          { NULL, 0, NULL, 0 } };
    static const struct {
        const struct entry *list[4];
        struct unpack_counts least; /* what does not count has no bound */
    } cases[] = {
        { { five, five }, { .bytes = 20 } },
        { { five, links }, { .bytes = 20 } },
        { { five, five, five }, { .entries = 6 } },
        { { deep, five }, { .entries = 6 } },
        { { five, links }, { .entries = 6 } },
        { { five, links }, { .copies = 2 } },
        /* six parts of names, and those of each folder twice in what lies below */
        { { deep, deep }, { .steps = 18 } },
        { { steps }, { .steps = 12 } },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct unpack_counts most = unpack_most;
        int64_t *bounds[] = { &most.bytes, &most.entries, &most.copies, &most.steps };
        const int64_t least[] = { cases[i].least.bytes, cases[i].least.entries,
                                  cases[i].least.copies, cases[i].least.steps };
        struct err e = { 0 };
        for (size_t k = 0; k < ARRAY_LEN(least); k++)
            *bounds[k] = least[k] ? least[k] : *bounds[k];
        if (unpack_bounded(&most, cases[i].list, &e) < 0)
            fail_msg("%zu: %s", i, e.msg);
        for (size_t k = 0; k < ARRAY_LEN(least); k++)
            *bounds[k] -= least[k] ? 1 : 0;
        if (unpack_bounded(&most, cases[i].list, &e) == 0)
            fail_msg("%zu keeps to less", i);
        assert_int_equal(e.code, ERR_TOO_LARGE);
        assert_non_null(strstr(e.msg, "the image "));
    }
}

static void a_layer_that_cannot_be_looked_at_is_not_one_that_lacks_the_file(void **state _unused_)
{
    const char *dir = at("%s/below", top);
    struct rlimit was, none;
    struct stat st;
    int64_t looked = 0;
    struct err e;
    int fd;

    assert_int_equal(dir_make(at("%s/a", dir), 0755, &e), 0);
    _cleanup_close_ int layer = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct below b = { &layer, 1 };
    assert_int_equal(below_open(&b, "a", &fd, &st, &looked, &e), 0);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(below_open(&b, "b", &fd, &st, &looked, &e), 0);
    assert_int_equal(fd, -1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = (struct rlimit){ 3, was.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = below_open(&b, "a", &fd, &st, &looked, &e);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(rc, -1);
    assert_int_equal(fd, -1);
}

static void no_archive_leads_out_of_its_folder(void **state _unused_)
{
    const char *outside = at("%s/outside", top);
    const struct entry escapes[][4] = {
        { { "../escaped", S_IFREG, "x", 0644 }, { NULL, 0, NULL, 0 } },
        { { "a/../../escaped", S_IFREG, "x", 0644 }, { NULL, 0, NULL, 0 } },
        { { "h", 0, "../../../../etc/passwd", 0 }, { NULL, 0, NULL, 0 } },
        { { "l", S_IFLNK, "/etc", 0 }, { "h", 0, "l/passwd", 0 }, { NULL, 0, NULL, 0 } },
        { { "f", S_IFREG, "x", 0644 }, { "f/g", S_IFREG, "x", 0644 }, { NULL, 0, NULL, 0 } },
    };
    const struct entry through[] = {
        { "d", S_IFLNK, outside, 0 },
        { "d/file", S_IFREG, "x", 0644 },
        { "/absolute", S_IFREG, "x", 0644 },
        { NULL, 0, NULL, 0 },
    };
    struct image_state st;
    struct err e;

    for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
        assert_int_equal(
            import("evil", IMAGE_ROOTFS_TAR, NULL, make_tar(escapes[i], false), &st, &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
    }
    assert_int_equal(mkdir(outside, 0755), 0);
    /* A link that leads out leads nowhere inside: the folder is looked for below the root. */
    int r = import("evil", IMAGE_ROOTFS_TAR, NULL, make_tar(through, false), &st, &e);
    assert_true(r == 0 || e.code == ERR_INVALID);
    assert_int_equal(access(at("%s/file", outside), F_OK), -1);
    assert_int_equal(access("/absolute", F_OK), -1);
    assert_int_equal(rmdir(outside), 0);
    assert_int_equal(image_remove(store, "evil", &e), 0);
}

static void what_is_held_stays_until_it_is_released(void **state _unused_)
{
    const char *const *dirs;
    struct image_state st, again;
    struct err e;
    size_t before = files_in("images/layers");
    static const struct entry own[] = { { "own", S_IFREG, "own", 0644 }, { NULL, 0, NULL, 0 } };

    assert_int_equal(import("held", IMAGE_ROOTFS_TAR, NULL, make_tar(own, false), &st, &e), 0);
    assert_int_equal(layers(st.digest, &dirs), 1);
    assert_int_equal(image_remove(store, "held", &e), 0);
    assert_int_equal(image_inspect(store, &arena, "held", &again, &e), 0);
    assert_int_equal(again.status, IMAGE_ABSENT);
    assert_int_equal(access(dirs[0], F_OK), 0);
    /* Also over a restart, which sweeps what was half made. */
    assert_int_equal(mkdir(at("%s/images/layers/.new-killed", top), 0755), 0);
    image_free(store);
    store = open_store();
    assert_int_equal(access(dirs[0], F_OK), 0);
    assert_int_equal(files_in("images/layers"), before + 1);
    image_local_release(store, &user);
    assert_int_equal(access(dirs[0], F_OK), -1);
    assert_int_equal(files_in("images/layers"), before);
    assert_int_equal(image_inspect(store, &arena, "busybox", &again, &e), 0);
    assert_int_equal(again.status, IMAGE_READY);
    /* What got out of the way is removed where nobody waits for it. */
    for (int i = 0; i < 1000 && files_in("images/tmp"); i++)
        usleep(5000);
    assert_int_equal(files_in("images/tmp"), 0);
}

static int image_threads(void)
{
    struct dirent *f;
    struct str name;
    struct err e;
    int n = 0;
    DIR *d = opendir("/proc/self/task");

    assert_non_null(d);
    while ((f = readdir(d)))
        n += file_read(&arena, at("/proc/self/task/%s/comm", f->d_name), 64, &name, &e) == 0 &&
             strncmp(name.p, "image-", 6) == 0;
    closedir(d);
    return n;
}

/* Others have work for the threads; and what is left at the end is for the next start. */
static void one_thread_removes_what_was_set_aside(void **state _unused_)
{
    struct err e;

    image_free(store);
    for (int i = 0; i < 4000; i++) {
        assert_int_equal(mkdir(at("%s/images/tmp/.gone-%d", top, i), 0755), 0);
        assert_int_equal(mkdir(at("%s/images/tmp/.gone-%d/in", top, i), 0755), 0);
    }
    store = open_store();
    for (int i = 0; i < 20; i++)
        assert_int_equal(image_remove(store, "of-no-name", &e), 0);
    assert_true(image_threads() <= 2); /* a second may begin where the first has just done all */
    image_free(store);
    assert_true(files_in("images/tmp") > 0);
    store = open_store();
    for (int i = 0; i < 2000 && files_in("images/tmp"); i++)
        usleep(5000);
    assert_int_equal(files_in("images/tmp"), 0);
}

/* Its end is the last that is asked for: all that follows is the store's own work. */
static ssize_t give_and_remove(void *ctx, void *p, size_t n, struct err *e)
{
    ssize_t r = give(ctx, p, n, e);
    struct image_state st;
    struct err why;

    if (r == 0) {
        assert_int_equal(image_inspect(store, &arena, "late", &st, &why), 0);
        assert_int_equal(st.status, IMAGE_BUILDING);
        assert_string_equal(st.source, "import");
        assert_int_equal(image_remove(store, "late", &why), -1);
        assert_int_equal(why.code, ERR_INVALID_STATE);
    }
    return r;
}

static void an_import_that_nobody_waits_for_leaves_nothing(void **state _unused_)
{
    static const struct entry own[] = { { "late", S_IFREG, "late", 0644 }, { NULL, 0, NULL, 0 } };
    struct oci o = make_oci();
    const struct str bytes[] = { make_tar(own, false), oci_archive(&o) };
    struct image_state st;
    struct err e, again;
    size_t before = files_in("images/layers"), names = files_in("images/names");

    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        struct str left = bytes[i];
        assert_int_equal(image_import(store, &arena, "late",
                                      i == 0 ? IMAGE_ROOTFS_TAR : IMAGE_OCI_ARCHIVE, NULL,
                                      give_and_remove, &left, &st, &e),
                         -1);
        assert_int_equal(e.code, ERR_INVALID_STATE);
        assert_int_equal(image_inspect(store, &arena, "late", &st, &e), 0);
        assert_int_equal(st.status, IMAGE_ABSENT);
        assert_int_equal(files_in("images/layers"), before);
        assert_int_equal(files_in("images/names"), names);
        assert_int_equal(image_remove(store, "late", &again), 0);
    }
    /* The name is free for another try. */
    assert_int_equal(import("late", IMAGE_ROOTFS_TAR, NULL, bytes[0], &st, &e), 0);
    assert_int_equal(image_remove(store, "late", &e), 0);
}

static ssize_t give_and_remove_another(void *ctx, void *p, size_t n, struct err *e)
{
    size_t had = files_in("images/layers");
    struct err why;

    if (image_remove(store, "another", &why) == 0 && files_in("images/layers") == had - 1)
        *(bool *)ctx = true;
    return give(&endless_left, p, n, e);
}

static void what_takes_long_to_make_does_not_hold_up_collecting(void **state _unused_)
{
    static const struct entry other[] = { { "other", S_IFREG, "o", 0644 }, { NULL, 0, NULL, 0 } };
    static const struct entry own[] = { { "long", S_IFREG, "long", 0644 }, { NULL, 0, NULL, 0 } };
    struct image_state st;
    bool gone = false;
    struct err e;

    assert_int_equal(import("another", IMAGE_ROOTFS_TAR, NULL, make_tar(other, false), &st, &e), 0);
    endless_left = make_tar(own, false);
    assert_int_equal(image_import(store, &arena, "long", IMAGE_ROOTFS_TAR, NULL,
                                  give_and_remove_another, &gone, &st, &e),
                     0);
    assert_true(gone);
    assert_int_equal(image_remove(store, "long", &e), 0);
}

/* What is in use is not known then. */
static void nothing_is_collected_while_a_record_cannot_be_read(void **state _unused_)
{
    static const struct entry own[] = { { "kept", S_IFREG, "k", 0644 }, { NULL, 0, NULL, 0 } };
    const char *names = at("%s/images/names", top), *away = at("%s/images/away", top);
    struct image_state st;
    struct err e;

    assert_int_equal(import("kept", IMAGE_ROOTFS_TAR, NULL, make_tar(own, false), &st, &e), 0);
    size_t had = files_in("images/layers");
    assert_int_equal(rename(names, away), 0);
    assert_int_equal(image_remove(store, "of-no-name", &e), 0);
    assert_int_equal(rename(away, names), 0);
    assert_int_equal(files_in("images/layers"), had);
    const char *record = at("%s/images/names/record", top);
    assert_int_equal(symlink(record, record), 0);
    assert_int_equal(image_remove(store, "kept", &e), 0);
    assert_int_equal(files_in("images/layers"), had);
    assert_int_equal(unlink(record), 0);
    int fd = open(record, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd); /* one that makes no sense keeps nothing */
    assert_int_equal(image_remove(store, "kept", &e), 0);
    assert_int_equal(files_in("images/layers"), had - 1);
    assert_int_equal(unlink(record), 0);
}

static void *collect_all_the_time(void *stop)
{
    struct err e;

    /* Who takes a lock again at once leaves it to nobody. */
    for (; !atomic_load((atomic_bool *)stop); usleep(100))
        if (image_remove(store, "of-no-name", &e) < 0)
            return stop;
    return NULL;
}

static void collecting_takes_nothing_of_what_is_being_made(void **state _unused_)
{
    struct oci o = make_oci();
    struct str archive = oci_archive(&o);
    atomic_bool stop = false;
    struct image_state st;
    void *failed;
    struct err e;

    for (const char *const *one = (const char *const[]){ "app", "saved", NULL }; *one; one++)
        assert_int_equal(image_remove(store, *one, &e), 0);
    pthread_t thread = thread_start("collect", collect_all_the_time, &stop);
    for (int i = 0; i < 30; i++) {
        if (import("made", IMAGE_OCI_ARCHIVE, NULL, archive, &st, &e) < 0)
            fail_msg("%s: %s", e.msg, e.cause);
        check_two_layers(&st);
        assert_int_equal(image_remove(store, "made", &e), 0);
    }
    atomic_store(&stop, true);
    pthread_join(thread, &failed);
    assert_null(failed);
}

static void a_full_disk_is_told_of_and_nothing_of_an_image_stays(void **state _unused_)
{
    static char much[2 << 20];
    const struct entry files[] = { { "much", S_IFREG, much, 0644 }, { NULL, 0, NULL, 0 } };
    struct image_state st;
    struct err e;

    memset(much, 'x', sizeof(much) - 1);
    struct str tar = make_tar(files, false);
    image_free(store);
    assert_int_equal(mount("small", at("%s/images", top), "tmpfs", 0, "size=1m"), 0);
    store = open_store();
    assert_int_equal(import("full", IMAGE_ROOTFS_TAR, NULL, tar, &st, &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_string_equal(e.msg, "the host's disk is full");
    assert_int_equal(files_in("images/layers"), 0);
    assert_int_equal(files_in("images/tmp"), 0);
    assert_int_equal(import("full", IMAGE_OCI_ARCHIVE, NULL, tar, &st, &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_int_equal(files_in("images/tmp"), 0);
    image_free(store);
    assert_int_equal(umount(at("%s/images", top)), 0);
    store = open_store();
}

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

static int set_up(void **state _unused_)
{
    snprintf(top, sizeof(top), "/var/tmp/brume-image-XXXXXX");
    if (!mkdtemp(top))
        return -1;
    store = open_store();
    return 0;
}

static int tear_down(void **state _unused_)
{
    struct err e;

    image_free(store);
    int r = dir_remove(top, &e);
    arena_free(&arena);
    return r;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(busybox_is_there_within_a_second_and_runs),
        cmocka_unit_test(a_root_filesystem_is_imported_with_its_configuration),
        cmocka_unit_test(an_oci_archive_is_imported_layer_by_layer),
        cmocka_unit_test(what_docker_saved_is_imported),
        cmocka_unit_test(an_attribute_that_cannot_be_kept_is_an_error),
        cmocka_unit_test(a_blob_that_is_not_what_it_says_is_refused),
        cmocka_unit_test(an_index_of_long_documents_is_refused_and_costs_no_more),
        cmocka_unit_test(a_fifo_in_an_archive_holds_up_nobody),
        cmocka_unit_test(zeros_behind_an_archive_come_to_an_end),
        cmocka_unit_test(the_layers_of_an_image_keep_to_its_bounds_together),
        cmocka_unit_test(a_layer_that_cannot_be_looked_at_is_not_one_that_lacks_the_file),
        cmocka_unit_test(no_archive_leads_out_of_its_folder),
        cmocka_unit_test(what_is_held_stays_until_it_is_released),
        cmocka_unit_test(one_thread_removes_what_was_set_aside),
        cmocka_unit_test(an_import_that_nobody_waits_for_leaves_nothing),
        cmocka_unit_test(what_takes_long_to_make_does_not_hold_up_collecting),
        cmocka_unit_test(nothing_is_collected_while_a_record_cannot_be_read),
        cmocka_unit_test(collecting_takes_nothing_of_what_is_being_made),
        cmocka_unit_test(a_full_disk_is_told_of_and_nothing_of_an_image_stays),
        cmocka_unit_test_teardown(an_image_is_pulled_from_a_registry, registry_stop),
        cmocka_unit_test(an_internal_registry_is_refused_unless_it_is_listed),
        cmocka_unit_test_teardown(a_registry_cannot_send_us_to_internal_addresses, registry_stop),
        cmocka_unit_test_teardown(slow_registries_of_one_do_not_hold_up_another, registry_stop),
        cmocka_unit_test(a_registry_that_is_away_is_told_of_in_words),
        cmocka_unit_test(nginx_is_built_from_debian_packages),
        cmocka_unit_test(the_fake_has_every_recipe_and_says_what_it_has_not),
    };

    if (geteuid() != 0) {
        printf("needs root\n");
        return 77;
    }
    log_init(LOG_ERROR, false, "test");
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

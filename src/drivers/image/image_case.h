/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of the image store share: archives made in memory, a store in a folder of its own.
 */

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

static _unused_ struct str make_tar(const struct entry *list, bool gzip)
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

static _unused_ struct oci make_oci(void)
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

static _unused_ struct str oci_archive(const struct oci *o)
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

static _unused_ ssize_t give(void *ctx, void *p, size_t n, struct err *e _unused_)
{
    struct str *s = ctx;

    n = n < s->n ? n : s->n;
    n = MIN(n, (size_t)1000);
    memcpy(p, s->p, n);
    s->p += n;
    s->n -= n;
    return (ssize_t)n;
}

static _unused_ int import(const char *name, enum image_format f, const char *config,
                           struct str bytes, struct image_state *out, struct err *e)
{
    return image_import(store, &arena, name, f, config, give, &bytes, out, e);
}

static _unused_ struct image_state wait_for(const char *name, int64_t patience)
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

static _unused_ size_t layers(const char *dig, const char *const **dirs)
{
    struct image_state config;
    struct err e;
    size_t n;

    if (image_local_layers(store, &arena, dig, &user, dirs, &n, &config, &e) < 0)
        fail_msg("%s", e.msg);
    return n;
}

static _unused_ size_t files_in(const char *folder)
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

static _unused_ struct image_store *open_store(void)
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

static _unused_ void check_two_layers(const struct image_state *st)
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

static _unused_ int set_up(void **state _unused_)
{
    snprintf(top, sizeof(top), "/var/tmp/brume-image-XXXXXX");
    if (!mkdtemp(top))
        return -1;
    store = open_store();
    return 0;
}

static _unused_ int tear_down(void **state _unused_)
{
    struct err e;

    image_free(store);
    int r = dir_remove(top, &e);
    arena_free(&arena);
    return r;
}

static _unused_ int run_cases(const struct CMUnitTest *tests, size_t n)
{
    if (geteuid() != 0) {
        printf("needs root\n");
        return 77;
    }
    log_init(LOG_ERROR, false, "test");
    return _cmocka_run_group_tests("image", tests, n, set_up, tear_down);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What comes into the store, and what it refuses. */
#include "drivers/image/image_case.h"

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
    };

    return run_cases(tests, ARRAY_LEN(tests));
}

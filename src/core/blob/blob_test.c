/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

#include "codec/id.h"
#include "core/blob/blob.h"
#include "os/file.h"

struct place {
    char dir[64], blobs[80];
    struct blobs *b;
    struct err e;
};

static int place_open(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    snprintf(p->dir, sizeof(p->dir), "/var/tmp/blobs-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->blobs, sizeof(p->blobs), "%s/blobs", p->dir);
    p->b = blobs_new(p->blobs, clock_system(), &p->e);
    assert_non_null(p->b);
    *state = p;
    return 0;
}

static int place_close(void **state)
{
    struct place *p = *state;

    blobs_free(p->b);
    assert_int_equal(dir_remove(p->dir, &p->e), 0);
    free(p);
    return 0;
}

/* As a process that starts anew finds it. */
static void again(struct place *p)
{
    blobs_free(p->b);
    p->b = blobs_new(p->blobs, clock_system(), &p->e);
    assert_non_null(p->b);
}

static struct blob_new *begun(struct place *p, const char *text)
{
    struct blob_new *n = blob_begin(p->b, BLOB_SHA256 | BLOB_MD5, &p->e);

    assert_non_null(n);
    assert_int_equal(blob_append(n, text, strlen(text), &p->e), 0);
    return n;
}

static struct uuid linked(struct place *p, const char *text)
{
    _cleanup_(blob_new_freep) struct blob_new *n = begun(p, text);
    struct blob_sums sums;
    struct uuid id;

    assert_int_equal(blob_link(n, &id, &sums, &p->e), 0);
    return id;
}

static bool holds(struct place *p, const struct uuid *id, const char *text)
{
    _cleanup_close_ int fd = blob_fd(p->b, id, &p->e);
    char got[100];

    if (fd < 0) {
        assert_int_equal(p->e.code, ERR_NOT_FOUND);
        return false;
    }
    ssize_t n = read(fd, got, sizeof(got));
    assert_true(n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0);
    return true;
}

static int files_in(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    int n = 0;

    assert_non_null(d);
    while ((entry = readdir(d)))
        n += entry->d_name[0] != '.';
    closedir(d);
    return n;
}

static int fresh(struct place *p)
{
    char dir[100];

    snprintf(dir, sizeof(dir), "%s/new", p->blobs);
    return files_in(dir);
}

/* What there is a row of. */
static struct uuid rows[10];
static size_t n_rows;

static int wanted(void *ctx _unused_, const struct uuid *id, struct err *e _unused_)
{
    for (size_t i = 0; i < n_rows; i++)
        if (uuid_eq(&rows[i], id))
            return 1;
    return 0;
}

static int unknown(void *ctx _unused_, const struct uuid *id _unused_, struct err *e)
{
    return err_set(e, ERR_INTERNAL, "the store does not answer");
}

static int settle(struct place *p)
{
    return blobs_settle(p->b, 100, wanted, NULL, &p->e);
}

static void sums_are_taken_as_the_bytes_come(void **state)
{
    struct place *p = *state;
    _cleanup_(blob_new_freep) struct blob_new *n = begun(p, "a");
    struct blob_sums sums;
    struct uuid id, other;
    char got[4];

    assert_int_equal(blob_append(n, "bc", 2, &p->e), 0);
    assert_int_equal(blob_size(n), 3);
    assert_int_equal(blob_read(n, got, sizeof(got), 1, &p->e), 2);
    assert_memory_equal(got, "bc", 2);
    assert_int_equal(blob_link(n, &id, &sums, &p->e), 0);
    assert_string_equal(sums.sha256,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(sums.md5, "900150983cd24fb0d6963f7d28e17f72");
    assert_true(holds(p, &id, "abc"));
    assert_int_equal(blob_link(n, &other, &sums, &p->e), -1);
}

static void what_was_not_linked_was_never_there(void **state)
{
    struct place *p = *state;

    blob_new_free(begun(p, "abc"));
    assert_int_equal(fresh(p), 0);
    assert_int_equal(files_in(p->blobs), 1); /* new/ */
}

static void a_kill_before_the_row_leaves_nothing(void **state)
{
    struct place *p = *state;
    struct uuid id = linked(p, "abc");

    again(p);
    n_rows = 0;
    assert_true(holds(p, &id, "abc"));
    assert_int_equal(settle(p), 1);
    assert_false(holds(p, &id, "abc"));
    assert_int_equal(fresh(p), 0);
}

static void a_kill_after_the_row_loses_nothing(void **state)
{
    struct place *p = *state;
    struct uuid id = linked(p, "abc");

    again(p);
    rows[0] = id;
    n_rows = 1;
    assert_int_equal(settle(p), 1);
    assert_int_equal(fresh(p), 0);
    assert_true(holds(p, &id, "abc"));
    char path[200];
    snprintf(path, sizeof(path), "%s/%.2s/%.2s/%s", p->blobs, id.s + 32, id.s + 34, id.s);
    assert_int_equal(access(path, R_OK), 0);
    /* A store from before it was made knows nothing of it, and it stays. */
    n_rows = 0;
    assert_int_equal(settle(p), 0);
    assert_true(holds(p, &id, "abc"));
    assert_int_equal(blob_unlink(p->b, &id, &p->e), 0);
    assert_int_equal(blob_unlink(p->b, &id, &p->e), 0);
    assert_false(holds(p, &id, "abc"));
}

static void who_still_holds_it_is_not_settled(void **state)
{
    struct place *p = *state;
    struct blob_new *n = begun(p, "abc");
    _cleanup_(blobs_freep) struct blobs *other = blobs_new(p->blobs, clock_system(), &p->e);
    struct blob_sums sums;
    struct uuid id;

    n_rows = 0;
    assert_int_equal(blob_link(n, &id, &sums, &p->e), 0);
    assert_int_equal(blobs_settle(other, 100, wanted, NULL, &p->e), 1);
    assert_true(holds(p, &id, "abc"));
    assert_true(blobs_moved(p->b)); /* at the start */
    assert_false(blobs_moved(p->b));
    rows[n_rows++] = id;
    blob_new_free(n);
    assert_true(blobs_moved(p->b));
    assert_int_equal(blobs_settle(other, 100, wanted, NULL, &p->e), 1);
    assert_true(holds(p, &id, "abc"));
    assert_int_equal(fresh(p), 0);
}

static void without_an_answer_all_stays(void **state)
{
    struct place *p = *state;
    struct uuid id = linked(p, "abc");

    assert_int_equal(blobs_settle(p->b, 100, unknown, NULL, &p->e), -1);
    assert_true(holds(p, &id, "abc"));
}

/* ---- many at once: makers keep every second one, two settle, and readers find what was kept */

enum { MAKERS = 4, EACH = 60 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct uuid kept[MAKERS * EACH];
static size_t n_kept;
static bool over;

static int is_kept(void *ctx _unused_, const struct uuid *id, struct err *e _unused_)
{
    int found = 0;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n_kept && !found; i++)
        found = uuid_eq(&kept[i], id);
    pthread_mutex_unlock(&lock);
    return found;
}

static void *make(void *arg)
{
    struct place *p = arg;

    for (int i = 0; i < EACH; i++) {
        struct blob_new *n;
        struct blob_sums sums;
        struct uuid id;
        struct err e;

        if (!(n = blob_begin(p->b, 0, &e)) || blob_append(n, "abc", 3, &e) < 0 ||
            blob_link(n, &id, &sums, &e) < 0)
            abort();
        pthread_mutex_lock(&lock);
        if (i % 2)
            kept[n_kept++] = id;
        pthread_mutex_unlock(&lock);
        blob_new_free(n);
    }
    return NULL;
}

static void *settle_on(void *arg)
{
    struct place *p = arg;
    struct err e;
    bool last;

    do {
        pthread_mutex_lock(&lock);
        last = over;
        pthread_mutex_unlock(&lock);
        if (blobs_settle(p->b, 10, is_kept, NULL, &e) < 0)
            abort();
    } while (!last);
    return NULL;
}

static void makers_and_settlers_do_not_meet(void **state)
{
    struct place *p = *state;
    pthread_t makers[MAKERS], settlers[2];

    for (int i = 0; i < 2; i++)
        pthread_create(&settlers[i], NULL, settle_on, p);
    for (int i = 0; i < MAKERS; i++)
        pthread_create(&makers[i], NULL, make, p);
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&lock);
        struct uuid id = n_kept ? kept[(size_t)i % n_kept] : (struct uuid){ "" };
        pthread_mutex_unlock(&lock);
        if (!uuid_is_nil(&id))
            assert_true(holds(p, &id, "abc"));
    }
    for (int i = 0; i < MAKERS; i++)
        pthread_join(makers[i], NULL);
    pthread_mutex_lock(&lock);
    over = true;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 2; i++)
        pthread_join(settlers[i], NULL);
    while (blobs_settle(p->b, 100, is_kept, NULL, &p->e) > 0)
        ;
    assert_int_equal(n_kept, MAKERS * EACH / 2);
    for (size_t i = 0; i < n_kept; i++)
        assert_true(holds(p, &kept[i], "abc"));
    assert_int_equal(fresh(p), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, place_open, place_close)
    const struct CMUnitTest tests[] = {
        T(sums_are_taken_as_the_bytes_come),     T(what_was_not_linked_was_never_there),
        T(a_kill_before_the_row_leaves_nothing), T(a_kill_after_the_row_loses_nothing),
        T(who_still_holds_it_is_not_settled),    T(without_an_answer_all_stays),
        T(makers_and_settlers_do_not_meet),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

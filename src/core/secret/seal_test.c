/* SPDX-License-Identifier: Apache-2.0 */
#include "db/fixture.h"

#include <sys/stat.h>

#include "core/secret/seal.h"

static const char schema[] =
    "CREATE TABLE core_keys (id TEXT NOT NULL PRIMARY KEY, purpose TEXT NOT"
    " NULL, wrapped TEXT NOT NULL, created_at BIGINT NOT NULL)";
static const uint8_t master[32] = "thirty-two bytes of a master key";

static struct keyring *ring(struct fixture *f)
{
    struct keyring *k = keyring_open(f->s, master, &f->e);

    if (!k)
        fail_msg("%s (%s)", f->e.msg, f->e.cause);
    return k;
}

static void what_is_sealed_opens_again_in_the_next_process(void **state)
{
    struct fixture *f = *state;
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    struct str plain;
    char one[65], two[65];

    fixture_open(f);
    ok(f, fixture_write(f, schema));
    struct keyring *k = ring(f);
    const char *sealed = keyring_seal(k, &a, STR("a secret"), STR("row 7"));
    keyring_hash(k, STR("sk_live_x"), one);
    uint8_t sign[32];
    memcpy(sign, keyring_sign_key(k), 32);
    keyring_free(k);

    assert_memory_equal(sealed, "k1.", 3);
    assert_null(strstr(sealed, "secret"));
    k = ring(f);
    ok(f, keyring_unseal(k, &a, sealed, STR("row 7"), &plain, &f->e));
    assert_true(str_is(plain, "a secret"));
    keyring_hash(k, STR("sk_live_x"), two);
    assert_string_equal(one, two);
    assert_int_equal(strlen(one), 64);
    assert_memory_equal(sign, keyring_sign_key(k), 32);
    assert_memory_not_equal(sign, master, 32);
    keyring_free(k);
    assert_int_equal(fixture_int(f, "SELECT COUNT(*) FROM core_keys"), 3);
}

static void what_was_changed_or_moved_does_not_open(void **state)
{
    struct fixture *f = *state;
    _cleanup_(arena_free) struct arena a = ARENA(MIB(16));
    struct str plain;

    fixture_open(f);
    ok(f, fixture_write(f, schema));
    _cleanup_(keyring_freep) struct keyring *k = ring(f);
    char *sealed = arena_strdup(&a, keyring_seal(k, &a, STR("a secret"), STR("row 7")));
    fails_with(f, keyring_unseal(k, &a, sealed, STR("row 8"), &plain, &f->e), ERR_INTERNAL);
    assert_null(strstr(f->e.msg, "secret"));
    for (char *p = sealed; p[1]; p++) {
        char was = *p;

        *p = was == 'A' ? 'B' : 'A';
        fails_with(f, keyring_unseal(k, &a, sealed, STR("row 7"), &plain, &f->e), ERR_INTERNAL);
        *p = was;
    }
    for (size_t n = 0; n + 1 < strlen(sealed); n++)
        fails_with(f, keyring_unseal(k, &a, arena_dup(&a, sealed, n), STR("row 7"), &plain, &f->e),
                   ERR_INTERNAL);
    assert_string_not_equal(keyring_seal(k, &a, STR("x"), STR("y")),
                            keyring_seal(k, &a, STR("x"), STR("y")));
    const char *empty = keyring_seal(k, &a, STR(""), STR(""));
    ok(f, keyring_unseal(k, &a, empty, STR(""), &plain, &f->e));
    assert_int_equal(plain.n, 0);
}

static void another_master_key_is_refused_with_the_reason(void **state)
{
    struct fixture *f = *state;
    static const uint8_t other[32] = "another";

    fixture_open(f);
    ok(f, fixture_write(f, schema));
    keyring_free(ring(f));
    assert_null(keyring_open(f->s, other, &f->e));
    assert_non_null(strstr(f->e.msg, "master.key does not open the keys of this store"));
    ok(f, fixture_write(f, "UPDATE core_keys SET purpose = 'sign' WHERE id = 'p1'"));
    assert_null(keyring_open(f->s, master, &f->e)); /* a key is bound to its purpose */
}

static void a_master_key_is_made_once_and_only_for_its_owner(void **state _unused_)
{
    char dir[] = "/tmp/brume-seal-XXXXXX", path[64];
    uint8_t one[32], two[32];
    struct stat st;
    struct err e;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/master.key", dir);
    assert_int_equal(master_key_load(path, one, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(master_key_load(path, two, &e), 0);
    assert_memory_equal(one, two, 32);

    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(master_key_load(path, two, &e), -1);
    assert_non_null(strstr(e.msg, "0600"));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 63), 0);
    assert_int_equal(master_key_load(path, two, &e), -1);
    assert_non_null(strstr(e.msg, "64 hexadecimal digits"));
    assert_int_equal(master_key_load("/nonexistent/master.key", two, &e), -1);
    assert_int_equal(dir_remove(dir, &e), 0);
}

int main(void)
{
    static const struct fixture_test tests[] = {
        BOTH(what_is_sealed_opens_again_in_the_next_process),
        BOTH(what_was_changed_or_moved_does_not_open),
        BOTH(another_master_key_is_refused_with_the_reason),
        SQLITE(a_master_key_is_made_once_and_only_for_its_owner),
    };

    return fixture_run("seal", tests, ARRAY_LEN(tests));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of an installation.  What this file hides: three kinds of key lie in core_keys, each wrapped
 * by the master key with its id and purpose bound to it; ids are a letter and a number, the highest
 * number of the data keys seals, all of them open.  Keys are held in memory that is kept out of
 * core dumps and wiped when freed. */
#include "core/secret/seal.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

#include "codec/text.h"
#include "os/file.h"

enum { KEY = 32, MAX_KEYS = 64, KEY_ID = 16, MAX_PURPOSE = 16 };
enum { NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES };
enum { TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES };

struct key {
    char id[KEY_ID];
    char purpose[MAX_PURPOSE];
    int64_t number; /* of its id */
    uint8_t bytes[KEY];
};

struct keyring {
    struct key keys[MAX_KEYS];
    size_t n;
    const struct key *data, *pepper, *sign; /* the newest of each */
};

static void start_sodium(void)
{
    if (sodium_init() < 0)
        abort();
}

/* ---- sealing under one key: nonce, then ciphertext with its tag, as base64url */

static const char *seal_with(struct arena *a, const uint8_t key[KEY], struct str plain,
                             struct str bound_to)
{
    uint8_t *box = arena_alloc(a, NONCE + plain.n + TAG);
    unsigned long long n;

    randombytes_buf(box, NONCE);
    crypto_aead_xchacha20poly1305_ietf_encrypt(box + NONCE, &n, (const uint8_t *)plain.p, plain.n,
                                               (const uint8_t *)bound_to.p, bound_to.n, NULL, box,
                                               key);
    return base64_encode(a, box, NONCE + (size_t)n, true);
}

static bool unseal_with(struct arena *a, const uint8_t key[KEY], struct str text,
                        struct str bound_to, struct str *plain)
{
    size_t n = 0;
    const uint8_t *box = base64_decode(a, text, true, &n);
    unsigned long long len;

    if (!box || n < NONCE + TAG)
        return false;
    uint8_t *p = arena_alloc(a, n - NONCE - TAG + 1);
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(p, &len, NULL, box + NONCE, n - NONCE,
                                                   (const uint8_t *)bound_to.p, bound_to.n, box,
                                                   key) < 0)
        return false;
    *plain = (struct str){ (const char *)p, (size_t)len };
    return true;
}

/* ---- master.key: 64 hex digits and a newline */

static int master_read(const char *path, uint8_t out[KEY], struct err *e)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    char text[2 * KEY + 2] = { 0 };

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, errno, "open %s", path);
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077))
        return err_set(e, ERR_INVALID, "%s must be a file that its owner alone may read (0600)",
                       path);
    ssize_t n = read(fd, text, sizeof(text));
    bool ok = (n == 2 * KEY || (n == 2 * KEY + 1 && text[2 * KEY] == '\n')) &&
              hex_decode((struct str){ text, 2 * KEY }, out, KEY);
    sodium_memzero(text, sizeof(text));
    if (!ok)
        return err_set(e, ERR_INVALID, "%s is no key: it must hold 64 hexadecimal digits", path);
    return 0;
}

/* Puts a random key at 'path' unless one is there by then: whole or not at all. */
static int master_make(const char *path, struct err *e)
{
    _cleanup_free_ char *beside = NULL, *folder = strdup(path);
    uint8_t key[KEY];
    char text[2 * KEY + 2];

    if (!folder || asprintf(&beside, "%s.new-%d", path, (int)getpid()) < 0)
        abort();
    (void)unlink(beside);
    _cleanup_close_ int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, errno, "create %s", beside);
    randombytes_buf(key, sizeof(key));
    hex_encode(key, sizeof(key), text);
    text[2 * KEY] = '\n';
    int rc = fd_write_all(fd, text, 2 * KEY + 1, e);
    sodium_memzero(key, sizeof(key));
    sodium_memzero(text, sizeof(text));
    if (rc == 0 && fsync(fd) < 0)
        rc = err_sys(e, errno, "fsync %s", beside);
    if (rc == 0 && link(beside, path) < 0 && errno != EEXIST)
        rc = err_sys(e, errno, "link %s", path);
    (void)unlink(beside);
    TRY(rc);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    _cleanup_close_ int dir = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) < 0)
        return err_sys(e, errno, "fsync the folder of %s", path);
    return 0;
}

int master_key_load(const char *path, uint8_t out[32], struct err *e)
{
    start_sodium();
    if (access(path, F_OK) < 0 && errno == ENOENT)
        TRY(master_make(path, e));
    return master_read(path, out, e);
}

/* ---- the keys of the store */

static const char sql_keys[] = "SELECT id, purpose, wrapped FROM core_keys ORDER BY id";
static const char sql_key_add[] =
    "INSERT INTO core_keys (id, purpose, wrapped, created_at) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (id) DO NOTHING";

static const struct {
    const char *id, *purpose;
} first_keys[] = {
    { "k1", "data" },
    { "p1", "pepper" },
    { "s1", "sign" },
};

struct loading {
    struct keyring *k;
    const uint8_t *master;
    struct arena arena;
};

static struct str key_binding(struct arena *a, const char *id, const char *purpose)
{
    return str_of(arena_printf(a, "brume key %s %s", purpose, id));
}

static int key_row(void *ctx, const struct col *c, size_t n, struct err *e)
{
    struct loading *l = ctx;
    struct key *k = &l->k->keys[l->k->n];
    struct str plain;

    if (n != 3 || !c[0].s || !c[1].s || !c[2].s || l->k->n == MAX_KEYS || c[0].n >= KEY_ID ||
        c[1].n >= MAX_PURPOSE ||
        !int_parse((struct str){ c[0].s + 1, c[0].n ? c[0].n - 1 : 0 }, 1, INT32_MAX, &k->number))
        return err_set(e, ERR_INTERNAL, "the store's table of keys is damaged");
    memcpy(k->id, c[0].s, c[0].n + 1);
    memcpy(k->purpose, c[1].s, c[1].n + 1);
    if (!unseal_with(&l->arena, l->master, (struct str){ c[2].s, c[2].n },
                     key_binding(&l->arena, k->id, k->purpose), &plain) ||
        plain.n != KEY)
        return err_set(e, ERR_INVALID,
                       "master.key does not open the keys of this store: it belongs to another "
                       "installation, or was replaced");
    memcpy(k->bytes, plain.p, KEY);
    sodium_memzero((void *)(uintptr_t)plain.p, plain.n);
    l->k->n++;
    return 0;
}

static int keys_load(struct store *s, struct loading *l, struct err *e)
{
    struct db *db = store_reader(s, e);

    if (!db)
        return -1;
    l->k->n = 0;
    int rc = db_read_round(db, e);
    if (rc == 0)
        rc = db_each(db, sql_keys, NO_ARGS, key_row, l, e);
    db_read_done(db);
    store_reader_back(s, db);
    return rc;
}

struct making {
    const uint8_t *master;
    struct arena *arena;
};

/* Adds the first keys; another process may have done so first, then its keys stay. */
static int keys_make(struct db *db, void *ctx, struct err *e)
{
    struct making *m = ctx;
    int64_t now;

    TRY(db_now(db, &now, e));
    for (size_t i = 0; i < ARRAY_LEN(first_keys); i++) {
        uint8_t key[KEY];

        randombytes_buf(key, sizeof(key));
        const char *wrapped =
            seal_with(m->arena, m->master, (struct str){ (const char *)key, KEY },
                      key_binding(m->arena, first_keys[i].id, first_keys[i].purpose));
        sodium_memzero(key, sizeof(key));
        TRY(db_exec(db, sql_key_add,
                    ARGS(A(first_keys[i].id), A(first_keys[i].purpose), A(wrapped), A(now)), e));
    }
    return 0;
}

static const struct key *newest(const struct keyring *k, const char *purpose)
{
    const struct key *best = NULL;

    for (size_t i = 0; i < k->n; i++)
        if (strcmp(k->keys[i].purpose, purpose) == 0 && (!best || k->keys[i].number > best->number))
            best = &k->keys[i];
    return best;
}

struct keyring *keyring_open(struct store *s, const uint8_t master[32], struct err *e)
{
    start_sodium();
    _cleanup_(keyring_freep) struct keyring *k = sodium_malloc(sizeof(*k));
    if (!k)
        abort();
    memset(k, 0, sizeof(*k));
    struct loading l = { .k = k, .master = master, .arena = ARENA(MIB(1)) };
    struct making m = { .master = master, .arena = &l.arena };

    int rc = keys_load(s, &l, e);
    if (rc == 0 && (!newest(k, "data") || !newest(k, "pepper") || !newest(k, "sign"))) {
        rc = store_write(s, keys_make, &m, e);
        if (rc == 0)
            rc = keys_load(s, &l, e);
    }
    arena_free(&l.arena);
    if (rc < 0)
        return NULL;
    k->data = newest(k, "data");
    k->pepper = newest(k, "pepper");
    k->sign = newest(k, "sign");
    if (!k->data || !k->pepper || !k->sign) {
        err_set(e, ERR_INTERNAL, "the store's table of keys is damaged");
        return NULL;
    }
    return TAKE(k);
}

void keyring_free(struct keyring *k)
{
    sodium_free(k); /* wipes it */
}

void keyring_hash(const struct keyring *k, struct str secret, char out[65])
{
    uint8_t h[32];

    hmac_sha256(k->pepper->bytes, KEY, secret.p, secret.n, h);
    hex_encode(h, sizeof(h), out);
}

const uint8_t *keyring_sign_key(const struct keyring *k)
{
    return k->sign->bytes;
}

const char *keyring_seal(const struct keyring *k, struct arena *a, struct str plain,
                         struct str bound_to)
{
    const char *text = seal_with(a, k->data->bytes, plain, bound_to);
    size_t id = strlen(k->data->id), n = strlen(text);
    char *out = arena_alloc(a, id + 1 + n + 1);

    memcpy(out, k->data->id, id);
    out[id] = '.';
    memcpy(out + id + 1, text, n + 1);
    return out;
}

int keyring_unseal(const struct keyring *k, struct arena *a, const char *sealed,
                   struct str bound_to, struct str *plain, struct err *e)
{
    const char *dot = strchr(sealed, '.');
    struct str id = { sealed, dot ? (size_t)(dot - sealed) : 0 };

    for (size_t i = 0; dot && i < k->n; i++)
        if (strcmp(k->keys[i].purpose, "data") == 0 && str_is(id, k->keys[i].id)) {
            if (unseal_with(a, k->keys[i].bytes, str_of(dot + 1), bound_to, plain))
                return 0;
            return err_cause(e, ERR_INTERNAL, "wrong key, place or damaged text",
                             "a sealed value does not open");
        }
    return err_cause(e, ERR_INTERNAL, "no such data key", "a sealed value does not open");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* An image store in memory: every recipe is there at once, so services can be tested without a
 * host. */
#include <pthread.h>

#include "codec/text.h"
#include "drivers/image/image.h"
#include "drivers/image/recipe.h"

enum { FAKE_MAX = 1024, FAKE_SLOW_LOOKS = 3, FAKE_SIZE = 1 << 20 };

struct fake_image {
    char name[512], digest[80];
    bool imported;
    bool failed;
    int looks; /* inspections of a slow one so far */
};
struct fake {
    struct image_store s;
    pthread_mutex_t lock;
    struct fake_image *images;
    size_t n;
};

static struct fake_image *find(struct fake *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->images[i].name, name) == 0)
            return &f->images[i];
    return NULL;
}

static void digest_of(const void *p, size_t n, char out[80])
{
    uint8_t hash[32];

    sha256(p, n, hash);
    memcpy(out, "sha256:", 7);
    hex_encode(hash, sizeof(hash), out + 7);
}

static struct fake_image *add(struct fake *f, const char *name, struct err *e)
{
    struct fake_image *i = find(f, name);

    if (i)
        return i;
    if (!*name || strlen(name) >= sizeof(i->name)) {
        err_set(e, ERR_INVALID, "an image's name has 1 to %zu bytes", sizeof(i->name) - 1);
        return NULL;
    }
    if (f->n == FAKE_MAX) {
        err_set(e, ERR_OVERLOADED, "the image store is full");
        return NULL;
    }
    i = &f->images[f->n++];
    *i = (struct fake_image){ 0 };
    snprintf(i->name, sizeof(i->name), "%s", name);
    digest_of(name, strlen(name), i->digest);
    return i;
}

static bool is_slow(const char *name)
{
    return strncmp(name, "slow", 4) == 0;
}

static struct image_state show(struct arena *a, struct fake_image *i, const char *name, bool look)
{
    const struct recipe *r = recipe_find(name);
    struct image_state s = { .name = arena_strdup(a, name), .source = r ? "recipe" : "registry" };

    if (!i)
        return (struct image_state){ .name = s.name };
    if (i->failed) {
        s.status = IMAGE_FAILED;
        s.reason = arena_printf(a, "no recipe, local image or registry has %s", name);
        return s;
    }
    if (is_slow(name) && !i->imported && i->looks < FAKE_SLOW_LOOKS) {
        s.status = IMAGE_BUILDING;
        s.progress = 100 * i->looks / FAKE_SLOW_LOOKS;
        s.step = "building";
        i->looks += look;
        return s;
    }
    s.status = IMAGE_READY;
    s.digest = arena_strdup(a, i->digest);
    if (i->imported)
        s.source = "import";
    s.size_bytes = FAKE_SIZE;
    s.progress = 100;
    s.cmd = r ? r->cmd : "[\"sleep\",\"infinity\"]";
    s.env = r ? r->env : "{}";
    s.cwd = r ? r->cwd : "/";
    s.user = r ? r->user : "";
    s.created_at = 1;
    return s;
}

static int fake_ensure(struct image_store *s, struct arena *a, const char *name,
                       const char *share _unused_, bool again, struct image_state *out,
                       struct err *e)
{
    struct fake *f = (struct fake *)s;

    pthread_mutex_lock(&f->lock);
    struct fake_image *i = find(f, name);
    if (!i && (i = add(f, name, e)))
        i->failed = !recipe_find(name) && !is_slow(name);
    if (i) {
        if (again && i->failed)
            i->looks = 0;
        *out = show(a, i, name, true);
    }
    pthread_mutex_unlock(&f->lock);
    return i ? 0 : -1;
}

static int fake_inspect(struct image_store *s, struct arena *a, const char *name,
                        struct image_state *out, struct err *e _unused_)
{
    struct fake *f = (struct fake *)s;

    pthread_mutex_lock(&f->lock);
    *out = show(a, find(f, name), name, true);
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static int fake_list(struct image_store *s, struct arena *a, struct image_state **out, size_t *n,
                     struct err *e _unused_)
{
    struct fake *f = (struct fake *)s;

    pthread_mutex_lock(&f->lock);
    *out = arena_new_n(a, struct image_state, f->n);
    *n = 0;
    for (size_t i = 0; i < f->n; i++) {
        struct image_state st = show(a, &f->images[i], f->images[i].name, false);

        if (st.source && strcmp(st.source, "registry") == 0)
            (*out)[(*n)++] =
                (struct image_state){ .name = st.name, .status = st.status, .source = st.source };
    }
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static int fake_import(struct image_store *s, struct arena *a, const char *name,
                       enum image_format format _unused_, const char *config _unused_,
                       ssize_t (*read)(void *ctx, void *p, size_t n, struct err *e), void *ctx,
                       struct image_state *out, struct err *e)
{
    struct fake *f = (struct fake *)s;
    uint8_t block[4096 + 32] = { 0 };
    size_t total = 0;
    char digest[80];

    /* A chain of hashes is as good as a hash of all: the same bytes in the same pieces agree. */
    for (;;) {
        ssize_t n = read(ctx, block + 32, sizeof(block) - 32, e);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        total += (size_t)n;
        sha256(block, 32 + (size_t)n, block);
    }
    if (total == 0)
        return err_set(e, ERR_INVALID, "the archive is empty");
    digest_of(block, 32, digest);
    pthread_mutex_lock(&f->lock);
    struct fake_image *i = add(f, name, e);
    if (i) {
        i->imported = true;
        i->failed = false;
        memcpy(i->digest, digest, sizeof(i->digest));
        *out = show(a, i, name, false);
    }
    pthread_mutex_unlock(&f->lock);
    return i ? 0 : -1;
}

static int fake_remove(struct image_store *s, const char *name, struct err *e _unused_)
{
    struct fake *f = (struct fake *)s;

    pthread_mutex_lock(&f->lock);
    struct fake_image *i = find(f, name);
    if (i)
        *i = f->images[--f->n];
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static void fake_free(struct image_store *s)
{
    struct fake *f = (struct fake *)s;

    pthread_mutex_destroy(&f->lock);
    free(f->images);
    free(f);
}

static const struct image_class fake_class = {
    .name = "fake",
    .ensure = fake_ensure,
    .inspect = fake_inspect,
    .list = fake_list,
    .import = fake_import,
    .remove = fake_remove,
    .free = fake_free,
};

struct image_store *image_fake(void)
{
    struct fake *f = calloc(1, sizeof(*f));

    if (!f || !(f->images = calloc(FAKE_MAX, sizeof(*f->images))))
        abort();
    f->s.class = &fake_class;
    pthread_mutex_init(&f->lock, NULL);
    return &f->s;
}

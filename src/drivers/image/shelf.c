/* SPDX-License-Identifier: Apache-2.0 */
/* Hides what of the store lies where and when it goes.  Each record is a small file, so that a
 * crash loses at most what was being made, and that is swept at the next start.  What is of no use
 * any more gets out of the way at once and is removed later, where nobody waits for it. */
#include "drivers/image/shelf.h"

#include <dirent.h>
#include <sys/stat.h>

#include "base/log.h"
#include "codec/json.h"
#include "codec/text.h"
#include "os/file.h"
#include "os/thread.h"

enum { RECORD_BYTES = 65536 };
#define GONE ".gone-" /* begins the names of what was set aside */

/* AGAIN: there is more than it has seen. */
enum remover { REMOVER_IDLE, REMOVER_AT_WORK, REMOVER_AGAIN };

/* ---- names on disk ---- */

void shelf_name_path(const struct shelf *s, const char *name, char out[512])
{
    uint8_t hash[32];
    char hex[IMAGE_HEX];

    sha256(name, strlen(name), hash);
    hex_encode(hash, sizeof(hash), hex);
    snprintf(out, 512, "%s/names/%s", s->dir, hex);
}

void shelf_manifest_path(const struct shelf *s, const char *hex, char out[512])
{
    snprintf(out, 512, "%s/manifests/%s", s->dir, hex);
}

int shelf_name_read(struct arena *a, const char *path, struct name_record *out, struct err *e)
{
    struct str text;

    TRY(file_read(a, path, RECORD_BYTES, &text, e));
    _cleanup_(json_freep) struct json_value *doc = json_parse(text, e);
    if (!doc)
        return -1;
    const char *digest = json_get_str(a, doc, "digest", "");
    *out = (struct name_record){
        .name = json_get_str(a, doc, "name", ""),
        .source = json_get_str(a, doc, "source", ""),
        .created_at = json_get_int(doc, "created_at", 0),
    };
    if (!image_hex_ok(digest) || !*out->name)
        return err_set(e, ERR_INVALID, "the record of an image's name makes no sense");
    snprintf(out->digest, sizeof(out->digest), "%s", digest);
    return 0;
}

int shelf_name_write(const struct shelf *s, const struct name_record *r, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(RECORD_BYTES);
    struct json_out o = JSON_OUT(&b);
    char path[512];

    json_open(&o, '{');
    json_kstr(&o, "name", r->name);
    json_kstr(&o, "source", r->source);
    json_kstr(&o, "digest", r->digest);
    json_kint(&o, "created_at", r->created_at);
    json_close(&o);
    shelf_name_path(s, r->name, path);
    return file_write_atomic(path, b.p, b.n, 0600, e);
}

/* ---- collecting ---- */

static bool in_set(char (*set)[IMAGE_HEX], size_t n, const char *hex)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(set[i], hex) == 0)
            return true;
    return false;
}

struct hex_set {
    char (*hex)[IMAGE_HEX];
    size_t n, cap;
};

static void set_add(struct hex_set *s, const char *hex)
{
    if (in_set(s->hex, s->n, hex))
        return;
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 32;
        s->hex = realloc(s->hex, s->cap * sizeof(*s->hex));
        if (!s->hex)
            abort();
    }
    snprintf(s->hex[s->n++], IMAGE_HEX, "%s", hex);
}

bool shelf_each(const struct shelf *s, const char *folder,
                void (*fn)(const struct shelf *s, const char *path, const char *name, void *ctx),
                void *ctx)
{
    char path[400], file[700];
    struct dirent *f;

    snprintf(path, sizeof(path), "%s/%s", s->dir, folder);
    DIR *d = opendir(path);
    errno = d ? 0 : errno;
    while (d && (f = readdir(d))) {
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0) {
            snprintf(file, sizeof(file), "%s/%s", path, f->d_name);
            fn(s, file, f->d_name, ctx);
        }
        errno = 0;
    }
    int errnum = errno;
    if (d)
        closedir(d);
    if (errnum) {
        struct err e;
        err_sys(&e, errnum, "read %s", path);
        log_err(LOG_WARN, "image_folder_unreadable", &e);
    }
    return errnum == 0;
}

struct collection {
    struct hex_set manifests, layers;
    bool unsure; /* something that may be in use could not be read */
};

/* A record that makes no sense is of no use to anybody; one that cannot be read now may be. */
static void unreadable(struct collection *c, const struct err *e)
{
    log_err(LOG_WARN, "image_record_unreadable", e);
    c->unsure = c->unsure || e->code != ERR_INVALID;
}

static void see_name(const struct shelf *s _unused_, const char *path, const char *name _unused_,
                     void *ctx)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct collection *c = ctx;
    struct name_record r;
    struct err e;

    if (shelf_name_read(&a, path, &r, &e) < 0)
        unreadable(c, &e);
    else
        set_add(&c->manifests, r.digest);
}

static void see_hold(const struct shelf *s _unused_, const char *path, const char *name _unused_,
                     void *ctx)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct collection *c = ctx;
    struct str text;
    struct err e;

    if (file_read(&a, path, 4096, &text, &e) < 0)
        unreadable(c, &e);
    else if (image_hex_ok(text.p))
        set_add(&c->manifests, text.p);
}

static void keep_layers(struct collection *c, const struct manifest *m)
{
    for (size_t i = 0; i < m->n_layers; i++)
        set_add(&c->layers, m->layers[i]);
}

static void keep_or_drop_manifest(const struct shelf *s _unused_, const char *path,
                                  const char *name, void *ctx)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    struct collection *c = ctx;
    struct manifest m;
    struct err e;

    if (!in_set(c->manifests.hex, c->manifests.n, name)) {
        unlink(path);
        return;
    }
    if (manifest_read(&a, path, &m, &e) < 0) {
        log_err(LOG_WARN, "image_record_unreadable", &e);
        c->unsure = true; /* instances may run on its layers */
        return;
    }
    keep_layers(c, &m);
}

/* A tree of many files takes long to remove: under the lock it only gets out of the way. */
static void set_aside(const struct shelf *s, const char *path, const char *name, void *ctx _unused_)
{
    char aside[800];
    struct err e;

    snprintf(aside, sizeof(aside), "%s/tmp/" GONE "%s-%d", s->dir, name,
             atomic_fetch_add(&((struct shelf *)(uintptr_t)s)->aside, 1));
    if (rename(path, aside) < 0) {
        err_sys(&e, errno, "rename %s", path);
        log_err(LOG_WARN, "layer_not_removed", &e);
    }
}

static void keep_or_drop_layer(const struct shelf *s, const char *path, const char *name, void *ctx)
{
    struct collection *c = ctx;

    if (strncmp(name, LAYER_NEW, sizeof(LAYER_NEW) - 1) != 0 &&
        !in_set(c->layers.hex, c->layers.n, name))
        set_aside(s, path, name, NULL);
}

static void remove_gone(const struct shelf *s, const char *path, const char *name,
                        void *ctx _unused_)
{
    struct err e;

    if (strncmp(name, GONE, sizeof(GONE) - 1) == 0 && !atomic_load(&s->closing) &&
        dir_remove(path, &e) < 0)
        log_err(LOG_WARN, "image_rest_stays", &e);
}

/* Without the lock: what was set aside has no name that anybody looks for. */
static void remove_aside(void *ctx, void *worker _unused_)
{
    struct shelf *s = ctx;
    int seen;

    do {
        atomic_store(&s->remover, REMOVER_AT_WORK);
        shelf_each(s, "tmp", remove_gone, NULL);
        seen = REMOVER_AT_WORK;
    } while (!atomic_compare_exchange_strong(&s->remover, &seen, REMOVER_IDLE) &&
             !atomic_load(&s->closing));
}

void shelf_remove_aside(struct shelf *s)
{
    if (s->pool && atomic_exchange(&s->remover, REMOVER_AGAIN) == REMOVER_IDLE &&
        !pool_submit(s->pool, remove_aside, s))
        atomic_store(&s->remover, REMOVER_IDLE); /* the next collecting, or start, does it */
}

/* What is in use is known whole, or nothing goes. */
static bool see_all(struct shelf *s, struct collection *c)
{
    if (!shelf_each(s, "names", see_name, c) || !shelf_each(s, "holds", see_hold, c) || c->unsure ||
        !shelf_each(s, "manifests", keep_or_drop_manifest, c))
        return false;
    for (const struct pin *p = s->pins; p; p = p->next)
        keep_layers(c, p->m);
    return !c->unsure;
}

void shelf_collect(struct shelf *s)
{
    struct collection c = { 0 };

    if (see_all(s, &c))
        shelf_each(s, "layers", keep_or_drop_layer, &c);
    free(c.manifests.hex);
    free(c.layers.hex);
    shelf_remove_aside(s);
}

static void drop_rest(const struct shelf *s, const char *path, const char *name, void *ctx)
{
    if (strncmp(name, LAYER_NEW, sizeof(LAYER_NEW) - 1) == 0)
        set_aside(s, path, name, ctx);
}

void shelf_sweep(struct shelf *s)
{
    shelf_each(s, "layers", drop_rest, NULL);
    shelf_each(s, "tmp", drop_rest, NULL);
}

void shelf_pin(struct shelf *s, struct pin *p)
{
    p->next = s->pins;
    s->pins = p;
}

void shelf_unpin(struct shelf *s, struct pin *p)
{
    struct pin **at = &s->pins;

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Hides how a layer comes to be there whole or not at all: unpacked beside under a name of its own
 * (LAYER_NEW), written to the disk, renamed. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "codec/text.h"
#include "drivers/image/local.h"
#include "os/file.h"

int layer_tmp(const struct image_paths *p, char out[512], struct err *e)
{
    snprintf(out, 512, "%s/" LAYER_NEW "XXXXXX", p->tmp);
    return mkdtemp(out) ? 0 : err_sys(e, errno, "make a folder in %s", p->tmp);
}

/* Puts a layer that has its name into the manifest, topmost. */
static void add_name(struct manifest *m, const char *chain, bool opaque)
{
    if (opaque)
        m->n_layers = 0;
    memmove(m->layers[1], m->layers[0], m->n_layers * IMAGE_HEX);
    memcpy(m->layers[0], chain, IMAGE_HEX);
    m->n_layers++;
}

static int keep(const struct image_paths *p, const char *made, const char *chain, bool opaque,
                struct manifest *m, struct err *e)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", p->layers, chain);
    pthread_mutex_lock(p->lock);
    int errnum = rename(made, path) < 0 ? errno : 0;
    bool was_there = errnum == ENOTEMPTY || errnum == EEXIST;
    if (!errnum || was_there)
        add_name(m, chain, opaque);
    pthread_mutex_unlock(p->lock);
    if (was_there)
        return dir_remove(made, e);
    if (errnum)
        return err_sys(e, errnum, "rename a layer");
    _cleanup_close_ int dir = open(p->layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) < 0)
        return err_sys(e, errno, "fsync %s", p->layers);
    return 0;
}

/* The folders below, topmost first. */
struct stack {
    int fds[IMAGE_LAYERS_MAX];
    size_t n;
};

static void stack_close(struct stack *s)
{
    while (s->n)
        close(s->fds[--s->n]);
}

static int stack_open(const struct image_paths *p, const struct manifest *m, struct stack *s,
                      struct err *e)
{
    char path[512];

    for (; s->n < m->n_layers; s->n++) {
        snprintf(path, sizeof(path), "%s/%s", p->layers, m->layers[s->n]);
        s->fds[s->n] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (s->fds[s->n] < 0)
            return err_sys(e, errno, "open %s", path);
    }
    return 0;
}

static int fill(const struct image_paths *p, struct manifest *m, const char *path,
                image_read_fn *read, void *ctx, struct unpack_result *r, struct err *e)
{
    _cleanup_(stack_close) struct stack below = { .n = 0 };
    _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fchmod(fd, 0755) < 0)
        return err_sys(e, errno, "open %s", path);
    TRY(stack_open(p, m, &below, e));
    struct unpack_opts o = { .read = read,
                             .ctx = ctx,
                             .layer = true,
                             .below = { below.fds, below.n },
                             .counts = &m->counts };
    if (below.n) {
        if (fstat(below.fds[0], &st) < 0)
            return err_sys(e, errno, "stat a layer");
        TRY(below_copy_attributes(below.fds[0], &st, fd, e));
    }
    TRY(unpack_tar(fd, &o, r, e));
    return syncfs(fd) < 0 ? err_sys(e, errno, "sync a layer") : 0;
}

/* "sha256:" before each, as the specification writes digests. */
static void chain_id(const struct manifest *m, const char *diff, char out[IMAGE_HEX])
{
    char text[2 * IMAGE_HEX + 16];
    uint8_t hash[32];

    if (m->n_layers == 0) {
        memcpy(out, diff, IMAGE_HEX);
        return;
    }
    int n = snprintf(text, sizeof(text), "sha256:%s sha256:%s", m->layers[0], diff);
    sha256(text, (size_t)n, hash);
    hex_encode(hash, sizeof(hash), out);
}

int layer_add(const struct image_paths *p, image_read_fn *read, void *ctx, struct manifest *m,
              char diff[IMAGE_HEX], struct err *e)
{
    char path[512], own[IMAGE_HEX], chain[IMAGE_HEX];
    struct unpack_result r;
    struct err ignored;

    if (m->n_layers == IMAGE_LAYERS_MAX)
        return err_set(e, ERR_INVALID, "an image has at most %d layers", IMAGE_LAYERS_MAX);
    snprintf(path, sizeof(path), "%s/" LAYER_NEW "XXXXXX", p->layers);
    if (!mkdtemp(path))
        return err_sys(e, errno, "make a folder in %s", p->layers);
    int result = fill(p, m, path, read, ctx, &r, e);
    if (result == 0) {
        hex_encode(r.digest, sizeof(r.digest), own);
        chain_id(m, own, chain);
        result = keep(p, path, chain, r.opaque, m, e);
    }
    if (result < 0) {
        if (dir_remove(path, &ignored) < 0)
            log_err(LOG_WARN, "image_rest_stays", &ignored); /* the next start removes it */
        return -1;
    }
    m->size += r.bytes;
    if (diff)
        memcpy(diff, own, IMAGE_HEX);
    return 0;
}

static ssize_t read_fd(void *ctx, void *p, size_t n, struct err *e)
{
    ssize_t got;

    do
        got = read(*(int *)ctx, p, n);
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_sys(e, errno, "read an archive") : got;
}

int layer_add_file(const struct image_paths *p, int fd, struct manifest *m, char diff[IMAGE_HEX],
                   struct err *e)
{
    return layer_add(p, read_fd, &fd, m, diff, e);
}

static ssize_t read_bytes(void *ctx, void *p, size_t n, struct err *e _unused_)
{
    struct str *s = ctx;

    n = MIN(n, s->n);
    memcpy(p, s->p, n);
    s->p += n;
    s->n -= n;
    return (ssize_t)n;
}

int layer_add_bytes(const struct image_paths *p, struct str tar, struct manifest *m, struct err *e)
{
    return layer_add(p, read_bytes, &tar, m, NULL, e);
}

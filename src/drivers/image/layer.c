/* SPDX-License-Identifier: Apache-2.0 */
/* Hides how a layer comes to be there whole or not at all: unpacked beside under a name that begins
 * with
 * ".new-", written to the disk, renamed. */
#include <fcntl.h>
#include <sys/stat.h>

#include "codec/text.h"
#include "drivers/image/local.h"
#include "drivers/image/unpack.h"
#include "os/file.h"

int layer_tmp(const struct image_paths *p, char out[512], struct err *e)
{
    snprintf(out, 512, "%s/.new-XXXXXX", p->tmp);
    return mkdtemp(out) ? 0 : err_sys(e, errno, "make a folder in %s", p->tmp);
}

static int keep(const struct image_paths *p, const char *made, const char *hex, struct err *e)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", p->layers, hex);
    if (rename(made, path) < 0) {
        if (errno != ENOTEMPTY && errno != EEXIST)
            return err_sys(e, errno, "rename a layer");
        return dir_remove(made, e); /* it was there */
    }
    _cleanup_close_ int dir = open(p->layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) < 0)
        return err_sys(e, errno, "fsync %s", p->layers);
    return 0;
}

static int fill(const char *path, image_read_fn *read, void *ctx, struct unpack_result *r,
                struct err *e)
{
    struct unpack_opts o = { .read = read, .ctx = ctx, .layer = true };
    _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fchmod(fd, 0755) < 0)
        return err_sys(e, errno, "open %s", path);
    TRY(unpack_tar(fd, &o, r, e));
    return syncfs(fd) < 0 ? err_sys(e, errno, "sync a layer") : 0;
}

int layer_add(const struct image_paths *p, image_read_fn *read, void *ctx, char hex[IMAGE_HEX],
              int64_t *size, struct err *e)
{
    struct unpack_result r;
    struct err ignored;
    char path[512];

    snprintf(path, sizeof(path), "%s/.new-XXXXXX", p->layers);
    if (!mkdtemp(path))
        return err_sys(e, errno, "make a folder in %s", p->layers);
    if (fill(path, read, ctx, &r, e) < 0) {
        if (dir_remove(path, &ignored) < 0)
            return -1; /* the next start removes it */
        return -1;
    }
    hex_encode(r.digest, sizeof(r.digest), hex);
    *size += r.bytes;
    return keep(p, path, hex, e);
}

static ssize_t read_fd(void *ctx, void *p, size_t n, struct err *e)
{
    ssize_t got;

    do
        got = read(*(int *)ctx, p, n);
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_sys(e, errno, "read an archive") : got;
}

int layer_add_file(const struct image_paths *p, int fd, char hex[IMAGE_HEX], int64_t *size,
                   struct err *e)
{
    return layer_add(p, read_fd, &fd, hex, size, e);
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

int layer_add_bytes(const struct image_paths *p, struct str tar, char hex[IMAGE_HEX], int64_t *size,
                    struct err *e)
{
    return layer_add(p, read_bytes, &tar, hex, size, e);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Archives: whatever comes, nothing beside the folder changes, no more is unpacked than may be, and
 * the digest does not depend on how the bytes came.  The first byte chooses what kind of archive: a
 * layer (1), read twice (2), on another of the same bytes (4), which does not change by it. */
#include "drivers/image/fuzz_place.h"
#include "drivers/image/unpack.h"

#define MOST ((int64_t)1 << 20)
static const struct unpack_counts most = {
    .bytes = MOST, .read = 66 * MOST, .entries = 5000, .steps = 100000, .copies = 1000
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
    struct str left;
    size_t step;
};

static ssize_t give(void *ctx, void *p, size_t n, struct err *e _unused_)
{
    struct source *s = ctx;

    n = MIN(n, s->step);
    n = MIN(n, s->left.n);
    memcpy(p, s->left.p, n);
    s->left.p += n;
    s->left.n -= n;
    return (ssize_t)n;
}

static int unpack(const char *folder, struct str s, bool layer, int below, size_t step,
                  struct unpack_result *out)
{
    struct source source = { s, step };
    struct unpack_opts o = {
        .read = give, .ctx = &source, .layer = layer, .most = &most, .below = { &below, below >= 0 }
    };
    _cleanup_close_ int fd = open(fuzz_folder(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err e = { 0 };

    if (fd < 0)
        abort();
    int rc = unpack_tar(fd, &o, out, &e);
    if (rc < 0 && e.code == ERR_NONE)
        abort();
    return rc;
}

static void look(const char *path, struct stat *st)
{
    if (stat(path, st) < 0)
        abort();
}

static bool same(const struct stat *a, const struct stat *b)
{
    return memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim)) == 0 &&
           a->st_nlink == b->st_nlink && a->st_size == b->st_size;
}

static int on_another(struct str s, struct unpack_result *out)
{
    struct stat before, after;
    int rc = -1;

    if (unpack("below", s, true, -1, 1 << 16, out) < 0)
        return -1;
    _cleanup_close_ int below = open(FUZZ_PLACE "/below", O_PATH | O_DIRECTORY | O_CLOEXEC);
    look(FUZZ_PLACE "/below", &before);
    rc = unpack("root", s, true, below, 1 << 16, out);
    look(FUZZ_PLACE "/below", &after);
    if (!same(&before, &after))
        abort();
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct unpack_result a, b;
    struct stat before, after, place;

    if (size == 0)
        return 0;
    fuzz_place_open();
    int fd = open(FUZZ_PLACE "/canary", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        abort();
    close(fd);
    fuzz_folder("root");
    fuzz_folder("below");
    look(FUZZ_PLACE "/canary", &before);
    struct str s = { (const char *)data + 1, size - 1 };
    bool layer = data[0] & 1;
    int rc = layer && data[0] & 4 ? on_another(s, &a) : unpack("root", s, layer, -1, 1 << 16, &a);
    look(FUZZ_PLACE "/canary", &after);
    if (!same(&before, &after) || after.st_nlink != 1 || after.st_size != 0)
        abort();
    look(FUZZ_PLACE, &place);
    if (place.st_nlink != 4) /* but the two no folder came to it */
        abort();
    if (rc == 0 && a.bytes > MOST)
        abort();
    if (rc == 0 && data[0] & 2 && !(data[0] & 4) &&
        (unpack("root", s, layer, -1, 511, &b) < 0 || memcmp(a.digest, b.digest, 32) != 0 ||
         a.bytes != b.bytes))
        abort();
    return 0;
}

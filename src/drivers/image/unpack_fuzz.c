/* SPDX-License-Identifier: Apache-2.0 */
/* Archives: whatever comes, nothing beside the folder changes, no more is unpacked than may be, and
 * the digest does not depend on how the bytes came. The first byte chooses what kind of archive. */
#include "drivers/image/fuzz_place.h"
#include "drivers/image/unpack.h"

#define MOST ((int64_t)1 << 20)

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

static int unpack(struct str s, bool layer, size_t step, struct unpack_result *out)
{
    struct source source = { s, step };
    struct unpack_opts o = { .read = give, .ctx = &source, .layer = layer, .max_bytes = MOST };
    _cleanup_close_ int fd = open(fuzz_folder("root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err e = { 0 };

    if (fd < 0)
        abort();
    int rc = unpack_tar(fd, &o, out, &e);
    if (rc < 0 && e.code == ERR_NONE)
        abort();
    return rc;
}

static void canary(struct stat *st)
{
    if (stat(FUZZ_PLACE "/canary", st) < 0)
        abort();
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
    canary(&before);
    struct str s = { (const char *)data + 1, size - 1 };
    int rc = unpack(s, data[0] & 1, 1 << 16, &a);
    canary(&after);
    if (memcmp(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim)) != 0 ||
        after.st_nlink != 1 || after.st_size != 0)
        abort();
    if (stat(FUZZ_PLACE, &place) < 0 || place.st_nlink != 3) /* but "root" no folder came to it */
        abort();
    if (rc == 0 && a.bytes > MOST)
        abort();
    if (rc == 0 && data[0] & 2 &&
        (unpack(s, data[0] & 1, 511, &b) < 0 || memcmp(a.digest, b.digest, 32) != 0 ||
         a.bytes != b.bytes))
        abort();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Images as they travel. Documents name each other by their hashes, which no mutation would hit, so
 * the input holds them apart and the hashes are put in here:
 *
 *     a byte that chooses the form, then index, manifest, configuration and layer, each ended by a
 *     NUL (the layer: by the end).  In a document, byte 1 stands for the hex of the layer's blob, 2
 *     for its diff id, 3 for the configuration, 4 for the manifest, 5 for this machine's name.
 *
 * Whatever comes, there is an image whose layers are all there, or an error. */
#include <sys/utsname.h>

#include "codec/text.h"
#include "drivers/image/fuzz_place.h"
#include "drivers/image/local.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTE_LAYER = 1, BYTE_DIFF, BYTE_CONFIG, BYTE_MANIFEST, BYTE_MACHINE, BYTES };

static const char *hexes[BYTES];

static const char *hex_of(struct arena *a, struct str s)
{
    char *out = arena_alloc(a, IMAGE_HEX);
    uint8_t hash[32];

    sha256(s.p, s.n, hash);
    hex_encode(hash, sizeof(hash), out);
    return out;
}

static struct str document(struct arena *a, struct str *in)
{
    struct buf b = BUF(MIB(8));

    while (in->n && *in->p) {
        if ((uint8_t)*in->p < BYTES && hexes[(uint8_t)*in->p])
            buf_puts(&b, hexes[(uint8_t)*in->p]);
        else
            buf_putc(&b, *in->p);
        in->p++;
        in->n--;
    }
    if (in->n) {
        in->p++;
        in->n--;
    }
    struct str out = { arena_dup(a, b.p ? b.p : "", b.n), b.n };
    buf_free(&b);
    return out;
}

static void save(const char *dir, const char *folder, const char *name, struct str s)
{
    char path[200];
    struct err e;

    snprintf(path, sizeof(path), "%s/%s%s", dir, folder, name);
    if (file_write(path, s.p, s.n, 0600, &e) < 0)
        abort();
}

static ssize_t give_nothing(void *ctx, void *p, size_t n, struct err *e _unused_)
{
    size_t *left = ctx;

    n = MIN(n, *left);
    memset(p, 0, n);
    *left -= n;
    return (ssize_t)n;
}

static int load(struct arena *a, const struct image_paths *paths, int form, const char *dir,
                struct manifest *m, struct err *e)
{
    struct progress g = { .lock = paths->lock };
    size_t zeros = 1024; /* an archive of nothing: what is in it lies there */

    if (form == 0)
        return image_load_oci(paths, a, dir, &g, m, e);
    if (form == 1)
        return image_load_dir(paths, a, dir, &g, m, e);
    return image_load_archive(paths, a, dir, give_nothing, &zeros, &g, m, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct manifest *m = arena_new(&a, struct manifest);
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct image_paths paths = { .lock = &lock };
    struct str in = { (const char *)data, size };
    struct utsname u;
    struct err e = { 0 };
    char path[600];

    if (size < 2)
        return 0;
    int form = *in.p % 3;
    in.p++;
    in.n--;
    /* The later documents are named by the earlier: backwards. */
    struct str rest = in;
    memset(hexes, 0, sizeof(hexes));
    for (int i = 0; i < 3; i++)
        document(&a, &rest);
    uname(&u);
    hexes[BYTE_MACHINE] = strcmp(u.machine, "x86_64") == 0 ? "amd64" : "arm64";
    hexes[BYTE_LAYER] = hexes[BYTE_DIFF] = hex_of(&a, rest);
    struct str layer = rest, config, manifest, index, again = in;
    document(&a, &again);
    document(&a, &again);
    config = document(&a, &again);
    hexes[BYTE_CONFIG] = hex_of(&a, config);
    again = in;
    document(&a, &again);
    manifest = document(&a, &again);
    hexes[BYTE_MANIFEST] = hex_of(&a, manifest);
    again = in;
    index = document(&a, &again);

    snprintf(paths.layers, sizeof(paths.layers), "%s", fuzz_folder("layers"));
    snprintf(paths.tmp, sizeof(paths.tmp), "%s", fuzz_folder("tmp"));
    const char *dir = fuzz_folder("dir"), *folder = form == 1 ? "" : "blobs/sha256/";
    snprintf(path, sizeof(path), "%s/blobs/sha256", dir);
    if (dir_make(path, 0755, &e) < 0)
        abort();
    save(dir, folder, hexes[BYTE_LAYER], layer);
    save(dir, folder, hexes[BYTE_CONFIG], config);
    save(dir, folder, hexes[BYTE_MANIFEST], manifest);
    save(dir, "", form == 0 ? "index.json" : "manifest.json", form == 1 ? manifest : index);
    if (load(&a, &paths, form, dir, m, &e) < 0) {
        if (e.code == ERR_NONE)
            abort();
        return 0;
    }
    if (m->n_layers == 0 || !image_hex_ok(m->digest) || !m->cmd || !m->env || !m->cwd || !m->user)
        abort();
    for (size_t i = 0; i < m->n_layers; i++) {
        snprintf(path, sizeof(path), "%s/%s", paths.layers, m->layers[i]);
        if (access(path, F_OK) < 0)
            abort();
    }
    snprintf(path, sizeof(path), FUZZ_PLACE "/kept");
    if (manifest_write(m, path, &e) < 0 || manifest_read(&a, path, m, &e) < 0)
        abort();
    return 0;
}

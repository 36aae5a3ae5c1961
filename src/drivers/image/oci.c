/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the forms in which images travel: OCI layouts (index, manifest, configuration, layers, each
 * named by its digest) and what `docker save` writes.  Every blob is verified against its name
 * before it is used. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "codec/json.h"
#include "codec/text.h"
#include "drivers/image/local.h"
#include "drivers/image/unpack.h"
#include "os/digest.h"
#include "os/file.h"
#include "os/process.h"

#define OCI_BLOBS "blobs/sha256/"

enum {
    DOCUMENT_BYTES = 4 << 20,
    CONFIG_BYTES = 512 << 10, /* what is kept of a configuration */
    INDEX_DEPTH = 4,
    INDEX_ENTRIES = 256,
    BLOCK = 65536,
};

/* ---- files of the archive ---- */

static int open_blob(int dir, const char *path, struct err *e)
{
    struct stat st;
    _cleanup_close_ int fd =
        fd_open_in(dir, path, O_RDONLY | O_NONBLOCK, 0); /* not for ever at a FIFO */

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "the archive lacks %.100s", path);
    return TAKE_FD(fd);
}

static int read_document(int dir, struct arena *a, const char *path, struct str *out, struct err *e)
{
    _cleanup_close_ int fd = open_blob(dir, path, e);
    struct stat st;

    TRY(fd);
    if (fstat(fd, &st) < 0 || st.st_size > DOCUMENT_BYTES)
        return err_set(e, ERR_TOO_LARGE, "%.100s in the archive is too long", path);
    char *p = arena_alloc(a, (size_t)st.st_size + 1);
    ssize_t n = read(fd, p, (size_t)st.st_size);
    if (n < 0)
        return err_sys(e, errno, "read %s", path);
    *out = (struct str){ p, (size_t)n };
    return 0;
}

/* "sha256:<hex>" as the hex, or an error. */
static int digest_hex(const char *digest, char hex[IMAGE_HEX], struct err *e)
{
    if (!digest || strncmp(digest, "sha256:", 7) != 0 || !image_hex_ok(digest + 7))
        return err_set(e, ERR_INVALID, "a digest in the archive is no SHA-256");
    snprintf(hex, IMAGE_HEX, "%s", digest + 7);
    return 0;
}

static int mismatch(const char *hex, struct err *e)
{
    return err_set(e, ERR_INVALID, "the blob %.12s… is not what its digest says", hex);
}

static int blob_document(int dir, const char *folder, struct arena *a, const char *digest,
                         struct str *out, struct err *e)
{
    char hex[IMAGE_HEX], path[128], got[IMAGE_HEX];
    uint8_t hash[32];

    TRY(digest_hex(digest, hex, e));
    snprintf(path, sizeof(path), "%s%s", folder, hex);
    TRY(read_document(dir, a, path, out, e));
    sha256(out->p, out->n, hash);
    hex_encode(hash, sizeof(hash), got);
    return strcmp(hex, got) == 0 ? 0 : mismatch(hex, e);
}

static int verify(int fd, const char *hex, struct err *e)
{
    _cleanup_digest_ struct digest *d = digest_new(DIGEST_SHA256, e);
    char block[BLOCK], got[IMAGE_HEX];
    uint8_t hash[32];
    ssize_t n;

    if (!d)
        return -1;
    while ((n = read(fd, block, sizeof(block))) > 0)
        digest_add(d, block, (size_t)n);
    if (n < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(e, errno, "read a blob");
    digest_end(d, hash);
    hex_encode(hash, sizeof(hash), got);
    return strcmp(hex, got) == 0 ? 0 : mismatch(hex, e);
}

/* ---- configuration ---- */

static const char *machine(void)
{
    static struct utsname u;

    if (uname(&u) < 0)
        return "";
    return strcmp(u.machine, "x86_64") == 0    ? "amd64"
           : strcmp(u.machine, "aarch64") == 0 ? "arm64"
                                               : u.machine;
}

/* ["A=b"] as {"A":"b"}; of two of a name the later counts. */
static const char *env_map(struct arena *a, const struct json_value *list, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(DOCUMENT_BYTES);
    struct json_out o = JSON_OUT(&b);
    size_t n = list && json_type_of(list) == JSON_ARR ? json_len(list) : 0;

    json_open(&o, '{');
    for (size_t i = 0; i < n && i < 1024; i++) {
        const char *one = json_str_of(json_at(list, i), NULL);
        const char *eq = one ? strchr(one, '=') : NULL;
        bool later = false;
        if (!eq || eq == one)
            continue;
        for (size_t k = i + 1; k < n && k < 1024; k++) {
            const char *other = json_str_of(json_at(list, k), NULL);
            later = later || (other && strncmp(other, one, (size_t)(eq - one) + 1) == 0);
        }
        if (later)
            continue;
        json_key(&o, arena_dup(a, one, (size_t)(eq - one)));
        json_str(&o, eq + 1);
    }
    json_close(&o);
    if (json_done(&o) < 0) {
        err_set(e, ERR_INVALID, "the image's environment is too long");
        return NULL;
    }
    return arena_dup(a, b.p, b.n);
}

/* The strings of a list, "[]" if there is none. */
static const char *strings(struct arena *a, const struct json_value *config, const char *name)
{
    _cleanup_(buf_free) struct buf b = BUF(DOCUMENT_BYTES);
    const struct json_value *list = config ? json_get(config, name) : NULL;
    size_t n = list && json_type_of(list) == JSON_ARR ? json_len(list) : 0;
    struct json_out o = JSON_OUT(&b);

    json_open(&o, '[');
    for (size_t i = 0; i < n; i++)
        if (json_str_of(json_at(list, i), NULL))
            json_str(&o, json_str_of(json_at(list, i), NULL));
    json_close(&o);
    return json_done(&o) < 0 ? "[]" : arena_dup(a, b.p, b.n);
}

/* Takes the configuration's part, and the diff ids that the layers must have. */
static int read_config(struct arena *a, const struct json_value *doc, struct manifest *m,
                       const struct json_value **diff_ids, struct err *e)
{
    const struct json_value *config = json_get(doc, "config"), *root = json_get(doc, "rootfs");
    const char *os = json_get_str(a, doc, "os", "linux");
    const char *arch = json_get_str(a, doc, "architecture", machine());

    if (strcmp(os, "linux") != 0 || strcmp(arch, machine()) != 0)
        return err_set(e, ERR_INVALID, "the image is for %.20s on %.20s, this host is linux on %s",
                       os, arch, machine());
    if (config && json_type_of(config) != JSON_OBJ)
        config = NULL;
    m->entrypoint = strings(a, config, "Entrypoint");
    m->cmd = strings(a, config, "Cmd");
    m->env = env_map(a, config ? json_get(config, "Env") : NULL, e);
    if (!m->env)
        return -1;
    m->cwd = config ? json_get_str(a, config, "WorkingDir", "/") : "/";
    if (!*m->cwd)
        m->cwd = "/";
    m->user = config ? json_get_str(a, config, "User", "") : "";
    m->stop_signal = config ? json_get_str(a, config, "StopSignal", "") : "";
    if (*m->stop_signal && !process_signal(m->stop_signal))
        return err_set(e, ERR_INVALID, "the image's StopSignal '%.40s' is no signal",
                       m->stop_signal);
    *diff_ids = root ? json_get(root, "diff_ids") : NULL;
    if (!*diff_ids || json_type_of(*diff_ids) != JSON_ARR || json_len(*diff_ids) > IMAGE_LAYERS_MAX)
        return err_set(e, ERR_INVALID, "the image's configuration lists no layers, or too many");
    return 0;
}

/* ---- layers ---- */

/* Unpacks layer 'i' of 'n' (the lowest is 0) from 'fd' and checks its diff id. */
static int add_layer(const struct image_paths *p, int fd, const struct json_value *diff_ids,
                     size_t i, size_t n, struct progress *g, struct manifest *m, struct err *e)
{
    char want[IMAGE_HEX], hex[IMAGE_HEX], step[80];

    snprintf(step, sizeof(step), "unpacking layer %zu of %zu", i + 1, n);
    progress_set(g, (int)(50 + 45 * i / n), step, NULL);
    TRY(digest_hex(json_str_of(json_at(diff_ids, i), NULL), want, e));
    TRY(layer_add_file(p, fd, m, hex, e));
    return strcmp(want, hex) == 0
               ? 0
               : err_set(e, ERR_INVALID, "layer %zu is not what the image's configuration says",
                         i + 1);
}

/* ---- OCI ---- */

static bool platform_fits(struct arena *a, const struct json_value *entry)
{
    const struct json_value *p = json_get(entry, "platform");

    return !p || (strcmp(json_get_str(a, p, "os", "linux"), "linux") == 0 &&
                  strcmp(json_get_str(a, p, "architecture", machine()), machine()) == 0);
}

/* Goes down from an index to the manifest of this machine.  What is looked at on the way may be
 * much, and is kept no longer than that. */
static int find_manifest(int dir, struct arena *a, const struct json_value *index, int depth,
                         struct str *text, char hex[IMAGE_HEX], struct err *e)
{
    const struct json_value *list = json_get(index, "manifests");

    size_t n = list && json_type_of(list) == JSON_ARR ? json_len(list) : 0;
    for (size_t i = 0; i < n && i < INDEX_ENTRIES; i++) {
        _cleanup_(arena_free) struct arena mine = ARENA((size_t)4 * DOCUMENT_BYTES);
        const struct json_value *entry = json_at(list, i);
        const char *digest = json_get_str(&mine, entry, "digest", NULL);
        struct str got;
        if (!platform_fits(&mine, entry))
            continue;
        TRY(blob_document(dir, OCI_BLOBS, &mine, digest, &got, e));
        _cleanup_(json_freep) struct json_value *doc = json_parse(got, e);
        if (!doc)
            return -1;
        if (json_get(doc, "layers")) {
            *text = (struct str){ arena_dup(a, got.p, got.n), got.n };
            return digest_hex(digest, hex, e);
        }
        if (depth < INDEX_DEPTH && json_get(doc, "manifests"))
            return find_manifest(dir, a, doc, depth + 1, text, hex, e);
    }
    return err_set(e, ERR_INVALID, "the archive holds no image for linux on %s", machine());
}

/* 'folder' is where blobs lie, by their hex. */
static int load_manifest(const struct image_paths *p, int dir, const char *folder, struct arena *a,
                         struct str text, struct progress *g, struct manifest *m, struct err *e)
{
    _cleanup_(json_freep) struct json_value *doc = json_parse(text, e);
    const struct json_value *diff_ids;
    struct str config_text;

    if (!doc)
        return -1;
    const struct json_value *layers = json_get(doc, "layers"), *ref = json_get(doc, "config");
    TRY(blob_document(dir, folder, a, ref ? json_get_str(a, ref, "digest", NULL) : NULL,
                      &config_text, e));
    _cleanup_(json_freep) struct json_value *config = json_parse(config_text, e);
    if (!config)
        return -1;
    TRY(read_config(a, config, m, &diff_ids, e));
    size_t n = layers && json_type_of(layers) == JSON_ARR ? json_len(layers) : 0;
    if (n == 0 || n != json_len(diff_ids))
        return err_set(e, ERR_INVALID, "the image's manifest and configuration differ in layers");
    for (size_t i = 0; i < n; i++) {
        char hex[IMAGE_HEX], path[128];
        TRY(digest_hex(json_get_str(a, json_at(layers, i), "digest", NULL), hex, e));
        snprintf(path, sizeof(path), "%s%s", folder, hex);
        _cleanup_close_ int fd = open_blob(dir, path, e);
        TRY(fd);
        TRY(verify(fd, hex, e));
        TRY(add_layer(p, fd, diff_ids, i, n, g, m, e));
    }
    return 0;
}

static int load_layout(const struct image_paths *p, struct arena *a, int dir, struct progress *g,
                       struct manifest *out, struct err *e)
{
    struct str text;

    TRY(read_document(dir, a, "index.json", &text, e));
    _cleanup_(json_freep) struct json_value *index = json_parse(text, e);
    if (!index)
        return -1;
    TRY(find_manifest(dir, a, index, 0, &text, out->digest, e));
    return load_manifest(p, dir, OCI_BLOBS, a, text, g, out, e);
}

static int load_dir(const struct image_paths *p, struct arena *a, int dir, struct progress *g,
                    struct manifest *out, struct err *e)
{
    struct str text;
    uint8_t hash[32];

    TRY(read_document(dir, a, "manifest.json", &text, e));
    sha256(text.p, text.n, hash);
    hex_encode(hash, sizeof(hash), out->digest);
    return load_manifest(p, dir, "", a, text, g, out, e);
}

/* ---- docker save ---- */

static int load_docker(const struct image_paths *p, struct arena *a, int dir, struct progress *g,
                       struct manifest *m, struct err *e)
{
    const struct json_value *diff_ids;
    struct str text, config_text;

    TRY(read_document(dir, a, "manifest.json", &text, e));
    _cleanup_(json_freep) struct json_value *doc = json_parse(text, e);
    if (!doc)
        return -1;
    const struct json_value *image = json_type_of(doc) == JSON_ARR ? json_at(doc, 0) : NULL;
    const struct json_value *layers = image ? json_get(image, "Layers") : NULL;
    const char *config_path = image ? json_get_str(a, image, "Config", NULL) : NULL;
    if (!layers || !config_path || json_type_of(layers) != JSON_ARR || json_len(doc) != 1)
        return err_set(e, ERR_INVALID, "the archive must hold exactly one image");
    TRY(read_document(dir, a, config_path, &config_text, e));
    _cleanup_(json_freep) struct json_value *config = json_parse(config_text, e);
    if (!config)
        return -1;
    TRY(read_config(a, config, m, &diff_ids, e));
    size_t n = json_len(layers);
    if (n == 0 || n != json_len(diff_ids))
        return err_set(e, ERR_INVALID, "the image's manifest and configuration differ in layers");
    for (size_t i = 0; i < n; i++) {
        const char *path = json_str_of(json_at(layers, i), NULL);
        _cleanup_close_ int fd = open_blob(dir, path ? path : "", e);
        TRY(fd);
        TRY(add_layer(p, fd, diff_ids, i, n, g, m, e));
    }
    manifest_seal(m); /* there is no manifest with a digest in such an archive */
    return 0;
}

/* ---- from outside */

typedef int load_fn(const struct image_paths *p, struct arena *a, int dir, struct progress *g,
                    struct manifest *m, struct err *e);

/* Documents of strangers may be long: they are read into an arena of their own, and the caller's
 * gets what is kept of them. */
static int load(load_fn *fn, const struct image_paths *p, struct arena *a, int dir,
                struct progress *g, struct manifest *m, struct err *e)
{
    _cleanup_(arena_free) struct arena mine = ARENA((size_t)16 * DOCUMENT_BYTES);
    const char **kept[] = { &m->entrypoint, &m->cmd, &m->env, &m->cwd, &m->user, &m->stop_signal };
    size_t n = 0;

    TRY(fn(p, &mine, dir, g, m, e));
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        n += strlen(*kept[i]);
    if (n > CONFIG_BYTES)
        return err_set(e, ERR_TOO_LARGE, "the image's configuration is too long");
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        *kept[i] = arena_strdup(a, *kept[i]);
    return 0;
}

static int open_layout(const char *path, struct err *e)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return dir < 0 ? err_sys(e, errno, "open %s", path) : dir;
}

int image_load_oci(const struct image_paths *p, struct arena *a, const char *path,
                   struct progress *g, struct manifest *out, struct err *e)
{
    _cleanup_close_ int dir = open_layout(path, e);

    TRY(dir);
    return load(load_layout, p, a, dir, g, out, e);
}

int image_load_dir(const struct image_paths *p, struct arena *a, const char *path,
                   struct progress *g, struct manifest *out, struct err *e)
{
    _cleanup_close_ int dir = open_layout(path, e);

    TRY(dir);
    return load(load_dir, p, a, dir, g, out, e);
}

int image_load_archive(const struct image_paths *p, struct arena *a, const char *path,
                       image_read_fn *read, void *ctx, struct progress *g, struct manifest *out,
                       struct err *e)
{
    const struct unpack_opts o = { .read = read, .ctx = ctx };
    _cleanup_close_ int dir = open_layout(path, e);
    struct unpack_result r;

    TRY(dir);
    TRY(unpack_tar(dir, &o, &r, e));
    if (faccessat(dir, "index.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return load(load_layout, p, a, dir, g, out, e);
    if (faccessat(dir, "manifest.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return load(load_docker, p, a, dir, g, out, e);
    return err_set(e, ERR_INVALID, "the archive is neither an OCI layout nor from docker save");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the store writes down of an image, and what it takes from a configuration. */
#include "codec/json.h"
#include "codec/text.h"
#include "drivers/image/local.h"
#include "os/file.h"
#include "os/process.h"

enum { MANIFEST_BYTES = 1 << 20 };

bool image_hex_ok(const char *s)
{
    return s && strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static void put(struct json_out *o, const struct manifest *m)
{
    json_key(o, "layers");
    json_open(o, '[');
    for (size_t i = 0; i < m->n_layers; i++)
        json_str(o, m->layers[i]);
    json_close(o);
    if (m->entrypoint && strcmp(m->entrypoint, "[]") != 0) {
        json_key(o, "entrypoint");
        json_raw(o, m->entrypoint);
    }
    json_key(o, "cmd");
    json_raw(o, m->cmd ? m->cmd : "[]");
    json_key(o, "env");
    json_raw(o, m->env ? m->env : "{}");
    json_kstr(o, "cwd", m->cwd);
    json_kstr(o, "user", m->user);
    if (m->stop_signal && *m->stop_signal)
        json_kstr(o, "stop_signal", m->stop_signal);
}

void manifest_seal(struct manifest *m)
{
    _cleanup_(buf_free) struct buf b = BUF(MANIFEST_BYTES);
    struct json_out o = JSON_OUT(&b);
    uint8_t hash[32];

    json_open(&o, '{');
    put(&o, m);
    json_close(&o);
    sha256(b.p, b.n, hash);
    hex_encode(hash, sizeof(hash), m->digest);
}

int manifest_write(const struct manifest *m, const char *path, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(MANIFEST_BYTES);
    struct json_out o = JSON_OUT(&b);

    json_open(&o, '{');
    json_kstr(&o, "digest", m->digest);
    json_kint(&o, "size", m->size);
    put(&o, m);
    json_close(&o);
    if (b.failed)
        return err_set(e, ERR_TOO_LARGE, "the image's configuration is too long");
    return file_write_atomic(path, b.p, b.n, 0600, e);
}

/* A list of strings, "[]" if it is absent. */
static int read_list(struct arena *a, const struct json_value *doc, const char *name,
                     const char **out, struct err *e)
{
    const struct json_value *list = json_get(doc, name);

    if (list && json_type_of(list) != JSON_ARR)
        return err_set(e, ERR_INVALID, "%s must be a list", name);
    for (size_t i = 0; list && i < json_len(list); i++)
        if (!json_str_of(json_at(list, i), NULL))
            return err_set(e, ERR_INVALID, "%s must be a list of strings", name);
    *out = list ? json_text(a, list) : "[]";
    return 0;
}

int manifest_config(struct arena *a, const char *json, struct manifest *m, struct err *e)
{
    m->entrypoint = m->cmd = "[]";
    m->env = "{}";
    m->cwd = "/";
    m->user = "";
    m->stop_signal = "";
    if (!json)
        return 0;
    _cleanup_(json_freep) struct json_value *doc = json_parse(str_of(json), e);
    if (!doc)
        return -1;
    if (json_type_of(doc) != JSON_OBJ)
        return err_set(e, ERR_INVALID, "the image's configuration is no object");
    const struct json_value *env = json_get(doc, "env");
    if (env && json_type_of(env) != JSON_OBJ)
        return err_set(e, ERR_INVALID, "env must be an object");
    TRY(read_list(a, doc, "entrypoint", &m->entrypoint, e));
    TRY(read_list(a, doc, "cmd", &m->cmd, e));
    for (size_t i = 0; env && i < json_len(env); i++) {
        const char *key;
        if (!json_str_of(json_member(env, i, &key), NULL))
            return err_set(e, ERR_INVALID, "env must be an object of strings");
    }
    m->env = env ? json_text(a, env) : "{}";
    m->cwd = json_get_str(a, doc, "cwd", "/");
    m->user = json_get_str(a, doc, "user", "");
    m->stop_signal = json_get_str(a, doc, "stop_signal", "");
    if (*m->stop_signal && !process_signal(m->stop_signal))
        return err_set(e, ERR_INVALID, "'%.40s' is no signal", m->stop_signal);
    return 0;
}

int manifest_read(struct arena *a, const char *path, struct manifest *out, struct err *e)
{
    struct str text;

    TRY(file_read(a, path, MANIFEST_BYTES, &text, e));
    _cleanup_(json_freep) struct json_value *doc = json_parse(text, e);
    if (!doc)
        return -1;
    struct manifest m = { .size = json_get_int(doc, "size", 0) };
    const struct json_value *layers = json_get(doc, "layers");
    const char *digest = json_get_str(a, doc, "digest", "");
    if (!image_hex_ok(digest) || !layers || json_len(layers) > IMAGE_LAYERS_MAX)
        return err_set(e, ERR_INVALID, "the record of an image makes no sense");
    snprintf(m.digest, sizeof(m.digest), "%s", digest);
    for (; m.n_layers < json_len(layers); m.n_layers++) {
        const char *hex = json_str_of(json_at(layers, m.n_layers), NULL);
        if (!image_hex_ok(hex))
            return err_set(e, ERR_INVALID, "the record of an image makes no sense");
        snprintf(m.layers[m.n_layers], IMAGE_HEX, "%s", hex);
    }
    TRY(manifest_config(a, text.p, &m, e));
    *out = m;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the store keeps of an image: what is read is written and read again to the same. */
#include "drivers/image/fuzz_place.h"
#include "drivers/image/local.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const char *a, const char *b)
{
    if (strcmp(a, b) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct manifest *m = arena_new_n(&a, struct manifest, 3);
    char *text = arena_dup(&a, (const char *)data, size);
    struct err e = { 0 };

    fuzz_place_open();
    if (manifest_config(&a, text, &m[0], &e) == 0 && (!m[0].cmd || !m[0].env || !m[0].cwd))
        abort();
    if (file_write(FUZZ_PLACE "/m", text, size, 0600, &e) < 0)
        abort();
    if (manifest_read(&a, FUZZ_PLACE "/m", &m[1], &e) < 0)
        return 0;
    if (manifest_write(&m[1], FUZZ_PLACE "/m", &e) < 0 ||
        manifest_read(&a, FUZZ_PLACE "/m", &m[2], &e) < 0)
        abort();
    if (m[1].n_layers != m[2].n_layers || m[1].size != m[2].size ||
        memcmp(m[1].layers, m[2].layers, m[1].n_layers * IMAGE_HEX) != 0)
        abort();
    same(m[1].digest, m[2].digest);
    same(m[1].entrypoint, m[2].entrypoint);
    same(m[1].cmd, m[2].cmd);
    same(m[1].env, m[2].env);
    same(m[1].cwd, m[2].cwd);
    same(m[1].user, m[2].user);
    same(m[1].stop_signal, m[2].stop_signal);
    manifest_seal(&m[1]);
    return 0;
}

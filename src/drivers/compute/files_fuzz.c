/* SPDX-License-Identifier: Apache-2.0 */
#include "drivers/compute/compute.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct compute_file *f, *again;
    size_t n, m;
    struct err e;

    if (size > MIB(1) ||
        compute_files_read(&a, arena_dup(&a, (const char *)data, size), &f, &n, &e) < 0)
        return 0;
    const char *text = compute_files_text(&a, f, n, &e);
    if (!text || compute_files_read(&a, text, &again, &m, &e) < 0 || m != n)
        abort();
    for (size_t i = 0; i < n; i++)
        if (strcmp(f[i].name, again[i].name) != 0 || f[i].content.n != again[i].content.n ||
            f[i].mode != again[i].mode || f[i].uid != again[i].uid || f[i].gid != again[i].gid)
            abort();
    return 0;
}

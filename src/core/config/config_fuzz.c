/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration's file: whatever comes, there is a configuration or there are faults. */
#include "core/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf faults = BUF(MIB(4)), text = BUF(MIB(4));
    struct err e;
    struct config *c = config_load_text(NULL, (struct str){ (const char *)data, size }, "f", 0,
                                        NULL, NULL, &faults, &e);

    if (!c == (faults.n == 0))
        abort();
    if (c)
        config_print(c, &text);
    config_free(c);
    buf_free(&faults);
    buf_free(&text);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "drivers/compute/logbook.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = { (const char *)data, size };
    struct log_record r;

    if (log_record_parse(in, &r) &&
        (r.stream < 1 || r.stream > 2 || r.text.p < in.p || r.text.p + r.text.n != in.p + in.n))
        abort();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/setting.h"

#include <stdarg.h>

void setting_wrong(struct setting_check *c, const char *key, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    c->wrong(c, key, arena_vprintf(c->arena, fmt, ap));
    va_end(ap);
}

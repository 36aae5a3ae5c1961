/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of HTTP/1.1 know of single bytes: where in a message each may stand. */

#include "base/base.h"

enum { TOKEN = 1, VALUE = 2, TARGET = 4, HOSTC = 8, DIGIT = 16 };
extern const uint8_t http1_classes[256];

static inline bool is(char c, unsigned class)
{
    return (http1_classes[(uint8_t)c] & class) != 0;
}

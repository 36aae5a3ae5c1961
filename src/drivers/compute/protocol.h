/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What api and agent say to each other beside JSON (os/link.h has the frames). */

#include "codec/json.h"
#include "drivers/compute/compute.h"
#include "os/link.h"

enum {
    PROTOCOL_FILES = 3
}; /* the first version whose orders may have files, a data folder, probes */

/* The lines of a log are BYTES without regard to frames: 1 byte of kind, 1 of stream, 8 each of
 * time and the four numbers of the place, 4 of the text's length (at most LINE_TEXT_MAX), the text;
 * numbers big-endian. */
enum { LINE_TEXT_MAX = 2 << 20 };
void line_encode(const struct compute_line *l, struct buf *out);
/* 1: *out is a line of '*used' bytes; 0: more bytes are needed; -1: no line can begin so. */
int line_decode(struct str in, struct compute_line *out, size_t *used, struct err *e);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files that read values into records know of each other. */

#include "codec/json.h"

enum { FAULTS_KEPT = 100, SHOWN_MAX = 64 };

/* All that a check of one value needs. */
struct reader {
    struct arena *a;
    const struct record *r;
    const struct field *f;
    const char *name; /* as the client wrote it */
    void *row;
    struct faults *faults;
};

#define FAULT_HERE(rd, code, ...) faults_add((rd)->faults, (rd)->name, code, __VA_ARGS__)

/* The name cut to what comes back in a fault: SHOWN_MAX bytes, between characters. */
const char *reader_shown(struct arena *a, const char *s);
/* Why it can be no text of a field, or NULL. */
const char *reader_text_wrong(const char *s, size_t n);
/* Checks the value by its field and keeps it in the row; false: it is among the faults. */
bool reader_value(const struct reader *rd, const struct json_value *v);
/* The field of that name, or alias, that clients may know of; NULL if there is none. */
const struct field *reader_field(const struct record *r, const char *name);

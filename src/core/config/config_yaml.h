/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the configuration know of each other. */

#include "base/buf.h"
#include "core/config/config.h"

struct config_load {
    struct config *c;
    struct buf *faults;
    size_t n_faults;
};

/* One line: 'where' (a file and line, a flag …), then the text. */
void config_fault(struct config_load *l, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The key of that name, or NULL. */
struct config_key *config_find(const struct config *c, struct str name);
/* Checks the text's type and range and sets it; 'origin' is kept. */
void config_set(struct config_load *l, struct config_key *key, struct str text, const char *where,
                const char *origin);
/* Sections and keys of a YAML text. */
void config_yaml(struct config_load *l, struct str text, const char *file);
/* What no key's own type can say: addresses, lists, what belongs together. Completes empty
 * defaults. */
void config_check(struct config_load *l);
/* True if the text is a URL, or a connection string, that has a password in it. */
bool config_has_password(const char *text);

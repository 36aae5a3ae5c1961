/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How each built-in image is made: which Debian packages, what runs in it. */

#include "base/base.h"

/* A link or file that is written into the root after the packages are in. */
struct recipe_file {
    const char *path; /* relative to the root */
    const char *text; /* its content; NULL: 'link' */
    const char *link; /* target of a symlink */
    unsigned mode;    /* of a file; 0: 0644 */
};

struct recipe {
    const char *name;
    const char *packages;  /* comma separated, beside Debian's essential ones; NULL: no Debian */
    const char *cmd, *env; /* JSON */
    const char *cwd, *user;
    const struct recipe_file *files; /* ends with { 0 } */
};

/* NULL if there is none of that name. */
const struct recipe *recipe_find(const char *name);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The client's own file, ~/.config/brume/config.yaml: which clouds this user speaks to, and as
 * whom. It holds credentials, so it is written 0600 and replaced as a whole. */

#include "base/base.h"

struct profile {
    const char *name;
    const char *url, *api_key, *tenant, *ca; /* NULL: not set */
};
struct profiles {
    const char *current; /* a profile's name, or NULL */
    struct profile *v;
    size_t n;
};

enum { PROFILES_MAX = 200 };

/* Where the file is for the user whose home folder is 'home'. */
const char *profiles_path(struct arena *a, const char *home);
/* A missing file is an empty one.  What is no such file is ERR_INVALID, naming the line. */
int profiles_load(struct arena *a, const char *path, struct profiles *out, struct err *e);
/* Makes the folders (0700) it needs. */
int profiles_save(const struct profiles *p, const char *path, struct err *e);
/* NULL if there is none of that name. */
struct profile *profiles_find(const struct profiles *p, const char *name);
/* The profile of that name, made if it is missing. */
struct profile *profiles_add(struct arena *a, struct profiles *p, const char *name);
void profiles_remove(struct profiles *p, const char *name);
/* Letters, digits, '-', '_', '.', at most 64. */
bool profile_name_ok(const char *name);
/* The address of a cloud in the one form that two of them are compared in: with a scheme (https:
 * where none is given, but http: on this machine), scheme and host in lower case, no '/' at its
 * end. NULL if it is neither http://HOST[:PORT][/PATH] nor https:// nor unix:/PATH. */
const char *profile_url(struct arena *a, const char *text);

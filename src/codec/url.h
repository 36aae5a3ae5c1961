/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* URLs that clients give, as RFC 3986 has them: only those with a host, and without a fragment. */

#include "base/arena.h"
#include "base/base.h"

/* What every right one matches: a POSIX extended expression. */
#define URL_PATTERN "^[A-Za-z][A-Za-z0-9+.-]*://[^/?# ][^# ]*$"

/* Checks '*url' and puts its normal form there (6.2.2, 6.2.3): scheme and host in lower case, the
 * digits of escapes in upper case, no port that is the scheme's own, a path.  'schemes' are those
 * it may have, with spaces between; 'user': it may name one, with a password.  Its host is a name
 * of letters, digits and '-', or an address.  Returns NULL if it is fine, else what is wrong in a
 * client's words. */
const char *url_check(struct arena *a, const char *schemes, bool user, const char **url);

/* SPDX-License-Identifier: Apache-2.0 */
/* URLs.  Hides which of the many texts that browsers take for one are meant: none that two readers
 * could understand differently. */
#include "codec/url.h"

#include <ctype.h>

#include "codec/cidr.h"
#include "codec/text.h"

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define PLAIN ALNUM "-._~!$&'()*+,;=" /* unreserved, sub-delims */

enum { HOST_MAX = 253, LABEL_MAX = 63 };

static struct str until(struct str s, size_t n)
{
    return (struct str){ s.p, n };
}

static struct str from(struct str s, size_t n)
{
    return (struct str){ s.p + n, s.n - n };
}

/* Bytes of 's' before the first of 'ends', or all of it. */
static size_t span_to(struct str s, const char *ends)
{
    size_t n = 0;

    while (n < s.n && !strchr(ends, s.p[n]))
        n++;
    return n;
}

static bool scheme_fits(const char *schemes, const char *scheme)
{
    size_t n = strlen(scheme);

    for (const char *at = schemes; *at; at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");

        if (len == n && memcmp(at, scheme, n) == 0)
            return true;
        at += len;
    }
    return false;
}

/* Characters of 'also' beside the plain ones, and escapes, whose digits become upper case. */
static bool part_fits(char *s, size_t n, const char *also)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '%') {
            if (n - i < 3 || !isxdigit((unsigned char)s[i + 1]) ||
                !isxdigit((unsigned char)s[i + 2]))
                return false;
            s[i + 1] = (char)toupper((unsigned char)s[i + 1]);
            s[i + 2] = (char)toupper((unsigned char)s[i + 2]);
            i += 2;
        } else if (s[i] == '\0' || (!strchr(PLAIN, s[i]) && !strchr(also, s[i]))) {
            return false;
        }
    }
    return true;
}

/* A name whose last label is a number is taken for an address by some. */
static bool name_fits(struct str host)
{
    struct str rest = host, label = { NULL, 0 };

    if (host.n == 0 || host.n > HOST_MAX)
        return false;
    for (bool more = true; more;) {
        label = until(rest, span_to(rest, "."));
        for (size_t i = 0; i < label.n; i++)
            if (!strchr(ALNUM "-", label.p[i]) || !label.p[i])
                return false;
        if (label.n == 0 || label.n > LABEL_MAX || label.p[0] == '-' || label.p[label.n - 1] == '-')
            return false;
        more = label.n < rest.n;
        rest = from(rest, label.n + more);
    }
    return !isdigit((unsigned char)label.p[0]);
}

static bool host_fits(struct str host)
{
    struct ip ip;

    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        return ip_parse((struct str){ host.p + 1, host.n - 2 }, &ip) && ip.family == 6;
    return (ip_parse(host, &ip) && ip.family == 4) || name_fits(host);
}

static int64_t port_of(const char *scheme)
{
    return strcmp(scheme, "https") == 0 ? 443 : strcmp(scheme, "http") == 0 ? 80 : 0;
}

/* What stands between "//" and the path; the normal form of host and port goes to '*out'. */
static const char *authority(struct arena *a, const char *scheme, bool user, struct str s,
                             const char **out)
{
    const char *at = s.n ? memrchr(s.p, '@', s.n) : NULL;
    size_t before = at ? (size_t)(at - s.p) + 1 : 0;
    char *who = arena_dup(a, s.p, before);
    int64_t port = 0;

    if (at && !user)
        return "must not name a user or a password";
    if (before && !part_fits(who, before - 1, ":"))
        return "must have a user of characters that URLs have, others escaped";
    s = from(s, before);
    size_t n = s.n && s.p[0] == '[' ? span_to(s, "]") + 1 : span_to(s, ":");
    struct str host = until(s, MIN(n, s.n)), rest = from(s, host.n);
    if (rest.n && (rest.p[0] != ':' || (rest.n > 1 && !int_parse(from(rest, 1), 1, 65535, &port))))
        return "must have a port from 1 to 65535";
    if (!host_fits(host))
        return "must have a host: a name of letters, digits and '-', or an address";
    char *low = arena_dup(a, host.p, host.n);
    for (char *p = low; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    *out = port && port != port_of(scheme) ? arena_printf(a, "%s%s:%lld", who, low, (long long)port)
                                           : arena_printf(a, "%s%s", who, low);
    return NULL;
}

const char *url_check(struct arena *a, const char *schemes, bool user, const char **url)
{
    struct str s = str_of(*url);
    size_t n = strspn(s.p, ALNUM "+-.");
    char *scheme = arena_dup(a, s.p, n);
    const char *where;

    for (char *p = scheme; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    if (s.n < n + 3 || memcmp(s.p + n, "://", 3) != 0 || !scheme_fits(schemes, scheme))
        return arena_printf(a, "must be a URL that begins with its scheme (%s) and '://'", schemes);
    s = from(s, n + 3);
    size_t len = span_to(s, "/?#");
    const char *wrong = authority(a, scheme, user, until(s, len), &where);
    if (wrong)
        return wrong;
    s = from(s, len);
    if (span_to(s, "#") < s.n)
        return "must have no fragment ('#')";
    char *rest = arena_dup(a, s.p, s.n);
    if (!part_fits(rest, s.n, ":@/?"))
        return "must have only characters that URLs have, others escaped as %20";
    *url = arena_printf(a, "%s://%s%s%s", scheme, where, *rest == '/' ? "" : "/", rest);
    return NULL;
}

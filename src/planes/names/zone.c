/* SPDX-License-Identifier: Apache-2.0 */
/* Hides how names are kept and matched: each by its id, and those of a VPC sorted. */
#include "planes/names/zone.h"

#include "base/map.h"
#include "codec/cidr.h"
#include "codec/id.h"

enum { NAME_MAX_BYTES = 253 };

struct name {
    struct zone *zone;
    uint8_t ip[4];
    char text[];
};
struct zone {
    struct uuid vpc;
    struct name **names; /* sorted by text */
    size_t n, cap;
};
struct zones {
    struct map *names, *zones; /* by id, by VPC */
};

static size_t length(const struct uuid *u)
{
    return strnlen(u->s, sizeof(u->s) - 1);
}

/* Where 'text' is, or belongs: the first that is not before it. */
static size_t place_of(const struct zone *z, const char *text)
{
    size_t lo = 0, hi = z->n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (strcmp(z->names[mid]->text, text) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Lower case; NULL if it is no name. */
static struct name *read_name(const char *s)
{
    size_t n = s ? strlen(s) : 0;

    if (n == 0 || n > NAME_MAX_BYTES || *s == '.' || s[n - 1] == '.')
        return NULL;
    struct name *out = calloc(1, sizeof(*out) + n + 1);
    if (!out)
        abort();
    for (size_t i = 0; i < n; i++) {
        char c = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-_.", c))) {
            free(out);
            return NULL;
        }
        out->text[i] = c;
    }
    return out;
}

static void take_out(struct zones *all, struct name *x)
{
    struct zone *z = x->zone;
    size_t i = place_of(z, x->text);

    while (z->names[i] != x)
        i++;
    memmove(z->names + i, z->names + i + 1, (--z->n - i) * sizeof(struct name *));
    free(x);
    if (z->n)
        return;
    map_del(all->zones, z->vpc.s, length(&z->vpc));
    free(z->names);
    free(z);
}

static void put_in(struct zones *all, const struct uuid *vpc, struct name *x)
{
    struct zone *z = map_get(all->zones, vpc->s, length(vpc));

    if (!z) {
        z = calloc(1, sizeof(*z));
        if (!z)
            abort();
        z->vpc = *vpc;
        map_set(all->zones, vpc->s, length(vpc), z);
    }
    if (z->n == z->cap) {
        z->cap = MAX((size_t)4, z->cap * 2);
        z->names = realloc(z->names, z->cap * sizeof(struct name *));
        if (!z->names)
            abort();
    }
    size_t i = place_of(z, x->text);
    memmove(z->names + i + 1, z->names + i, (z->n++ - i) * sizeof(struct name *));
    z->names[i] = x;
    x->zone = z;
}

void zones_drop(struct zones *z, const struct uuid *id)
{
    struct name *x = map_del(z->names, id->s, length(id));

    if (x)
        take_out(z, x);
}

int zones_put(struct zones *z, const struct uuid *id, const struct uuid *vpc, const char *name,
              const char *ip, struct err *e)
{
    const struct zone *to;
    struct ip addr;

    zones_drop(z, id);
    if (!ip || !ip_parse(str_of(ip), &addr) || addr.family != 4 || uuid_is_nil(vpc))
        return err_set(e, ERR_INVALID, "the address of a name is malformed");
    to = zones_of(z, vpc);
    if ((to && to->n >= ZONE_NAMES_MAX) || map_count(z->names) >= ZONES_NAMES_MAX)
        return err_set(e, ERR_TOO_LARGE, "a VPC has at most %d names, all together %d",
                       ZONE_NAMES_MAX, ZONES_NAMES_MAX);
    struct name *x = read_name(name);
    if (!x)
        return err_set(e, ERR_INVALID, "a name is malformed");
    memcpy(x->ip, addr.b, 4);
    put_in(z, vpc, x);
    map_set(z->names, id->s, length(id), x);
    return 0;
}

struct zones *zones_new(void)
{
    struct zones *z = calloc(1, sizeof(*z));

    if (!z)
        abort();
    z->names = map_new();
    z->zones = map_new();
    return z;
}

void zones_free(struct zones *z)
{
    size_t at = 0, n;
    const void *key;
    void *value;

    if (!z)
        return;
    while (map_next(z->zones, &at, &key, &n, &value)) {
        struct zone *one = value;
        for (size_t i = 0; i < one->n; i++)
            free(one->names[i]);
        free(one->names);
        free(one);
    }
    map_free(z->zones);
    map_free(z->names);
    free(z);
}

size_t zones_count(const struct zones *z)
{
    return map_count(z->names);
}

const struct zone *zones_of(const struct zones *z, const struct uuid *vpc)
{
    return map_get(z->zones, vpc->s, length(vpc));
}

/* ---- asking */

static size_t find(const struct zone *z, const char *name, size_t n,
                   uint8_t addrs[ZONE_ANSWERS_MAX][4])
{
    char text[DNS_NAME_TEXT];
    size_t found = 0;

    if (!z || n == 0 || n >= sizeof(text))
        return 0;
    memcpy(text, name, n);
    text[n] = '\0';
    for (size_t i = place_of(z, text);
         i < z->n && found < ZONE_ANSWERS_MAX && strcmp(z->names[i]->text, text) == 0; i++)
        memcpy(addrs[found++], z->names[i]->ip, 4);
    return found;
}

enum zone_answer zone_ask(const struct zone *z, const char *name,
                          uint8_t addrs[ZONE_ANSWERS_MAX][4], size_t *count)
{
    static const char top[] = ".internal";
    size_t n = strlen(name), t = sizeof(top) - 1;

    if ((*count = find(z, name, n, addrs)))
        return ZONE_FOUND;
    if (!strchr(name, '.'))
        return n ? ZONE_UNKNOWN : ZONE_FORWARD;
    if (n <= t || strcmp(name + n - t, top) != 0)
        return ZONE_FORWARD;
    n -= t;
    if ((*count = find(z, name, n, addrs)))
        return ZONE_FOUND;
    /* <name>.<vpc>.internal: whatever the VPC is called, it is this one. */
    while (n > 0 && name[n - 1] != '.')
        n--;
    if (n > 1 && (*count = find(z, name, n - 1, addrs)))
        return ZONE_FOUND;
    return ZONE_UNKNOWN;
}

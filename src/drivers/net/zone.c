/* SPDX-License-Identifier: Apache-2.0 */
/* Hides how names are kept and matched: sorted in memory, lines of text on disk. */
#include "drivers/net/zone.h"

#include "base/buf.h"
#include "codec/cidr.h"
#include "codec/text.h"
#include "os/file.h"

enum { NAME_MAX_BYTES = 253, FILE_MAX = 32 << 20 };

struct zone_name {
    const char *name;
    uint8_t ip[4];
};
struct zone {
    struct uuid vpc;
    int64_t revision;
    struct arena arena;
    struct zone_name *names; /* sorted */
    size_t n;
};

static int compare(const void *a, const void *b)
{
    const struct zone_name *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static const char *read_name(struct arena *a, const char *s)
{
    size_t n = s ? strlen(s) : 0;

    if (n == 0 || n > NAME_MAX_BYTES || *s == '.' || s[n - 1] == '.')
        return NULL;
    char *out = arena_dup(a, s, n);
    for (char *p = out; *p; p++) {
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 32);
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || strchr("-_.", *p)))
            return NULL;
    }
    return out;
}

struct zone *zone_new(const struct uuid *vpc, int64_t revision, const struct net_name *names,
                      size_t count, struct err *e)
{
    if (count > ZONE_NAMES_MAX) {
        err_set(e, ERR_TOO_LARGE, "a VPC has at most %d names", ZONE_NAMES_MAX);
        return NULL;
    }
    _cleanup_(zone_freep) struct zone *z = calloc(1, sizeof(*z));
    if (!z)
        abort();
    *z = (struct zone){ .vpc = *vpc, .revision = revision, .arena = ARENA(MIB(64)), .n = count };
    z->names = arena_new_n(&z->arena, struct zone_name, count);
    for (size_t i = 0; i < count; i++) {
        struct ip ip;
        const char *name = read_name(&z->arena, names[i].name);
        if (!name || !names[i].ip || !ip_parse(str_of(names[i].ip), &ip) || ip.family != 4) {
            err_set(e, ERR_INVALID, "name %zu of the VPC, or its address, is malformed", i);
            return NULL;
        }
        z->names[i].name = name;
        memcpy(z->names[i].ip, ip.b, 4);
    }
    qsort(z->names, count, sizeof(*z->names), compare);
    return TAKE(z);
}

void zone_free(struct zone *z)
{
    if (!z)
        return;
    arena_free(&z->arena);
    free(z);
}

const struct uuid *zone_vpc(const struct zone *z)
{
    return &z->vpc;
}

int64_t zone_revision(const struct zone *z)
{
    return z->revision;
}

/* ---- asking ---- */

static size_t find(const struct zone *z, const char *name, size_t n,
                   uint8_t addrs[ZONE_ANSWERS_MAX][4])
{
    char text[DNS_NAME_TEXT];
    size_t lo = 0, hi = z ? z->n : 0, found = 0;

    if (n == 0 || n >= sizeof(text))
        return 0;
    memcpy(text, name, n);
    text[n] = '\0';
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (strcmp(z->names[mid].name, text) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; z && lo < z->n && found < ZONE_ANSWERS_MAX && strcmp(z->names[lo].name, text) == 0; lo++)
        memcpy(addrs[found++], z->names[lo].ip, 4);
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

/* ---- on disk: "revision 7", then a line per name ---- */

static void path_of(const char *dir, const struct uuid *vpc, char out[512])
{
    snprintf(out, 512, "%s/%s", dir, vpc->s);
}

int zone_save(const struct zone *z, const char *dir, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(FILE_MAX);
    char path[512];

    buf_printf(&b, "revision %lld\n", (long long)z->revision);
    for (size_t i = 0; i < z->n; i++) {
        const uint8_t *ip = z->names[i].ip;
        buf_printf(&b, "%s %d.%d.%d.%d\n", z->names[i].name, ip[0], ip[1], ip[2], ip[3]);
    }
    if (b.failed)
        return err_set(e, ERR_TOO_LARGE, "the names of a VPC are too long");
    path_of(dir, &z->vpc, path);
    return file_write(path, b.p, b.n, 0600, e);
}

struct zone *zone_load(const struct uuid *vpc, const char *dir, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(128));
    struct net_name *names;
    char path[512];
    struct str text;
    int64_t revision = -1;
    size_t n = 0;

    path_of(dir, vpc, path);
    if (file_read(&a, path, FILE_MAX, &text, e) < 0)
        return NULL;
    names = arena_new_n(&a, struct net_name, ZONE_NAMES_MAX);
    char *at = arena_dup(&a, text.p, text.n), *line;
    while ((line = strsep(&at, "\n")) && *line) {
        char *value = strchr(line, ' ');
        if (!value)
            break;
        *value++ = '\0';
        if (revision < 0) {
            if (strcmp(line, "revision") != 0 || !int_parse(str_of(value), 0, INT64_MAX, &revision))
                break;
        } else if (n < ZONE_NAMES_MAX) {
            names[n++] = (struct net_name){ line, value };
        }
    }
    if (revision < 0) {
        err_set(e, ERR_INVALID, "the file of a VPC's names makes no sense");
        return NULL;
    }
    return zone_new(vpc, revision, names, n, e);
}

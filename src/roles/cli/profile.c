/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the client's file through libyaml's document tree and writes it by hand: a JSON string is a
 * YAML double-quoted scalar, so the writer needs no emitter.  The form of the file is known here
 * only. */

#include "roles/cli/profile.h"

#include <ctype.h>
#include <sys/stat.h>
#include <yaml.h>

#include "codec/cidr.h"
#include "codec/json.h"
#include "codec/text.h"
#include "os/file.h"

enum { PROFILE_FILE_MAX = 256 * 1024 };

struct member {
    const char *name;
    size_t offset;
};
static const struct member members[] = {
    { "url", offsetof(struct profile, url) },
    { "api_key", offsetof(struct profile, api_key) },
    { "tenant", offsetof(struct profile, tenant) },
    { "ca", offsetof(struct profile, ca) },
};

static const char **member_at(struct profile *p, const struct member *m)
{
    return (const char **)(void *)((char *)p + m->offset);
}

const char *profiles_path(struct arena *a, const char *home)
{
    return arena_printf(a, "%s/.config/brume/config.yaml", home);
}

bool profile_name_ok(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n > 64)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i]))
            return false;
    return true;
}

struct profile *profiles_find(const struct profiles *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (!strcmp(p->v[i].name, name))
            return &p->v[i];
    return NULL;
}

struct profile *profiles_add(struct arena *a, struct profiles *p, const char *name)
{
    struct profile *had = profiles_find(p, name);
    struct profile *v;

    if (had)
        return had;
    v = arena_alloc(a, sizeof(*v) * (p->n + 1));
    if (p->n)
        memcpy(v, p->v, sizeof(*v) * p->n);
    v[p->n].name = arena_strdup(a, name);
    p->v = v;
    return &p->v[p->n++];
}

void profiles_remove(struct profiles *p, const char *name)
{
    struct profile *had = profiles_find(p, name);

    if (!had)
        return;
    if (p->current && !strcmp(p->current, name))
        p->current = NULL;
    memmove(had, had + 1, sizeof(*had) * (size_t)(p->v + p->n - had - 1));
    p->n--;
}

static int bad(const char *path, const yaml_node_t *n, const char *what, struct err *e)
{
    return err_set(e, ERR_INVALID, "%s:%zu: %s", path, n->start_mark.line + 1, what);
}

static const char *scalar(struct arena *a, const yaml_node_t *n)
{
    if (!n || n->type != YAML_SCALAR_NODE || memchr(n->data.scalar.value, 0, n->data.scalar.length))
        return NULL;
    return arena_dup(a, (const char *)n->data.scalar.value, n->data.scalar.length);
}

static int read_profile(struct arena *a, const char *path, yaml_document_t *doc,
                        const yaml_node_t *n, struct profile *out, struct err *e)
{
    if (n->type != YAML_MAPPING_NODE)
        return bad(path, n, "a profile is a mapping of url, api_key, tenant, ca", e);
    for (yaml_node_pair_t *i = n->data.mapping.pairs.start; i < n->data.mapping.pairs.top; i++) {
        const yaml_node_t *k = yaml_document_get_node(doc, i->key);
        const char *key = scalar(a, k);
        const char *value = scalar(a, yaml_document_get_node(doc, i->value));
        bool known = false;

        for (size_t m = 0; key && m < ARRAY_LEN(members); m++) {
            if (strcmp(members[m].name, key) != 0)
                continue;
            known = true;
            if (!value)
                return bad(path, k, "the value must be text", e);
            *member_at(out, &members[m]) = *value ? value : NULL;
        }
        if (!known)
            return bad(path, k, "unknown member (known are url, api_key, tenant, ca)", e);
    }
    return 0;
}

static int read_profiles(struct arena *a, const char *path, yaml_document_t *doc,
                         const yaml_node_t *n, struct profiles *out, struct err *e)
{
    if (n->type != YAML_MAPPING_NODE)
        return bad(path, n, "'profiles' is a mapping of names", e);
    for (yaml_node_pair_t *i = n->data.mapping.pairs.start; i < n->data.mapping.pairs.top; i++) {
        const yaml_node_t *k = yaml_document_get_node(doc, i->key);
        const char *name = scalar(a, k);

        if (!name || !profile_name_ok(name))
            return bad(path, k, "a profile's name has letters, digits, '-', '_' and '.' only", e);
        if (out->n == PROFILES_MAX)
            return bad(path, k, "too many profiles", e);
        TRY(read_profile(a, path, doc, yaml_document_get_node(doc, i->value),
                         profiles_add(a, out, name), e));
    }
    return 0;
}

static int read_document(struct arena *a, const char *path, yaml_document_t *doc,
                         struct profiles *out, struct err *e)
{
    const yaml_node_t *root = yaml_document_get_root_node(doc);

    if (!root)
        return 0;
    if (root->type != YAML_MAPPING_NODE)
        return bad(path, root, "expected 'current' and 'profiles'", e);
    for (yaml_node_pair_t *i = root->data.mapping.pairs.start; i < root->data.mapping.pairs.top;
         i++) {
        const yaml_node_t *k = yaml_document_get_node(doc, i->key);
        const yaml_node_t *v = yaml_document_get_node(doc, i->value);
        const char *key = scalar(a, k);

        if (key && !strcmp(key, "profiles"))
            TRY(read_profiles(a, path, doc, v, out, e));
        else if (key && !strcmp(key, "current"))
            out->current = scalar(a, v);
        else
            return bad(path, k, "unknown member (known are current, profiles)", e);
    }
    return 0;
}

int profiles_load(struct arena *a, const char *path, struct profiles *out, struct err *e)
{
    struct profiles got = { 0 };
    yaml_parser_t parser;
    yaml_document_t doc;
    struct str text;
    int rc;

    if (access(path, F_OK) < 0 && errno == ENOENT) {
        *out = got;
        return 0;
    }
    TRY(file_read(a, path, PROFILE_FILE_MAX, &text, e));
    if (!yaml_parser_initialize(&parser))
        return err_set(e, ERR_INTERNAL, "out of memory");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
    if (!yaml_parser_load(&parser, &doc)) {
        rc = err_set(e, ERR_INVALID, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                     parser.problem ? parser.problem : "not YAML");
        yaml_parser_delete(&parser);
        return rc;
    }
    rc = read_document(a, path, &doc, &got, e);
    yaml_document_delete(&doc);
    yaml_parser_delete(&parser);
    if (rc == 0)
        *out = got;
    return rc;
}

static void put_member(struct buf *b, struct json_out *o, const char *indent, const char *key,
                       const char *value)
{
    if (!value)
        return;
    buf_printf(b, "%s%s: ", indent, key);
    o->comma = 0;
    json_str(o, value);
    buf_putc(b, '\n');
}

/* The folders above 'path', the two last of which are ours alone. */
static int make_folders(const char *path, struct err *e)
{
    _cleanup_free_ char *dir = strdup(path);
    char *slash = dir ? strrchr(dir, '/') : NULL;

    if (!slash)
        return err_set(e, ERR_INVALID, "%s is no path", path);
    *slash = '\0';
    return dir_make(dir, 0700, e);
}

int profiles_save(const struct profiles *p, const char *path, struct err *e)
{
    struct buf b = BUF(PROFILE_FILE_MAX);
    struct json_out o = JSON_OUT(&b);
    int rc;

    buf_puts(&b, "# Profiles of the brume client; `brume config profiles` lists them.\n");
    put_member(&b, &o, "", "current", p->current);
    buf_puts(&b, p->n ? "profiles:\n" : "profiles: {}\n");
    for (size_t i = 0; i < p->n; i++) {
        size_t before;

        buf_printf(&b, "  %s:", p->v[i].name);
        before = b.n;
        buf_putc(&b, '\n');
        for (size_t m = 0; m < ARRAY_LEN(members); m++)
            put_member(&b, &o, "    ", members[m].name, *member_at(&p->v[i], &members[m]));
        if (b.n == before + 1) {
            b.n = before;
            buf_puts(&b, " {}\n");
        }
    }
    if (b.failed)
        rc = err_set(e, ERR_TOO_LARGE, "too many profiles for %s", path);
    else if ((rc = make_folders(path, e)) == 0)
        rc = file_write_atomic(path, b.p, b.n, 0600, e);
    buf_free(&b);
    return rc;
}

/* ---- addresses */

static bool is_this_machine(struct str host)
{
    struct ip ip;

    if (str_is(host, "localhost") || str_is(host, "[::1]"))
        return true;
    return ip_parse(host, &ip) && ip.family == 4 && ip.b[0] == 127;
}

/* How long the host is that 's' begins with, 0 if what follows it is no port or path. */
static size_t host_length(const char *s)
{
    const char *six = *s == '[' ? strchr(s, ']') : NULL;
    size_t n = six ? (size_t)(six - s) + 1 : strcspn(s, "[:/");
    const char *rest = s + n;
    size_t digits = *rest == ':' ? strcspn(rest + 1, "/") : 0;
    int64_t port;

    if (*rest == ':' && !int_parse((struct str){ rest + 1, digits }, 1, 65535, &port))
        return 0;
    return *rest && *rest != ':' && *rest != '/' ? 0 : n;
}

const char *profile_url(struct arena *a, const char *text)
{
    char *host = arena_strdup(a, text);
    const char *scheme = NULL;
    size_t n = strlen(text);

    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 127 || strchr("?#@\"<>\\", *p))
            return NULL;
    if (!strncmp(text, "unix:", 5))
        return text[5] == '/' ? host : NULL;
    while (n && host[n - 1] == '/')
        host[--n] = '\0';
    if (!strncasecmp(host, "http://", 7))
        scheme = "http";
    else if (!strncasecmp(host, "https://", 8))
        scheme = "https";
    else if (strstr(host, "://"))
        return NULL;
    host += scheme ? strlen(scheme) + 3 : 0;
    n = host_length(host);
    if (!n)
        return NULL;
    for (size_t i = 0; i < n; i++)
        host[i] = (char)tolower((unsigned char)host[i]);
    if (!scheme)
        scheme = is_this_machine((struct str){ host, n }) ? "http" : "https";
    return arena_printf(a, "%s://%s", scheme, host);
}

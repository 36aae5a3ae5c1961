/* SPDX-License-Identifier: Apache-2.0 */
/* Routes as a tree of segments.  Hides the search: at each level the literal segment is tried
 * first, then {param}, then the wildcard, with a way back, so that the most literal row wins. */
#include "http/router.h"

#include <assert.h>

enum { MAX_SEGMENTS = 32, MAX_METHODS = METHOD_OTHER + 1 };

struct node {
    struct str text;       /* of a literal segment */
    struct node *children; /* literal ones, sorted */
    size_t n_children;
    struct node *param;    /* any one segment */
    struct leaf *leaf;     /* the path ends here */
    struct leaf *wildcard; /* takes the rest */
};

/* What stands at the end of a path: a value for each method. */
struct leaf {
    void *values[MAX_METHODS];
    char *names[MAX_METHODS][ROUTER_MAX_PARAMS]; /* each row names its parameters itself */
    size_t n_names;
    unsigned methods;
};

struct router {
    struct node root;
};

struct router *router_new(void)
{
    struct router *r = calloc(1, sizeof(*r));

    if (!r)
        abort();
    return r;
}

static void leaf_free(struct leaf *l)
{
    if (!l)
        return;
    for (size_t m = 0; m < MAX_METHODS; m++)
        for (size_t i = 0; i < ROUTER_MAX_PARAMS; i++)
            free(l->names[m][i]);
    free(l);
}

static void node_clear(struct node *n)
{
    char *text;

    for (size_t i = 0; i < n->n_children; i++)
        node_clear(&n->children[i]);
    free(n->children);
    if (n->param) {
        node_clear(n->param);
        free(n->param);
    }
    leaf_free(n->leaf);
    leaf_free(n->wildcard);
    memcpy(&text, &n->text.p, sizeof(text));
    free(text);
}

void router_free(struct router *r)
{
    if (!r)
        return;
    node_clear(&r->root);
    free(r);
}

static int compare(struct str a, struct str b)
{
    int c = memcmp(a.p, b.p, MIN(a.n, b.n));

    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* Where 'text' stands among the literal children, or would stand. */
static size_t find_child(const struct node *n, struct str text, bool *found)
{
    size_t low = 0, high = n->n_children;

    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = compare(n->children[mid].text, text);
        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *found = false;
    return low;
}

/* ---- building */

static void *zeroed(size_t n)
{
    void *p = calloc(1, n);

    if (!p)
        abort();
    return p;
}

static struct node *literal_child(struct node *n, struct str text)
{
    bool found;
    size_t at = find_child(n, text, &found);

    if (found)
        return &n->children[at];
    n->children = realloc(n->children, (n->n_children + 1) * sizeof(*n->children));
    char *copy = strndup(text.p, text.n);
    if (!n->children || !copy)
        abort();
    memmove(&n->children[at + 1], &n->children[at], (n->n_children - at) * sizeof(*n->children));
    n->children[at] = (struct node){ .text = { copy, text.n } };
    n->n_children++;
    return &n->children[at];
}

struct segment {
    enum { LITERAL, PARAM, REST } kind;
    struct str text; /* literal text, or the name */
};

static int read_segment(struct str s, struct segment *out)
{
    *out = (struct segment){ LITERAL, s };
    if (memchr(s.p, '{', s.n) == NULL)
        return s.n ? 0 : -1;
    if (s.n < 3 || s.p[0] != '{' || s.p[s.n - 1] != '}')
        return -1;
    out->kind = PARAM;
    out->text = (struct str){ s.p + 1, s.n - 2 };
    if (s.n > 6 && memcmp(s.p + s.n - 4, "...}", 4) == 0) {
        out->kind = REST;
        out->text.n -= 3;
    }
    return memchr(out->text.p, '{', out->text.n) || memchr(out->text.p, '.', out->text.n) ? -1 : 0;
}

/* Splits "/a/{b}/{c...}"; -1 if it is no pattern. */
static int read_pattern(const char *pattern, struct segment *out, size_t *n)
{
    const char *p = pattern;

    *n = 0;
    if (*p != '/')
        return -1;
    if (p[1] == '\0')
        return 0;
    while (*p == '/') {
        const char *end = strchrnul(++p, '/');
        if (*n == MAX_SEGMENTS || read_segment((struct str){ p, (size_t)(end - p) }, &out[*n]) < 0)
            return -1;
        if (*n && out[*n - 1].kind == REST)
            return -1;
        (*n)++;
        p = end;
    }
    return 0;
}

int router_add(struct router *r, enum method m, const char *pattern, void *value, struct err *e)
{
    struct segment segments[MAX_SEGMENTS];
    struct str names[ROUTER_MAX_PARAMS];
    size_t n, n_names = 0;
    struct node *at = &r->root;
    struct leaf **leaf = NULL;

    if (read_pattern(pattern, segments, &n) < 0 || m <= METHOD_NONE || m > METHOD_OTHER)
        return err_set(e, ERR_INVALID, "%s is no pattern of a route", pattern);
    for (size_t i = 0; i < n; i++) {
        if (segments[i].kind == LITERAL)
            continue;
        if (n_names == ROUTER_MAX_PARAMS)
            return err_set(e, ERR_INVALID, "%s has too many parameters", pattern);
        names[n_names++] = segments[i].text;
    }
    for (size_t i = 0; i < n; i++) {
        if (segments[i].kind == LITERAL)
            at = literal_child(at, segments[i].text);
        else if (segments[i].kind == PARAM)
            at = at->param ? at->param : (at->param = zeroed(sizeof(*at)));
        else
            leaf = &at->wildcard;
    }
    assert(at);
    if (!leaf)
        leaf = &at->leaf;
    if (!*leaf)
        *leaf = zeroed(sizeof(**leaf));
    if ((*leaf)->methods & 1u << m)
        return err_set(e, ERR_ALREADY_EXISTS, "%s %s is routed twice", method_name(m), pattern);
    (*leaf)->methods |= 1u << m;
    (*leaf)->values[m] = value;
    (*leaf)->n_names = n_names;
    for (size_t i = 0; i < n_names; i++)
        if (!((*leaf)->names[m][i] = strndup(names[i].p, names[i].n)))
            abort();
    return 0;
}

/* ---- finding */

struct search {
    struct str segments[MAX_SEGMENTS + 1]; /* decoded; [i] begins the raw rest raw[i] */
    struct str raw[MAX_SEGMENTS + 1];
    bool odd[MAX_SEGMENTS + 1]; /* empty, "." or "..": only inside a wildcard */
    size_t n;                   /* segments; what is deeper only a wildcard can take */
    bool deeper;
    struct str values[ROUTER_MAX_PARAMS];
    size_t n_values;
    struct arena *arena;
    /* Result. */
    const struct leaf *leaf;
    struct str found[ROUTER_MAX_PARAMS];
    unsigned methods; /* of all rows that fit the path */
    enum method method;
};

/* False on a bad escape or an encoded NUL.  Without '%' nothing is copied. */
static bool decode(struct arena *a, struct str s, struct str *out)
{
    *out = s;
    if (!memchr(s.p, '%', s.n))
        return true;
    char *p = arena_alloc(a, s.n);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        p[n] = s.p[i];
        if (s.p[i] == '%') {
            int high = i + 2 < s.n ? hex_value(s.p[i + 1]) : -1,
                low = i + 2 < s.n ? hex_value(s.p[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0)
                return false;
            p[n] = (char)(high * 16 + low);
            i += 2;
        }
        n++;
    }
    *out = (struct str){ p, n };
    return true;
}

static void visit_leaf(struct search *s, const struct leaf *l)
{
    unsigned want = 1u << s->method;

    if (!l)
        return;
    s->methods |= l->methods;
    if (s->method == HEAD && !(l->methods & want))
        want = 1u << GET;
    if (s->leaf || !(l->methods & want))
        return;
    s->leaf = l;
    memcpy(s->found, s->values, sizeof(s->values));
}

static void visit_rest(struct search *s, const struct node *node, size_t depth)
{
    if (!node->wildcard || depth > s->n || (depth == s->n && !s->deeper) ||
        s->n_values == ROUTER_MAX_PARAMS)
        return;
    if (s->raw[depth].n == 0)
        return;
    decode(s->arena, s->raw[depth], &s->values[s->n_values]); /* its escapes are known to be good */
    visit_leaf(s, node->wildcard);
}

/* Goes on after a hit too, for the methods of the other rows of this path. */
static void visit(struct search *s, const struct node *node, size_t depth)
{
    bool found;

    if (depth == s->n && !s->deeper) {
        visit_leaf(s, node->leaf);
        return;
    }
    if (depth < s->n && !s->odd[depth]) {
        size_t at = find_child(node, s->segments[depth], &found);
        if (found)
            visit(s, &node->children[at], depth + 1);
        if (node->param && s->n_values < ROUTER_MAX_PARAMS) {
            s->values[s->n_values++] = s->segments[depth];
            visit(s, node->param, depth + 1);
            s->n_values--;
        }
    }
    visit_rest(s, node, depth);
}

static bool split(struct search *s, struct str path)
{
    const char *p = path.p, *end = path.p + path.n;

    if (path.n == 1)
        return true;
    while (p < end) {
        const char *from = ++p;
        s->raw[s->n] = (struct str){ from, (size_t)(end - from) };
        if (s->n == MAX_SEGMENTS) {
            struct str ignored;
            s->deeper = true;
            return decode(s->arena, s->raw[s->n], &ignored);
        }
        const char *slash = memchr(from, '/', (size_t)(end - from));
        p = slash ? slash : end;
        struct str *d = &s->segments[s->n];
        if (!decode(s->arena, (struct str){ from, (size_t)(p - from) }, d))
            return false;
        s->odd[s->n++] = d->n == 0 || str_is(*d, ".") || str_is(*d, "..");
    }
    return true;
}

enum router_result router_find(const struct router *r, struct arena *a, enum method m,
                               struct str path, struct router_match *out)
{
    struct search s;

    s.n = s.n_values = 0;
    s.deeper = false;
    s.arena = a;
    s.leaf = NULL;
    s.methods = 0;
    s.method = m;
    out->value = NULL;
    out->n_params = 0;
    out->methods = 0;
    if (path.n == 0 || path.p[0] != '/')
        return ROUTER_NO_PATH;
    if (!split(&s, path))
        return ROUTER_BAD_PATH;
    visit(&s, &r->root, 0);
    out->methods = s.methods;
    if (!s.methods)
        return ROUTER_NO_PATH;
    if (!s.leaf)
        return ROUTER_NO_METHOD;
    if (!(s.leaf->methods & 1u << m))
        m = GET;
    out->value = s.leaf->values[m];
    out->n_params = s.leaf->n_names;
    for (size_t i = 0; i < out->n_params; i++) {
        out->params[i].name = s.leaf->names[m][i];
        out->params[i].value = s.found[i];
    }
    return ROUTER_FOUND;
}

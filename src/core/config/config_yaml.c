/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration's file: two levels of YAML, nothing else of it.  Hides libyaml; everything
 * wrong is reported with its line, not only the first thing. */
#include "core/config/config_yaml.h"

#include <yaml.h>

struct reading {
    struct config_load *l;
    yaml_document_t *doc;
    const char *file;
    int *line_of; /* where a key was given, 0: not yet */
};

static int line_of(const yaml_node_t *n)
{
    return (int)n->start_mark.line + 1;
}

static const char *place(struct reading *r, const yaml_node_t *n)
{
    return arena_printf(&r->l->c->arena, "%s:%d", r->file, line_of(n));
}

static struct str scalar(const yaml_node_t *n)
{
    return (struct str){ (const char *)n->data.scalar.value, n->data.scalar.length };
}

static bool is_plain(const yaml_node_t *n)
{
    return n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static void read_value(struct reading *r, struct config_key *key, const char *name,
                       const yaml_node_t *v)
{
    const struct setting *k = key->is;
    const char *where = place(r, v);

    if (v->type != YAML_SCALAR_NODE) {
        config_fault(r->l, where, "%s must be one value, not a %s", name,
                     v->type == YAML_MAPPING_NODE ? "mapping" : "list");
        return;
    }
    struct str s = scalar(v);
    if (is_plain(v) && (s.n == 0 || str_is(s, "~") || str_is(s, "null"))) {
        config_fault(r->l, where, "%s has no value; write \"\" for none", name);
        return;
    }
    if (k->type != SET_STR && !is_plain(v)) {
        config_fault(r->l, where, "%s must be %s, without quotes", name,
                     k->type == SET_INT ? "an integer" : "true or false");
        return;
    }
    config_set(r->l, key, s, arena_printf(&r->l->c->arena, "%s: %s", where, name),
               arena_printf(&r->l->c->arena, "file %s", where));
}

static void read_key(struct reading *r, struct str section, const yaml_node_t *k,
                     const yaml_node_t *v)
{
    if (k->type != YAML_SCALAR_NODE) {
        config_fault(r->l, place(r, k), "a key must be a word");
        return;
    }
    struct str word = scalar(k);
    const char *name = arena_printf(&r->l->c->arena, "%.*s.%.*s", (int)MIN(section.n, (size_t)40),
                                    section.p, (int)MIN(word.n, (size_t)40), word.p);
    struct config_key *key = config_find(r->l->c, str_of(name));
    if (!key) {
        config_fault(r->l, place(r, k), "%s: no such key", name);
        return;
    }
    int *line = &r->line_of[key - r->l->c->keys];
    if (*line) {
        config_fault(r->l, place(r, k), "%s is given twice, first in line %d", name, *line);
        return;
    }
    *line = line_of(k);
    read_value(r, key, name, v);
}

static bool section_known(const struct config *c, struct str s)
{
    for (size_t i = 0; i < c->n_keys; i++) {
        const char *name = c->keys[i].is->name;

        if (strncmp(name, s.p, s.n) == 0 && name[s.n] == '.')
            return true;
    }
    return false;
}

static void read_section(struct reading *r, const yaml_node_t *k, const yaml_node_t *v)
{
    if (k->type != YAML_SCALAR_NODE || !section_known(r->l->c, scalar(k))) {
        config_fault(r->l, place(r, k), "%.40s: no such section",
                     k->type == YAML_SCALAR_NODE ? (const char *)k->data.scalar.value
                                                 : "(not a word)");
        return;
    }
    if (v->type == YAML_SCALAR_NODE && is_plain(v) && scalar(v).n == 0)
        return; /* a section whose keys are all commented out */
    if (v->type != YAML_MAPPING_NODE) {
        config_fault(r->l, place(r, v), "%.40s must be a section of keys",
                     (const char *)k->data.scalar.value);
        return;
    }
    for (yaml_node_pair_t *p = v->data.mapping.pairs.start; p < v->data.mapping.pairs.top; p++)
        read_key(r, scalar(k), yaml_document_get_node(r->doc, p->key),
                 yaml_document_get_node(r->doc, p->value));
}

static void read_document(struct config_load *l, yaml_document_t *doc, const char *file)
{
    struct reading r = { .l = l, .doc = doc, .file = file };

    r.line_of = arena_new_n(&l->c->arena, int, l->c->n_keys);
    const yaml_node_t *root = yaml_document_get_root_node(doc);

    if (!root)
        return;
    if (root->type == YAML_SCALAR_NODE && is_plain(root) && scalar(root).n == 0)
        return;
    if (root->type != YAML_MAPPING_NODE) {
        config_fault(l, place(&r, root), "the file must hold sections of keys");
        return;
    }
    for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top;
         p++) {
        for (yaml_node_pair_t *q = root->data.mapping.pairs.start; q < p; q++) {
            const yaml_node_t *a = yaml_document_get_node(doc, p->key);
            const yaml_node_t *b = yaml_document_get_node(doc, q->key);

            if (a->type == YAML_SCALAR_NODE && b->type == YAML_SCALAR_NODE &&
                str_eq(scalar(a), scalar(b))) {
                config_fault(l, place(&r, a), "section %.40s is given twice, first in line %d",
                             (const char *)a->data.scalar.value, line_of(b));
                break;
            }
        }
        read_section(&r, yaml_document_get_node(doc, p->key),
                     yaml_document_get_node(doc, p->value));
        if (l->n_faults > 100)
            return;
    }
}

static void parser_fault(struct config_load *l, const yaml_parser_t *p, const char *file)
{
    size_t line = p->error == YAML_READER_ERROR ? 0 : p->problem_mark.line + 1;

    if (line)
        config_fault(l, arena_printf(&l->c->arena, "%s:%zu", file, line), "%s",
                     p->problem ? p->problem : "not YAML");
    else
        config_fault(l, file, "%s", p->problem ? p->problem : "not YAML");
}

void config_yaml(struct config_load *l, struct str text, const char *file)
{
    yaml_parser_t parser;
    yaml_document_t doc;

    if (!yaml_parser_initialize(&parser))
        abort();
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text.p ? text.p : ""), text.n);
    for (int i = 0;; i++) {
        if (!yaml_parser_load(&parser, &doc)) {
            parser_fault(l, &parser, file);
            break;
        }
        bool end = !yaml_document_get_root_node(&doc);
        if (!end && i == 0)
            read_document(l, &doc, file);
        else if (!end)
            config_fault(l, file, "has more than one document");
        yaml_document_delete(&doc);
        if (end || i)
            break;
    }
    yaml_parser_delete(&parser);
}

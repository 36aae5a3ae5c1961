/* SPDX-License-Identifier: Apache-2.0 */
/* The row that a path begins with, loaded before the handler that is about what hangs below it.
 * Hides how long it is locked, and for whom. */
#include "core/rows/parent.h"

#include "core/request/request.h"
#include "core/rows/refs.h"

const struct field *parent_field(const struct record *parent, const struct record *r)
{
    for (size_t i = 0; i < r->n_fields; i++)
        if (r->fields[i].type == F_REF && r->fields[i].ref == parent)
            return &r->fields[i];
    return NULL;
}

const struct field *parent_field_of(const struct call *c, const struct record *r)
{
    const struct record *parent = c->route->parent;

    return parent && r != parent ? parent_field(parent, r) : NULL;
}

const struct uuid *parent_id(const struct call *c)
{
    return FIELD_CAT(c->parent, record_field(c->route->parent, "id"), struct uuid);
}

bool held_alone(const void *parent _unused_)
{
    return true;
}

/* Who holds a row in common and then wants it alone waits for all others that do the same: so which
 * it is to be is asked before. */
static int load(struct call *c, struct err *e)
{
    const struct route *route = c->route;
    void *row = arena_alloc(c->arena, route->parent->size);
    bool alone = route->alone == held_alone;

    if (route->alone && !alone && c->p->writing && db_is_postgres(c->db)) {
        TRY(row_target(c, route->parent, ROW_FREE, row, e));
        alone = route->alone(row);
    }
    TRY(row_target(c, route->parent, alone ? ROW_ALONE : ROW_SHARED, row, e));
    c->parent = row;
    return 0;
}

int parent_resolve(struct call *c, struct err *e)
{
    if (c->route->parent)
        TRY(load(c, e));
    return c->p->writing && c->route->in ? refs_resolve(c, e) : 0;
}

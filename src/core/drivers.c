/* SPDX-License-Identifier: Apache-2.0 */
/* Opens and closes drivers by their classes.  Hides which are real: nobody above knows a class but
 * who uses it. */
#include "core/drivers.h"

struct drivers {
    struct arena arena;
    struct drivers_opts o;
    size_t n;
    struct slot {
        const struct driver_class *class;
        void *live, *test;
        bool mine; /* closed with this */
    } slots[];
};

struct opening {
    struct driver_opts base;
    const struct drivers *of;
};

static void *other(const struct driver_opts *o, const struct driver_class *c)
{
    return drivers_get(((const struct opening *)(const void *)o)->of, c, MODE_LIVE);
}

static void *open_live(struct drivers *d, const struct driver_class *c, struct err *e)
{
    const struct config *config = d->o.config;
    struct opening o = { .of = d,
                         .base = { .arena = &d->arena,
                                   .settings =
                                       c->settings ? config_values(config, c->settings) : NULL,
                                   .state_dir = config->state_dir,
                                   .host = d->o.host,
                                   .installation = d->o.installation,
                                   .other = other } };

    return config->fake_drivers && c->simulate ? c->simulate() : c->open(&o.base, e);
}

static struct drivers *make(const struct drivers_opts *o)
{
    size_t n = 0;

    for (const struct driver_class *const *c = o->classes; *c; c++)
        n += (*c)->open != NULL;
    struct drivers *d = calloc(1, sizeof(*d) + n * sizeof(struct slot));
    if (!d)
        abort();
    d->arena = ARENA(MIB(1));
    d->o = *o;
    return d;
}

/* Those of 'before', but for what is to be opened anew. */
static struct drivers *open_all(const struct drivers_opts *o, const struct drivers *before,
                                struct err *e)
{
    struct drivers *d = make(o);

    for (const struct driver_class *const *c = o->classes; *c; c++) {
        struct slot *s = &d->slots[d->n];

        if (!(*c)->open)
            continue;
        if (before)
            *s = before->slots[d->n];
        s->class = *c;
        s->mine = !before || (*c)->reload;
        if (s->mine && !(s->live = open_live(d, *c, e))) {
            drivers_free(d);
            return NULL;
        }
        if (s->mine)
            s->test = (*c)->simulate ? (*c)->simulate() : s->live;
        d->n++;
    }
    return d;
}

struct drivers *drivers_open(const struct drivers_opts *o, struct err *e)
{
    return open_all(o, NULL, e);
}

struct drivers *drivers_renew(struct drivers *before, const struct config *config, struct err *e)
{
    struct drivers_opts o = before->o;

    o.config = config;
    return open_all(&o, before, e);
}

void drivers_free(struct drivers *d)
{
    if (!d)
        return;
    while (d->n) {
        struct slot *s = &d->slots[--d->n];

        if (s->mine && s->test != s->live)
            s->class->close(s->test);
        if (s->mine)
            s->class->close(s->live);
    }
    arena_free(&d->arena);
    free(d);
}

void *drivers_get(const struct drivers *d, const struct driver_class *class, enum mode mode)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->slots[i].class == class)
            return mode == MODE_TEST ? d->slots[i].test : d->slots[i].live;
    return NULL;
}

bool drivers_answer(const struct drivers *d)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->slots[i].class->answers && !d->slots[i].class->answers(d->slots[i].live))
            return false;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that last: followed streams and those that are parked.  Each ends with the credential it
 * came by.  A revocation marks those it concerns, and they look it up again: a parked one at once,
 * a stream before its next line.  Over PostgreSQL others revoke too, so there each looks now and
 * then. */
#include "core/request/request.h"

static const int64_t LOOK_EVERY = SECONDS(2); /* over PostgreSQL */

struct live {
    pthread_mutex_t lock;
    _Atomic uint64_t revocations; /* so far */
    struct call_private *first;
};

struct live *live_new(void)
{
    struct live *l = calloc(1, sizeof(*l));

    if (!l)
        abort();
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

void live_free(struct live *l)
{
    if (!l)
        return;
    pthread_mutex_destroy(&l->lock);
    free(l);
}

uint64_t live_now(const struct live *l)
{
    return atomic_load(&l->revocations);
}

void live_add(struct call_private *p)
{
    struct live *l = p->c.app->live;

    if (p->live.listed || !p->auth.authenticated)
        return;
    p->live.listed = true;
    p->live.looked = clock_mono(clock_system());
    pthread_mutex_lock(&l->lock);
    /* One that came between its credential's look-up and now has not found it here. */
    if (live_now(l) != p->live.revocations)
        atomic_store(&p->live.look_again, true);
    p->live.user = p->who.user_id;
    p->live.key = p->who.key_id;
    p->live.prev = NULL;
    p->live.next = l->first;
    if (l->first)
        l->first->live.prev = p;
    l->first = p;
    pthread_mutex_unlock(&l->lock);
}

void live_del(struct call_private *p)
{
    struct live *l = p->c.app->live;

    if (!p->live.listed)
        return;
    p->live.listed = false;
    pthread_mutex_lock(&l->lock);
    if (p->live.prev)
        p->live.prev->live.next = p->live.next;
    else
        l->first = p->live.next;
    if (p->live.next)
        p->live.next->live.prev = p->live.prev;
    pthread_mutex_unlock(&l->lock);
}

void live_revoked(struct app *app, const struct uuid *user_id, const struct uuid *key_id)
{
    struct live *l = app->live;
    bool any = false;

    pthread_mutex_lock(&l->lock);
    atomic_fetch_add(&l->revocations, 1);
    for (struct call_private *p = l->first; p; p = p->live.next) {
        bool user = user_id && !uuid_is_nil(user_id) && uuid_eq(&p->live.user, user_id);
        bool key = key_id && !uuid_is_nil(key_id) && uuid_eq(&p->live.key, key_id);
        bool all = !user_id && !key_id;

        if (!user && !key && !all)
            continue;
        atomic_store(&p->live.look_again, true);
        any = true;
    }
    pthread_mutex_unlock(&l->lock);
    if (any)
        park_wake(app->park);
}

static bool due(struct call_private *p)
{
    const struct app *app = p->c.app;
    int64_t now = clock_mono(clock_system());

    if (!p->live.listed)
        return false;
    if (atomic_exchange(&p->live.look_again, false) || TAKE(p->live.owed))
        return true;
    if (p->who.expires_at && p->who.expires_at <= clock_wall(app->clock))
        return true;
    if (!app->postgres || now - p->live.looked < LOOK_EVERY)
        return false;
    p->live.looked = now;
    return true;
}

int live_check(struct call_private *p, struct db *db, struct err *e)
{
    _cleanup_(arena_free) struct arena own = ARENA(MIB(1));
    struct arena *arena = p->c.arena;
    struct principal was = p->who;
    struct uuid wanted = p->auth.tenant_wanted;

    if (!due(p))
        return 0;
    p->c.arena = &own; /* a stream does this for as long as it lasts */
    p->c.now = clock_wall(p->c.app->clock);
    p->auth.tenant_wanted =
        was.tenant_id; /* that it may still act there, not where it would act now */
    int rc = auth_lookup(p, db, e);
    if (rc == 0)
        rc = auth_admit(p, e);
    if (rc == 0)
        rc = auth_allowed(p, e);
    p->c.arena = arena;
    p->who = was;
    p->auth.tenant_wanted = wanted;
    p->c.tenant = was.tenant_id;
    if (rc < 0) /* it may run again: a transaction that was undone, a store that did not answer */
        atomic_store(&p->live.look_again, true);
    return rc;
}

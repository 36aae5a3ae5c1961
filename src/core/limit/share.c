/* SPDX-License-Identifier: Apache-2.0 */
/* One counter of flows for each kind, under a lock of its own.  Hides nothing but the locks. */
#include "core/limit/share.h"

#include <pthread.h>

struct share {
    pthread_mutex_t lock;
    struct fair *fair;
};
struct shares {
    struct share of[SHARE_KINDS];
};

struct shares *shares_new(const struct config *c)
{
    struct shares *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    for (size_t i = 0; i < SHARE_KINDS; i++) {
        pthread_mutex_init(&s->of[i].lock, NULL);
        s->of[i].fair = fair_new(MAX(c->share[i].total, (int64_t)1), 1);
    }
    return s;
}

void shares_free(struct shares *s)
{
    for (size_t i = 0; s && i < SHARE_KINDS; i++) {
        fair_free(s->of[i].fair);
        pthread_mutex_destroy(&s->of[i].lock);
    }
    free(s);
}

enum fair_result shares_take(struct shares *s, enum share_kind kind, const struct flow *flow,
                             int64_t n)
{
    struct share *x = &s->of[kind];

    pthread_mutex_lock(&x->lock);
    enum fair_result got = fair_take(x->fair, flow, n);
    pthread_mutex_unlock(&x->lock);
    return got;
}

void shares_give(struct shares *s, enum share_kind kind, uint64_t key, int64_t n)
{
    struct share *x = &s->of[kind];

    pthread_mutex_lock(&x->lock);
    fair_give(x->fair, key, n);
    pthread_mutex_unlock(&x->lock);
}

void shares_counts(struct shares *s, enum share_kind kind, struct fair_counts *out)
{
    struct share *x = &s->of[kind];

    pthread_mutex_lock(&x->lock);
    fair_counts(x->fair, out);
    pthread_mutex_unlock(&x->lock);
}

int shares_refuse(enum share_kind kind, enum fair_result why, int64_t most, int64_t *retry_after,
                  struct err *e)
{
    *retry_after = 1;
    if (why == FAIR_OWN)
        return err_set(e, ERR_RATE_LIMITED, "Over %lld %s of this tenant", (long long)most,
                       share_rows[kind].what);
    return err_set(e, ERR_OVERLOADED, "What is left of %s is kept for others",
                   share_rows[kind].what);
}

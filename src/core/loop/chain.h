/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The audit's hash chain: one a tenant.  A chainer follows the journal, off the writer's way, and
 * adds a block for the entries of a tenant that it finds in a turn.  A block holds for each entry
 * its id, a digest of its personal fields (keyed, so that nobody can guess them from it) and a
 * digest of all others and of that one; its hash is over these and the hash before, its signature
 * by the installation's key.  So an entry whose personal fields are taken out still proves the
 * rest, and a block can be proved when its entries are gone.
 *
 *     hash = SHA-256("brume audit\n" tenant "\n" number "\n" hash before "\n" entries)
 *
 * What it cannot show alone is that the newest blocks are gone together with their entries: for
 * that an auditor keeps the head that verify gave him. */

#include "core/loop/consumer.h"

struct audit_proof {
    bool valid;
    int64_t records;         /* entries that were proved, */
    int64_t from, to;        /* when the first and the last of them were written; 0: none, */
    struct uuid first, last; /* their ids, */
    int64_t redacted;        /* and so many of them whose personal fields are gone */
    int64_t head_number;     /* of the last block that was proved; 0: none */
    char head_hash[65];
    bool anchored; /* older entries were swept: up to block */
    int64_t anchor_number, anchor_at;
    char anchor_hash[65];
    struct uuid broken; /* the first entry that is not what it was; nil: of no entry */
    const char
        *reason;     /* why not valid: changed, missing, added, moved, chain, anchor; else NULL */
    int64_t pending; /* entries that are not chained yet */
    bool more;       /* there are further blocks: go on behind .head_number and .head_seq */
    int64_t head_seq;
};

extern const struct consumer_kind chain_kind;
extern const struct consumer audit_chain;

/* Before the audit of rows behind 'from' up to 'to' goes: notes, signed, where what remains of the
 * chains begins, and drops the blocks that are not needed any more. */
int chain_anchor(struct call *c, int64_t from, int64_t to, struct err *e) _must_check_;
/* Proves the chain of the call's tenant from behind block 'number' (0: its beginning), whose last
 * row is 'seq', or as much of it as one request may. */
int chain_verify(struct call *c, int64_t number, int64_t seq, struct audit_proof *out,
                 struct err *e) _must_check_;

/* ---- chain.c and verify.c */

enum { CHAIN_SEQ = 8, CHAIN_ID = 36, CHAIN_PERSONAL = 16, CHAIN_DIGEST = 32 };
struct chain_entry {        /* as it stands in a block: bytes only */
    uint8_t seq[CHAIN_SEQ]; /* most significant first */
    char id[CHAIN_ID];
    uint8_t personal[CHAIN_PERSONAL];
    uint8_t digest[CHAIN_DIGEST];
};
/* Columns of the journal that chain_entry_make() takes, from the first on. */
#define CHAIN_COLUMNS                                                                         \
    "seq, actor, ip, user_agent, id, CAST(at AS TEXT), tenant_id, project_id, mode, user_id," \
    " key_id, action, object_kind, object_id, outcome, CAST(status AS TEXT), request_id, trace_id"
enum { CHAIN_AT = 5, CHAIN_TENANT = 6, CHAIN_N_COLUMNS = 18 };
/* 'personal': that of the block, to be taken for the row's own; NULL: the row's. */
void chain_entry_make(struct app *app, const struct col *c, const uint8_t *personal,
                      struct chain_entry *out);
bool chain_entry_impersonal(const struct col *c); /* has no personal fields */
void chain_hash(const char *tenant, int64_t number, const char *before, struct blob entries,
                char out[65]);
void chain_sign_block(struct app *app, const char *tenant, int64_t number, const char *hash,
                      char out[65]);
void chain_sign_anchor(struct app *app, const char *tenant, int64_t number, const char *hash,
                       int64_t swept_seq, int64_t swept_at, char out[65]);
static inline int64_t chain_entry_seq(const struct chain_entry *x)
{
    int64_t v = 0;

    for (int i = 0; i < CHAIN_SEQ; i++)
        v = v << 8 | x->seq[i];
    return v;
}

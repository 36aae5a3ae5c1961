/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The test world: a whole cloud in one process, with a fake clock and fake drivers, spoken to over HTTP.
 *
 *     TEST(a_received_message_stays_hidden_until_its_timeout)
 *     {
 *         _cleanup_(world_freep) struct world *w = world_new();
 *         const char *q = post(w, "/queues", "{'name':'jobs','visibility_timeout':30}").id;
 *
 *         CHECK_EQ(post(w, fmt("/queues/%s/messages", q), "{'body':'hello'}").status, 201);
 *         CHECK_EQ(get(w, "/queues/%s/messages", q).len, 1);
 *         world_sleep(w, SECONDS(31));
 *     }
 *     TESTS(queue)
 *
 * Bodies may use ' for ". Every test runs on SQLite, and again on PostgreSQL when BRUME_TEST_POSTGRES
 * (a URL) is set.  Every answer is checked against its route's tables (no field undeclared, ids and times
 * well-formed, errors in our shape).  TESTS(service) ends with the check that each route of that service was hit
 * with: success, a validation error (where it has a body or parameters), a stranger's object (404, where it
 * has {id}), a missing scope (403), no credential (401). */

#include "core/app.h"

struct world;
struct reply {
    int status;
    struct str body;   /* in the world's arena, as all below */
    struct json_value *json; /* NULL if it is not JSON; the world's */
    size_t len;        /* elements, if a list (bare, or the envelope's data) */
    const char *id;    /* member "id" of an object, or NULL */
    const char *code;  /* error.code, or NULL */
    const char *headers; /* raw head */
};
/* Who speaks: an admin of tenant one by default. */
enum speaker { AS_OWNER, AS_VIEWER, AS_MEMBER, AS_STRANGER, AS_NO_SCOPE, AS_NOBODY, AS_OPERATOR, AS_TEST_KEY };

struct world *world_new(void);
void world_free(struct world *w);
DEFINE_CLEANUP(struct world *, world_free)
/* Moves the fake clock and lets reconcilers do what has fallen due. */
void world_sleep(struct world *w, int64_t micros);
/* Lets reconcilers run until nothing is due now. */
void world_settle(struct world *w);
struct app *world_app(struct world *w);
struct clock *world_clock(struct world *w);
struct compute *world_compute(struct world *w); /* the fake */
/* A credential of that speaker ("" for AS_NOBODY); a key with these scopes only. */
const char *world_key(struct world *w, enum speaker who);
const char *world_key_scoped(struct world *w, const char *scopes);

struct reply get(struct world *w, const char *path, ...) __attribute__((format(printf, 2, 3)));
struct reply post(struct world *w, const char *path, const char *body);
struct reply put(struct world *w, const char *path, const char *body);
struct reply patch(struct world *w, const char *path, const char *body);
struct reply del(struct world *w, const char *path, ...) __attribute__((format(printf, 2, 3)));
/* Anything: 'headers' are lines "Name: value" separated by \n, or NULL; 'key' NULL is the owner's. */
struct reply ask(struct world *w, enum method m, const char *path, const char *key,
                 const char *headers, const char *body);
struct reply as(struct world *w, enum speaker who, enum method m, const char *path, const char *body);
/* Text in a ring of 16 buffers. */
const char *fmt(const char *f, ...) __attribute__((format(printf, 1, 2)));
/* A member of the answer by dotted path ("user.id", "data.0.name"), as text; NULL if absent. */
const char *member(struct reply r, const char *path);
int64_t member_int(struct reply r, const char *path);
/* Value of a response header, or NULL. */
const char *header(struct reply r, const char *name);

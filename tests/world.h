/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The test world: a whole cloud in one process, with a fake clock and fake drivers, spoken to over
 * HTTP.
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
 *     TESTS(queue, a_received_message_stays_hidden_until_its_timeout)
 *
 * Bodies may use ' for ". Every test runs on SQLite, and again on PostgreSQL when
 * BRUME_TEST_POSTGRES (a URL) is set.  Every answer is checked against its route's tables (no field
 * undeclared, ids and times well-formed, errors in our shape).  TESTS(service) ends with tests of
 * each route of that service: it refuses nobody (401), who lacks its scope (403), and, with 400 and
 * the field's name, every fault that its tables know of a body or of parameters, leaving no row;
 * and with the check that each was hit with success and, where it has {id}, with a stranger's
 * object (404).  Of validation services test what their tables do not say. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/app.h"
#include "http/outgoing_fake.h"

struct world;
struct reply {
    int status;
    struct str body;         /* in the world's arena, as all below */
    struct json_value *json; /* NULL if it is not JSON; the world's */
    size_t len;              /* elements, if a list (bare, or the envelope's data) */
    const char *id;          /* member "id" of an object, or NULL */
    const char *code;        /* error.code, or NULL */
    const char *headers;     /* raw head */
    bool cut;                /* its chunks have no end */
};
/* Who speaks: an admin of tenant one by default. */
enum speaker {
    AS_OWNER,
    AS_VIEWER,
    AS_MEMBER,
    AS_STRANGER,
    AS_NO_SCOPE,
    AS_NOBODY,
    AS_OPERATOR,
    AS_TEST_KEY
};

/* The services under test, by services.c; core's own tests give their own. */
extern const struct service *const all_services[];

/* Where there is no identity service (or a test wants others), who speaks is known by this: the
 * credential of a speaker, or with 'scopes' one that has these only. NULL: through identity's
 * routes. */
extern const char *(*world_credentials)(struct world *w, enum speaker who, const char *scopes);
/* May change the configuration before a world starts; NULL: nothing. */
extern void (*world_configure)(struct config *c);
/* Settings of worlds that start, as a configuration's file has them; NULL: none. */
extern const char *world_settings;

struct world *world_new(void);
void world_free(struct world *w);
DEFINE_CLEANUP(struct world *, world_free)
/* Moves the fake clock and lets reconcilers do what has fallen due. */
void world_sleep(struct world *w, int64_t micros);
/* Lets reconcilers run until nothing is due now. */
void world_settle(struct world *w);
struct app *world_app(struct world *w);
struct clock *world_clock(struct world *w);
/* What was sent to URLs of tenants in live mode, and what they answer (http/outgoing_fake.h). */
struct outgoing *world_outgoing(struct world *w);
/* A loop of any service, by its name. */
const struct reconciler *world_loop(const char *name);
/* The text of the newest mail that was sent, or "". */
const char *world_mail(struct world *w);
/* A credential of that speaker ("" for AS_NOBODY); a key with these scopes only. */
const char *world_key(struct world *w, enum speaker who);
const char *world_key_scoped(struct world *w, const char *scopes);

struct reply get(struct world *w, const char *path, ...) __attribute__((format(printf, 2, 3)));
struct reply post(struct world *w, const char *path, const char *body);
struct reply put(struct world *w, const char *path, const char *body);
struct reply patch(struct world *w, const char *path, const char *body);
struct reply del(struct world *w, const char *path, ...) __attribute__((format(printf, 2, 3)));
/* The answer to the making of one: by its route, from the examples of its tables, in other rows
 * that are made likewise. */
struct reply make_one(struct world *w, const struct record *r);
/* A stranger gets 404 of each route of the service under test whose path begins so
 * ("/queues/{id}"), with the owner's object as its first parameter. */
void strangers_are_refused(struct world *w, const char *path, const char *id);
/* Anything: 'headers' are lines "Name: value" separated by \n, or NULL; 'key' NULL is the owner's.
 */
struct reply ask(struct world *w, enum method m, const char *path, const char *key,
                 const char *headers, const char *body);
struct reply as(struct world *w, enum speaker who, enum method m, const char *path,
                const char *body);
/* Text in a ring of 512 buffers; main thread only. */
const char *fmt(const char *f, ...) __attribute__((format(printf, 1, 2)));
/* A member of the answer by dotted path ("user.id", "data.0.name"), as text; NULL if absent. */
const char *member(struct reply r, const char *path);
int64_t member_int(struct reply r, const char *path);
/* Value of a response header, or NULL. */
const char *header(struct reply r, const char *name);

/* A whole answer as the peer's bytes bring it, to a request given byte by byte. */
struct reply ask_raw(struct world *w, struct str request);
/* A request that is answered later: its connection; the answer ends it. */
int ask_begin(struct world *w, enum method m, const char *path, const char *key,
              const char *headers, const char *body);
struct reply ask_end(struct world *w, int fd);
/* Stops the whole process' part and starts it anew over the same store, with world_settings if they
 * are others now. */
void world_restart(struct world *w);
/* world_settings are another, and come into force as by SIGHUP: reload marks are not asked. */
void world_reload(struct world *w, const char *settings);
bool world_is_postgres(struct world *w);
/* The one number that a query gives. */
int64_t world_int(struct world *w, const char *sql);
/* Where the store has rows of a tenant: "table n", a line each. */
const char *world_rows_of(struct world *w, const struct uuid *tenant);
int world_port(struct world *w);

/* ---- what test files are made of */
struct world_test {
    const char *name;
    void (*fn)(void **state);
    struct world_test *next;
};
void world_register(struct world_test *t);
int world_main(const char *service, int argc, char **argv);

#define TEST(name)                                                  \
    static void name(void **state);                                 \
    static struct world_test name##_test_ = { #name, name, NULL };  \
    __attribute__((constructor)) static void name##_register_(void) \
    {                                                               \
        world_register(&name##_test_);                              \
    }                                                               \
    static void name(void **state _unused_)
/* Runs every TEST of the file; further arguments are for the reader. */
#define TESTS(service, ...)                      \
    int main(int argc, char **argv)              \
    {                                            \
        return world_main(#service, argc, argv); \
    }
#define CHECK(x)       assert_true(x)
#define CHECK_EQ(a, b) assert_int_equal((a), (b))
#define CHECK_STR(a, b)                     \
    do {                                    \
        const char *check_a_ = (a);         \
        assert_non_null(check_a_);          \
        assert_string_equal(check_a_, (b)); \
    } while (0)

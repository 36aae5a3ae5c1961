/* SPDX-License-Identifier: Apache-2.0 */
/* Who speaks in the world, and the program around its tests: a round on SQLite, one on PostgreSQL,
 * and a look at what has been covered. */
#include <regex.h>

#include "tests/world_private.h"

const char *(*world_credentials)(struct world *w, enum speaker who, const char *scopes);

/* identity's, where it is among the services. */
int identity_first_run(struct app *app, struct arena *a, const char **api_key,
                       const char **password, bool *made, struct err *e) __attribute__((weak));
int identity_project_key(struct app *app, struct arena *a, const struct uuid *tenant_id,
                         const struct uuid *project_id, enum mode mode, const char *name,
                         const char *scopes, const char **secret, struct err *e)
    __attribute__((weak));

/* ---- speakers */

static const char *log_in(struct world *w, const char *name)
{
    struct reply r = ask(
        w, POST, "/auth/register", "", NULL,
        fmt("{'email':'%s@example.test','password':'correct-Horse-7','name':'%s'}", name, name));

    if (r.status != 201)
        fail_msg("register %s: %d %s", name, r.status, r.body.p);
    r = ask(w, POST, "/auth/login", "", NULL,
            fmt("{'email':'%s@example.test','password':'correct-Horse-7'}", name));
    const char *key = member(r, "api_key");
    if (!key)
        fail_msg("log in %s: %d %s", name, r.status, r.body.p);
    return arena_strdup(&w->arena, key);
}

/* A user of the owner's tenant. */
static const char *member_key(struct world *w, const char *role)
{
    world_key(w, AS_OWNER);
    const char *key = log_in(w, role);
    const char *tenant = arena_strdup(&w->arena, member(get(w, "/tenants"), "0.id"));
    struct reply r = post(w, fmt("/tenants/%s/members", tenant),
                          fmt("{'email':'%s@example.test','role':'%s'}", role, role));

    if (r.status != 201)
        fail_msg("make %s a member: %d %s", role, r.status, r.body.p);
    r = ask(w, POST, fmt("/tenants/%s/switch", tenant), key, NULL, NULL);
    if (r.status != 200)
        fail_msg("switch: %d %s", r.status, r.body.p);
    return key;
}

static const char *operator_key(struct world *w)
{
    const char *key = NULL, *password = NULL;
    struct err e = { 0 };
    bool made = false;

    must(identity_first_run(w->app, &w->arena, &key, &password, &made, &e) == 0, "the first run",
         &e);
    return made ? key : NULL;
}

static const char *test_key(struct world *w)
{
    const char *key = NULL;
    struct uuid tenant, project;
    struct err e = { 0 };

    uuid_new(&w->clock, &project);
    must(uuid_parse(str_of(member(get(w, "/tenants"), "0.id")), &tenant), "tenant", NULL);
    must(identity_project_key && identity_project_key(w->app, &w->arena, &tenant, &project,
                                                      MODE_TEST, "test", NULL, &key, &e) == 0,
         "a test key", &e);
    return key;
}

static const char *make_key(struct world *w, enum speaker who)
{
    if (world_credentials)
        return world_credentials(w, who, NULL);
    if (who != AS_OWNER && who != AS_NOBODY)
        world_key(w, AS_OWNER);
    switch (who) {
    case AS_OWNER:
        /* The first user of an installation is its operator. */
        if (identity_first_run)
            w->operator_key = operator_key(w);
        return log_in(w, "owner");
    case AS_STRANGER:
        return log_in(w, "stranger");
    case AS_VIEWER:
        return member_key(w, "viewer");
    case AS_MEMBER:
        return member_key(w, "member");
    case AS_NO_SCOPE:
        return world_key_scoped(w, "nothing:read");
    case AS_OPERATOR:
        must(w->operator_key, "no operator: a user was registered before the owner", NULL);
        return w->operator_key;
    case AS_TEST_KEY:
        return test_key(w);
    case AS_NOBODY:
        break;
    }
    return "";
}

const char *world_key(struct world *w, enum speaker who)
{
    if (!w->keys[who]) {
        w->keys[who] = ""; /* whoever is asked meanwhile */
        w->keys[who] = make_key(w, who);
    }
    return w->keys[who];
}

const char *world_key_scoped(struct world *w, const char *scopes)
{
    if (world_credentials)
        return world_credentials(w, AS_OWNER, scopes);
    struct buf b = BUF(4096);
    for (const char *at = scopes; *at;) {
        size_t n = strcspn(at, " ,");

        buf_printf(&b, "%s\"%.*s\"", b.n ? "," : "", (int)n, at);
        at += n + strspn(at + n, " ,");
    }
    struct reply r =
        post(w, "/auth/keys", fmt("{\"name\":\"scoped\",\"scopes\":[%s]}", buf_cstr(&b)));
    buf_free(&b);
    const char *key = member(r, "key");
    if (!key)
        fail_msg("a key of scopes %s: %d %s", scopes, r.status, r.body.p);
    return arena_strdup(&w->arena, key);
}

/* ---- the program */

static struct world_test *tests, **tests_end = &tests;

void world_register(struct world_test *t)
{
    *tests_end = t;
    tests_end = &t->next;
}

const struct service *world_under_test;

const char *world_path(const struct route *r)
{
    char text[512];
    size_t n = 0;
    bool as_is = strncmp(r->path, "/v1/", 4) == 0 || strncmp(r->path, "/.", 2) == 0;

    if (r->on == PLATFORM && !as_is)
        n = (size_t)snprintf(text, sizeof(text), "/v1");
    for (const char *p = r->path; *p && n + 40 < sizeof(text); p++) {
        if (*p != '{') {
            text[n++] = *p;
            continue;
        }
        n += (size_t)snprintf(text + n, 40, "01890000-0000-7000-8000-000000000000");
        p = strchr(p, '}');
    }
    text[n] = '\0';
    return fmt("%s", text);
}

static void every_route_refuses_who_is_nobody_and_who_lacks_its_scope(void **state _unused_)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (const struct route *r = world_under_test->routes; r && r->path; r++) {
        if (r->public)
            continue;
        struct reply got = ask(w, r->method, world_path(r), "", NULL, NULL);
        if (got.status != 401)
            fail_msg("%s %s answers %d to nobody", method_name(r->method), r->path, got.status);
        got = ask(w, r->method, world_path(r), world_key(w, AS_NO_SCOPE), NULL, NULL);
        if (got.status != 403)
            fail_msg("%s %s answers %d without its scope", method_name(r->method), r->path,
                     got.status);
    }
}

static void every_route_refuses_what_its_tables_do_not_allow(void **state _unused_)
{
    _cleanup_(world_freep) struct world *w = world_new();

    world_faults(w, world_under_test->routes);
}

/* ---- forms: the check, and the pattern that the description shows, are of one mind */

static void form_holds(const struct record *r, const struct field *f)
{
    static const char letters[] = "aZ0-_./:@!,*+ 9\xc3\xa9";
    struct arena a = ARENA(MIB(1));
    const struct form *form = f->form;
    regex_t re;
    uint32_t dice = 7;

    if (!form->example || !form->check || regcomp(&re, form->pattern, REG_EXTENDED | REG_NOSUB))
        fail_msg("%s.%s: its form lacks a check, an example or a pattern", r->name, f->name);
    for (int i = 0; i < 20000; i++) {
        char text[128];
        size_t n = (size_t)snprintf(text, sizeof(text), "%s", form->example);

        for (int k = 0; k < i % 6; k++) {
            dice = dice * 1664525 + 1013904223;
            size_t at = n ? (dice >> 8) % n : 0;
            char letter = letters[(dice >> 20) % (sizeof(letters) - 1)];
            if (dice >> 31)
                text[at] = letter;
            else if (n + 1 < sizeof(text)) {
                memmove(text + at + 1, text + at, ++n - at);
                text[at] = letter;
            }
        }
        /* A form of JSON sees it as such. */
        const char *value =
            f->type == F_JSON ? arena_printf(&a, "\"%s\"", text) : arena_strdup(&a, text);
        bool right = !form->check(&a, &value);
        if ((right || i == 0) && regexec(&re, text, 0, NULL, 0) != 0)
            fail_msg("%s.%s: '%s' is right, and its pattern says no", r->name, f->name, text);
        if (i == 0 && !right)
            fail_msg("%s.%s: its own example is wrong", r->name, f->name);
        arena_reset(&a, KIB(64));
    }
    regfree(&re);
    arena_free(&a);
}

static void forms_hold(const struct record *r)
{
    for (size_t i = 0; r && i < r->n_fields; i++) {
        if (r->fields[i].form)
            form_holds(r, &r->fields[i]);
        forms_hold(r->fields[i].of);
    }
}

static void every_form_shows_what_its_check_lets_through(void **state _unused_)
{
    for (const struct route *r = world_under_test->routes; r && r->path; r++) {
        forms_hold(r->in);
        forms_hold(r->query);
    }
}

static int lacking(const struct route *r)
{
    unsigned hits = world_hits(r);
    bool stranger = strstr(r->path, "{id}") && !r->public && !(hits & HIT_STRANGER);
    bool success = !r->planned && !(hits & HIT_OK);
    int bad = success + stranger;

    if (bad)
        fprintf(stderr, "not covered: %s %s:%s%s\n", method_name(r->method), r->path,
                success ? " success" : "", stranger ? " a stranger's 404" : "");
    return bad;
}

static int run_round(const char *only)
{
    struct CMUnitTest list[1024];
    size_t n = 0;

    memset(list, 0, sizeof(list));
    for (struct world_test *t = tests; t && n < ARRAY_LEN(list) - 8; t = t->next)
        if (!only || strstr(t->name, only))
            list[n++] = (struct CMUnitTest){ t->name, t->fn, NULL, NULL, NULL };
#define OWN(test)                     \
    {                                 \
#        test, test, NULL, NULL, NULL \
    }
    static const struct CMUnitTest own[] = {
        OWN(every_form_shows_what_its_check_lets_through),
        OWN(every_route_refuses_what_its_tables_do_not_allow),
        OWN(every_route_refuses_who_is_nobody_and_who_lacks_its_scope),
    };
    for (size_t i = 0; world_under_test && i < ARRAY_LEN(own); i++)
        if (!only || strstr(own[i].name, only))
            list[n++] = own[i];
    return _cmocka_run_group_tests(world_postgres ? "postgres" : "sqlite", list, n, NULL, NULL);
}

int world_main(const char *service, int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL;
    int failed = 0, bare = 0;

    for (size_t i = 0; all_services[i]; i++)
        if (strcmp(all_services[i]->name, service) == 0)
            world_under_test = all_services[i];
    log_init(getenv("BRUME_TEST_LOG") ? LOG_DEBUG : LOG_ERROR, false, "test");
    world_sweep();
    if (!getenv("BRUME_TEST_ONLY_POSTGRES"))
        failed = run_round(only);
    world_postgres = getenv("BRUME_TEST_POSTGRES");
    if (world_postgres && !*world_postgres)
        world_postgres = NULL;
    if (world_postgres)
        failed += run_round(only);
    for (const struct route *r = world_under_test ? world_under_test->routes : NULL;
         r && r->path && !only; r++)
        bare += lacking(r);
    world_sweep();
    return failed || bare ? 1 : 0;
}

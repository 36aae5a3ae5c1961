/* SPDX-License-Identifier: Apache-2.0 */
/* Where the worlds of a program have their stores.  Migrations run once, on a store that is no
 * world's, and each world begins with a copy of that: so a test costs the same however many
 * services there are. */
#include "tests/world_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <libpq-fe.h>

#include "os/file.h"

const char *world_postgres;

static char first_file[80], first_database[64]; /* migrated, and nobody's; "": not yet made */

static const char *top(void)
{
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

static void make_folder(char dir[64])
{
    snprintf(dir, 64, "%s/brume-world-%d-XXXXXX", top(), (int)getpid());
    must(mkdtemp(dir) != NULL, "a folder", NULL);
}

/* The URL with another database in the place of its last segment. */
static const char *url_of(struct arena *a, const char *database)
{
    const char *slash = strrchr(world_postgres, '/');
    const char *query = strchr(slash, '?');

    return arena_printf(a, "%.*s/%s%s", (int)(slash - world_postgres), world_postgres, database,
                        query ? query : "");
}

static void postgres_say(const char *what, const char *database, const char *how)
{
    PGconn *c = PQconnectdb(world_postgres);
    char sql[160];

    snprintf(sql, sizeof(sql), "%s %s %s", what, database, how);
    PGresult *r = PQexec(c, sql);
    bool ok = PQresultStatus(r) == PGRES_COMMAND_OK;
    char why[160];
    snprintf(why, sizeof(why), "%s", PQerrorMessage(c));
    PQclear(r);
    PQfinish(c);
    if (!ok)
        fail_msg("%s: %s", sql, why);
}

static void name_database(char name[64])
{
    uint32_t random;

    must(getrandom(&random, sizeof(random), 0) == sizeof(random), "random", NULL);
    snprintf(name, 64, "world_%d_%08x", (int)getpid(), random);
}

/* ---- the first store */

void world_store_migrate(struct store *s)
{
    struct migration_set sets[128] = { { "core", core_migrations } };
    size_t n = 1;
    struct err e = { 0 };

    for (size_t i = 0; all_services[i] && n < ARRAY_LEN(sets); i++)
        if (all_services[i]->migrations)
            sets[n++] =
                (struct migration_set){ all_services[i]->name, all_services[i]->migrations };
    must(store_migrate(s, sets, n, &e) == 0, "migrations", &e);
}

static void migrate_at(const char *url, struct clock *clock)
{
    struct store_opts so = { .url = url, .clock = clock, .workers = 1 };
    struct err e = { 0 };
    struct store *s = store_open(&so, &e);

    must(s != NULL, "the first store", &e);
    world_store_migrate(s);
    store_free(s);
}

static void make_first_file(struct world *w)
{
    char dir[64], path[sizeof(first_file)];

    make_folder(dir);
    snprintf(path, sizeof(path), "%s/store.db", dir);
    migrate_at(arena_printf(&w->arena, "sqlite:%s", path), &w->clock);
    memcpy(first_file, path, sizeof(path));
}

static void make_first_database(struct world *w)
{
    char name[sizeof(first_database)];

    name_database(name);
    postgres_say("CREATE DATABASE", name, "");
    migrate_at(url_of(&w->arena, name), &w->clock);
    memcpy(first_database, name, sizeof(name));
}

/* ---- a world's own */

static void copy_first_file(struct world *w)
{
    const char *path = arena_printf(&w->arena, "%s/store.db", w->dir);
    struct err e = { 0 };

    if (!first_file[0])
        make_first_file(w);
    _cleanup_close_ int from = open(first_file, O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(from >= 0 && to >= 0 && fd_copy_all(from, to, &e) == 0, "a copy of the first store", &e);
    w->url = arena_printf(&w->arena, "sqlite:%s", path);
}

static void copy_first_database(struct world *w)
{
    if (!first_database[0])
        make_first_database(w);
    name_database(w->database);
    postgres_say("CREATE DATABASE", w->database,
                 arena_printf(&w->arena, "TEMPLATE %s", first_database));
    w->url = url_of(&w->arena, w->database);
}

void world_store_make(struct world *w)
{
    make_folder(w->dir);
    if (world_postgres)
        copy_first_database(w);
    else
        copy_first_file(w);
}

void world_store_remove(struct world *w)
{
    struct err e = { 0 };

    if (w->database[0])
        postgres_say("DROP DATABASE", w->database, "");
    must(dir_remove(w->dir, &e) == 0, "remove the folder", &e);
}

/* A test that fails leaves its world; one that dies leaves its folder. */
void world_sweep(void)
{
    static const char mine[] = "brume-world-";
    DIR *d = opendir(top());
    struct dirent *f;
    struct err e;

    while (d && (f = readdir(d))) {
        int pid = 0;
        char path[300];

        if (strncmp(f->d_name, mine, sizeof(mine) - 1) != 0)
            continue;
        const char *p = f->d_name + sizeof(mine) - 1;
        for (; *p >= '0' && *p <= '9' && pid < 1 << 24; p++)
            pid = pid * 10 + (*p - '0');
        if (pid == 0 || *p != '-' ||
            (pid != (int)getpid() && (kill(pid, 0) == 0 || errno != ESRCH)))
            continue;
        snprintf(path, sizeof(path), "%s/%.200s", top(), f->d_name);
        if (dir_remove(path, &e) < 0)
            log_err(LOG_WARN, "world_not_removed", &e);
    }
    if (d)
        closedir(d);
    first_file[0] = '\0';
    if (first_database[0])
        postgres_say("DROP DATABASE", first_database, "");
    first_database[0] = '\0';
}

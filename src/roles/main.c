/* SPDX-License-Identifier: Apache-2.0 */
/* The one program: finds out which of its parts was asked for. */

#include "base/log.h"
#include "core/app.h"
#include <malloc.h>

#include "roles/cli/cli.h"
#include "roles/roles.h"
#include "services/services.h"

extern char **environ;

static int version(int argc, const char *const *argv _unused_, const char *const *env _unused_)
{
    if (argc)
        return fputs("brume: version takes nothing\n", stderr), 2;
    puts("brume " BRUME_VERSION);
    return 0;
}

/* Every service, and what core itself answers. */
static void client_services(const struct service **out, size_t most)
{
    size_t n = 0;

    while (all_services[n] && n + 2 < most) {
        out[n] = all_services[n];
        n++;
    }
    out[n++] = &core_service;
    out[n] = NULL;
}

static int client(int argc, const char *const *argv, const char *const *env)
{
    struct arena a = ARENA(MIB(512));
    const struct service *services[64];
    struct cli c = { .out = stdout,
                     .err = stderr,
                     .out_tty = isatty(STDOUT_FILENO),
                     .err_tty = isatty(STDERR_FILENO),
                     .env = env,
                     .services = services,
                     .arena = &a };
    int rc;

    client_services(services, ARRAY_LEN(services));
    log_init(LOG_ERROR, false, "cli");
    rc = cli_main(&c, argc, argv);
    arena_free(&a);
    return rc;
}

/* What did not go out is told, and its command did not succeed. */
static int told(int rc)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return rc;
    fputs("brume: standard output took not all that there was to say\n", stderr);
    return rc ? rc : CLI_API;
}

/* `brume config` alone, or with flags of `brume serve`, is the server's; with a word the client's.
 */
static int config(int argc, const char *const *argv, const char *const *env)
{
    static const char *const words[] = { "profiles", "use", "get", "set", "remove" };
    struct config *c;
    struct buf b = BUF(MIB(1));
    const char *args[64];
    int n = 0;

    for (int i = 0; i < argc; i++) {
        bool known = !strcmp(argv[i], "--help") || !strcmp(argv[i], "-h");

        for (size_t w = 0; w < ARRAY_LEN(words); w++)
            known |= !strcmp(words[w], argv[i]);
        known |= i == 0 && argv[i][0] != '-';
        if (known) {
            const char *all[64] = { "config" };

            memcpy(all + 1, argv, sizeof(*all) * (size_t)MIN(argc, 62));
            return client(MIN(argc, 62) + 1, all, env);
        }
        if (strcmp(argv[i], "--all") != 0 && n < 63)
            args[n++] = argv[i];
    }
    c = serve_config(n, args, env);
    if (!c)
        return 2;
    config_print(c, &b);
    fwrite(b.p, 1, b.n, stdout);
    buf_free(&b);
    config_free(c);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, const char *const *argv, const char *const *env);
        bool own_help;
    } parts[] = {
        { "serve", serve_main, true }, { "version", version },    { "config", config, true },
        { "doctor", doctor_main },     { "backup", backup_main }, { "restore", restore_main },
        { "--version", version },
    };
    /* Few heaps for many threads: what one gives back, another uses. */
    mallopt(M_ARENA_MAX, 2);

    const char *const *args = (const char *const *)(void *)argv;
    const char *const *env = (const char *const *)(void *)environ;

    bool help = argc == 3 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"));

    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(parts); i++)
        if (!strcmp(parts[i].name, argv[1]) && help && !parts[i].own_help)
            return told(client(2, (const char *const[]){ "help", argv[1] }, env));
        else if (!strcmp(parts[i].name, argv[1]))
            return told(parts[i].run(argc - 2, args + 2, env));
    return told(client(argc ? argc - 1 : 0, args + 1, env));
}

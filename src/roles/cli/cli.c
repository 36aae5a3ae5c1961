/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the command that the words name. */

#include "roles/cli/cli.h"

static const struct {
    const char *name;
    int (*run)(struct cli *c, int argc, const char *const *argv);
} own[] = {
    { "login", cli_login },
    { "config", cli_config },
    { "completion", cli_completion },
    { "__complete", cli_complete },
};

static void prepare(struct cli *c)
{
    if (!c->commands.v)
        commands_build(c->arena, c->services, &c->commands);
}

static bool resource_known(const struct cli *c, const char *word)
{
    for (size_t i = 0; i < c->commands.n; i++)
        if (command_word_is(&c->commands.v[i], 0, word))
            return true;
    return false;
}

bool cli_knows(struct cli *c, const char *word)
{
    prepare(c);
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (!strcmp(own[i].name, word))
            return true;
    return !strcmp(word, "help") || resource_known(c, word);
}

/* What 'word' was probably meant to be: the w-th word of commands that begin as 'argv' does. */
static const char *meant(struct cli *c, const char *const *argv, size_t w)
{
    const char **all = arena_alloc(c->arena, sizeof(*all) * (c->commands.n + 16));
    size_t n = 0;

    for (size_t i = 0; i < c->commands.n; i++)
        if (w < c->commands.v[i].n_words && (!w || command_word_is(&c->commands.v[i], 0, argv[0])))
            all[n++] = c->commands.v[i].word[w];
    for (const struct cli_builtin *b = cli_builtins; w == 0 && b->name && n < c->commands.n + 15;
         b++)
        all[n++] = b->name;
    return word_nearest(argv[w], all, n);
}

static int no_command(struct cli *c, const char *const *argv)
{
    const char *near = meant(c, argv, 0);

    return cli_usage(c, "there is no command \"%s\"%s%s%s. `brume help` lists them.", argv[0],
                     near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "");
}

static int unknown(struct cli *c, int argc, const char *const *argv)
{
    const char *near;
    bool help = false;

    for (int i = 0; i < argc; i++)
        help |= !strcmp(argv[i], "--help") || !strcmp(argv[i], "-h");
    if (!resource_known(c, argv[0]))
        return no_command(c, argv);
    if (help || argc == 1) {
        cli_help_resource(c, argv[0], help ? c->out : c->err);
        return help ? CLI_OK : CLI_USAGE;
    }
    near = meant(c, argv, 1);
    return cli_usage(c, "\"%s\" has no verb \"%s\"%s%s%s. `brume %s --help` lists them.", argv[0],
                     argv[1], near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "",
                     argv[0]);
}

static int help(struct cli *c, int argc, const char *const *argv)
{
    int used;
    const struct command *k = commands_find(&c->commands, argc, argv, &used);

    if (argc == 0 || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))
        cli_help(c, c->out);
    else if (!k && cli_help_builtin(argv[0], c->out))
        return CLI_OK;
    else if (k)
        cli_help_command(c, k, c->out);
    else if (resource_known(c, argv[0]))
        cli_help_resource(c, argv[0], c->out);
    else
        return no_command(c, argv);
    return CLI_OK;
}

int cli_main(struct cli *c, int argc, const char *const *argv)
{
    const struct command *k;
    struct err e;
    int at = 0, used = 0;

    prepare(c);
    while (at < argc && argv[at][0] == '-') {
        int rc = flags_common(&c->common, argc, argv, &at, &e);

        if (rc < 0)
            return cli_usage(c, "%s", e.msg);
        if (rc == 0)
            return cli_usage(c, "unknown flag %s. `brume help` lists what there is.", argv[at]);
    }
    argc -= at;
    argv += at;
    if (argc == 0 || !strcmp(argv[0], "help")) {
        if (argc == 0 && !c->common.help) {
            cli_help(c, c->err);
            return CLI_USAGE;
        }
        return help(c, argc ? argc - 1 : 0, argc ? argv + 1 : argv);
    }
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (!strcmp(own[i].name, argv[0]))
            return own[i].run(c, argc - 1, argv + 1);
    k = commands_find(&c->commands, argc, argv, &used);
    if (!k)
        return unknown(c, argc, argv);
    return cli_run(c, k, argc - used, argv + used);
}

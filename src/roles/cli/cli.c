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

static int unknown(struct cli *c, int argc, const char *const *argv)
{
    bool help = false;

    for (int i = 0; i < argc; i++)
        help |= !strcmp(argv[i], "--help") || !strcmp(argv[i], "-h");
    if (!resource_known(c, argv[0]))
        return cli_usage(c, "there is no command \"%s\"; `brume help` lists them", argv[0]);
    if (help || argc == 1) {
        cli_help_resource(c, argv[0], help ? c->out : c->err);
        return help ? CLI_OK : CLI_USAGE;
    }
    cli_usage(c, "\"%s\" has no verb \"%s\"; there are:", argv[0], argv[1]);
    cli_help_resource(c, argv[0], c->err);
    return CLI_USAGE;
}

static int help(struct cli *c, int argc, const char *const *argv)
{
    int used;
    const struct command *k = commands_find(&c->commands, argc, argv, &used);

    if (argc == 0)
        cli_help(c, c->out);
    else if (k)
        cli_help_command(c, k, c->out);
    else if (resource_known(c, argv[0]))
        cli_help_resource(c, argv[0], c->out);
    else
        return cli_usage(c, "there is no command \"%s\"", argv[0]);
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
            return cli_usage(c, "unknown flag %s; `brume help` lists what there is", argv[at]);
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

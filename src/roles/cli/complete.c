/* SPDX-License-Identifier: Apache-2.0 */
/* Completion: the shells' scripts only ask `brume __complete <words so far>`, and the tables
 * answer.  They ask the very program that is being typed, so that ./brume answers for itself. */

#include "roles/cli/cli.h"

static const char bash_script[] =
    "# brume completion for bash: source this, or put it into /usr/share/bash-completion/completions/brume\n"
    "_brume()\n"
    "{\n"
    "    local IFS=$'\\n' program=${COMP_WORDS[0]/#'~/'/$HOME/}\n"
    "    type -P \"$program\" >/dev/null || program=brume\n"
    "    COMPREPLY=($(\"$program\" __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))\n"
    "}\n"
    "complete -o default -F _brume brume\n";

static const char zsh_script[] =
    "#compdef brume\n"
    "# brume completion for zsh: put it as _brume into a folder of $fpath\n"
    "_brume()\n"
    "{\n"
    "    local -a found\n"
    "    local program=${~words[1]}\n"
    "    whence -p -- \"$program\" >/dev/null || program=brume\n"
    "    found=(${(f)\"$(\"$program\" __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"})\n"
    "    if (( $#found )); then compadd -a found; else _files; fi\n"
    "}\n"
    "if [ \"$funcstack[1]\" = \"_brume\" ]; then _brume \"$@\"; else compdef _brume brume; fi\n";

static const char fish_script[] =
    "# brume completion for fish: put it into ~/.config/fish/completions/brume.fish\n"
    "function __brume_complete\n"
    "    set -l words (commandline -opc)\n"
    "    set -l word (commandline -ct)\n"
    "    set -l program (string replace -r '^~/' \"$HOME/\" -- $words[1])\n"
    "    command -q $program; or set program brume\n"
    "    $program __complete $words[2..-1] \"$word\" 2>/dev/null\n"
    "end\n"
    "complete -c brume -f -a '(__brume_complete)'\n";

static const struct {
    const char *name, *script;
} shells[] = { { "bash", bash_script }, { "zsh", zsh_script }, { "fish", fish_script } };

int cli_completion(struct cli *c, int argc, const char *const *argv)
{
    bool help = argc && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"));

    if (help) {
        cli_help_builtin("completion", c->out);
        fputs("The first line of each script says where it goes.\n", c->out);
        return CLI_OK;
    }
    if (argc == 0)
        return cli_usage(c, "the shell is missing. Usage: brume completion bash|zsh|fish");
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        if (strcmp(argv[0], shells[i].name) != 0)
            continue;
        if (argc > 1)
            return cli_usage(c, "\"%s\" is one word too many", argv[1]);
        fputs(shells[i].script, c->out);
        return CLI_OK;
    }
    return cli_usage(
        c, "there is no completion for the shell \"%s\". Usage: brume completion bash|zsh|fish",
        argv[0]);
}

/* ---- candidates */

struct offers {
    struct cli *cli;
    const char *start;  /* what they begin with */
    const char *before; /* what stands before each of them: "--status=", or "" */
    struct buf seen;
};

static void offer(struct offers *o, const char *word)
{
    const char *key = arena_printf(o->cli->arena, "\n%s\n", word);

    if (strncmp(word, o->start, strlen(o->start)) != 0 || strstr(buf_cstr(&o->seen), key))
        return;
    buf_puts(&o->seen, key);
    fprintf(o->cli->out, "%s%s\n", o->before, word);
}

static void offer_words(struct offers *o, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "|");

        offer(o, arena_dup(o->cli->arena, text, n));
        text += n + (text[n] == '|');
    }
}

static void offer_profiles(struct offers *o)
{
    const char *home = cli_env(o->cli, "HOME");
    struct profiles all = { 0 };
    struct err e;

    if (!home || profiles_load(o->cli->arena, profiles_path(o->cli->arena, home), &all, &e) < 0)
        return;
    for (size_t i = 0; i < all.n; i++)
        offer(o, all.v[i].name);
}

static void offer_flags(struct offers *o, const struct command *k)
{
    const char *all[FLAG_VALUES];
    size_t n = k ? flags_names(o->cli->arena, k, all, ARRAY_LEN(all)) : 0;

    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i], "--wait") != 0 || cli_waits(o->cli, k) ||
            (k->route->query && record_field(k->route->query, "wait")))
            offer(o, all[i]);
    for (const struct cli_flag *f = cli_flags; !k && f->name; f++)
        if (f->when == FLAG_ANY)
            offer(o, f->name);
}

struct values {
    struct offers *offers;
    const char *flag;
    bool equals; /* the value stands behind a '=' */
};

static void field_values(void *ctx, const struct field *f)
{
    struct values *x = ctx;
    struct offers *o = x->offers;

    if (strcmp(flag_name(o->cli->arena, f), x->flag + 2) != 0)
        return;
    for (const struct enum_name *n = f->names; n && n->name; n++)
        offer(o, n->name);
    if (f->type == F_BOOL && x->equals)
        offer_words(o, "true|false");
}

/* What may stand behind a flag. */
static void offer_values(struct offers *o, const struct command *k, const char *flag, bool equals)
{
    struct values x = { o, flag, equals };
    const struct record *in = k ? k->route->in : NULL;

    if (!strcmp(flag, "--output") || !strcmp(flag, "-o"))
        offer_words(o, "table|json|yaml|id");
    else if (!strcmp(flag, "--profile"))
        offer_profiles(o);
    for (size_t i = 0; in && !strcmp(flag, "--clear") && i < in->n_fields; i++)
        if (flags_takes(k, &in->fields[i]) && in->fields[i].flags & FF_CLEAR)
            offer(o, in->fields[i].name);
    if (k && !strncmp(flag, "--", 2))
        flags_each(k, field_values, &x);
}

struct named {
    struct arena *arena;
    const char *flag;
    const struct field *field;
};

static void find_named(void *ctx, const struct field *f)
{
    struct named *x = ctx;

    if (!x->field && !strcmp(flag_name(x->arena, f), x->flag + 2))
        x->field = f;
}

/* True if a value must follow this flag. */
static bool wants_value(struct cli *c, const struct command *k, const char *flag)
{
    struct named x = { c->arena, flag, NULL };

    if (k && !strncmp(flag, "--", 2))
        flags_each(k, find_named, &x);
    if (x.field)
        return x.field->type != F_BOOL;
    for (const struct cli_flag *f = cli_flags; f->name; f++)
        if (!strcmp(f->name, flag) || (f->brief && !strcmp(f->brief, flag)))
            return *f->type;
    return false;
}

static void offer_resources(struct offers *o, int n, const char *const *words)
{
    const struct commands *all = &o->cli->commands;

    for (size_t i = 0; n == 0 && cli_builtins[i].name; i++)
        offer(o, cli_builtins[i].name);
    for (size_t i = 0; i < all->n; i++) {
        const struct command *k = &all->v[i];
        int w = 0;

        while (w < n && command_word_is(k, (size_t)w, words[w]))
            w++;
        if (w == n && (size_t)w < k->n_words && !k->quiet)
            offer(o, k->word[w]);
    }
}

/* Commands that are in no table; true if 'words' begin one. */
static bool offer_builtin(struct offers *o, int n, const char *const *words)
{
    if (!strcmp(words[0], "completion") && n == 1) {
        offer_words(o, "bash|zsh|fish");
    } else if (!strcmp(words[0], "config") && n == 1) {
        offer_words(o, "profiles|use|get|set|remove");
    } else if (!strcmp(words[0], "config") && n == 2) {
        if (!strcmp(words[1], "use") || !strcmp(words[1], "remove"))
            offer_profiles(o);
        else if (!strcmp(words[1], "get") || !strcmp(words[1], "set"))
            offer_words(o, "url|tenant|ca");
    } else if (!strcmp(words[0], "login") && *o->start == '-') {
        offer(o, "--email");
        offer_flags(o, NULL);
    } else if (!strcmp(words[0], "help")) {
        offer_resources(o, n - 1, words + 1);
    } else {
        return false;
    }
    return true;
}

/* The words before the cursor without flags and their values; "*flag" the flag whose value is being
 * typed, or NULL. */
static int plain_words(struct cli *c, int n, const char *const *argv, const char **words,
                       const char **flag)
{
    const struct command *k = NULL;
    int used, found = 0;

    *flag = NULL;
    for (int i = 0; i < n; i++) {
        if (argv[i][0] != '-') {
            words[found++] = argv[i];
            k = commands_find(&c->commands, found, words, &used);
        } else if (!strchr(argv[i], '=') && wants_value(c, k, argv[i])) {
            if (i + 1 == n)
                *flag = argv[i];
            i++;
        }
    }
    return found;
}

int cli_complete(struct cli *c, int argc, const char *const *argv)
{
    struct offers o = { .cli = c, .start = argc ? argv[argc - 1] : "", .before = "" };
    const char **words = arena_alloc(c->arena, sizeof(*words) * ((size_t)argc + 1));
    const char *eq, *flag = NULL;
    int n = argc ? argc - 1 : 0, used = 0, found;
    const struct command *k;

    for (int i = 0; i < n; i++)
        if (!strcmp(argv[i], "--"))
            return CLI_OK; /* somebody else's command */
    o.seen = BUF(MIB(1));
    /* bash takes --flag=value apart, the other shells do not. */
    if (n >= 2 && !strcmp(argv[n - 1], "=")) {
        n -= 2;
        flag = argv[n];
    } else if (n >= 1 && !strcmp(o.start, "=")) {
        flag = argv[--n];
        o.start = "";
    } else if (*o.start == '-' && (eq = strchr(o.start, '='))) {
        flag = arena_dup(c->arena, o.start, (size_t)(eq - o.start));
        o.before = arena_dup(c->arena, o.start, (size_t)(eq + 1 - o.start));
        o.start = eq + 1;
    }
    bool equals = flag;
    found = plain_words(c, n, argv, words, equals ? &(const char *){ NULL } : &flag);
    k = commands_find(&c->commands, found, words, &used);
    if (flag)
        offer_values(&o, k, flag, equals);
    else if (found && offer_builtin(&o, found, words))
        ;
    else if (*o.start == '-')
        offer_flags(&o, k);
    else
        offer_resources(&o, found, words);
    buf_free(&o.seen);
    return CLI_OK;
}

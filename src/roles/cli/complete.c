/* SPDX-License-Identifier: Apache-2.0 */
/* Completion: the shells' scripts only ask `brume __complete <words so far>`, and the tables
 * answer. */

#include "roles/cli/cli.h"

static const char bash_script[] =
    "# brume completion for bash: source this, or put it into /usr/share/bash-completion/completions/brume\n"
    "_brume()\n"
    "{\n"
    "    local IFS=$'\\n'\n"
    "    COMPREPLY=($(brume __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))\n"
    "}\n"
    "complete -o default -F _brume brume\n";

static const char zsh_script[] =
    "#compdef brume\n"
    "# brume completion for zsh: put it as _brume into a folder of $fpath\n"
    "_brume()\n"
    "{\n"
    "    local -a found\n"
    "    found=(\"${(@f)$(brume __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
    "    compadd -a found\n"
    "}\n"
    "if [ \"$funcstack[1]\" = \"_brume\" ]; then _brume \"$@\"; else compdef _brume brume; fi\n";

static const char fish_script[] =
    "# brume completion for fish: put it into ~/.config/fish/completions/brume.fish\n"
    "function __brume_complete\n"
    "    set -l words (commandline -opc) (commandline -ct)\n"
    "    brume __complete $words[2..-1] 2>/dev/null\n"
    "end\n"
    "complete -c brume -f -a '(__brume_complete)'\n";

int cli_completion(struct cli *c, int argc, const char *const *argv)
{
    static const struct {
        const char *shell, *script;
    } all[] = { { "bash", bash_script }, { "zsh", zsh_script }, { "fish", fish_script } };

    for (size_t i = 0; argc == 1 && i < ARRAY_LEN(all); i++) {
        if (strcmp(argv[0], all[i].shell) != 0)
            continue;
        fputs(all[i].script, c->out);
        return CLI_OK;
    }
    return cli_usage(c, "brume completion bash|zsh|fish");
}

/* Prints 'word' if it begins with 'start' and was not the one printed before. */
static void offer(struct cli *c, const char *word, const char *start, struct buf *seen)
{
    const char *key = arena_printf(c->arena, "\n%s\n", word);

    if (strncmp(word, start, strlen(start)) != 0 || strstr(buf_cstr(seen), key))
        return;
    buf_puts(seen, key);
    fprintf(c->out, "%s\n", word);
}

static void offer_flag(struct cli *c, const struct field *f, const char *start, struct buf *seen)
{
    offer(c, arena_printf(c->arena, "--%s", flag_name(c->arena, f)), start, seen);
}

static void offer_flags(struct cli *c, const struct command *k, const char *start, struct buf *seen)
{
    static const char *const common[] = {
        "--output", "--profile", "--url",  "--tenant", "--all",
        "--watch",  "--wait",    "--data", "--help",   "--follow"
    };
    const struct route *r = k->route;

    for (size_t i = 0; r->in && i < r->in->n_fields; i++)
        if (flags_takes(k, &r->in->fields[i]))
            offer_flag(c, &r->in->fields[i], start, seen);
    for (size_t i = 0; r->query && i < r->query->n_fields; i++)
        offer_flag(c, &r->query->fields[i], start, seen);
    for (size_t i = 0; r->list && r->out && i < r->out->n_fields; i++)
        if (r->out->fields[i].flags & FF_FILTER)
            offer_flag(c, &r->out->fields[i], start, seen);
    for (size_t i = 0; r->list && i < cli_paging_record.n_fields; i++)
        offer_flag(c, &cli_paging_record.fields[i], start, seen);
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        offer(c, common[i], start, seen);
}

/* Words of an enum behind its flag. */
static void offer_values(struct cli *c, const struct command *k, const char *flag,
                         const char *start, struct buf *seen)
{
    const struct record *in[] = { k->route->in, k->route->query, k->route->out };

    if (!strcmp(flag, "--output") || !strcmp(flag, "-o")) {
        offer(c, "table", start, seen);
        offer(c, "json", start, seen);
        offer(c, "yaml", start, seen);
        offer(c, "id", start, seen);
    }
    for (size_t i = 0; !strncmp(flag, "--", 2) && i < ARRAY_LEN(in); i++)
        for (size_t j = 0; in[i] && j < in[i]->n_fields; j++)
            if (!strcmp(flag_name(c->arena, &in[i]->fields[j]), flag + 2))
                for (const struct enum_name *n = in[i]->fields[j].names; n && n->name; n++)
                    offer(c, n->name, start, seen);
}

int cli_complete(struct cli *c, int argc, const char *const *argv)
{
    const char *start = argc ? argv[argc - 1] : "";
    int before = argc ? argc - 1 : 0, used = 0;
    const struct command *k = commands_find(&c->commands, before, argv, &used);
    struct buf seen = BUF(MIB(1));

    if (k && *start == '-') {
        offer_flags(c, k, start, &seen);
    } else if (k && before && argv[before - 1][0] == '-') {
        offer_values(c, k, argv[before - 1], start, &seen);
    } else {
        for (size_t i = 0; before == 0 && cli_builtins[i].name; i++)
            offer(c, cli_builtins[i].name, start, &seen);
        for (size_t i = 0; i < c->commands.n; i++) {
            const struct command *o = &c->commands.v[i];
            size_t w = 0;

            while ((int)w < before && w < o->n_words && command_word_is(o, w, argv[w]))
                w++;
            if ((int)w == before && w < o->n_words)
                offer(c, o->word[w], start, &seen);
        }
    }
    buf_free(&seen);
    return CLI_OK;
}

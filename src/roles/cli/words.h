/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A command for every route, its words taken from the route's path and method:
 *
 *     GET    /queues                     queue list
 *     GET    /queues/{id}                queue get QUEUE
 *     POST   /queues/{id}/purge          queue purge QUEUE
 *     POST   /queues/{id}/messages       queue message create QUEUE
 *     DELETE /auth/keys/{id}             key delete KEY
 *     POST   /auth/login                 auth login
 *
 * A static segment that holds things (a {parameter} follows it, or it can be listed) gives its
 * singular; what stands before the first of them is dropped; a last segment that holds nothing is
 * the verb.  Things that are listed and made below another (/vpcs/{id}/subnets) and shown on their
 * own (/subnets/{id}) have commands of both: "vpc subnet list VPC", "subnet list VPC".
 *
 * A route's .cli has its words instead, and those of its path are understood but not shown; ""
 * makes no command. */

#include "core/service.h"

enum { COMMAND_WORDS = 6, COMMAND_PARAMS = 6 };

struct command {
    const struct route *route;
    const struct service *service;
    const char *path; /* as it is asked for: classic, or under /v1 */
    const char *word[COMMAND_WORDS];
    const char *also[COMMAND_WORDS]; /* the same word in the plural, or NULL */
    size_t n_words;
    const char *param[COMMAND_PARAMS]; /* "QUEUE", in the order of the path */
    size_t n_params;
    bool quiet; /* understood, but neither listed nor completed */
};
struct commands {
    struct command *v;
    size_t n;
};

void commands_build(struct arena *a, const struct service *const *services, struct commands *out);
/* The command that the first words of 'argv' name, the longest one first; NULL if none.  '*used' is
 * how many words it took. */
const struct command *commands_find(const struct commands *c, int argc, const char *const *argv,
                                    int *used);
/* True if 'word' is this word of the command, in the singular or the plural. */
bool command_word_is(const struct command *c, size_t i, const char *word);
/* True if the route answers a list, of records or of its own making. */
bool route_lists(const struct route *r);
/* The path with its parameters filled in, percent-encoded. 'values' has n_params entries. */
const char *command_path(struct arena *a, const struct command *c, const char *const *values);
/* The command of that method on that path, or NULL. */
const struct command *commands_route(const struct commands *c, enum method m, const char *path);
/* What shows the thing whose {parameter} ends the first 'n' bytes of 'path', else what lists such
 * things; NULL if neither is there. */
const struct command *commands_holder(const struct commands *c, struct arena *a, const char *path,
                                      size_t n);
/* The list of the things that 'r' describes, outside of any other thing; NULL if there is none. */
const struct command *commands_list_of(const struct commands *c, const struct record *r);
/* "queues" → "queue", "policies" → "policy". */
const char *word_singular(struct arena *a, struct str plural);

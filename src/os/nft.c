/* SPDX-License-Identifier: Apache-2.0 */
/* Hides libnftables: its contexts belong to the namespace they were made in, its tables of names
 * are global and unlocked, so one lock of the process stands around every call. */
#include "os/nft.h"

#include <nftables/libnftables.h>
#include <pthread.h>

#include "os/engine.h"
#include "os/ns.h"

/* clang-format off */
#define NFT_FUNCTIONS(F) F(nft_ctx_new) F(nft_ctx_free) F(nft_ctx_buffer_output) F(nft_ctx_buffer_error) \
    F(nft_ctx_get_error_buffer) F(nft_ctx_get_output_buffer) F(nft_ctx_output_set_flags) F(nft_run_cmd_from_buffer)
ENGINE_DECLARE(nftables, NFT_FUNCTIONS);
ENGINE_DEFINE(nftables, "libnftables.so.1", NFT_FUNCTIONS);
/* clang-format on */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct nft {
    struct nft_ctx *ctx;
};

static int make(void *ctx, struct err *e)
{
    struct nft *n = ctx;

    pthread_mutex_lock(&lock);
    n->ctx = nftables_engine.nft_ctx_new(NFT_CTX_DEFAULT);
    pthread_mutex_unlock(&lock);
    return n->ctx ? 0 : err_set(e, ERR_ENGINE_UNAVAILABLE, "libnftables does not start");
}

struct nft *nft_open(int ns_fd, struct err *e)
{
    if (nftables_open(e) < 0)
        return NULL;
    struct nft *n = calloc(1, sizeof(*n));
    if (!n)
        abort();
    if ((ns_fd < 0 ? make(n, e) : ns_call(ns_fd, make, n, e)) < 0) {
        free(n);
        return NULL;
    }
    nftables_engine.nft_ctx_buffer_output(n->ctx);
    nftables_engine.nft_ctx_buffer_error(n->ctx);
    return n;
}

void nft_close(struct nft *n)
{
    if (!n)
        return;
    pthread_mutex_lock(&lock);
    nftables_engine.nft_ctx_free(n->ctx);
    pthread_mutex_unlock(&lock);
    free(n);
}

/* libnftables gives no code, only text; errno's words stand in it. */
static int fails(const char *text, struct err *e)
{
    enum err_code code = strstr(text, "No such file or directory") ? ERR_NOT_FOUND
                         : strstr(text, "File exists")             ? ERR_ALREADY_EXISTS
                                                                   : ERR_INTERNAL;
    char line[160];

    snprintf(line, sizeof(line), "%.*s", (int)strcspn(text, "\n"), text);
    return err_cause(e, code, line, "the firewall refused a change");
}

static int run(struct nft *n, struct arena *a, const char *commands, bool handles, const char **out,
               struct err *e)
{
    pthread_mutex_lock(&lock);
    nftables_engine.nft_ctx_output_set_flags(n->ctx, handles ? NFT_CTX_OUTPUT_HANDLE : 0);
    int r = nftables_engine.nft_run_cmd_from_buffer(n->ctx, commands);
    if (r != 0)
        fails(nftables_engine.nft_ctx_get_error_buffer(n->ctx), e);
    else if (out)
        *out = arena_strdup(a, nftables_engine.nft_ctx_get_output_buffer(n->ctx));
    pthread_mutex_unlock(&lock);
    return r == 0 ? 0 : -1;
}

int nft_run(struct nft *n, const char *commands, struct err *e)
{
    return run(n, NULL, commands, false, NULL, e);
}

int nft_list(struct nft *n, struct arena *a, const char *commands, bool handles, const char **out,
             struct err *e)
{
    return run(n, a, commands, handles, out, e);
}

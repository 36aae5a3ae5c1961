/* SPDX-License-Identifier: Apache-2.0 */
/* The image store's class: its words, its record, and the calls that every implementation shares.
 */
#include "drivers/image/image.h"

/* clang-format off */
const struct enum_name image_status_names[] = {
    { IMAGE_ABSENT,   "absent"   },
    { IMAGE_BUILDING, "building" },
    { IMAGE_READY,    "ready"    },
    { IMAGE_FAILED,   "failed"   },
    { 0 },
};

#define T struct image_state
static const struct field image_state_fields[] = {
    FIELD_STR (T, name,       0, .max = 512, .doc = "The name it was asked for by."),
    FIELD_ENUM(T, status,     enum image_status, 0, .names = image_status_names,
                                 .doc = "Whether the host has it."),
    FIELD_STR (T, digest,     0, .doc = "SHA-256 of its manifest, once it is ready."),
    FIELD_STR (T, source,     0, .doc = "Where it comes from: recipe, registry or import."),
    FIELD_INT (T, size_bytes, 0, .doc = "Bytes of its layers, unpacked."),
    FIELD_INT (T, progress,   0, .max = 100, .doc = "How far its making is, in percent."),
    FIELD_STR (T, step,       0, .doc = "What is being done now."),
    FIELD_STR (T, reason,     0, .max = 1024, .doc = "Why it could not be made."),
    FIELD_LIST(T, entrypoint, 0, .max = 1024, .doc = "How the command it runs begins."),
    FIELD_LIST(T, cmd,        0, .max = 1024, .doc = "The rest of the command, which a launch may replace."),
    FIELD_MAP (T, env,        0, .max = 1024, .doc = "Its environment."),
    FIELD_STR (T, cwd,        0, .max = 4096, .doc = "The folder its command starts in."),
    FIELD_STR (T, user,       0, .doc = "The user its command runs as."),
    FIELD_STR (T, stop_signal, 0, .doc = "The signal that asks it to end."),
    FIELD_TIME(T, created_at, 0, .doc = "When the host got it."),
};
#undef T
const struct record image_state_record = RECORD(image_state, NULL, image_state_fields);
/* clang-format on */

int image_ensure(struct image_store *s, struct arena *a, const char *name, const char *share,
                 bool again, struct image_state *out, struct err *e)
{
    return s->class->ensure(s, a, name, share, again, out, e);
}

int image_inspect(struct image_store *s, struct arena *a, const char *name, struct image_state *out,
                  struct err *e)
{
    return s->class->inspect(s, a, name, out, e);
}

int image_list(struct image_store *s, struct arena *a, struct image_state **out, size_t *n,
               struct err *e)
{
    return s->class->list(s, a, out, n, e);
}

int image_import(struct image_store *s, struct arena *a, const char *name, enum image_format f,
                 const char *config, ssize_t (*read)(void *ctx, void *p, size_t n, struct err *e),
                 void *ctx, struct image_state *out, struct err *e)
{
    return s->class->import(s, a, name, f, config, read, ctx, out, e);
}

int image_remove(struct image_store *s, const char *name, struct err *e)
{
    return s->class->remove(s, name, e);
}

void image_free(struct image_store *s)
{
    if (s)
        s->class->free(s);
}

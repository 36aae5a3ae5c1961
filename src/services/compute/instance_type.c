/* SPDX-License-Identifier: Apache-2.0 */
/* Instance types are the operator's: a list in the configuration. */
#include "services/compute/compute_private.h"

/* clang-format off */
#define T struct instance_type
static const struct field instance_type_fields[] = {
    FIELD_STR  (T, id,             FF_ALWAYS, .doc = "What to launch with."),
    FIELD_STR  (T, name,           FF_ALWAYS, .doc = "For people."),
    FIELD_INT  (T, vcpus,          0, .doc = "CPUs."),
    FIELD_INT  (T, memory_mb,      0, .doc = "Megabytes of memory."),
    FIELD_INT  (T, disk_gb,        0, .doc = "Gigabytes of disk."),
    FIELD_INT  (T, network_mbps,   0, .doc = "Megabits a second."),
    FIELD_MICRO(T, price_per_hour, 0, .doc = "Price of an hour."),
    FIELD_STR  (T, category,       FF_ALWAYS, .doc = "general-purpose, compute or memory."),
};
#undef T
/* clang-format on */
const struct record instance_type_record = RECORD(instance_type, NULL, instance_type_fields);

/* ---- the setting */

struct instance_settings {
    const char *instance_types; /* JSON */
};
static const char key_name[] = "compute.instance_types";

/* clang-format off */
#define INSTANCE_TYPES                                                                                                                                                   \
    "[{\"id\":\"basic-1\",\"name\":\"Basic 1\",\"vcpus\":1,\"memory_mb\":512,\"disk_gb\":5,\"network_mbps\":500,\"price_per_hour\":0.01,\"category\":\"general-purpose\"},"       \
    "{\"id\":\"basic-2\",\"name\":\"Basic 2\",\"vcpus\":1,\"memory_mb\":1024,\"disk_gb\":10,\"network_mbps\":1000,\"price_per_hour\":0.02,\"category\":\"general-purpose\"},"     \
    "{\"id\":\"standard-1\",\"name\":\"Standard 1\",\"vcpus\":1,\"memory_mb\":2048,\"disk_gb\":20,\"network_mbps\":1000,\"price_per_hour\":0.04,\"category\":\"general-purpose\"}," \
    "{\"id\":\"standard-2\",\"name\":\"Standard 2\",\"vcpus\":2,\"memory_mb\":4096,\"disk_gb\":40,\"network_mbps\":2000,\"price_per_hour\":0.08,\"category\":\"general-purpose\"}," \
    "{\"id\":\"standard-4\",\"name\":\"Standard 4\",\"vcpus\":4,\"memory_mb\":8192,\"disk_gb\":80,\"network_mbps\":4000,\"price_per_hour\":0.16,\"category\":\"general-purpose\"}," \
    "{\"id\":\"performance-1\",\"name\":\"Performance 1\",\"vcpus\":4,\"memory_mb\":16384,\"disk_gb\":160,\"network_mbps\":5000,\"price_per_hour\":0.3,\"category\":\"performance\"}," \
    "{\"id\":\"performance-2\",\"name\":\"Performance 2\",\"vcpus\":8,\"memory_mb\":32768,\"disk_gb\":320,\"network_mbps\":10000,\"price_per_hour\":0.6,\"category\":\"performance\"}]"
static const struct setting keys[] = {
    SETTING_STR(struct instance_settings, "compute.instance_types", instance_types, INSTANCE_TYPES, "Instance types as a JSON list."),
};
/* clang-format on */

static bool type_ok(const struct json_value *t, struct arena *a, const char **wrong)
{
    static const char *const numbers[] = { "vcpus", "memory_mb", "disk_gb", "network_mbps" };
    static const char *const texts[] = { "id", "name", "category" };

    if (json_type_of(t) != JSON_OBJ) {
        *wrong = "each must be an object";
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const char *s = json_get_str(a, t, texts[i], NULL);

        if (!s || !*s || strlen(s) > 64) {
            *wrong = arena_printf(a, "each needs a text '%s'", texts[i]);
            return false;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (json_get_int(t, numbers[i], 0) < 1) {
            *wrong = arena_printf(a, "each needs an integer '%s' of at least 1", numbers[i]);
            return false;
        }
    const struct json_value *price = json_get(t, "price_per_hour");
    if (!price || (json_type_of(price) != JSON_INT && json_type_of(price) != JSON_REAL)) {
        *wrong = "each needs a number 'price_per_hour'";
        return false;
    }
    return true;
}

static void settings_check(struct setting_check *c, void *values)
{
    const struct instance_settings *s = values;
    struct err e;
    const char *wrong = NULL;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(s->instance_types), &e);

    if (!v) {
        setting_wrong(c, key_name, "%s", e.msg);
        return;
    }
    if (json_type_of(v) != JSON_ARR || json_len(v) == 0 || json_len(v) > 200) {
        setting_wrong(c, key_name, "must be a list of 1 to 200 types");
        return;
    }
    for (size_t i = 0; i < json_len(v); i++) {
        if (!type_ok(json_at(v, i), c->arena, &wrong)) {
            setting_wrong(c, key_name, "%s", wrong);
            return;
        }
        for (size_t j = 0; j < i; j++)
            if (strcmp(json_get_str(c->arena, json_at(v, i), "id", ""),
                       json_get_str(c->arena, json_at(v, j), "id", "")) == 0) {
                setting_wrong(c, key_name, "an id is given twice");
                return;
            }
    }
}

const struct settings instance_settings =
    SETTINGS(struct instance_settings, keys, .check = settings_check);

/* ---- what is offered */

static int types_read(struct call *c, struct rows *out, struct err *e)
{
    const struct instance_settings *settings = app_settings(c->app, &instance_settings);
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(settings->instance_types), e);

    if (!v)
        return -1;
    out->n = json_len(v);
    struct instance_type *t = arena_new_n(c->arena, struct instance_type, out->n);
    for (size_t i = 0; i < out->n; i++)
        TRY(json_load_row(c->arena, &instance_type_record, json_at(v, i), &t[i], e));
    out->v = t;
    return 0;
}

int instance_types(struct call *c, struct err *e)
{
    struct rows types;

    TRY(types_read(c, &types, e));
    return reply_rows(c, &instance_type_record, &types);
}

/* NULL: there is none of that name. */
struct instance_type *instance_type_find(struct call *c, const char *id)
{
    struct rows types;
    struct err e;

    if (types_read(c, &types, &e) < 0)
        return NULL;
    for (size_t i = 0; i < types.n; i++) {
        struct instance_type *t = &((struct instance_type *)types.v)[i];

        if (strcmp(t->id, id) == 0)
            return t;
    }
    return NULL;
}

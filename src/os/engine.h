/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Libraries that only some runs of the program need, opened when they are first needed: what a
 * role does not use costs it neither time at its start nor memory.
 *
 *     #define FUNCTIONS(F) F(foo_new) F(foo_free)
 *     ENGINE_DECLARE(foo, FUNCTIONS)                   in a header: 'struct foo_engine foo_engine'
 *     #define foo_new foo_engine.foo_new               calls go through the table from here on
 *     ENGINE_DEFINE(foo, "libfoo.so.1", FUNCTIONS)     in one file, before these #defines
 *     TRY(foo_open(e));                                before the first call; may be called often
 */

#include "base/base.h"

#define ENGINE_FIELD(f) __typeof__(f) *f;
#define ENGINE_NAME(f)  #f,
#define ENGINE_DECLARE(name, FUNCTIONS)        \
    struct name##_engine {                     \
        FUNCTIONS(ENGINE_FIELD)                \
    };                                         \
    extern struct name##_engine name##_engine; \
    int name##_open(struct err *e)
#define ENGINE_DEFINE(name, file, FUNCTIONS)                                         \
    struct name##_engine name##_engine;                                              \
    int name##_open(struct err *e)                                                   \
    {                                                                                \
        static const char *const names[] = { FUNCTIONS(ENGINE_NAME) NULL };          \
        static _Atomic int opened;                                                   \
        _Static_assert(sizeof(name##_engine) == sizeof(names) - sizeof(void *), ""); \
        return engine_open(file, names, &name##_engine, &opened, e);                 \
    }                                                                                \
    _Static_assert(sizeof(void *) == sizeof(void (*)(void)), "")

/* Fills 'table' with the functions of these names (the last is NULL), once. */
int engine_open(const char *file, const char *const *names, void *table, _Atomic int *opened,
                struct err *e);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Large tables that begin as zeros: memory that costs nothing before it is touched.  (calloc()
 * clears, and so touches, what it takes from a heap that has grown.) */

#include <stddef.h>

/* n * size bytes of zeros, page-aligned; the caller's until pages_free() of as many.  Aborts when
 * there are none. */
void *pages_new(size_t n, size_t size);
void pages_free(void *p, size_t n, size_t size); /* NULL is fine */

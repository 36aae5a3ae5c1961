/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that opens libarchive. */
#define ARCHIVE_ENGINE
#include "drivers/image/archive.h"

ENGINE_DEFINE(archive, "libarchive.so.13", ARCHIVE_FUNCTIONS);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a service is: routes, records, migrations, loops.  This header is all that a service
 * includes of core/.  A handler gets a call, speaks SQL through it, and replies; checks that every
 * route needs (credential, limits, scope, body, idempotency, validation) have been made before it
 * runs.  Its parts: owned, route, call, blobs, rows, reply, loop, events, deliver, outgoing, feed,
 * parts. */

#include "base/base.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/record.h"
#include "base/setting.h"
#include "codec/http1.h"
#include "codec/json.h"
#include "db/db.h"

#include "core/service/blobs.h"
#include "core/service/call.h"
#include "core/service/deliver.h"
#include "core/service/events.h"
#include "core/service/feed.h"
#include "core/service/loop.h"
#include "core/service/outgoing.h"
#include "core/service/owned.h"
#include "core/service/parts.h"
#include "core/service/reply.h"
#include "core/service/route.h"
#include "core/service/rows.h"
#include "core/service/stream.h"

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Requests to URLs that tenants gave.  What must arrive is a delivery (deliver.h). */

#include "core/service/owned.h"
#include "http/outgoing.h"

/* The client of that mode; in test mode nothing is sent, and all is answered 200.  From handlers,
 * visits and its own completions alike: outgoing_send() never waits, and the completion leaves what
 * came of it in the caller's row, or makes that due (reconcile_signal()). */
struct outgoing *app_outgoing(struct app *app, enum mode mode);
/* Where a URL may lead, before it is kept: outgoing_check_url() by the operator's list. */
int app_check_url(struct app *app, const char *url, struct err *e) _must_check_;

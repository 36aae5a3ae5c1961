/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

struct app;

/* Once an hour: blocks while it writes, in portions. */
void journal_sweep(struct app *app);

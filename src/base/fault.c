/* SPDX-License-Identifier: Apache-2.0 */
/* The points cost one load in production; whatever comes after it runs in tests only. */
#include "base/fault.h"

#include <pthread.h>

_Atomic bool fault_armed;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char point[64];
    int nth, passages;
} armed;

void fault_arm(const char *point, int nth)
{
    pthread_mutex_lock(&lock);
    snprintf(armed.point, sizeof(armed.point), "%s", point ? point : "");
    armed.nth = nth;
    armed.passages = 0;
    fault_armed = point && nth > 0;
    pthread_mutex_unlock(&lock);
}

int fault_passages(void)
{
    pthread_mutex_lock(&lock);
    int n = armed.passages;
    pthread_mutex_unlock(&lock);
    return n;
}

bool fault_hit(const char *point)
{
    bool hit = false;

    pthread_mutex_lock(&lock);
    if (armed.nth > 0 && strcmp(armed.point, point) == 0)
        hit = ++armed.passages == armed.nth;
    pthread_mutex_unlock(&lock);
    return hit;
}

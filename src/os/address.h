/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Addresses of sockets and of this machine. */

#include <sys/socket.h>

#include "codec/cidr.h"

/* What is in 'sa', as it is written there (a mapped IPv4 address stays one); false, and an address
 * of no family, when it is NULL or neither IPv4 nor IPv6. */
bool ip_of_sockaddr(const struct sockaddr *sa, struct ip *out);
/* Whether one of this machine's interfaces has this address; true also when that cannot be told. */
bool ip_is_own(const struct ip *ip);
/* Up to 'max' addresses of a name in the order of RFC 6724, 0 if there is none; blocks for some
 * seconds where no name server answers.  The name is taken as whole: no search domain is put behind
 * it. */
int ip_resolve(const char *name, struct ip *out, int max);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* IPv4 and IPv6 addresses and prefixes (RFC 4632, RFC 4291, RFC 5952 text). */

#include "base/base.h"

struct ip {
    int family;    /* 4 or 6; 0: none */
    uint8_t b[16]; /* network order; IPv4 in the first four */
};
struct cidr {
    struct ip ip;
    int bits;
};

enum { IP_TEXT = 46, CIDR_TEXT = 50 };
bool ip_parse(struct str s, struct ip *out); /* no leading zeros, no shorthand */
void ip_format(const struct ip *ip, char out[IP_TEXT]);
/* 'strict': host bits must be zero. A bare address is /32 or /128. */
bool cidr_parse(struct str s, bool strict, struct cidr *out);
void cidr_format(const struct cidr *c, char out[CIDR_TEXT]);
/* The network that one client can have all addresses of: an IPv4 address (also a mapped one), or
 * the /64 of an IPv6 address (RFC 6177). */
struct cidr cidr_of_client(const struct ip *ip);
bool cidr_contains(const struct cidr *c, const struct ip *ip);
bool cidr_within(const struct cidr *inner, const struct cidr *outer);
bool cidr_overlaps(const struct cidr *a, const struct cidr *b);
/* IPv4 only: as a number in host order and back. */
uint32_t ip4_num(const struct ip *ip);
struct ip ip4_from(uint32_t n);
/* Whether a packet to 'ip' leaves for the Internet and can mean no machine of ours: false for every
 * special-purpose block (RFC 6890 and IANA's registries after it), multicast, the IPv6 forms that
 * carry an IPv4 address (mapped, 6to4, Teredo), and what IANA has not given out (outside 2000::/3).
 * An address of NAT64 (64:ff9b::/96) is as public as the IPv4 address in it. */
bool ip_is_public(const struct ip *ip);

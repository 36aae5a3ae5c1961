/* SPDX-License-Identifier: Apache-2.0 */
/* An address may be the Internet's and this machine's: what is reached by it from here stands
 * before every firewall, so it is judged apart. */
#include "os/address.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#undef MIN /* sys/param.h has its own */
#undef MAX
#include <resolv.h>

bool ip_of_sockaddr(const struct sockaddr *sa, struct ip *out)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    *out = (struct ip){ 0 };
    if (sa && sa->sa_family == AF_INET) {
        memcpy(&in, sa, sizeof(in));
        out->family = 4;
        memcpy(out->b, &in.sin_addr, 4);
    } else if (sa && sa->sa_family == AF_INET6) {
        memcpy(&in6, sa, sizeof(in6));
        out->family = 6;
        memcpy(out->b, &in6.sin6_addr, 16);
    }
    return out->family != 0;
}

bool ip_is_own(const struct ip *ip)
{
    struct ifaddrs *all = NULL;
    struct ip one;
    bool own = false;

    if (getifaddrs(&all) < 0)
        return true;
    for (const struct ifaddrs *i = all; i && !own; i = i->ifa_next)
        own = ip_of_sockaddr(i->ifa_addr, &one) && one.family == ip->family &&
              memcmp(one.b, ip->b, sizeof(one.b)) == 0;
    freeifaddrs(all);
    return own;
}

int ip_resolve(const char *name, struct ip *out, int max)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *all = NULL;
    int n = 0;

    /* This thread's own: as the file says it now, but soon tired. */
    if (res_init() == 0) {
        _res.retrans = 2;
        _res.retry = 2;
        _res.options &= ~(unsigned long)(RES_DEFNAMES | RES_DNSRCH);
    }
    if (getaddrinfo(name, NULL, &hints, &all) != 0)
        return 0;
    for (const struct addrinfo *i = all; i && n < max; i = i->ai_next)
        n += ip_of_sockaddr(i->ai_addr, &out[n]);
    freeaddrinfo(all);
    return n;
}

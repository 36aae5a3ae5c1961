/* SPDX-License-Identifier: Apache-2.0 */
/* An address may be the Internet's and this machine's: what is reached by it from here stands
 * before every firewall, so it is judged apart. */
#include "os/address.h"

#include <ifaddrs.h>
#include <netinet/in.h>

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

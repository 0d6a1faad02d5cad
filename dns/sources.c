#include "dns/sources.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <sys/socket.h>

#include "base/parse.h"
#include "units/service.h"

void source_list_done(SourceList *list) {
        free(list->interfaces);
        *list = (SourceList) {};
}

bool address_parse(const char *text, uint16_t port, Address *ret) {
        char address[INET6_ADDRSTRLEN];
        size_t size = strcspn(text, "%");

        *ret = (Address) { .in.sin_port = htons(port) };
        ret->sa.sa_family = memchr(text, ':', size) ? AF_INET6 : AF_INET;
        if (size >= sizeof(address))
                return false;
        memcpy(address, text, size);
        address[size] = 0;
        if (ret->sa.sa_family == AF_INET)
                return !text[size] && inet_pton(AF_INET, address, &ret->in.sin_addr) == 1;
        if (text[size])
                ret->in6.sin6_scope_id = if_nametoindex(text + size + 1) ?:
                                                 (uint32_t) strtoul(text + size + 1, NULL, 10);
        return inet_pton(AF_INET6, address, &ret->in6.sin6_addr) == 1;
}

struct in6_addr address_mapped(const Address *a) {
        struct in6_addr mapped = { .s6_addr = { [10] = 0xff, 0xff } };

        if (a->sa.sa_family == AF_INET6)
                return a->in6.sin6_addr;
        memcpy(mapped.s6_addr + 12, &a->in.sin_addr, 4);
        return mapped;
}

bool address_is_equal(const Address *a, const Address *b) {
        struct in6_addr x = address_mapped(a), y = address_mapped(b);

        return IN6_ARE_ADDR_EQUAL(&x, &y);
}

static bool network_has(const Network *network, const struct in6_addr *a) {
        unsigned i = 0;

        while (i < network->prefix &&
               ((a->s6_addr[i / 8] ^ network->address.s6_addr[i / 8]) & 0x80 >> i % 8) == 0)
                i++;
        return i == network->prefix;
}

int sources_allow(SourceList *list, const char *text, Error *err) {
        _cleanup_free_ char *copy = strdup(text);
        Network *network = &list->allowed[list->n_allowed];
        Address address;
        uint64_t bits, prefix;
        char *slash;

        if (!copy)
                return -ENOMEM;
        if (list->n_allowed == SOURCES_ALLOWED_MAX)
                return error_set(err, -EINVAL, "more than %d networks", SOURCES_ALLOWED_MAX);
        slash = strchr(copy, '/');
        if (slash)
                *slash++ = 0;
        if (!address_parse(copy, 0, &address) || strchr(copy, '%'))
                return error_set(err, -EINVAL, "expected a network, for example 192.168.1.0/24");
        prefix = bits = address.sa.sa_family == AF_INET ? 32 : 128;
        if (slash && (parse_u64(slash, &prefix) < 0 || prefix > bits))
                return error_set(err, -EINVAL, "expected a prefix of 1 to %" PRIu64, bits);
        if (prefix == 0)
                return error_set(err, -EINVAL, "that is an open resolver; name your networks");
        *network = (Network) { address_mapped(&address), (unsigned) (128 - bits + prefix) };
        list->n_allowed++;
        return 0;
}

SourceKind sources_decide(const SourceList *list, const Address *source, bool tcp, unsigned arrived,
                          unsigned route) {
        bool is_own = false, came_within = tcp, is_container = false;
        struct in6_addr from = address_mapped(source);

        if (tcp)
                arrived = route;
        for (size_t i = 0; i < list->n; i++) {
                const SourceInterface *interface = &list->interfaces[i];
                bool is_lo = streq(interface->name, "lo"),
                     came_here = arrived > 0 && interface->index == arrived;

                /* All of 127.0.0.0/8 is own. */
                is_own |= is_lo ? network_has(&interface->network, &from) :
                                  IN6_ARE_ADDR_EQUAL(&interface->network.address, &from);
                came_within |= came_here && (is_lo || streq(interface->name, SOURCES_LINK));
                is_container |= came_here && interface_is_of_containers(interface->name) &&
                                network_has(&interface->network, &from);
        }
        if (is_own)
                return came_within ? SOURCE_HOST : SOURCE_FOREIGN;
        if (is_container)
                return SOURCE_CONTAINER;
        for (size_t i = 0; i < list->n_allowed; i++)
                if (arrived > 0 && arrived == route && network_has(&list->allowed[i], &from))
                        return SOURCE_ALLOWED;
        return SOURCE_FOREIGN;
}

/* -- The interfaces of this host -- */

/* Return the prefix of a network with this mask, in bits of mapped addresses. */
static unsigned mask_bits(const Address *mask) {
        struct in6_addr mapped = address_mapped(mask);
        unsigned n = mask->sa.sa_family == AF_INET ? 80 : 0; /* before ffff */

        for (size_t i = 0; i < sizeof(mapped.s6_addr); i++)
                n += (unsigned) __builtin_popcount(mapped.s6_addr[i]);
        return n;
}

/* Read the list. After a failure it has what was read before it: fewer sources. */
static void sources_read(SourceList *list) {
        struct ifaddrs *all = NULL;

        list->n = 0;
        if (getifaddrs(&all) < 0)
                return;
        for (const struct ifaddrs *a = all; a && list->n < SOURCES_INTERFACES_MAX; a = a->ifa_next) {
                const Address *own = (const Address *) a->ifa_addr, *mask = (const Address *) a->ifa_netmask;
                SourceInterface *i;

                if (!own || !mask || (own->sa.sa_family != AF_INET && own->sa.sa_family != AF_INET6) ||
                    GROW(list->interfaces, list->capacity, list->n + 1) < 0)
                        continue;
                i = &list->interfaces[list->n++];
                *i = (SourceInterface) { .index = if_nametoindex(a->ifa_name),
                                         .network = { address_mapped(own), mask_bits(mask) } };
                snprintf(i->name, sizeof(i->name), "%s", a->ifa_name);
        }
        freeifaddrs(all);
}

/* Return the index of the interface that has the address from which this host sends to 'source', or 0. */
static unsigned sources_route(const SourceList *list, const Address *source) {
        _cleanup_close_ int fd = socket(source->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        Address to = *source, from = {};
        socklen_t size = sizeof(from);
        struct in6_addr mapped;

        to.in.sin_port = htons(53); /* sends nothing */
        if (fd < 0 || connect(fd, &to.sa, sizeof(to)) < 0 || getsockname(fd, &from.sa, &size) < 0)
                return 0;
        mapped = address_mapped(&from);
        for (size_t i = 0; i < list->n; i++)
                if (IN6_ARE_ADDR_EQUAL(&list->interfaces[i].network.address, &mapped))
                        return list->interfaces[i].index;
        return 0;
}

SourceKind sources_check(SourceList *list, const Address *source, bool tcp, unsigned arrived,
                         uint64_t now_ms) {
        for (;;) {
                unsigned route = tcp || list->n_allowed > 0 ? sources_route(list, source) : 0;
                SourceKind kind = sources_decide(list, source, tcp, arrived, route);

                if (kind != SOURCE_FOREIGN || (list->read_ms > 0 && now_ms - list->read_ms < SOURCES_READ_MS))
                        return kind;
                list->read_ms = MAX(now_ms, (uint64_t) 1);
                sources_read(list);
        }
}

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

size_t address_bytes(const Address *a, const uint8_t **ret) {
        if (a->sa.sa_family == AF_INET6) {
                *ret = a->in6.sin6_addr.s6_addr;
                return 16;
        }
        *ret = (const uint8_t *) &a->in.sin_addr;
        return 4;
}

bool address_is_equal(const Address *a, const Address *b) {
        const uint8_t *x, *y;
        size_t n = address_bytes(a, &x);

        return a->sa.sa_family == b->sa.sa_family && address_bytes(b, &y) == n && memcmp(x, y, n) == 0;
}

static bool network_has(const Network *network, const Address *a) {
        const uint8_t *x, *y, *mask;
        size_t n = address_bytes(a, &x), i = 0;

        if (a->sa.sa_family != network->address.sa.sa_family)
                return false;
        address_bytes(&network->address, &y);
        address_bytes(&network->mask, &mask);
        while (i < n && ((x[i] ^ y[i]) & mask[i]) == 0)
                i++;
        return i == n;
}

int sources_allow(SourceList *list, const char *text, Error *err) {
        _cleanup_free_ char *copy = strdup(text);
        Network *network = &list->allowed[list->n_allowed];
        uint64_t prefix;
        uint8_t *mask;
        char *slash;
        size_t size;

        if (!copy)
                return -ENOMEM;
        if (list->n_allowed == SOURCES_ALLOWED_MAX)
                return error_set(err, -EINVAL, "more than %d networks in --allow=", SOURCES_ALLOWED_MAX);
        slash = strchr(copy, '/');
        if (slash)
                *slash++ = 0;
        if (!address_parse(copy, 0, &network->address) || strchr(copy, '%'))
                return error_set(err, -EINVAL, "--allow=%s: expected a network, for example 192.168.1.0/24",
                                 text);
        network->mask = (Address) { .sa.sa_family = network->address.sa.sa_family };
        size = address_bytes(&network->mask, (const uint8_t **) &mask);
        prefix = 8 * size;
        if (slash && (parse_u64(slash, &prefix) < 0 || prefix > 8 * size))
                return error_set(err, -EINVAL, "--allow=%s: expected a prefix of 1 to %zu", text, 8 * size);
        if (prefix == 0)
                return error_set(err, -EINVAL, "--allow=%s: that is an open resolver; name your networks",
                                 text);
        for (size_t bit = 0; bit < prefix; bit++)
                mask[bit / 8] |= (uint8_t) (0x80 >> bit % 8);
        list->n_allowed++;
        return 0;
}

SourceKind sources_decide(const SourceList *list, const Address *source, bool tcp, unsigned arrived,
                          unsigned route) {
        bool is_own = false, came_within = tcp, is_container = false;

        if (tcp)
                arrived = route;
        for (size_t i = 0; i < list->n; i++) {
                const SourceInterface *interface = &list->interfaces[i];
                bool is_lo = streq(interface->name, "lo"),
                     came_here = arrived > 0 && interface->index == arrived;

                /* All of 127.0.0.0/8 is own. */
                is_own |= is_lo ? network_has(&interface->network, source) :
                                  address_is_equal(&interface->network.address, source);
                came_within |= came_here && (is_lo || streq(interface->name, SOURCES_LINK));
                is_container |= came_here && interface_is_of_containers(interface->name) &&
                                network_has(&interface->network, source);
        }
        if (is_own)
                return came_within ? SOURCE_HOST : SOURCE_FOREIGN;
        if (is_container)
                return SOURCE_CONTAINER;
        for (size_t i = 0; i < list->n_allowed; i++)
                if (arrived > 0 && arrived == route && network_has(&list->allowed[i], source))
                        return SOURCE_ALLOWED;
        return SOURCE_FOREIGN;
}

/* -- The interfaces of this host -- */

/* Read the list. After a failure it has what was read before it: fewer sources. */
static void sources_read(SourceList *list) {
        struct ifaddrs *all = NULL;

        list->n = 0;
        if (getifaddrs(&all) < 0)
                return;
        for (const struct ifaddrs *a = all; a && list->n < SOURCES_INTERFACES_MAX; a = a->ifa_next) {
                SourceInterface *i;
                size_t size;

                if (!a->ifa_addr || !a->ifa_netmask ||
                    (a->ifa_addr->sa_family != AF_INET && a->ifa_addr->sa_family != AF_INET6) ||
                    GROW(list->interfaces, list->capacity, list->n + 1) < 0)
                        continue;
                i = &list->interfaces[list->n++];
                *i = (SourceInterface) { .index = if_nametoindex(a->ifa_name) };
                size = a->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) :
                                                           sizeof(struct sockaddr_in6);
                memcpy(&i->network.address, a->ifa_addr, size);
                memcpy(&i->network.mask, a->ifa_netmask, size);
                i->network.mask.sa.sa_family = a->ifa_addr->sa_family;
                snprintf(i->name, sizeof(i->name), "%s", a->ifa_name);
        }
        freeifaddrs(all);
}

/* Return the index of the interface that has the address from which this host sends to 'source', or 0. */
static unsigned sources_route(const SourceList *list, const Address *source) {
        _cleanup_close_ int fd = socket(source->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        Address to = *source, from = {};
        socklen_t size = sizeof(from);

        to.in.sin_port = htons(53); /* sends nothing */
        if (fd < 0 || connect(fd, &to.sa, sizeof(to)) < 0 || getsockname(fd, &from.sa, &size) < 0)
                return 0;
        for (size_t i = 0; i < list->n; i++)
                if (address_is_equal(&list->interfaces[i].network.address, &from))
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

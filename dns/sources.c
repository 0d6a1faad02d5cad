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

static bool network_has(const Network *network, struct in_addr a) {
        return ((a.s_addr ^ network->address.s_addr) & network->mask.s_addr) == 0;
}

int sources_allow(SourceList *list, const char *text, Error *err) {
        Network *network = &list->allowed[list->n_allowed];
        char address[INET_ADDRSTRLEN] = "";
        size_t size = strcspn(text, "/");
        uint64_t prefix = 32;

        if (list->n_allowed == SOURCES_ALLOWED_MAX)
                return error_set(err, -EINVAL, "more than %d networks", SOURCES_ALLOWED_MAX);
        if (streq(text, "0.0.0.0/0") || streq(text, "::/0"))
                return error_set(err, -EINVAL, "that is an open resolver; name your networks");
        if (size < sizeof(address))
                memcpy(address, text, size);
        if (inet_pton(AF_INET, address, &network->address) != 1)
                return error_set(err, -EINVAL, "expected a network of IPv4, for example 192.168.1.0/24");
        if (text[size] && (parse_u64(text + size + 1, &prefix) < 0 || prefix < 1 || prefix > 32))
                return error_set(err, -EINVAL, "expected a prefix of 1 to 32");
        network->mask.s_addr = htonl(UINT32_MAX << (32 - prefix));
        list->n_allowed++;
        return 0;
}

SourceKind sources_decide(const SourceList *list, struct in_addr source, bool tcp, unsigned input,
                          unsigned route) {
        bool is_own = false, came_within = false, is_container = false;

        if (tcp)
                input = route;
        for (size_t i = 0; i < list->n; i++) {
                const SourceInterface *interface = &list->interfaces[i];
                bool is_lo = streq(interface->name, "lo"), came_here = input > 0 && interface->index == input;

                /* All of 127.0.0.0/8 is own. */
                is_own |= is_lo ? network_has(&interface->network, source) :
                                  interface->network.address.s_addr == source.s_addr;
                came_within |= came_here && (is_lo || streq(interface->name, SOURCES_LINK));
                is_container |= came_here && interface_is_of_containers(interface->name) &&
                                network_has(&interface->network, source);
        }
        if (is_own)
                return came_within ? SOURCE_HOST : SOURCE_FOREIGN;
        if (is_container)
                return SOURCE_CONTAINER;
        for (size_t i = 0; i < list->n_allowed; i++)
                if (input > 0 && input == route && network_has(&list->allowed[i], source))
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
        for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
                const struct sockaddr_in *own = (const struct sockaddr_in *) a->ifa_addr,
                                         *mask = (const struct sockaddr_in *) a->ifa_netmask;
                SourceInterface *i;

                if (!own || !mask || own->sin_family != AF_INET ||
                    GROW(list->interfaces, list->capacity, list->n + 1) < 0)
                        continue;
                i = &list->interfaces[list->n++];
                *i = (SourceInterface) { .index = if_nametoindex(a->ifa_name),
                                         .network = { own->sin_addr, mask->sin_addr } };
                snprintf(i->name, sizeof(i->name), "%s", a->ifa_name);
        }
        freeifaddrs(all);
}

/* Return the index of the interface that has the address from which this host sends to 'source', or 0. To an
 * own address it sends by lo, from that address. */
static unsigned sources_route(const SourceList *list, struct in_addr source) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr = source, .sin_port = htons(53) }, from;
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* sends nothing */
        socklen_t size = sizeof(from);

        if (fd < 0 || connect(fd, (struct sockaddr *) &to, sizeof(to)) < 0 ||
            getsockname(fd, (struct sockaddr *) &from, &size) < 0)
                return 0;
        for (size_t i = 0; i < list->n; i++)
                if (from.sin_addr.s_addr == source.s_addr ?
                            streq(list->interfaces[i].name, "lo") :
                            from.sin_addr.s_addr == list->interfaces[i].network.address.s_addr)
                        return list->interfaces[i].index;
        return 0;
}

SourceKind sources_check(SourceList *list, struct in_addr source, bool tcp, unsigned input, uint64_t now_ms) {
        for (;;) {
                unsigned route = tcp || list->n_allowed > 0 ? sources_route(list, source) : 0;
                SourceKind kind = sources_decide(list, source, tcp, input, route);

                if (kind != SOURCE_FOREIGN || (list->read_ms > 0 && now_ms - list->read_ms < SOURCES_READ_MS))
                        return kind;
                list->read_ms = MAX(now_ms, (uint64_t) 1);
                sources_read(list);
        }
}

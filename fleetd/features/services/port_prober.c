#include "fleetd/features/services/port_prober.h"

#include <netinet/in.h>

#include "base/file.h"
#include "fleetd/host/host.h"

/* Return whether the port can be bound at the wildcard address. A host without the family has no user of it.
 *
 * Connections that a former process has left in TIME_WAIT hold a TCP port only for sockets without
 * SO_REUSEADDR, which servers set; another listener holds it in any case. Two sockets of UDP with that option
 * would share the port. Source: socket(7), and inet_csk_get_port() of Linux. */
static bool port_binds(int family, uint16_t number, PortProtocol protocol) {
        /* Both families begin with family and port, and 0 is the wildcard address. */
        struct sockaddr_in6 address = { .sin6_family = (sa_family_t) family, .sin6_port = htons(number) };
        socklen_t size = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(address);
        int type = protocol == PORT_TCP ? SOCK_STREAM : SOCK_DGRAM, on = 1, r = 0;
        _cleanup_close_ int fd = socket(family, type | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return errno == EAFNOSUPPORT;
        if (family == AF_INET6)
                r = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        if (r == 0 && protocol == PORT_TCP)
                r = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (r == 0)
                r = bind(fd, (const struct sockaddr *) &address, size);
        return r == 0 || errno == EADDRNOTAVAIL;
}

static bool port_is_free(const PortProber *p, uint16_t number, PortProtocol protocol) {
        return port_binds(AF_INET, number, protocol) && port_binds(AF_INET6, number, protocol);
}

const PortProber port_prober = { port_is_free, host_local_ports };

/* Who may ask: this host, the containers of its bridges, and the networks of --allow=.
 *
 * A neighbour can send a packet with any source to any address of this host, and systemd's default of
 * rp_filter accepts it. So the interface by which a query came in counts, too: lo for own addresses, the
 * bridge for those of its network, and for a network of --allow= the interface of the route back to the
 * source. The handshake of TCP proves that route.
 *
 * sources_decide() is pure. Source: fleet-dns(8), WHO MAY ASK. */
#pragma once

#include <net/if.h>
#include <netinet/in.h>

#include "base/error.h"

enum {
        SOURCES_READ_MS = 1000, /* between two reads of the list of interfaces */
        SOURCES_INTERFACES_MAX = 4096,
        SOURCES_ALLOWED_MAX = 64, /* --allow= */
};

/* The link that fleet-dns-link.service creates for systemd-resolved, which sends its queries out of it. */
#define SOURCES_LINK "fleet0"

typedef union Address {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
} Address;

typedef struct Network {
        struct in6_addr address; /* IPv4 is mapped, ::ffff:10.0.0.1 */
        unsigned prefix;         /* bits of that */
} Network;

typedef struct SourceInterface {
        char name[IFNAMSIZ];
        unsigned index;
        Network network; /* with the whole address */
} SourceInterface;

typedef struct SourceList {
        SourceInterface *interfaces; /* one for each address; owned */
        size_t n, capacity;
        Network allowed[SOURCES_ALLOWED_MAX];
        size_t n_allowed;
        uint64_t read_ms; /* 0: never */
} SourceList;

typedef enum SourceKind {
        SOURCE_FOREIGN, /* gets no answer */
        SOURCE_HOST,
        SOURCE_CONTAINER,
        SOURCE_ALLOWED, /* may ask for names of services only */
} SourceKind;

void source_list_done(SourceList *list);

/* Parse "ADDRESS/PREFIX" or "ADDRESS", and add it. Return 0 or -EINVAL with a message. */
int sources_allow(SourceList *list, const char *network, Error *err);

/* Parse an address: "10.0.0.1", "fd00::1", or "fe80::1%eth0" with the name or number of its interface. */
bool address_parse(const char *text, uint16_t port, Address *ret);
/* Return the address as one of IPv6: IPv4 is mapped. */
struct in6_addr address_mapped(const Address *a);
bool address_is_equal(const Address *a, const Address *b);

/* 'arrived' is the index of the interface by which the query came in, 'route' of that by which packets to the
 * source leave; 0: unknown. Over TCP 'arrived' is not needed. */
SourceKind sources_decide(const SourceList *list, const Address *source, bool tcp, unsigned arrived,
                          unsigned route);

/* The same with the interfaces of this host. An unknown source reads them again, at most each
 * SOURCES_READ_MS. */
SourceKind sources_check(SourceList *list, const Address *source, bool tcp, unsigned arrived,
                         uint64_t now_ms);

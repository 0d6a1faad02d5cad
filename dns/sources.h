/* Who may ask: this host, the containers of its bridges, and the networks of --allow=.
 *
 * A neighbour can send a packet with any source to any address of this host, and systemd's default of
 * rp_filter accepts it. So the interface by which a query came in counts, too: lo for own addresses, the
 * bridge for those of its network, and for a network of --allow= the interface of the route back to the
 * source. The handshake of TCP proves that route.
 *
 * sources_decide() is pure. The sockets are of IPv4. Source: fleet-dns(8), WHO MAY ASK. */
#pragma once

#include <net/if.h>
#include <netinet/in.h>

#include "base/error.h"

enum {
        SOURCES_READ_MS = 1000,   /* between two reads of the list of interfaces */
        SOURCES_ALLOWED_MAX = 64, /* --allow= */
};

/* The link that fleet-dns-link.service creates for systemd-resolved, which sends its queries out of it. */
#define SOURCES_LINK "fleet0"

typedef struct Network {
        struct in_addr address, mask;
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

/* 'input' is the index of the interface by which the query came in, 'route' of that by which packets to the
 * source leave; 0: unknown. Over TCP 'input' is not needed. */
SourceKind sources_decide(const SourceList *list, struct in_addr source, bool tcp, unsigned input,
                          unsigned route);

/* The same with the interfaces of this host. An unknown source reads them again, at most each
 * SOURCES_READ_MS. */
SourceKind sources_check(SourceList *list, struct in_addr source, bool tcp, unsigned input, uint64_t now_ms);

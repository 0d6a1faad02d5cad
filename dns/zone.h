/* The zone "fleet.": the names of services, their ports and endpoints.
 *
 * Pure: the table of services and a question in, records out, without their wire format. Each answer is one
 * of records, of NODATA or NXDOMAIN with the SOA record, or of an error.
 *
 * Source: fleet-dns(8) has the names; RFC 1035, RFC 2308 (negative answers), RFC 2782 (SRV), RFC 8482 (ANY).
 */
#pragma once

#include <arpa/nameser.h>

#include "base/clock.h"
#include "dns/table.h"

#define ZONE_ADDRESS SERVICES_DNS /* of each host's fleet-dns, and of ns.fleet */

enum {
        ZONE_TTL = 1, /* seconds; the data is local, so that a cache gains nothing */
        ZONE_SRV_PRIORITY = 10,
        ZONE_SRV_WEIGHT = 100,
        ZONE_UDP_ADDRESSES_MAX = 16, /* A or AAAA records of an answer that sets no TC */
        ZONE_TCP_ADDRESSES_MAX = 1000,
        ZONE_SRV_MAX = 1500, /* more than fit into 64 KiB: the shortest takes 46 bytes */
};

typedef struct DnsQuestion {
        uint8_t name[NS_MAXCDNAME]; /* labels, each after its size; lower case */
        size_t name_size;           /* bytes, with the empty label at the end */
        uint16_t type, class;
} DnsQuestion;

/* The owner is the name of the question; that of SOA is the zone. */
typedef struct DnsRecord {
        ns_type type;
        const TableLine *line; /* A, AAAA, SRV; borrowed from the table, as the next */
        const char *service;   /* SRV: the target is ENDPOINT.SERVICE.service.fleet */
        uint16_t offset;       /* SRV: of the target in the message; 0: the record was not written */
} DnsRecord;

typedef struct DnsAnswer {
        ns_rcode rcode;
        bool authoritative;
        DnsRecord *records; /* the answer section; owned */
        size_t n_records;
        bool negative;   /* the authority section is SOA */
        uint32_t serial; /* of SOA */
} DnsAnswer;

void dns_answer_done(DnsAnswer *answer);
#define _cleanup_dns_answer_ _cleanup_(dns_answer_done)

/* Return whether the name of the question is "fleet" or below it. */
bool zone_contains(const DnsQuestion *question);

/* Answer a question whose name is in the zone. Records are in random order, and a random selection of
 * ZONE_TCP_ADDRESSES_MAX, or over UDP ZONE_UDP_ADDRESSES_MAX, or ZONE_SRV_MAX. *ret borrows from 'table'.
 * Return 0 or -ENOMEM. */
int zone_answer(const Table *table, const DnsQuestion *question, bool tcp, Random *random, DnsAnswer *ret);

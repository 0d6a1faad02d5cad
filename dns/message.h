/* DNS messages: the bytes of a query to its question, and an answer to bytes that fit a size. The only user
 * of ldns.
 *
 * Source: RFC 1035 section 4, RFC 6891 (EDNS), RFC 2181 section 9 (TC). */
#pragma once

#include "dns/zone.h"

enum {
        MESSAGE_UDP_MAX = 8192,   /* with EDNS */
        MESSAGE_EDNS_SIZE = 1232, /* what OPT of an answer offers */
};

typedef struct DnsQuery {
        ns_rcode rcode; /* ns_r_formerr or ns_r_notimpl: the rest is not valid, but for the header */
        DnsQuestion question;
        size_t question_size; /* bytes after the header; 0: it could not be read */
        bool has_edns, dnssec_ok;
        uint8_t edns_version;
        uint16_t udp_size;    /* as the query says; without EDNS 0 */
        const uint8_t *bytes; /* borrowed */
} DnsQuery;

/* Read a query. Counts are compared before anything is parsed. Return 0, or -EBADMSG if it must not be
 * answered: an answer, or less than a header. */
int message_read(const uint8_t *bytes, size_t size, DnsQuery *ret);

/* Write an answer to 'query'. Each record is complete; answers of SRV that do not fit set TC, and addresses
 * that do not fit are left out. The addresses of the targets of written SRV records follow as far as they
 * fit. 'recursive' sets RA. The caller frees *ret. Return 0 or -ENOMEM. */
int message_write(const DnsQuery *query, DnsAnswer *answer, bool recursive, bool tcp, uint8_t **ret,
                  size_t *ret_size);

/* Return the response code of 'answer', or -EBADMSG if it is no answer to this query, by their questions and
 * IDs. The query has a valid question. */
int message_answers(const uint8_t *query, size_t query_size, const uint8_t *answer, size_t answer_size);

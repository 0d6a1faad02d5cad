#include "dns/message.h"

#include <ldns/ldns.h>

enum {
        SRV_SIZE = 6,         /* before the target */
        OPT_SIZE = 11,        /* with the name of the root, without options */
        POINTER_MAX = 0x3fff, /* the last offset to which a name can point */
        EDNS_DO = 0x8000,
};

/* -- Reading -- */

/* Read a name at *pos, and advance *pos. Return its size, at most 'max', or -EBADMSG. 'ret' is lower case. */
static int message_read_name(const uint8_t *bytes, size_t size, size_t *pos, uint8_t *ret) {
        ldns_rdf *name = NULL;
        size_t n;

        if (ldns_wire2dname(&name, bytes, size, pos) != LDNS_STATUS_OK)
                return -EBADMSG;
        ldns_dname2canonical(name);
        n = ldns_rdf_size(name);
        if (n <= NS_MAXCDNAME)
                memcpy(ret, ldns_rdf_data(name), n);
        ldns_rdf_deep_free(name);
        return n <= NS_MAXCDNAME ? (int) n : -EBADMSG;
}

/* Read the one additional record of a query. Only OPT has a meaning. */
static int message_read_additional(const uint8_t *bytes, size_t size, size_t pos, DnsQuery *q) {
        uint8_t name[NS_MAXCDNAME];
        int name_size = TRY(message_read_name(bytes, size, &pos, name));
        uint32_t ttl;

        if (size - pos < NS_RRFIXEDSZ ||
            size - pos != NS_RRFIXEDSZ + (size_t) ldns_read_uint16(bytes + pos + 8))
                return -EBADMSG;
        if (ldns_read_uint16(bytes + pos) != ns_t_opt)
                return 0;
        if (name_size != 1)
                return -EBADMSG;
        ttl = ldns_read_uint32(bytes + pos + 4);
        q->has_edns = true;
        q->udp_size = ldns_read_uint16(bytes + pos + 2);
        q->edns_version = (uint8_t) (ttl >> 16);
        q->dnssec_ok = ttl & EDNS_DO;
        return 0;
}

static int message_read_sections(const uint8_t *bytes, size_t size, DnsQuery *q) {
        size_t pos = NS_HFIXEDSZ, n_additional = LDNS_ARCOUNT(bytes);

        if (LDNS_QDCOUNT(bytes) != 1 || LDNS_ANCOUNT(bytes) != 0 || LDNS_NSCOUNT(bytes) != 0 ||
            n_additional > 1)
                return -EBADMSG;
        q->question.name_size = (size_t) TRY(message_read_name(bytes, size, &pos, q->question.name));
        /* The name of a question cannot point to another one. */
        if (pos != NS_HFIXEDSZ + q->question.name_size || size - pos < 4)
                return -EBADMSG;
        q->question.type = ldns_read_uint16(bytes + pos);
        q->question.class = ldns_read_uint16(bytes + pos + 2);
        pos += 4;
        q->question_size = pos - NS_HFIXEDSZ;
        if (n_additional == 0)
                return pos == size ? 0 : -EBADMSG;
        return message_read_additional(bytes, size, pos, q);
}

int message_read(const uint8_t *bytes, size_t size, DnsQuery *ret) {
        *ret = (DnsQuery) { .bytes = bytes };
        if (size < NS_HFIXEDSZ || LDNS_QR_WIRE(bytes))
                return -EBADMSG;
        if (message_read_sections(bytes, size, ret) < 0)
                ret->rcode = ns_r_formerr;
        if (LDNS_OPCODE_WIRE(bytes) != LDNS_PACKET_QUERY)
                ret->rcode = ns_r_notimpl;
        return 0;
}

int message_answers(const uint8_t *query, size_t query_size, const uint8_t *answer, size_t answer_size) {
        size_t end = NS_HFIXEDSZ;

        while (end < query_size && query[end] > 0)
                end += 1 + query[end];
        end += 5;
        if (end > query_size || end > answer_size || !LDNS_QR_WIRE(answer) || memcmp(query, answer, 2) != 0 ||
            LDNS_QDCOUNT(answer) != 1)
                return -EBADMSG;
        /* A size of a label is less than 64, and no letter. */
        for (size_t i = NS_HFIXEDSZ; i < end; i++)
                if (LDNS_DNAME_NORMALIZE(query[i]) != LDNS_DNAME_NORMALIZE(answer[i]))
                        return -EBADMSG;
        return LDNS_RCODE_WIRE(answer);
}

/* -- Writing -- */

/* An answer that is being written. All names end in that of the question or of a target that was written
 * before, so that their offsets are known. The targets of SRV are never compressed (RFC 2782). */
typedef struct MessageWriter {
        ldns_buffer *buffer;
        size_t max;         /* bytes, without OPT */
        uint16_t counts[4]; /* of the sections */
        unsigned apex;      /* the offset of "fleet" in the question */
        uint32_t serial;
        bool truncated;
} MessageWriter;

static void writer_label(MessageWriter *w, const char *label) {
        ldns_buffer_write_u8(w->buffer, (uint8_t) strlen(label));
        ldns_buffer_write_string(w->buffer, label);
}

static void writer_pointer(MessageWriter *w, unsigned offset) {
        ldns_buffer_write_u16(w->buffer, (uint16_t) (0xc000 | offset));
}

/* LABEL.SERVICE.service.fleet */
static void writer_target(MessageWriter *w, const DnsRecord *r) {
        writer_label(w, r->line->endpoint.endpoint);
        writer_label(w, r->service);
        ldns_buffer_write(w->buffer, "\7service\5fleet", 15);
}

static size_t target_size(const DnsRecord *r) {
        return 1 + strlen(r->line->endpoint.endpoint) + 1 + strlen(r->service) + 15;
}

static void writer_head(MessageWriter *w, unsigned type, size_t data_size) {
        ldns_buffer_write_u16(w->buffer, (uint16_t) type);
        ldns_buffer_write_u16(w->buffer, ns_c_in);
        ldns_buffer_write_u32(w->buffer, ZONE_TTL);
        ldns_buffer_write_u16(w->buffer, (uint16_t) data_size);
}

static bool writer_fits(const MessageWriter *w, size_t size) {
        return ldns_buffer_position(w->buffer) + size <= w->max;
}

static void writer_address(MessageWriter *w, const DnsRecord *r) {
        bool is_ip4 = IN6_IS_ADDR_V4MAPPED(&r->line->address);
        size_t size = is_ip4 ? 4 : 16;

        writer_head(w, is_ip4 ? ns_t_a : ns_t_aaaa, size);
        ldns_buffer_write(w->buffer, r->line->address.s6_addr + 16 - size, size);
}

static size_t address_size(const DnsRecord *r) {
        return NS_RRFIXEDSZ + (r->line && !IN6_IS_ADDR_V4MAPPED(&r->line->address) ? 16 : 4);
}

/* The names of SOA and NS are relative to "fleet", the end of the question. */
static void writer_apex(MessageWriter *w, ns_type type) {
        static const uint32_t times[] = { 60, 30, 3600, ZONE_TTL }; /* refresh, retry, expire, minimum */

        writer_head(w, type, type == ns_t_ns ? 5 : 5 + 13 + 20);
        writer_label(w, "ns");
        writer_pointer(w, w->apex);
        if (type == ns_t_ns)
                return;
        writer_label(w, "hostmaster");
        writer_pointer(w, w->apex);
        ldns_buffer_write_u32(w->buffer, w->serial);
        for (size_t i = 0; i < ELEMENTS(times); i++)
                ldns_buffer_write_u32(w->buffer, times[i]);
}

/* Write a record of the answer section, whose owner is that of the question. */
static void writer_record(MessageWriter *w, const DnsRecord *r) {
        writer_pointer(w, NS_HFIXEDSZ);
        switch (r->type) {
        case ns_t_a:
        case ns_t_aaaa:
                writer_address(w, r);
                break;
        case ns_t_srv:
                writer_head(w, ns_t_srv, SRV_SIZE + target_size(r));
                ldns_buffer_write_u16(w->buffer, ZONE_SRV_PRIORITY);
                ldns_buffer_write_u16(w->buffer, ZONE_SRV_WEIGHT);
                ldns_buffer_write_u16(w->buffer, r->line->endpoint.port);
                writer_target(w, r);
                break;
        case ns_t_hinfo:
                writer_head(w, ns_t_hinfo, 9);
                writer_label(w, "RFC8482");
                writer_label(w, "");
                break;
        default:
                writer_apex(w, r->type);
                break;
        }
}

/* The answer section. One record always fits, and so does SOA. */
static void writer_answers(MessageWriter *w, DnsAnswer *answer) {
        for (DnsRecord *r = answer->records; r < answer->records + answer->n_records; r++) {
                bool is_srv = r->type == ns_t_srv;

                if (!writer_fits(w,
                                 2 + (is_srv ? NS_RRFIXEDSZ + SRV_SIZE + target_size(r) : address_size(r)))) {
                        w->truncated |= is_srv;
                        continue;
                }
                writer_record(w, r);
                w->counts[1]++;
                if (is_srv)
                        r->offset = (uint16_t) (ldns_buffer_position(w->buffer) - target_size(r));
        }
}

/* The additional section: the addresses of targets that were written. */
static void writer_additional(MessageWriter *w, const DnsAnswer *answer) {
        for (const DnsRecord *r = answer->records; r < answer->records + answer->n_records; r++) {
                bool is_near = r->offset <= POINTER_MAX;

                if (r->offset == 0 || !writer_fits(w, (is_near ? 2 : target_size(r)) + address_size(r)))
                        continue;
                if (is_near)
                        writer_pointer(w, r->offset);
                else
                        writer_target(w, r);
                writer_address(w, r);
                w->counts[3]++;
        }
}

static void writer_opt(MessageWriter *w, const DnsQuery *q, ns_rcode rcode) {
        ldns_buffer_write_u8(w->buffer, 0);
        ldns_buffer_write_u16(w->buffer, ns_t_opt);
        ldns_buffer_write_u16(w->buffer, MESSAGE_EDNS_SIZE);
        ldns_buffer_write_u32(w->buffer, (uint32_t) rcode >> 4 << 24 | (q->dnssec_ok ? EDNS_DO : 0));
        ldns_buffer_write_u16(w->buffer, 0);
        w->counts[3]++;
}

int message_write(const DnsQuery *q, DnsAnswer *answer, bool recursive, bool tcp, uint8_t **ret,
                  size_t *ret_size) {
        size_t max = tcp ? (size_t) NS_MAXMSG : MIN(MAX(q->udp_size, NS_PACKETSZ), MESSAGE_UDP_MAX);
        MessageWriter w = { ldns_buffer_new(max), max - (q->has_edns ? OPT_SIZE : 0),
                            .serial = answer->serial };
        uint8_t *bytes;

        if (!w.buffer)
                return -ENOMEM;
        w.apex = NS_HFIXEDSZ + (unsigned) q->question.name_size - sizeof("\5fleet");
        w.counts[0] = q->question_size > 0;
        ldns_buffer_skip(w.buffer, NS_HFIXEDSZ);
        ldns_buffer_write(w.buffer, q->bytes + NS_HFIXEDSZ, q->question_size);
        writer_answers(&w, answer);
        if (answer->negative) {
                writer_pointer(&w, w.apex);
                writer_apex(&w, ns_t_soa);
                w.counts[2]++;
        }
        writer_additional(&w, answer);
        if (q->has_edns)
                writer_opt(&w, q, answer->rcode);

        *ret_size = ldns_buffer_position(w.buffer);
        bytes = ldns_buffer_export(w.buffer);
        ldns_buffer_free(w.buffer);
        memcpy(bytes, q->bytes, 4);
        bytes[2] &= 0x79; /* opcode, RD */
        bytes[3] = (uint8_t) ((bytes[3] & LDNS_CD_MASK) | (answer->rcode & LDNS_RCODE_MASK) |
                              (recursive ? LDNS_RA_MASK : 0));
        bytes[2] |= (uint8_t) (LDNS_QR_MASK | (answer->authoritative ? LDNS_AA_MASK : 0) |
                               (w.truncated ? LDNS_TC_MASK : 0));
        for (size_t i = 0; i < ELEMENTS(w.counts); i++)
                ldns_write_uint16(bytes + 4 + 2 * i, w.counts[i]);
        *ret = realloc(bytes, *ret_size) ?: bytes;
        return 0;
}

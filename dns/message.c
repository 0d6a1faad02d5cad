#include "dns/message.h"

#include <ldns/ldns.h>

enum {
        RECORD_MAX = 256,     /* bytes; above the size of any */
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
 * before, so that their offsets are known. The targets of SRV are never compressed (RFC 2782). The buffer has
 * room for one record above 'max', which is then taken back. */
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

static void writer_data(MessageWriter *w, ns_type type, DnsRecord *r) {
        static const uint32_t times[] = { 60, 30, 3600, ZONE_TTL }; /* refresh, retry, expire, minimum */

        switch (type) {
        case ns_t_a:
                ldns_buffer_write(w->buffer, r->line->address.s6_addr + 12, 4);
                break;
        case ns_t_aaaa:
                ldns_buffer_write(w->buffer, r->line->address.s6_addr, 16);
                break;
        case ns_t_srv:
                ldns_buffer_write_u16(w->buffer, ZONE_SRV_PRIORITY);
                ldns_buffer_write_u16(w->buffer, ZONE_SRV_WEIGHT);
                ldns_buffer_write_u16(w->buffer, r->line->endpoint.port);
                r->offset = (uint16_t) ldns_buffer_position(w->buffer);
                writer_target(w, r);
                break;
        case ns_t_hinfo:
                writer_label(w, "RFC8482");
                writer_label(w, "");
                break;
        default: /* the names of SOA and NS are relative to "fleet", the end of the question */
                writer_label(w, "ns");
                writer_pointer(w, w->apex);
                if (type == ns_t_ns)
                        break;
                writer_label(w, "hostmaster");
                writer_pointer(w, w->apex);
                ldns_buffer_write_u32(w->buffer, w->serial);
                for (size_t i = 0; i < ELEMENTS(times); i++)
                        ldns_buffer_write_u32(w->buffer, times[i]);
        }
}

/* Write a record, whose owner is at the offset 'owner', or beyond the reach of pointers is the target of 'r'.
 * Return false, and take the record back, if it does not fit. One record always fits, and so does SOA. */
static bool writer_record(MessageWriter *w, int section, unsigned owner, ns_type type, DnsRecord *r) {
        size_t start = ldns_buffer_position(w->buffer), data;

        if (owner <= POINTER_MAX)
                writer_pointer(w, owner);
        else
                writer_target(w, r);
        ldns_buffer_write_u16(w->buffer, (uint16_t) type);
        ldns_buffer_write_u16(w->buffer, ns_c_in);
        ldns_buffer_write_u32(w->buffer, ZONE_TTL);
        ldns_buffer_write_u16(w->buffer, 0); /* the size of the data, which follows */
        data = ldns_buffer_position(w->buffer);
        writer_data(w, type, r);
        if (ldns_buffer_position(w->buffer) > w->max) {
                ldns_buffer_set_position(w->buffer, start);
                return false;
        }
        ldns_buffer_write_u16_at(w->buffer, data - 2, (uint16_t) (ldns_buffer_position(w->buffer) - data));
        w->counts[section]++;
        return true;
}

/* The answer section. */
static void writer_answers(MessageWriter *w, DnsAnswer *answer) {
        for (DnsRecord *r = answer->records; r < answer->records + answer->n_records; r++)
                if (!writer_record(w, 1, NS_HFIXEDSZ, r->type, r)) {
                        w->truncated |= r->type == ns_t_srv;
                        r->offset = 0;
                }
}

/* The additional section: the addresses of targets that were written. */
static void writer_additional(MessageWriter *w, DnsAnswer *answer) {
        for (DnsRecord *r = answer->records; r < answer->records + answer->n_records; r++)
                if (r->offset > 0)
                        (void) writer_record(w, 3, r->offset,
                                             IN6_IS_ADDR_V4MAPPED(&r->line->address) ? ns_t_a : ns_t_aaaa, r);
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
        MessageWriter w = { ldns_buffer_new(max + RECORD_MAX), max - (q->has_edns ? OPT_SIZE : 0),
                            .serial = answer->serial };
        uint8_t *bytes;

        if (!w.buffer)
                return -ENOMEM;
        w.apex = NS_HFIXEDSZ + (unsigned) q->question.name_size - sizeof("\5fleet");
        w.counts[0] = q->question_size > 0;
        ldns_buffer_skip(w.buffer, NS_HFIXEDSZ);
        ldns_buffer_write(w.buffer, q->bytes + NS_HFIXEDSZ, q->question_size);
        writer_answers(&w, answer);
        if (answer->negative)
                (void) writer_record(&w, 2, w.apex, ns_t_soa, NULL);
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

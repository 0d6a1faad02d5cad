#include "fleetd/api/call_reader.h"

#include "fleetd/api/fleet_v1.h"
#include "io/loop_uv.h"

enum { HELD_MAX = 512 * 1024 }; /* bytes of output that the client could not take yet */

/* -- Lines to the client: {"machine","data"}, {"exit"} -- */

static int line_data(const CallReader *r, const void *bytes, size_t size) {
        const char *output = request_parameter(r->request, "output");
        _cleanup_text_ Text t = {};

        text_printf(&t, "{\"machine\":\"%s\"", r->machine);
        if (output && streq(output, "export"))
                json_add_bytes(&t, "data", bytes, size);
        else {
                text_append(&t, ",\"data\":\"");
                text_append_json(&t, bytes, size);
                text_append_char(&t, '"');
        }
        text_append(&t, "}\n");
        return t.error ?: http_chunk(r->request->http, t.chars, t.size);
}

/* It ends the answer. */
static void line_exit(const CallReader *r) {
        char line[64];
        int n = snprintf(line, sizeof(line), "{\"exit\":%d}\n", r->status);

        (void) http_chunk(r->request->http, line, n);
        request_end(r->request);
}

/* -- Frames -- */

static int reply_chunk(PeerSession *session, uint64_t number, const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_blob(&w, bytes, size);
        return w.error ?: peer_reply(session, PEER_CALL_CHUNK, w.bytes, w.size);
}

void call_reply_end(PeerSession *session, uint64_t number, uint32_t status) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_u32(&w, status);
        if (w.error == 0)
                (void) peer_reply(session, PEER_CALL_END, w.bytes, w.size);
}

/* Older versions ignore the first frame, and take the chunk and the end that follow for output. */
void call_refuse(PeerSession *session, uint64_t number, unsigned status, const char *message) {
        char line[sizeof(((Error *) NULL)->message) + 1];
        _cleanup_writer_ Writer w = {};

        snprintf(line, sizeof(line), "%s\n", message);
        write_u64(&w, number);
        write_blob(&w, "", 0);
        write_u32(&w, status);
        write_string(&w, message);
        if (w.error == 0 && peer_reply(session, PEER_CALL_CHUNK, w.bytes, w.size) == 0 &&
            reply_chunk(session, number, line, strlen(line)) == 0)
                call_reply_end(session, number, 1);
}

/* -- The reader -- */

static void reader_on_end(Request *request) {
        CallReader *r = request->state;

        r->events->on_gone(r);
}

/* Send in lines as long as those of a child of this host. */
static void reader_on_drain(Request *request) {
        CallReader *r = request->state;
        size_t done = 0, n;

        while ((n = MIN(r->held.size - done, (size_t) LOOP_UV_BUFFER_SIZE)) > 0 &&
               line_data(r, r->held.chars + done, n) == 0)
                done += n;
        r->taken += done;
        if (done > 0) {
                r->held.size -= done;
                memmove(r->held.chars, r->held.chars + done, r->held.size + 1);
        }
        if (r->ended && r->held.size == 0)
                line_exit(r);
        else
                r->events->on_room(r);
}

void call_reader_of_request(CallReader *r, Request *request, const char *machine,
                            const CallReaderEvents *events) {
        *r = (CallReader) { .events = events, .request = request, .machine = machine };
        request->state = r;
        request->on_end = reader_on_end;
        request->on_drain = reader_on_drain;
}

int call_reader_of_host(CallReader *r, Api *api, PeerSession *session, uint64_t number,
                        const CallReaderEvents *events) {
        *r = (CallReader) { .events = events };
        return served_add(&r->served, &api->calls, session, number);
}

void call_reader_done(CallReader *r) {
        served_remove(&r->served);
        text_done(&r->held);
}

void call_reader_on_credit(Served *s) {
        CallReader *r = container_of(s, CallReader, served);

        r->events->on_room(r);
}

void call_reader_on_gone(Served *s) {
        CallReader *r = container_of(s, CallReader, served);

        served_remove(s);
        r->events->on_gone(r);
}

void call_reader_begin(CallReader *r) {
        PeerSession *session = served_session(&r->served);

        if (session)
                (void) reply_chunk(session, r->served.number, "", 0);
        else if (r->request && !r->request->streams)
                request_begin(r->request, "application/x-ndjson", NULL);
}

int call_reader_take(CallReader *r, const void *bytes, size_t size) {
        PeerSession *session = served_session(&r->served);

        if (session)
                (void) reply_chunk(session, r->served.number, bytes, size);
        r->served.sent += size;
        if (!r->request)
                return 0;
        call_reader_begin(r);
        if (r->held.size == 0 && line_data(r, bytes, size) == 0) {
                r->taken += size;
                return 0;
        }
        if (r->held.size + size <= HELD_MAX) {
                text_append_bytes(&r->held, bytes, size);
                if (r->held.error == 0)
                        return 0;
        }
        request_cut(r->request, "the reader of a journal fell too far behind");
        return -ENOBUFS;
}

void call_reader_end(CallReader *r, int status) {
        PeerSession *session = served_session(&r->served);

        r->ended = true;
        r->status = status;
        if (r->request) {
                call_reader_begin(r);
                if (r->held.size == 0)
                        line_exit(r);
                return;
        }
        if (session)
                call_reply_end(session, r->served.number, status);
        call_reader_on_gone(&r->served);
}

void call_reader_refuse(CallReader *r, unsigned status, const char *message) {
        PeerSession *session = served_session(&r->served);

        if (r->request && r->request->streams)
                request_cut(r->request, message);
        else if (r->request)
                request_error(r->request, status, "%s", message);
        else {
                if (session)
                        call_refuse(session, r->served.number, status, message);
                call_reader_on_gone(&r->served);
        }
}

/* -- Rights -- */

bool call_is_permitted(const Api *api, const PeerSession *session, const char *machine,
                       RemoteCommandSpec *spec) {
        const Cluster *c = registry_cluster(api->host->registry);
        Principal sender = { .kind = PRINCIPAL_LOCAL };
        PolicyFacts facts = {};

        snprintf(sender.machine, sizeof(sender.machine), "%s", peer_handshake(session)->machine_id);
        if (policy_facts_read(c, &sender, &facts) < 0)
                return false;
        facts.is_operator = true;
        if (policy_allows(&sender, RIGHT_UNITS_CHANGE, (Resource) {}, &facts))
                return true;
        spec->cluster_only = true;
        return !remote_command_changes(spec->kind) &&
               policy_allows(&sender, RIGHT_UNITS_SEE, (Resource) {}, &facts) &&
               (remote_command_is_of_host(spec->kind) ||
                cluster_has_unit_on(c, cluster_machine(c, machine), spec->unit));
}

CallerTrust call_trust(const Request *request, const RemoteCommandSpec *spec) {
        if (spec->cluster_only)
                return CALLER_READS;
        return request && !request->origin && (!request->sender || request->sender->facts.is_operator) ?
                       CALLER_OPERATOR :
                       CALLER_CHANGES;
}

/* A host that forwards requests may claim any user: they have the places of that host. */
Principal call_principal(const Request *request) {
        Principal p = { .kind = PRINCIPAL_MACHINE };

        if (request->origin)
                snprintf(p.machine, sizeof(p.machine), "%s", request->origin->machine);
        else if (request->sender)
                p = request->sender->principal;
        p.n_groups = 0; /* a user chooses which of them to use */
        return p;
}

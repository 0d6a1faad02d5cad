/* What others read of a session. */
#include "peers/session.h"

const char *session_machine(const PeerSession *s) {
        if (s->peer.kind == TLS_PEER_CERTIFICATE)
                return s->peer.verified.leaf.uri.subject;
        return s->peer.kind == TLS_PEER_KEY && s->has_handshake ? s->handshake.machine_id : NULL;
}

uint64_t session_silent_ms(const PeerSession *s) {
        uint64_t silent_ms = loop_now_ms(s->context->loop) - s->contact_ms;

        /* A system call for each of thousands of sessions is saved. */
        if (!s->stream || s->closed || silent_ms < SESSION_SILENT_MS)
                return silent_ms;

        uint64_t kernel_ms = stream_kernel_silent_ms(s->stream); /* outside of MIN(): a system call */

        return MIN(kernel_ms, silent_ms);
}

/* -- Functions of peers.h -- */

const PeerHandshake *peer_handshake(const PeerSession *session) {
        return &session->handshake;
}

const char *peer_remote(const PeerSession *session) {
        return session->address;
}

size_t peer_queued(const PeerSession *session) {
        return session->waiting_size + (session->stream ? stream_held(session->stream) : 0);
}

const TlsPeer *peer_authentication(const PeerSession *session) {
        return &session->peer;
}

uint64_t peer_number(const PeerSession *session) {
        return session->number;
}

uintptr_t *peer_note(PeerSession *session, PeerNote note) {
        return &session->notes[note];
}

/* TLS over a stream, by GnuTLS, which uses neither socket nor clock: it reads from 'input', and its output is
 * collected in 'output' and leaves in one write. Sending never blocks, so no call has to be repeated.
 *
 * Both ends prove a pre-shared key in the handshake: the client by the binder in its first message, the
 * server by its Finished message. ECDHE gives forward secrecy: a key that leaks later does not decrypt
 * recorded sessions.
 *
 * GnuTLS verifies no certificate by itself: tls_on_verify() does. It is not called for a client without a
 * certificate, so a peer is authenticated only if its result was kept.
 */
#include "io/tls.h"

#include "io/tls_key_internal.h"

enum {
        HANDSHAKE_MS = 10000, /* of a client */
        FIRST_BYTE_MS = 1000, /* of a server, and then: */
        HANDSHAKE_REST_MS = 4000,
        RECORD_SIZE = 16 * 1024,
        RECORD_ADDED = 32,            /* more than a record adds to its bytes */
        OUTPUT_KEPT = 1024,           /* of the buffer, in bytes: frames of an idle session are smaller */
        TLS_HANDSHAKE_RECORD = 22,    /* first byte of a client */
        MESSAGE_SIZE_MAX = 32 * 1024, /* of a handshake: three certificates fit */
};

typedef struct TlsStream {
        Stream base; /* its 'inner' is NULL once that has closed */
        Loop *loop;
        TlsKey *key;                 /* or NULL */
        TlsCredentials *credentials; /* or NULL */
        gnutls_session_t session;
        TlsPeer peer;

        /* Of the handshake; 'done' is NULL after it. */
        TlsDone *done;
        void *userdata;
        Timer deadline;
        TlsSide side;
        TlsCheck check;
        bool anonymous;
        const char *to_plain; /* NULL from the first byte on */
        Error verify_error;   /* code 0: no certificate was rejected */

        const uint8_t *borrowed; /* input of the current call of inner_on_read() */
        size_t borrowed_size;
        Text input; /* encrypted bytes that arrived while paused */
        size_t input_at;
        Text output;
        bool has_input; /* a byte has arrived */
        bool in_rest;   /* of a server: the time after the first byte */
        bool inner_ended, reported_end, paused, closing, finishing;
        int error;
        char reason[256];
        Deferred resume;
} TlsStream;

/* -- The pre-shared key -- */

static int key_for_server(gnutls_session_t session, const char *name, gnutls_datum_t *ret) {
        TlsStream *t = gnutls_session_get_ptr(session);

        if (!streq(name, tls_key_name))
                return -1;
        ret->data = gnutls_malloc(t->key->size);
        if (!ret->data)
                return -1;
        memcpy(ret->data, t->key->bytes, t->key->size);
        ret->size = t->key->size;
        return 0;
}

/* -- Between GnuTLS and the inner stream -- */

static ssize_t tls_push(gnutls_transport_ptr_t ptr, const void *bytes, size_t size) {
        TlsStream *t = ptr;

        text_append_bytes(&t->output, bytes, size);
        if (t->output.error < 0) {
                gnutls_transport_set_errno(t->session, EIO);
                return -1;
        }
        return size;
}

static ssize_t tls_pull(gnutls_transport_ptr_t ptr, void *bytes, size_t size) {
        TlsStream *t = ptr;

        if (t->input_at < t->input.size) { /* older than 'borrowed' */
                size = MIN(size, t->input.size - t->input_at);
                memcpy(bytes, t->input.chars + t->input_at, size);
                t->input_at += size;
                return size;
        }
        if (t->borrowed_size > 0) {
                size = MIN(size, t->borrowed_size);
                memcpy(bytes, t->borrowed, size);
                t->borrowed += size;
                t->borrowed_size -= size;
                return size;
        }
        if (t->inner_ended)
                return 0;
        gnutls_transport_set_errno(t->session, EAGAIN);
        return -1;
}

static size_t tls_input_left(const TlsStream *t) {
        return t->input.size - t->input_at + t->borrowed_size;
}

/* GnuTLS waits for input by this function; here it never waits. */
static int tls_pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms) {
        TlsStream *t = ptr;

        return tls_input_left(t) > 0 || t->inner_ended;
}

static int tls_flush(TlsStream *t) {
        int r = 0;

        if (t->output.size > 0 && t->base.inner)
                r = stream_write(t->base.inner, t->output.chars, t->output.size);
        if (t->output.capacity > OUTPUT_KEPT)
                text_done(&t->output);
        text_clear(&t->output);
        return r;
}

/* -- The end -- */

static void tls_free(TlsStream *t) {
        timer_stop(&t->deadline);
        deferred_cancel(&t->resume);
        if (t->session)
                gnutls_deinit(t->session);
        tls_key_free(t->key);
        tls_credentials_free(t->credentials);
        text_done(&t->input);
        text_done(&t->output);
        free(t);
}

/* Keep the reason, and close the inner stream; inner_on_close() does the rest. */
static void tls_end(TlsStream *t, int error, const char *reason) {
        if (t->closing)
                return;

        t->closing = true;
        t->error = error;
        snprintf(t->reason, sizeof(t->reason), "%s", reason);
        deferred_cancel(&t->resume);
        if (t->base.inner)
                stream_close(t->base.inner);
}

static void tls_handshake_end(TlsStream *t, Stream *secure, int error, const char *reason) {
        TlsDone *done = TAKE_PTR(t->done);

        timer_stop(&t->deadline);
        if (done)
                done(t->userdata, secure, error, reason);
}

static void tls_on_deadline(void *userdata) {
        TlsStream *t = userdata;
        const char *reason = t->side == TLS_CLIENT ? "no TLS handshake within 10 s" :
                             t->has_input          ? "no TLS handshake within 5 s" :
                                                     "no byte of a TLS handshake within 1 s";

        if (t->side == TLS_SERVER && t->has_input && !t->in_rest) {
                t->in_rest = true;
                if (timer_start(&t->deadline, t->loop, HANDSHAKE_REST_MS) >= 0)
                        return;
        }
        tls_end(t, -ETIMEDOUT, reason);
        tls_handshake_end(t, NULL, -ETIMEDOUT, reason);
}

/* Write the cause of a failed handshake that was not lost. */
static void tls_set_rejection(TlsStream *t, int gnutls_error, bool by_peer) {
        const char *cause = by_peer ? gnutls_alert_get_name(gnutls_alert_get(t->session)) :
                                      gnutls_strerror(gnutls_error);

        if (t->verify_error.code < 0) {
                t->error = t->verify_error.code;
                snprintf(t->reason, sizeof(t->reason), "%s", t->verify_error.message);
                return;
        }
        t->error = -EKEYREJECTED;
        snprintf(t->reason, sizeof(t->reason), "the peer has another key, or none (%s)",
                 cause ?: "unknown alert");
}

/* End a failed handshake. A lost connection proves nothing about the key; any other error of GnuTLS does.
 * Finish the inner stream instead of closing it, so that the alert arrives. */
static void tls_reject(TlsStream *t, int gnutls_error) {
        bool by_peer = gnutls_error == GNUTLS_E_FATAL_ALERT_RECEIVED;

        t->closing = true;
        if (gnutls_error == GNUTLS_E_PREMATURE_TERMINATION || gnutls_error == GNUTLS_E_PUSH_ERROR) {
                t->error = -ECONNRESET;
                snprintf(t->reason, sizeof(t->reason), "closed by the peer during the TLS handshake");
        } else {
                tls_set_rejection(t, gnutls_error, by_peer);
                if (!by_peer) {
                        (void) gnutls_alert_send_appropriate(t->session, gnutls_error);
                        (void) tls_flush(t);
                }
        }
        if (t->base.inner)
                stream_finish(t->base.inner);
        tls_handshake_end(t, NULL, t->error, t->reason);
}

/* -- Certificates -- */

/* Return whether a server may tell a client why its certificate is rejected: it is a certificate of this
 * cluster, and the handshake goes on to prove its key. */
static bool tls_can_explain(const TlsStream *t) {
        int code = t->verify_error.code;

        return t->side == TLS_SERVER && code != -EBADMSG && code != -EXDEV && code != -ENOMEM;
}

/* GnuTLS calls this for the certificates of the peer, before it has proved the possession of the key. */
static int tls_on_verify(gnutls_session_t session) {
        TlsStream *t = gnutls_session_get_ptr(session);
        unsigned n = 0;
        const gnutls_datum_t *sent = gnutls_certificate_get_peers(session, &n);
        TlsDer chain[TLS_CHAIN_MAX];
        TlsCheck check = t->check;

        if (!sent && t->side == TLS_SERVER) /* tls_accept() decides about a client without a certificate */
                return 0;
        if (gnutls_certificate_type_get2(session, GNUTLS_CTYPE_PEERS) != GNUTLS_CRT_X509)
                return GNUTLS_E_CERTIFICATE_ERROR;
        for (unsigned i = 0; sent && i < n && i < TLS_CHAIN_MAX; i++)
                chain[i] = (TlsDer) { sent[i].data, sent[i].size };
        check.now_ms = loop_wall_ms(t->loop);
        check.roots = tls_credentials_roots(t->credentials);
        if (tls_verify(chain, sent ? n : 0, &check, &t->peer.verified, &t->verify_error) >= 0) {
                t->peer.kind = TLS_PEER_CERTIFICATE;
                return 0;
        }
        if (!tls_can_explain(t))
                return GNUTLS_E_CERTIFICATE_ERROR;
        t->peer.kind = TLS_PEER_REJECTED;
        t->peer.rejected = &t->verify_error;
        return 0;
}

/* Decide about a complete handshake. Return 0 or an error of GnuTLS. */
static int tls_accept(TlsStream *t) {
        unsigned n = 0;

        if (gnutls_auth_get_type(t->session) == GNUTLS_CRD_PSK && t->key) {
                t->peer.kind = TLS_PEER_KEY;
                return 0;
        }
        if (t->peer.kind != TLS_PEER_ANONYMOUS)
                return 0;
        if (t->side == TLS_SERVER && t->anonymous && !gnutls_certificate_get_peers(t->session, &n))
                return 0;
        error_set(&t->verify_error, -EKEYREJECTED,
                  "the peer has no certificate, and not the key of the cluster");
        return GNUTLS_E_CERTIFICATE_REQUIRED;
}

const TlsPeer *tls_peer(const Stream *secure) {
        return &container_of(secure, const TlsStream, base)->peer;
}

/* -- Handshake -- */

/* Continue the handshake with the available input. Return 1 if it is complete, 0 if not, or an error of
 * GnuTLS. */
static int tls_shake(TlsStream *t) {
        size_t before;
        int r;

        do {
                before = tls_input_left(t);
                r = gnutls_handshake(t->session);
                /* GnuTLS returns after each record of a message of several records. */
                if (r == GNUTLS_E_AGAIN && tls_input_left(t) > 0 && tls_input_left(t) < before)
                        r = GNUTLS_E_INTERRUPTED;
        } while (r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED);
        if (tls_flush(t) < 0)
                return GNUTLS_E_PUSH_ERROR;
        if (r == GNUTLS_E_AGAIN)
                return 0;
        return r < 0 ? r : 1;
}

static void tls_handshake_step(TlsStream *t) {
        int r = tls_shake(t);

        if (r == 0)
                return;
        if (r > 0)
                r = tls_accept(t);
        if (r < 0) {
                tls_reject(t, r);
                return;
        }
        t->paused = true;
        stream_pause(t->base.inner, true);
        tls_handshake_end(t, &t->base, 0, "");
}

/* -- Reading -- */

/* A server rejects the certificate of a client after the handshake of the client is complete. */
static void tls_on_alert(TlsStream *t) {
        gnutls_alert_description_t alert = gnutls_alert_get(t->session);
        bool about_certificate = alert == GNUTLS_A_BAD_CERTIFICATE || alert == GNUTLS_A_CERTIFICATE_REQUIRED;
        char reason[sizeof(t->reason)];

        snprintf(reason, sizeof(reason),
                 about_certificate ?
                         "the peer rejected the certificate of this host (%s): its journal has the reason" :
                         "TLS alert from the peer: %s",
                 gnutls_alert_get_name(alert) ?: "unknown alert");
        tls_end(t, about_certificate ? -EKEYREJECTED : -EBADMSG, reason);
}

/* Return whether GnuTLS can have something to report without another byte: an attempt to read in vain costs
 * as much as a small record. */
static bool tls_has_more(const TlsStream *t) {
        return t->inner_ended || tls_input_left(t) > 0 || gnutls_record_check_pending(t->session) > 0;
}

static void tls_read(TlsStream *t) {
        uint8_t bytes[RECORD_SIZE];

        while (!t->paused && !t->closing && !t->finishing && !t->reported_end) {
                ssize_t n = gnutls_record_recv(t->session, bytes, sizeof(bytes));

                if (n > 0) {
                        t->base.events->on_read(t->base.userdata, bytes, n);
                        explicit_bzero(bytes, (size_t) n); /* a token, or the cluster key */
                        loop_ran(t->loop, stream_events_name(&t->base));
                        if (!tls_has_more(t))
                                return;
                } else if (n == 0) {
                        t->reported_end = true;
                        t->base.events->on_read(t->base.userdata, bytes, 0);
                } else if (n == GNUTLS_E_AGAIN)
                        return;
                else if (n == GNUTLS_E_PREMATURE_TERMINATION || n == GNUTLS_E_UNEXPECTED_PACKET_LENGTH)
                        tls_end(t, -ECONNRESET, "closed by the peer without TLS close_notify");
                else if (n == GNUTLS_E_FATAL_ALERT_RECEIVED)
                        tls_on_alert(t);
                else if (gnutls_error_is_fatal(n))
                        tls_end(t, -EBADMSG, gnutls_strerror(n));
        }
}

/* Keep input that GnuTLS has not read yet. */
static void tls_keep(TlsStream *t) {
        if (t->input_at == t->input.size) {
                text_done(&t->input);
                t->input_at = 0;
        }
        if (t->borrowed_size > 0)
                text_append_bytes(&t->input, t->borrowed, t->borrowed_size);
        t->borrowed_size = 0;
        if (t->input.error < 0)
                tls_end(t, -ENOMEM, "out of memory");
}

static void tls_work(TlsStream *t) {
        if (t->done)
                tls_handshake_step(t);
        if (!t->done && !t->closing)
                tls_read(t);
        if (!t->closing && tls_flush(t) < 0) /* an answer to a key update of the peer */
                tls_end(t, -EPIPE, strerror(EPIPE));
        tls_keep(t);
}

static void tls_on_resume(void *userdata) {
        tls_work(userdata);
}

/* Return whether a client does not use TLS, and was answered. */
static bool tls_answer_plain(TlsStream *t, const uint8_t *bytes) {
        const char *answer = TAKE_PTR(t->to_plain);

        if (!answer || bytes[0] == TLS_HANDSHAKE_RECORD)
                return false;
        t->closing = true;
        (void) stream_write(t->base.inner, answer, strlen(answer));
        stream_finish(t->base.inner);
        tls_handshake_end(t, NULL, -EPROTO, "the client does not use TLS");
        return true;
}

static void inner_on_read(void *userdata, const void *bytes, size_t size) {
        TlsStream *t = userdata;

        if (t->closing || t->finishing)
                return;
        t->has_input = true;
        if (size == 0)
                t->inner_ended = true;
        else if (tls_answer_plain(t, bytes))
                return;
        t->borrowed = bytes;
        t->borrowed_size = size;
        tls_work(t);
}

static void inner_on_drain(void *userdata) {
        TlsStream *t = userdata;

        if (!t->done && !t->closing && !t->finishing && t->base.events && t->base.events->on_drain)
                t->base.events->on_drain(t->base.userdata);
}

static void inner_on_close(void *userdata, int error, const char *reason) {
        TlsStream *t = userdata;

        t->base.inner = NULL;
        if (!t->closing) {
                t->closing = true;
                t->error = t->done && error == 0 ? -ECONNRESET : error;
                snprintf(t->reason, sizeof(t->reason), "%s", reason);
        }
        if (t->done)
                tls_handshake_end(t, NULL, t->error, t->reason);
        else if (t->base.events)
                t->base.events->on_close(t->base.userdata, t->error, t->reason);
        tls_free(t);
}

static const StreamEvents inner_events = {
        .name = "TLS",
        .on_read = inner_on_read,
        .on_drain = inner_on_drain,
        .on_close = inner_on_close,
};

/* -- The secure stream -- */

static int tls_write(Stream *base, const void *bytes, size_t size, Shared *shared) {
        TlsStream *t = container_of(base, TlsStream, base);
        const uint8_t *p = bytes;
        int r;

        if (t->closing || t->finishing)
                return -EPIPE;
        (void) text_reserve(&t->output, size + (size / RECORD_SIZE + 1) * RECORD_ADDED);
        while (size > 0) {
                ssize_t n = gnutls_record_send(t->session, p, size);

                if (n < 0) {
                        r = t->output.error < 0 ? -ENOMEM : -EPROTO;
                        tls_end(t, r, gnutls_strerror(n));
                        return r;
                }
                p += n;
                size -= n;
        }
        r = tls_flush(t);
        if (r < 0)
                tls_end(t, r, strerror(-r));
        return r;
}

static void tls_pause(Stream *base, bool paused) {
        TlsStream *t = container_of(base, TlsStream, base);

        if (t->closing || t->finishing || t->paused == paused)
                return;
        t->paused = paused;
        stream_pause(t->base.inner, paused);
        /* No event of the inner stream announces decrypted bytes in GnuTLS, and encrypted ones in 'input'. */
        if (paused)
                deferred_cancel(&t->resume);
        else
                loop_defer(t->loop, &t->resume);
}

static void tls_close(Stream *base) {
        tls_end(container_of(base, TlsStream, base), 0, "closed");
}

static void tls_finish(Stream *base) {
        TlsStream *t = container_of(base, TlsStream, base);

        if (t->closing || t->finishing)
                return;
        (void) gnutls_bye(t->session, GNUTLS_SHUT_WR);
        (void) tls_flush(t);
        t->finishing = true;
        deferred_cancel(&t->resume);
        stream_finish(t->base.inner);
}

static const StreamOps tls_ops = {
        .write = tls_write,
        .pause = tls_pause,
        .close = tls_close,
        .finish = tls_finish,
};

/* Give the key, the credentials, or both to the session. */
static int tls_set_credentials(TlsStream *t) {
        void *key;

        if (t->credentials) {
                if (tls_credentials_use(t->credentials, t->session, t->key != NULL) < 0)
                        return -ENOMEM;
                gnutls_session_set_verify_function(t->session, tls_on_verify);
                if (t->side == TLS_SERVER)
                        gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUEST);
        } else if (gnutls_priority_set(t->session, t->key->priority) < 0)
                return -ENOMEM;
        if (!t->key)
                return 0;
        gnutls_psk_set_server_credentials_function(t->key->server, key_for_server);
        key = t->side == TLS_CLIENT ? (void *) t->key->client : (void *) t->key->server;
        return gnutls_credentials_set(t->session, GNUTLS_CRD_PSK, key) < 0 ? -ENOMEM : 0;
}

static int tls_prepare(TlsStream *t) {
        /* One key share, for the group that all daemons prefer: a second one takes much time. */
        const unsigned client = GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT | GNUTLS_KEY_SHARE_TOP;
        int r;

        r = gnutls_init(&t->session, (t->side == TLS_CLIENT ? client : GNUTLS_SERVER) | GNUTLS_NONBLOCK |
                                             GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS);
        if (r < 0) {
                t->session = NULL;
                return -ENOMEM;
        }
        gnutls_session_set_ptr(t->session, t);
        gnutls_transport_set_ptr(t->session, t);
        gnutls_transport_set_push_function(t->session, tls_push);
        gnutls_transport_set_pull_function(t->session, tls_pull);
        gnutls_transport_set_pull_timeout_function(t->session, tls_pull_timeout);
        gnutls_handshake_set_timeout(t->session, GNUTLS_INDEFINITE_TIMEOUT); /* 'deadline' limits the time */
        gnutls_handshake_set_max_packet_length(t->session, MESSAGE_SIZE_MAX);
        TRY(tls_set_credentials(t));
        return timer_start(&t->deadline, t->loop, t->side == TLS_SERVER ? FIRST_BYTE_MS : HANDSHAKE_MS);
}

static void ignore_read(void *userdata, const void *bytes, size_t size) {}

static void ignore_close(void *userdata, int error, const char *reason) {}

static const StreamEvents ignore_events = { .on_read = ignore_read, .on_close = ignore_close };

int tls_start(Loop *loop, Stream *inner, const TlsOptions *options, TlsDone *done, void *userdata,
              TlsHandshake **ret) {
        TlsStream *t = NEW0(TlsStream, 1);
        int r = -ENOMEM;

        if (t) {
                t->base.ops = &tls_ops;
                t->base.inner = inner;
                memcpy(t->base.peer_address, inner->peer_address, sizeof(inner->peer_address));
                t->loop = loop;
                t->side = options->side;
                t->check = options->check;
                t->anonymous = options->anonymous;
                t->to_plain = options->to_plain;
                t->credentials = tls_credentials_ref(options->credentials);
                if (options->key && (t->side == TLS_SERVER || !t->credentials)) {
                        t->key = (TlsKey *) options->key;
                        t->key->refs++;
                }
                t->done = done;
                t->userdata = userdata;
                t->deadline = TIMER(tls_on_deadline, t);
                t->resume = DEFERRED(tls_on_resume, t);
                r = tls_prepare(t);
        }
        if (r < 0) {
                stream_set_events(inner, &ignore_events, NULL);
                stream_close(inner);
                if (t)
                        tls_free(t);
                return r;
        }

        stream_set_events(inner, &inner_events, t);
        stream_pause(inner, false);
        loop_defer(loop, &t->resume); /* the client sends first */
        if (ret)
                *ret = (TlsHandshake *) t;
        return 0;
}

bool tls_has_input(const TlsHandshake *handshake) {
        return ((const TlsStream *) handshake)->has_input;
}

void tls_cancel(TlsHandshake *handshake) {
        TlsStream *t = (TlsStream *) handshake;

        assert(t->done);
        t->done = NULL;
        timer_stop(&t->deadline);
        tls_end(t, -ECANCELED, "cancelled");
}

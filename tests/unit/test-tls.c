/* TLS between two ends of a real socket: only a peer with the key is accepted, and bytes arrive unchanged. */
#include "tests/unit/io_pair.h"

#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <malloc.h>
#include <sys/stat.h>

#include "io/tls.h"

typedef struct Secure {
        Pair pair;
        TlsKey *key, *other_key;
        char path[128];
} Secure;

/* One side of a handshake. */
typedef struct Side {
        Pair *pair;
        TlsHandshake *handshake;
        End end;
        bool done;
        int error;
        char reason[200];
} Side;

static void side_done(void *userdata, Stream *secure, int error, const char *reason) {
        Side *side = userdata;

        assert_false(side->done);
        side->done = true;
        side->error = error;
        snprintf(side->reason, sizeof(side->reason), "%s", reason);
        if (secure)
                end_take(&side->end, side->pair, secure);
        loop_uv_stop(side->pair->uv);
}

static TlsKey *write_and_read_key(Secure *s, const char *name, const char *text) {
        TlsKey *key = NULL;
        Error err = {};
        int fd;

        snprintf(s->path, sizeof(s->path), "%s/%s", s->pair.folder, name);
        fd = open(s->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
        if (tls_key_read(s->path, &key, &err) < 0)
                fail_msg("%s", err.message);
        return key;
}

static int setup(void **state) {
        Secure *s = NEW0(Secure, 1);

        pair_open(&s->pair);
        s->key = write_and_read_key(s, "key",
                                    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n");
        s->other_key = write_and_read_key(
                s, "other", "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n");
        *state = s;
        return 0;
}

static int teardown(void **state) {
        Secure *s = *state;

        s->key = tls_key_free(s->key);
        s->other_key = tls_key_free(s->other_key);
        pair_close(&s->pair);
        free(s);
        return 0;
}

static void side_start(Side *side, Secure *s, Stream *stream, const TlsKey *key, TlsSide which) {
        *side = (Side) { .pair = &s->pair };
        assert_int_equal(tls_start(s->pair.loop, stream, &(TlsOptions) { .side = which, .key = key },
                                   side_done, side, &side->handshake),
                         0);
        assert_false(side->done);
}

static Stream *take_stream(End *e) {
        Stream *s = TAKE_PTR(e->stream);

        stream_pause(s, true);
        return s;
}

/* Both sides of a new connection, with a key each. */
static void shake(Secure *s, Side *client, const TlsKey *client_key, Side *server, const TlsKey *server_key) {
        unsigned n = s->pair.n_accepted;
        End raw;

        end_connect(&raw, &s->pair);
        RUN_UNTIL(&s->pair, s->pair.n_accepted > n);
        side_start(server, s, s->pair.accepted[n], server_key, TLS_SERVER);
        side_start(client, s, take_stream(&raw), client_key, TLS_CLIENT);
        RUN_UNTIL(&s->pair, client->done && server->done);
}

static void two_peers_with_the_key_exchange_bytes(void **state) {
        Secure *s = *state;
        Side client, server;

        shake(s, &client, s->key, &server, s->key);
        assert_int_equal(client.error, 0);
        assert_int_equal(server.error, 0);
        end_send(&client.end, "hello");
        RUN_UNTIL(&s->pair, streq(end_text(&server.end), "hello"));
        end_send(&server.end, "world");
        RUN_UNTIL(&s->pair, streq(end_text(&client.end), "world"));

        stream_finish(client.end.stream);
        RUN_UNTIL(&s->pair, server.end.finished);
        stream_close(server.end.stream);
        RUN_UNTIL(&s->pair, client.end.closed && server.end.closed);
        assert_int_equal(client.end.error, 0);
        end_done(&client.end);
        end_done(&server.end);
}

static void another_key_is_rejected_by_both_peers(void **state) {
        Secure *s = *state;
        Side client, server;

        shake(s, &client, s->key, &server, s->other_key);
        assert_int_equal(client.error, -EKEYREJECTED);
        assert_int_equal(server.error, -EKEYREJECTED);
        assert_non_null(strstr(client.reason, "the peer has another key, or none"));
        assert_null(client.end.stream);
}

static void a_peer_without_tls_is_rejected(void **state) {
        Secure *s = *state;
        Side server;
        _cleanup_(end_done) End raw;

        end_connect(&raw, &s->pair);
        RUN_UNTIL(&s->pair, s->pair.n_accepted == 1);
        side_start(&server, s, s->pair.accepted[0], s->key, TLS_SERVER);
        end_send(&raw, "GET / HTTP/1.1\r\nHost: fleet\r\n\r\n");
        RUN_UNTIL(&s->pair, server.done);
        assert_int_equal(server.error, -EKEYREJECTED);
}

static void a_disconnect_during_the_handshake_is_reported(void **state) {
        Secure *s = *state;
        Side server;
        End raw;

        end_connect(&raw, &s->pair);
        RUN_UNTIL(&s->pair, s->pair.n_accepted == 1);
        side_start(&server, s, s->pair.accepted[0], s->key, TLS_SERVER);
        end_done(&raw);
        RUN_UNTIL(&s->pair, server.done);
        assert_int_equal(server.error, -ECONNRESET);
}

static int write_in_vain(Stream *stream, const void *bytes, size_t size, Shared *shared) {
        return -ENOBUFS;
}

static void a_handshake_that_cannot_be_sent_fails_at_once(void **state) {
        Secure *s = *state;
        Side client, server;
        static StreamOps ops; /* the stream may be closed later */
        Stream *stream;
        End raw;

        end_connect(&raw, &s->pair);
        RUN_UNTIL(&s->pair, s->pair.n_accepted == 1);
        stream = s->pair.accepted[0];
        ops = *stream->ops;
        ops.write = write_in_vain;
        stream->ops = &ops;
        side_start(&server, s, stream, s->key, TLS_SERVER);
        side_start(&client, s, take_stream(&raw), s->key, TLS_CLIENT);
        RUN_UNTIL(&s->pair, client.done && server.done);
        assert_int_equal(server.error, -ECONNRESET);
        assert_int_equal(client.error, -ECONNRESET);
}

static void a_cancelled_handshake_calls_no_callback(void **state) {
        Secure *s = *state;
        Side server;
        _cleanup_(end_done) End raw;

        end_connect(&raw, &s->pair);
        RUN_UNTIL(&s->pair, s->pair.n_accepted == 1);
        side_start(&server, s, s->pair.accepted[0], s->key, TLS_SERVER);
        tls_cancel(server.handshake);
        RUN_UNTIL(&s->pair, raw.finished || raw.closed);
        assert_false(server.done);
}

static void megabytes_arrive_unchanged_through_pauses(void **state) {
        enum { SIZE = 3000000 };
        Secure *s = *state;
        char *bytes = NEW0(char, SIZE + 1);
        Side client, server;
        Random random;

        random_seed(&random, 7);
        for (size_t i = 0; i < SIZE; i++)
                bytes[i] = 'a' + random_below(&random, 26);
        shake(s, &client, s->key, &server, s->key);
        for (size_t i = 0; i < SIZE; i += 100000)
                assert_int_equal(stream_write(client.end.stream, bytes + i, 100000), 0);
        assert_true(stream_queued(client.end.stream) > 0);
        while (server.end.got.size < SIZE) {
                loop_uv_run(s->pair.uv);
                stream_pause(server.end.stream, true);
                stream_pause(server.end.stream, false);
        }
        assert_string_equal(server.end.got.chars, bytes);
        RUN_UNTIL(&s->pair, client.end.drained);
        assert_int_equal(stream_queued(client.end.stream), 0);
        end_done(&client.end);
        end_done(&server.end);
        free(bytes);
}

/* Of the C library's allocator; another one, as a sanitizer has, says 0. */
static size_t allocated(void) {
        struct mallinfo2 info = mallinfo2();

        return info.uordblks + info.hblkhd;
}

static void a_large_write_leaves_no_large_buffer_behind(void **state) {
        enum { SIZE = 4000000 };
        Secure *s = *state;
        char *bytes = NEW0(char, SIZE);
        Side client, server;
        size_t before;

        shake(s, &client, s->key, &server, s->key);
        before = allocated();
        assert_int_equal(stream_write(client.end.stream, bytes, SIZE), 0);
        RUN_UNTIL(&s->pair, server.end.got.size == SIZE && stream_queued(client.end.stream) == 0);
        text_done(&server.end.got);
        assert_true(allocated() < before + SIZE / 4);
        end_done(&client.end);
        end_done(&server.end);
        free(bytes);
}

static void bytes_after_the_handshake_wait_until_the_stream_is_resumed(void **state) {
        Secure *s = *state;
        Side client, server;

        shake(s, &client, s->key, &server, s->key);
        stream_pause(server.end.stream, true);
        end_send(&client.end, "early");
        end_send(&server.end, "ping");
        RUN_UNTIL(&s->pair, streq(end_text(&client.end), "ping"));
        assert_string_equal(end_text(&server.end), "");
        stream_pause(server.end.stream, false);
        RUN_UNTIL(&s->pair, streq(end_text(&server.end), "early"));
        end_done(&client.end);
        end_done(&server.end);
}

static void a_handshake_times_out(void **state) {
        Secure *s = *state;
        Loop *loop = s->pair.loop;
        Timer *deadline = NULL;
        Side server;
        _cleanup_(end_done) End raw;

        end_connect(&raw, &s->pair);
        RUN_UNTIL(&s->pair, s->pair.n_accepted == 1);
        side_start(&server, s, s->pair.accepted[0], s->key, TLS_SERVER);
        for (size_t i = 0; i < loop->n_heap; i++)
                if (loop->heap[i] != &s->pair.guard)
                        deadline = loop->heap[i];
        assert_non_null(deadline);
        assert_in_range(deadline->due_ms - loop_now_ms(loop), 500, 1000 + loop->grain_ms);
        assert_int_equal(timer_start(deadline, loop, 1), 0); /* as if they had passed */
        RUN_UNTIL(&s->pair, server.done);
        assert_int_equal(server.error, -ETIMEDOUT);
        assert_string_equal(server.reason, "no byte of a TLS handshake within 1 s");
        RUN_UNTIL(&s->pair, raw.finished || raw.closed);
}

static void an_invalid_record_ends_the_stream(void **state) {
        Secure *s = *state;
        Side client, server;

        shake(s, &client, s->key, &server, s->key);
        assert_int_equal(stream_write((Stream *) client.end.stream->inner,
                                      "GET / HTTP/1.1\r\nHost: fleet\r\n\r\n", 31),
                         0);
        RUN_UNTIL(&s->pair, server.end.closed);
        assert_int_equal(server.end.error, -EBADMSG);
        assert_true(strlen(server.end.reason) > 5);
        assert_int_equal(server.end.got.size, 0);
        end_done(&client.end);
        end_done(&server.end);
}

static void a_secure_stream_forwards_to_its_inner_one_and_rejects_writes_at_its_end(void **state) {
        Secure *s = *state;
        Side client, server;
        uid_t uid = -1;

        shake(s, &client, s->key, &server, s->key);
        assert_int_equal(stream_peer_uid(server.end.stream, &uid), 0);
        assert_int_equal(uid, getuid());
        assert_int_equal(stream_kernel_silent_ms(server.end.stream), UINT64_MAX);

        stream_finish(server.end.stream);
        stream_finish(server.end.stream);
        stream_pause(server.end.stream, true);
        assert_int_equal(stream_write(server.end.stream, "x", 1), -EPIPE);
        RUN_UNTIL(&s->pair, client.end.finished);
        stream_close(client.end.stream);
        stream_close(client.end.stream);
        stream_finish(client.end.stream);
        stream_pause(client.end.stream, true);
        assert_int_equal(stream_write(client.end.stream, "x", 1), -EPIPE);
        RUN_UNTIL(&s->pair, client.end.closed && server.end.closed);
        assert_int_equal(client.end.error, 0);
        assert_string_equal(client.end.reason, "closed");
        assert_int_equal(server.end.error, 0);
        end_done(&client.end);
        end_done(&server.end);
}

typedef struct Sipping {
        Side *side;
        Text got;
        unsigned reads;
        Deferred again;
} Sipping;

static void sip_again(void *userdata) {
        stream_pause(((Sipping *) userdata)->side->end.stream, false);
}

static void sip(void *userdata, const void *bytes, size_t size) {
        Sipping *t = userdata;

        text_append_bytes(&t->got, bytes, size);
        t->reads++;
        stream_pause(t->side->end.stream, true);
        loop_defer(t->side->pair->loop, &t->again);
        loop_uv_stop(t->side->pair->uv);
}

/* Records that came in one packet are kept, encrypted, and given on one by one. */
static void a_reader_that_pauses_at_each_record_receives_all_in_order(void **state) {
        enum { N = 40, SIZE = 700 };
        StreamEvents events = { .on_read = sip, .on_close = end_on_close };
        Secure *s = *state;
        Side client, server;
        Sipping t = { .side = &server };
        char record[SIZE];

        t.again = (Deferred) { .run = sip_again, .userdata = &t };
        shake(s, &client, s->key, &server, s->key);
        stream_set_events(server.end.stream, &events, &t);
        for (unsigned i = 0; i < N; i++) {
                memset(record, 'A' + (int) i, SIZE);
                assert_int_equal(stream_write(client.end.stream, record, SIZE), 0);
        }
        RUN_UNTIL(&s->pair, t.got.size == N * SIZE);
        assert_int_equal(t.reads, N);
        for (size_t i = 0; i < t.got.size; i++)
                assert_int_equal(t.got.chars[i], 'A' + i / SIZE);
        deferred_cancel(&t.again);
        stream_set_events(server.end.stream, &end_events, &server.end);
        stream_pause(server.end.stream, false);
        end_done(&client.end);
        RUN_UNTIL(&s->pair, server.end.closed);
        end_done(&server.end);
        text_done(&t.got);
}

static void a_key_file_has_an_owner_a_mode_and_a_size(void **state) {
        static const struct {
                unsigned digits;
                const char *end;
                int error;
        } rows[] = {
                { 64, "", 0 },         { 64, " \t\r\n\n", 0 }, { 128, "\n", 0 },       { 62, "\n", -EINVAL },
                { 63, "\n", -EINVAL }, { 65, "\n", -EINVAL },  { 130, "\n", -EINVAL }, { 62, "0g", -EINVAL },
                { 62, "g0", -EINVAL }, { 0, "", -EINVAL },     { 64, "\n0", -EINVAL }, { 66, "\n", 0 },
        };
        Secure *s = *state;
        Error err = {};
        TlsKey *key = NULL;
        char path[200];

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                FILE *f = fopen(s->path, "w");
                int r;

                for (unsigned n = 0; n < rows[i].digits; n++)
                        fputc("0aF9"[n % 4], f);
                fputs(rows[i].end, f);
                fclose(f);
                r = tls_key_read(s->path, &key, &err);
                assert_int_equal(r, rows[i].error);
                if (r == 0)
                        key = tls_key_free(key);
        }
        snprintf(path, sizeof(path), "%s/x", s->path);
        assert_int_equal(tls_key_read(path, &key, &err), -ENOTDIR);
        assert_non_null(strstr(err.message, "Failed to read the key file"));
        assert_int_equal(tls_key_read(s->pair.folder, &key, &err), -EINVAL);
        assert_non_null(strstr(err.message, "is not a regular file"));
        if (geteuid() == 0) {
                assert_int_equal(chown(s->path, 65534, -1), 0);
                assert_int_equal(tls_key_read(s->path, &key, &err), -EPERM);
                assert_non_null(strstr(err.message, "belongs to another user: chown 0 "));
                assert_int_equal(chown(s->path, 0, -1), 0);
        }
        for (unsigned mode = 0601; mode < 0700; mode = mode * 2 - 0600) {
                assert_int_equal(chmod(s->path, mode), 0);
                assert_int_equal(tls_key_read(s->path, &key, &err), -EPERM);
                assert_non_null(strstr(err.message, "other users can access"));
        }
        assert_null(key);
}

static void an_end_without_close_notify_is_an_error(void **state) {
        Secure *s = *state;
        Side client, server;

        shake(s, &client, s->key, &server, s->key);
        stream_close(client.end.stream);
        RUN_UNTIL(&s->pair, client.end.closed && server.end.closed);
        assert_int_equal(server.end.error, -ECONNRESET);
        assert_false(server.end.finished);
        end_done(&client.end);
        end_done(&server.end);
}

static void insecure_and_invalid_key_files_are_rejected_with_the_remedy(void **state) {
        Secure *s = *state;
        TlsKey *key = NULL;
        Error err = {};
        int fd;

        assert_int_equal(chmod(s->path, 0640), 0);
        assert_int_equal(tls_key_read(s->path, &key, &err), -EPERM);
        assert_non_null(strstr(err.message, "chmod 600"));

        assert_int_equal(chmod(s->path, 0600), 0);
        fd = open(s->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_int_equal(write(fd, "0011\n", 5), 5);
        close(fd);
        assert_int_equal(tls_key_read(s->path, &key, &err), -EINVAL);
        assert_non_null(strstr(err.message, "openssl rand -hex 32"));

        assert_int_equal(tls_key_read("/nonexistent/key", &key, &err), -ENOENT);
        assert_non_null(strstr(err.message, "openssl rand -hex 32"));
        assert_null(key);
}

static void *no_memory(size_t n, size_t size) {
        return NULL;
}

/* GnuTLS allocates by a pointer that a program may change. */
static void a_key_without_memory_for_its_credentials_is_not_used(void **state) {
        Secure *s = *state;
        gnutls_calloc_function before = gnutls_calloc;
        TlsKey *key = NULL;
        Error err = {};
        int r;

        gnutls_calloc = no_memory;
        r = tls_key_read(s->path, &key, &err);
        gnutls_calloc = before;
        assert_int_equal(r, -ENOMEM);
        assert_null(key);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(two_peers_with_the_key_exchange_bytes),
                T(another_key_is_rejected_by_both_peers),
                T(a_peer_without_tls_is_rejected),
                T(a_disconnect_during_the_handshake_is_reported),
                T(a_handshake_that_cannot_be_sent_fails_at_once),
                T(a_cancelled_handshake_calls_no_callback),
                T(megabytes_arrive_unchanged_through_pauses),
                T(a_large_write_leaves_no_large_buffer_behind),
                T(bytes_after_the_handshake_wait_until_the_stream_is_resumed),
                T(a_handshake_times_out),
                T(an_invalid_record_ends_the_stream),
                T(a_secure_stream_forwards_to_its_inner_one_and_rejects_writes_at_its_end),
                T(a_reader_that_pauses_at_each_record_receives_all_in_order),
                T(a_key_file_has_an_owner_a_mode_and_a_size),
                T(an_end_without_close_notify_is_an_error),
                T(a_key_without_memory_for_its_credentials_is_not_used),
                T(insecure_and_invalid_key_files_are_rejected_with_the_remedy),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}

/* Streams of the real network: unix sockets and TCP, back-pressure, ends, limits of the listener. */
#include "tests/unit/io_pair.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "io/net_uv_internal.h"

static int setup(void **state) {
        Pair *pair = NEW0(Pair, 1);

        pair_open(pair);
        *state = pair;
        return 0;
}

static int teardown(void **state) {
        pair_close(*state);
        free(*state);
        return 0;
}

/* Both ends of a new connection over the pair's unix socket. */
static void connect_both(Pair *pair, End *client, End *server) {
        unsigned n = pair->n_accepted;

        end_connect(client, pair);
        RUN_UNTIL(pair, pair->n_accepted > n);
        end_take(server, pair, pair->accepted[n]);
}

static UvStream *uv_of(Stream *s) {
        return container_of(s, UvStream, base);
}

static int fd_of(Stream *s) {
        int fd = -1;

        assert_int_equal(uv_fileno(&uv_of(s)->uv.handle, &fd), 0);
        return fd;
}

static int option_of(int fd, int level, int option) {
        int value = -1;

        assert_int_equal(getsockopt(fd, level, option, &value, &(socklen_t) { sizeof(value) }), 0);
        return value;
}

/* Lets the loop turn so often. */
static void turn(Pair *pair, unsigned n) {
        Deferred stop = { .run = (void (*)(void *)) loop_uv_stop, .userdata = pair->uv };

        for (; n > 0; n--) {
                loop_defer(pair->loop, &stop);
                loop_uv_run(pair->uv);
        }
}

/* Move the listener of the pair to a TCP port that the kernel selects. */
static int listen_tcp(Pair *pair) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_int_equal(bind(fd, (struct sockaddr *) &a, size), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &size), 0);
        snprintf(pair->address, sizeof(pair->address), "127.0.0.1:%u", ntohs(a.sin_port));
        pair->net->ops->unlisten(pair->net, pair->listener);
        assert_int_equal(net_uv_listen_fd(pair->net, fd, pair_on_accepted, pair, &pair->listener), 0);
        return fd;
}

static void bytes_pass_in_both_directions_and_no_event_is_called_from_inside_a_call(void **state) {
        Pair *pair = *state;
        End client, server;

        connect_both(pair, &client, &server);
        end_send(&client, "to the server");
        end_send(&server, "to the client");
        assert_string_equal(end_text(&client), "");
        RUN_UNTIL(pair,
                  streq(end_text(&server), "to the server") && streq(end_text(&client), "to the client"));
        stream_close(client.stream);
        assert_false(client.closed);
        RUN_UNTIL(pair, client.closed && server.finished);
        assert_int_equal(client.error, 0);
        assert_string_equal(client.reason, "closed");
        end_done(&client);
        end_done(&server);
}

static void a_unix_socket_has_the_user_of_its_peer_and_an_empty_address(void **state) {
        Pair *pair = *state;
        End client, server;
        uid_t of_server = -1, of_client = -1;

        connect_both(pair, &client, &server);
        assert_int_equal(stream_peer_uid(client.stream, &of_server), 0);
        assert_int_equal(stream_peer_uid(server.stream, &of_client), 0);
        assert_int_equal(of_server, getuid());
        assert_int_equal(of_client, getuid());
        assert_string_equal(stream_peer_address(server.stream), "");
        assert_int_equal(stream_kernel_silent_ms(server.stream), UINT64_MAX);
        uv_of(server.stream)->is_tcp = true; /* the kernel says that it is not */
        assert_int_equal(stream_kernel_silent_ms(server.stream), UINT64_MAX);
        uv_of(server.stream)->is_tcp = false;
        stream_close(client.stream);
        assert_int_equal(stream_peer_uid(client.stream, &of_server), -ENOTCONN);
        end_done(&client);
        end_done(&server);
}

static void tcp_streams_report_addresses_and_the_silence_of_the_peer_kernel(void **state) {
        Pair *pair = *state;
        End client, server;
        uid_t uid;

        listen_tcp(pair);
        connect_both(pair, &client, &server);
        assert_string_equal(stream_peer_address(client.stream), pair->address);
        assert_true(starts_with(stream_peer_address(server.stream), "127.0.0.1:"));
        assert_string_not_equal(stream_peer_address(server.stream), pair->address);
        assert_int_equal(stream_peer_uid(server.stream, &uid), -ENOTSUP);

        end_send(&client, "hello");
        RUN_UNTIL(pair, streq(end_text(&server), "hello"));
        assert_in_range(stream_kernel_silent_ms(client.stream), 0, 1000);
        end_done(&client);
        end_done(&server);
}

static void tcp_sockets_have_options_and_monitored_ones_are_probed_more_often(void **state) {
        static const struct {
                int level, option, value, asked;
        } options[] = {
                { IPPROTO_TCP, TCP_NODELAY, 1, 1 },   { IPPROTO_TCP, TCP_NOTSENT_LOWAT, 131072, 131072 },
                { SOL_SOCKET, SO_KEEPALIVE, 1, 1 },   { IPPROTO_TCP, TCP_KEEPIDLE, 15, 1 },
                { IPPROTO_TCP, TCP_KEEPINTVL, 5, 1 }, { IPPROTO_TCP, TCP_KEEPCNT, 3, 5 },
        };
        struct tcp_info info = {};
        Pair *pair = *state;
        End ends[2];
        int fd = listen_tcp(pair);

        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &(socklen_t) { sizeof(info) }), 0);
        /* Of a listening socket: its backlog, up to the kernel's own limit. */
        assert_true(info.tcpi_sacked == 4096 || info.tcpi_sacked == 128);
        connect_both(pair, &ends[0], &ends[1]);
        for (size_t e = 0; e < ELEMENTS(ends); e++) {
                fd = fd_of(ends[e].stream);
                for (size_t i = 0; i < ELEMENTS(options); i++)
                        assert_int_equal(option_of(fd, options[i].level, options[i].option),
                                         options[i].value);
                (void) stream_kernel_silent_ms(ends[e].stream);
                for (size_t i = 0; i < ELEMENTS(options); i++)
                        assert_int_equal(option_of(fd, options[i].level, options[i].option),
                                         options[i].asked);
                assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int) { 7 }, sizeof(int)), 0);
                (void) stream_kernel_silent_ms(ends[e].stream); /* that is done once */
                assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), 7);
        }
        stream_close(ends[0].stream);
        assert_int_equal(stream_kernel_silent_ms(ends[0].stream), UINT64_MAX);
        for (size_t e = 0; e < ELEMENTS(ends); e++)
                end_done(&ends[e]);
}

static void tcp_of_version_6_has_its_addresses_in_brackets(void **state) {
        struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
        socklen_t size = sizeof(a);
        Pair *pair = *state;
        Error err = {};
        End client, server;
        uint16_t port;
        int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *) &a, size) < 0) {
                close(fd);
                skip(); /* this host has none */
        }
        assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &size), 0);
        port = a.sin6_port;
        close(fd);
        pair->net->ops->unlisten(pair->net, pair->listener);
        snprintf(pair->address, sizeof(pair->address), "[::]:%u", ntohs(port));
        if (pair->net->ops->listen(pair->net, pair->address, pair_on_accepted, pair, &pair->listener, &err) <
            0)
                fail_msg("%s", err.message);
        snprintf(pair->address, sizeof(pair->address), "[::1]:%u", ntohs(port));
        connect_both(pair, &client, &server);
        assert_string_equal(stream_peer_address(client.stream), pair->address);
        assert_true(starts_with(stream_peer_address(server.stream), "[::1]:"));
        end_done(&client);
        end_done(&server);

        /* That it listens on all of version 6 takes nothing of version 4. */
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(
                bind(fd,
                     (struct sockaddr *) &(struct sockaddr_in) { .sin_family = AF_INET, .sin_port = port },
                     sizeof(struct sockaddr_in)),
                0);
        close(fd);
}

/* A port that is left by a connection of a moment ago can be listened on at once. */
static void a_port_can_be_reused_while_old_connections_end(void **state) {
        Pair *pair = *state;
        Listener *second = NULL;
        Error err = {};
        End client, server;

        listen_tcp(pair);
        pair->net->ops->unlisten(pair->net, TAKE_PTR(pair->listener));
        turn(pair, 2);
        assert_int_equal(pair->net->ops->listen(pair->net, pair->address, pair_on_accepted, pair,
                                                &pair->listener, &err),
                         0);
        connect_both(pair, &client, &server);
        end_done(&server); /* who ends it first waits for late packets */
        RUN_UNTIL(pair, client.finished);
        end_done(&client);
        assert_int_equal(
                pair->net->ops->listen(pair->net, pair->address, pair_on_accepted, pair, &second, &err),
                -EADDRINUSE);
        assert_non_null(strstr(err.message, "the address is in use"));
        pair->net->ops->unlisten(pair->net, TAKE_PTR(pair->listener));
        turn(pair, 2);
        if (pair->net->ops->listen(pair->net, pair->address, pair_on_accepted, pair, &pair->listener, &err) <
            0)
                fail_msg("%s", err.message);
}

static void a_paused_stream_reads_nothing_and_drain_is_reported(void **state) {
        enum { SIZE = 5000000 };
        Pair *pair = *state;
        char *bytes = NEW0(char, SIZE);
        End client, server;
        size_t held;

        memset(bytes, 'p', SIZE);
        connect_both(pair, &client, &server);
        stream_pause(server.stream, true);
        assert_int_equal(stream_write(client.stream, bytes, SIZE), 0);
        assert_in_range(stream_queued(client.stream), SIZE / 2, SIZE);
        /* The memory of the record of a write counts, too: a flood of small writes is bounded. */
        assert_in_range(stream_held(client.stream), stream_queued(client.stream) + sizeof(uv_write_t),
                        stream_queued(client.stream) + 1000);
        assert_false(client.drained);
        assert_string_equal(end_text(&server), "");

        stream_pause(server.stream, false);
        held = stream_held(client.stream);
        RUN_UNTIL(pair, server.got.size > SIZE / 2);
        if (!client.drained) { /* what has left of one write counts at once, its memory when all of it has */
                assert_int_equal(stream_held(client.stream), held);
                assert_true(stream_queued(client.stream) <= SIZE - server.got.size);
        }
        RUN_UNTIL(pair, client.drained && server.got.size == SIZE);
        assert_int_equal(stream_queued(client.stream), 0);
        assert_memory_equal(server.got.chars, bytes, SIZE);
        free(bytes);
        end_done(&client);
        end_done(&server);
}

static void shared_bytes_are_held_until_the_last_stream_has_sent_them(void **state) {
        enum { SIZE = 3000000, N = 3 };
        Pair *pair = *state;
        char *bytes = NEW0(char, SIZE);
        Shared *shared;
        End client[N], server[N];

        memset(bytes, 's', SIZE);
        shared = shared_new(bytes, SIZE);
        for (int i = 0; i < N; i++) {
                connect_both(pair, &client[i], &server[i]);
                stream_pause(server[i].stream, true);
                assert_int_equal(stream_write_shared(client[i].stream, shared), 0);
        }
        assert_int_equal(shared->refs, N + 1);
        end_done(&client[0]); /* closed with the bytes queued: its reference goes */
        assert_int_equal(shared->refs, N);
        for (int i = 1; i < N; i++) {
                stream_pause(server[i].stream, false);
                RUN_UNTIL(pair, client[i].drained && server[i].got.size == SIZE);
                assert_memory_equal(server[i].got.chars, bytes, SIZE);
        }
        assert_int_equal(shared->refs, 1);
        shared_unref(shared);
        free(bytes);
        for (int i = 0; i < N; i++) {
                end_done(&client[i]);
                end_done(&server[i]);
        }
}

static void finishing_sends_all_bytes_first_even_with_unread_input(void **state) {
        enum { SIZE = 2000000 };
        Pair *pair = *state;
        char *bytes = NEW0(char, SIZE);
        End client, server;

        memset(bytes, 'f', SIZE);
        listen_tcp(pair); /* where closing with unread bytes would reset */
        connect_both(pair, &client, &server);
        stream_pause(server.stream, true);
        assert_int_equal(stream_write(client.stream, bytes, SIZE), 0); /* never read */
        assert_int_equal(stream_write(server.stream, bytes, SIZE), 0);
        stream_finish(server.stream);
        assert_int_equal(stream_write(server.stream, "x", 1), -EPIPE);
        RUN_UNTIL(pair, client.finished);
        assert_int_equal(client.got.size, SIZE);
        stream_close(client.stream);
        RUN_UNTIL(pair, client.closed && server.closed);
        assert_int_equal(server.error, 0);
        assert_int_equal(server.got.size, 0);
        free(bytes);
        end_done(&client);
        end_done(&server);
}

static void a_finished_stream_waits_two_seconds_for_the_fin_of_the_peer(void **state) {
        Pair *pair = *state;
        End client, server;
        Timer *linger;

        connect_both(pair, &client, &server);
        stream_finish(server.stream);
        stream_finish(server.stream);
        RUN_UNTIL(pair, client.finished);
        stream_pause(server.stream, true); /* it goes on to look for the end */
        assert_true(uv_of(server.stream)->reading || uv_is_active(&uv_of(server.stream)->uv.handle));
        linger = uv_of(server.stream)->linger;
        assert_non_null(linger);
        assert_true(linger->due_ms > loop_now_ms(pair->loop) &&
                    linger->due_ms <= loop_now_ms(pair->loop) + 2000 + pair->loop->grain_ms);
        turn(pair, 3);
        assert_false(server.closed);
        assert_int_equal(timer_start(linger, pair->loop, 1), 0); /* as if they had passed */
        RUN_UNTIL(pair, server.closed);
        assert_int_equal(server.error, 0);
        assert_string_equal(server.reason, "closed");
        end_done(&client);
        end_done(&server);
}

static void the_fin_of_the_peer_is_reported_once_and_ends_a_finished_stream(void **state) {
        Pair *pair = *state;
        End client, server;

        connect_both(pair, &client, &server);
        assert_int_equal(shutdown(fd_of(client.stream), SHUT_WR), 0);
        RUN_UNTIL(pair, server.finished);
        server.finished = false;
        stream_pause(server.stream, true);
        stream_pause(server.stream, false);
        turn(pair, 3);
        assert_false(server.finished || server.closed);
        end_send(&server, "the answer");
        stream_finish(server.stream);
        assert_null(uv_of(server.stream)->linger);
        RUN_UNTIL(pair, server.closed);
        assert_int_equal(server.error, 0);
        RUN_UNTIL(pair, client.finished);
        assert_string_equal(end_text(&client), "the answer");
        end_done(&client);
        end_done(&server);
}

static void a_closed_stream_is_neither_finished_nor_paused(void **state) {
        Pair *pair = *state;
        End client, server;

        connect_both(pair, &client, &server);
        stream_close(server.stream);
        stream_finish(server.stream);
        stream_pause(server.stream, true);
        stream_close(server.stream);
        assert_null(uv_of(server.stream)->linger);
        RUN_UNTIL(pair, server.closed && client.finished);
        assert_int_equal(server.error, 0);
        end_done(&client);
        end_done(&server);
}

static void a_read_that_fills_the_buffer_is_not_the_end(void **state) {
        Pair *pair = *state;
        char *bytes = NEW0(char, LOOP_UV_BUFFER_SIZE);
        End client, server;

        connect_both(pair, &client, &server);
        stream_pause(server.stream, true);
        stream_pause(server.stream, true);
        assert_int_equal(stream_write(client.stream, bytes, LOOP_UV_BUFFER_SIZE), 0);
        assert_int_equal(stream_held(client.stream), 0);
        stream_pause(server.stream, false);
        stream_pause(server.stream, false);
        RUN_UNTIL(pair, server.got.size == LOOP_UV_BUFFER_SIZE);
        turn(pair, 3);
        assert_false(server.finished || server.closed); /* it was asked once more, in vain */
        free(bytes);
        end_done(&client);
        end_done(&server);
}

static void a_failed_read_ends_the_stream(void **state) {
        Pair *pair = *state;
        End client, server;

        connect_both(pair, &client, &server);
        uv_of(server.stream)->reading = false; /* it does: to begin again fails */
        stream_pause(server.stream, false);
        RUN_UNTIL(pair, server.closed);
        assert_int_equal(server.error, -EALREADY);
        assert_string_equal(server.reason, strerror(EALREADY));
        end_done(&client);
        end_done(&server);
}

/* A TCP connection whose other end is a socket of ours; a client's stream to it, or an accepted one of it. */
static int connect_raw_tcp(Pair *pair, End *e, bool accepted) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        int listener, fd, error = 0;

        listener = accepted ? listen_tcp(pair) : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!accepted) {
                assert_int_equal(bind(listener, (struct sockaddr *) &a, size), 0);
                assert_int_equal(listen(listener, 5), 0);
        }
        assert_int_equal(getsockname(listener, (struct sockaddr *) &a, &size), 0);
        if (accepted) {
                unsigned n = pair->n_accepted;

                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                assert_int_equal(connect(fd, (struct sockaddr *) &a, size), 0);
                RUN_UNTIL(pair, pair->n_accepted > n);
                end_take(e, pair, pair->accepted[n]);
        } else {
                char address[32];

                snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(a.sin_port));
                *e = (End) { .pair = pair, .connect_error = 1 };
                assert_non_null(
                        pair->net->ops->connect(pair->net, address, 5000, end_on_connected, e, &error));
                RUN_UNTIL(pair, e->connect_error != 1);
                fd = accept(listener, NULL, NULL);
                close(listener);
        }
        assert_true(fd >= 0);
        return fd;
}

/* Closed with queued bytes: a reset, so that the received part is not taken for the whole. */
static void closing_with_queued_bytes_resets_a_tcp_connection(void **state) {
        enum { SIZE = 20000000 };
        Pair *pair = *state;
        char *bytes = NEW0(char, SIZE);

        for (unsigned full = 0; full < 2; full++) {
                _cleanup_(end_done) End client;
                ssize_t n;
                int fd = connect_raw_tcp(pair, &client, false);

                assert_int_equal(stream_write(client.stream, bytes, full ? SIZE : 10), 0);
                assert_int_equal(stream_held(client.stream) > 0, full);
                stream_close(client.stream);
                RUN_UNTIL(pair, client.closed);
                assert_int_equal(client.error, 0);
                while ((n = recv(fd, bytes, SIZE, 0)) > 0)
                        ;
                assert_int_equal(n, full ? -1 : 0);
                assert_true(!full || errno == ECONNRESET);
                close(fd);
        }
        free(bytes);
}

static void a_reset_ends_a_stream_with_an_error_unless_it_was_finished(void **state) {
        struct linger reset = { .l_onoff = 1 };
        Pair *pair = *state;

        for (unsigned i = 0; i < 3; i++) {
                _cleanup_(end_done) End server;
                int fd = connect_raw_tcp(pair, &server, true);

                if (i == 1)
                        stream_finish(server.stream);
                if (i == 2)
                        stream_pause(server.stream, true);
                turn(pair, 2);
                assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
                close(fd);
                if (i == 2) {
                        stream_finish(server.stream); /* there is nothing to wait for */
                        assert_null(uv_of(server.stream)->linger);
                }
                RUN_UNTIL(pair, server.closed);
                assert_int_equal(server.error, i == 0 ? -ECONNRESET : 0);
                assert_string_equal(server.reason, i == 0 ? strerror(ECONNRESET) : "closed");
        }
}

static void a_queued_write_to_a_peer_that_disconnects_ends_the_stream_with_an_error(void **state) {
        enum { SIZE = 5000000 };
        Pair *pair = *state;
        char *bytes = NEW0(char, SIZE);
        End client, server;

        connect_both(pair, &client, &server);
        stream_pause(client.stream, true);
        stream_pause(server.stream, true);
        assert_int_equal(stream_write(server.stream, bytes, SIZE), 0);
        stream_close(client.stream);
        RUN_UNTIL(pair, server.closed);
        assert_true(server.error == -EPIPE || server.error == -ECONNRESET);
        assert_string_equal(server.reason, strerror(-server.error));
        assert_false(server.drained);
        free(bytes);
        end_done(&client);
        end_done(&server);
}

static void an_error_of_queueing_ends_the_stream(void **state) {
        Pair *pair = *state;
        UvStream *s = uv_stream_new(pair->uv, false); /* not connected */
        _cleanup_(end_done) End e = { .pair = pair, .stream = &s->base };

        stream_set_events(&s->base, &end_events, &e);
        s->base.held = 1; /* so that it is queued at once */
        assert_int_equal(stream_write(&s->base, "x", 1), -EBADF);
        assert_int_equal(s->base.held, 1);
        assert_int_equal(stream_write(&s->base, "x", 1), -EPIPE);
        s->base.held = 0;
        RUN_UNTIL(pair, e.closed);
        assert_int_equal(e.error, -EBADF);
}

typedef struct Named {
        Pair *pair;
        unsigned n;
        bool dozes;
} Named;

static void named_ran(Named *n) {
        if (n->dozes)
                (void) poll(NULL, 0, 150);
        n->n++;
        loop_uv_stop(n->pair->uv);
}

static void named_on_read(void *userdata, const void *bytes, size_t size) {
        named_ran(userdata);
}

static void named_on_drain(void *userdata) {
        named_ran(userdata);
}

static void named_on_close(void *userdata, int error, const char *reason) {
        named_ran(userdata);
}

static void named_on_connected(void *userdata, Stream *s, int error) {
        if (s)
                stream_close(s);
        named_ran(userdata);
}

static void named_on_accepted(void *userdata, Stream *s) {
        stream_close(s);
        named_ran(userdata);
}

/* What a long turn is blamed on. */
static void the_statistics_of_a_turn_contain_the_names_of_streams(void **state) {
        enum { SIZE = 1000000 };
        static const StreamEvents events = { .on_read = named_on_read,
                                             .on_drain = named_on_drain,
                                             .on_close = named_on_close,
                                             .name = "named" };
        static const StreamEvents no_drain = { .on_read = named_on_read, .on_close = named_on_close };
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        Pair *pair = *state;
        Named n = { .pair = pair };
        char *bytes = NEW0(char, SIZE), path[200];
        End client, server;
        int fd, listener, error = 0;

        connect_both(pair, &client, &server);
        assert_string_equal(stream_events_name(client.stream), "stream");
        stream_set_events(client.stream, &events, &n);
        assert_string_equal(stream_events_name(client.stream), "named");

        end_send(&server, "x");
        n.dozes = true;
        RUN_UNTIL(pair, n.n == 1);
        assert_string_equal(loop_turns(pair->loop)->longest, "named");

        stream_pause(server.stream, true);
        assert_int_equal(stream_write(client.stream, bytes, SIZE), 0);
        stream_pause(server.stream, false);
        RUN_UNTIL(pair, n.n == 2);
        assert_string_equal(loop_turns(pair->loop)->longest, "named");
        stream_set_events(client.stream, &no_drain, &n); /* this one does not want to hear of it */
        stream_pause(server.stream, true);
        assert_int_equal(stream_write(client.stream, bytes, SIZE), 0);
        stream_pause(server.stream, false);
        RUN_UNTIL(pair, server.got.size == 2 * SIZE);
        turn(pair, 2);
        assert_int_equal(n.n, 2);
        stream_set_events(client.stream, &events, &n);
        stream_close(client.stream);
        RUN_UNTIL(pair, n.n == 3);
        assert_string_equal(loop_turns(pair->loop)->longest, "named");
        client.closed = true;
        end_done(&server);
        text_done(&client.got);
        free(bytes);

        pair->on_accepted = named_on_accepted;
        pair->userdata = &n;
        snprintf(a.sun_path, sizeof(a.sun_path), "%.90s", pair->address);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        RUN_UNTIL(pair, n.n == 4);
        assert_string_equal(loop_turns(pair->loop)->longest, "accept");
        close(fd);

        snprintf(path, sizeof(path), "%s/listener", pair->folder);
        snprintf(a.sun_path, sizeof(a.sun_path), "%.90s", path);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_non_null(pair->net->ops->connect(pair->net, path, 5000, named_on_connected, &n,
                                                &error)); /* there is no listener */
        RUN_UNTIL(pair, n.n == 5);
        assert_string_equal(loop_turns(pair->loop)->longest, "connect");
        assert_int_equal(listen(listener, 5), 0);
        assert_non_null(pair->net->ops->connect(pair->net, path, 5000, named_on_connected, &n, &error));
        RUN_UNTIL(pair, n.n == 6);
        assert_string_equal(loop_turns(pair->loop)->longest, "connect");
        turn(pair, 2);
        close(listener);
}

static void writing_to_a_disconnected_peer_ends_the_stream_with_an_error(void **state) {
        Pair *pair = *state;
        End client, server;
        int r = 0;

        connect_both(pair, &client, &server);
        stream_pause(server.stream, true); /* so that it does not see the end by reading */
        stream_close(client.stream);
        RUN_UNTIL(pair, client.closed);
        for (int i = 0; i < 3 && r == 0; i++)
                r = stream_write(server.stream, "x", 1);
        assert_int_equal(r, -EPIPE);
        assert_false(server.closed);
        RUN_UNTIL(pair, server.closed);
        assert_int_equal(server.error, -EPIPE);
        assert_string_equal(server.reason, "Broken pipe");
        end_done(&client);
        end_done(&server);
}

typedef struct Crowd {
        Pair *pair;
        unsigned in_turn[1000];
} Crowd;

static void crowd_on_accepted(void *userdata, Stream *s) {
        Crowd *crowd = userdata;
        Pair *pair = crowd->pair;

        assert_true(loop_turns(pair->loop)->n < ELEMENTS(crowd->in_turn));
        crowd->in_turn[loop_turns(pair->loop)->n]++;
        pair->accepted[pair->n_accepted++] = s;
}

/* Some of them in a turn, so that others have theirs between; and none is taken twice. */
static void all_of_many_simultaneous_connections_are_accepted(void **state) {
        enum {
                N = 200,
                PER_TURN = 64 + 1
        }; /* one more is taken at the end of the turn; newer versions of libuv take one in each turn */
        Pair *pair = *state;
        Crowd crowd = { .pair = pair };
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        unsigned turns = 0, per_turn = 0;
        int fds[N];

        pair->on_accepted = crowd_on_accepted;
        pair->userdata = &crowd;

        snprintf(a.sun_path, sizeof(a.sun_path), "%.90s", pair->address);
        for (int i = 0; i < N; i++) {
                fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                assert_int_equal(connect(fds[i], (struct sockaddr *) &a, sizeof(a)), 0);
        }
        for (unsigned i = 0; i < 2 * N && pair->n_accepted < N; i++)
                turn(pair, 1);
        assert_int_equal(pair->n_accepted, N);
        for (unsigned i = 0; i < ELEMENTS(crowd.in_turn); i++)
                if (crowd.in_turn[i] > 0) {
                        per_turn = per_turn ?: crowd.in_turn[i];
                        assert_int_equal(crowd.in_turn[i], MIN(N - turns * per_turn, per_turn));
                        turns++;
                }
        assert_true(per_turn == PER_TURN || (per_turn == 1 && uv_version() > 0x012c02));
        turn(pair, 2);
        assert_false(loop_has_deferred(pair->loop)); /* the read loop has ended */
        for (int i = 0; i < N; i++) {
                stream_close(pair->accepted[i]);
                close(fds[i]);
        }
}

static void the_unix_socket_has_mode_0660_and_is_removed_with_its_listener(void **state) {
        Pair *pair = *state;
        struct stat st;

        assert_int_equal(stat(pair->address, &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 0777, 0660);
        pair->net->ops->unlisten(pair->net, TAKE_PTR(pair->listener));
        assert_int_equal(stat(pair->address, &st), -1);
}

static void a_socket_without_listener_is_replaced_and_one_with_listener_is_not(void **state) {
        Pair *pair = *state;
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        Listener *second = NULL;
        Error err = {};
        End client;
        int fd;

        assert_int_equal(
                pair->net->ops->listen(pair->net, pair->address, pair_on_accepted, pair, &second, &err),
                -EADDRINUSE);
        assert_non_null(strstr(err.message, "the address is in use"));

        snprintf(pair->address, sizeof(pair->address), "%s/stale", pair->folder);
        snprintf(a.sun_path, sizeof(a.sun_path), "%.90s", pair->address);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        close(fd);
        assert_int_equal(
                pair->net->ops->listen(pair->net, pair->address, pair_on_accepted, pair, &second, &err), 0);
        end_connect(&client, pair);
        end_done(&client);
        pair->net->ops->unlisten(pair->net, second);
}

static void a_socket_that_replaced_the_own_one_is_not_removed(void **state) {
        Pair *pair = *state;
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        char path[200];
        struct stat st;
        int fd;

        /* Made before the other one goes: it has another inode. */
        snprintf(path, sizeof(path), "%s/other", pair->folder);
        snprintf(a.sun_path, sizeof(a.sun_path), "%.90s", path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(rename(path, pair->address), 0);
        pair->net->ops->unlisten(pair->net, TAKE_PTR(pair->listener));
        assert_int_equal(stat(pair->address, &st), 0);
        pair->net->ops->unlisten(pair->net, NULL);
        close(fd);
}

static void a_socket_path_has_the_maximal_length_of_the_kernel(void **state) {
        static const size_t sizes[] = { 106, 107, 108, 150 };
        Pair *pair = *state;

        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                int r, expected = sizes[i] < 108 ? 0 : -ENAMETOOLONG, error = 0;
                Listener *l = NULL;
                char path[200];
                Error err = {};
                End e = { .pair = pair, .connect_error = 1 };

                memset(path, 'x', sizeof(path));
                memcpy(path, pair->folder, strlen(pair->folder));
                path[strlen(pair->folder)] = '/';
                path[sizes[i]] = '\0';
                r = pair->net->ops->listen(pair->net, path, pair_on_accepted, pair, &l, &err);
                assert_int_equal(r, expected);
                if (r < 0) {
                        assert_null(
                                pair->net->ops->connect(pair->net, path, 1000, end_on_connected, &e, &error));
                        assert_int_equal(error, expected);
                        continue;
                }
                assert_non_null(pair->net->ops->connect(pair->net, path, 5000, end_on_connected, &e, &error));
                RUN_UNTIL(pair, e.connect_error != 1);
                assert_int_equal(e.connect_error, 0);
                end_done(&e);
                pair->net->ops->unlisten(pair->net, l);
        }
}

static void listening_on_a_descriptor_that_is_no_socket_fails(void **state) {
        static const struct {
                int domain, type;
                int error;
        } rows[] = {
                { 0, 0, -ENOTSOCK },
                { AF_INET, SOCK_DGRAM, -EOPNOTSUPP },
        };
        Pair *pair = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                int fd = rows[i].domain ? socket(rows[i].domain, rows[i].type | SOCK_CLOEXEC, 0) :
                                          open("/dev/null", O_RDONLY | O_CLOEXEC);
                Listener *l = NULL;

                assert_int_equal(net_uv_listen_fd(pair->net, fd, pair_on_accepted, pair, &l), rows[i].error);
                turn(pair, 2);
                assert_int_equal(fcntl(fd, F_GETFD), -1); /* it was taken all the same */
        }
}

static void a_file_at_the_path_of_a_socket_is_never_removed(void **state) {
        Pair *pair = *state;
        Listener *second = NULL;
        struct stat st;
        char path[96];
        Error err = {};

        snprintf(path, sizeof(path), "%s/file", pair->folder);
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        assert_int_equal(pair->net->ops->listen(pair->net, path, pair_on_accepted, pair, &second, &err),
                         -EADDRINUSE);
        assert_int_equal(stat(path, &st), 0);
}

static void an_invalid_address_is_rejected_with_the_expected_form(void **state) {
        static const char *const bad[] = {
                "", "localhost:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "[::1]"
        };
        Pair *pair = *state;

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                Listener *l = NULL;
                Error err = {};
                int error = 0;

                assert_int_equal(pair->net->ops->listen(pair->net, bad[i], pair_on_accepted, pair, &l, &err),
                                 -EINVAL);
                assert_non_null(strstr(err.message, "expected ADDR:PORT"));
                assert_null(pair->net->ops->connect(pair->net, bad[i], 1000, end_on_connected, NULL, &error));
                assert_int_equal(error, -EINVAL);
        }
}

/* As a route of type blackhole, which needs another network namespace: the kernel rejects a valid address. */
static void a_valid_address_that_the_kernel_rejects_is_unreachable(void **state) {
        Pair *pair = *state;
        struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(9) };
        int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), error = 0;
        End e = { .pair = pair, .connect_error = 1 };

        if (fd < 0)
                skip();                                                    /* no IPv6 */
        assert_int_equal(inet_pton(AF_INET6, "fe80::1", &a.sin6_addr), 1); /* without its interface */
        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), -1);
        error = errno;
        close(fd);
        if (error != EINVAL)
                skip();
        if (pair->net->ops->connect(pair->net, "[fe80::1]:9", 50, end_on_connected, &e, &error)) {
                RUN_UNTIL(pair, e.connect_error != 1);
                skip(); /* a newer libuv adds an interface to the address, so that the kernel accepts it */
        }
        assert_int_equal(error, -ENETUNREACH);
}

static void a_port_without_listener_refuses_and_a_silent_host_times_out(void **state) {
        Pair *pair = *state;
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        char address[ADDRESS_SIZE];
        End e = { .pair = pair, .connect_error = 1 };
        int fd, error = 0, filler[8];

        /* A port that was free a moment ago, and then one whose queue is full: its kernel answers no more. */
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, size), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &size), 0);
        snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(a.sin_port));
        assert_non_null(pair->net->ops->connect(pair->net, address, 5000, end_on_connected, &e, &error));
        RUN_UNTIL(pair, e.connect_error != 1);
        assert_int_equal(e.connect_error, -ECONNREFUSED);

        assert_int_equal(listen(fd, 0), 0);
        for (size_t i = 0; i < ELEMENTS(filler); i++) {
                filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                (void) connect(filler[i], (struct sockaddr *) &a, size);
        }
        e.connect_error = 1;
        assert_non_null(pair->net->ops->connect(pair->net, address, 50, end_on_connected, &e, &error));
        RUN_UNTIL(pair, e.connect_error != 1);
        assert_int_equal(e.connect_error, -ETIMEDOUT);
        for (size_t i = 0; i < ELEMENTS(filler); i++)
                close(filler[i]);
        close(fd);
}

static void a_cancelled_connect_is_never_reported(void **state) {
        Pair *pair = *state;
        End e = { .pair = pair, .connect_error = 1 }, other;
        int error = 0;
        void *handle = pair->net->ops->connect(pair->net, pair->address, 5000, end_on_connected, &e, &error);

        assert_non_null(handle);
        pair->net->ops->cancel(pair->net, handle);
        end_connect(&other, pair);
        assert_int_equal(e.connect_error, 1);
        end_done(&other);
}

typedef struct Stall {
        Pair *pair;
        End client;
        Stream *server;
        Text received;
        Timer timer;
        bool fired, received_first;
} Stall;

/* What was said before the stall ends is in the socket when the timer is due, and unread. */
static void stall_on_read(void *userdata, const void *bytes, size_t size) {
        Stall *t = userdata;
        uint64_t until_ms = loop_now_ms(t->pair->loop) + 20;

        text_append_bytes(&t->received, bytes, size);
        if (streq(t->received.chars, "stall")) {
                end_send(&t->client, "heartbeat");
                while (loop_now_ms(t->pair->loop) < until_ms)
                        ;
        }
}

static void stall_on_close(void *userdata, int error, const char *reason) {
        Stall *t = userdata;

        t->server = NULL;
        loop_uv_stop(t->pair->uv);
}

static void stall_on_timer(void *userdata) {
        Stall *t = userdata;

        t->fired = true;
        t->received_first = streq(t->received.chars, "stallheartbeat");
        loop_uv_stop(t->pair->uv);
}

static void after_a_stall_pending_input_is_read_before_time_outs_fire(void **state) {
        static const StreamEvents events = { .on_read = stall_on_read, .on_close = stall_on_close };
        Stall t = { .pair = *state };

        end_connect(&t.client, t.pair);
        RUN_UNTIL(t.pair, t.pair->n_accepted == 1);
        t.server = t.pair->accepted[0];
        stream_set_events(t.server, &events, &t);
        stream_pause(t.server, false);
        t.timer = (Timer) { .fire = stall_on_timer, .userdata = &t };
        timer_start(&t.timer, t.pair->loop, 10);
        end_send(&t.client, "stall");
        RUN_UNTIL(t.pair, t.fired);
        assert_true(t.received_first);
        end_done(&t.client);
        stream_close(t.server);
        RUN_UNTIL(t.pair, !t.server);
        text_done(&t.received);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(bytes_pass_in_both_directions_and_no_event_is_called_from_inside_a_call),
                T(a_unix_socket_has_the_user_of_its_peer_and_an_empty_address),
                T(tcp_streams_report_addresses_and_the_silence_of_the_peer_kernel),
                T(a_paused_stream_reads_nothing_and_drain_is_reported),
                T(shared_bytes_are_held_until_the_last_stream_has_sent_them),
                T(tcp_sockets_have_options_and_monitored_ones_are_probed_more_often),
                T(tcp_of_version_6_has_its_addresses_in_brackets),
                T(a_port_can_be_reused_while_old_connections_end),
                T(finishing_sends_all_bytes_first_even_with_unread_input),
                T(a_finished_stream_waits_two_seconds_for_the_fin_of_the_peer),
                T(the_fin_of_the_peer_is_reported_once_and_ends_a_finished_stream),
                T(a_closed_stream_is_neither_finished_nor_paused),
                T(a_read_that_fills_the_buffer_is_not_the_end),
                T(a_failed_read_ends_the_stream),
                T(closing_with_queued_bytes_resets_a_tcp_connection),
                T(a_reset_ends_a_stream_with_an_error_unless_it_was_finished),
                T(a_queued_write_to_a_peer_that_disconnects_ends_the_stream_with_an_error),
                T(an_error_of_queueing_ends_the_stream),
                T(the_statistics_of_a_turn_contain_the_names_of_streams),
                T(a_socket_that_replaced_the_own_one_is_not_removed),
                T(a_socket_path_has_the_maximal_length_of_the_kernel),
                T(listening_on_a_descriptor_that_is_no_socket_fails),
                T(writing_to_a_disconnected_peer_ends_the_stream_with_an_error),
                T(all_of_many_simultaneous_connections_are_accepted),
                T(the_unix_socket_has_mode_0660_and_is_removed_with_its_listener),
                T(a_socket_without_listener_is_replaced_and_one_with_listener_is_not),
                T(a_file_at_the_path_of_a_socket_is_never_removed),
                T(an_invalid_address_is_rejected_with_the_expected_form),
                T(a_valid_address_that_the_kernel_rejects_is_unreachable),
                T(a_port_without_listener_refuses_and_a_silent_host_times_out),
                T(a_cancelled_connect_is_never_reported),
                T(after_a_stall_pending_input_is_read_before_time_outs_fire),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}

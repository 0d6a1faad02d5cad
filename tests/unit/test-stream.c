/* Streams of the real network: unix sockets and TCP, back-pressure, ends, limits at the door. */
#include "tests/unit/io_pair.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

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

/* Moves the pair's door to a TCP port that the kernel chooses. */
static void listen_tcp(Pair *pair) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        Error err = {};

        assert_int_equal(bind(fd, (struct sockaddr *) &a, size), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &size), 0);
        snprintf(pair->address, sizeof(pair->address), "127.0.0.1:%u", ntohs(a.sin_port));
        pair->net->ops->unlisten(pair->net, pair->listener);
        if (net_uv_listen_fd(pair->net, fd, pair_on_accepted, pair, &pair->listener, &err) < 0)
                fail_msg("%s", err.message);
}

static void bytes_go_both_ways_and_nothing_is_told_from_inside_a_call(void **state) {
        Pair *pair = *state;
        End client, server;

        connect_both(pair, &client, &server);
        end_send(&client, "to the server");
        end_send(&server, "to the client");
        assert_string_equal(end_text(&client), "");
        RUN_UNTIL(pair, streq(end_text(&server), "to the server") && streq(end_text(&client), "to the client"));
        stream_close(client.stream);
        assert_false(client.closed);
        RUN_UNTIL(pair, client.closed && server.finished);
        assert_int_equal(client.error, 0);
        end_done(&client);
        end_done(&server);
}

static void who_is_at_the_other_end_of_a_unix_socket_is_known_and_its_address_empty(void **state) {
        Pair *pair = *state;
        End client, server;
        uid_t uid = -1;
        gid_t gid = -1;
        pid_t pid = -1;

        connect_both(pair, &client, &server);
        assert_int_equal(stream_peer_credentials(server.stream, &uid, &gid, &pid), 0);
        assert_int_equal(uid, getuid());
        assert_int_equal(gid, getgid());
        assert_int_equal(pid, getpid());
        assert_string_equal(stream_peer_address(server.stream), "");
        assert_int_equal(stream_kernel_silent_ms(server.stream), UINT64_MAX);
        end_done(&client);
        end_done(&server);
}

static void tcp_streams_know_their_addresses_and_when_the_other_kernel_was_heard(void **state) {
        Pair *pair = *state;
        End client, server;
        uid_t uid;
        gid_t gid;
        pid_t pid;

        listen_tcp(pair);
        connect_both(pair, &client, &server);
        assert_string_equal(stream_peer_address(client.stream), pair->address);
        assert_string_equal(stream_local_address(server.stream), pair->address);
        assert_string_equal(stream_peer_address(server.stream), stream_local_address(client.stream));
        assert_int_equal(stream_peer_credentials(server.stream, &uid, &gid, &pid), -ENOTSUP);

        end_send(&client, "hello");
        RUN_UNTIL(pair, streq(end_text(&server), "hello"));
        assert_in_range(stream_kernel_silent_ms(client.stream), 0, 1000);
        end_done(&client);
        end_done(&server);
}

static void nothing_is_read_while_paused_and_the_writer_learns_when_all_has_left(void **state) {
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
        assert_int_equal(stream_held(client.stream), stream_queued(client.stream));
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

static void finishing_sends_everything_first_even_with_bytes_unread(void **state) {
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

static void writing_to_who_has_left_ends_the_stream_with_an_error(void **state) {
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

static void a_crowd_at_the_door_is_let_in_completely(void **state) {
        enum { N = 200 };
        Pair *pair = *state;
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fds[N];

        snprintf(a.sun_path, sizeof(a.sun_path), "%.90s", pair->address);
        for (int i = 0; i < N; i++) {
                fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                assert_int_equal(connect(fds[i], (struct sockaddr *) &a, sizeof(a)), 0);
        }
        RUN_UNTIL(pair, pair->n_accepted == N);
        for (int i = 0; i < N; i++) {
                stream_close(pair->accepted[i]);
                close(fds[i]);
        }
}

static void the_socket_is_for_owner_and_group_and_goes_with_its_listener(void **state) {
        Pair *pair = *state;
        struct stat st;

        assert_int_equal(stat(pair->address, &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 0777, 0660);
        pair->net->ops->unlisten(pair->net, TAKE_PTR(pair->listener));
        assert_int_equal(stat(pair->address, &st), -1);
}

static void a_socket_that_nobody_answers_is_replaced_and_one_that_is_answered_is_not(void **state) {
        Pair *pair = *state;
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        Listener *second = NULL;
        Error err = {};
        End client;
        int fd;

        assert_int_equal(pair->net->ops->listen(pair->net, pair->address, pair_on_accepted, pair, &second, &err), -EADDRINUSE);
        assert_non_null(strstr(err.message, "somebody else does already"));

        snprintf(pair->address, sizeof(pair->address), "%s/stale", pair->folder);
        snprintf(a.sun_path, sizeof(a.sun_path), "%.90s", pair->address);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        close(fd);
        assert_int_equal(pair->net->ops->listen(pair->net, pair->address, pair_on_accepted, pair, &second, &err), 0);
        end_connect(&client, pair);
        end_done(&client);
        pair->net->ops->unlisten(pair->net, second);
}

static void a_file_in_the_way_of_a_socket_is_never_removed(void **state) {
        Pair *pair = *state;
        Listener *second = NULL;
        struct stat st;
        char path[96];
        Error err = {};

        snprintf(path, sizeof(path), "%s/file", pair->folder);
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        assert_int_equal(pair->net->ops->listen(pair->net, path, pair_on_accepted, pair, &second, &err), -EADDRINUSE);
        assert_int_equal(stat(path, &st), 0);
}

static void an_address_that_is_none_is_refused_with_what_was_expected(void **state) {
        static const char *const bad[] = { "", "localhost:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "[::1]" };
        Pair *pair = *state;

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                Listener *l = NULL;
                Error err = {};
                int error = 0;

                assert_int_equal(pair->net->ops->listen(pair->net, bad[i], pair_on_accepted, pair, &l, &err), -EINVAL);
                assert_non_null(strstr(err.message, "expected ADDR:PORT"));
                assert_null(pair->net->ops->connect(pair->net, bad[i], 1000, end_on_connected, NULL, &error));
                assert_int_equal(error, -EINVAL);
        }
}

static void nobody_at_the_door_is_a_refusal_and_a_silent_host_a_time_out(void **state) {
        Pair *pair = *state;
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        char address[64];
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

static void a_cancelled_connect_is_never_told(void **state) {
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
        Text heard;
        Timer timer;
        bool fired, heard_first;
} Stall;

/* What was said before the stall ends is in the socket when the timer is due, and unread. */
static void stall_on_read(void *userdata, const void *bytes, size_t size) {
        Stall *t = userdata;
        uint64_t until_ms = loop_now_ms(t->pair->loop) + 20;

        text_append_bytes(&t->heard, bytes, size);
        if (streq(t->heard.chars, "stall")) {
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
        t->heard_first = streq(t->heard.chars, "stallheartbeat");
        loop_uv_stop(t->pair->uv);
}

static void after_a_stall_what_came_meanwhile_is_heard_before_time_outs_are_told(void **state) {
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
        assert_true(t.heard_first);
        end_done(&t.client);
        stream_close(t.server);
        RUN_UNTIL(t.pair, !t.server);
        text_done(&t.heard);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(bytes_go_both_ways_and_nothing_is_told_from_inside_a_call),
                T(who_is_at_the_other_end_of_a_unix_socket_is_known_and_its_address_empty),
                T(tcp_streams_know_their_addresses_and_when_the_other_kernel_was_heard),
                T(nothing_is_read_while_paused_and_the_writer_learns_when_all_has_left),
                T(shared_bytes_are_held_until_the_last_stream_has_sent_them),
                T(finishing_sends_everything_first_even_with_bytes_unread),
                T(writing_to_who_has_left_ends_the_stream_with_an_error),
                T(a_crowd_at_the_door_is_let_in_completely),
                T(the_socket_is_for_owner_and_group_and_goes_with_its_listener),
                T(a_socket_that_nobody_answers_is_replaced_and_one_that_is_answered_is_not),
                T(a_file_in_the_way_of_a_socket_is_never_removed),
                T(an_address_that_is_none_is_refused_with_what_was_expected),
                T(nobody_at_the_door_is_a_refusal_and_a_silent_host_a_time_out),
                T(a_cancelled_connect_is_never_told),
                T(after_a_stall_what_came_meanwhile_is_heard_before_time_outs_are_told),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}

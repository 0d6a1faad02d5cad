/* A host at work, with an allocation failing anywhere in it while a client asks: the client gets an answer or
 * is hung up on, nothing leaks, and who asks again is answered. Where the replica itself had no memory it
 * stops, and comes back with all that it had. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/lib/test.h"
#include "base/log.h"
#include "fleetd/api/api.h"
#include "fleetd/directory/directory.h"
#include "tests/lib/alloc.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"
#include "tests/lib/store_inside.h"

/* Where nothing at all can be allocated a connection waits to be accepted; its client goes. */
enum { PATIENCE_MS = 1000, COMEBACKS = 3 };

typedef struct Fixture {
        char *folder; /* outlives the host */
        Host *host;
        Api *api;
        Directory *directory; /* NULL: none */
        char *socket;
} Fixture;

static Fixture fixture;
static unsigned n_points, n_waited;

static void open_host(void) {
        Error err = {};

        fixture.host = host_new_at(fixture.folder, false);
        fixture.socket = scratch_path(fixture.host->scratch, "socket");
        assert_int_equal(api_new(&fixture.api, &fixture.host->components), 0);
        if (api_listen(fixture.api, API_SOCKET, fixture.socket, &err) < 0)
                fail_msg("%s", err.message);
}

static void close_host(void) {
        fixture.api = api_free(fixture.api);
        fixture.directory = directory_free(fixture.directory);
        fixture.host = host_free(fixture.host);
        free(TAKE_PTR(fixture.socket));
}

static int setup(void **state) {
        fixture.folder = scratch_new();
        open_host();
        host_machine(fixture.host);
        host_unit(fixture.host, "web.service", "[Service]\nExecStart=/bin/one\n[X-Fleet]\nConflicts=x*\n",
                  TARGET_LAUNCHED);
        return 0;
}

static int teardown(void **state) {
        close_host();
        fixture.folder = scratch_free(fixture.folder);
        return 0;
}

static bool is_up(void) {
        KvState state;

        kv_state(fixture.host->store, &state);
        return state.role == KV_ROLE_LEADER && state.ready && !state.stopped &&
               registry_ready(fixture.host->registry);
}

/* Asks by calls of the kernel alone: what fails is the host's. Gives the status, 0 when it hung up without
 * one. */
static unsigned ask(const char *request) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        static char answer[64 * 1024];
        size_t size = 0;
        unsigned status = 0;
        bool ended = false;
        uint64_t until_ms;
        ssize_t n;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", fixture.socket);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
        fixture.host->deadline_ms = 0;
        until_ms = loop_now_ms(fixture.host->loop) + PATIENCE_MS;
        while (!ended && (!alloc_has_failed() || loop_now_ms(fixture.host->loop) < until_ms)) {
                host_turn(fixture.host);
                while (!ended && (n = recv(fd, answer + size, sizeof(answer) - 1 - size, 0)) != -1) {
                        ended = n == 0;
                        size += n;
                }
                ended = ended || (errno != EAGAIN && errno != EINTR);
        }
        close(fd);
        answer[size] = 0;
        (void) sscanf(answer, "HTTP/1.1 %u", &status);
        n_waited += !ended;
        return status;
}

static int request(void *userdata) {
        HOST_UNTIL(fixture.host, is_up());
        unsigned status = ask(userdata);

        if (!alloc_has_failed() && status / 100 != 2)
                fail_msg("%u for %s", status, (const char *) userdata);
        return status / 100 == 2 ? 0 : -ENOMEM;
}

static void survive(const char *name, const char *text, unsigned stride) {
        n_points += alloc_fail_each(name, request, (void *) text, stride);
}

#define HEAD " HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n"
#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"

static void a_reader_is_answered_or_disconnected(void **state) {
        static const char *const targets[] = {
                "/v2/keys/?recursive=true",
                "/fleet/v1/units",
                "/fleet/v1/units/web.service",
                "/fleet/v1/state",
                "/fleet/v1/machines",
                "/fleet/v1/cluster",
                "/fleet/v1/discovery",
                "/v2/stats/store",
                "/version",
                "/health",
        };

        for (size_t i = 0; i < ELEMENTS(targets); i++) {
                char text[200];

                snprintf(text, sizeof(text), "GET %s" HEAD "\r\n", targets[i]);
                survive(targets[i], text, 1);
        }
        /* Only where nothing can be allocated any more, and not even the connection be taken. */
        assert_int_equal(n_waited, ELEMENTS(targets));
        assert_true(n_points >= 150);
}

/* -- Writes, through all layers -- */

static unsigned attempts, acknowledged, n_stopped;

/* The value is the last acknowledged one, or a later one without an answer. */
static void look_at_value(void) {
        unsigned found = 0;
        KvNode node;

        if (store_node(fixture.host->store, "/a", &node) == 0)
                (void) sscanf(node.value.data, "%8u", &found);
        if (found < acknowledged || found > attempts)
                fail_msg("%u was acknowledged, and there is %u of %u", acknowledged, found, attempts);
        assert_int_equal(store_check(fixture.host->store, NULL), 0);
}

/* The replica recovers by itself, but each failure within a minute doubles its pause: after some of them,
 * restart it instead. */
static void come_back(void) {
        KvState state;

        kv_state(fixture.host->store, &state);
        if (!state.stopped || n_stopped <= COMEBACKS)
                return;
        alloc_pause(true);
        close_host();
        open_host();
        alloc_pause(false);
}

static int put_value(void *userdata) {
        char text[300];
        unsigned status;
        KvState state;

        come_back();
        HOST_UNTIL(fixture.host, is_up());
        look_at_value();
        snprintf(text, sizeof(text), "PUT /v2/keys/a" HEAD FORM "Content-Length: 14\r\n\r\nvalue=%08u",
                 ++attempts);
        status = ask(text);
        if (status / 100 == 2)
                acknowledged = attempts;
        kv_state(fixture.host->store, &state);
        n_stopped += state.stopped;
        return status / 100 == 2 ? 0 : -ENOMEM;
}

static void what_was_acknowledged_is_there_though_the_replica_had_no_memory(void **state) {
        (void) alloc_fail_each("a key is put", put_value, NULL, 3);
        assert_true(n_stopped > COMEBACKS);
}

/* The folder is looked at again by itself only after a while (30 s): a comparison that failed is made again
 * before. */
static void a_unit_returns_from_its_file_though_there_was_no_memory_to_compare_them(void **state) {
        enum { POINTS = 5 }; /* allocations of a comparison */
        static const char name[] = "file.service";
        _cleanup_free_ char *folder = scratch_path(fixture.host->scratch, "folder"),
                            *path = scratch_path(folder, name);
        Registry *r = fixture.host->registry;

        assert_int_equal(mkdir(folder, 0755), 0);
        scratch_write(path, "[Service]\nExecStart=/bin/one\n");
        fixture.host->settings.unit_directory = folder;
        assert_int_equal(directory_new(&fixture.directory, &fixture.host->components, NULL), 0);
        HOST_UNTIL(fixture.host, cluster_unit(registry_cluster(r), name));
        for (unsigned i = 1; i <= POINTS; i++) {
                assert_int_equal(
                        host_wait(fixture.host,
                                  registry_change_units(r, &(UnitChange) { .name = name, .remove = true }, 1,
                                                        host_on_done, fixture.host)),
                        KV_OK);
                assert_null(cluster_unit(registry_cluster(r), name));
                alloc_fail_at(i);
                HOST_UNTIL(fixture.host, cluster_unit(registry_cluster(r), name));
                assert_true(alloc_has_failed());
                alloc_fail_at(0);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_reader_is_answered_or_disconnected, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        what_was_acknowledged_is_there_though_the_replica_had_no_memory, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        a_unit_returns_from_its_file_though_there_was_no_memory_to_compare_them, setup,
                        teardown),
        };

        signal(SIGPIPE, SIG_IGN);
        log_set_max_priority(LOG_EMERG);
        return cmocka_run_group_tests(tests, NULL, NULL);
}

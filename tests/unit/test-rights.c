/* Rights in the daemon's API, by requests on the listeners of one host, with or without a replica. The users
 * of the socket are made up: their credentials are replaced. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/lib/test.h"
#include "base/clock.h"
#include "fleetd/api/api.h"
#include "fleetd/api/socket_access.h"
#include "fleetd/registry/rights.h"
#include "tests/lib/attached.h"
#include "tests/lib/scratch.h"
#include "tests/lib/size.h"
#include "units/json.h"

enum { GROUP = 4711, OTHER_GROUP = 4712, USER = 1000 };

static struct {
        uid_t uid;
        gid_t groups[4];
        size_t n;
} peer;

int __wrap_stream_peer_uid(const Stream *s, uid_t *ret);
int __wrap_stream_peer_groups(const Stream *s, gid_t **ret, size_t *ret_n);

int __wrap_stream_peer_uid(const Stream *s, uid_t *ret) {
        *ret = peer.uid;
        return 0;
}

int __wrap_stream_peer_groups(const Stream *s, gid_t **ret, size_t *ret_n) {
        *ret = malloc(sizeof(peer.groups));
        memcpy(*ret, peer.groups, sizeof(peer.groups));
        *ret_n = peer.n;
        return 0;
}

static bool reads_view; /* the cluster view is being read */

bool __real_registry_ready(const Registry *r);
bool __wrap_registry_ready(const Registry *r);
bool __wrap_registry_ready(const Registry *r) {
        return !reads_view && __real_registry_ready(r);
}

typedef struct Fixture {
        Host *host;         /* with a replica */
        Attached *attached; /* NULL: the listeners are those of 'host' */
        Api *replica_api;   /* with it: of 'host', which gets its requests */
        Api *api;
        char *socket, tcp[64];
} Fixture;

/* A connection, and what was received on it. */
typedef struct Client {
        Fixture *fixture;
        int fd;
        Text in;
        bool closed;
        unsigned status; /* of the last answer */
        char *body;
} Client;

static void grant(Fixture *f, const char *text) {
        ComponentHost *host = f->attached ? &f->attached->components : &f->host->components;
        Settings *settings = f->attached ? &f->attached->settings : &f->host->settings;

        settings->local_rights = (Names) { .items = (char *[]) { (char *) text }, .n = text[0] ? 1 : 0 };
        assert_int_equal(api_reload(host, f->api, settings), 0);
        settings->local_rights = (Names) {};
}

static Api *api_on(ComponentHost *host) {
        Api *api;

        assert_int_equal(api_new(&api, host), 0);
        return api;
}

static int setup_on(void **state, bool attached) {
        Fixture *f = NEW0(Fixture, 1);
        Error err = {};

        peer.uid = USER;
        peer.groups[0] = 100;
        peer.groups[1] = GROUP;
        peer.n = 2;
        f->host = host_new(false);
        f->socket = scratch_path(f->host->scratch, "socket");
        if (attached) {
                f->attached = attached_new(f->host);
                f->replica_api = api_on(&f->host->components);
        }
        f->api = api_on(f->attached ? &f->attached->components : &f->host->components);
        snprintf(f->tcp, sizeof(f->tcp), "127.0.0.1:%d", scratch_port());
        if (api_listen(f->api, API_SOCKET, f->socket, &err) < 0 ||
            api_listen(f->api, API_LOOPBACK, f->tcp, &err) < 0)
                fail_msg("%s", err.message);
        *state = f;
        return 0;
}

static int setup(void **state) {
        return setup_on(state, false);
}

static int setup_attached(void **state) {
        return setup_on(state, true);
}

static int teardown(void **state) {
        Fixture *f = *state;

        api_free(f->api);
        if (f->attached) {
                api_free(f->replica_api);
                attached_free(f->attached);
        }
        host_free(f->host);
        free(f->socket);
        free(f);
        return 0;
}

/* -- Clients -- */

static void stop(void *userdata) {
        loop_uv_stop(userdata);
}

/* Run one turn of the loop, without waiting: host_turn() takes a millisecond. */
#define UNTIL(f, expression)                                                   \
        for (uint64_t end_ms = clock_monotonic_ms() + 20000; !(expression);) { \
                Deferred deferred = DEFERRED(stop, (f)->host->uv);             \
                                                                               \
                loop_defer((f)->host->loop, &deferred);                        \
                assert_true(loop_uv_run((f)->host->uv) >= 0);                  \
                assert_true(clock_monotonic_ms() < end_ms);                    \
        }

static void client_open(Client *c, Fixture *f, ApiListener listener) {
        struct sockaddr_un local = { .sun_family = AF_UNIX };
        struct sockaddr_in dialed = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        bool is_local = listener == API_SOCKET;

        *c = (Client) { .fixture = f };
        snprintf(local.sun_path, sizeof(local.sun_path), "%s", f->socket);
        dialed.sin_port = htons((uint16_t) atoi(strchr(f->tcp, ':') + 1));
        c->fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(c->fd, is_local ? (struct sockaddr *) &local : (struct sockaddr *) &dialed,
                                 is_local ? sizeof(local) : sizeof(dialed)),
                         0);
        assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
}

static void client_close(Client *c) {
        close(c->fd);
        text_done(&c->in);
        free(c->body);
}

static void client_read(Client *c) {
        char bytes[65536];
        ssize_t n;

        while ((n = recv(c->fd, bytes, sizeof(bytes), 0)) > 0)
                text_append_bytes(&c->in, bytes, (size_t) n);
        c->closed |= n == 0;
}

static void client_send(Client *c, const char *method, const char *target, const char *type,
                        const char *body) {
        _cleanup_text_ Text t = {};

        text_printf(&t,
                    "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                    method, target, type, strlen(body), body);
        assert_int_equal(send(c->fd, t.chars, t.size, 0), t.size);
}

/* Return whether an answer with its length is complete; take it then. */
static bool client_takes(Client *c) {
        const char *end, *length;
        size_t size;

        client_read(c);
        end = c->in.size > 0 ? strstr(c->in.chars, "\r\n\r\n") : NULL;
        if (!end)
                return false;
        (void) sscanf(c->in.chars, "HTTP/1.1 %u", &c->status);
        length = strcasestr(c->in.chars, "Content-Length: ");
        size = (size_t) (end + 4 - c->in.chars);
        if (length && length < end)
                size += (size_t) strtoul(length + 16, NULL, 10);
        if (c->in.size < size)
                return false;
        free(c->body);
        c->body = strndup(end + 4, size - (size_t) (end + 4 - c->in.chars));
        memmove(c->in.chars, c->in.chars + size, c->in.size - size + 1);
        c->in.size -= size;
        return true;
}

static unsigned ask(Client *c, const char *method, const char *target, const char *type, const char *body) {
        client_send(c, method, target, type, body);
        UNTIL(c->fixture, client_takes(c));
        return c->status;
}

#define FORM           "application/x-www-form-urlencoded"
#define JSON           "application/json"
#define get(c, target) ask(c, "GET", target, "text/plain", "")

/* -- The rights of one user, stated again for the comparison: reads /a/b and /c, writes /c/d -- */

static const char rights[] = "4711:keys-read:/a/b,keys-read:/c,keys-write:/c/d";

static bool is_at_or_below(const char *key, const char *prefix) {
        size_t n = strlen(prefix);

        return strncmp(key, prefix, n) == 0 && (key[n] == 0 || key[n] == '/');
}

static bool may_read(const char *key) {
        return is_at_or_below(key, "/a/b") || is_at_or_below(key, "/c");
}

static bool may_write(const char *key) {
        return is_at_or_below(key, "/c/d");
}

static bool sees(const char *key, bool dir) {
        return may_read(key) || (dir && (streq(key, "/a") || streq(key, "/")));
}

/* -- Comparison -- */

static uint32_t seed = 1;

static unsigned pick(unsigned n) {
        seed = seed * 1664525 + 1013904223;
        return (seed >> 8) % n;
}

static const char *random_key(char ret[static 32]) {
        static const char *const parts[] = { "a", "b", "c", "d", "_e" };
        unsigned depth = 1 + pick(4);

        ret[0] = 0;
        for (unsigned i = 0; i < depth; i++)
                snprintf(ret + strlen(ret), 32 - strlen(ret), "/%s", parts[pick(i == 0 ? 3 : 5)]);
        return ret;
}

/* The nodes of a list, "KEY dir" or "KEY=value@index" in lines. */
static void add_nodes(Text *t, const JsonValue *nodes, bool limited) {
        for (size_t i = 0; i < json_value_count(nodes); i++) {
                const JsonValue *node = json_value_item(nodes, i);
                const char *key = "", *value = "";
                uint64_t modified = 0;
                bool dir = false;

                assert_int_equal(json_read_string(node, "key", &key, NULL), 0);
                assert_int_equal(json_read_string(node, "value", &value, NULL), 0);
                assert_int_equal(json_read_u64(node, "modifiedIndex", &modified, NULL), 0);
                assert_int_equal(json_read_bool(node, "dir", &dir, NULL), 0);
                if (!limited || sees(key, dir))
                        text_printf(t, "%s %s=%s@%llu\n", key, dir ? "dir" : "", value,
                                    (unsigned long long) modified);
        }
}

/* Return the whole tree as this client lists it; 'limited': as the user would have to see it. */
static char *list_all(Client *c, bool limited) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text t = {};

        assert_int_equal(get(c, "/fleet/v1/kv/list?prefix=/&limit=10000"), 200);
        assert_int_equal(json_value_parse(c->body, strlen(c->body), &root, NULL), 0);
        add_nodes(&t, json_value_member(root, "nodes"), limited);
        return text_take(&t, NULL);
}

/* Add "KEY\n" for each node of an answer of v2, which has its keys in order. */
static void add_keys(Text *t, const char *body, bool limited) {
        for (const char *p = strstr(body, "\"key\":\""); p; p = strstr(p, "\"key\":\"")) {
                size_t n = strcspn(p += 7, "\"");
                _cleanup_free_ char *key = strndup(p, n);
                bool dir = strncmp(p + n, "\",\"dir\":true", 12) == 0;

                if (!limited || sees(key, dir))
                        text_printf(t, "%s\n", key);
        }
}

static void compare_get(Client *all, Client *user, const char *key) {
        _cleanup_text_ Text expected = {}, found = {};
        unsigned status, expected_status;
        char target[64], file[32];
        const char *cause;
        bool visible;

        snprintf(target, sizeof(target), "/v2/keys%s?recursive=true&sorted=true", key);
        status = get(all, target);
        visible = status == 200 && sees(key, strstr(all->body, "\"dir\":true"));
        if (status == 400) { /* a file is in the way */
                cause = strstr(all->body, "\"cause\":\"") + 9;
                snprintf(file, sizeof(file), "%.*s", (int) strcspn(cause, "\""), cause);
                expected_status = may_read(file) ? 400 : 404;
        } else
                expected_status = visible ? 200 : 404;
        if (get(user, target) != expected_status)
                fail_msg("%s: %u %s", target, user->status, user->body);
        if (!visible) {
                assert_non_null(
                        strstr(user->body, user->status == 400 ? "\"errorCode\":104" : "\"errorCode\":100"));
                return;
        }
        add_keys(&expected, all->body, true);
        add_keys(&found, user->body, false);
        assert_string_equal(found.chars ?: "", expected.chars ?: "");
        if (streq(key, "/"))
                return;
        snprintf(target, sizeof(target), "/fleet/v1/kv/value%s", key);
        assert_int_equal(get(all, target), get(user, target));
        assert_string_equal(all->body, user->body);
}

/* -- Random commands -- */

/* Send a random command of one key; return whether the user may send it. */
static bool random_write(Client *c) {
        char key[32], target[128], body[32];

        random_key(key);
        snprintf(body, sizeof(body), "value=%u", pick(3));
        switch (pick(6)) {
        case 0:
                snprintf(target, sizeof(target), "/v2/keys%s?dir=true&recursive=true", key);
                (void) ask(c, "DELETE", target, FORM, "");
                break;
        case 1:
                snprintf(target, sizeof(target), "/v2/keys%s?dir=true", key);
                (void) ask(c, "PUT", target, FORM, "");
                break;
        case 2:
                snprintf(target, sizeof(target), "/v2/keys%s?prevValue=%u", key, pick(3));
                (void) ask(c, pick(2) ? "PUT" : "DELETE", target, FORM, body);
                break;
        case 3:
                snprintf(target, sizeof(target), "/v2/keys%s", key);
                (void) ask(c, "POST", target, FORM, body);
                break;
        case 4:
                snprintf(target, sizeof(target), "/fleet/v1/kv/value%s", key);
                (void) ask(c, "PUT", target, "application/octet-stream", "1");
                break;
        default:
                snprintf(target, sizeof(target), "/v2/keys%s", key);
                (void) ask(c, "PUT", target, FORM, body);
        }
        return may_write(key);
}

/* A transaction with checks of any keys. In the user's tree, those that it may not read are absent. */
static bool random_transaction(Client *c, Client *all) {
        char checked[32], written[32], body[256], target[64];
        bool exists = pick(2), there, allowed;

        random_key(checked);
        random_key(written);
        allowed = may_write(written);
        snprintf(target, sizeof(target), "/v2/keys%s", checked);
        there = get(all, target) == 200 && may_read(checked);
        snprintf(body, sizeof(body),
                 "{\"checks\":[{\"key\":\"%s\",\"exists\":%s}],"
                 "\"writes\":[{\"action\":\"set\",\"key\":\"%s\",\"value\":\"t\"}]}",
                 checked, exists ? "true" : "false", written);
        (void) ask(c, "POST", "/fleet/v1/kv/txn", JSON, body);
        if (allowed && there != exists) {
                assert_int_equal(c->status, 412);
                assert_non_null(strstr(c->body, exists ? "does not exist" : "the key exists"));
        } else if (allowed && c->status == 412)
                fail_msg("%s: %s", body, c->body);
        return allowed;
}

/* Compare the changes that the user received with those of all changes that it may see. */
static void compare_changes(Client *all, Client *user) {
        char *line, *prev, *save = NULL, *other = NULL, *their_line = NULL;

        if (user->in.size > 0)
                their_line = strtok_r(user->in.chars, "\n", &other);
        for (line = strtok_r(all->in.chars, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_text_ Text key = {};
                const char *name = "";
                bool dir = false;

                if (!starts_with(line, "{\"action\""))
                        continue;
                assert_int_equal(json_value_parse(line, strlen(line), &root, NULL), 0);
                (void) json_read_string(json_value_member(root, "node"), "key", &name, NULL);
                (void) json_read_bool(json_value_member(root, "node"), "dir", &dir, NULL);
                if (!sees(name, dir))
                        continue;
                while (their_line && !starts_with(their_line, "{\"action\""))
                        their_line = strtok_r(NULL, "\n", &other);
                if (!their_line)
                        fail_msg("not received: %s", line);
                prev = strstr(line, ",\"prevNode\"");
                if (streq(name, "/a") && prev && !strstr(prev, "\"dir\":true")) {
                        *prev = 0; /* it was a file, of which the user knows nothing */
                        assert_null(strstr(their_line, "prevNode"));
                }
                if (strncmp(line, their_line, strlen(line)) != 0)
                        fail_msg("received %s\ninstead of %s", their_line, line);
                their_line = strtok_r(NULL, "\n", &other);
        }
        while (their_line && !starts_with(their_line, "{\"action\""))
                their_line = strtok_r(NULL, "\n", &other);
        if (their_line)
                fail_msg("received, too: %s", their_line);
        text_clear(&all->in);
        text_clear(&user->in);
}

static uint64_t index_of(Client *c) {
        _cleanup_json_ JsonValue *root = NULL;
        uint64_t index = 0;

        assert_int_equal(get(c, "/fleet/v1/kv/list?prefix=/none"), 200);
        assert_int_equal(json_value_parse(c->body, strlen(c->body), &root, NULL), 0);
        assert_int_equal(json_read_u64(root, "index", &index, NULL), 0);
        return index;
}

/* A write that both streams report is behind all earlier ones. */
static void catch_up(Client *all, Client *everything, Client *user) {
        char mark[32];

        (void) ask(all, "DELETE", "/v2/keys/c?recursive=true", FORM, ""); /* it may be a file */
        assert_true(ask(all, "PUT", "/v2/keys/c/mark", FORM, "value=1") < 300);
        snprintf(mark, sizeof(mark), "\"index\":%llu,", (unsigned long long) index_of(all));
        UNTIL(all->fixture, (client_read(everything), client_read(user),
                             everything->in.size > 0 && strstr(everything->in.chars, mark) &&
                                     user->in.size > 0 && strstr(user->in.chars, mark)));
}

static bool is_denied(const Client *c) {
        return (c->status == 401 && strstr(c->body, "\"errorCode\":110")) ||
               (c->status == 403 && strstr(c->body, "has no right"));
}

static void a_user_has_a_tree_without_the_keys_that_it_may_not_see(void **state) {
        const unsigned commands = test_size(600, 5000, 100000);
        static const char changes[] = "/fleet/v1/kv/changes?prefix=/&progress=0";
        Client all, user, everything, theirs;
        unsigned denied = 0;
        Fixture *f = *state;

        grant(f, rights);
        client_open(&all, f, API_LOOPBACK);
        client_open(&everything, f, API_LOOPBACK);
        client_open(&user, f, API_SOCKET);
        client_open(&theirs, f, API_SOCKET);
        client_send(&everything, "GET", changes, "text/plain", "");
        client_send(&theirs, "GET", changes, "text/plain", "");
        UNTIL(f,
              (client_read(&everything), client_read(&theirs), everything.in.size > 0 && theirs.in.size > 0));
        for (unsigned i = 0; i < commands; i++) {
                bool by_user = pick(3) == 0;
                char key[32];

                if (!by_user)
                        (void) random_write(&all);
                else {
                        _cleanup_free_ char *before = list_all(&all, false), *after = NULL;
                        bool allowed = pick(2) ? random_write(&user) : random_transaction(&user, &all);

                        after = list_all(&all, false);
                        assert_int_equal(allowed, !is_denied(&user));
                        if (!allowed)
                                assert_string_equal(before, after);
                        denied += !allowed;
                }
                compare_get(&all, &user, pick(8) ? random_key(key) : "/");
                if (i % 8 == 0) {
                        _cleanup_free_ char *expected = list_all(&all, true), *found = list_all(&user, false);

                        assert_string_equal(found, expected);
                }
                if (i % 200 == 199) {
                        catch_up(&all, &everything, &theirs);
                        compare_changes(&everything, &theirs);
                }
        }
        assert_in_range(denied, commands / 10, commands);
        print_message("%u commands, %u of them denied: the user reads, lists and watches a tree without the "
                      "keys that it may not see\n",
                      commands, denied);
        client_close(&all);
        client_close(&user);
        client_close(&everything);
        client_close(&theirs);
}

/* -- Rights that end -- */

static void a_lost_right_ends_open_watches_and_streams(void **state) {
        static const struct {
                const char *target, *says;
                bool forwarded; /* without a replica: then it is cut */
                bool loopback;  /* of a local user without rights at the socket */
        } rows[] = {
                { "/v2/keys/a?wait=true&recursive=true", "\"errorCode\":110", .loopback = true },
                { "/v2/keys/a/b/c?wait=true", "\"errorCode\":110" },
                { "/v2/keys/a/b?wait=true&recursive=true&stream=true", "\"errorCode\":110" },
                { "/fleet/v1/kv/changes?prefix=/a/b", "the right to these changes has ended" },
                { "/fleet/v1/events", "" },
                { "/fleet/v1/events?details=true", "the right to these changes has ended", true },
                { "/fleet/v1/history?follow=true", "" },
        };
        Client clients[ELEMENTS(rows)];
        Fixture *f = *state;

        peer.uid = 0;
        client_open(&clients[0], f, API_SOCKET);
        if (!f->attached)
                assert_int_equal(ask(&clients[0], "PUT", "/fleet/v1/cluster/level", JSON, "{\"level\":4}"),
                                 204);
        client_close(&clients[0]);
        peer.uid = USER;
        grant(f, "4711:keys-read:/a/b,keys-read:/c,units-see");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                client_open(&clients[i], f, rows[i].loopback ? API_LOOPBACK : API_SOCKET);
                client_send(&clients[i], "GET", rows[i].target, "text/plain", "");
                UNTIL(f, (client_read(&clients[i]),
                          clients[i].in.size > 0 && strstr(clients[i].in.chars, "\r\n\r\n")));
                if (!starts_with(clients[i].in.chars, "HTTP/1.1 200"))
                        fail_msg("%s: %s", rows[i].target, clients[i].in.chars);
        }
        f->host->settings.client_access = CLIENT_CLOSED;
        if (f->attached)
                f->attached->settings.client_access = CLIENT_CLOSED;
        grant(f, "4711:keys-read:/c");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                UNTIL(f, (client_read(&clients[i]),
                          clients[i].closed || strstr(clients[i].in.chars, "\r\n0\r\n")));
                if (!strstr(clients[i].in.chars, rows[i].says) && !(f->attached && rows[i].forwarded))
                        fail_msg("%s: %s", rows[i].target, clients[i].in.chars);
                client_close(&clients[i]);
        }
        client_open(&clients[0], f, API_LOOPBACK);
        assert_int_equal(get(&clients[0], "/v2/keys/c"), 403);
        client_close(&clients[0]);
}

static void a_group_has_the_rights_that_are_granted_to_it(void **state) {
        static const struct {
                const char *rights, *method, *target;
                unsigned status;
        } rows[] = {
                { "", "GET", "/fleet/v1/units", 403 },
                { "", "GET", "/v2/keys/a", 401 },
                { "", "GET", "/fleet/v1/kv/list?prefix=/", 403 },
                { "", "GET", "/version", 200 },
                { "4711:units-see", "GET", "/fleet/v1/units", 200 },
                { "4711:units-see", "GET", "/fleet/v1/kv/list?prefix=/_fleet", 403 },
                { "4711:units-see", "DELETE", "/fleet/v1/units/a.service", 403 },
                { "4711:units-change", "DELETE", "/fleet/v1/units/a.service", 404 },
                { "4711:units-change,units-see", "DELETE", "/fleet/v1/cluster/adopting", 403 },
                { "4711:keys-read:/", "GET", "/v2/keys/a", 404 },
                { "4711:keys-read:/", "GET", "/v2/keys/_fleet", 404 },
                { "4711:keys-read:/", "PUT", "/v2/keys/a?value=1", 401 },
                { "4711:keys-write:/", "PUT", "/v2/keys/a?value=1", 201 },
                { "4711:keys-write:/", "PUT", "/v2/keys/_fleet/a?value=1", 401 },
                { "4712:keys-write:/", "GET", "/v2/keys/a", 401 },
                /* Units of the host itself are not the cluster's to show. */
                { "4711:units-see", "GET", "/fleet/v1/show/own.service?machine=", 404 },
                { "4711:units-see", "GET", "/fleet/v1/journal/own.service?machine=", 404 },
                { "4711:units-see,units-change", "GET", "/fleet/v1/show/own.service?machine=", 200 },
        };
        _cleanup_(client_close) Client c;
        Fixture *f = *state;

        host_machine(f->host);
        client_open(&c, f, API_SOCKET);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char target[128];

                if (f->attached && strstr(rows[i].target, "?machine=")) /* not in its slice */
                        continue;
                snprintf(target, sizeof(target), "%s%s", rows[i].target,
                         strstr(rows[i].target, "?machine=") ? f->host->id : "");
                grant(f, rows[i].rights);
                if (ask(&c, rows[i].method, target, FORM, "") != rows[i].status)
                        fail_msg("%s: %s %s: %u %s", rows[i].rights, rows[i].method, target, c.status,
                                 c.body);
                assert_null(strstr(c.body, "local:1000")); /* but "user NAME" */
        }
        peer.uid = 0; /* root */
        assert_int_equal(get(&c, "/fleet/v1/units"), 200);
}

#define BYTES "application/octet-stream"

/* A host that has just started does not know the keys that units read. It may be the leader soon. */
static void without_a_cluster_view_a_host_takes_keys_from_senders_with_a_right_only(void **state) {
        static const struct {
                ApiListener listener;
                const char *target;
                unsigned ready, reading;
        } rows[] = {
                { API_LOOPBACK, "/v2/keys/a?value=1", 200, 500 },
                { API_LOOPBACK, "/fleet/v1/kv/value/a", 200, 503 },
                { API_SOCKET, "/v2/keys/a?value=1", 200, 200 },
                { API_SOCKET, "/fleet/v1/kv/value/a", 200, 200 },
        };
        Fixture *f = *state;

        host_machine(f->host);
        host_raise(f->host, KV_LEVEL_INPUTS);
        UNTIL(f, registry_cluster((f->attached ? &f->attached->components : &f->host->components)->registry)
                                 ->level == KV_LEVEL_INPUTS);
        grant(f, "4711:keys-write:/");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(client_close) Client c;

                client_open(&c, f, rows[i].listener);
                (void) ask(&c, "PUT", rows[i].target, BYTES, "1");
                assert_int_equal(ask(&c, "PUT", rows[i].target, BYTES, "1"), rows[i].ready);
                reads_view = true;
                (void) ask(&c, "PUT", rows[i].target, BYTES, "2");
                reads_view = false;
                if (c.status != rows[i].reading)
                        fail_msg("%s: %u %s", rows[i].target, c.status, c.body);
        }
}

static void set_host(Fixture *f, const char *value) {
        KvCommand write = { .op = KV_SET, .internal = true, .value = kv_string(value) };
        char key[128];

        snprintf(key, sizeof(key), "/_fleet/cluster/host/%s", f->attached ? f->attached->id : f->host->id);
        write.key = kv_string(key);
        assert_int_equal(host_wait(f->host, registry_propose(f->host->registry,
                                                             &(KvCommand) { .op = KV_TXN,
                                                                            .internal = true,
                                                                            .writes = &write,
                                                                            .n_writes = 1 },
                                                             host_on_done, f->host)),
                         KV_OK);
}

/* The registry reports the key of the host; the review of all requests follows in the same turn. */
static void a_host_that_becomes_restricted_ends_what_its_clients_may_no_longer_do(void **state) {
#define LIMITED                                                                                          \
        "{\"joined\":1,\"pins\":[\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"]," \
        "\"restricted\":true"
        Client stream, writer;
        Fixture *f = *state;

        client_open(&stream, f, API_LOOPBACK);
        client_open(&writer, f, API_LOOPBACK);
        assert_int_equal(ask(&writer, "PUT", "/v2/keys/a?value=1", FORM, ""), 201);
        client_send(&stream, "GET", "/v2/keys/a?wait=true&stream=true", "text/plain", "");
        UNTIL(f, (client_read(&stream), stream.in.size > 0));

        set_host(f, LIMITED "}");
        UNTIL(f, (client_read(&stream), strstr(stream.in.chars, "\r\n0\r\n")));
        assert_non_null(strstr(stream.in.chars, "\"errorCode\":110"));
        assert_int_equal(get(&writer, "/v2/keys/a"), 200);
        assert_int_equal(ask(&writer, "PUT", "/v2/keys/a?value=2", FORM, ""), 403);
        assert_non_null(strstr(writer.body, "this host is restricted"));

        set_host(f, LIMITED ",\"write\":\"/b\"}");
        UNTIL(f, ask(&writer, "PUT", "/v2/keys/b?value=2", FORM, "") == 201);
        assert_int_equal(ask(&writer, "PUT", "/v2/keys/a?value=2", FORM, ""), 401);
        assert_int_equal(get(&writer, "/v2/keys/a"), 200);
        client_close(&stream);
        client_close(&writer);
}

/* Return 0 or the errno with which a user of this group connects to the socket. */
static int connect_as(const char *path, gid_t group) {
        _cleanup_free_ char *folder = strndup(path, (size_t) (strrchr(path, '/') - path));
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

                /* By a relative path: folders above may be closed for others. */
                snprintf(a.sun_path, sizeof(a.sun_path), "%s", strrchr(path, '/') + 1);
                if (chdir(folder) < 0 || setgroups(1, &group) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
                        _exit(255);
                _exit(connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0 ? errno : 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void the_kernel_admits_the_groups_that_have_rights(void **state) {
        Fixture *f = *state;

        if (geteuid() != 0)
                skip();
        assert_int_equal(chmod(f->host->scratch, 0711), 0);
        assert_int_equal(connect_as(f->socket, GROUP), EACCES);
        grant(f, "4711:units-see");
        assert_int_equal(connect_as(f->socket, GROUP), 0);
        assert_int_equal(connect_as(f->socket, OTHER_GROUP), EACCES);
        grant(f, "4712:units-see");
        assert_int_equal(connect_as(f->socket, GROUP), EACCES);
        assert_int_equal(connect_as(f->socket, OTHER_GROUP), 0);
        grant(f, "");
        assert_int_equal(connect_as(f->socket, OTHER_GROUP), EACCES);
        assert_int_equal(socket_admit("/nowhere", (uint32_t[]) { GROUP }, 1), -ENOENT);
}

static void connections_of_groups_take_none_of_operators(void **state) {
        enum { LIMIT = 16 };
        Client clients[LIMIT], operator;
        Fixture *f = *state;

        f->host->settings.http.connections = LIMIT;
        grant(f, "4711:units-see");
        for (size_t i = 0; i < LIMIT; i++) {
                client_open(&clients[i], f, API_SOCKET);
                assert_int_equal(get(&clients[i], "/fleet/v1/units"), 200);
        }
        peer.uid = 0;
        client_open(&operator, f, API_SOCKET);
        assert_int_equal(get(&operator, "/fleet/v1/units"), 200);
        client_close(&operator);
        for (size_t i = 0; i < LIMIT; i++)
                client_close(&clients[i]);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
#define TEST(f)       cmocka_unit_test_setup_teardown(f, setup, teardown)
#define ATTACHED(f)   { #f "_without_a_replica", f, setup_attached, teardown, NULL }
#define EACH_STORE(f) TEST(f), ATTACHED(f)
                EACH_STORE(a_user_has_a_tree_without_the_keys_that_it_may_not_see),
                EACH_STORE(a_lost_right_ends_open_watches_and_streams),
                EACH_STORE(a_host_that_becomes_restricted_ends_what_its_clients_may_no_longer_do),
                EACH_STORE(a_group_has_the_rights_that_are_granted_to_it),
                EACH_STORE(without_a_cluster_view_a_host_takes_keys_from_senders_with_a_right_only),
                TEST(the_kernel_admits_the_groups_that_have_rights),
                TEST(connections_of_groups_take_none_of_operators),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}

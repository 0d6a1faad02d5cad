/* One request to fleet's API, with any path, query and JSON: through the socket into a real host, in virtual
 * time.
 *
 * The first byte chooses method and listener; up to a newline comes the target, then the body. Each
 * request is answered once, or waits. A rejected request gets a message, and changes nothing. The cluster
 * view then has what a patch of metadata sets. */

#include "base/log.h"
#include "io/child_uv.h"
#include "tests/lib/quiet_peer.h"
#include "units/api_json.h"
#include "units/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { INPUTS_MAX = 2000 }; /* of one host: bounds the state that they leave */

static QuietPeer *host;

static void host_forget(void) {
        host = host ? quiet_peer_free(host) : NULL;
}

/* Run no program. */
int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err);
int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err) {
        size_t n = 0;

        while (argv[n])
                n++;
        assert(n > 1 &&
               unit_name_check(argv[n - 1], NULL) == 0); /* the unit is the last argument, and no option */
        return error_set(err, -EAGAIN, "no tool is run here");
}

static const uint8_t *body_of(const Writer *answer, size_t *ret_size) {
        const uint8_t *end = memmem(answer->bytes, answer->size, "\r\n\r\n", 4);

        *ret_size = end ? answer->size - (end + 4 - answer->bytes) : 0;
        return end ? end + 4 : answer->bytes;
}

/* fleet's form of an error, or that of /fleet/v1/kv, or v2's. */
static void assert_has_message(const Writer *answer) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *error;
        const char *message = NULL;
        const uint8_t *body;
        size_t size;

        body = body_of(answer, &size);
        if (json_value_parse((const char *) body, size, &root, NULL) < 0) {
                assert(size > 0); /* text, as from etcd */
                return;
        }
        error = json_value_member(root, "error");
        if (json_value_type(error) == JSON_VALUE_OBJECT) {
                uint64_t code = 0;

                assert(json_read_u64(error, "code", &code, NULL) == 0 && code > 0);
                message = json_value_string(json_value_member(error, "message"));
                assert(message);
        } else
                assert(json_value_string(json_value_member(root, "message")));
        assert(!message || !strchr(message, '\n'));
}

/* The machine has the values of the last operation on each key. */
static void patch_has_taken(const uint8_t *body, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        size_t n;

        assert(json_value_parse((const char *) body, size, &root, NULL) == 0);
        n = json_value_count(root);
        for (size_t i = n; i > 0; i--) {
                const JsonValue *operation = json_value_item(root, i - 1),
                                *value = json_value_member(operation, "value");
                const char *path = json_value_string(json_value_member(operation, "path"));
                bool removes = streq(json_value_string(json_value_member(operation, "op")), "remove"),
                     later = false;
                const ClusterMachine *m;
                char id[MACHINE_ID_SIZE];
                const char *found;

                for (size_t k = i; k < n; k++)
                        later |= streq(json_value_string(json_value_member(json_value_item(root, k), "path")),
                                       path);
                snprintf(id, sizeof(id), "%s", path + 1);
                if (later || !machine_id_is_valid(id) || path[MACHINE_ID_SIZE] != '/' ||
                    (!removes && !json_value_string(value)))
                        continue;
                m = cluster_machine(registry_cluster(host->registry), id);
                found = m ? pairs_get(&m->set, strchr(path + MACHINE_ID_SIZE + 1, '/') + 1) : NULL;
                assert(found && streq(found, removes ? "" : json_value_string(value)));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static const char *const methods[] = {
                "GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "PATCH", "PUT"
        };
        static unsigned n_inputs;
        const uint8_t *newline, *body;
        _cleanup_text_ Text request = {};
        size_t target_size, body_size;
        const Writer *answer;
        unsigned status = 0;
        const char *method;
        uint64_t before;
        ApiListener listener;

        newline = size > 1 ? memchr(bytes + 1, '\n', size - 1) : NULL;
        if (!newline || newline == bytes + 1 || newline - bytes > 4000)
                return 0;
        if (host && n_inputs++ % INPUTS_MAX == 0)
                host_forget();
        if (!host) {
                static bool registered;

                if (!registered)
                        (void) atexit(host_forget);
                registered = true;
                log_set_max_priority(LOG_EMERG);
                host = quiet_peer_new(false);
        }

        method = methods[bytes[0] & 7];
        listener = bytes[0] & 8 ? API_LOOPBACK : API_SOCKET;
        target_size = newline - bytes - 1;
        body = newline + 1;
        body_size = size - target_size - 2;
        text_printf(&request, "%s ", method);
        for (size_t i = 0; i < target_size; i++)
                if (bytes[1 + i] <= ' ' || bytes[1 + i] >= 0x7f)
                        text_printf(&request, "%%%02x", bytes[1 + i]);
                else
                        text_append_char(&request, bytes[1 + i]);
        text_printf(&request,
                    " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
                    "%zu\r\n\r\n",
                    body_size);
        text_append_bytes(&request, body, body_size);
        assert(request.error == 0);

        quiet_peer_run(host);
        before = kv_index(host->store);
        answer = quiet_peer_request(host, listener, request.chars, request.size);
        if (answer->size > 0)
                assert(sscanf((const char *) answer->bytes, "HTTP/1.1 %u", &status) == 1 && status >= 200 &&
                       status < 600);
        if (status >= 400) {
                if (!streq(method, "HEAD") &&
                    bytes[1] == '/') /* what is no path is refused as by etcd, without a word */
                        assert_has_message(answer);
                assert(kv_index(host->store) == before);
        }
        if (streq(method, "PATCH") && status == 204)
                patch_has_taken(body, body_size);
        quiet_peer_leave(host);
        return 0;
}

/* Secrets on a real host: seals and their context, routes, a change of the cluster key, keys that are lost.
 */
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/lib/test.h"
#include "base/base64.h"
#include "base/log.h"
#include "fleetd/features/inputs/inputs_internal.h"
#include "fleetd/identity/authority.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"

#define VALUE   "hunter2 hunter2"
#define ENCODED "aHVudGVyMiBodW50ZXIy" /* in base64 */

static const Component tested = { "inputs",
                                  .routes = secrets_routes,
                                  .n_routes = SECRETS_ROUTES,
                                  .write_why = inputs_write_why,
                                  .problems = inputs_problems,
                                  .reseal = secrets_reseal };
static const Component *const with_secrets[] = { &tested, NULL };

typedef struct Fixture {
        Host *host;
        Authority *authority;
        Api *api;
        Inputs inputs;
        void *selves[1];
        Timer tick;
        char *socket, *answer;
        Text logged;
} Fixture;

static const Cluster *view(const Fixture *f) {
        return registry_cluster(f->host->registry);
}

static void on_tick(void *userdata) {
        Fixture *f = userdata;

        authority_tick(f->authority);
        assert_int_equal(timer_start(&f->tick, f->host->loop, 20), 0);
}

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        text_printf(userdata, "%s\n", message);
}

static void open_at(Fixture *f, unsigned level) {
        Error err = {};

        f->host = host_new(false);
        host_machine(f->host);
        f->socket = scratch_path(f->host->scratch, "socket");
        assert_int_equal(authority_new(&f->authority, &f->host->components), 0);
        f->inputs.host = &f->host->components;
        f->selves[0] = &f->inputs;
        f->host->components.components = with_secrets;
        f->host->components.selves = f->selves;
        f->host->components.authority = f->authority;
        assert_int_equal(api_new(&f->api, &f->host->components), 0);
        assert_int_equal(api_listen(f->api, API_SOCKET, f->socket, &err), 0);
        f->tick = TIMER(on_tick, f);
        on_tick(f);
        host_raise(f->host, level);
}

static int low_setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        log_set_sink(on_log, &f->logged);
        open_at(f, KV_LEVEL_INPUTS - 1);
        *state = f;
        return 0;
}

static int setup(void **state) {
        int r = low_setup(state);

        host_raise(((Fixture *) *state)->host, KV_LEVEL_INPUTS);
        return r;
}

static int teardown(void **state) {
        Fixture *f = *state;

        timer_stop(&f->tick);
        f->api = api_free(f->api);
        f->authority = authority_free(f->authority);
        host_free(f->host);
        log_set_sink(NULL, NULL);
        free(f->socket);
        free(f->answer);
        text_done(&f->logged);
        free(f);
        return 0;
}

/* -- Requests -- */

static unsigned ask(Fixture *f, const char *method, const char *target, const char *body) {
        _cleanup_text_ Text t = {};
        unsigned status = 0;

        text_printf(&t,
                    "%s %s HTTP/1.1\r\nHost: fleet\r\nContent-Type: application/json\r\n"
                    "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                    method, target, strlen(body), body);
        free(f->answer);
        f->answer = host_ask(f->host, f->socket, t.chars, t.size);
        (void) sscanf(f->answer, "HTTP/1.1 %u", &status);
        return status;
}

static void assert_says(const Fixture *f, const char *text) {
        if (!strstr(f->answer, text))
                fail_msg("'%s' is not in '%s'", text, f->answer);
}

static unsigned set_value(Fixture *f, const char *name, const char *value, const char *units) {
        _cleanup_text_ Text target = {}, body = {};

        text_printf(&target, "/fleet/v1/secrets/%s", name);
        text_printf(&body, "{%s%s%s\"value\":\"", units ? "\"units\":" : "", units ?: "", units ? "," : "");
        text_append_base64(&body, value, strlen(value), false);
        text_append(&body, "\"}");
        return ask(f, "PUT", target.chars, body.chars);
}

static void assert_opens(const Fixture *f, const char *name, const char *expected) {
        _cleanup_(secret_record_done) SecretRecord record = {};
        char *value = NULL;
        Error err = {};

        if (secret_open(&f->host->components, name, &record, &value, &err) != 0)
                fail_msg("%s: %s", name, err.message);
        assert_int_equal(record.size, strlen(expected));
        assert_memory_equal(value, expected, record.size);
        tls_secret_free(value, record.size);
}

/* Return the error, whose message does not have the value. */
static int open_fails(const Fixture *f, const char *name) {
        _cleanup_(secret_record_done) SecretRecord record = {};
        char *value = NULL;
        Error err = {};
        int r = secret_open(&f->host->components, name, &record, &value, &err);

        assert_true(r < 0);
        assert_null(value);
        assert_true(err.message[0]);
        assert_null(strstr(err.message, VALUE));
        return r;
}

/* Write a record as it is. */
static void write_record(Fixture *f, const char *name, const SecretRecord *record) {
        assert_int_equal(host_wait(f->host, secret_write(f->host->registry, name, record, "root",
                                                         host_on_done, f->host)),
                         KV_OK);
}

static int copy_record(void *userdata, const KvNode *node) {
        Error err = {};

        return stored_secret_read(node->value.data, node->value.size, userdata, &err);
}

static void read_record(const Fixture *f, const char *name, SecretRecord *ret) {
        char path[LAYOUT_KEY_MAX];

        assert_int_equal(kv_local_get(f->host->store, kv_string(layout_key(path, LAYOUT_SECRET, name, NULL)),
                                      copy_record, ret),
                         0);
}

static const SecretRecord *seen(const Fixture *f, const char *name) {
        const ClusterSecret *s = cluster_secret(view(f), name);

        assert_non_null(s);
        return &s->record;
}

static bool has_key(const Fixture *f, uint64_t number) {
        _cleanup_cluster_key_ ClusterKey key = {};

        return cluster_key_read(f->host->scratch, number, &key, NULL) >= 0;
}

/* -- Tests -- */

static void the_first_secret_makes_the_cluster_key_and_opens_no_listener(void **state) {
        Fixture *f = *state;

        assert_null(view(f)->ca_keys);
        assert_int_equal(set_value(f, "db-password", VALUE, NULL), 200);
        assert_says(f, "{\"name\":\"db-password\",\"size\":15,\"version\":1}");
        assert_int_equal(view(f)->ca_keys->items[0].cluster_key, 1);
        assert_true(has_key(f, 1));
        assert_string_equal(peers_self(f->host->peers)->address, "");
        assert_opens(f, "db-password", VALUE);
        assert_null(seen(f, "db-password")->sealed); /* it is in the store only */
}

static void a_version_follows_another_one_and_keeps_its_patterns(void **state) {
        Fixture *f = *state;

        assert_int_equal(ask(f, "GET", "/fleet/v1/secrets", ""), 200);
        assert_says(f, "{\"secrets\":[]}");
        assert_int_equal(set_value(f, "b", "one", "[\"shop*\",\"a.service\"]"), 200);
        assert_int_equal(set_value(f, "a.b_c", "x", NULL), 200);
        assert_int_equal(set_value(f, "b", "second", NULL), 200);
        assert_says(f, "\"version\":2");
        assert_int_equal(seen(f, "b")->n_units, 2);
        assert_true(secret_is_for(seen(f, "b"), "shop@1.container"));
        assert_false(secret_is_for(seen(f, "b"), "web.service"));
        assert_opens(f, "b", "second");
        assert_int_equal(ask(f, "GET", "/fleet/v1/secrets", ""), 200);
        assert_true(strstr(f->answer, "\"name\":\"a.b_c\"") < strstr(f->answer, "\"name\":\"b\""));
        assert_says(f, "\"size\":6,\"units\":[\"shop*\",\"a.service\"],\"version\":2}");
        assert_int_equal(set_value(f, "b", "third", "[\"*\"]"), 200);
        assert_true(secret_is_for(seen(f, "b"), "web.service"));
        assert_opens(f, "b", "third");

        assert_int_equal(ask(f, "DELETE", "/fleet/v1/secrets/b", ""), 204);
        assert_int_equal(ask(f, "DELETE", "/fleet/v1/secrets/b", ""), 404);
        assert_says(f, "secret b is not set");
        assert_int_equal(open_fails(f, "b"), -ENOENT);
        assert_int_equal(ask(f, "GET", "/fleet/v1/history", ""), 200);
        assert_says(f, "b version 1 set");
        assert_says(f, "b version 3 set");
        assert_says(f, "b removed");
}

static void what_cannot_be_a_secret_is_rejected(void **state) {
        static const struct {
                const char *name, *body, *message;
        } rows[] = {
                { "a", "{", "unable to decode body" },
                { "a", "[]", "unable to decode body" },
                { "a", "{}", "value: expected 1 byte to 64 KiB in base64" },
                { "a", "{\"value\":\"\"}", "value: expected 1 byte to 64 KiB in base64" },
                { "a", "{\"value\":7}", "value: expected" },
                { "a", "{\"value\":\"a b\"}", "value: expected" },
                { "-a", "{\"value\":\"YQ==\"}", "the name of a secret has 1 to 64" },
                { "a%20b", "{\"value\":\"YQ==\"}", "the name of a secret has" },
                { "a", "{\"units\":\"x\",\"value\":\"YQ==\"}",
                  "units: expected a list of at most 16 strings" },
                { "a", "{\"units\":[\"\"],\"value\":\"YQ==\"}", "units: an item is invalid" },
                { "a", "{\"units\":[\"a b\"],\"value\":\"YQ==\"}", "units: an item is invalid" },
                { "a", "{\"units\":[1],\"value\":\"YQ==\"}", "units: an item is invalid" },
        };
        Fixture *f = *state;
        char *large = malloc(SECRET_SIZE_MAX + 2);

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char target[64];

                snprintf(target, sizeof(target), "/fleet/v1/secrets/%s", rows[i].name);
                if (ask(f, "PUT", target, rows[i].body) != 400)
                        fail_msg("%s: %s", rows[i].body, f->answer);
                assert_says(f, rows[i].message);
        }
        assert_null(view(f)->secrets);
        memset(large, 'x', SECRET_SIZE_MAX + 1);
        large[SECRET_SIZE_MAX + 1] = 0;
        assert_int_equal(set_value(f, "a", large, NULL), 400);
        assert_says(f, "64 KiB");
        large[SECRET_SIZE_MAX] = 0;
        assert_int_equal(set_value(f, "a", large, NULL), 200);
        assert_opens(f, "a", large);
        free(large);
}

static void secrets_begin_at_their_feature_level(void **state) {
        Fixture *f = *state;

        assert_int_equal(set_value(f, "a", VALUE, NULL), 409);
        assert_says(f, "fleetctl cluster level 13");
        assert_int_equal(ask(f, "DELETE", "/fleet/v1/secrets/a", ""), 409);
        assert_null(view(f)->ca_keys);
        assert_int_equal(ask(f, "GET", "/fleet/v1/secrets", ""), 200);
}

/* A value is sealed for its cluster, name, version and patterns. */
static void a_seal_opens_in_its_place_only(void **state) {
        Fixture *f = *state;
        Fixture other = {};
        ClusterKey key = { .number = 7, .bytes = { 1, 2, 3 } }, wrong = { .number = 9, .bytes = { 3 } };
        _cleanup_(secret_record_done) SecretRecord record = {};
        Error err = {};
        char *whole;

        assert_int_equal(set_value(f, "a", VALUE, "[\"shop*\"]"), 200);
        read_record(f, "a", &record);
        f->host->components.components = NULL; /* none is sealed again, or marked as lost */
        write_record(f, "b", &record);         /* another name */
        assert_int_equal(open_fails(f, "b"), -EBADMSG);
        record.version++;
        write_record(f, "a", &record);
        assert_int_equal(open_fails(f, "a"), -EBADMSG);
        record.version--;
        write_record(f, "a", &record);
        assert_opens(f, "a", VALUE);
        snprintf(record.units[0], sizeof(*record.units), "*");
        write_record(f, "a", &record);
        assert_int_equal(open_fails(f, "a"), -EBADMSG);
        record.n_units = 0; /* the same for none, which is all */
        write_record(f, "a", &record);
        assert_int_equal(open_fails(f, "a"), -EBADMSG);
        record.n_units = 1;
        snprintf(record.units[0], sizeof(*record.units), "shop*");
        whole = record.sealed;
        record.sealed = strndup(whole, strlen(whole) - 4); /* cut */
        write_record(f, "a", &record);
        assert_int_equal(open_fails(f, "a"), -EBADMSG);
        free(record.sealed);
        record.sealed = whole;
        record.cluster_key = 8; /* which this host does not have */
        write_record(f, "a", &record);
        assert_int_equal(open_fails(f, "a"), -ENOKEY);
        assert_int_equal(cluster_key_write(f->host->scratch, &wrong, &err), 0);
        record.cluster_key = 9;
        write_record(f, "a", &record);
        assert_int_equal(open_fails(f, "a"), -EBADMSG);

        /* Another cluster that has the key; the record opens with it in its own. */
        assert_int_equal(cluster_key_write(f->host->scratch, &key, &err), 0);
        record = (SecretRecord) { .version = 1, .sealed = (free(record.sealed), free(record.units), NULL) };
        open_at(&other, KV_LEVEL_INPUTS);
        assert_int_equal(set_value(&other, "x", "x", NULL), 200); /* it has a CA */
        other.host->components.components = NULL;
        assert_int_equal(cluster_key_write(other.host->scratch, &key, &err), 0);
        {
                _cleanup_text_ Text context = {}, sealed = {}, text = {};
                KvState kv;
                size_t n;

                kv_state(f->host->store, &kv);
                text_printf(&context, "fleet-secret %016llx c 1", (unsigned long long) kv.cluster_id);
                assert_int_equal(seal(key.bytes, context.chars, context.size, VALUE, strlen(VALUE), &sealed),
                                 0);
                text_append_base64(&text, sealed.bytes, sealed.size, false);
                record.sealed = text_take(&text, &n);
        }
        record.cluster_key = key.number;
        record.size = strlen(VALUE);
        write_record(f, "c", &record);
        assert_opens(f, "c", VALUE);
        write_record(&other, "c", &record);
        assert_int_equal(open_fails(&other, "c"), -EBADMSG);
        timer_stop(&other.tick);
        api_free(other.api);
        authority_free(other.authority);
        host_free(other.host);
        free(other.socket);
        free(other.answer);
}

/* One of two sets that were decided on one view has no effect. */
static void the_second_of_two_sets_has_no_effect(void **state) {
        Fixture *f = *state;
        _cleanup_(secret_record_done) SecretRecord record = {};

        assert_int_equal(set_value(f, "a", VALUE, NULL), 200);
        read_record(f, "a", &record);
        record.version++;
        f->host->asked++;
        assert_int_equal(secret_write(f->host->registry, "a", &record, "root", host_on_done, f->host), 0);
        assert_int_equal(host_wait(f->host, secret_write(f->host->registry, "a", &record, "root",
                                                         host_on_done, f->host)),
                         KV_COMPARE_FAILED);
        assert_int_equal(set_value(f, "a", VALUE, NULL), 200);
        assert_says(f, "\"version\":3");
}

/* Members delete the former key: a seal of before the change may not be written after it. */
static void a_seal_with_a_former_key_is_not_written_after_its_change(void **state) {
        Fixture *f = *state;
        _cleanup_(secret_record_done) SecretRecord record = {};
        const CaKeys *keys;
        CaChange change;
        Error err = {};

        assert_int_equal(set_value(f, "a", VALUE, NULL), 200);
        read_record(f, "a", &record);
        keys = view(f)->ca_keys;
        change = (CaChange) { .keys = keys, .reason = "test" };
        f->host->asked++;
        assert_int_equal(registry_change_ca(f->host->registry, 0, &change, host_on_done, f->host), 0);
        assert_int_equal(host_wait(f->host, secret_write(f->host->registry, "b", &record, "root",
                                                         host_on_done, f->host)),
                         KV_COMPARE_FAILED);
        free(record.sealed);
        assert_int_equal(secret_seal(&f->host->components, "b", VALUE, strlen(VALUE), &record, &err), 0);
}

static bool all_sealed_with(const Fixture *f, uint64_t number) {
        for (const ClusterSecret *s = view(f)->secrets; s; s = s->hh.next)
                if (s->record.cluster_key != number)
                        return false;
        return view(f)->ca_keys->items[0].cluster_key == number;
}

static void a_change_of_the_cluster_key_seals_secrets_again(void **state) {
        Fixture *f = *state;
        char name[16];
        Error err = {};

        for (unsigned i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "s%u", i);
                assert_int_equal(set_value(f, name, VALUE, i % 2 ? "[\"a*\"]" : NULL), 200);
        }
        f->host->components.components = NULL; /* the former key stays for as long as a secret needs it */
        assert_int_equal(
                host_wait(f->host, authority_rekey(f->authority, "root", host_on_done, f->host, &err)),
                KV_OK);
        HOST_UNTIL(f->host, view(f)->ca_keys->items[0].cluster_key == 2);
        for (unsigned i = 0; i < 5; i++)
                authority_tick(f->authority);
        assert_true(has_key(f, 1));
        f->host->components.components = with_secrets;
        for (unsigned i = 0; i < 20; i += 3) { /* meanwhile */
                snprintf(name, sizeof(name), "s%u", i);
                assert_int_equal(set_value(f, name, "another", NULL), 200);
        }
        HOST_UNTIL(f->host, all_sealed_with(f, 2));
        HOST_UNTIL(f->host, !has_key(f, 1));
        for (unsigned i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "s%u", i);
                assert_opens(f, name, i % 3 == 0 ? "another" : VALUE);
                assert_int_equal(seen(f, name)->version, 1 + (i % 3 == 0));
                assert_int_equal(seen(f, name)->n_units, i % 2);
        }
}

/* After a restore without the keys: a secret is not opened until it is set again, or its key returns. */
static void a_secret_whose_key_is_lost_is_a_problem(void **state) {
        Fixture *f = *state;
        _cleanup_(secret_record_done) SecretRecord record = {};
        _cleanup_free_ char *key = scratch_path(f->host->scratch, "secrets/key.1"),
                            *away = scratch_path(f->host->scratch, "away");
        Error err = {};

        assert_int_equal(set_value(f, "a", "one", NULL), 200);
        assert_int_equal(set_value(f, "b", "two", NULL), 200);
        f->host->components.components = NULL;
        assert_int_equal(
                host_wait(f->host, authority_rekey(f->authority, "root", host_on_done, f->host, &err)),
                KV_OK);
        HOST_UNTIL(f->host, view(f)->ca_keys->items[0].cluster_key == 2);
        assert_int_equal(rename(key, away), 0);
        f->host->components.components = with_secrets;
        HOST_UNTIL(f->host, seen(f, "a")->lost && seen(f, "b")->lost);
        assert_int_equal(open_fails(f, "a"), -ENOKEY);
        assert_int_equal(ask(f, "GET", "/fleet/v1/secrets", ""), 200);
        assert_says(f, "\"name\":\"a\",\"by\":\"root@alpha\",\"clusterKey\":1,\"lost\":true");
        assert_int_equal(ask(f, "GET", "/fleet/v1/problems", ""), 200);
        assert_says(f, "2 secrets cannot be opened: a, b; restore again with --cluster-key=FILE, or set them "
                       "again");
        assert_int_equal(set_value(f, "a", "three", NULL), 200);
        assert_false(seen(f, "a")->lost);
        assert_opens(f, "a", "three");
        assert_int_equal(rename(away, key), 0);
        HOST_UNTIL(f->host, !seen(f, "b")->lost);
        assert_opens(f, "b", "two");
        HOST_UNTIL(f->host, !has_key(f, 1));
}

static void a_secret_that_a_unit_names_is_not_removed(void **state) {
        Fixture *f = *state;

        assert_int_equal(set_value(f, "a", VALUE, NULL), 200);
        host_unit(f->host, "web.service",
                  "[Service]\nExecStart=/a\n[X-Fleet]\nSecret=a\nSecret=a:again\nOnChange=restart\n",
                  TARGET_LAUNCHED);
        host_order(f->host, "web.service", ASSIGNMENT_RUN);
        assert_int_equal(ask(f, "GET", "/fleet/v1/secrets", ""), 200);
        assert_says(f, "\"usedBy\":[{\"instances\":1,\"name\":\"web.service\",\"onChange\":\"restart\"}]");
        assert_int_equal(ask(f, "DELETE", "/fleet/v1/secrets/a", ""), 409);
        assert_says(f, "web.service names it");
        assert_says(f, "fleetctl secret rm --force a");
        assert_int_equal(set_value(f, "a", VALUE, NULL), 200);
        assert_says(f, "\"usedBy\":[{\"instances\":1,\"name\":\"web.service\"");
        assert_int_equal(ask(f, "DELETE", "/fleet/v1/secrets/a?force=true", ""), 204);
}

static void put(Fixture *f, const char *key, const char *value) {
        KvCommand write = {
                .op = KV_SET, .internal = true, .key = kv_string(key), .value = kv_string(value)
        };

        f->host->asked++;
        assert_int_equal(
                registry_propose(
                        f->host->registry,
                        &(KvCommand) { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 },
                        host_on_done, f->host),
                0);
        HOST_UNTIL(f->host, f->host->answered == f->host->asked && registry_is_current(f->host->registry));
}

static void put_inputs(Fixture *f, const char *code, const char *argument, unsigned number) {
        char value[256];

        snprintf(value, sizeof(value), "{\"number\":%u,\"verdict\":{\"args\":[\"%s\"],\"code\":\"%s\"}}",
                 number, argument, code);
        put(f, "/_fleet/inputs/web.service", value);
        assert_int_equal(ask(f, "GET", "/fleet/v1/why/web.service", ""), 200);
}

static void the_answer_says_which_units_wait_and_which_may_not_have_it(void **state) {
        Fixture *f = *state;

        host_unit(f->host, "web.service", "[Service]\nExecStart=/a\n[X-Fleet]\nSecret=a\n", TARGET_LAUNCHED);
        host_order(f->host, "web.service", ASSIGNMENT_RUN);
        host_inputs(f->host, "web.service", 0, VERDICT_AWAITS_SECRET);
        assert_int_equal(set_value(f, "a", VALUE, "[\"shop*\"]"), 200);
        assert_says(f, "\"usedBy\":[{\"excluded\":true,\"instances\":1,\"name\":\"web.service\",\"onChange\":"
                       "\"none\",\"waits\":true}]");
        assert_int_equal(set_value(f, "a", VALUE, "[\"web*\"]"), 200);
        assert_says(f, "\"usedBy\":[{\"instances\":1,\"name\":\"web.service\",\"onChange\":\"none\","
                       "\"waits\":true}]");
}

/* Of a later version: it is neither replaced nor removed, and keeps all cluster keys. */
static void a_secret_that_cannot_be_read_stays(void **state) {
        Fixture *f = *state;
        Error err = {};

        assert_int_equal(set_value(f, "good", VALUE, NULL), 200);
        put(f, "/_fleet/secret/later", "{\"version\":\"x\"}");
        assert_int_equal(set_value(f, "later", VALUE, NULL), 409);
        assert_says(f, "upgrade the host");
        assert_int_equal(ask(f, "DELETE", "/fleet/v1/secrets/later", ""), 409);
        assert_int_equal(set_value(f, "good", VALUE, NULL), 200);
        assert_int_equal(
                host_wait(f->host, authority_rekey(f->authority, "root", host_on_done, f->host, &err)),
                KV_OK);
        HOST_UNTIL(f->host, all_sealed_with(f, 2));
        authority_tick(f->authority);
        assert_true(has_key(f, 1));
}

static void why_names_what_a_unit_waits_for_and_the_command(void **state) {
        Fixture *f = *state;

        host_unit(f->host, "web.service", "[Service]\nExecStart=/a\n", TARGET_INACTIVE);
        assert_int_equal(ask(f, "GET", "/fleet/v1/why/web.service", ""), 200);
        assert_null(strstr(f->answer, "\"inputs\""));
        put_inputs(f, "awaits-secret", "db", 0);
        assert_says(f, "\"inputs\":{\"code\":\"awaits-secret\",\"command\":\"secret set db\",\"problem\":"
                       "\"waiting for secret db: not set\"}");
        put_inputs(f, "awaits-keys", "/config/shop", 3);
        assert_says(f, "\"command\":\"kv set /config/shop/NAME VALUE\",\"number\":3,");
        put_inputs(f, "inputs-unwritten", "disk full", 3);
        assert_says(f, "\"inputs\":{\"code\":\"inputs-unwritten\",\"number\":3,");
}

static int find_value(void *userdata, const KvNode *node) {
        const char *const forms[] = { VALUE, ENCODED };
        size_t *n = userdata;

        ++*n;
        for (size_t i = 0; i < ELEMENTS(forms); i++)
                assert_null(memmem(node->value.data, node->value.size, forms[i], strlen(forms[i])));
        return 1;
}

static void a_value_is_in_no_key_answer_or_message(void **state) {
        static const char *const targets[] = { "/fleet/v1/secrets", "/fleet/v1/history", "/fleet/v1/problems",
                                               "/v2/keys/_fleet?recursive=true" };
        Fixture *f = *state;
        size_t n = 0;

        assert_int_equal(set_value(f, "a", VALUE, NULL), 200);
        assert_null(strstr(f->answer, ENCODED));
        assert_int_equal(ask(f, "PUT", "/fleet/v1/secrets/a", "{\"value\":\"" ENCODED "\",\"units\":7}"),
                         400);
        assert_null(strstr(f->answer, ENCODED));
        assert_int_equal(ask(f, "PUT", "/fleet/v1/secrets/a", "{\"value\":\"" ENCODED " \"}"), 400);
        assert_null(strstr(f->answer, ENCODED));
        for (size_t i = 0; i < ELEMENTS(targets); i++) {
                assert_int_equal(ask(f, "GET", targets[i], ""), 200);
                assert_null(strstr(f->answer, ENCODED));
                assert_null(strstr(f->answer, VALUE));
        }
        assert_int_equal(kv_local_walk(f->host->store,
                                       &(KvRange) { .key = kv_string("/"), .recursive = true }, find_value,
                                       &n),
                         0);
        assert_true(n > 5);
        assert_int_equal(f->logged.error, 0);
        assert_null(strstr(f->logged.chars, ENCODED));
        assert_null(strstr(f->logged.chars, VALUE));
}

enum { MARKS = 2700 }; /* nearly as large as a secret may be */

/* In another process, so that this one has no copy: set a secret of many marks, in small pieces. Exits with 1
 * if the answer is not the expected one. */
static void send_marks(const char *path, const char *target, const char *answer, char last) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _cleanup_text_ Text value = {}, t = {};
        char got[16] = "";

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        for (unsigned i = 0; i < MARKS; i++)
                text_printf(&value, "<hunter2 hunter2 %06u>", i);
        text_printf(&t,
                    "PUT %s HTTP/1.1\r\nHost: fleet\r\nContent-Type: application/json\r\n"
                    "Content-Length: %zu\r\nConnection: close\r\n\r\n{\"value\":\"",
                    target, value.size / 3 * 4 + 12);
        text_append_base64(&t, value.chars, value.size, false);
        t.chars[t.size - 1] = last;
        text_append(&t, "\"}");
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                _exit(1);
        for (size_t at = 0, n; at < t.size; at += n) {
                n = MIN(t.size - at, (size_t) 10000);
                if (send(fd, t.chars + at, n, MSG_NOSIGNAL) != (ssize_t) n)
                        _exit(1);
        }
        _exit(recv(fd, got, 12, MSG_WAITALL) != 12 || !streq(got, answer));
}

/* Return how often the private memory of this process has the bytes. */
static size_t count_in_memory(const char *bytes) {
        FILE *maps = fopen("/proc/self/maps", "re");
        size_t found = 0, size = strlen(bytes);
        char line[512], mode[8];
        unsigned long begin, end;

        assert_non_null(maps);
        while (fgets(line, sizeof(line), maps))
                if (sscanf(line, "%lx-%lx %7s", &begin, &end, mode) == 3 && streq(mode, "rw-p"))
                        for (const char *p = (const char *) begin;
                             (p = memmem(p, end - (uintptr_t) p, bytes, size)); p += size)
                                found++;
        (void) fclose(maps);
        return found;
}

static void a_value_is_not_in_memory_after_its_request(void **state) {
        static const struct {
                const char *target, *answer;
                char last; /* character of the value in base64 */
        } rows[] = {
                { "/fleet/v1/secrets/marks", "HTTP/1.1 200", '+' },
                { "/fleet/v1/secrets/-marks", "HTTP/1.1 400", '+' },
                { "/fleet/v1/secrets/marks", "HTTP/1.1 400", '!' },
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                pid_t child = fork(), ended;
                int status;

                assert_true(child >= 0);
                if (child == 0)
                        send_marks(f->socket, rows[i].target, rows[i].answer, rows[i].last);
                while ((ended = waitpid(child, &status, WNOHANG)) == 0)
                        host_turn(f->host);
                assert_int_equal(ended, child);
                assert_int_equal(status, 0);
                assert_int_equal(count_in_memory("<hunter2 hunter2 "), 0);
                assert_int_equal(count_in_memory("PGh1bnRlcjIgaHVudGVyMiAw"), 0); /* "<hunter2 hunter2 0" */
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(the_first_secret_makes_the_cluster_key_and_opens_no_listener),
                TEST(a_version_follows_another_one_and_keeps_its_patterns),
                TEST(what_cannot_be_a_secret_is_rejected),
                cmocka_unit_test_setup_teardown(secrets_begin_at_their_feature_level, low_setup, teardown),
                TEST(a_seal_opens_in_its_place_only),
                TEST(the_second_of_two_sets_has_no_effect),
                TEST(a_seal_with_a_former_key_is_not_written_after_its_change),
                TEST(a_change_of_the_cluster_key_seals_secrets_again),
                TEST(a_secret_whose_key_is_lost_is_a_problem),
                TEST(a_secret_that_a_unit_names_is_not_removed),
                TEST(the_answer_says_which_units_wait_and_which_may_not_have_it),
                TEST(a_secret_that_cannot_be_read_stays),
                TEST(why_names_what_a_unit_waits_for_and_the_command),
                TEST(a_value_is_in_no_key_answer_or_message),
                TEST(a_value_is_not_in_memory_after_its_request),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/lib/test.h"
#include "units/stored_cluster.h"
#include "units/stored_reboot.h"
#include "units/stored_rollout.h"

#define PIN_1   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PIN_2   "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
#define MACHINE "0123456789abcdef0123456789abcdef"

typedef union AnyRecord {
        HostRecord host;
        RemovedRecord removed;
        DeniedRecord denied;
        TokenRecord token;
        PrincipalRecord principal;
        CaRoots roots;
        CaKeys keys;
        CaRotation rotation;
        ClusterSettings settings;
        LineageRecord lineage;
        MaintenanceRecord maintenance;
        MoveRecord move;
        RebootRecord reboot;
        RolloutRecord rollout;
} AnyRecord;

/* A row of the table of records: its functions, for any record. */
#define ROW(name)                                                                           \
        static int name##_read(const char *json, size_t size, AnyRecord *ret, Error *err) { \
                return stored_##name##_read(json, size, (void *) ret, err);                 \
        }                                                                                   \
        static void name##_write(Text *t, const AnyRecord *record) {                        \
                stored_##name##_write(t, (const void *) record);                            \
        }

ROW(host)
ROW(removed)
ROW(denied)
ROW(token)
ROW(principal)
ROW(ca_roots)
ROW(ca_keys)
ROW(ca_rotation)
ROW(settings)
ROW(lineage)
ROW(maintenance)
ROW(move)
ROW(reboot)
ROW(rollout)

static void nothing_done(AnyRecord *record) {}

static void token_done(AnyRecord *record) {
        token_record_done(&record->token);
}

static void roots_done(AnyRecord *record) {
        ca_roots_record_done(&record->roots);
}

static void keys_done(AnyRecord *record) {
        ca_keys_record_done(&record->keys);
}

static void rollout_done(AnyRecord *record) {
        rollout_record_done(&record->rollout);
}

typedef struct Row {
        int (*read)(const char *json, size_t size, AnyRecord *ret, Error *err);
        void (*write)(Text *t, const AnyRecord *record);
        void (*done)(AnyRecord *record);
        const char *json, *message; /* message NULL: is read, and written again as it is */
} Row;

#define ROOT(id, state)  "{\"id\":\"" id "\",\"pem\":\"p\",\"state\":\"" state "\"}"
#define KEY(root)        "{\"clusterKey\":2,\"root\":\"" root "\",\"sealed\":\"c2VhbGVk\"}"
#define HASH_1           "0123456789abcdef0123456789abcdef01234567"
#define HASH_2           "ffffffffffffffffffffffffffffffffffffffff"
#define FAILURE          "{\"machine\":\"" MACHINE "\",\"unit\":\"web@1.service\",\"why\":\"exit status 1\"}"
#define OUTCOME(result)  "{\"hash\":\"" HASH_2 "\",\"result\":\"" result "\"}"
#define ROLLS            "\"state\":\"rolling\",\"to\":2,\"toHash\":\"" HASH_2 "\""
#define READ(name, done) name##_read, name##_write, done

static const Row rows[] = {
        { READ(host, nothing_done), "{\"expires\":9,\"joined\":7,\"pins\":[\"" PIN_1 "\",\"" PIN_2
                                    "\"],\"restricted\":true,\"serial\":\"" MACHINE
                                    "\",\"start\":3,\"token\":\"0123456789ab\",\"write\":\"/a,/b\"}" },
        { READ(host, nothing_done), "{\"pins\":[\"" PIN_1 "\"]}" },
        { READ(host, nothing_done), "{\"joined\":7}", "pins: missing" },
        { READ(host, nothing_done), "{\"pins\":[]}", "pins: missing" },
        { READ(host, nothing_done), "{\"pins\":[\"" PIN_1 "\",\"" PIN_1 "\",\"" PIN_1 "\"]}",
          "pins: expected at most 2 digests" },
        { READ(host, nothing_done), "{\"pins\":\"" PIN_1 "\"}", "pins: expected at most 2 digests" },
        { READ(host, nothing_done), "{\"pins\":[\"" MACHINE "\"]}",
          "pins: expected 64 lower-case hex digits" },
        { READ(host, nothing_done), "{\"pins\":[7]}", "pins: expected 64 lower-case hex digits" },
        { READ(host, nothing_done), "{\"pins\":[\"" PIN_1 "\"],\"token\":\"0123456789abc\"}",
          "token: longer than 12 bytes" },
        { READ(removed, nothing_done),
          "{\"by\":\"root\",\"index\":4,\"pin\":\"" PIN_1 "\",\"reason\":\"lost\",\"since\":5}" },
        { READ(removed, nothing_done), "{}" },
        { READ(removed, nothing_done), "{\"pin\":\"1\"}", "pin: expected 64 lower-case hex digits" },
        { READ(removed, nothing_done), "{\"pin2\":\"1\"}", "pin2: expected 64 lower-case hex digits" },
        { READ(denied, nothing_done), "{\"machine\":\"" MACHINE "\",\"since\":5}" },
        { READ(denied, nothing_done), "{}" },
        { READ(denied, nothing_done), "{\"machine\":\"" MACHINE "0\"}", "machine: longer than 32 bytes" },
        { READ(token, token_done),
          "{\"by\":\"root\",\"expires\":9,\"from\":\"10.0.0.0/8\",\"hash\":\"" PIN_1
          "\",\"metadata\":{\"zone\":\"a\"},\"replace\":\"" MACHINE
          "\",\"restricted\":true,\"revoked\":true,\"root\":\"" PIN_2 "\",\"total\":10000,\"uses\":10000,"
          "\"write\":\"/a\"}" },
        { READ(token, token_done), "{\"expires\":9,\"hash\":\"" PIN_1 "\",\"total\":1}" },
        { READ(token, token_done), "{\"expires\":9,\"hash\":\"" PIN_1 "\"}", "total: missing" },
        { READ(token, token_done), "{\"hash\":\"" PIN_1 "\"}", "expires: missing" },
        { READ(token, token_done), "{\"expires\":9,\"total\":1}", "hash: expected 64 lower-case hex digits" },
        { READ(token, token_done), "{\"expires\":9,\"hash\":\"" PIN_1 "\",\"total\":10001}",
          "uses: expected at most 10000" },
        { READ(token, token_done), "{\"expires\":9,\"hash\":\"" PIN_1 "\",\"total\":1,\"uses\":2}",
          "uses: expected at most 10000" },
        { READ(token, token_done),
          "{\"expires\":9,\"hash\":\"" PIN_1 "\",\"metadata\":{\"a\":\"b\"},\"replace\":\"x\",\"total\":1}",
          "replace: expected a machine ID" },
        { READ(principal, nothing_done),
          "{\"pins\":[\"" PIN_1 "\"],\"rights\":[{\"prefix\":\"/a\",\"right\":\"keys-write\"},{\"right\":"
          "\"administer\"}]}" },
        { READ(principal, nothing_done), "{\"rights\":[]}" },
        { READ(principal, nothing_done), "{\"rights\":[{\"right\":\"fly\"}]}",
          "right: 'fly' is none of keys-read, keys-write, units-see, units-change, administer" },
        { READ(principal, nothing_done), "{\"rights\":[{}]}",
          "right: '' is none of keys-read, keys-write, units-see, units-change, administer" },
        { READ(principal, nothing_done), "{\"rights\":[{\"prefix\":\"a\",\"right\":\"keys-read\"}]}",
          "prefix: expected a key that begins with '/'" },
        { READ(principal, nothing_done), "{\"rights\":[7]}", "rights: expected objects" },
        { READ(principal, nothing_done), "{\"rights\":{}}", "rights: expected a list of at most 16 objects" },
        { READ(principal, nothing_done), "{\"rights\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}",
          "rights: expected a list of at most 16 objects" },
        { READ(ca_roots, roots_done), "{\"roots\":[" ROOT(PIN_1, "former") "," ROOT(PIN_2, "current") "]}" },
        { READ(ca_roots, roots_done), "{\"roots\":[" ROOT(PIN_1, "current") "," ROOT(PIN_2, "current") "]}",
          "roots: expected one that is current" },
        { READ(ca_roots, roots_done), "{\"roots\":[]}", "roots: expected one that is current" },
        { READ(ca_roots, roots_done), "{\"roots\":[" ROOT("1", "current") "]}",
          "roots: expected a digest and at most 4096 bytes of PEM" },
        { READ(ca_roots, roots_done), "{\"roots\":[" ROOT(PIN_1, "current") "," ROOT(PIN_2, "odd") "]}",
          "state: 'odd' is none of current, next, former" },
        { READ(ca_keys, keys_done), "{\"keys\":[" KEY(PIN_1) "," KEY(PIN_2) "]}" },
        { READ(ca_keys, keys_done), "{\"keys\":[" KEY("1") "]}",
          "keys: expected a digest and at most 1024 bytes" },
        { READ(ca_keys, keys_done), "{\"keys\":[{\"root\":\"" PIN_1 "\",\"sealed\":\"a\"}]}",
          "clusterKey: missing" },
        { READ(ca_rotation, nothing_done), "{\"compromised\":true,\"since\":6,\"state\":\"distribute\"}" },
        { READ(ca_rotation, nothing_done), "{}", "state: '' is none of begin, rekey, distribute, issue" },
        { READ(settings, nothing_done),
          "{\"name\":\"c\",\"peerAuth\":\"certificate\",\"restricted\":true,\"singletonLease\":5,"
          "\"spread\":\"zone\",\"voters\":5}" },
        { READ(settings, nothing_done), "{\"peerAuth\":\"any\"}" },
        { READ(settings, nothing_done), "{\"voters\":2}", "voters: expected 1, 3 or 5" },
        { READ(settings, nothing_done), "{\"voters\":7}", "voters: expected 1, 3 or 5" },
        { READ(settings, nothing_done), "{\"peerAuth\":\"none\"}",
          "peerAuth: 'none' is none of any, certificate" },
        { READ(lineage, nothing_done),
          "{\"ancestor\":\"0123456789abcdef\",\"by\":\"anna\",\"index\":4,\"kind\":\"recovered\","
          "\"machine\":\"" MACHINE "\"}" },
        { READ(lineage, nothing_done), /* of an older version */
          "{\"ancestor\":\"0123456789abcdef\",\"index\":4,\"kind\":\"restored\",\"machine\":\"" MACHINE
          "\"}" },
        { READ(lineage, nothing_done), "{\"kind\":\"recovered\"}", "ancestor: expected 16 hex digits" },
        { READ(maintenance, nothing_done), "{\"by\":\"root\",\"deadline\":8,\"for\":\"leave\",\"mode\":"
                                           "\"draining\",\"since\":7,\"why\":\"w\"}" },
        { READ(move, nothing_done), "{\"by\":\"root\",\"since\":8,\"to\":\"" MACHINE "\"}" },
        { READ(move, nothing_done), "{\"by\":\"root\",\"to\":\"\"}", "to: expected the ID of a machine" },
        { READ(move, nothing_done), "{\"to\":\"alpha\"}", "to: expected the ID of a machine" },
        { READ(move, nothing_done), "{}", "to: missing" },
        { READ(move, nothing_done), "{\"to\":7}", "to: expected" },
        { READ(move, nothing_done), "{\"to\":\"" MACHINE "0\"}", "to: longer than 32 bytes" },
        { READ(move, nothing_done), "{\"since\":\"8\",\"to\":\"" MACHINE "\"}", "since: expected" },
        { READ(move, nothing_done), "{\"since\":-1,\"to\":\"" MACHINE "\"}", "since: expected" },
        { READ(rollout, rollout_done),
          "{\"added\":1,\"available\":3,\"before\":\"rolling\",\"begun\":4,\"by\":\"ann\",\"completed\":1,"
          "\"completedHash\":\"" HASH_1 "\",\"from\":1,\"fromHash\":\"" HASH_1
          "\",\"hold\":5,\"placed\":1,\"progress\":6,\"retry\":7,\"reverted\":2,\"revertedHash\":\"" HASH_2
          "\",\"served\":3,\"since\":8,\"state\":\"paused\",\"to\":2,\"toHash\":\"" HASH_2
          "\",\"until\":9,\"why\":\"w\",\"failed\":[" FAILURE "," FAILURE
          "],\"outcomes\":[" OUTCOME("completed") "," OUTCOME("failed") "," OUTCOME("reverted") "]}" },
        { READ(rollout, rollout_done), "{\"before\":\"canary\"," ROLLS "}" },
        { READ(rollout, rollout_done), "{}", "state: '' is none of canary, held, rolling" },
        { READ(rollout, rollout_done), "[]", "expected a JSON object" },
        { READ(rollout, rollout_done), "{\"state\":\"rolling\"}", "to: missing" },
        { READ(rollout, rollout_done), "{\"state\":\"rolling\",\"to\":2}", "toHash: missing" },
        { READ(rollout, rollout_done), "{\"state\":\"odd\",\"to\":2,\"toHash\":\"\"}",
          "state: 'odd' is none of" },
        { READ(rollout, rollout_done), "{\"state\":7,\"to\":2,\"toHash\":\"\"}", "state: " },
        { READ(rollout, rollout_done), "{\"before\":\"odd\"," ROLLS "}", "before: 'odd' is none of" },
        { READ(rollout, rollout_done), "{\"state\":\"rolling\",\"to\":\"2\",\"toHash\":\"\"}",
          "to: expected" },
        { READ(rollout, rollout_done), "{\"state\":\"rolling\",\"to\":-2,\"toHash\":\"\"}", "to: expected" },
        { READ(rollout, rollout_done), "{\"state\":\"rolling\",\"to\":2,\"toHash\":\"" HASH_1 "0\"}",
          "toHash: longer than 40 bytes" },
        { READ(rollout, rollout_done), "{" ROLLS ",\"until\":1.5}", "until: expected" },
        { READ(rollout, rollout_done), "{\"failed\":{}," ROLLS "}", "failed: expected a list of at most 16" },
        { READ(rollout, rollout_done), "{\"failed\":7," ROLLS "}", "failed: expected a list of at most 16" },
        { READ(rollout, rollout_done), "{\"failed\":[" FAILURE ",7]," ROLLS "}", "failed: expected objects" },
        { READ(rollout, rollout_done), "{\"failed\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]," ROLLS "}",
          "failed: expected a list of at most 16 objects" },
        { READ(rollout, rollout_done), "{\"failed\":[{\"machine\":\"" MACHINE "0\"}]," ROLLS "}",
          "machine: longer than 32 bytes" },
        { READ(rollout, rollout_done), "{\"failed\":[" FAILURE "],\"outcomes\":[{}]," ROLLS "}",
          "hash: missing" },
        { READ(rollout, rollout_done), "{\"outcomes\":[" OUTCOME("odd") "]," ROLLS "}",
          "result: 'odd' is none of completed, failed, reverted" },
        { READ(rollout, rollout_done), "{\"outcomes\":\"x\"," ROLLS "}",
          "outcomes: expected a list of at most" },
        { READ(reboot, nothing_done),
          "{\"boot\":\"" MACHINE
          "\",\"by\":\"ann\",\"deadline\":1,\"except\":\"a.service b.service \",\"kind\":"
          "\"soft\",\"lineage\":\"0123456789abcdef\",\"return\":2,\"seq\":3,\"since\":4,\"slots\":5,\"soft\":"
          "6,"
          "\"state\":\"back\",\"steady\":7,\"until\":8,\"why\":\"w\",\"zone\":\"rack\"}" },
        { READ(reboot, nothing_done), "{\"kind\":\"reboot\",\"state\":\"queued\"}" },
        { READ(reboot, nothing_done), "{\"kind\":\"kexec\",\"state\":\"failed\"}" },
        { READ(reboot, nothing_done), "{}", "kind: '' is none of reboot, soft, kexec" },
        { READ(reboot, nothing_done), "[]", "expected a JSON object" },
        { READ(reboot, nothing_done), "{\"kind\":\"reboot\"}", "state: '' is none of queued, draining" },
        { READ(reboot, nothing_done), "{\"kind\":\"hard\",\"state\":\"queued\"}", "kind: 'hard' is none of" },
        { READ(reboot, nothing_done), "{\"kind\":\"reboot\",\"state\":\"gone\"}",
          "state: 'gone' is none of" },
        { READ(reboot, nothing_done), "{\"kind\":\"reboot\",\"seq\":\"1\",\"state\":\"queued\"}",
          "seq: expected" },
        { READ(reboot, nothing_done),
          "{\"kind\":\"reboot\",\"soft\":18446744073709551616,\"state\":\"queued\"}", "too big integer" },
        { READ(reboot, nothing_done), "{\"boot\":7,\"kind\":\"reboot\",\"state\":\"queued\"}",
          "boot: expected" },
        { READ(reboot, nothing_done),
          "{\"kind\":\"reboot\",\"lineage\":\"0123456789abcdef0\",\"state\":\"queued\"}",
          "lineage: longer than 16 bytes" },
        { READ(maintenance, nothing_done),
          "{\"before\":\"cordoned\",\"for\":\"shutdown\",\"force\":true,\"mode\":"
          "\"drained\"}" },
        { READ(maintenance, nothing_done), "{\"mode\":\"odd\"}", "mode: 'odd' is none of" },
        { READ(maintenance, nothing_done), "{\"mode\":7}", "mode: " },
        { READ(maintenance, nothing_done), "{\"deadline\":\"8\",\"mode\":\"drained\"}",
          "deadline: expected" },
        { READ(maintenance, nothing_done), "{\"force\":1,\"mode\":\"drained\"}", "force: expected" },
        { READ(maintenance, nothing_done), "{}", "mode: '' is none of cordoned, draining, drained" },
        { READ(maintenance, nothing_done), "[]", "expected a JSON object" },
};

static void a_record_is_read_completely_or_rejected(void **state) {
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const Row *row = &rows[i];
                AnyRecord record = {}, untouched = {};
                _cleanup_text_ Text t = {};
                Error err = {};
                int r;

                r = row->read(row->json, strlen(row->json), &record, &err);
                if (row->message) {
                        if (r != -EBADMSG || !strstr(err.message, row->message))
                                fail_msg("%s: %d, %s", row->json, r, err.message);
                        assert_memory_equal(&record, &untouched, sizeof(record));
                        continue;
                }
                if (r != 0)
                        fail_msg("%s: %d, %s", row->json, r, err.message);
                row->write(&t, &record);
                assert_string_equal(t.chars, row->json);
                row->done(&record);
        }
}

/* A value that is cut at any byte is no record. */
static void a_value_that_is_cut_is_rejected(void **state) {
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (size_t size = 0; !rows[i].message && size < strlen(rows[i].json); size++) {
                        AnyRecord record = {};

                        assert_int_equal(rows[i].read(rows[i].json, size, &record, NULL), -EBADMSG);
                }
}

/* A later version may add members: they are ignored, and not kept. */
static void an_unknown_member_is_ignored(void **state) {
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const Row *row = &rows[i];
                AnyRecord record = {};
                _cleanup_text_ Text json = {}, t = {};

                if (row->message)
                        continue;
                text_printf(&json, "{\"zzz\":{\"a\":[1,null]}%s%s", streq(row->json, "{}") ? "" : ",",
                            row->json + 1);
                assert_int_equal(row->read(json.chars, json.size, &record, NULL), 0);
                row->write(&t, &record);
                assert_string_equal(t.chars, row->json);
                row->done(&record);
        }
}

/* Text for people is cut, also within a character, and the record remains one. */
static void the_reasons_of_records_have_limits(void **state) {
        static const struct {
                const Row row;
                size_t offset, size;
        } texts[] = {
                { { READ(rollout, rollout_done), "{\"why\":\"%s\"," ROLLS "}" },
                  offsetof(RolloutRecord, why),
                  ROLLOUT_WHY_SIZE },
                { { READ(rollout, rollout_done), "{\"by\":\"%s\"," ROLLS "}" },
                  offsetof(RolloutRecord, by),
                  RECORDED_BY_SIZE },
                { { READ(reboot, nothing_done), "{\"kind\":\"reboot\",\"state\":\"failed\",\"why\":\"%s\"}" },
                  offsetof(RebootRecord, why),
                  RECORDED_WHY_SIZE },
                { { READ(move, nothing_done), "{\"by\":\"%s\",\"to\":\"" MACHINE "\"}" },
                  offsetof(MoveRecord, by),
                  RECORDED_BY_SIZE },
                { { READ(maintenance, nothing_done), "{\"mode\":\"drained\",\"why\":\"%s\"}" },
                  offsetof(MaintenanceRecord, why),
                  RECORDED_WHY_SIZE },
        };

        for (size_t i = 0; i < ELEMENTS(texts); i++)
                for (size_t n = texts[i].size - 2; n < texts[i].size + 2; n++) {
                        const Row *row = &texts[i].row;
                        _cleanup_text_ Text json = {}, value = {}, again = {};
                        const char *at = strstr(row->json, "%s"), *got;
                        AnyRecord record = {};

                        for (size_t k = 0; k + 2 < n; k++)
                                text_append(&value, "x");
                        text_append(&value, "\xc3\xa9");
                        text_append_bytes(&json, row->json, (size_t) (at - row->json));
                        text_append(&json, value.chars);
                        text_append(&json, at + 2);
                        assert_int_equal(row->read(json.chars, json.size, &record, NULL), 0);
                        got = (const char *) &record + texts[i].offset;
                        if (n < texts[i].size)
                                assert_string_equal(got, value.chars);
                        else {
                                assert_true(strlen(got) < texts[i].size);
                                assert_true(starts_with(got, "xxx"));
                        }
                        row->write(&again, &record);
                        row->done(&record);
                        assert_int_equal(row->read(again.chars, again.size, &record, NULL), 0);
                        row->done(&record);
                }
}

static void a_root_and_a_sealed_key_have_limits(void **state) {
        char json[CA_PEM_MAX + 256], pem[CA_PEM_MAX + 2];
        AnyRecord record = {};

        memset(pem, 'p', sizeof(pem) - 1);
        pem[CA_PEM_MAX] = 0;
        for (unsigned over = 0; over < 2; over++) {
                snprintf(json, sizeof(json),
                         "{\"roots\":[{\"id\":\"%s\",\"pem\":\"%s\",\"state\":\"current\"}]}", PIN_1, pem);
                assert_int_equal(stored_ca_roots_read(json, strlen(json), &record.roots, NULL),
                                 over ? -EBADMSG : 0);
                ca_roots_record_done(&record.roots);
                pem[CA_PEM_MAX] = 'p';
                pem[CA_PEM_MAX + 1] = 0;
        }
        pem[CA_SEALED_MAX] = 0;
        for (unsigned over = 0; over < 2; over++) {
                snprintf(json, sizeof(json),
                         "{\"keys\":[{\"clusterKey\":1,\"root\":\"%s\",\"sealed\":\"%s\"}]}", PIN_1, pem);
                assert_int_equal(stored_ca_keys_read(json, strlen(json), &record.keys, NULL),
                                 over ? -EBADMSG : 0);
                ca_keys_record_done(&record.keys);
                pem[CA_SEALED_MAX] = 'p';
                pem[CA_SEALED_MAX + 1] = 0;
        }
}

static void names_of_tokens_and_users_are_checked(void **state) {
        char name[PRINCIPAL_NAME_MAX + 2] = "";

        assert_true(token_id_is_valid("0123456789ab"));
        assert_false(token_id_is_valid("0123456789a"));
        assert_false(token_id_is_valid("0123456789aB"));
        assert_true(digest_is_valid(PIN_1));
        assert_false(digest_is_valid(PIN_1 "0"));

        assert_true(principal_name_is_valid("alice"));
        assert_true(principal_name_is_valid("0.a_b-c"));
        assert_false(principal_name_is_valid(""));
        assert_false(principal_name_is_valid("."));
        assert_false(principal_name_is_valid(".."));
        assert_false(principal_name_is_valid("-a"));
        assert_false(principal_name_is_valid("_a"));
        assert_false(principal_name_is_valid("Alice"));
        assert_false(principal_name_is_valid("a/b"));
        assert_false(principal_name_is_valid("a b"));
        memset(name, 'a', PRINCIPAL_NAME_MAX);
        assert_true(principal_name_is_valid(name));
        name[PRINCIPAL_NAME_MAX] = 'a';
        assert_false(principal_name_is_valid(name));
}

static void roots_and_keys_are_found(void **state) {
        const CaRoots roots = { .items = { { .id = PIN_1, .state = CA_ROOT_NEXT },
                                           { .id = PIN_2, .state = CA_ROOT_CURRENT } },
                                .n = 2 };
        const CaKeys keys = { .items = { { .root = PIN_1 }, { .root = PIN_2 } }, .n = 2 };
        const Pins pins = { .items = { PIN_2 }, .n = 1 };

        assert_ptr_equal(ca_roots_current(&roots), &roots.items[1]);
        assert_null(ca_roots_current(&(CaRoots) {}));
        assert_ptr_equal(ca_keys_find(&keys, PIN_2), &keys.items[1]);
        assert_null(ca_keys_find(&keys, ""));
        assert_true(pins_have(&pins, PIN_2));
        assert_false(pins_have(&pins, PIN_1));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_record_is_read_completely_or_rejected),
                cmocka_unit_test(a_value_that_is_cut_is_rejected),
                cmocka_unit_test(an_unknown_member_is_ignored),
                cmocka_unit_test(the_reasons_of_records_have_limits),
                cmocka_unit_test(a_root_and_a_sealed_key_have_limits),
                cmocka_unit_test(names_of_tokens_and_users_are_checked),
                cmocka_unit_test(roots_and_keys_are_found),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}

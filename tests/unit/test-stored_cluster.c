#include "tests/lib/test.h"
#include "units/stored_cluster.h"
#include "units/stored_json.h"
#include "units/stored_inputs.h"
#include "units/stored_reboot.h"
#include "units/stored_rollout.h"

#define PIN_1   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PIN_2   "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
#define MACHINE "0123456789abcdef0123456789abcdef"

/* Any of the records below. */
typedef union AnyRecord {
        max_align_t align;
        char bytes[8192];
} AnyRecord;

typedef struct Row {
        const JsonRecord *type;
        const char *json, *message; /* message NULL: is read, and written again as it is */
} Row;

#define ROOT(id, state) "{\"id\":\"" id "\",\"pem\":\"p\",\"state\":\"" state "\"}"
#define KEY(root)       "{\"clusterKey\":2,\"root\":\"" root "\",\"sealed\":\"c2VhbGVk\"}"
#define HASH_1          "0123456789abcdef0123456789abcdef01234567"
#define HASH_2          "ffffffffffffffffffffffffffffffffffffffff"
#define FAILURE         "{\"machine\":\"" MACHINE "\",\"unit\":\"web@1.service\",\"why\":\"exit status 1\"}"
#define OUTCOME(result) "{\"hash\":\"" HASH_2 "\",\"result\":\"" result "\"}"
#define ROLLS           "\"state\":\"rolling\",\"to\":2,\"toHash\":\"" HASH_2 "\""

static const Row rows[] = {
        { &host_record, "{\"expires\":9,\"joined\":7,\"pins\":[\"" PIN_1 "\",\"" PIN_2
                        "\"],\"restricted\":true,\"serial\":\"" MACHINE
                        "\",\"start\":3,\"token\":\"0123456789ab\",\"write\":\"/a,/b\"}" },
        { &host_record, "{\"pins\":[\"" PIN_1 "\"]}" },
        { &host_record, "{\"joined\":7}", "pins: missing" },
        { &host_record, "{\"pins\":[]}", "pins: missing" },
        { &host_record, "{\"pins\":[\"" PIN_1 "\",\"" PIN_1 "\",\"" PIN_1 "\"]}",
          "pins: expected a list of at most 2 strings" },
        { &host_record, "{\"pins\":\"" PIN_1 "\"}", "pins: expected a list of at most 2 strings" },
        { &host_record, "{\"pins\":[\"" MACHINE "\"]}", "pins: an item is invalid" },
        { &host_record, "{\"pins\":[7]}", "pins: an item is invalid" },
        { &removed_record,
          "{\"by\":\"root\",\"index\":4,\"pin\":\"" PIN_1 "\",\"reason\":\"lost\",\"since\":5}" },
        { &removed_record, "{}" },
        { &removed_record, "{\"pin\":\"1\"}", "pin: expected 64 lower-case hex digits" },
        { &removed_record, "{\"pin2\":\"1\"}", "pin2: expected 64 lower-case hex digits" },
        { &denied_record, "{\"machine\":\"" MACHINE "\",\"since\":5}" },
        { &denied_record, "{}" },
        { &token_record,
          "{\"by\":\"root\",\"expires\":9,\"from\":\"10.0.0.0/8\",\"hash\":\"" PIN_1
          "\",\"metadata\":{\"zone\":\"a\"},\"replace\":\"" MACHINE
          "\",\"restricted\":true,\"revoked\":true,\"root\":\"" PIN_2 "\",\"total\":10000,\"uses\":10000,"
          "\"write\":\"/a\"}" },
        { &token_record, "{\"expires\":9,\"hash\":\"" PIN_1 "\",\"total\":1}" },
        { &token_record, "{\"expires\":9,\"hash\":\"" PIN_1 "\"}", "total: missing" },
        { &token_record, "{\"hash\":\"" PIN_1 "\"}", "expires: missing" },
        { &token_record, "{\"expires\":9,\"total\":1}", "hash: expected 64 lower-case hex digits" },
        { &token_record, "{\"expires\":9,\"hash\":\"" PIN_1 "\",\"total\":10001}",
          "uses: expected at most 10000" },
        { &token_record, "{\"expires\":9,\"hash\":\"" PIN_1 "\",\"total\":1,\"uses\":2}",
          "uses: expected at most 10000" },
        { &token_record,
          "{\"expires\":9,\"hash\":\"" PIN_1 "\",\"metadata\":{\"a\":\"b\"},\"replace\":\"x\",\"total\":1}",
          "replace: expected a machine ID" },
        { &principal_record,
          "{\"pins\":[\"" PIN_1 "\"],\"rights\":[{\"prefix\":\"/a\",\"right\":\"keys-write\"},{\"right\":"
          "\"administer\"}]}" },
        { &principal_record, "{\"rights\":[]}" },
        { &principal_record, "{\"rights\":[{\"right\":\"fly\"}]}",
          "right: 'fly' is none of keys-read, keys-write, units-see, units-change, administer" },
        { &principal_record, "{\"rights\":[{}]}",
          "right: '' is none of keys-read, keys-write, units-see, units-change, administer" },
        { &principal_record, "{\"rights\":[{\"prefix\":\"a\",\"right\":\"keys-read\"}]}",
          "prefix: expected a key that begins with '/'" },
        { &principal_record, "{\"rights\":[7]}", "rights: expected objects" },
        { &principal_record, "{\"rights\":{}}", "rights: expected a list of at most 16 objects" },
        { &principal_record, "{\"rights\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}",
          "rights: expected a list of at most 16 objects" },
        { &ca_roots_record, "{\"roots\":[" ROOT(PIN_1, "former") "," ROOT(PIN_2, "current") "]}" },
        { &ca_roots_record, "{\"roots\":[" ROOT(PIN_1, "current") "," ROOT(PIN_2, "current") "]}",
          "roots: expected one that is current" },
        { &ca_roots_record, "{\"roots\":[]}", "roots: expected one that is current" },
        { &ca_roots_record, "{\"roots\":[" ROOT("1", "current") "]}",
          "roots: expected a digest and at most 4096 bytes of PEM" },
        { &ca_roots_record, "{\"roots\":[" ROOT(PIN_1, "current") "," ROOT(PIN_2, "odd") "]}",
          "state: 'odd' is none of current, next, former" },
        { &ca_keys_record, "{\"keys\":[" KEY(PIN_1) "," KEY(PIN_2) "]}" },
        { &ca_keys_record, "{\"keys\":[" KEY("1") "]}", "keys: expected a digest and at most 1024 bytes" },
        { &ca_keys_record, "{\"keys\":[{\"root\":\"" PIN_1 "\",\"sealed\":\"a\"}]}", "clusterKey: missing" },
        { &ca_rotation_record, "{\"compromised\":true,\"since\":6,\"state\":\"distribute\"}" },
        { &ca_rotation_record, "{}", "state: '' is none of begin, rekey, distribute, issue" },
        { &settings_record,
          "{\"name\":\"c\",\"peerAuth\":\"certificate\",\"restricted\":true,\"singletonLease\":5,"
          "\"spread\":\"zone\",\"voters\":5}" },
        { &settings_record, "{\"peerAuth\":\"any\"}" },
        { &settings_record, "{\"voters\":2}", "voters: expected 1, 3 or 5" },
        { &settings_record, "{\"voters\":7}", "voters: expected 1, 3 or 5" },
        { &settings_record, "{\"peerAuth\":\"none\"}", "peerAuth: 'none' is none of any, certificate" },
        { &lineage_record,
          "{\"ancestor\":\"0123456789abcdef\",\"by\":\"anna\",\"index\":4,\"kind\":\"recovered\","
          "\"machine\":\"" MACHINE "\"}" },
        { &lineage_record, /* of an older version */
          "{\"ancestor\":\"0123456789abcdef\",\"index\":4,\"kind\":\"restored\",\"machine\":\"" MACHINE
          "\"}" },
        { &lineage_record, "{\"kind\":\"recovered\"}", "ancestor: expected 16 hex digits" },
        { &maintenance_record, "{\"by\":\"root\",\"deadline\":8,\"for\":\"leave\",\"mode\":"
                               "\"draining\",\"since\":7,\"why\":\"w\"}" },
        { &move_record, "{\"by\":\"root\",\"since\":8,\"to\":\"" MACHINE "\"}" },
        { &move_record, "{\"by\":\"root\",\"to\":\"\"}", "to: expected the ID of a machine" },
        { &move_record, "{\"to\":\"alpha\"}", "to: expected the ID of a machine" },
        { &move_record, "{}", "to: missing" },
        { &rollout_record,
          "{\"added\":1,\"available\":3,\"before\":\"rolling\",\"begun\":4,\"by\":\"ann\",\"completed\":1,"
          "\"completedHash\":\"" HASH_1 "\",\"from\":1,\"fromHash\":\"" HASH_1
          "\",\"hold\":5,\"placed\":1,\"progress\":6,\"retry\":7,\"reverted\":2,\"revertedHash\":\"" HASH_2
          "\",\"served\":3,\"since\":8,\"state\":\"paused\",\"to\":2,\"toHash\":\"" HASH_2
          "\",\"until\":9,\"why\":\"w\",\"failed\":[" FAILURE "," FAILURE
          "],\"outcomes\":[" OUTCOME("completed") "," OUTCOME("failed") "," OUTCOME("reverted") "]}" },
        { &rollout_record, "{\"before\":\"canary\",\"completed\":1,\"completedHash\":\"" HASH_1
                           "\",\"completedInputs\":4,\"from\":1,\"fromHash\":\"" HASH_1
                           "\",\"fromInputs\":5,\"reverted\":1,\"revertedHash\":\"" HASH_1
                           "\",\"revertedInputs\":6,\"state\":\"rolling\",\"to\":2,\"toHash\":\"" HASH_2
                           "\",\"toInputs\":7}" },
        { &inputs_record, "{\"digest\":\"" HASH_1 "\",\"number\":2,\"secrets\":4,\"since\":3,\"waits\":true,"
                          "\"what\":\"secret db-password\"}" },
        { &inputs_record, "{}" },
        { &rollout_record, "{\"before\":\"canary\"," ROLLS "}" },
        { &rollout_record, "{}", "state: '' is none of canary, held, rolling" },
        { &rollout_record, "{\"state\":\"rolling\"}", "to: missing" },
        { &rollout_record, "{\"state\":\"rolling\",\"to\":2}", "toHash: missing" },
        { &rollout_record, "{\"state\":\"odd\",\"to\":2,\"toHash\":\"\"}", "state: 'odd' is none of" },
        { &rollout_record, "{\"before\":\"odd\"," ROLLS "}", "before: 'odd' is none of" },
        { &rollout_record, "{\"failed\":{}," ROLLS "}", "failed: expected a list of at most 16" },
        { &rollout_record, "{\"failed\":7," ROLLS "}", "failed: expected a list of at most 16" },
        { &rollout_record, "{\"failed\":[" FAILURE ",7]," ROLLS "}", "failed: expected objects" },
        { &rollout_record, "{\"failed\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]," ROLLS "}",
          "failed: expected a list of at most 16 objects" },
        { &rollout_record, "{\"failed\":[" FAILURE "],\"outcomes\":[{}]," ROLLS "}", "hash: missing" },
        { &rollout_record, "{\"outcomes\":[" OUTCOME("odd") "]," ROLLS "}",
          "result: 'odd' is none of completed, failed, reverted" },
        { &rollout_record, "{\"outcomes\":\"x\"," ROLLS "}", "outcomes: expected a list of at most" },
        { &reboot_record,
          "{\"boot\":\"" MACHINE
          "\",\"by\":\"ann\",\"deadline\":1,\"except\":\"a.service b.service \",\"kind\":"
          "\"soft\",\"lineage\":\"0123456789abcdef\",\"return\":2,\"seq\":3,\"since\":4,\"slots\":5,\"soft\":"
          "6,"
          "\"state\":\"back\",\"steady\":7,\"until\":8,\"why\":\"w\",\"zone\":\"rack\"}" },
        { &reboot_record, "{\"kind\":\"reboot\",\"state\":\"queued\"}" },
        { &reboot_record, "{\"kind\":\"kexec\",\"state\":\"failed\"}" },
        { &reboot_record, "{\"kind\":\"kexec\",\"state\":\"failed\",\"verdict\":{\"args\":[\"a.service\"],"
                          "\"code\":\"reboot-unit\"}}" },
        { &reboot_record,
          "{\"kind\":\"kexec\",\"state\":\"failed\",\"verdict\":{\"code\":\"of-a-later-version\"}}" },
        { &reboot_record, "{}", "kind: '' is none of reboot, soft, kexec" },
        { &reboot_record, "{\"kind\":\"reboot\"}", "state: '' is none of queued, draining" },
        { &reboot_record, "{\"kind\":\"hard\",\"state\":\"queued\"}", "kind: 'hard' is none of" },
        { &reboot_record, "{\"kind\":\"reboot\",\"state\":\"gone\"}", "state: 'gone' is none of" },
        { &maintenance_record, "{\"before\":\"cordoned\",\"for\":\"shutdown\",\"force\":true,\"mode\":"
                               "\"drained\"}" },
        { &maintenance_record, "{\"mode\":\"odd\"}", "mode: 'odd' is none of" },
        { &maintenance_record, "{}", "mode: '' is none of cordoned, draining, drained" },
        { &facts_record,
          "{\"address\":\"10.0.0.1\",\"boot\":\"b1\",\"booting\":true,\"checks\":\"h\",\"client\":\"c\","
          "\"level\":4,"
          "\"metadata\":{\"host\":\"h1\",\"zone\":\"a\"},\"name\":\"alpha\",\"needsReboot\":true,\"peer\":"
          "\"10.0.0.1:2380\",\"quadlet\":true,\"raftId\":3,\"softReboot\":true,\"softReboots\":1,"
          "\"takesFinished\":true,\"users\":true,\"version\":\"0.1.0\"}" },
        { &facts_record, "{}" },
        { &assignment_record, "{\"order\":\"run\",\"unit\":7,\"verdict\":{\"args\":[\"beta\",\"gamma had "
                              "it\"],\"code\":\"leaves-lost\"}}" },
        { &assignment_record, "{\"order\":\"run\",\"reason\":\"fewest units (2)\",\"since\":1700000000000,"
                              "\"term\":4,\"unit\":1712}" },
        { &presence_record,
          "{\"away\":5,\"losses\":2,\"lost\":10,\"quiet\":30010,\"since\":12,\"state\":\"away\"}" },
        { &presence_record, "{\"reason\":7,\"state\":\"up\"}", "reason: expected a string" },
        { &state_record, "{\"active\":\"inactive\",\"done\":true,\"hash\":\"abc\",\"job\":\"dependency\","
                         "\"load\":\"loaded\",\"reason\":\"a unit failed\",\"since\":7,\"sub\":\"dead\"}" },
        { &state_record, "{\"active\":\"active\",\"invocation\":\"0123456789abcdef0123456789abcdef\","
                         "\"load\":\"loaded\",\"since\":7,\"sub\":\"running\"}" },
};

static void a_record_is_read_completely_or_rejected(void **state) {
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const Row *row = &rows[i];
                AnyRecord record = {}, untouched = {};
                _cleanup_text_ Text t = {};
                Error err = {};
                int r;

                assert_true(row->type->size <= sizeof(record));
                r = json_record_read(row->type, row->json, strlen(row->json), &record, &err);
                if (row->message) {
                        if (r != -EBADMSG || !strstr(err.message, row->message))
                                fail_msg("%s: %d, %s", row->json, r, err.message);
                        assert_memory_equal(&record, &untouched, sizeof(record));
                        continue;
                }
                if (r != 0)
                        fail_msg("%s: %d, %s", row->json, r, err.message);
                json_record_write(&t, row->type, &record);
                assert_string_equal(t.chars, row->json);
                json_record_done(row->type, &record);
        }
}

/* A value that is cut at any byte is no record. */
static void a_rollout_is_named_by_what_changes(void **state) {
        static const struct {
                RolloutText from, to;
                const char *label;
        } labels[] = {
                { { 1, HASH_1, 0 }, { 2, HASH_2, 0 }, "revision 2" },
                { { 1, HASH_1, 3 }, { 2, HASH_2, 4 }, "revision 2" },
                { { 2, HASH_2, 3 }, { 2, HASH_2, 4 }, "content 4" },
                { { 2, HASH_2, 4 }, { 2, HASH_2, 4 }, "revision 2" },
                { {}, { 2, HASH_2, 4 }, "revision 2" }, /* what they had is unknown */
        };

        for (size_t i = 0; i < ELEMENTS(labels); i++) {
                const RolloutRecord record = { .from = labels[i].from, .to = labels[i].to };
                char label[ROLLOUT_LABEL_SIZE];

                rollout_record_label(&record, label);
                assert_string_equal(label, labels[i].label);
                assert_int_equal(rollout_record_is_of_content(&record), starts_with(label, "content"));
        }
}

static void a_value_that_is_cut_is_rejected(void **state) {
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (size_t size = 0; !rows[i].message && size < strlen(rows[i].json); size++) {
                        AnyRecord record = {};

                        assert_int_equal(json_record_read(rows[i].type, rows[i].json, size, &record, NULL),
                                         -EBADMSG);
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
                assert_int_equal(json_record_read(row->type, json.chars, json.size, &record, NULL), 0);
                json_record_write(&t, row->type, &record);
                assert_string_equal(t.chars, row->json);
                json_record_done(row->type, &record);
        }
}

/* Text for people is cut, also within a character, and the record remains one. */
static void the_reasons_of_records_have_limits(void **state) {
        static const struct {
                const Row row;
                size_t offset, size;
        } texts[] = {
                { { &rollout_record, "{\"why\":\"%s\"," ROLLS "}" },
                  offsetof(RolloutRecord, why),
                  ROLLOUT_WHY_SIZE },
                { { &rollout_record, "{\"by\":\"%s\"," ROLLS "}" },
                  offsetof(RolloutRecord, by),
                  RECORDED_BY_SIZE },
                { { &reboot_record, "{\"kind\":\"reboot\",\"state\":\"failed\",\"why\":\"%s\"}" },
                  offsetof(RebootRecord, why.args),
                  VERDICT_ARGS_SIZE },
                { { &move_record, "{\"by\":\"%s\",\"to\":\"" MACHINE "\"}" },
                  offsetof(MoveRecord, by),
                  RECORDED_BY_SIZE },
                { { &maintenance_record, "{\"mode\":\"drained\",\"why\":\"%s\"}" },
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
                        assert_int_equal(json_record_read(row->type, json.chars, json.size, &record, NULL),
                                         0);
                        got = (const char *) &record + texts[i].offset;
                        if (n < texts[i].size)
                                assert_string_equal(got, value.chars);
                        else {
                                assert_true(strlen(got) < texts[i].size);
                                assert_true(starts_with(got, "xxx"));
                        }
                        json_record_write(&again, row->type, &record);
                        json_record_done(row->type, &record);
                        assert_int_equal(json_record_read(row->type, again.chars, again.size, &record, NULL),
                                         0);
                        json_record_done(row->type, &record);
                }
}

static void a_root_and_a_sealed_key_have_limits(void **state) {
        static const struct {
                const JsonRecord *type;
                const char *before, *after;
                size_t max;
        } texts[] = {
                { &ca_roots_record, "{\"roots\":[{\"id\":\"" PIN_1 "\",\"pem\":\"",
                  "\",\"state\":\"current\"}]}", CA_PEM_MAX },
                { &ca_keys_record, "{\"keys\":[{\"clusterKey\":1,\"root\":\"" PIN_1 "\",\"sealed\":\"",
                  "\"}]}", CA_SEALED_MAX },
        };

        for (size_t i = 0; i < 2 * ELEMENTS(texts); i++) {
                size_t k = i / 2, over = i % 2;
                _cleanup_text_ Text json = {};
                AnyRecord record = {};

                text_append(&json, texts[k].before);
                for (size_t n = 0; n < texts[k].max + over; n++)
                        text_append_char(&json, 'p');
                text_append(&json, texts[k].after);
                assert_int_equal(json_record_read(texts[k].type, json.chars, json.size, &record, NULL),
                                 over ? -EBADMSG : 0);
                json_record_done(texts[k].type, &record);
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
                cmocka_unit_test(a_rollout_is_named_by_what_changes),
                cmocka_unit_test(a_value_that_is_cut_is_rejected),
                cmocka_unit_test(an_unknown_member_is_ignored),
                cmocka_unit_test(the_reasons_of_records_have_limits),
                cmocka_unit_test(a_root_and_a_sealed_key_have_limits),
                cmocka_unit_test(names_of_tokens_and_users_are_checked),
                cmocka_unit_test(roots_and_keys_are_found),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}

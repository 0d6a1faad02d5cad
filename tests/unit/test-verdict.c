#include "tests/lib/test.h"
#include "base/memory.h"
#include "tests/lib/message.h"
#include "units/stored_json.h"
#include "units/verdict_former.h"

/* The messages that the version before sends and stores, and by which it decides. */
static const struct {
        Verdict verdict;
        const char *message;
} presences[] = {
        { { VERDICT_NONE }, "" },
        { { VERDICT_AWAY_CLOSED }, "its fleetd lost its session" },
        { { VERDICT_AWAY_HUNG }, "its fleetd does not answer, its kernel does" },
        { { VERDICT_AWAY_STOPPED }, "its fleetd was stopped" },
        { { VERDICT_AWAY_CUT }, "it does not reach the leader, but another replica" },
        { { VERDICT_LOST_CLOSED }, "its fleetd lost its session, and has been away for too long" },
        { { VERDICT_LOST_HUNG }, "its fleetd does not answer, and has been away for too long" },
        { { VERDICT_LOST_STOPPED }, "its fleetd was stopped, and has been away for too long" },
        { { VERDICT_LOST_SILENT }, "no message from its fleetd or its kernel" },
        { { VERDICT_LOST_UNREPORTED }, "it has not reported since the cluster was recovered or restored" },
        { { VERDICT_LEFT }, "it shut down" },
        { { VERDICT_REPLICA_WORKS }, "its replica works again" },
        { { VERDICT_IDENTITY_COPY, VERDICT_OF_IDENTITY },
          "its identity: a copy of this host was rejected; how it gets an ID of its own: fleetctl help "
          "replace" },
        { { VERDICT_IDENTITY_KEY, VERDICT_OF_IDENTITY, .args = "alpha" },
          "its identity: a host with this ID and another key was rejected; to admit it: fleetctl token "
          "--replace=alpha" },
        { { VERDICT_IDENTITY_ALONE }, "no other host has its machine ID" },
        { { VERDICT_CLOCK_AHEAD, VERDICT_OF_CLOCK, .args = "31 s" },
          "its clock: clock is 31 s ahead of the leader's" },
        { { VERDICT_CLOCK_BEHIND, VERDICT_OF_CLOCK, .args = "3 days" },
          "its clock: clock is 3 days behind the leader's" },
        { { VERDICT_CLOCK_AGREES }, "its clock agrees with the leader's" },
        { { VERDICT_SESSION_SINGLE, VERDICT_OF_SESSIONS },
          "its sessions: one only for a minute; other replicas work" },
        { { VERDICT_SESSIONS_TWO }, "it has two sessions" },
        { { VERDICT_SAID, VERDICT_OF_REPLICA, true, "8 KiB are free" }, "its replica: 8 KiB are free" },
        { { VERDICT_SAID, .said = true, .args = "its battery is empty" }, "its battery is empty" },
};

static const struct {
        Verdict verdict;
        const char *message;
        VerdictCode former; /* as which a message without a code is read */
} replicas[] = {
        { { VERDICT_REPLICA_STOPPED, .args = "no space left" },
          "this host's replica has stopped: no space left",
          VERDICT_SAID },
        { { VERDICT_TREE_DIFFERS },
          "this host's tree differs from the majority's: it will get the leader's",
          VERDICT_SAID },
        { { VERDICT_TREE_UNDECIDED },
          "the replicas' trees differ, and no majority of them agrees",
          VERDICT_SAID },
        { { VERDICT_TREE_REFUSED, .args = "cannot store it: x" },
          "cannot use the tree that the leader sends: cannot store it: x",
          VERDICT_SAID },
        { { VERDICT_NO_LISTENER, .args = "10.0.0.6:2380" },
          "none: it cannot listen on 10.0.0.6:2380; correct ListenPeer=",
          VERDICT_SAID },
        { { VERDICT_KEY_MISSING, .args = "7" },
          "cluster key missing: the leader sends secrets/key.7; if it has none: fleet-security(7)",
          VERDICT_KEY_MISSING },
        { { VERDICT_KEY_DAMAGED, .args = "7" },
          "cluster key missing: the leader replaces secrets/key.7; if it has none: fleet-security(7)",
          VERDICT_KEY_MISSING },
        { { VERDICT_KEY_SEALED, .args = "7" },
          "cluster key sealed: this host cannot open or seal secrets/key.7; see its journal",
          VERDICT_KEY_SEALED },
        { { VERDICT_KEY_AS_IT_IS, .args = "7" },
          "cluster key not sealed: secrets/key.7 is on disk as it is; see the journal of fleetd",
          VERDICT_KEY_AS_IT_IS },
        { { VERDICT_KEY_NOT_STORED, .args = "7" },
          "cluster key not sealed: secrets/key.7 is not on disk; see the journal of fleetd",
          VERDICT_KEY_AS_IT_IS },
        { { VERDICT_KEY_READABLE, .args = "7" },
          "cluster key unusable: chmod 600 secrets/key.7; others may have read it",
          VERDICT_SAID },
        { { VERDICT_KEY_UNUSABLE, .args = "Input/output error" },
          "cluster key unusable: Input/output error",
          VERDICT_SAID },
        { { VERDICT_SAID, .said = true, .args = "cluster key missing" },
          "cluster key missing",
          VERDICT_SAID },
};

/* Others have the text of the row as it was said. */
static const struct {
        Verdict verdict;
        const char *message;
} rows[] = {
        { { VERDICT_LEAVES_LOST, .args = "beta" VERDICT_NEXT "gamma had it" }, "beta is lost; gamma had it" },
        { { VERDICT_LEAVES_LEFT, .args = "beta" VERDICT_NEXT "gamma had it" },
          "beta was shut down; gamma had it" },
        { { VERDICT_MOVE_REQUESTED, .args = "beta" }, "move to beta" },
        { { VERDICT_MOVE_DONE, .args = "beta" VERDICT_NEXT "a.service" VERDICT_NEXT }, "moved to beta" },
        { { VERDICT_MOVE_FAILED, .args = "beta" VERDICT_NEXT "a.service" VERDICT_NEXT "no" },
          "move of a.service to beta failed: no" },
        { { VERDICT_MOVE_LOST, .args = "beta" VERDICT_NEXT "a.service" VERDICT_NEXT "it is lost" },
          "move of a.service to beta failed: it is lost" },
        { { VERDICT_MOVE_ENDED, .args = "beta" VERDICT_NEXT "a.service" VERDICT_NEXT "no" },
          "move of a.service to beta ended: no" },
};

static void each_code_has_the_message_of_the_version_before(void **state) {
        bool seen[_VERDICT_MAX] = {};

        for (size_t i = 0; i < ELEMENTS(presences); i++) {
                assert_string_equal(message_of(&presences[i].verdict), presences[i].message);
                seen[presences[i].verdict.code] = true;
        }
        for (size_t i = 0; i < ELEMENTS(replicas); i++) {
                assert_string_equal(message_of(&replicas[i].verdict), replicas[i].message);
                seen[replicas[i].verdict.code] = true;
        }
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_string_equal(message_of(&rows[i].verdict), rows[i].message);
                seen[rows[i].verdict.code] = true;
        }
        for (VerdictCode code = 0; code < _VERDICT_MAX; code++)
                assert_true(seen[code] ||
                            (code >= VERDICT_SILENT &&
                             code <= VERDICT_ENDED_ITSELF) || /* test-scheduler, test-agent */
                            code >= VERDICT_LEAVES_REMOVED || /* test-engine_places, test-reboot */
                            streq(verdict_rows[code].message, "%1"));
}

/* A message with an argument is kept as it was said. */
static void a_message_of_the_version_before_has_its_code_or_its_aspect(void **state) {
        for (size_t i = 0; i < ELEMENTS(presences); i++) {
                const Verdict *v = &presences[i].verdict;
                Verdict read;

                verdict_read_former(VERDICT_IN_PRESENCE, presences[i].message, &read);
                assert_string_equal(message_of(&read), presences[i].message);
                assert_int_equal(read.code, v->args[0] ? VERDICT_SAID : v->code);
                assert_int_equal(read.of, v->of);
                assert_true(verdict_equal(&read, v) && verdict_equal(v, &read));
        }
}

static void a_problem_of_a_replica_of_the_version_before_has_its_code(void **state) {
        for (size_t i = 0; i < ELEMENTS(replicas); i++) {
                char reason[160];
                Verdict read;

                verdict_read_former(VERDICT_IN_HEARTBEAT, replicas[i].message, &read);
                assert_int_equal(read.code, replicas[i].former);
                assert_string_equal(message_of(&read), replicas[i].message);
                snprintf(reason, sizeof(reason), "its replica: %s", replicas[i].message);
                verdict_read_former(VERDICT_IN_PRESENCE, reason, &read);
                assert_int_equal(read.code, replicas[i].former);
                assert_int_equal(read.of, VERDICT_OF_REPLICA);
                assert_string_equal(message_of(&read), reason);
        }
}

static void a_replica_does_not_take_the_code_of_another_verdict(void **state) {
        Verdict read;

        verdict_read_former(VERDICT_IN_PRESENCE, "its replica: its fleetd was stopped", &read);
        assert_int_equal(read.code, VERDICT_SAID);
        assert_int_equal(read.of, VERDICT_OF_REPLICA);
        verdict_read_former(VERDICT_IN_HEARTBEAT, "its clock: its fleetd was stopped", &read);
        assert_int_equal(read.code, VERDICT_SAID);
        assert_int_equal(read.of, VERDICT_OF_ALL);
}

static void verdicts_differ_by_code_argument_and_aspect(void **state) {
        Verdict a, b;

        verdict_set(&a, VERDICT_CLOCK_AHEAD, "%d s", 31);
        b = a;
        assert_true(verdict_equal(&a, &b));
        b.of = VERDICT_OF_CLOCK;
        assert_false(verdict_equal(&a, &b));
        verdict_set(&b, VERDICT_CLOCK_AHEAD, "%d s", 32);
        assert_false(verdict_equal(&a, &b));
        verdict_set(&b, VERDICT_CLOCK_BEHIND, "%d s", 31);
        assert_false(verdict_equal(&a, &b));
}

static void assert_stored(const Verdict *verdict, const char *json) {
        _cleanup_text_ Text t = {};
        PresenceRecord record = { .presence = PRESENCE_UP, .verdict = *verdict };
        PresenceRecord again;

        stored_presence_write(&t, &record);
        assert_string_equal(t.chars, json);
        assert_int_equal(stored_presence_read(t.chars, t.size, &again, NULL), 0);
        assert_int_equal(again.verdict.code, verdict->code);
        assert_int_equal(again.verdict.of, verdict->of);
        assert_true(verdict_equal(&again.verdict, verdict));
}

static void a_presence_has_code_arguments_and_aspect_beside_the_message(void **state) {
        assert_stored(&(Verdict) {}, "{\"state\":\"up\"}");
        assert_stored(&(Verdict) { VERDICT_REPLICA_WORKS },
                      "{\"reason\":\"its replica works again\",\"state\":\"up\","
                      "\"verdict\":{\"code\":\"replica-works\"}}");
        assert_stored(&(Verdict) { VERDICT_CLOCK_AHEAD, VERDICT_OF_CLOCK, .args = "31 s" },
                      "{\"reason\":\"its clock: clock is 31 s ahead of the leader's\",\"state\":\"up\","
                      "\"verdict\":{\"args\":[\"31 s\"],\"code\":\"clock-ahead\",\"of\":\"clock\"}}");
        assert_stored(&(Verdict) { VERDICT_SAID, VERDICT_OF_REPLICA, true, "8 KiB are free" },
                      "{\"reason\":\"its replica: 8 KiB are free\",\"state\":\"up\","
                      "\"verdict\":{\"of\":\"replica\"}}");
        /* Of a host of the version before. */
        assert_stored(&(Verdict) { VERDICT_KEY_MISSING, VERDICT_OF_REPLICA, true, "cluster key missing: a" },
                      "{\"reason\":\"its replica: cluster key missing: a\",\"state\":\"up\","
                      "\"verdict\":{\"code\":\"key-missing\",\"of\":\"replica\"}}");
}

static Verdict read_presence(const char *json) {
        PresenceRecord record = {};

        assert_int_equal(stored_presence_read(json, strlen(json), &record, NULL), 0);
        return record.verdict;
}

static void an_unknown_code_keeps_its_name_and_message_and_decides_nothing(void **state) {
        Verdict v = read_presence(
                "{\"reason\":\"its replica: cluster key missing: x\",\"state\":\"up\","
                "\"verdict\":{\"args\":[\"1\"],\"code\":\"moon-full\",\"of\":\"replica\"}}");

        assert_int_equal(v.code, VERDICT_SAID);
        assert_int_equal(v.of, VERDICT_OF_REPLICA);
        assert_string_equal(verdict_name(&v), "moon-full");
        assert_string_equal(message_of(&v), "its replica: cluster key missing: x");
        assert_stored(&v, "{\"reason\":\"its replica: cluster key missing: x\",\"state\":\"up\","
                          "\"verdict\":{\"code\":\"moon-full\",\"of\":\"replica\"}}");
        /* A later version may find another part of a host that has to work for a vote. */
        v = read_presence("{\"reason\":\"its battery: empty\",\"state\":\"up\","
                          "\"verdict\":{\"code\":\"battery-empty\",\"of\":\"battery\"}}");
        assert_int_equal(v.of, VERDICT_OF_REPLICA);
}

static void the_code_counts_and_not_the_message(void **state) {
        PresenceRecord record;
        Verdict v = read_presence("{\"reason\":\"its daemon has ended\",\"state\":\"away\","
                                  "\"verdict\":{\"code\":\"away-stopped\"}}");

        assert_int_equal(v.code, VERDICT_AWAY_STOPPED);
        assert_string_equal(message_of(&v), "its fleetd was stopped");
        assert_int_equal(stored_presence_read("{\"state\":\"up\",\"verdict\":\"x\"}", 28, &record, NULL),
                         -EBADMSG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_code_has_the_message_of_the_version_before),
                cmocka_unit_test(a_message_of_the_version_before_has_its_code_or_its_aspect),
                cmocka_unit_test(a_problem_of_a_replica_of_the_version_before_has_its_code),
                cmocka_unit_test(a_replica_does_not_take_the_code_of_another_verdict),
                cmocka_unit_test(a_presence_has_code_arguments_and_aspect_beside_the_message),
                cmocka_unit_test(an_unknown_code_keeps_its_name_and_message_and_decides_nothing),
                cmocka_unit_test(the_code_counts_and_not_the_message),
                cmocka_unit_test(verdicts_differ_by_code_argument_and_aspect),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

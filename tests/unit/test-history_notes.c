/* Bodies of the history as bytes. */
#include <fcntl.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "fleetd/registry/history.h"
#include "tests/lib/message.h"

static const char machine[] = "00112233445566778899aabbccddeeff";

static HistoryEvent again(const HistoryNote *note, size_t *ret_size) {
        uint8_t body[KV_NOTE_MAX];
        HistoryEvent event;
        size_t size = history_encode(note, false, body);

        assert_int_equal(history_decode((KvBytes) { body, size }, &event), 0);
        if (ret_size)
                *ret_size = size;
        return event;
}

static void a_note_is_read_as_it_was_written(void **state) {
        const HistoryNote note = { HISTORY_STATE, "web@3.service", machine, "root", "active (auto-restart)" };
        HistoryEvent event;

        event = again(&note, NULL);
        assert_int_equal(event.kind, HISTORY_STATE);
        assert_string_equal(event.unit, note.unit);
        assert_string_equal(event.machine, machine);
        assert_string_equal(event.user, "root");
        assert_string_equal(event.reason, note.reason);

        event = again(&(HistoryNote) { .kind = HISTORY_LEVEL }, NULL);
        assert_int_equal(event.kind, HISTORY_LEVEL);
        assert_string_equal(event.unit, "");
        assert_string_equal(event.machine, "");
        assert_string_equal(event.user, "");
        assert_string_equal(event.reason, "");
}

/* 100,000 rows have to fit into 16 MiB: with keys, times and what LMDB adds. */
static void a_typical_body_is_small(void **state) {
        static const HistoryNote typical[] = {
                { HISTORY_STATE, "a-unit-whose-name-has-40-bytes-1.service", machine, NULL,
                  "active (running)" },
                { HISTORY_TARGET, "a-unit-whose-name-has-40-bytes-1.service", NULL, "root", "launched" },
                { HISTORY_PRESENCE, NULL, machine, NULL, "lost: no message from its fleetd or its kernel" },
        };
        size_t size;

        for (size_t i = 0; i < ELEMENTS(typical); i++) {
                (void) again(&typical[i], &size);
                assert_true(size <= 102);
        }
}

static void long_texts_are_cut_in_whole_characters(void **state) {
        char unit[UNIT_NAME_MAX + 1], user[100], reason[1000], expected[HISTORY_REASON_SIZE];
        HistoryEvent event;
        size_t size;

        memset(unit, 'u', sizeof(unit));
        unit[UNIT_NAME_MAX] = 0;
        memset(user, 'n', sizeof(user));
        user[99] = 0;
        for (size_t i = 0; i + 2 < sizeof(reason); i += 2)
                memcpy(reason + i, "\xc3\xbc", 3); /* ü */

        event = again(&(HistoryNote) { .kind = HISTORY_STATE, .reason = reason }, NULL);
        assert_int_equal(strlen(event.reason), HISTORY_REASON_SIZE - 1);
        memcpy(expected, reason, HISTORY_REASON_SIZE - 4);
        strcpy(expected + HISTORY_REASON_SIZE - 4, "...");
        assert_string_equal(event.reason, expected);

        event = again(&(HistoryNote) { HISTORY_STATE, unit, machine, user, reason }, &size);
        assert_true(size == KV_NOTE_MAX || size == KV_NOTE_MAX - 1);
        assert_string_equal(event.unit, unit);
        assert_string_equal(event.machine, machine);
        assert_int_equal(strlen(event.user), HISTORY_USER_SIZE - 1);
        assert_int_equal(strlen(event.reason) % 2, 1);
        assert_string_equal(event.reason + strlen(event.reason) - 3, "...");
}

/* The begin of a command may be another command: "rm -r /var/lib/fleet /etc/" of "/etc/fleet/...". */
static void a_cut_is_marked_and_leaves_whole_words(void **state) {
        char reason[1000], expected[HISTORY_REASON_SIZE], written[HISTORY_REASON_SIZE];
        HistoryEvent event;

        for (size_t words = 200; words < HISTORY_REASON_SIZE; words++) {
                memset(reason, 'w', words);
                for (size_t i = 9; i < words; i += 10)
                        reason[i] = ' ';
                strcpy(reason + words, " /etc/fleet/fleetd.conf.d/50-cluster.conf; systemctl start fleetd");
                event = again(&(HistoryNote) { .kind = HISTORY_STATE, .reason = reason }, NULL);
                assert_true(strlen(event.reason) < HISTORY_REASON_SIZE);
                assert_null(strstr(event.reason, "/etc/..."));
                memcpy(expected, event.reason, sizeof(expected));
                assert_string_equal(expected + strlen(expected) - 3, "...");
                expected[strlen(expected) - 3] = 0;
                assert_memory_equal(reason, expected, strlen(expected));
                assert_int_equal(reason[strlen(expected)], ' ');
                text_format(written, sizeof(written), "%s", reason);
                assert_string_equal(written, event.reason);
        }
}

static void a_reason_is_one_line(void **state) {
        HistoryEvent event = again(&(HistoryNote) { .kind = HISTORY_PROBLEM, .reason = "line 4\nline 5" },
                                   NULL);

        assert_string_equal(event.reason, "line 4");
}

static void a_code_counts_and_not_the_reason(void **state) {
        static const char bytes[] = "\x1d\x80\0\0\x09moon-full\2ab"
                                    "not in time";
        static const Verdict lost = { VERDICT_LEAVES_LOST, .args = "beta" VERDICT_NEXT "gamma had it" };
        Verdict moved;
        HistoryNote notes[] = {
                { HISTORY_STATE, "a.service", machine, "root", "its reason", VERDICT_STOPPED_BY_HAND },
                { HISTORY_MAINTENANCE, NULL, machine, "root", "replaced in time" },
                { HISTORY_ASSIGNED, "a.service", machine, .verdict = &lost },
                { HISTORY_MOVE, "a.service", machine, .verdict = &moved },
        };
        static const char *const reasons[] = { "its reason", "replaced in time", "beta is lost; gamma had it",
                                               "move of a.service to gamma failed: no" };
        static const VerdictCode codes[] = { VERDICT_STOPPED_BY_HAND, VERDICT_SAID, VERDICT_LEAVES_LOST,
                                             VERDICT_MOVE_FAILED };
        uint8_t body[KV_NOTE_MAX];
        HistoryEvent event;
        size_t size;

        verdict_set(&moved, VERDICT_MOVE_FAILED, "gamma" VERDICT_NEXT "a.service" VERDICT_NEXT "no");
        for (size_t i = 0; i < ELEMENTS(notes); i++) {
                size = history_encode(&notes[i], true, body);
                assert_int_equal(history_decode((KvBytes) { body, size }, &event), 0);
                assert_int_equal(event.verdict.code, codes[i]);
                assert_int_equal(event.kind, notes[i].kind);
                assert_string_equal(event.machine, machine);
                assert_string_equal(event.reason, reasons[i]);
        }
        assert_int_equal(strncmp(verdict_argument(&event.verdict, 0, &size), "gamma", 5), 0);
        assert_int_equal(size, 5);
        /* Of a later version; and cut. */
        assert_int_equal(history_decode((KvBytes) { bytes, sizeof(bytes) - 1 }, &event), 0);
        assert_int_equal(event.verdict.code, VERDICT_SAID);
        assert_string_equal(verdict_name(&event.verdict), "moon-full");
        assert_string_equal(event.reason, "not in time");
        for (size = 0; size < 17; size++)
                assert_int_equal(history_decode((KvBytes) { bytes, size }, &event), -EBADMSG);
}

/* Of a daemon that writes no codes. */
static void a_row_has_its_code(void **state) {
        static const struct {
                HistoryKind kind;
                const char *reason;
                VerdictCode code;
        } rows[] = {
                { HISTORY_MOVE, "move to gamma", VERDICT_MOVE_REQUESTED },
                { HISTORY_MOVE, "moved to gamma", VERDICT_MOVE_DONE },
                { HISTORY_MOVE, "move of a.service to gamma failed: it did not start there",
                  VERDICT_MOVE_FAILED },
                { HISTORY_MOVE, "move of a.service to gamma failed: it is lost: twice", VERDICT_MOVE_FAILED },
                { HISTORY_MOVE, "move of a.service to gamma failed: it ended: no", VERDICT_MOVE_FAILED },
                { HISTORY_MOVE, "move of a.service to gamma failed: it is lost", VERDICT_MOVE_LOST },
                { HISTORY_MOVE, "move of a.service to gamma failed: it was shut down", VERDICT_MOVE_LOST },
                { HISTORY_MOVE, "move of a.service to gamma ended: it failed: no", VERDICT_MOVE_ENDED },
                { HISTORY_MOVE, "move of a.service to gamma ended: it stays", VERDICT_MOVE_ENDED },
                { HISTORY_MOVE, "move of b.service to gamma ended: it stays", VERDICT_SAID },
                { HISTORY_MOVE, "move of a.service to gamma...", VERDICT_SAID },
                { HISTORY_MOVE, "move of a.service to gamma is late", VERDICT_SAID },
                { HISTORY_MOVE, "", VERDICT_NONE },
                { HISTORY_STATE, "move to gamma", VERDICT_SAID },
                { HISTORY_ADOPTION, "the cluster was restored at index 7 of lineage 1", VERDICT_RESTORED },
                { HISTORY_ADOPTION, "the cluster was recovered at index 7 of lineage 1", VERDICT_RECOVERED },
                { HISTORY_ADOPTION, "ended: assignments are in force again", VERDICT_SAID },
                { HISTORY_ASSIGNED, "beta is lost; gamma had the fewest units", VERDICT_LEAVES_LOST },
                { HISTORY_ASSIGNED, "beta was shut down; gamma had the fewest units", VERDICT_LEAVES_LEFT },
                { HISTORY_LEAVE, "begun: its units move away", VERDICT_LEAVE_BEGUN },
                { HISTORY_LEAVE, "cancelled", VERDICT_SAID },
                { HISTORY_MAINTENANCE, "it is not back in time", VERDICT_REBOOT_FAILED },
                { HISTORY_MAINTENANCE, "it was lost while it was drained", VERDICT_REBOOT_FAILED },
                { HISTORY_MAINTENANCE, "cordoned: it was lost while it was drained", VERDICT_DRAIN_LOST },
                { HISTORY_MAINTENANCE, "rebooted", VERDICT_REBOOTED },
                { HISTORY_MAINTENANCE, "uncordoned", VERDICT_SAID },
                { HISTORY_PRESENCE, "up: its replica works again", VERDICT_UP },
                { HISTORY_PRESENCE, "away: its fleetd was stopped", VERDICT_AWAY },
                { HISTORY_PRESENCE, "lost: no message from its fleetd or its kernel", VERDICT_LOST },
                { HISTORY_PRESENCE, "lost: it has not reported since the cluster was recovered or restored",
                  VERDICT_LOST_UNREPORTED },
                { HISTORY_PRESENCE, "left: it shut down", VERDICT_LEFT },
                { HISTORY_PROBLEM, "confirmed: the file replaces the unit", VERDICT_CONFIRMED },
                { HISTORY_ROLLOUT, "revision 2: paused: by ada", VERDICT_ROLLOUT_PAUSED_BY },
                { HISTORY_ROLLOUT, "revision 2: paused: it failed", VERDICT_ROLLOUT_PAUSED },
                { HISTORY_ROLLOUT, "revision 2 is reverted to 1: it failed", VERDICT_ROLLOUT_REVERTED },
                { HISTORY_ROLLOUT, "revision 2: done", VERDICT_SAID },
                { HISTORY_STATE, "activating (auto-restart): exit status 1", VERDICT_UNIT_RESTARTS_FAILED },
                { HISTORY_STATE, "activating (auto-restart)", VERDICT_UNIT_RESTARTS },
                { HISTORY_STATE, "failed: exit status 1", VERDICT_UNIT_FAILED },
                { HISTORY_STATE, "inactive (dead): stopped by hand", VERDICT_STOPPED_BY_HAND },
                { HISTORY_STATE, "not loaded (not-found)", VERDICT_UNIT_NOT_LOADED },
                { HISTORY_STATE, "not started: no", VERDICT_UNIT_NOT_STARTED },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                HistoryNote note = { .kind = rows[i].kind, .unit = "a.service", .reason = rows[i].reason };
                HistoryEvent event = again(&note, NULL);

                assert_int_equal(event.verdict.code, rows[i].code);
                assert_string_equal(message_of(&event.verdict), rows[i].reason);
        }
}

static void a_kind_of_a_newer_version_is_read(void **state) {
        HistoryEvent event;

        assert_int_equal(history_decode((KvBytes) { "\xc8\0\0\0what", 8 }, &event), 0);
        assert_int_equal(event.kind, 200);
        assert_string_equal(event.reason, "what");
        assert_null(history_kind_to_string(200));
}

static void other_bytes_are_rejected(void **state) {
        static const struct {
                const char *bytes;
                size_t size;
        } cases[] = {
                { "", 0 },
                { "\0", 1 },
                { "\0\0", 2 },
                { "\0\0\0", 3 },                /* no user */
                { "\0\1a\0\0", 5 },             /* not an ID */
                { "\0\20aaaaaaaaaaaaaaa", 17 }, /* too few bytes of an ID */
                { "\0\0\5abc\0", 7 },           /* too few of a unit */
                { "\0\0\3a\0b\0", 7 },          /* a NUL in a unit */
                { "\0\0\0\2a", 5 },             /* too few of a user */
                { "\0\0\0\0a\0b", 7 },          /* a NUL in a reason */
        };
        char user[64] = { 0, 0, 0, 40 }, reason[4 + HISTORY_REASON_SIZE] = { 0, 0, 0, 0 };
        HistoryEvent event;

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                assert_int_equal(history_decode((KvBytes) { cases[i].bytes, cases[i].size }, &event),
                                 -EBADMSG);
        memset(user + 4, 'a', sizeof(user) - 4);
        assert_int_equal(history_decode((KvBytes) { user, sizeof(user) }, &event), -EBADMSG);
        memset(reason + 4, 'a', sizeof(reason) - 4);
        assert_int_equal(history_decode((KvBytes) { reason, sizeof(reason) }, &event), -EBADMSG);
        assert_int_equal(history_decode((KvBytes) { reason, sizeof(reason) - 1 }, &event), 0);
}

static void each_kind_has_a_name_of_its_own(void **state) {
        for (HistoryKind kind = 0; kind < _HISTORY_KIND_MAX; kind++) {
                assert_non_null(history_kind_to_string(kind));
                assert_int_equal(history_kind_from_string(history_kind_to_string(kind)), kind);
        }
        /* Stored numbers. */
        assert_int_equal(HISTORY_SUBMITTED, 0);
        assert_int_equal(HISTORY_STATE, 6);
        assert_int_equal(HISTORY_REMOVED, 16);
        assert_int_equal(HISTORY_REJECTED, 23);
        assert_int_equal(HISTORY_DENIED, 26);
        assert_int_equal(HISTORY_WAITING, 27);
        assert_int_equal(HISTORY_LEADER, 28);
        assert_int_equal(HISTORY_MAINTENANCE, 29);
        assert_int_equal(HISTORY_ROLLOUT, 30);
        assert_int_equal(HISTORY_MOVE, 31);
        assert_int_equal(HISTORY_SECRET, 32);
        assert_int_equal(HISTORY_CONTENT, 33);
}

static void each_message_id_is_in_the_manual(void **state) {
        const char *top = getenv("srcdir") ?: ".", *at, *end;
        _cleanup_free_ char *manual = NULL, *path = NULL;
        size_t size, n = 0;

        assert_true(asprintf(&path, "%s/man/fleetd.8.scd", top) > 0);
        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 20, &manual, &size), 0);
        at = strstr(manual, "\n# MESSAGES\n");
        assert_non_null(at);
        end = strstr(at, "\n# METRICS\n");
        assert_non_null(end);
        for (HistoryKind kind = 0; kind < _HISTORY_KIND_MAX; kind++) {
                _cleanup_free_ char *row = NULL;
                const char *id = history_message_id(kind), *entry;

                if (!id)
                        continue;
                assert_int_equal(strlen(id), 32);
                assert_int_equal(strspn(id, "0123456789abcdef"), 32);
                for (HistoryKind before = 0; before < kind; before++)
                        assert_true(!history_message_id(before) || !streq(history_message_id(before), id));
                assert_true(asprintf(&row, "\n|  _%s_\n:  %s\n", history_kind_to_string(kind), id) > 0);
                entry = strstr(at, row);
                if (!entry || entry > end)
                        fail_msg("MESSAGES of man/fleetd.8.scd lacks:%s", row);
                n++;
        }
        for (const char *p = at; p && p < end; p = strchr(p + 1, '\n'))
                n -= starts_with(p, "\n|  _");
        if (n != 0)
                fail_msg("MESSAGES of man/fleetd.8.scd has a message that does not exist");
        assert_null(history_message_id(_HISTORY_KIND_MAX)); /* of a newer version */
}

int main(int argc, char **argv) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_note_is_read_as_it_was_written),
                cmocka_unit_test(a_typical_body_is_small),
                cmocka_unit_test(long_texts_are_cut_in_whole_characters),
                cmocka_unit_test(a_cut_is_marked_and_leaves_whole_words),
                cmocka_unit_test(a_reason_is_one_line),
                cmocka_unit_test(a_code_counts_and_not_the_reason),
                cmocka_unit_test(a_row_has_its_code),
                cmocka_unit_test(a_kind_of_a_newer_version_is_read),
                cmocka_unit_test(other_bytes_are_rejected),
                cmocka_unit_test(each_kind_has_a_name_of_its_own),
                cmocka_unit_test(each_message_id_is_in_the_manual),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/lib/test.h"
#include "kvstore/raft/message.h"
#include "tests/lib/alloc.h"

static void there_and_back(const RaftMessage *m, RaftMessage *ret, Writer *w) {
        *w = (Writer) {};
        raft_message_encode(w, m);
        assert_int_equal(w->error, 0);
        assert_int_equal(raft_message_decode(w->bytes, w->size, ret), 0);
        assert_int_equal(ret->type, m->type);
        assert_int_equal(ret->term, m->term);
}

static void an_append_decodes_with_its_entries(void **state) {
        RaftEntry entries[] = {
                { .term = 3, .type = RAFT_ENTRY_COMMAND, .data = "abc", .size = 3 },
                { .term = 3, .type = RAFT_ENTRY_BARRIER, .data = NULL, .size = 0 },
                { .term = 7, .type = RAFT_ENTRY_CHANGE, .data = "configuration", .size = 13 },
        };
        RaftMessage m = { .type = RAFT_MESSAGE_APPEND, .term = 9 }, back;
        _cleanup_writer_ Writer w;

        m.append.prev_index = 1ull << 60;
        m.append.prev_term = 2;
        m.append.commit = 12;
        m.append.entries = entries;
        m.append.n_entries = 3;
        there_and_back(&m, &back, &w);

        assert_int_equal(back.append.prev_index, 1ull << 60);
        assert_int_equal(back.append.prev_term, 2);
        assert_int_equal(back.append.commit, 12);
        assert_int_equal(back.append.n_entries, 3);
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(back.append.entries[i].term, entries[i].term);
                assert_int_equal(back.append.entries[i].type, entries[i].type);
                assert_int_equal(back.append.entries[i].size, entries[i].size);
                if (entries[i].size > 0)
                        assert_memory_equal(back.append.entries[i].data, entries[i].data, entries[i].size);
        }
        raft_message_done(&back);
        assert_null(back.append.entries);
        assert_int_equal(back.append.n_entries, 0);
        raft_message_done(&back); /* once more does no harm */
}

static void flags_decode_in_each_combination(void **state) {
        for (unsigned i = 0; i < 4; i++) {
                RaftMessage m = { .type = RAFT_MESSAGE_VOTE_RESULT,
                                  .term = 4,
                                  .vote_result = { i & 1, i & 2, 0, 0 } },
                            back;
                _cleanup_writer_ Writer w;

                there_and_back(&m, &back, &w);
                assert_int_equal(back.vote_result.granted, i & 1);
                assert_int_equal(back.vote_result.pre_vote, (i & 2) != 0);
                assert_int_equal(w.bytes[3], i); /* behind version, type and term */
        }
}

static void without_memory_for_its_entries_a_message_is_not_read(void **state) {
        static const uint8_t append[] = { 1, RAFT_MESSAGE_APPEND, 9, 1, 1, 0, 1, RAFT_ENTRY_COMMAND, 0, 0 };
        RaftMessage back;

        alloc_fail_at(1);
        assert_int_equal(raft_message_decode(append, sizeof(append), &back), -ENOMEM);
        assert_true(alloc_has_failed());
        alloc_fail_at(0);
}

static void every_other_message_decodes_completely(void **state) {
        RaftMessage result = { .type = RAFT_MESSAGE_APPEND_RESULT,
                               .term = 4,
                               .append_result = { 5, 6, 7, 8 } };
        RaftMessage vote = { .type = RAFT_MESSAGE_VOTE, .term = 4, .vote = { 5, 6, 3, true, false } };
        RaftMessage vote_result = { .type = RAFT_MESSAGE_VOTE_RESULT,
                                    .term = 4,
                                    .vote_result = { false, true, 1, 2 } };
        RaftMessage snapshot = { .type = RAFT_MESSAGE_SNAPSHOT,
                                 .term = 4,
                                 .snapshot = { 100, 3, 90, "conf", 4 } };
        RaftMessage now = { .type = RAFT_MESSAGE_TIMEOUT_NOW, .term = 4, .timeout_now = { 11, 4 } };
        RaftMessage back;
        Writer w;

        there_and_back(&result, &back, &w);
        assert_int_equal(back.append_result.rejected, 5);
        assert_int_equal(back.append_result.last_index, 6);
        assert_int_equal(back.append_result.features, 7);
        assert_int_equal(back.append_result.capacity, 8);
        writer_done(&w);

        there_and_back(&vote, &back, &w);
        assert_int_equal(back.vote.candidate, 5);
        assert_int_equal(back.vote.last_index, 6);
        assert_int_equal(back.vote.last_term, 3);
        assert_true(back.vote.disrupt_leader);
        assert_false(back.vote.pre_vote);
        writer_done(&w);

        there_and_back(&vote_result, &back, &w);
        assert_false(back.vote_result.granted);
        assert_true(back.vote_result.pre_vote);
        assert_int_equal(back.vote_result.features, 1);
        assert_int_equal(back.vote_result.capacity, 2);
        writer_done(&w);

        there_and_back(&snapshot, &back, &w);
        assert_int_equal(back.snapshot.index, 100);
        assert_int_equal(back.snapshot.index_term, 3);
        assert_int_equal(back.snapshot.configuration_index, 90);
        assert_int_equal(back.snapshot.configuration_size, 4);
        assert_memory_equal(back.snapshot.configuration, "conf", 4);
        writer_done(&w);

        there_and_back(&now, &back, &w);
        assert_int_equal(back.timeout_now.last_index, 11);
        assert_int_equal(back.timeout_now.last_term, 4);
        writer_done(&w);
}

static void a_message_cut_anywhere_or_followed_by_anything_is_refused(void **state) {
        RaftEntry entry = { .term = 3, .type = RAFT_ENTRY_COMMAND, .data = "abcdef", .size = 6 };
        RaftMessage m = { .type = RAFT_MESSAGE_APPEND, .term = 9 }, back;
        _cleanup_writer_ Writer w = {};

        m.append.prev_index = m.append.prev_term = 1;
        m.append.entries = &entry;
        m.append.n_entries = 1;
        raft_message_encode(&w, &m);
        for (size_t size = 0; size < w.size; size++)
                assert_int_equal(raft_message_decode(w.bytes, size, &back), -EBADMSG);

        write_u8(&w, 0);
        assert_int_equal(raft_message_decode(w.bytes, w.size, &back), -EBADMSG);
}

static void a_newer_version_and_an_unknown_type_differ_from_corruption(void **state) {
        uint8_t newer[] = { 2, RAFT_MESSAGE_TIMEOUT_NOW, 4, 1, 1 }, unknown[] = { 1, 99, 4, 1, 1 };
        RaftMessage back;

        assert_int_equal(raft_message_decode(newer, sizeof(newer), &back), -EPROTONOSUPPORT);
        assert_int_equal(raft_message_decode(unknown, sizeof(unknown), &back), -EPROTONOSUPPORT);
}

static void more_entries_than_the_limit_are_refused_before_memory_is_taken(void **state) {
        RaftMessage back;
        _cleanup_writer_ Writer w = {};

        write_u8(&w, 1);
        write_u8(&w, RAFT_MESSAGE_APPEND);
        for (unsigned i = 0; i < 4; i++)
                write_varint(&w, 1);
        write_varint(&w, UINT64_MAX);
        assert_int_equal(raft_message_decode(w.bytes, w.size, &back), -EBADMSG);
}

static void one_entry_more_than_the_limit_is_refused(void **state) {
        static RaftEntry entries[RAFT_MESSAGE_ENTRIES_MAX + 1];
        RaftMessage m = { .type = RAFT_MESSAGE_APPEND,
                          .term = 9,
                          .append = { .entries = entries, .n_entries = ELEMENTS(entries) } },
                    back;
        _cleanup_writer_ Writer w = {};

        for (size_t i = 0; i < ELEMENTS(entries); i++)
                entries[i] = (RaftEntry) { .term = 3, .type = RAFT_ENTRY_BARRIER };
        raft_message_encode(&w, &m);
        assert_int_equal(raft_message_decode(w.bytes, w.size, &back), -EBADMSG);
}

static void values_that_no_version_sends_are_refused(void **state) {
        static char large[RAFT_ENTRY_SIZE_MAX + 1];
        uint8_t vote[] = { 1, RAFT_MESSAGE_VOTE, 4, 2, 5, 3, 3 };
        RaftMessage back;

        assert_int_equal(raft_message_decode(vote, sizeof(vote), &back), 0);
        assert_true(back.vote.disrupt_leader && back.vote.pre_vote);
        vote[6] = 4; /* another flag */
        assert_int_equal(raft_message_decode(vote, sizeof(vote), &back), -EBADMSG);

        for (uint8_t type = 0; type <= 4; type++) { /* of an entry */
                uint8_t append[] = { 1, RAFT_MESSAGE_APPEND, 9, 1, 1, 0, 1, type, 0, 0 };

                assert_int_equal(raft_message_decode(append, sizeof(append), &back),
                                 type >= 1 && type <= 3 ? 0 : -EBADMSG);
                if (type >= 1 && type <= 3)
                        raft_message_done(&back);
        }
        /* An unused type, at the very end. */
        assert_int_equal(raft_message_decode(
                                 (const uint8_t[]) { 1, RAFT_MESSAGE_APPEND, 9, 1, 1, 0, 1, 4, 0 }, 9, &back),
                         -EBADMSG);
        for (size_t more = 0; more <= 1; more++) { /* the second entry's term may not go round */
                _cleanup_writer_ Writer w = {};

                write_u8(&w, 1);
                write_u8(&w, RAFT_MESSAGE_APPEND);
                write_varint(&w, UINT64_MAX);
                write_varint(&w, 1);
                write_varint(&w, UINT64_MAX);
                write_varint(&w, 0);
                write_varint(&w, 1);
                write_u8(&w, RAFT_ENTRY_COMMAND);
                write_varint(&w, more);
                write_blob(&w, large, 3);
                assert_int_equal(raft_message_decode(w.bytes, w.size, &back), more ? -EBADMSG : 0);
                if (!more)
                        raft_message_done(&back);
        }
        for (size_t over = 0; over <= 1; over++) {
                _cleanup_writer_ Writer w = {};

                write_raw(&w,
                          (const uint8_t[]) { 1, RAFT_MESSAGE_APPEND, 9, 1, 1, 0, 1, RAFT_ENTRY_COMMAND, 0 },
                          9);
                write_blob(&w, large, RAFT_ENTRY_SIZE_MAX + over);
                assert_int_equal(raft_message_decode(w.bytes, w.size, &back), over ? -EBADMSG : 0);
                if (!over)
                        raft_message_done(&back);
        }
}

static void the_largest_message_fits_its_limit(void **state) {
        RaftEntry entries[RAFT_MESSAGE_ENTRIES_MAX];
        _cleanup_free_ void *data = calloc(1, RAFT_ENTRY_SIZE_MAX);
        RaftMessage m = { .type = RAFT_MESSAGE_APPEND, .term = UINT64_MAX }, back;
        _cleanup_writer_ Writer w;

        for (size_t i = 0; i < ELEMENTS(entries); i++)
                entries[i] = (RaftEntry) { .term = UINT64_MAX,
                                           .type = RAFT_ENTRY_COMMAND,
                                           .data = data,
                                           .size = RAFT_ENTRY_SIZE_MAX };
        m.append.prev_index = m.append.prev_term = m.append.commit = UINT64_MAX;
        m.append.entries = entries;
        m.append.n_entries = ELEMENTS(entries);
        there_and_back(&m, &back, &w);
        assert_true(w.size <= RAFT_MESSAGE_ENTRIES_MAX * (RAFT_ENTRY_SIZE_MAX + 32) + 256);
        raft_message_done(&back);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_append_decodes_with_its_entries),
                cmocka_unit_test(flags_decode_in_each_combination),
                cmocka_unit_test(without_memory_for_its_entries_a_message_is_not_read),
                cmocka_unit_test(every_other_message_decodes_completely),
                cmocka_unit_test(a_message_cut_anywhere_or_followed_by_anything_is_refused),
                cmocka_unit_test(a_newer_version_and_an_unknown_type_differ_from_corruption),
                cmocka_unit_test(more_entries_than_the_limit_are_refused_before_memory_is_taken),
                cmocka_unit_test(one_entry_more_than_the_limit_is_refused),
                cmocka_unit_test(values_that_no_version_sends_are_refused),
                cmocka_unit_test(the_largest_message_fits_its_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

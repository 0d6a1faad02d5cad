/* Properties of all values: each is tested with 10,000 random values (CHECK_ALL=yes: a million). The seed is
 * fixed, so that a failure is repeatable. Properties with a longer setup are in the tests of their component:
 *
 *   tree against a model             test-tree, test-apply       hub against a scan of all     test-hub
 *   kept results against a model     test-dedup                commands, changed bytes       test-command
 *   log against a model, torn        test-raft_log               cluster view, random changes  test-cluster
 *   plan in part is plan of all      test-engine_plan            least loaded is picked        test-scheduler
 *   the set of voters is stable      test-voters                 print and parse of units      test-unit_file
 */

#include "tests/lib/test.h"
#include "base/base64.h"
#include "base/sizes.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/parse.h"
#include "fleetd/api/remote_command_spec.h"
#include "fleetd/scheduler/scheduler.h"
#include "kvstore/tree/format.h"
#include "tests/lib/cluster_view.h"
#include "units/json.h"

static Random chance;

static uint64_t below(uint64_t n) {
        return random_below(&chance, n);
}

static unsigned times(unsigned n) {
        random_seed(&chance, 4711);
        return getenv("CHECK_ALL") ? 100 * n : n;
}

/* All lengths have the same probability. */
static uint64_t any_number(void) {
        return random_u64(&chance) >> below(64);
}

static size_t any_bytes(uint8_t *bytes, size_t max) {
        size_t size = below(max + 1);

        for (size_t i = 0; i < size; i++)
                bytes[i] = below(4) == 0 ? 0 : random_u64(&chance);
        return size;
}

/* With a terminating zero byte. */
static const char *any_word(char *word, size_t max, const char *letters) {
        size_t size = below(max + 1);

        for (size_t i = 0; i < size; i++)
                word[i] = letters[below(strlen(letters))];
        word[size] = 0;
        return word;
}

/* -- Text and bytes -- */

static void base64_decodes_to_the_same_bytes_in_either_alphabet(void **state) {
        for (unsigned i = times(10000); i > 0; i--) {
                _cleanup_free_ char *again = NULL;
                _cleanup_text_ Text t = {};
                uint8_t bytes[100];
                size_t size = any_bytes(bytes, sizeof(bytes)), n;

                text_append_base64(&t, bytes, size, below(2));
                assert_int_equal(t.error, 0);
                assert_int_equal(base64_decode(t.chars ?: "", t.size, &again, &n), 0);
                assert_int_equal(n, size);
                assert_memory_equal(again, bytes, size);
        }
}

/* The same bytes have one text only. */
static void accepted_base64_is_the_canonical_one(void **state) {
        static const char letters[] = "ABCDwxyz0189+/==";
        unsigned taken = 0;

        for (unsigned i = times(10000); i > 0; i--) {
                _cleanup_free_ char *bytes = NULL;
                _cleanup_text_ Text t = {};
                char word[13];
                size_t size, bare;

                any_word(word, sizeof(word) - 1, letters);
                if (base64_decode(word, strlen(word), &bytes, &size) < 0)
                        continue;
                taken++;
                text_append_base64(&t, bytes, size, false);
                for (bare = t.size; bare > 0 && t.chars[bare - 1] == '='; bare--)
                        ;
                assert_true(strncmp(word, t.chars ?: "", bare) == 0 &&
                            strspn(word + bare, "=") == strlen(word + bare));
        }
        assert_true(taken > 500);
}

static void json_reads_the_bytes_and_numbers_that_it_wrote(void **state) {
        for (unsigned i = times(10000); i > 0; i--) {
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_free_ char *again = NULL;
                _cleanup_text_ Text t = {};
                uint64_t number = any_number() >> 1, found = 0;
                uint8_t bytes[40];
                size_t size = any_bytes(bytes, sizeof(bytes)), n = 0;
                Error err = {};
                int r;

                json_open(&t, NULL, '{');
                json_add_bytes(&t, "value", bytes, size);
                json_add_u64(&t, "number", number);
                json_close(&t, '}');
                assert_int_equal(t.error, 0);
                if (json_value_parse(t.chars, t.size, &root, &err) < 0)
                        fail_msg("%s: %s", t.chars, err.message);
                r = json_read_bytes(root, "value", &again, &n, &err);
                assert_true(r == 1);
                assert_int_equal(n, size);
                assert_memory_equal(again, bytes, size);
                assert_int_equal(json_read_u64(root, "number", &found, &err), 0);
                assert_int_equal(found, number);
        }
}

static void json_reads_each_text_that_it_wrote(void **state) {
        static const char *const pieces[] = {
                "a",       "\"", "\\", "/", "\n", "\t", "\x01", "\x7f", "ä", "€", "\xf0\x9f\x9a\x80",
                "\\u0041", "{",  "]",  " "
        };

        for (unsigned i = times(10000); i > 0; i--) {
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_text_ Text t = {}, value = {};
                const char *again = NULL;

                for (uint64_t n = 1 + below(12); n > 0; n--)
                        text_append(&value, pieces[below(ELEMENTS(pieces))]);
                json_open(&t, NULL, '{');
                json_add_string_always(&t, "value", value.chars);
                json_close(&t, '}');
                assert_int_equal(json_value_parse(t.chars, t.size, &root, NULL), 0);
                assert_int_equal(json_read_string(root, "value", &again, NULL), 0);
                assert_string_equal(again, value.chars);
        }
}

static void numbers_are_written_in_their_shortest_form(void **state) {
        for (unsigned i = times(10000); i > 0; i--) {
                _cleanup_writer_ Writer w = {};
                uint64_t v = any_number(), bits = 1;
                Reader r;

                write_varint(&w, v);
                while (bits < 64 && v >> bits)
                        bits++;
                assert_int_equal(w.size, (bits + 6) / 7);
                r = reader_over(w.bytes, w.size);
                assert_int_equal(read_varint(&r), v);
                assert_int_equal(reader_end(&r), 0);
        }
}

static void a_checksum_of_parts_is_that_of_the_whole(void **state) {
        for (unsigned i = times(10000); i > 0; i--) {
                uint8_t bytes[200];
                size_t size = any_bytes(bytes, sizeof(bytes)), cut = below(size + 1);
                uint32_t whole = crc32c(0, bytes, size);

                assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, size - cut), whole);
                assert_int_equal(crc32c_portable(0, bytes, size), whole);
                if (size > 0) {
                        bytes[below(size)] ^= 1u << below(8);
                        assert_int_not_equal(crc32c(0, bytes, size), whole);
                }
        }
}

static void an_address_is_parsed_as_it_was_built(void **state) {
        for (unsigned i = times(10000); i > 0; i--) {
                char host[32], text[64], found[64];
                bool brackets = below(2);
                uint16_t port = 1 + below(65535), found_port = 0;

                any_word(host, 30, brackets ? "0123456789abcdef:" : "0123456789abcxyz.-");
                snprintf(text, sizeof(text), brackets ? "[%s]:%u" : "%s:%u", host, port);
                if (parse_address(text, found, sizeof(found), &found_port) < 0) {
                        assert_true(!host[0]);
                        continue;
                }
                assert_string_equal(found, host);
                assert_int_equal(found_port, port);
        }
}

static void a_name_without_wildcards_matches_itself_alone(void **state) {
        unsigned equal = 0;

        for (unsigned i = times(10000); i > 0; i--) {
                char a[8], b[8], star[16];
                size_t cut;

                any_word(a, 4, "ab.@");
                any_word(b, 4, "ab.@");
                equal += streq(a, b);
                assert_int_equal(glob_match(a, b), streq(a, b));
                cut = below(strlen(a) + 1);
                snprintf(star, sizeof(star), "%.*s*", (int) cut, a);
                assert_true(glob_match(star, a));
                snprintf(star, sizeof(star), "*%s", a + cut);
                assert_true(glob_match(star, a));
        }
        assert_true(equal > 50);
}

/* -- The tree's bytes -- */

static KvBytes any_path(char *path, size_t max) {
        size_t size = 0;

        for (uint64_t parts = 1 + below(4); parts > 0 && size + 4 < max; parts--) {
                size_t n = 1 + below(below(20) == 0 ? max - size - 3 : 3);

                path[size++] = '/';
                for (size_t i = 0; i < n && size + 1 < max; i++)
                        path[size++] = below(10) == 0 ? 1 + below(2) : 'a' + below(2);
        }
        path[size] = 0;
        return (KvBytes) { path, size };
}

static void a_node_is_read_as_it_was_written(void **state) {
        for (unsigned i = times(10000); i > 0; i--) {
                _cleanup_writer_ Writer w = {};
                char path[700];
                uint8_t value[100];
                KvNode again, node = { .key = any_path(path, sizeof(path)),
                                       .dir = below(3) == 0,
                                       .created = any_number(),
                                       .modified = any_number() };

                node.expires_ms = below(2) ? 1 + any_number() / 2 : 0;
                if (!node.dir)
                        node.value = (KvBytes) { (const char *) value, any_bytes(value, sizeof(value)) };
                tree_node_encode(&node, &w);
                assert_int_equal(w.error, 0);
                assert_int_equal(tree_node_decode(w.bytes, w.size, &again), 0);
                assert_true(kv_bytes_equal(node.key, again.key) && kv_bytes_equal(node.value, again.value));
                assert_true(node.dir == again.dir && node.created == again.created &&
                            node.modified == again.modified && node.expires_ms == again.expires_ms);
                assert_int_equal(tree_node_hash(&node), tree_node_hash(&again));
                again.modified++;
                assert_int_not_equal(tree_node_hash(&node), tree_node_hash(&again));
        }
}

/* Also of short paths: the range of a path has exactly the keys below it. */
static void keys_differ_as_paths_do_and_are_in_the_range_of_their_directory(void **state) {
        unsigned under = 0;

        for (unsigned i = times(10000); i > 0; i--) {
                uint8_t key_a[TREE_KEY_LONG], key_b[TREE_KEY_LONG];
                char path_a[700], path_b[700];
                KvBytes a = any_path(path_a, sizeof(path_a)), b = any_path(path_b, sizeof(path_b));
                size_t size_a = tree_key(a, key_a), size_b = tree_key(b, key_b);
                TreeRange range = tree_range_below(a);
                bool is_below = b.size > a.size && memcmp(a.data, b.data, a.size) == 0 &&
                                path_b[a.size] == '/';
                bool is_same = size_a == size_b && memcmp(key_a, key_b, size_a) == 0;

                assert_int_equal(is_same, kv_bytes_equal(a, b));
                if (is_below || !range.mixed)
                        assert_int_equal(tree_range_holds(&range, key_b, size_b), is_below);
                under += is_below;
        }
        assert_true(under > 100);
}

static void numbers_in_keys_sort_as_numbers(void **state) {
        for (unsigned i = times(10000); i > 0; i--) {
                uint64_t a = any_number(), b = any_number();
                uint8_t x[8], y[8];
                int order;

                tree_put_big_endian(x, a);
                tree_put_big_endian(y, b);
                order = memcmp(x, y, 8);
                assert_true(a < b ? order < 0 : a > b ? order > 0 : order == 0);
                assert_int_equal(tree_get_big_endian(x), a);
        }
}

/* -- Components -- */

static void a_forwarded_request_is_decoded_as_it_was_encoded(void **state) {
        static const char *const outputs[] = { "short", "json", "cat" }, *const whom[] = { "main", "control",
                                                                                           "all" };

        for (unsigned i = times(10000); i > 0; i--) {
                RemoteCommandSpec again, spec = { .kind = below(_CALL_MAX),
                                                  .follow = below(2),
                                                  .lines = below(CALL_LINES_MAX + 1) };
                _cleanup_writer_ Writer w = {};
                char word[64];
                Reader r;

                snprintf(spec.unit, sizeof(spec.unit), "a%s.service", any_word(word, 40, "abz019@-_"));
                snprintf(spec.output, sizeof(spec.output), "%s", outputs[below(3)]);
                any_word(spec.since, sizeof(spec.since) - 1, "0123456789 :+-.");
                any_word(spec.until, sizeof(spec.until) - 1, "0123456789 :+-.");
                any_word(spec.properties, sizeof(spec.properties) - 1, "ABCxyz,");
                snprintf(spec.signal, sizeof(spec.signal), "SIG%s", any_word(word, 10, "HUPTERM12+"));
                snprintf(spec.whom, sizeof(spec.whom), "%s", whom[below(3)]);
                assert_int_equal(remote_command_spec_check(&spec, NULL), 0);

                remote_command_spec_write(&spec, &w);
                r = reader_over(w.bytes, w.size);
                assert_int_equal(remote_command_spec_read(&r, &again), 0);
                assert_true(spec.kind == again.kind && spec.follow == again.follow &&
                            spec.lines == again.lines);
                assert_true(streq(spec.unit, again.unit) && streq(spec.output, again.output) &&
                            streq(spec.since, again.since));
                assert_true(streq(spec.until, again.until) && streq(spec.properties, again.properties));
                assert_true(streq(spec.signal, again.signal) && streq(spec.whom, again.whom));

                /* One byte less is invalid. */
                r = reader_over(w.bytes, w.size - 1);
                assert_int_equal(remote_command_spec_read(&r, &again), -EBADMSG);
        }
}

/* One more rule never makes another machine qualify. */
static void a_further_rule_never_adds_a_machine(void **state) {
        static const char *const rules[] = { "MachineMetadata=a=b\n", "MachineMetadata=c=d\n",
                                             "Conflicts=w*\n", "Conflicts=u1*\n",
                                             "MachineOf=peer.service\n" };
        static const char *const machines[] = { "A", "B", "C" };
        unsigned compared = 0, lost = 0;

        for (unsigned i = times(10000) / 12; i > 0; i--) {
                _cleanup_cluster_view_ ClusterView p = {};
                char less[200] = "", more[200];
                SchedulerView *view;

                cluster_view_machine(&p, "A", below(2) ? "a=b" : "", PRESENCE_UP);
                cluster_view_machine(&p, "B", below(2) ? "a=b,c=d" : "c=d", PRESENCE_UP);
                cluster_view_machine(&p, "C", "", below(4) ? PRESENCE_UP : PRESENCE_LOST);
                for (unsigned k = 1; k <= 3; k++) {
                        char name[16];

                        snprintf(name, sizeof(name), "%c%u.service", below(2) ? 'w' : 'u', k);
                        cluster_view_unit(&p, name, below(3) == 0 ? "Conflicts=x*" : "", TARGET_LAUNCHED);
                        cluster_view_assign(&p, machines[below(3)], name, ASSIGNMENT_RUN);
                }
                cluster_view_unit(&p, "peer.service", "", TARGET_LAUNCHED);
                cluster_view_assign(&p, machines[below(3)], "peer.service", ASSIGNMENT_RUN);
                for (uint64_t k = below(3); k > 0; k--)
                        strncat(less, rules[below(ELEMENTS(rules))], sizeof(less) - strlen(less) - 1);
                snprintf(more, sizeof(more), "%s%s", less, rules[below(ELEMENTS(rules))]);
                cluster_view_unit(&p, "x-less.service", less, TARGET_LAUNCHED);
                cluster_view_unit(&p, "x-more.service", more, TARGET_LAUNCHED);

                assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
                for (size_t m = 0; m < ELEMENTS(machines); m++)
                        for (unsigned k = 0; k < 4; k++) {
                                char id[MACHINE_ID_SIZE];
                                const ClusterMachine *machine = cluster_machine(
                                        &p.cluster, cluster_view_id(id, machines[m]));
                                bool staying = k & 1;
                                bool fits = scheduler_fits(view, cluster_unit(&p.cluster, "x-less.service"),
                                                           machine, staying, NULL);
                                bool fits_still = scheduler_fits(view,
                                                                 cluster_unit(&p.cluster, "x-more.service"),
                                                                 machine, staying, NULL);

                                if (fits_still && !fits)
                                        fail_msg("[%s] excludes %s, [%s] does not", less, machines[m], more);
                                compared++;
                                lost += fits && !fits_still;
                        }
                scheduler_view_free(view);
        }
        assert_true(compared > 9000 && lost > 500);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(base64_decodes_to_the_same_bytes_in_either_alphabet),
                cmocka_unit_test(accepted_base64_is_the_canonical_one),
                cmocka_unit_test(json_reads_the_bytes_and_numbers_that_it_wrote),
                cmocka_unit_test(json_reads_each_text_that_it_wrote),
                cmocka_unit_test(numbers_are_written_in_their_shortest_form),
                cmocka_unit_test(a_checksum_of_parts_is_that_of_the_whole),
                cmocka_unit_test(an_address_is_parsed_as_it_was_built),
                cmocka_unit_test(a_name_without_wildcards_matches_itself_alone),
                cmocka_unit_test(a_node_is_read_as_it_was_written),
                cmocka_unit_test(keys_differ_as_paths_do_and_are_in_the_range_of_their_directory),
                cmocka_unit_test(numbers_in_keys_sort_as_numbers),
                cmocka_unit_test(a_forwarded_request_is_decoded_as_it_was_encoded),
                cmocka_unit_test(a_further_rule_never_adds_a_machine),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}

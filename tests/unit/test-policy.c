#include "tests/lib/test.h"
#include "base/clock.h"
#include "fleetd/registry/local_rights.h"
#include "fleetd/registry/policy.h"
#include "fleetd/registry/proposal_rights.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/policy_table.h"

/* -- Principals -- */

#define ID "0123456789abcdef0123456789abcdef"

static void a_principal_has_one_text(void **state) {
        static const char *const texts[] = {
                "machine:" ID,
                "user:alice",
                "user:a.b_c-1",
                "local:0@" ID,
                "local:1000,4,27,4294967295@" ID,
                "local:1000,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16@" ID,
                "anonymous@" ID,
                "token:0123456789ab",
        };
        static const char *const wrong[] = {
                "",
                "machine:",
                "machine:" ID "0",
                "machine:0123456789ABCDEF0123456789abcdef",
                "machines:" ID,
                "user:",
                "user:../x",
                "user:.hidden",
                "user:a b",
                "user:a\n",
                "user:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", /* 65 */
                "local:@" ID,
                "local:0",
                "local:0@",
                "local:00@" ID,
                "local:-1@" ID,
                "local:4294967296@" ID,
                "local:1,@" ID,
                "local:1,3,2@" ID,
                "local:1,2,2@" ID,
                "local:1,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17@" ID, /* 17 groups */
                "local:1@" ID "@" ID,
                "anonymous@x",
                "anonymous:" ID,
                "token:0123456789a",
                "token:0123456789AB",
                "root",
        };
        char text[PRINCIPAL_TEXT_SIZE];
        Principal p;

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                assert_int_equal(principal_parse(texts[i], strlen(texts[i]), &p), 0);
                assert_string_equal(principal_text(&p, text), texts[i]);
                assert_true(principal_equal(&p, &p));
                assert_int_equal(principal_parse(texts[i], strlen(texts[i]) - 1, &p) == 0,
                                 p.kind == PRINCIPAL_USER); /* another, shorter name */
        }
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                if (principal_parse(wrong[i], strlen(wrong[i]), &p) != -EINVAL)
                        fail_msg("accepted: %s", wrong[i]);
        assert_int_equal(principal_parse("user:a\0b", 8, &p), -EINVAL);
}

static void any_bytes_are_one_principal_or_none(void **state) {
        static const char letters[] = "machineuserlocalanonymoustoken:@,0123456789abcdef.-";
        char bytes[PRINCIPAL_TEXT_SIZE + 8], text[PRINCIPAL_TEXT_SIZE];
        size_t valid = 0;
        Random random;
        Principal p;

        random_seed(&random, 1);
        for (unsigned i = 0; i < 100000; i++) {
                static const char *const begins[] = { "", "user:", "local:1,", "token:", "local:" };
                size_t n = (size_t) snprintf(bytes, sizeof(bytes), "%s", begins[random_below(&random, 5)]),
                       size = n + random_below(&random, i % 100 ? 20 : sizeof(bytes) - n);

                for (; n < size; n++)
                        bytes[n] = i % 10 ? letters[random_below(&random, sizeof(letters) - 1)] :
                                            (char) random_below(&random, 256);
                if (principal_parse(bytes, size, &p) < 0)
                        continue;
                valid++;
                assert_int_equal(strlen(principal_text(&p, text)), size);
                assert_memory_equal(text, bytes, size);
        }
        assert_true(valid > 100);
}

/* -- Lists of rights -- */

static RightList *list_of(const char *texts) {
        RightList *list = NULL;

        for (const char *p = texts; *p; p += strspn(p, " ")) {
                size_t n = strcspn(p, " ");

                assert_int_equal(right_list_add_text(&list, p, n, NULL), 0);
                p += n;
        }
        return list;
}

static void a_prefix_covers_itself_and_what_is_below(void **state) {
        static const struct {
                const char *list, *key;
                bool read, write, above;
        } rows[] = {
                { "", "/a", false, false, false },
                { "keys-read:/a", "/a", true, false, false },
                { "keys-read:/a", "/a/b/c", true, false, false },
                { "keys-read:/a", "/ab", false, false, false },
                { "keys-read:/a/b", "/a", false, false, true },
                { "keys-read:/a/b", "/", false, false, true },
                { "keys-read:/a/b", "/a/c", false, false, false },
                { "keys-write:/a", "/a/b", true, true, false },
                { "keys-read:/", "/a", true, false, false },
                { "keys-read:/", "/", true, false, false },
                { "keys-read:/", "/_fleet", false, false, false },
                { "keys-write:/", "/_fleet/unit/a.service", false, false, false },
                { "units-see units-change", "/a", false, false, false },
                { "keys-read:/a keys-write:/b/c", "/b/c/d", true, true, false },
                { "keys-read:/a keys-write:/b/c", "/b", false, false, true },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_right_list_ RightList *list = list_of(rows[i].list);
                KvBytes key = kv_string(rows[i].key);

                if (right_list_has(list, RIGHT_KEYS_READ, key) != rows[i].read ||
                    right_list_has(list, RIGHT_KEYS_WRITE, key) != rows[i].write ||
                    right_list_is_below(list, key) != rows[i].above)
                        fail_msg("%s: %s", rows[i].list, rows[i].key);
        }
}

static void a_list_covers_what_it_grants(void **state) {
        static const struct {
                const char *list, *other;
                bool covers;
        } rows[] = {
                { "", "", true },
                { "units-see", "", true },
                { "", "units-see", false },
                { "keys-read:/a", "keys-read:/a/b", true },
                { "keys-read:/a/b", "keys-read:/a", false },
                { "keys-write:/a", "keys-read:/a/b", true },
                { "keys-read:/a", "keys-write:/a", false },
                { "units-see units-change", "units-change units-see", true },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_right_list_ RightList *list = list_of(rows[i].list), *other = list_of(rows[i].other);

                assert_int_equal(right_list_covers(list, other), rows[i].covers);
        }
}

static void prefixes_cover_what_is_below_them(void **state) {
        static const struct {
                const char *prefixes, *other;
                bool covers;
        } rows[] = {
                { "", "", true },        { "", "/a", false },        { "/a", "", true },
                { "/a", "/a/b", true },  { "/a/b", "/a", false },    { "/a", "/ab", false },
                { "/a,/b", "/b", true }, { "/a,/b", "/b,/a", true }, { "/a,/b", "/b,/c", false },
                { ",", "/a", false },    { "/", "/_fleet", false },  { "/", "/a", true },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_int_equal(prefixes_cover(rows[i].prefixes, rows[i].other), rows[i].covers);
        assert_false(prefixes_have("", (KvBytes) {}));
        assert_false(prefixes_have(",", (KvBytes) {}));
        assert_true(prefixes_have("/a", (KvBytes) {}));
}

static void a_group_is_granted_rights_by_a_text(void **state) {
        static const struct {
                const char *text;
                int result;
                const char *message;
        } rows[] = {
                { "root:units-see", 0, "" },
                { "0:units-see,units-change,keys-read:/a,keys-write:/a/b", 0, "" },
                { "4711:keys-read:/", 0, "" },
                { "no-such-group-here:units-see", 1, "there is no group no-such-group-here" },
                { "", -EINVAL, "expected GROUP:RIGHT,..." },
                { "root", -EINVAL, "expected GROUP:RIGHT,..." },
                { ":units-see", -EINVAL, "expected GROUP:RIGHT,..." },
                { "root:", -EINVAL, "there is no right ''" },
                { "root:units-see,", -EINVAL, "there is no right ''" },
                { "root:units-sea", -EINVAL, "there is no right 'units-sea': expected keys-read:PREFIX" },
                { "root:administer", -EPERM, "no local group administers the cluster" },
                { "root:units-see:/a", -EINVAL, "units-see has no prefix" },
                { "root:keys-read", -EINVAL, "keys-read requires a prefix, for example keys-read:/app" },
                { "root:keys-read:", -EINVAL, "expected a prefix that begins with '/'" },
                { "root:keys-read:a", -EINVAL, "expected a prefix that begins with '/'" },
                { "root:keys-read:/a/", -EINVAL, "expected a prefix that begins with '/'" },
                { "root:keys-read:/a/../b", -EINVAL, "expected a prefix that begins with '/'" },
                { "root:keys-write:/_fleet", -EPERM, "no right extends to keys below /_fleet" },
                { "root:keys-read:/_fleet/unit", -EPERM, "no right extends to keys below /_fleet" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_local_rights_ LocalRights all = {};
                Error err = {};

                if (local_rights_add(&all, rows[i].text, &err) != rows[i].result ||
                    !starts_with(err.message, rows[i].message) || all.n != (rows[i].result == 0))
                        fail_msg("%s: %s", rows[i].text, err.message);
        }
}

static void groups_and_their_rights_are_bounded(void **state) {
        _cleanup_local_rights_ LocalRights all = {};
        _cleanup_text_ Text many = {};
        char text[64];
        Error err = {};

        for (unsigned i = 0; i < LOCAL_GROUPS_MAX; i++) {
                snprintf(text, sizeof(text), "%u:units-see", 5000 + i);
                assert_int_equal(local_rights_add(&all, text, &err), 0);
        }
        assert_int_equal(local_rights_add(&all, "6000:units-see", &err), -E2BIG);
        text_append(&many, "5000:units-see");
        for (unsigned i = 0; i < RIGHTS_MAX; i++)
                text_append(&many, ",units-see");
        assert_int_equal(local_rights_add(&all, many.chars, &err), -E2BIG);
}

static void a_user_has_the_rights_of_its_groups_together(void **state) {
        const uint32_t groups[] = { 9, 5001, 5000 };
        _cleanup_local_rights_ LocalRights all = {};
        _cleanup_right_list_ RightList *sum = NULL, *none = NULL;
        Principal p = {};

        assert_int_equal(local_rights_add(&all, "5000:units-see", NULL), 0);
        assert_int_equal(local_rights_add(&all, "5001:keys-read:/a", NULL), 0);
        assert_int_equal(local_rights_add(&all, "5001:keys-read:/b", NULL), 0);
        assert_int_equal(local_rights_add(&all, "5002:keys-write:/c", NULL), 0);
        assert_int_equal(local_rights_of(&all, groups, ELEMENTS(groups), &p, &sum), 0);
        assert_int_equal(sum->n, 3);
        assert_int_equal(p.n_groups, 2);
        assert_int_equal(p.groups[0], 5000);
        assert_true(right_list_has(sum, RIGHT_KEYS_READ, kv_string("/b")));
        assert_false(right_list_has(sum, RIGHT_KEYS_READ, kv_string("/c")));
        assert_int_equal(local_rights_of(&all, groups, 1, &p, &none), 0);
        assert_null(none);
}

/* -- The table -- */

static void the_table_grants_these_rights_and_denies_all_others(void **state) {
        /* In the order of the columns below. The lists are those of policy_table_open(). */
        static const struct {
                Right right;
                const char *key;
        } columns[] = {
                { RIGHT_NONE, NULL },           { RIGHT_STATUS_SEE, NULL },       { RIGHT_KEYS_READ, "/x" },
                { RIGHT_KEYS_READ, "/app/x" },  { RIGHT_KEYS_READ, "/_fleet/x" }, { RIGHT_KEYS_WRITE, "/x" },
                { RIGHT_KEYS_WRITE, "/app/x" }, { RIGHT_KEYS_WRITE, "/_fleet" },  { RIGHT_UNITS_SEE, NULL },
                { RIGHT_UNITS_CHANGE, NULL },   { RIGHT_ADMINISTER, NULL },       { RIGHT_REPORT, NULL },
        };
        static const struct {
                const char *name, *allowed;
        } rows[] = {
                /*                          none   keys-read  write   see change administer report
                 *                            status / app _fleet */
                { "unknown", "-- --- --- -- - -" },
                { "root", "-y yyy yy- yy y -" },
                { "fleet", "-y yyy yy- yy y -" },
                { "restricted root", "-y yy- --- y- - -" },
                { "group", "-y -y- -y- yy - -" },
                { "restricted group", "-y -y- --- y- - -" },
                { "group without rights", "-y --- --- -- - -" },
                { "writer", "-y yy- yy- -- - -" },
                { "reader", "-y yy- --- -- - -" },
                { "off", "-- --- --- -- - -" },
                { "restricted writer", "-y yy- --- -- - -" },
                { "user", "-y -y- -y- yy - -" },
                { "administrator", "-y --- --- -- y -" },
                { "removed user", "-- --- --- -- - -" },
                { "revoked user", "-- --- --- -- - -" },
                { "machine", "-y --- --- -- - -" },
                { "replica", "-y yyy --- y- - -" },
                { "restricted machine", "-y --- --- -- - -" },
                { "removed machine", "-- --- --- -- - -" },
                { "renamed machine", "-y --- --- -- - -" },
                { "root of a removed host", "-- --- --- -- - -" },
                { "token", "-- --- --- -- - -" },
                { "forwarded root", "-y yyy yy- yy y -" },
                { "forwarded root of a restricted host", "-y yy- --- y- - -" },
                { "forwarded root of a removed host", "-- --- --- -- - -" },
                { "forwarded root of another host", "-- --- --- -- - -" },
                { "forwarded group", "-y -y- -y- yy - -" },
                { "forwarded group of a restricted host", "-y -y- --- y- - -" },
                { "forwarded writer", "-y yy- yy- -- - -" },
                { "forwarded off", "-- --- --- -- - -" },
                { "forwarded user", "-y -y- -y- yy - -" },
                { "forwarded user of a restricted host", "-y -y- --- y- - -" },
                { "forwarded revoked user", "-- --- --- -- - -" },
                { "forwarded machine", "-- --- --- -- - -" },
        };
        _cleanup_(policy_table_done) PolicyTable table;

        policy_table_open(&table);
        assert_int_equal(table.n, ELEMENTS(rows));
        for (size_t i = 0; i < table.n; i++) {
                const char *allowed = rows[i].allowed;

                assert_string_equal(table.rows[i].name, rows[i].name);
                for (size_t k = 0; k < ELEMENTS(columns); k++, allowed++) {
                        Resource on = { .key = kv_string(columns[k].key) };

                        allowed += *allowed == ' ';
                        if (policy_allows(&table.rows[i].principal, columns[k].right, on,
                                          &table.rows[i].facts) != (*allowed == 'y'))
                                fail_msg("%s, column %zu: expected %c", rows[i].name, k, *allowed);
                }
                assert_int_equal(*allowed, 0);
        }
}

static void a_machine_has_rights_to_what_is_its_own(void **state) {
        static const struct {
                const char *name;
                bool own_see, own_change, own_report;
        } rows[] = {
                { "machine", true, true, true },
                { "replica", true, true, true },
                { "restricted machine", true, false, true },
                { "removed machine", false, false, false },
        };
        _cleanup_(policy_table_done) PolicyTable table;

        policy_table_open(&table);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const PolicyTableRow *row = policy_table_row(&table, rows[i].name);
                Resource own = { .machine = row->principal.machine }, other = { .machine = ID };

                assert_int_equal(policy_allows(&row->principal, RIGHT_UNITS_SEE, own, &row->facts),
                                 rows[i].own_see);
                assert_int_equal(policy_allows(&row->principal, RIGHT_UNITS_CHANGE, own, &row->facts),
                                 rows[i].own_change);
                assert_int_equal(policy_allows(&row->principal, RIGHT_REPORT, own, &row->facts),
                                 rows[i].own_report);
                assert_false(policy_allows(&row->principal, RIGHT_UNITS_CHANGE, other, &row->facts));
                assert_false(policy_allows(&row->principal, RIGHT_REPORT, other, &row->facts));
        }
}

static void a_principal_sees_the_directories_above_its_prefixes(void **state) {
        _cleanup_(policy_table_done) PolicyTable table;
        const PolicyTableRow *row;

        policy_table_open(&table);
        row = policy_table_row(&table, "user"); /* keys-write:/app */
        assert_true(policy_shows(&row->principal, kv_string("/"), true, &row->facts));
        assert_true(policy_shows(&row->principal, kv_string("/app"), false, &row->facts));
        assert_false(policy_shows(&row->principal, kv_string("/"), false, &row->facts));
        assert_false(policy_shows(&row->principal, kv_string("/ap"), true, &row->facts));
        row = policy_table_row(&table, "revoked user");
        assert_false(policy_shows(&row->principal, kv_string("/"), true, &row->facts));
}

#define PIN "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* -- Proposals of other hosts -- */

/* Letters: o an ordinary host (A), r a restricted one (B), x a removed one (C), f one without certificates
 * (F). Each proposes for itself, then for an operator on it, then for the user alice, and for bob. */
static void a_host_proposes_what_it_has_a_right_to(void **state) {
        static const char hosts[] = "ABCF";
        static const struct {
                const char *key; /* MINE: its own machine's; THEIRS: another one's */
                KvOp op;
                bool internal;
                const char *allowed; /* for itself: A, B, C, F; for an operator; for alice; for bob */
                const char *value;
        } rows[] = {
                { "/x", KV_SET, false, "y--y y--y ---- ----" },
                { "/app/x", KV_SET, false, "y--y y--y y--y ----" },
                { "/_fleet/unit/a.service", KV_SET, true, "y--y y--y y--y ----",
                  "{\"text\":\"[Service]\\n\"}" },
                { "/_fleet/target/a.service", KV_DELETE, true, "y--y y--y y--y ----" },
                { "/_fleet/machine/THEIRS/metadata/zone", KV_SET, true, "y--y y--y y--y ----" },
                { "/_fleet/machine/MINE/facts", KV_SET, true, "yy-y ---- ---- ----", "{}" },
                { "/_fleet/machine/THEIRS/facts", KV_SET, true, "---- ---- ---- ----" },
                { "/_fleet/machine/THEIRS/facts", KV_DELETE, true, "y--y y--y ---- y--y" },
                { "/_fleet/state/a.service/MINE", KV_SET, true, "yy-y ---- ---- ----",
                  "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"}" },
                { "/_fleet/state/a.service/THEIRS", KV_SET, true, "---- ---- ---- ----" },
                { "/_fleet/machine/MINE/problem/a.service", KV_SET, true, "yy-y y--y y--y ----",
                  "{\"kind\":\"refused\"}" },
                { "/_fleet/machine/THEIRS/problem/a.service", KV_SET, true, "y--y y--y y--y ----",
                  "{\"kind\":\"refused\"}" },
                { "/_fleet/machine/MINE/reported", KV_SET, true, "yy-y ---- ---- ----", "0123456789abcdef" },
                { "/_fleet/machine/THEIRS/reported", KV_SET, true, "---- ---- ---- ----" },
                { "/_fleet/machine/MINE/maintenance", KV_SET, true, "y--y y--y ---- y--y",
                  "{\"mode\":\"cordoned\"}" },
                { "/_fleet/machine/THEIRS/maintenance", KV_SET, true, "y--y y--y ---- y--y",
                  "{\"mode\":\"cordoned\"}" },
                { "/_fleet/machine/MINE/presence", KV_SET, true, "---- ---- ---- ----" },
                { "/_fleet/machine/THEIRS/presence", KV_SET, true, "---- ---- ---- ----" },
                { "/_fleet/machine/THEIRS/presence", KV_DELETE, true, "y--y y--y ---- y--y" },
                { "/_fleet/machine/MINE/unit/a.service", KV_SET, true, "---- ---- ---- ----" },
                { "/_fleet/machine/MINE/unit/a.service", KV_DELETE, true, "yy-y y--y ---- y--y" },
                { "/_fleet/machine/THEIRS/unit/a.service", KV_DELETE, true, "y--y y--y ---- y--y" },
                { "/_fleet/cluster/settings", KV_SET, true, "y--y y--y ---- y--y", "{}" },
                { "/_fleet/cluster/principal/dave", KV_SET, true, "y--y y--y ---- y--y", "{\"pins\":[]}" },
                { "/_fleet/cluster/host/THEIRS", KV_SET, true, "y--y y--y ---- y--y",
                  "{\"pins\":[\"" PIN "\"]}" },
                { "/_fleet/cluster/level", KV_SET, true, "y--y y--y ---- y--y" },
                { "/_fleet/cluster/ca/roots", KV_SET, true, "---- ---- ---- ----" },
                { "/_fleet/cluster/ca/key", KV_SET, true, "---- ---- ---- ----" },
                { "/_fleet/cluster/ca/rotation", KV_SET, true, "y--y y--y ---- y--y",
                  "{\"state\":\"begin\"}" },
                { "/_fleet/machine/THEIRS", KV_DELETE, true, "---- ---- ---- ----" },
                { "/_fleet/unheard/of", KV_SET, true, "---- ---- ---- ----" },
                { NULL, KV_RAISE, true, "y--y y--y ---- y--y" },
                { NULL, KV_EXPIRE, true, "---- ---- ---- ----" },
        };
        _cleanup_(policy_table_done) PolicyTable table;

        policy_table_open(&table);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *allowed = rows[i].allowed;

                for (unsigned claim = 0; claim < 4; claim++, allowed += *allowed == ' ')
                        for (const char *host = hosts; *host; host++, allowed++) {
                                char id[MACHINE_ID_SIZE], other[MACHINE_ID_SIZE], key[256] = "", text[64];
                                const char *part = rows[i].key ? strstr(rows[i].key, "MINE") : NULL;
                                const char *theirs = rows[i].key ? strstr(rows[i].key, "THEIRS") : NULL;
                                KvCommand write = { .op = rows[i].op, .internal = rows[i].internal }, txn;
                                Error err = {};
                                int r;

                                (void) cluster_view_id(id, (char[]) { *host, 0 });
                                (void) cluster_view_id(other, "D");
                                snprintf(key, sizeof(key), "%s", rows[i].key ?: "");
                                if (part || theirs)
                                        snprintf(key, sizeof(key), "%.*s%s%s",
                                                 (int) ((part ?: theirs) - rows[i].key), rows[i].key,
                                                 part ? id : other, part ? part + 4 : theirs + 6);
                                snprintf(text, sizeof(text),
                                         claim == 1 ? "local:1000@%s" :
                                         claim == 2 ? "user:alice" :
                                         claim == 3 ? "user:bob" :
                                                      "",
                                         id);
                                write.key = kv_string(key);
                                write.value = kv_string(rows[i].value ?: "");
                                r = proposal_check(&table.view.cluster, NULL, id, kv_string(text), &write,
                                                   &err);
                                if ((r == 0) != (*allowed == 'y'))
                                        fail_msg("%s (%d) of %c for %s: expected %c: %s", key, rows[i].op,
                                                 *host, text, *allowed, err.message);
                                if (r < 0)
                                        assert_non_null(strstr(err.message, "may not propose this"));
                                if (!rows[i].key)
                                        continue;
                                /* One denied write denies a transaction. */
                                txn = (KvCommand) { .op = KV_TXN,
                                                    .internal = rows[i].internal,
                                                    .writes = (KvCommand[]) { write, write },
                                                    .n_writes = 2 };
                                assert_int_equal(proposal_check(&table.view.cluster, NULL, id,
                                                                kv_string(text), &txn, NULL),
                                                 r);
                                txn.writes[0].key = kv_string("/_fleet/cluster/ca/key");
                                assert_int_equal(proposal_check(&table.view.cluster, NULL, id,
                                                                kv_string(text), &txn, NULL),
                                                 -EACCES);
                        }
                assert_int_equal(*allowed, 0);
        }
}

/* The text that an assignment names need not be the wanted one, which the host's slice has. */
static void a_restricted_host_reads_the_former_texts_that_it_is_assigned(void **state) {
        static const char hash[] = "0123456789abcdef0123456789abcdef01234567";
        static const struct {
                const char *key;
                bool restricted; /* an ordinary host may read all */
        } rows[] = {
                { "/_fleet/revision/web@.service/2", true }, { "/_fleet/revision/web@.service/1", false },
                { "/_fleet/revision/db.service/3", true },   { "/_fleet/revision/other.service/2", false },
                { "/_fleet/unit/other.service", false },
        };
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE], value[128];
        _cleanup_(policy_table_done) PolicyTable table;

        policy_table_open(&table);
        cluster_view_put(&table.view, layout_key(key, LAYOUT_UNIT, "web@1.service", NULL),
                         "{\"from\":\"web@.service\",\"text\":\"[Service]\\n\"}");
        snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"run\",\"rev\":2}", hash);
        cluster_view_put(&table.view,
                         layout_key(key, LAYOUT_ASSIGNMENT, "web@1.service", cluster_view_id(id, "B")),
                         value);
        snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"run\",\"rev\":3}", hash);
        cluster_view_put(&table.view, layout_key(key, LAYOUT_ASSIGNMENT, "db.service", id), value);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                KvBytes read = kv_string(rows[i].key);

                assert_int_equal(host_may_read(&table.view.cluster, cluster_view_id(id, "B"), read),
                                 rows[i].restricted);
                assert_true(host_may_read(&table.view.cluster, cluster_view_id(id, "A"), read));
                assert_false(host_may_read(&table.view.cluster, cluster_view_id(id, "C"), read));
        }
}

static void a_host_claims_no_principal_of_another_host(void **state) {
        static const struct {
                const char *text;
                int result;
        } rows[] = {
                { "machine:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0 },
                { "machine:dddddddddddddddddddddddddddddddd", -EACCES },
                { "anonymous@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0 },
                { "anonymous@dddddddddddddddddddddddddddddddd", -EACCES },
                { "local:0@dddddddddddddddddddddddddddddddd", -EACCES },
                { "token:0123456789ab", -EACCES },
                { "user:dave", -EACCES },
                { "user:", -EINVAL },
                { "root", -EINVAL },
        };
        KvCommand write = { .op = KV_SET, .key = kv_string("/app/x") };
        char id[MACHINE_ID_SIZE];
        _cleanup_(policy_table_done) PolicyTable table;

        policy_table_open(&table);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (proposal_check(&table.view.cluster, NULL, cluster_view_id(id, "A"),
                                   kv_string(rows[i].text), &write, NULL) != rows[i].result)
                        fail_msg("%s", rows[i].text);
}

/* The lesser of the rights of the client and of its host, whichever replica has the request. */
static void a_replica_proposes_for_clients_of_other_hosts(void **state) {
        static const struct {
                const char *kind, *machine;
                int result;
        } rows[] = {
                { "local:0@", "A", 0 },       { "anonymous@", "A", 0 },
                { "local:0@", "B", -EACCES }, /* restricted */
                { "local:0@", "C", -EACCES }, /* removed */
                { "machine:", "A", -EACCES },
        };
        KvCommand write = { .op = KV_SET, .key = kv_string("/app/x") };
        char text[PRINCIPAL_TEXT_SIZE], id[MACHINE_ID_SIZE];
        _cleanup_(policy_table_done) PolicyTable table;

        policy_table_open(&table);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                snprintf(text, sizeof(text), "%s%s", rows[i].kind, cluster_view_id(id, rows[i].machine));
                if (proposal_check(&table.view.cluster, NULL, cluster_view_id(id, "D"), kv_string(text),
                                   &write, NULL) != rows[i].result)
                        fail_msg("%s", text);
        }
}

/* -- The number of reports -- */

enum { REPORTS = 2100 };

/* Return the result of a transaction with n reports, the first one of x<from>.service. */
static int report(const PolicyTable *t, const char *host, LayoutKind kind, unsigned from, unsigned n,
                  const char *value) {
        static char keys[REPORTS][LAYOUT_KEY_MAX];
        static KvCommand writes[REPORTS];
        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = n };
        char id[MACHINE_ID_SIZE], unit[32];

        for (unsigned i = 0; i < n; i++) {
                snprintf(unit, sizeof(unit), "x%u.service", from + i);
                (void) layout_key(keys[i], kind, unit, cluster_view_id(id, host));
                writes[i] = (KvCommand) { .op = value ? KV_SET : KV_DELETE,
                                          .internal = true,
                                          .key = kv_string(keys[i]),
                                          .value = kv_string(value ?: "") };
        }
        return proposal_check(&t->view.cluster, NULL, cluster_view_id(id, host), (KvBytes) {},
                              n == 1 ? writes : &txn, NULL);
}

#define STATE   "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"}"
#define PROBLEM "{\"kind\":\"refused\",\"text\":\"x\"}"

static int report_state(const PolicyTable *t, const char *host, unsigned from, unsigned n) {
        return report(t, host, LAYOUT_STATE, from, n, STATE);
}

/* A host may name any unit in its reports, and all replicas keep them. */
static void a_host_without_a_replica_reports_a_limited_number_of_states(void **state) {
        static const char *const attached[] = { "A", "B" }; /* ordinary, restricted */
        char unit[32];
        PolicyTable t;

        for (size_t h = 0; h < ELEMENTS(attached); h++) {
                const char *host = attached[h];

                policy_table_open(&t);
                assert_int_equal(report_state(&t, host, 0, 1000), 0);
                assert_int_equal(report_state(&t, host, 0, 1001), -EDQUOT);
                for (unsigned i = 0; i < 1000; i++) {
                        snprintf(unit, sizeof(unit), "x%u.service", i);
                        cluster_view_state(&t.view, host, unit, "active");
                }
                assert_int_equal(report_state(&t, host, 1000, 1), -EDQUOT);
                assert_int_equal(report_state(&t, host, 0, 1000), 0); /* again */
                assert_int_equal(report(&t, host, LAYOUT_STATE, 0, 1000, NULL), 0);

                cluster_view_unit(&t.view, "x1000.service", "", TARGET_LAUNCHED);
                assert_int_equal(report_state(&t, host, 1000, 1), -EDQUOT);
                cluster_view_assign(&t.view, host, "x1000.service", ASSIGNMENT_RUN);
                assert_int_equal(report_state(&t, host, 1000, 1), 0);
                cluster_view_state(&t.view, host, "x1000.service", "active");
                assert_int_equal(report_state(&t, host, 1001, 1), -EDQUOT);

                /* It may run here what was assigned to others before the new lineage. */
                cluster_view_unit(&t.view, "x1001.service", "", TARGET_LAUNCHED);
                t.view.cluster.adopting = true;
                assert_int_equal(report_state(&t, host, 1001, 1), 0);
                assert_int_equal(report_state(&t, host, 1002, 1), -EDQUOT);
                t.view.cluster.adopting = false;

                cluster_view_state(&t.view, host, "x0.service", NULL);
                assert_int_equal(report_state(&t, host, 1001, 1), 0);
                assert_int_equal(report_state(&t, host, 1001, 2), -EDQUOT);
                policy_table_done(&t);
        }
}

static void a_replica_reports_any_number_of_states(void **state) {
        _cleanup_(policy_table_done) PolicyTable t;

        policy_table_open(&t);
        assert_int_equal(report_state(&t, "D", 0, REPORTS), 0);
        assert_int_equal(report(&t, "D", LAYOUT_PROBLEM, 0, REPORTS, PROBLEM), 0);
}

static void a_host_without_a_replica_reports_a_limited_number_of_problems(void **state) {
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE], unit[32];
        _cleanup_(policy_table_done) PolicyTable t;

        policy_table_open(&t);
        assert_int_equal(report(&t, "B", LAYOUT_PROBLEM, 0, 2000, PROBLEM), 0);
        assert_int_equal(report(&t, "B", LAYOUT_PROBLEM, 0, 2001, PROBLEM), -EDQUOT);
        for (unsigned i = 0; i < 2000; i++) {
                snprintf(unit, sizeof(unit), "x%u.service", i);
                cluster_view_put(&t.view, layout_key(key, LAYOUT_PROBLEM, unit, cluster_view_id(id, "B")),
                                 PROBLEM);
        }
        assert_int_equal(report(&t, "B", LAYOUT_PROBLEM, 2000, 1, PROBLEM), -EDQUOT);
        assert_int_equal(report(&t, "B", LAYOUT_PROBLEM, 0, 2000, PROBLEM), 0);
        assert_int_equal(report(&t, "B", LAYOUT_PROBLEM, 0, 2000, NULL), 0);
}

static void a_report_of_a_host_without_a_replica_has_a_limited_size(void **state) {
        char value[8192 + 64];
        _cleanup_(policy_table_done) PolicyTable t;

        policy_table_open(&t);
        for (int size = 8192; size <= 8193; size++) {
                snprintf(value, sizeof(value), "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"%0*d\"}",
                         size - 44, 0);
                assert_int_equal(strlen(value), size);
                assert_int_equal(report(&t, "B", LAYOUT_STATE, 0, 1, value), size <= 8192 ? 0 : -EDQUOT);
                assert_int_equal(report(&t, "D", LAYOUT_STATE, 0, 1, value), 0);
        }
}

/* Internal commands have no quota and no limit of users. */
static void users_keys_are_not_written_by_internal_commands(void **state) {
        KvCommand write = { .op = KV_SET, .key = kv_string("/app/x") };
        char id[MACHINE_ID_SIZE];
        _cleanup_(policy_table_done) PolicyTable t;

        policy_table_open(&t);
        for (size_t i = 0; i < 2; i++) {
                (void) cluster_view_id(id, i == 0 ? "A" : "D");
                write.internal = false;
                assert_int_equal(proposal_check(&t.view.cluster, NULL, id, (KvBytes) {}, &write, NULL), 0);
                write.internal = true;
                assert_int_equal(proposal_check(&t.view.cluster, NULL, id, (KvBytes) {}, &write, NULL),
                                 -EACCES);
        }
}

/* -- Keys that units read -- */

#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789"

static void open_inputs(PolicyTable *t) {
        char id[MACHINE_ID_SIZE], key[64];

        policy_table_open(t);
        t->view.cluster.level = KV_LEVEL_INPUTS;
        snprintf(key, sizeof(key), "/_fleet/cluster/host/%s", cluster_view_id(id, "B"));
        cluster_view_put(&t->view, key,
                         "{\"joined\":1,\"pins\":[\"" PIN "\"],\"restricted\":true,\"write\":\"/app\"}");
        cluster_view_unit(&t->view, "shop@.service", "EnvironmentKeys=/app/shop\nConfigKeys=-/app/files:etc",
                          TARGET_INACTIVE);
        cluster_view_unit(&t->view, "long.service", "ConfigKeys=/app/" LONG "/" LONG "/" LONG "/" LONG "/x",
                          TARGET_INACTIVE);
}

/* Return the result of each principal, as one word: 'y', '-' without the right, 'P' because a unit reads it.
 */
static const char *judge(const PolicyTable *t, const KvCommand *cmd, Error *err) {
        static const struct {
                const char *host, *kind, *machine;
        } principals[] = {
                { "A", "", "" },
                { "A", "local:0@", "A" },
                { "A", "user:alice", "" },
                { "A", "anonymous@", "A" },
                { "B", "local:0@", "B" },
                { "B", "user:alice", "" },
                { "B", "anonymous@", "B" },
                { "D", "anonymous@", "A" },
                { "D", "local:0@", "A" },
                { "D", "anonymous@", "D" },
                { "F", "anonymous@", "F" },
        };
        static char word[ELEMENTS(principals) + 1];
        char text[PRINCIPAL_TEXT_SIZE], id[MACHINE_ID_SIZE], host[MACHINE_ID_SIZE];

        for (size_t i = 0; i < ELEMENTS(principals); i++) {
                int r;

                snprintf(text, sizeof(text), "%s%s", principals[i].kind,
                         *principals[i].machine ? cluster_view_id(id, principals[i].machine) : "");
                r = proposal_check(&t->view.cluster, NULL, cluster_view_id(host, principals[i].host),
                                   kv_string(text), cmd, err);
                word[i] = r == 0 ? 'y' : r == -EPERM ? 'P' : '-';
        }
        return word;
}

static void keys_that_a_unit_reads_are_written_with_a_right_of_the_sender_only(void **state) {
        static const char others[] = "yyyyyyyyyyy", read[] = "yyyPPPPPyPP";
        static const struct {
                const char *key, *expected;
        } rows[] = {
                { "/app/shop", read },
                { "/app/shop/a", read },
                { "/app/shop/a/b", read },
                { "/app", "yyyPPPPPyPP" },
                { "/app/files", read },
                { "/app/files/x", read },
                { "/app/" LONG, read },
                { "/app/" LONG "/" LONG "/" LONG "/" LONG "/x", read },
                { "/app/" LONG "/" LONG "/" LONG "/" LONG "/x/y", read },
                { "/app/" LONG "/" LONG "/" LONG "/" LONG "/z", others },
                { "/app/" LONG "/" LONG "/" LONG "/x", others },
                { "/app/shopping", others },
                { "/app/sho", others },
                { "/app/other/shop", others },
                { "/shop", "yy-y---yyyy" },
        };
        static const KvCommand commands[] = {
                { .op = KV_SET },
                { .op = KV_SET, .dir = true, .has_ttl = true, .ttl_ms = 1 },
                { .op = KV_SET, .refresh = true, .has_ttl = true },
                { .op = KV_SET, .has_prev_value = true },
                { .op = KV_CREATE },
                { .op = KV_UPDATE },
                { .op = KV_POST },
                { .op = KV_DELETE, .recursive = true, .dir = true },
                { .op = KV_DELETE, .prev_index = 3 },
        };
        _cleanup_(policy_table_done) PolicyTable t;

        open_inputs(&t);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (size_t k = 0; k < ELEMENTS(commands); k++) {
                        KvCommand cmd = commands[k],
                                  two[2] = { { .op = KV_SET, .key = kv_string("/app/x") }, cmd };
                        KvCommand txn = { .op = KV_TXN, .writes = two, .n_writes = 2 };

                        cmd.key = two[1].key = kv_string(rows[i].key);
                        if (!streq(judge(&t, &cmd, NULL), rows[i].expected) ||
                            (cmd.op != KV_POST && !streq(judge(&t, &txn, NULL), rows[i].expected)))
                                fail_msg("%s, command %zu: %s, not %s", rows[i].key, k, judge(&t, &cmd, NULL),
                                         rows[i].expected);
                }
}

static void keys_are_free_without_a_unit_that_reads_them(void **state) {
        KvCommand cmd = { .op = KV_SET, .key = kv_string("/app/shop/a") };
        _cleanup_(policy_table_done) PolicyTable t;
        Error err = {};
        char id[MACHINE_ID_SIZE];

        open_inputs(&t);
        assert_int_equal(proposal_check(&t.view.cluster, NULL, cluster_view_id(id, "D"),
                                        kv_string("anonymous@dddddddddddddddddddddddddddddddd"), &cmd, &err),
                         -EPERM);
        assert_string_equal(err.message,
                            "shop@.service reads /app/shop: write it by fleetctl as root or group "
                            "fleet, or with keys-write:/app/shop");
        t.view.cluster.level = KV_LEVEL_INPUTS - 1;
        assert_string_equal(judge(&t, &cmd, NULL), "yyyyyyyyyyy");
        t.view.cluster.level = KV_LEVEL_INPUTS;
        cluster_view_text(&t.view, "shop@.service", "EnvironmentKeys=/app/shops", "/bin/true");
        assert_string_equal(judge(&t, &cmd, NULL), "yyyyyyyyyyy");
        cmd.key = kv_string("/app/shops");
        assert_string_equal(judge(&t, &cmd, NULL), "yyyPPPPPyPP");
        cluster_view_unit(&t.view, "other.service", "ConfigKeys=/app/shops/x/y", TARGET_INACTIVE);
        cluster_view_destroy(&t.view, "shop@.service");
        assert_string_equal(judge(&t, &cmd, &err), "yyyPPPPPyPP"); /* what is above it */
        assert_non_null(strstr(err.message, "other.service reads /app/shops/x/y: "));
        cmd.key = kv_string("/app/shops/a");
        assert_string_equal(judge(&t, &cmd, NULL), "yyyyyyyyyyy");
        cluster_view_destroy(&t.view, "other.service");
        cluster_view_destroy(&t.view, "long.service");
        cmd.key = kv_string("/app");
        assert_string_equal(judge(&t, &cmd, NULL), "yyyyyyyyyyy");
        assert_null(t.view.cluster.rules[CLUSTER_PATHS].all);
}

/* Before the instance exists that is to read a key, it is as dangerous. */
static void keys_that_instances_of_a_template_will_read_are_protected_before_these_exist(void **state) {
        static const char others[] = "yyyyyyyyyyy", read[] = "yyyPPPPPyPP";
        static const struct {
                const char *key, *expected;
        } rows[] = {
                { "/app/t", read },         { "/app/t/3", read },
                { "/app/t/3/color", read }, { "/app", read },
                { "/app/tt/3", others },    { "/app/f/shop/7/x", read },
                { "/app/f", read },         { "/app/f/shops", others },
                { "/app/fixed/a", read },   { "/app/fixed-also", read },
                { "/app/x", others },
        };
        _cleanup_(policy_table_done) PolicyTable t;
        KvCommand cmd = { .op = KV_SET };
        Error err = {};

        open_inputs(&t);
        cluster_view_destroy(&t.view, "shop@.service");
        cluster_view_destroy(&t.view, "long.service");
        cluster_view_unit(&t.view, "shop@.service",
                          "EnvironmentKeys=/app/t/%i\nConfigKeys=\"-/app/f/%p/x%n/y:etc\" \"/app/fixed\"\n"
                          "ConfigKeys=/app/fixed-also:%i",
                          TARGET_INACTIVE);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                cmd.key = kv_string(rows[i].key);
                if (!streq(judge(&t, &cmd, &err), rows[i].expected))
                        fail_msg("%s: %s, not %s", rows[i].key, judge(&t, &cmd, NULL), rows[i].expected);
        }
        cmd.key = kv_string("/app/t/3");
        (void) judge(&t, &cmd, &err);
        assert_string_equal(err.message, "shop@.service reads /app/t: write it by fleetctl as root or group "
                                         "fleet, or with keys-write:/app/t");
        cluster_view_destroy(&t.view, "shop@.service");
        assert_string_equal(judge(&t, &cmd, NULL), others);
        assert_null(t.view.cluster.rules[CLUSTER_PATHS].all);
}

/* Store the present text of a unit as a revision, as the next text does. */
static void store_revision(ClusterView *view, const char *name, const char *number) {
        _cleanup_text_ Text value = {};
        char key[LAYOUT_KEY_MAX];

        stored_unit_write(&value, cluster_unit(&view->cluster, name)->unit);
        cluster_view_put(view, layout_key(key, LAYOUT_REVISION, name, number), value.chars);
}

static void put_instance(ClusterView *view, const char *path, const char *program) {
        char value[256];

        snprintf(value, sizeof(value),
                 "{\"from\":\"shop@.service\",\"text\":\"[Service]\\nExecStart=%s\\n"
                 "[X-Fleet]\\nEnvironmentKeys=%s\\n\"}",
                 program, path);
        cluster_view_put(view, "/_fleet/unit/shop@3.service", value);
}

#define TO ",\"to\":2,\"toHash\":\"b\"}"

/* The resolver reads the keys of the text that the assignment names. */
static void keys_of_a_former_text_are_protected_while_an_instance_has_it(void **state) {
        static const char others[] = "yyyyyyyyyyy", read[] = "yyyPPPPPyPP";
        _cleanup_(policy_table_done) PolicyTable t;
        KvCommand cmd = { .op = KV_SET, .key = kv_string("/app/old/a") };
        const Cluster *c = &t.view.cluster;
        char key[LAYOUT_KEY_MAX];
        Error err = {};

        open_inputs(&t);
        cluster_view_destroy(&t.view, "shop@.service");
        cluster_view_destroy(&t.view, "long.service");
        cluster_view_machine(&t.view, "A", "", PRESENCE_UP);
        cluster_view_unit(&t.view, "db.service", "ConfigKeys=/app/old/a/b:etc", TARGET_LAUNCHED);
        cluster_view_assign(&t.view, "A", "db.service", ASSIGNMENT_RUN);
        store_revision(&t.view, "db.service", "1");
        cluster_view_text(&t.view, "db.service", "EnvironmentKeys=/app/new", "/bin/true");
        for (size_t i = 0; i < 2; i++) {
                assert_string_equal(judge(&t, &cmd, &err), read);
                cmd.key = i == 0 ? kv_string("/app/old/a/b/c") : cmd.key;
        }
        assert_string_equal(err.message,
                            "db.service, revision 1, reads /app/old/a/b: write it by fleetctl as "
                            "root or group fleet, or with keys-write:/app/old/a/b");
        cmd.key = kv_string("/app/old/b");
        assert_string_equal(judge(&t, &cmd, NULL), others);
        cmd.key = kv_string("/app/old/a/b");
        cluster_view_assign(&t.view, "A", "db.service", ASSIGNMENT_RUN); /* with the present text */
        assert_string_equal(judge(&t, &cmd, NULL), others);

        /* A rollout that has not ended may return to the text. */
        layout_key(key, LAYOUT_ROLLOUT, "db.service", NULL);
        cluster_view_put(
                &t.view, key,
                "{\"before\":\"rolling\",\"completed\":1,\"completedHash\":\"a\",\"state\":\"paused\"" TO);
        assert_string_equal(judge(&t, &cmd, NULL), read);
        cluster_view_put(&t.view, key, "{\"from\":1,\"fromHash\":\"a\",\"state\":\"rolling\"" TO);
        assert_string_equal(judge(&t, &cmd, NULL), read);
        cluster_view_put(&t.view, key, "{\"from\":1,\"fromHash\":\"a\",\"state\":\"done\"" TO);
        assert_string_equal(judge(&t, &cmd, NULL), others);

        /* An instance has a former text of its template; the key of the revision may be read last. */
        put_instance(&t.view, "/app/t/3", "/a");
        cluster_view_assign(&t.view, "A", "shop@3.service", ASSIGNMENT_RUN);
        put_instance(&t.view, "/app/new/3", "/b");
        cluster_view_unit(&t.view, "shop@.service", "EnvironmentKeys=/app/t/%i", TARGET_INACTIVE);
        store_revision(&t.view, "shop@.service", "1");
        cluster_view_text(&t.view, "shop@.service", "EnvironmentKeys=/app/new/%i", "/bin/true");
        cmd.key = kv_string("/app/t/3/x");
        assert_string_equal(judge(&t, &cmd, &err), read);
        assert_non_null(strstr(err.message, "shop@.service, revision 1, reads /app/t: "));
        cluster_view_assign(&t.view, "A", "shop@3.service", ASSIGNMENT_STOP);
        assert_string_equal(judge(&t, &cmd, NULL), others);

        /* Another text of that number replaces it; no entry is left behind. */
        assert_non_null(c->rules[CLUSTER_FORMER_PATHS].all);
        store_revision(&t.view, "shop@.service", "1");
        cluster_view_remove(&t.view, layout_key(key, LAYOUT_REVISION, "shop@.service", "1"));
        cluster_view_remove(&t.view, layout_key(key, LAYOUT_REVISION, "db.service", "1"));
        assert_null(c->rules[CLUSTER_FORMER_PATHS].all);
        cluster_view_destroy(&t.view, "db.service");
        cluster_view_destroy(&t.view, "shop@.service");
        cluster_view_destroy(&t.view, "shop@3.service");
        assert_null(c->rules[CLUSTER_PATHS].all);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_host_without_a_replica_reports_a_limited_number_of_states),
                cmocka_unit_test(a_replica_reports_any_number_of_states),
                cmocka_unit_test(a_host_without_a_replica_reports_a_limited_number_of_problems),
                cmocka_unit_test(a_report_of_a_host_without_a_replica_has_a_limited_size),
                cmocka_unit_test(users_keys_are_not_written_by_internal_commands),
                cmocka_unit_test(keys_that_a_unit_reads_are_written_with_a_right_of_the_sender_only),
                cmocka_unit_test(keys_are_free_without_a_unit_that_reads_them),
                cmocka_unit_test(
                        keys_that_instances_of_a_template_will_read_are_protected_before_these_exist),
                cmocka_unit_test(keys_of_a_former_text_are_protected_while_an_instance_has_it),
                cmocka_unit_test(a_principal_has_one_text),
                cmocka_unit_test(any_bytes_are_one_principal_or_none),
                cmocka_unit_test(a_prefix_covers_itself_and_what_is_below),
                cmocka_unit_test(a_list_covers_what_it_grants),
                cmocka_unit_test(prefixes_cover_what_is_below_them),
                cmocka_unit_test(a_group_is_granted_rights_by_a_text),
                cmocka_unit_test(groups_and_their_rights_are_bounded),
                cmocka_unit_test(a_user_has_the_rights_of_its_groups_together),
                cmocka_unit_test(the_table_grants_these_rights_and_denies_all_others),
                cmocka_unit_test(a_machine_has_rights_to_what_is_its_own),
                cmocka_unit_test(a_host_proposes_what_it_has_a_right_to),
                cmocka_unit_test(a_restricted_host_reads_the_former_texts_that_it_is_assigned),
                cmocka_unit_test(a_host_claims_no_principal_of_another_host),
                cmocka_unit_test(a_replica_proposes_for_clients_of_other_hosts),
                cmocka_unit_test(a_principal_sees_the_directories_above_its_prefixes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

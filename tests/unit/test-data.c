#include "tests/lib/test.h"
#include "units/unit.h"

#define S "[Service]\n"
#define C "[Container]\nImage=a\n"
#define P "[Pod]\n"
#define V "[Volume]\n"

static void a_file_has_the_data_of_its_options_after_resets(void **state) {
        static const struct {
                const char *name, *text, *data, *host_path;
        } rows[] = {
                { "a.service", S "ExecStart=/bin/true\n", NULL, NULL },
                { "a.service", S "StateDirectory=db\n", "StateDirectory=db", NULL },
                { "a.service", S "StateDirectory=db cache\n", "StateDirectory=db", NULL },
                { "a.service", S "StateDirectory=\"my db\" cache\n", "StateDirectory=my db", NULL },
                { "a.service", S "StateDirectory=db:link\nStateDirectory=x\n", "StateDirectory=db", NULL },
                { "a.service", S "StateDirectory=db\nStateDirectory=\n", NULL, NULL },
                { "a.service", S "StateDirectory=db\nStateDirectory=\nStateDirectory=%N/x\n",
                  "StateDirectory=%N/x", NULL },
                { "a.service", S "StateDirectory=db\n" S "StateDirectory=\n", NULL, NULL },
                { "a.service", S "StateDirectory=\\\n  db\n", "StateDirectory=db", NULL },
                { "a.service", S "StateDirectory=\"db\nStateDirectory=' \n", NULL, NULL },
                { "a.service", S "StateDirectory=\"db\nStateDirectory=x\n", "StateDirectory=x", NULL },
                { "a.service", S "CacheDirectory=a\nLogsDirectory=a\nRuntimeDirectory=a\n", NULL, NULL },
                { "a.service", S "ConfigurationDirectory=a\n", NULL, NULL },
                { "a.service", "[Unit]\nStateDirectory=a\n[X-Fleet]\nStateDirectory=b\n", NULL, NULL },
                { "a.service", "[Socket]\nStateDirectory=a\n" C "Volume=a:/b\n", NULL, NULL },
                { "a.socket", "[Socket]\nStateDirectory=a\n", "StateDirectory=a", NULL },
                { "a.socket", S "StateDirectory=a\n", NULL, NULL },
                { "a.mount", "[Mount]\nStateDirectory=a\n", "StateDirectory=a", NULL },
                { "a.swap", "[Swap]\nStateDirectory=a\n", "StateDirectory=a", NULL },
                { "a.timer", "[Timer]\nStateDirectory=a\n" S "StateDirectory=a\n", NULL, NULL },
                { "a.service", S "BindPaths=/srv/db:/db /x\n", NULL, "/srv/db" },
                { "a.service", S "BindPaths=-/srv/db\nStateDirectory=a\n", "StateDirectory=a", "/srv/db" },
                { "a.service", S "BindPaths=/srv/db\nBindPaths=\n", NULL, NULL },
                { "a.service", S "BindReadOnlyPaths=/srv/db\n", NULL, NULL },
                { "a.container", C "Volume=pgdata:/var/lib/db\n", "Volume=pgdata", NULL },
                { "a.container", C "Volume=pgdata:/var/lib/db:ro,Z\n", "Volume=pgdata", NULL },
                { "a.container", C "Volume=pg.volume:/db\n", "Volume=pg.volume", NULL },
                { "a@1.container", C "Volume=%N.volume:/db\n", "Volume=%N.volume", NULL },
                { "a@.container", C "Volume=%i:/db\n", "Volume=%i", NULL },
                { "a.container", C "Volume=/var/lib/db\nVolume=:/x\nVolume=\\\n", NULL, NULL },
                { "a.container", C "Volume=/srv/db:/db\n", NULL, "/srv/db" },
                { "a.container", C "Volume=/srv/db:/db:Z,rw\n", NULL, "/srv/db" },
                { "a.container", C "Volume=/srv/db:/db:ro\n", NULL, NULL },
                { "a.container", C "Volume=/srv/db:/db:z,ro,U\n", NULL, NULL },
                { "a.container", C "Volume=/srv/db:/db:root\n", NULL, "/srv/db" },
                { "a.container", C "Volume=./db:/db\n", NULL, "./db" },
                { "a.container", C "Volume=.:/db\n", NULL, "." },
                { "a.container", C "Volume=%S:/db\nVolume=%t:/t\n", NULL, "%S" },
                { "a.container", C "Volume=/etc/x:/x:ro\nVolume=a:/a\nVolume=/b:/b\nVolume=/c:/c\n",
                  "Volume=a", "/b" },
                { "a.container", C "Volume=a:/a\nVolume=/b:/b\nVolume=\nVolume=c:/c\n", "Volume=c", NULL },
                { "a.container", C "Mount=type=volume,source=pg,destination=/db\n",
                  "Mount=type=volume,source=pg", NULL },
                { "a.container", C "Mount=src=pg,ro,dst=/db,type=volume\n", "Mount=type=volume,src=pg",
                  NULL },
                { "a.container", C "Mount=type=volume,destination=/db\n", NULL, NULL },
                { "a.container", C "Mount=type=volume,source=/srv/db,destination=/db\n", NULL, NULL },
                { "a.container", C "Mount=type=tmpfs,source=x\nMount=source=y\nMount=type=image,src=z\n",
                  NULL, NULL },
                { "a.container", C "Mount=type=bind,source=/srv/db,target=/db\n", NULL, "/srv/db" },
                { "a.container", C "Mount=type=bind,src=/srv/db,target=/db,ro=false\n", NULL, "/srv/db" },
                { "a.container", C "Mount=type=bind,src=/srv/db,ro\n", NULL, NULL },
                { "a.container", C "Mount=readonly=true,type=bind,src=/srv/db\n", NULL, NULL },
                { "a.container", C "Mount=type=volume,src=a\nMount=\n", NULL, NULL },
                { "a.container", C S "StateDirectory=db\n", "StateDirectory=db", NULL },
                { "a.pod", P "Volume=data:/d\n", "Volume=data", NULL },
                { "a.pod", P "Volume=/data:/d\n", NULL, "/data" },
                { "a.kube", "[Kube]\nYaml=/a\nVolume=a:/a\n", NULL, NULL },
                { "a.volume", V, "[Volume]", NULL },
                { "a.volume", V "VolumeName=x\n", "[Volume]", NULL },
                { "a.volume", V "Type=bind\nDevice=/srv\n", "[Volume]", NULL },
                { "a.volume", V "Type=nfs\nType=ext4\nDriver=\n", "[Volume]", NULL },
                { "a.volume", V "Driver=local\n", "[Volume]", NULL },
                { "a.volume", V "Driver=image\n", NULL, NULL },
                { "a.volume", V "Driver=s3\nType=ext4\n", NULL, NULL },
                { "a.network", "[Network]\nType=x\n", NULL, NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;

                Error err = {};

                if (unit_read(rows[i].name, rows[i].text, strlen(rows[i].text), &unit, &err) < 0)
                        fail_msg("%s: %s", rows[i].text, err.message);
                if (!same_string(unit->placement.data, rows[i].data) ||
                    !same_string(unit->placement.host_path, rows[i].host_path))
                        fail_msg("%zu: %s: %s, %s", i, rows[i].text, unit->placement.data ?: "none",
                                 unit->placement.host_path ?: "none");
        }
}

static void storage_of_other_hosts_is_no_data(void **state) {
        static const char *const types[] = {
                "nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "tmpfs"
        };

        for (size_t i = 0; i < ELEMENTS(types); i++) {
                _cleanup_unit_ Unit *unit = NULL;
                _cleanup_text_ Text t = {};

                text_printf(&t, V "Type=%s\n", types[i]);
                assert_int_equal(unit_read("a.volume", t.chars, t.size, &unit, NULL), 0);
                assert_null(unit->placement.data);
        }
}

static void a_long_name_is_cut(void **state) {
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text t = {};

        text_append(&t, S "StateDirectory=");
        for (int i = 0; i < 1000; i++)
                text_append_char(&t, 'x');
        text_append(&t, "\nBindPaths=/");
        for (int i = 0; i < 1000; i++)
                text_append_char(&t, 'y');
        text_append_char(&t, '\n');
        assert_int_equal(unit_read("a.service", t.chars, t.size, &unit, NULL), 0);
        assert_int_equal(strlen(unit->placement.data), 128);
        assert_true(ends_with(unit->placement.data, "xxx..."));
        assert_int_equal(strlen(unit->placement.host_path), 128);
}

static void contradictions_are_warnings_of_files_with_new_options_only(void **state) {
        static const struct {
                const char *name, *text;
                unsigned line;
                const char *warning; /* NULL: none */
        } rows[] = {
                { "a@.service", S "StateDirectory=db\n[X-Fleet]\nReplicas=3\n", 2,
                  "StateDirectory=db: replicas on one machine share it; write db-%i" },
                { "a@.service",
                  S "A=b\nStateDirectory=a-%i b-%n\nStateDirectory=x/c\n[X-Fleet]\nReplicas=0\n", 4,
                  "StateDirectory=x/c: replicas on one machine share it; write x/c-%i" },
                { "a@.container", C "Volume=pg:/db\n[X-Fleet]\nReplicas=3\n", 3,
                  "Volume=pg: replicas on one machine share it; write pg-%i" },
                { "a@.container", C "Mount=type=volume,src=%p,dst=/a\n[X-Fleet]\nReplicas=3\n", 3,
                  "Mount=type=volume,src=%p: replicas on one machine share it; write %p-%i" },
                { "a@.container", C "Volume=pg.volume:/db\n[X-Fleet]\nReplicas=3\n", 3,
                  "Volume=pg.volume: replicas on one machine share it" },
                { "a@.container", C "Volume=%N.volume:/db\nVolume=/a:/a\n[X-Fleet]\nReplicas=3\n", 0, NULL },
                { "a@1.service", S "StateDirectory=db\n[X-Fleet]\nReplicas=3\n", 0, NULL },
                { "a@.service", S "StateDirectory=db\n", 0, NULL },
                { "a@.service", S "StateDirectory=db\nStateDirectory=\n[X-Fleet]\nReplicas=3\n", 0, NULL },
                { "a.service", S "MemoryMax=1G\n[X-Fleet]\nMemoryRequest=1G\n", 0, NULL },
                { "a.service", S "MemoryMax=1G\n[X-Fleet]\nMemoryRequest=1025M\n", 4,
                  "MemoryRequest= is above MemoryMax=: the unit cannot use all of it" },
                { "a.service", S "MemoryMax=1G\nMemoryMax=infinity\n[X-Fleet]\nMemoryRequest=2G\n", 0, NULL },
                { "a.service", S "MemoryHigh=1G\n[X-Fleet]\nMemoryRequest=2G\n", 0, NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;

                assert_int_equal(unit_parse(rows[i].name, rows[i].text, strlen(rows[i].text), &unit, NULL),
                                 0);
                if (unit->warnings.n != (rows[i].warning ? 1 : 0))
                        fail_msg("%zu: %zu warnings", i, unit->warnings.n);
                if (rows[i].warning) {
                        assert_string_equal(unit->warnings.items[0].message, rows[i].warning);
                        assert_int_equal(unit->warnings.items[0].line, rows[i].line);
                }
        }
}

static void the_warnings_of_shared_data_are_limited(void **state) {
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text t = {};

        text_append(&t, "[X-Fleet]\nReplicas=3\n" S "StateDirectory=");
        for (int i = 0; i < 300; i++)
                text_printf(&t, "d%d ", i);
        text_append_char(&t, '\n');
        assert_int_equal(unit_parse("a@.service", t.chars, t.size, &unit, NULL), 0);
        assert_int_equal(unit->warnings.n, WARNINGS_MAX + 1);
        assert_string_equal(unit->warnings.items[WARNINGS_MAX].message, "280 more warnings are left out");
}

/* What only a template can have, and the size of its copies. */
static void options_of_a_set_are_rejected_elsewhere_with_their_line(void **state) {
        static const struct {
                const char *name, *lines;
                size_t size;
                const char *message;
        } rows[] = {
                { "web.service", "Replicas=3\n", 0,
                  "line 2: Replicas= belongs into a template, as web@.service" },
                { "web.service", "\nMaxPerMachine=3\n", 0,
                  "line 3: MaxPerMachine= belongs into a template, as web@.service" },
                { "web.service", "Spread=zone\n", 0,
                  "line 2: Spread= belongs into a template, as web@.service" },
                { "web.service", "Replicas=\nSpread=\n", 0, NULL },
                { "web@.service", "Replicas=3\nMaxPerMachine=1\nSpread=zone\n", 0, NULL },
                { "web@1.service", "Replicas=3\nMaxPerMachine=1\nSpread=zone\n", 0, NULL },
                { "web@.service", "Replicas=1000\n", 16777, NULL },
                { "web@.service", "Replicas=1\nReplicas=1000\n", 16778,
                  "line 3: Replicas=1000: 1000 copies of 17 KiB exceed 16 MiB" },
                { "web@.service", "Replicas=1000\n", 20480,
                  "line 2: Replicas=1000: 1000 copies of 20 KiB exceed 16 MiB" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;
                _cleanup_text_ Text t = {};
                Error err = {};

                text_printf(&t, "[X-Fleet]\n%s" S "A=b\n", rows[i].lines);
                while (t.size < rows[i].size)
                        text_append(&t, rows[i].size - t.size == 1 ? "\n" : "#\n");
                assert_int_equal(unit_parse(rows[i].name, t.chars, t.size, &unit, &err),
                                 rows[i].message ? -EINVAL : 0);
                assert_string_equal(err.message, rows[i].message ?: "");
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_file_has_the_data_of_its_options_after_resets),
                cmocka_unit_test(storage_of_other_hosts_is_no_data),
                cmocka_unit_test(a_long_name_is_cut),
                cmocka_unit_test(contradictions_are_warnings_of_files_with_new_options_only),
                cmocka_unit_test(the_warnings_of_shared_data_are_limited),
                cmocka_unit_test(options_of_a_set_are_rejected_elsewhere_with_their_line),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

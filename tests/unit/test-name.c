#include "tests/lib/test.h"
#include "units/name.h"

static void assert_name(const char *name, const char *expected) {
        Error err = {};
        int r = unit_name_check(name, &err);

        assert_string_equal(r == 0 ? "" : err.message, expected);
        assert_int_equal(r, *expected ? -EINVAL : 0);
}

static void names_are_checked_by_fleets_rules_with_fleets_messages(void **state) {
        char name[300];

        assert_name("name.service", "");
        assert_name("hello@.service", "");
        assert_name("hello@1.service", "");
        assert_name("a@b@c.d.service", "");
        assert_name("ping.1.service", "");
        assert_name("dev-sda1.swap", "");
        assert_name("a:b-c_d\\x2d.timer", "");

        assert_name("", "unit name cannot be empty");
        assert_name("hello", "unit name must contain \".\"");
        assert_name("name.", "unit name cannot end in \".\"");
        assert_name("name.txt", "invalid unit type: \"txt\"");
        assert_name("name.ser\nvice", "invalid unit type: \"ser\\x0avice\"");
        assert_name("name@.mount", "invalid unit type for template: \"mount\"");
        assert_name("sp ace.service", "invalid character ' ' in unit name");
        assert_name("t@{4..5}.service", "invalid character '{' in unit name");
        assert_name("../etc.service", "invalid character '/' in unit name");
        assert_name("b\xc3\xa4r.service", "invalid character '\xc3\xa4' in unit name");
        assert_name("b\xff.service", "invalid character '\\xff' in unit name");
        assert_name("b\x1b.service", "invalid character '\\x1b' in unit name");
        assert_name("@1.service", "unit name cannot start in \"@\"");
        assert_name(".service", "unit name cannot start in \".\"");
        assert_name("..service", "unit name cannot start in \".\"");

        memset(name, 'a', sizeof(name));
        strcpy(name + 257 - strlen(".service"), ".service");
        assert_name(name, "unit name exceeds maximum length (256)");
        assert_name(name + 1, "unit name exceeds systemd's maximum length (255)");
        assert_name(name + 2, "");
}

static void all_types_of_fleet_and_of_quadlet_are_types(void **state) {
        static const char *const types[] = {
                "automount", "busname",  "device", "mount",   "path",   "scope",  "service",
                "slice",     "snapshot", "socket", "swap",    "target", "timer",  "build",
                "container", "image",    "kube",   "network", "pod",    "volume",
        };
        static const char *const in_templates[] = { "path",  "service",   "socket", "target",
                                                    "timer", "container", "kube" };
        unsigned templates = 0;

        for (size_t i = 0; i < ELEMENTS(types); i++) {
                char name[32];

                snprintf(name, sizeof(name), "a.%s", types[i]);
                assert_name(name, "");
                snprintf(name, sizeof(name), "a@.%s", types[i]);
                templates += unit_name_check(name, NULL) == 0;
        }
        for (size_t i = 0; i < ELEMENTS(in_templates); i++) {
                char name[32];

                snprintf(name, sizeof(name), "a@x.%s", in_templates[i]);
                assert_name(name, "");
        }
        assert_int_equal(templates, ELEMENTS(in_templates));
}

static void a_refused_name_has_a_reason(void **state) {
        static const char systemd[] = "systemd itself depends on a unit of that name (systemd.special(7))",
                          own[] = "a unit of that name belongs to fleet itself";
        static const char host[] = "units of that type belong to the host they are on";
        static const struct {
                const char *name, *reason; /* NULL: it is taken */
        } rows[] = {
                { "dbus.service", systemd },
                { "dbus.container", systemd },
                { "-.mount", systemd },
                { "multi-user.target", systemd },
                { "shutdown.target", systemd },
                { "sockets.target", systemd },
                { "syslog.socket", systemd },
                { "dbus-broker.service", NULL },
                { "srv.mount", NULL },
                { "mine.target", NULL },
                { "blockdev@a.target", systemd },
                { "blockdev.target", NULL },
                { "fleet.service", own },
                { "fleet.socket", own },
                { "fleetd.service", own },
                { "fleetd.socket", own },
                { "fleet-dns.service", own },
                { "fleet-dns.socket", own },
                { "fleet-dns-link.service", own },
                { "fleet-dns.container", own },
                { "fleet-dns.timer", NULL },
                { "fleet-web.service", own },
                { "fleet-web.socket", own },
                { "fleet-web.container", own },
                { "fleet-web.path", NULL },
                { "fleet.container", own },
                { "fleetd.kube", own },
                { "fleet.timer", NULL },
                { "fleet-ui.service", NULL },
                { "fleetd-exporter.service", NULL },
                { "my-fleet.service", NULL },
                { "systemd-x.service", "names that start with systemd- are systemd's own" },
                { "systemdx.service", NULL },
                { "fleet-check-a.service",
                  "names that start with fleet-check- are reserved for fleet's own checks" },
                { "fleet-check.service", NULL },
                { "a.busname", host },
                { "a.device", host },
                { "a.scope", host },
                { "a.slice", host },
                { "a.snapshot", host },
                { "a.service", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *reason = NULL;

                assert_int_equal(unit_name_check(rows[i].name, NULL), 0);
                assert_int_equal(unit_name_is_refused(rows[i].name, &reason), rows[i].reason != NULL);
                assert_string_equal(reason ? reason : "", rows[i].reason ? rows[i].reason : "");
        }
}

static void a_name_is_split_at_the_first_at_and_the_last_dot(void **state) {
        static const struct {
                const char *name, *prefix, *instance, *template_name, *type;
                bool is_template, is_instance;
        } rows[] = {
                { "a.service", "a", "", "a.service", "service", false, false },
                { "a.b.timer", "a.b", "", "a.b.timer", "timer", false, false },
                { "a@.service", "a", "", "a@.service", "service", true, false },
                { "a@1.service", "a", "1", "a@.service", "service", false, true },
                { "a@b@c.d.service", "a", "b@c.d", "a@.service", "service", false, true },
                { "a", "a", "", "a", "", false, false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_free_ char *prefix = unit_name_prefix(rows[i].name),
                                    *instance = unit_name_expand(rows[i].name, "%i");
                _cleanup_free_ char *template_name = unit_name_template(rows[i].name);

                assert_string_equal(prefix, rows[i].prefix);
                assert_string_equal(instance, rows[i].instance);
                assert_string_equal(template_name, rows[i].template_name);
                assert_string_equal(unit_name_type(rows[i].name), rows[i].type);
                assert_int_equal(unit_name_is_template(rows[i].name), rows[i].is_template);
                assert_int_equal(unit_name_is_instance(rows[i].name), rows[i].is_instance);
        }
}

static void an_argument_becomes_a_name(void **state) {
        static const struct {
                const char *argument, *name;
        } rows[] = {
                { "foo", "foo.service" },         { "foo.1", "foo.1.service" },
                { "foo.txt", "foo.txt.service" }, { "dir/bar.socket", "bar.socket" },
                { "./web@1", "web@1.service" },   { "foo.target", "foo.target" },
                { "foo.service", "foo.service" }, { "dir/", ".service" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_free_ char *name = unit_name_from_argument(rows[i].argument);

                assert_string_equal(name, rows[i].name);
        }
}

static void a_misspelt_type_is_recognized_in_long_endings_only(void **state) {
        static const struct {
                const char *name, *type;
        } rows[] = {
                { "web@1.servce", "service" },
                { "web.sevice", "service" },
                { "web.services", "service" },
                { "web.serivce", "service" },
                { "a/b.sockt", "socket" },
                { "a.contaner", "container" },
                { "web.service", NULL },
                { "web.servce.service", NULL },
                { "web", NULL },
                { "example.com", NULL },
                { "web.prod", NULL },
                { "web.server", NULL },
                { "web.math", NULL },
                { "web.local", NULL },
                { "web.1.2.34", NULL },
                { "web.", NULL },
                { "notes.text", NULL },
                { "a.mountab", NULL },
                { "a.timerxy", NULL },
                { "a.targetx", "target" },
                { "redis.docker", NULL },
                { "x.market", NULL },
                { "x.ticker", NULL },
                { "x.locker", NULL },
                { "web.servcei", NULL },
                { "web.evrsice", NULL },
                { "a.devic", NULL },
                { "a.serviceserviceserviceservice", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *type = unit_name_meant_type(rows[i].name);

                if (!type != !rows[i].type || (type && !streq(type, rows[i].type)))
                        fail_msg("%s: %s", rows[i].name, type ?: "none");
        }
}

static void specifiers_become_parts_of_the_name(void **state) {
        static const struct {
                const char *name, *value, *expanded;
        } rows[] = {
                { "foo@bar.service", "%n", "foo@bar.service" },
                { "foo@bar.service", "%N", "foo@bar" },
                { "foo@bar.service", "%p", "foo" },
                { "foo@bar.service", "%i", "bar" },
                { "foo.service", "%n", "foo.service" },
                { "foo.service", "%N", "foo" },
                { "foo.service", "%p", "foo" },
                { "foo.service", "<%i>", "<>" },
                { "foo@.service", "<%i>", "<>" },
                { "foo@bar.service", "%p.%i %H %", "foo.bar %H %" },
                { "foo@bar.service", "%%i", "%bar" },
                { "foo@bar.service", "plain", "plain" },
                { "in@x.service", "%%pp", "xnp" }, /* one after the other: what %p left behind is an %i */
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_free_ char *expanded = unit_name_expand(rows[i].name, rows[i].value);

                assert_string_equal(expanded, rows[i].expanded);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(names_are_checked_by_fleets_rules_with_fleets_messages),
                cmocka_unit_test(all_types_of_fleet_and_of_quadlet_are_types),
                cmocka_unit_test(a_refused_name_has_a_reason),
                cmocka_unit_test(a_name_is_split_at_the_first_at_and_the_last_dot),
                cmocka_unit_test(an_argument_becomes_a_name),
                cmocka_unit_test(a_misspelt_type_is_recognized_in_long_endings_only),
                cmocka_unit_test(specifiers_become_parts_of_the_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

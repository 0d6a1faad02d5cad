/* What systemd, and podman's generator, are told of the content of a unit. */
#include "tests/lib/test.h"
#include "fleetd/features/inputs/inputs_internal.h"

#define HEAD  "# Written by fleetd: Secret=, EnvironmentKeys=, ConfigKeys=.\n"
#define FLEET "[Service]\nExecReload=/bin/true\n[Container]\nImage=a\n[X-Fleet]\n"

static void the_drop_in_has_the_lines_that_the_text_needs(void **state) {
        static const struct {
                const char *name, *text, *expected; /* without the digits after each '~'; NULL: none */
        } cases[] = {
                { "shop.service", FLEET "OnChange=reload\n", NULL },
                { "shop.service",
                  FLEET "Secret=db-password\nEnvironmentKeys=/config/shop\nConfigKeys=-/config/files\n",
                  HEAD
                  "[Service]\n"
                  "LoadCredentialEncrypted=db-password:/var/lib/fleet/credentials/shop.service~/db-password\n"
                  "EnvironmentFile=/run/fleet/config/shop.service~/environment\n"
                  "Environment=FLEET_CONFIG=/run/fleet/config/shop.service~/current\n" },
                { "shop@7.service", FLEET "Secret=tls:server.key\nSecret=db\n",
                  HEAD
                  "[Service]\n"
                  "LoadCredentialEncrypted=server.key:/var/lib/fleet/credentials/shop@7.service~/server.key\n"
                  "LoadCredentialEncrypted=db:/var/lib/fleet/credentials/shop@7.service~/db\n" },
                { "shop.service", FLEET "EnvironmentKeys=/a\nEnvironmentKeys=/b\n",
                  HEAD "[Service]\nEnvironmentFile=/run/fleet/config/shop.service~/environment\n" },
                { "a:b\\x2dc.service", FLEET "ConfigKeys=/a\n",
                  HEAD
                  "[Service]\nEnvironment=FLEET_CONFIG=/run/fleet/config/a+3Ab+5Cx2dc.service~/current\n" },
                { "shop.container",
                  FLEET "Secret=db-password\nSecret=tls:server.key\nEnvironmentKeys=/e\nConfigKeys=/f\n",
                  HEAD
                  "[Service]\n"
                  "LoadCredentialEncrypted=db-password:/var/lib/fleet/credentials/shop.container~/"
                  "db-password\n"
                  "LoadCredentialEncrypted=server.key:/var/lib/fleet/credentials/shop.container~/server.key\n"
                  "ExecStartPre=/usr/bin/install -d -m 0700 /run/fleet/secrets/shop.container\n"
                  "ExecStartPre=/usr/bin/install -m 0444 -t /run/fleet/secrets/shop.container %d/db-password "
                  "%d/server.key\n"
                  "ExecStopPost=-/usr/bin/rm -rf /run/fleet/secrets/shop.container\n"
                  "[Container]\n"
                  "Volume=/run/fleet/secrets/shop.container/db-password:/run/secrets/db-password:ro,Z\n"
                  "Volume=/run/fleet/secrets/shop.container/server.key:/run/secrets/server.key:ro,Z\n"
                  "Environment=CREDENTIALS_DIRECTORY=/run/secrets\n"
                  "EnvironmentFile=/run/fleet/config/shop.container~/environment\n"
                  "Volume=/run/fleet/config/shop.container~:/run/fleet/config/shop.container~:ro,z\n"
                  "Environment=FLEET_CONFIG=/run/fleet/config/shop.container~/current\n" },
                { "w@1.container", FLEET "EnvironmentKeys=/e\n",
                  HEAD "[Container]\nEnvironmentFile=/run/fleet/config/w@1.container~/environment\n" },
                { "a:b.container", FLEET "ConfigKeys=/f\n",
                  HEAD "[Container]\n"
                       "Volume=/run/fleet/config/a+3Ab.container~:/run/fleet/config/a+3Ab.container~:ro,z\n"
                       "Environment=FLEET_CONFIG=/run/fleet/config/a+3Ab.container~/current\n" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_text_ Text t = {};
                _cleanup_unit_ Unit *unit = NULL;
                Error err = {};

                if (unit_parse(cases[i].name, cases[i].text, strlen(cases[i].text), &unit, &err) < 0)
                        fail_msg("%s: %s", cases[i].name, err.message);
                assert_int_equal(drop_in_wanted(unit) >> DROP_IN_INPUTS & 1, cases[i].expected != NULL);
                if (!cases[i].expected)
                        continue;
                inputs_append_drop_in(&t, unit);
                for (char *at = t.chars; (at = strchr(at, '~')); at++) {
                        assert_int_equal(strspn(at + 1, "0123456789abcdef"), 8);
                        memmove(at + 1, at + 9, strlen(at + 9) + 1);
                }
                assert_string_equal(t.chars, cases[i].expected);
        }
}

static void each_unit_has_a_name_for_paths(void **state) {
        static const struct {
                const char *unit, *name;
        } cases[] = {
                { "shop.service", "shop.service" },       { "shop@eu-1_a.service", "shop@eu-1_a.service" },
                { "a:b.service", "a+3Ab.service" },       { "a+3Ab.service", "a+2B3Ab.service" },
                { "a\\x2d.service", "a+5Cx2d.service" },  { "%n .service", "+25n+20.service" },
                { "\xc3\xa4.service", "+C3+A4.service" }, { "a~1.service", "a+7E1.service" },
        };
        char longest[UNIT_NAME_MAX + 1], name[INPUTS_NAME_SIZE];

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                inputs_name(cases[i].unit, name);
                assert_string_equal(name, cases[i].name);
        }
        memset(longest, ':', UNIT_NAME_MAX);
        longest[UNIT_NAME_MAX] = 0;
        inputs_name(longest, name);
        assert_int_equal(strlen(name), INPUTS_NAME_SIZE - 1);
}

static void folder_of(const char *name, const char *options, char ret[static INPUTS_FOLDER_SIZE]) {
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text t = {};
        Error err = {};

        text_printf(&t, FLEET "%s", options);
        if (unit_parse(name, t.chars, t.size, &unit, &err) < 0)
                fail_msg("%s: %s", options, err.message);
        inputs_folder(unit, ret);
}

/* Otherwise the files of the next text would replace those with which systemd may still restart the unit. */
static void texts_with_other_lists_have_other_folders(void **state) {
        static const char *const others[] = {
                "Secret=b",
                "Secret=a:b",
                "Secret=a\nSecret=b",
                "Secret=b\nSecret=a",
                "EnvironmentKeys=/a",
                "EnvironmentKeys=-/a",
                "ConfigKeys=/a",
                "ConfigKeys=/a:b",
                "EnvironmentKeys=/a\nEnvironmentKeys=/b",
                "EnvironmentKeys=/a\nConfigKeys=/b",
        };
        char own[INPUTS_FOLDER_SIZE], folders[ELEMENTS(others)][INPUTS_FOLDER_SIZE];

        folder_of("shop.service", "Secret=a\n", own);
        assert_int_equal(strlen(own), strlen("shop.service~01234567"));
        for (size_t i = 0; i < ELEMENTS(others); i++) {
                folder_of("shop.service", others[i], folders[i]);
                assert_string_not_equal(folders[i], own);
                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(folders[i], folders[k]);
        }
        folder_of("shop.service", "OnChange=restart\nMaxUnavailable=2\nSecret=a\n", folders[0]);
        assert_string_equal(folders[0], own);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_drop_in_has_the_lines_that_the_text_needs),
                cmocka_unit_test(each_unit_has_a_name_for_paths),
                cmocka_unit_test(texts_with_other_lists_have_other_folders),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Quadlet files: names of their services, and files that are rejected. */

#include "tests/lib/test.h"
#include "base/text.h"
#include "units/quadlet.h"
#include "units/unit.h"

static void assert_service(const char *name, const char *expected) {
        char service[UNIT_NAME_MAX + 32];

        quadlet_service(name, service);
        assert_string_equal(service, expected);
}

static void the_service_name_follows_from_the_file_name(void **state) {
        assert_service("web.container", "web.service");
        assert_service("web@.container", "web@.service");
        assert_service("web@a.b.container", "web@a.b.service");
        assert_service("stack.kube", "stack.service");
        assert_service("data.volume", "data-volume.service");
        assert_service("lan.network", "lan-network.service");
        assert_service("base.image", "base-image.service");
        assert_service("mine.build", "mine-build.service");
        assert_service("group.pod", "group-pod.service");
        assert_service("web.service", "web.service");
        assert_service("web.socket", "web.socket");
        assert_true(quadlet_is("web.container"));
        assert_false(quadlet_is("container.service"));
}

static void append_name(void *userdata, const char *name) {
        text_printf(userdata, " %s", name);
}

static void assert_sources(const char *service, const char *expected) {
        _cleanup_text_ Text t = {};

        text_append(&t, "");
        quadlet_each_source(service, append_name, &t);
        assert_string_equal(t.chars ?: "", expected);
}

static void the_sources_of_a_service_are_enumerated(void **state) {
        assert_sources("web.service", " web.container web.kube");
        assert_sources("web-volume.service", " web-volume.container web-volume.kube web.volume");
        assert_sources("-pod.service", " -pod.container -pod.kube");
        assert_sources("web.socket", "");
}

static void assert_verdict(const char *name, const char *text, const char *expected) {
        _cleanup_unit_ Unit *unit = NULL;
        Error err = {};
        int r = unit_parse(name, text, strlen(text), &unit, &err);

        assert_int_equal(r < 0, *expected != 0);
        assert_string_equal(err.message, expected);
}

static void a_file_needs_the_section_of_its_type_and_its_required_option(void **state) {
        assert_verdict("web.container",
                       "[Container]\nImage=x\n[Service]\nRestart=always\n[X-Fleet]\nGlobal=true\n", "");
        assert_verdict("web.container", "[Container]\nRootfs=/x\n", "");
        assert_verdict("web.container", "[Container]\nExec=x\n", "[Container] needs Image= or Rootfs=");
        assert_verdict("web.container", "# [Container]\n[Service]\nImage=x\n",
                       "a .container file has a section [Container]; here is none");
        assert_verdict("web.container", "", "a .container file has a section [Container]; here is none");
        assert_verdict("web.kube", "[Kube]\nYaml=x.yml\n", "");
        assert_verdict("web.kube", "[Kube]\nNetwork=x\n", "[Kube] needs Yaml=");
        assert_verdict("web.image", "[Image]\nAllTags=yes\n", "[Image] needs Image=");
        assert_verdict("web.build", "[Build]\nFile=x\n", "[Build] needs ImageTag=");
        /* The section alone is enough. */
        assert_verdict("data.volume", "[Volume]\n", "");
        assert_verdict("lan.network", "# mine\n  [Network]", "");
        assert_verdict("group.pod", "[Pod]\n[Install]\nWantedBy=x.target\n", "");
        assert_verdict("data.volume", "[Volumes]\n", "a .volume file has a section [Volume]; here is none");
}

static void unsupported_files_are_rejected(void **state) {
        char name[UNIT_NAME_MAX + 1];

        assert_verdict("data.volume", "[Volume]\n[Container]\nImage=x\n",
                       "line 3: [Container] belongs into a .container file");
        assert_verdict("web.container", "[Container]\nImage=x\nServiceName=other\n",
                       "line 3: ServiceName= is not taken: its service is web.service");
        assert_verdict("dbus.container", "[Container]\nImage=x\n",
                       "unit name dbus.container is refused: systemd itself depends on a unit of that name "
                       "(systemd.special(7))");
        assert_verdict("data@1.volume", "[Volume]\n", "invalid unit type for template: \"volume\"");
        memset(name, 'a', UNIT_NAME_MAX);
        strcpy(name + UNIT_NAME_MAX - strlen(".volume"), ".volume");
        assert_verdict(name, "[Volume]\n", "its service's name would be longer than 255 bytes");
        assert_verdict(name + 8, "[Volume]\n", "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_service_name_follows_from_the_file_name),
                cmocka_unit_test(the_sources_of_a_service_are_enumerated),
                cmocka_unit_test(a_file_needs_the_section_of_its_type_and_its_required_option),
                cmocka_unit_test(unsupported_files_are_rejected),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

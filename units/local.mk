noinst_LIBRARIES += units/libunits.a
units_libunits_a_CFLAGS = $(AM_CFLAGS) $(SIZE_CFLAGS) $(GNUTLS_CFLAGS) $(JANSSON_CFLAGS)
UNITS_SOURCES = \
	units/lists.h units/journal_filter.h units/journal_filter.c units/named.h units/named.c units/name.h units/name.c units/unit_file.h units/unit_file.c units/hash.h units/hash.c \
	units/placement.h units/placement.c units/options.h units/options_internal.h units/option_warnings.c units/warnings.h units/warnings.c units/options.c units/update.h units/update.c units/effect.h units/effect.c units/class.h units/class.c units/install.h units/install.c units/unit.h units/unit.c \
	units/machine.h units/machine.c units/state.h units/state.c units/verdict.h units/verdict.c units/verdict_former.h units/verdict_former.c units/words.h units/json.h units/json.c units/json_record.h units/json_record.c \
	units/quadlet.h units/quadlet.c units/drop_ins.h units/drop_ins.c units/stored_json.h units/stored_json.c units/stored_cluster.h units/stored_cluster.c units/api_json.h units/api_json.c \
	units/token.h units/token.c units/singleton.h units/singleton.c units/revision.h units/revision.c units/stored_rollout.h units/stored_rollout.c units/stored_reboot.h units/stored_reboot.c \
	units/service.h units/service.c units/inputs.h units/inputs.c units/stored_inputs.h units/stored_inputs.c units/resources.h units/resources.c units/data.h units/data.c
if UNITY_BUILD
units_libunits_a_SOURCES = units/lists.c
nodist_units_libunits_a_SOURCES = units/unity.c
else
units_libunits_a_SOURCES = $(UNITS_SOURCES) units/lists.c
endif

# What a program links that uses units/.
UNITS_LIBS = units/libunits.a base/libbase.a $(GNUTLS_LIBS) $(JANSSON_LIBS)

if HAVE_CMOCKA
UNITS_TESTS = tests/unit/test-name tests/unit/test-unit_file tests/unit/test-options tests/unit/test-update tests/unit/test-effect tests/unit/test-placement \
	tests/unit/test-unit tests/unit/test-verdict tests/unit/test-drop_ins tests/unit/test-quadlet tests/unit/test-machine tests/unit/test-json tests/unit/test-stored_cluster tests/unit/test-token \
	tests/unit/test-data tests/unit/test-resources
check_PROGRAMS += $(UNITS_TESTS)
TESTS += $(UNITS_TESTS)

tests_unit_test_name_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_unit_file_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_options_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=text_distance
tests_unit_test_options_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_update_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_effect_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
EXTRA_DIST += tests/lib/placement_model.h
tests_unit_test_placement_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=strcmp
tests_unit_test_placement_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
# Leads allocations through tests/lib/alloc.c.
FAILING_ALLOCATIONS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup,--wrap=asprintf,--wrap=vasprintf

tests_unit_test_unit_SOURCES = tests/unit/test-unit.c tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_unit_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_unit_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_quadlet_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_drop_ins_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_machine_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_stored_cluster_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_json_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=strcmp
tests_unit_test_json_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_data_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_resources_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_token_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_verdict_SOURCES = tests/unit/test-verdict.c tests/lib/message.h
tests_unit_test_verdict_LDADD = $(UNITS_LIBS) $(CMOCKA_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-unit_file tests/fuzz/fuzz-json tests/fuzz/fuzz-token tests/fuzz/fuzz-verdict
tests_fuzz_fuzz_unit_file_SOURCES = tests/fuzz/unit_file.c tests/fuzz/standalone.c
tests_fuzz_fuzz_unit_file_LDADD = $(UNITS_LIBS)
tests_fuzz_fuzz_json_SOURCES = tests/fuzz/json.c tests/fuzz/standalone.c
tests_fuzz_fuzz_json_LDADD = $(UNITS_LIBS)
tests_fuzz_fuzz_token_SOURCES = tests/fuzz/token.c tests/fuzz/standalone.c
tests_fuzz_fuzz_token_LDADD = $(UNITS_LIBS)
tests_fuzz_fuzz_verdict_SOURCES = tests/fuzz/verdict.c tests/fuzz/standalone.c
tests_fuzz_fuzz_verdict_LDADD = $(UNITS_LIBS)

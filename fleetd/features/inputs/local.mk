FLEETD_UNITY += fleetd/features/inputs/unity.c
FLEETD_SOURCES += fleetd/features/inputs/inputs_internal.h \
	fleetd/features/inputs/content.h fleetd/features/inputs/content.c fleetd/features/inputs/secrets.c fleetd/features/inputs/secrets_v1.c \
	fleetd/features/inputs/watched.h fleetd/features/inputs/watched.c fleetd/features/inputs/watcher.c fleetd/features/inputs/content_bytes.h \
	fleetd/features/inputs/content_bytes.c fleetd/features/inputs/input_files.h fleetd/features/inputs/input_folder.c fleetd/features/inputs/drop_in.c
FLEETD_ALONE_SOURCES += fleetd/features/inputs/inputs.c fleetd/features/inputs/provider.c fleetd/features/inputs/resolver.c fleetd/features/inputs/resolver_call.c

if HAVE_CMOCKA
FLEETD_INPUTS_TESTS = tests/unit/test-content tests/unit/test-secrets tests/unit/test-inputs_call tests/unit/test-watcher tests/unit/test-input_folder tests/unit/test-input_drop_in tests/unit/test-provider
check_PROGRAMS += $(FLEETD_INPUTS_TESTS)
TESTS += $(FLEETD_INPUTS_TESTS)
tests_unit_test_content_SOURCES = tests/unit/test-content.c tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_content_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_content_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_secrets_SOURCES = tests/unit/test-secrets.c $(FLEETD_HOST)
tests_unit_test_secrets_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_inputs_call_SOURCES = tests/unit/test-inputs_call.c $(QUIET_HOST)
tests_unit_test_inputs_call_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=resolver_read,--wrap=resolver_values_free,--wrap=loop_has_budget,--wrap=registry_index
tests_unit_test_inputs_call_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_watcher_SOURCES = tests/unit/test-watcher.c tests/lib/manual_loop.h tests/lib/manual_loop.c $(FLEETD_HOST)
tests_unit_test_watcher_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_input_folder_SOURCES = tests/unit/test-input_folder.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_input_folder_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_input_drop_in_SOURCES = tests/unit/test-input_drop_in.c
tests_unit_test_input_drop_in_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_provider_SOURCES = tests/unit/test-provider.c tests/lib/fake_sealer.h tests/lib/fake_sealer.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_provider_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS) -Wl,--wrap=watcher_new,--wrap=watcher_free,--wrap=watcher_step,--wrap=inputs_append_drop_in,--wrap=content_append_environment,--wrap=resolver_new,--wrap=resolver_free,--wrap=resolver_begin,--wrap=resolver_cancel
tests_unit_test_provider_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-content
tests_fuzz_fuzz_content_SOURCES = tests/fuzz/content.c tests/fuzz/standalone.c
tests_fuzz_fuzz_content_LDADD = $(FLEETD_LIBS)

FUZZERS += tests/fuzz/fuzz-content_bytes
tests_fuzz_fuzz_content_bytes_SOURCES = tests/fuzz/content_bytes.c tests/fuzz/standalone.c
tests_fuzz_fuzz_content_bytes_LDADD = $(FLEETD_LIBS)

FLEETD_UNITY += fleetd/features/inputs/unity.c
FLEETD_SOURCES += fleetd/features/inputs/inputs_internal.h fleetd/features/inputs/inputs.c fleetd/features/inputs/secrets.c \
	fleetd/features/inputs/secrets_v1.c fleetd/features/inputs/content.h fleetd/features/inputs/input_files.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-secrets
TESTS += tests/unit/test-secrets
tests_unit_test_secrets_SOURCES = tests/unit/test-secrets.c $(FLEETD_HOST)
tests_unit_test_secrets_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif

FLEETD_UNITY += fleetd/features/toy/unity.c
FLEETD_SOURCES += fleetd/features/toy/toy.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-toy
TESTS += tests/unit/test-toy
tests_unit_test_toy_SOURCES = tests/unit/test-toy.c $(FLEETD_HOST)
tests_unit_test_toy_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif

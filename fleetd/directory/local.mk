FLEETD_UNITY += fleetd/directory/unity.c
FLEETD_SOURCES += fleetd/directory/directory.h fleetd/directory/directory.c fleetd/directory/diff.h fleetd/directory/diff.c \
	fleetd/directory/problems.h fleetd/directory/problems.c fleetd/directory/seen_files.h fleetd/directory/seen_files.c fleetd/directory/scan.h \
	fleetd/directory/scan.c

if HAVE_CMOCKA
FLEETD_DIRECTORY_TESTS = tests/unit/test-directory_diff tests/unit/test-scan tests/unit/test-directory
check_PROGRAMS += $(FLEETD_DIRECTORY_TESTS)
TESTS += $(FLEETD_DIRECTORY_TESTS)
tests_unit_test_directory_diff_SOURCES = tests/unit/test-directory_diff.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_directory_diff_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_scan_SOURCES = tests/unit/test-scan.c tests/lib/scan_folder.h tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_scan_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=fdopendir
tests_unit_test_scan_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_directory_SOURCES = tests/unit/test-directory.c $(SIDE_BY_SIDE) $(FLEETD_HOST)
tests_unit_test_directory_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=cluster_revisions_are_full
tests_unit_test_directory_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-scan
tests_fuzz_fuzz_scan_SOURCES = tests/fuzz/scan.c tests/fuzz/standalone.c tests/lib/scan_folder.h tests/lib/scratch.h tests/lib/scratch.c
tests_fuzz_fuzz_scan_LDADD = $(FLEETD_LIBS)

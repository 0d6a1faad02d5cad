noinst_LIBRARIES += base/libbase.a
base_libbase_a_SOURCES = \
	base/memory.h base/sizes.h base/memory.c base/table.h base/table.c base/error.h base/error.c base/text.h base/text.c \
	base/blocks.h base/blocks.c base/bytes.h base/bytes.c base/pace.h base/parse.h base/parse.c base/file.h base/file.c base/clock.h base/clock.c \
	base/log.h base/log.c base/fault_point.h base/fault_point.c base/base64.h base/base64.c base/file_checksum.h base/file_checksum.c base/backup_file.h base/backup_file.c base/duration.h base/duration.c

if HAVE_CMOCKA
BASE_TEST_LIBS = base/libbase.a $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-error
TESTS += tests/unit/test-error
tests_unit_test_error_LDADD = $(BASE_TEST_LIBS)

check_PROGRAMS += tests/unit/test-text
TESTS += tests/unit/test-text
tests_unit_test_text_LDADD = $(BASE_TEST_LIBS)

check_PROGRAMS += tests/unit/test-bytes
TESTS += tests/unit/test-bytes
tests_unit_test_bytes_LDADD = $(BASE_TEST_LIBS)

check_PROGRAMS += tests/unit/test-blocks
TESTS += tests/unit/test-blocks
tests_unit_test_blocks_LDFLAGS = -Wl,--wrap=malloc -Wl,--wrap=free
tests_unit_test_blocks_LDADD = $(BASE_TEST_LIBS)

check_PROGRAMS += tests/unit/test-parse
TESTS += tests/unit/test-parse
tests_unit_test_parse_LDADD = $(BASE_TEST_LIBS)

check_PROGRAMS += tests/unit/test-clock
TESTS += tests/unit/test-clock
tests_unit_test_clock_LDADD = $(BASE_TEST_LIBS)

check_PROGRAMS += tests/unit/test-file
TESTS += tests/unit/test-file
tests_unit_test_file_LDADD = $(BASE_TEST_LIBS)

endif

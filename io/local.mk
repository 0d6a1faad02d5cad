noinst_LIBRARIES += io/libio.a
io_libio_a_SOURCES = \
	io/loop.h io/loop.c io/loop_uv.h io/loop_uv.c io/child_uv.c io/stream.h io/stream.c io/net_uv.c \
	io/disk.h io/disk_real.c
io_libio_a_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)

if HAVE_CMOCKA
IO_TEST_LIBS = io/libio.a base/libbase.a $(UV_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-loop
TESTS += tests/unit/test-loop
tests_unit_test_loop_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_loop_LDADD = $(IO_TEST_LIBS)
endif

noinst_LIBRARIES += io/libio.a
io_libio_a_SOURCES = \
	io/loop.h io/loop.c io/turn.h io/turn.c io/loop_uv.h io/loop_uv.c io/child_uv.h io/child_uv.c io/stream.h io/stream_ops.c io/net_uv_internal.h io/net_uv.c io/stream_uv.c \
	io/http.h io/http_connection.h io/http.c io/http_parser.c io/http_answer.c io/http_server.c io/http_parameters.c \
	io/tls.h io/tls.c io/tls_key_internal.h io/tls_key.c io/tls_roles.h io/tls_roles_internal.h io/tls_fields.c io/tls_issue.c io/tls_verify.c io/tls_credentials.h io/tls_credentials.c io/disk.h io/disk_real.c io/seal.h io/seal.c
io_libio_a_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS) $(GNUTLS_CFLAGS) $(LLHTTP_CFLAGS)

# What links libio.a links $(IO_LIBS) behind it.
IO_LIBS = $(UV_LIBS) $(GNUTLS_LIBS) $(LLHTTP_LIBS)
if LLHTTP_BUNDLED
# Not ours, hence not held to our warnings.
noinst_LIBRARIES += io/libllhttp.a
nodist_io_libllhttp_a_SOURCES = io/llhttp-api.c io/llhttp-http.c io/llhttp-llhttp.c
io_libllhttp_a_CFLAGS = -g -O2 -fPIE -w $(LLHTTP_CFLAGS)
CLEANFILES += $(nodist_io_libllhttp_a_SOURCES)
io/llhttp-%.c: $(LLHTTP_SRC)/%.c
	$(AM_V_GEN)$(MKDIR_P) io && cp $< $@
IO_LIBS += io/libllhttp.a
endif

if HAVE_CMOCKA
IO_TEST_LIBS = io/libio.a base/libbase.a $(IO_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-loop
TESTS += tests/unit/test-loop
tests_unit_test_loop_SOURCES = tests/unit/test-loop.c
tests_unit_test_loop_LDADD = $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-loop_uv
TESTS += tests/unit/test-loop_uv
tests_unit_test_loop_uv_SOURCES = tests/unit/test-loop_uv.c
tests_unit_test_loop_uv_CFLAGS = $(TEST_CFLAGS) $(UV_CFLAGS)
tests_unit_test_loop_uv_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pipe2,--wrap=pidfd_open,--wrap=dup2,--wrap=_Fork,--wrap=waitpid,--wrap=read,--wrap=write \
	-Wl,--wrap=getppid,--wrap=prctl,--wrap=uv_poll_init,--wrap=uv_poll_start,--wrap=uv_pipe_open,--wrap=uv_read_start,--wrap=uv_queue_work \
	-Wl,--wrap=uv_signal_init,--wrap=uv_signal_start,--wrap=uv_loop_init,--wrap=random_seed_from_system
tests_unit_test_loop_uv_LDADD = $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-http
TESTS += tests/unit/test-http
tests_unit_test_http_SOURCES = tests/unit/test-http.c tests/unit/io_pair.h
tests_unit_test_http_CFLAGS = $(TEST_CFLAGS) $(LLHTTP_CFLAGS)
tests_unit_test_http_LDADD = $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-http_server
TESTS += tests/unit/test-http_server
tests_unit_test_http_server_SOURCES = tests/unit/test-http_server.c tests/unit/http_bench.h
tests_unit_test_http_server_CFLAGS = $(TEST_CFLAGS) $(LLHTTP_CFLAGS)
tests_unit_test_http_server_LDADD = $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-http_requests
TESTS += tests/unit/test-http_requests
tests_unit_test_http_requests_SOURCES = tests/unit/test-http_requests.c tests/unit/http_bench.h
tests_unit_test_http_requests_CFLAGS = $(TEST_CFLAGS) $(LLHTTP_CFLAGS)
tests_unit_test_http_requests_LDADD = $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-tls
TESTS += tests/unit/test-tls
tests_unit_test_tls_SOURCES = tests/unit/test-tls.c tests/unit/io_pair.h
tests_unit_test_tls_LDADD = $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-tls_certificates
TESTS += tests/unit/test-tls_certificates
tests_unit_test_tls_certificates_SOURCES = tests/unit/test-tls_certificates.c tests/unit/io_pair.h
tests_unit_test_tls_certificates_CFLAGS = $(TEST_CFLAGS) $(GNUTLS_CFLAGS)
tests_unit_test_tls_certificates_LDADD = $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-tls_roles
TESTS += tests/unit/test-tls_roles
tests_unit_test_tls_roles_SOURCES = tests/unit/test-tls_roles.c
tests_unit_test_tls_roles_CFLAGS = $(TEST_CFLAGS) $(GNUTLS_CFLAGS)
tests_unit_test_tls_roles_LDADD = $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-disk
TESTS += tests/unit/test-disk
tests_unit_test_disk_SOURCES = tests/unit/test-disk.c tests/lib/calls.h tests/lib/calls.c
tests_unit_test_disk_LDADD = $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-stream
TESTS += tests/unit/test-stream
tests_unit_test_stream_SOURCES = tests/unit/test-stream.c tests/unit/io_pair.h
tests_unit_test_stream_LDADD = $(IO_TEST_LIBS)

# $(FAILING_ALLOCATIONS) leads allocations through tests/lib/alloc.c.
check_PROGRAMS += tests/unit/test-io_memory
TESTS += tests/unit/test-io_memory
tests_unit_test_io_memory_SOURCES = tests/unit/test-io_memory.c tests/unit/io_pair.h tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_io_memory_CFLAGS = $(TEST_CFLAGS) $(LLHTTP_CFLAGS)
tests_unit_test_io_memory_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_io_memory_LDADD = $(IO_TEST_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-http tests/fuzz/fuzz-certificate
tests_fuzz_fuzz_http_SOURCES = tests/fuzz/http.c tests/fuzz/standalone.c
tests_fuzz_fuzz_http_CFLAGS = $(AM_CFLAGS) $(LLHTTP_CFLAGS)
tests_fuzz_fuzz_http_LDADD = io/libio.a base/libbase.a $(IO_LIBS)
tests_fuzz_fuzz_certificate_SOURCES = tests/fuzz/certificate.c tests/fuzz/standalone.c
tests_fuzz_fuzz_certificate_LDADD = io/libio.a base/libbase.a $(IO_LIBS)

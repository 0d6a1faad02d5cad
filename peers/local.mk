noinst_LIBRARIES += peers/libpeers.a
peers_libpeers_a_SOURCES = \
	peers/peers.h peers/peers.c peers/peers_internal.h peers/admission.c peers/hosts.c peers/warnings.c \
	peers/session.h peers/session.c peers/session_facts.c peers/frame.h peers/frames.h peers/frame.c peers/handshake.h peers/handshake.c \
	peers/strangers.h peers/strangers.c peers/call.h peers/call.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-peers
TESTS += tests/unit/test-peers
tests_unit_test_peers_SOURCES = tests/unit/test-peers.c tests/lib/scratch.h tests/lib/scratch.c $(SIDE_BY_SIDE)
tests_unit_test_peers_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=timer_start
tests_unit_test_peers_LDADD = peers/libpeers.a $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-call
TESTS += tests/unit/test-call
tests_unit_test_call_SOURCES = tests/unit/test-call.c tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_call_LDFLAGS = $(FAILING_ALLOCATIONS) -Wl,--wrap=peers_register,--wrap=peers_unregister,--wrap=peers_observe,--wrap=peers_unobserve \
	-Wl,--wrap=peer_number,--wrap=peers_session,--wrap=peer_reply
tests_unit_test_call_LDADD = peers/libpeers.a $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-peers_certificates
TESTS += tests/unit/test-peers_certificates
tests_unit_test_peers_certificates_SOURCES = tests/unit/test-peers_certificates.c tests/lib/scratch.h tests/lib/scratch.c $(SIDE_BY_SIDE)
tests_unit_test_peers_certificates_LDADD = peers/libpeers.a $(IO_TEST_LIBS)

check_PROGRAMS += tests/unit/test-strangers
TESTS += tests/unit/test-strangers
tests_unit_test_strangers_SOURCES = tests/unit/test-strangers.c
tests_unit_test_strangers_LDADD = peers/libpeers.a $(BASE_TEST_LIBS)

check_PROGRAMS += tests/unit/test-session
TESTS += tests/unit/test-session
tests_unit_test_session_SOURCES = tests/unit/test-session.c tests/lib/manual_loop.h tests/lib/manual_loop.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_session_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_session_LDADD = peers/libpeers.a $(IO_TEST_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-session
tests_fuzz_fuzz_session_SOURCES = tests/fuzz/session.c tests/fuzz/standalone.c
tests_fuzz_fuzz_session_LDADD = peers/libpeers.a io/libio.a base/libbase.a $(IO_LIBS)

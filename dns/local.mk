# fleet-dns: answers DNS queries for the names of services, from the files of fleetd, and forwards others. A program of its own, for
# fleet-dns.socket.
noinst_LIBRARIES += dns/libdns.a
dns_libdns_a_CFLAGS = $(AM_CFLAGS) $(SIZE_CFLAGS) $(LDNS_CFLAGS) $(SYSTEMD_CFLAGS)
dns_libdns_a_SOURCES = dns/table.h dns/table.c dns/zone.h dns/zone.c dns/message.h dns/message.c dns/sources.h dns/sources.c \
	dns/forward.h dns/forward.c dns/server.h dns/server.c

DNS_LIBS = dns/libdns.a $(UNITS_LIBS) $(LDNS_LIBS) $(SYSTEMD_LIBS)

sbin_PROGRAMS += dns/fleet-dns
dns_fleet_dns_CFLAGS = $(AM_CFLAGS) $(SIZE_CFLAGS) $(SYSTEMD_CFLAGS)
dns_fleet_dns_SOURCES = dns/main.c
dns_fleet_dns_LDADD = $(DNS_LIBS)

# The units of its sockets, and of the address with its settings for systemd-resolved, systemd-networkd, NetworkManager and podman.
DNS_UNITS = dist/systemd/fleet-dns.service dist/systemd/fleet-dns.socket dist/systemd/fleet-dns-link.service
systemdsystemunit_DATA += $(DNS_UNITS)
dist_pkglibexec_SCRIPTS = dist/systemd/dns-link
CLEANFILES += $(DNS_UNITS)
EXTRA_DIST += $(DNS_UNITS:=.in)

$(DNS_UNITS): Makefile
	$(AM_V_GEN)$(MKDIR_P) dist/systemd && sed -e 's|@sbindir[@]|$(sbindir)|g' -e 's|@pkglibexecdir[@]|$(pkglibexecdir)|g' $(top_srcdir)/$@.in >$@.tmp && mv $@.tmp $@
dist/systemd/fleet-dns.service: $(top_srcdir)/dist/systemd/fleet-dns.service.in
dist/systemd/fleet-dns.socket: $(top_srcdir)/dist/systemd/fleet-dns.socket.in
dist/systemd/fleet-dns-link.service: $(top_srcdir)/dist/systemd/fleet-dns-link.service.in

delegatedir = $(prefix)/lib/systemd/dns-delegate.d
dist_delegate_DATA = dist/resolved/fleet.dns-delegate
trustanchordir = $(prefix)/lib/dnssec-trust-anchors.d
dist_trustanchor_DATA = dist/resolved/fleet.negative
networkddir = $(prefix)/lib/systemd/network
dist_networkd_DATA = dist/resolved/05-fleet.network
networkmanagerdir = $(prefix)/lib/NetworkManager/conf.d
dist_networkmanager_DATA = dist/resolved/10-fleet.conf

if HAVE_CMOCKA
DNS_TESTS = tests/unit/test-dns_zone tests/unit/test-dns_message tests/unit/test-dns_sources tests/unit/test-dns_table tests/unit/test-dns_forward \
	tests/unit/test-dns_server tests/unit/test-dns_memory
check_PROGRAMS += $(DNS_TESTS)
TESTS += $(DNS_TESTS)
EXTRA_DIST += tests/dns/asking.h tests/dns/decoder.h tests/dns/queries.h
tests_unit_test_dns_zone_LDADD = $(DNS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_dns_message_LDADD = $(DNS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_dns_sources_LDADD = $(DNS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_dns_table_SOURCES = tests/unit/test-dns_table.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_dns_table_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_dns_table_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=sd_event_add_time_relative
tests_unit_test_dns_table_LDADD = $(DNS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_dns_forward_LDADD = $(DNS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_dns_server_SOURCES = tests/unit/test-dns_server.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_dns_server_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_dns_server_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=sd_event_now,--wrap=sd_event_source_set_time
tests_unit_test_dns_server_LDADD = $(DNS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_dns_memory_SOURCES = tests/unit/test-dns_memory.c tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_dns_memory_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_dns_memory_LDADD = $(DNS_LIBS) $(CMOCKA_LIBS)

# The zone beside a model in Python.
check_PROGRAMS += tests/dns/answers
tests_dns_answers_LDADD = $(DNS_LIBS)
TESTS += tests/dns/test-model.py tests/dns/test-options.py
EXTRA_DIST += tests/dns/model.py tests/dns/test-model.py tests/dns/test-options.py
# By way of a variable: automake would take a rule for a file as a replacement of its own.
DNS_LOGS = tests/dns/test-model.py.log tests/dns/test-options.py.log
$(DNS_LOGS): tests/dns/answers dns/fleet-dns

# For ./check --full: they need root, network namespaces and other resolvers, as tests/lab/test-dns.sh needs booted hosts.
EXTRA_DIST += tests/dns/test-clients.sh tests/dns/test-flood.py tests/dns/asks.py tests/dns/systemd.py tests/dns/upstream.py tests/dns/lookup.c
endif

FUZZERS += tests/fuzz/fuzz-dns_message tests/fuzz/fuzz-dns_files tests/fuzz/fuzz-dns_forward
tests_fuzz_fuzz_dns_message_SOURCES = tests/fuzz/dns_message.c tests/fuzz/standalone.c
tests_fuzz_fuzz_dns_message_LDADD = $(DNS_LIBS)
tests_fuzz_fuzz_dns_files_SOURCES = tests/fuzz/dns_files.c tests/fuzz/standalone.c
tests_fuzz_fuzz_dns_files_LDADD = $(DNS_LIBS)
tests_fuzz_fuzz_dns_forward_SOURCES = tests/fuzz/dns_forward.c tests/fuzz/standalone.c
tests_fuzz_fuzz_dns_forward_LDADD = $(DNS_LIBS)

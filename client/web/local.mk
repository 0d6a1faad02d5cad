# fleet-web: the page. A program of its own: it links the loop and the HTTP server of io/, as the daemon does, and the client library.
noinst_LIBRARIES += client/web/libweb.a
client_web_libweb_a_CFLAGS = $(AM_CFLAGS) $(SIZE_CFLAGS) -DWEB_PAGE='"$(abs_top_srcdir)/client/web/page"'
client_web_libweb_a_SOURCES = client/web/server.h client/web/server.c client/web/loader.h client/web/loader.c client/web/view.h client/web/view.c \
	client/web/why.h client/web/why.c

WEB_LIBS = client/web/libweb.a client/libfleetctl.a io/libio.a $(UNITS_LIBS) $(IO_LIBS)
pkglibexec_PROGRAMS = client/web/fleet-web
client_web_fleet_web_CFLAGS = $(AM_CFLAGS) $(SIZE_CFLAGS)
client_web_fleet_web_SOURCES = client/web/main.c
client_web_fleet_web_LDADD = $(WEB_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS)

# The whole program against a fleetd made of Python.
TESTS += tests/client/test-web.py
EXTRA_DIST += tests/client/test-web.py
WEB_LOG = tests/client/test-web.py.log
$(WEB_LOG): client/web/fleet-web

# The units of the service, its user, and its right.
WEB_UNITS = dist/systemd/fleet-web.service dist/systemd/fleet-web.socket
systemdsystemunit_DATA += $(WEB_UNITS)
CLEANFILES += $(WEB_UNITS)
EXTRA_DIST += $(WEB_UNITS:=.in) dist/systemd/fleet-web.sysusers dist/systemd/80-fleet-web.preset dist/40-web.conf
$(WEB_UNITS): %: $(top_srcdir)/%.in Makefile
	$(AM_V_GEN)$(MKDIR_P) dist/systemd && sed -e 's|@pkglibexecdir[@]|$(pkglibexecdir)|g' $(top_srcdir)/$@.in >$@.tmp && mv $@.tmp $@

# The assembler includes the files of the page.
WEB_PAGE_FILES = client/web/page/index.html client/web/page/page.css client/web/page/page.js
EXTRA_DIST += $(WEB_PAGE_FILES)
client/web/libweb_a-server.$(OBJEXT): $(WEB_PAGE_FILES)

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-web_server tests/unit/test-web_loader
TESTS += tests/unit/test-web_server tests/unit/test-web_loader
EXTRA_DIST += tests/unit/web_asks.h
tests_unit_test_web_server_SOURCES = tests/unit/test-web_server.c tests/lib/manual_loop.h tests/lib/manual_loop.c
tests_unit_test_web_server_LDADD = $(WEB_LIBS) $(CURL_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)
# With another libcurl, and a time that it need not wait for.
tests_unit_test_web_loader_SOURCES = tests/unit/test-web_loader.c tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/fake_curl.h tests/lib/fake_curl.c \
	tests/lib/alloc.h tests/lib/alloc.c tests/lib/alloc_spared.h
tests_unit_test_web_loader_CFLAGS = $(TEST_CFLAGS) $(CURL_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_web_loader_LDFLAGS = $(FAILING_ALLOCATIONS) $(CLIENT_WRAPS)
tests_unit_test_web_loader_LDADD = $(WEB_LIBS) $(SMARTCOLS_LIBS) $(CMOCKA_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-web
tests_fuzz_fuzz_web_CFLAGS = $(AM_CFLAGS) $(CURL_CFLAGS)
tests_fuzz_fuzz_web_SOURCES = tests/fuzz/web.c tests/fuzz/standalone.c tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/fake_curl.h tests/lib/fake_curl.c
tests_fuzz_fuzz_web_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=clock_gettime,--wrap=gethostname,--wrap=nanosleep,--wrap=resolver_append,--wrap=sigtimedwait,--wrap=usleep
tests_fuzz_fuzz_web_LDADD = $(WEB_LIBS) $(SMARTCOLS_LIBS)

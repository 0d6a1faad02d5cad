# A search for expensive requests: see tests/search/expensive.c. test-expensive.sh builds and runs it.
if HAVE_CMOCKA
EXTRA_PROGRAMS += tests/search/expensive
tests_search_expensive_SOURCES = tests/search/expensive.c tests/search/scene.h tests/search/scene.c $(FLEETD_HOST)
tests_search_expensive_CFLAGS = $(TEST_CFLAGS) $(LMDB_CFLAGS)
tests_search_expensive_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc \
	-Wl,--wrap=glob_match_counted,--wrap=text_distance \
	-Wl,--wrap=mdb_get,--wrap=mdb_put,--wrap=mdb_del,--wrap=mdb_cursor_get,--wrap=mdb_cursor_del
tests_search_expensive_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
CLEANFILES += tests/search/expensive
endif
EXTRA_DIST += tests/search/test-expensive.sh tests/search/scenes tests/search/test-soak.sh tests/search/soak.py

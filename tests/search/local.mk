# A search for expensive requests: see tests/search/expensive.c. test-expensive.sh builds and runs it.
if HAVE_CMOCKA
# Calls that tests/search/work.c counts.
WORK = tests/search/work.h tests/search/work.c
WORK_WRAP = -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=glob_match_counted,--wrap=text_distance \
	-Wl,--wrap=mdb_get,--wrap=mdb_put,--wrap=mdb_del,--wrap=mdb_cursor_get,--wrap=mdb_cursor_del \
	-Wl,--wrap=frame_take,--wrap=hub_window_at,--wrap=remote_item_write,--wrap=scheduler_view_by_load,--wrap=scheduler_view_by_name

EXTRA_PROGRAMS += tests/search/expensive
tests_search_expensive_SOURCES = tests/search/expensive.c tests/search/scene.h tests/search/scene.c $(WORK) $(FLEETD_HOST)
tests_search_expensive_CFLAGS = $(TEST_CFLAGS) $(LMDB_CFLAGS)
tests_search_expensive_LDFLAGS = $(AM_LDFLAGS) $(WORK_WRAP)
tests_search_expensive_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
CLEANFILES += tests/search/expensive
endif
EXTRA_DIST += tests/search/test-expensive.sh tests/search/scenes tests/search/test-soak.sh tests/search/soak.py

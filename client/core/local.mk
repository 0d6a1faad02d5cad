CLIENT_UNITY += client/core/unity.c
CLIENT_SOURCES += client/core/client.h client/core/client.c client/core/connection.h client/core/connection.c client/core/files.h client/core/files.c \
	client/core/listing.h client/core/listing.c client/core/machines.h client/core/machines.c client/core/notes.h client/core/notes.c \
	client/core/operation.h client/core/operation.c client/core/options.h client/core/options.c client/core/output.h client/core/output.c \
	client/core/patterns.h client/core/patterns.c client/core/progress.h client/core/progress.c client/core/report.h client/core/report.c client/core/resolver.h client/core/resolver.c \
	client/core/state_text.h client/core/state_text.c client/core/subprocess.h client/core/subprocess.c client/core/suggest.h \
	client/core/suggest.c client/core/temporary.h client/core/temporary.c client/core/times.h client/core/times.c client/core/topics.h \
	client/core/topics.c client/core/unit.h client/core/unit.c client/core/usage.h client/core/usage.c client/core/verb.h client/core/verb.c client/core/wait.h client/core/wait.c \
	client/core/wait_internal.h client/core/wait_state.c

# The topics of "fleetctl help" are sections of these pages.
TOPICS_PAGES = $(top_srcdir)/man/fleet.7.scd $(top_srcdir)/man/fleet-change.7.scd $(top_srcdir)/man/fleet-recovery.7.scd
EXTRA_DIST += client/core/topics.awk
BUILT_SOURCES += client/core/topics_text.h
CLEANFILES += client/core/topics_text.h
client/core/topics_text.h: $(top_srcdir)/client/core/topics.awk $(TOPICS_PAGES)
	$(AM_V_GEN)$(MKDIR_P) client/core && $(AWK) -f $(top_srcdir)/client/core/topics.awk $(TOPICS_PAGES) >$@.tmp && mv $@.tmp $@
client/core/libfleetctl_a-topics.$(OBJEXT) client/core/libfleetctl_a-unity.$(OBJEXT): client/core/topics_text.h

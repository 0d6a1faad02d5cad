# Files of an installed system, in addition to the programs.
EXTRA_DIST += dist/systemd/fleetd.service.in dist/systemd/fleet.sysusers

systemdsystemunit_DATA = dist/systemd/fleetd.service
CLEANFILES += dist/systemd/fleetd.service

dist/systemd/fleetd.service: $(top_srcdir)/dist/systemd/fleetd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) dist/systemd && sed -e 's|@sbindir[@]|$(sbindir)|g' $(top_srcdir)/dist/systemd/fleetd.service.in >$@.tmp && mv $@.tmp $@

SAMPLE_UNITS = dist/units/hello.service dist/units/web@.service dist/units/store.service dist/units/store-watch.service \
	dist/units/node.service
examplesdir = $(docdir)/examples
dist_examples_DATA = $(SAMPLE_UNITS)

# The folder of units and that of drop-ins exist from the first minute; the group is made by systemd-sysusers.
install-data-local:
	$(MKDIR_P) "$(DESTDIR)$(sysusersdir)" "$(DESTDIR)$(sysconfdir)/fleet/units" "$(DESTDIR)$(sysconfdir)/fleet/fleetd.conf.d"
	$(INSTALL_DATA) $(top_srcdir)/dist/systemd/fleet.sysusers "$(DESTDIR)$(sysusersdir)/fleet.conf"

uninstall-local:
	rm -f "$(DESTDIR)$(sysusersdir)/fleet.conf"

AM_DISTCHECK_CONFIGURE_FLAGS = --with-systemdsystemunitdir=$$dc_install_base/lib/systemd/system \
	--with-sysusersdir=$$dc_install_base/lib/sysusers.d

# What a packager installs stays below /usr and /etc: lib, bin and sbin are links into /usr on the system that receives the files.
installcheck-local:
	rm -rf installcheck && $(MAKE) $(AM_MAKEFLAGS) install DESTDIR="$$(pwd)/installcheck" prefix=/usr exec_prefix=/usr sysconfdir=/etc \
		sysusersdir=/usr/lib/sysusers.d systemdsystemunitdir="$(systemdsystemunitdir_default)" >/dev/null
	test "$$(ls installcheck | tr '\n' ' ')" = "etc usr "
	test -e installcheck/usr/lib/systemd/system/fleetd.service
	rm -rf installcheck

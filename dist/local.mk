# Files of an installed system, in addition to the programs, and the packages.
EXTRA_DIST += dist/systemd/fleetd.service.in dist/systemd/fleet.sysusers dist/systemd/fleet.tmpfiles dist/systemd/80-fleet.preset dist/systemd/50-fleetd.conf \
	dist/fleetd.conf dist/debian dist/rpm/fleetd.spec dist/rpm/fleetd.rpmlintrc

systemdsystemunit_DATA += dist/systemd/fleetd.service
CLEANFILES += dist/systemd/fleetd.service

dist/systemd/fleetd.service: $(top_srcdir)/dist/systemd/fleetd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) dist/systemd && sed -e 's|@sbindir[@]|$(sbindir)|g' $(top_srcdir)/dist/systemd/fleetd.service.in >$@.tmp && mv $@.tmp $@

systemdpreset_DATA = dist/systemd/80-fleet.preset dist/systemd/80-fleet-web.preset
logindconf_DATA = dist/systemd/50-fleetd.conf

SAMPLE_UNITS = dist/units/hello.service dist/units/web@.service dist/units/store.service dist/units/store-watch.service \
	dist/units/node.service
examplesdir = $(docdir)/examples
dist_examples_DATA = $(SAMPLE_UNITS)

# For Prometheus and Grafana; the last one is the test of the rules.
dashboardsdir = $(docdir)/dashboards
dist_dashboards_DATA = dist/dashboards/fleet.rules.yml dist/dashboards/fleet.json
EXTRA_DIST += dist/dashboards/fleet.rules.test.yml

dist_doc_DATA = README.md NEWS.md docs/ARCHITECTURE.md docs/FORMATS.md docs/FROM-FLEET.md docs/GLOSSARY.md docs/OPERATING.md docs/STYLE.md

# The folder of units and that of drop-ins exist from the first minute; systemd-sysusers creates the group. An edited configuration remains.
FLEETD_CONF = $(DESTDIR)$(sysconfdir)/fleet/fleetd.conf
install-data-local:
	$(MKDIR_P) "$(DESTDIR)$(sysusersdir)" "$(DESTDIR)$(tmpfilesdir)" "$(DESTDIR)$(sysconfdir)/fleet/units" "$(DESTDIR)$(sysconfdir)/fleet/fleetd.conf.d"
	$(INSTALL_DATA) $(top_srcdir)/dist/systemd/fleet.sysusers "$(DESTDIR)$(sysusersdir)/fleet.conf"
	$(INSTALL_DATA) $(top_srcdir)/dist/systemd/fleet.tmpfiles "$(DESTDIR)$(tmpfilesdir)/fleet.conf"
	$(INSTALL_DATA) $(top_srcdir)/dist/systemd/fleet-web.sysusers "$(DESTDIR)$(sysusersdir)/fleet-web.conf"
	$(INSTALL_DATA) $(top_srcdir)/dist/40-web.conf "$(DESTDIR)$(sysconfdir)/fleet/fleetd.conf.d/40-web.conf"
	test -e "$(FLEETD_CONF)" || $(INSTALL_DATA) $(top_srcdir)/dist/fleetd.conf "$(FLEETD_CONF)"

uninstall-local:
	rm -f "$(DESTDIR)$(sysusersdir)/fleet.conf" "$(DESTDIR)$(tmpfilesdir)/fleet.conf" "$(DESTDIR)$(sysusersdir)/fleet-web.conf" \
		"$(DESTDIR)$(sysconfdir)/fleet/fleetd.conf.d/40-web.conf"
	! cmp -s $(top_srcdir)/dist/fleetd.conf "$(FLEETD_CONF)" || rm "$(FLEETD_CONF)"

AM_DISTCHECK_CONFIGURE_FLAGS = --with-systemdsystemunitdir=$$dc_install_base/lib/systemd/system \
	--with-sysusersdir=$$dc_install_base/lib/sysusers.d --with-tmpfilesdir=$$dc_install_base/lib/tmpfiles.d \
	--with-systemdpresetdir=$$dc_install_base/lib/systemd/system-preset --with-logindconfdir=$$dc_install_base/lib/systemd/logind.conf.d

# What a packager installs stays below /usr and /etc: lib, bin and sbin are links into /usr on the system that receives the files.
installcheck-local:
	rm -rf installcheck && $(MAKE) $(AM_MAKEFLAGS) install DESTDIR="$$(pwd)/installcheck" prefix=/usr exec_prefix=/usr sysconfdir=/etc \
		sysusersdir=/usr/lib/sysusers.d tmpfilesdir=/usr/lib/tmpfiles.d systemdpresetdir=/usr/lib/systemd/system-preset logindconfdir=/usr/lib/systemd/logind.conf.d \
		systemdsystemunitdir="$(systemdsystemunitdir_default)" >/dev/null
	test "$$(ls installcheck | tr '\n' ' ')" = "etc usr "
	test -e installcheck/usr/lib/systemd/system/fleetd.service
	rm -rf installcheck

# Packages for the Debian release of this machine, from the archive of "make dist": deb/*.deb. Equal sources give equal packages.
deb: dist
	rm -rf deb
	$(MKDIR_P) deb
	tar -xf $(distdir).tar.xz -C deb
	mv deb/$(distdir)/dist/debian deb/$(distdir)/debian
	cd deb/$(distdir) && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u DESTDIR dpkg-buildpackage -us -uc -b
	rm -rf deb/$(distdir)

clean-local:
	rm -rf deb

.PHONY: deb

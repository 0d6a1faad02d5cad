# The manual: man/NAME.SECTION.scd becomes man/NAME.SECTION. A page is added to PAGES.
PAGES = man/fleetctl.1 man/fleetd.8 man/fleet-dns.8 man/fleetd.conf.5 man/fleet.unit.5 man/fleet.7 man/fleet-api.7 man/fleet-discovery.7 man/fleet-recovery.7 man/fleet-security.7 man/fleet-secrets.7 man/fleet-change.7 man/fleet-web.7
EXTRA_DIST += $(PAGES:=.scd)

if HAVE_SCDOC
man_MANS += $(PAGES)
CLEANFILES += $(PAGES)

$(PAGES): %: $(top_srcdir)/%.scd
	$(AM_V_GEN)$(MKDIR_P) man && $(SCDOC) <$(top_srcdir)/$@.scd >$@.tmp && mv $@.tmp $@
endif

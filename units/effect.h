/* The effect of a new text on a unit that runs. Pure. */
#pragma once

#include "base/parse.h"
#include "units/unit_file.h"

/* From the weakest to the strongest. */
typedef enum UnitEffect {
        EFFECT_NONE,    /* only fleetd or a listing of systemd reads the changed options */
        EFFECT_LIVE,    /* systemd applies them to the running unit when it reads the file again */
        EFFECT_RELOAD,  /* ReloadTrigger=: the unit is reloaded */
        EFFECT_RESTART, /* the unit is stopped and started */
        _UNIT_EFFECT_MAX,
        _UNIT_EFFECT_INVALID = -EINVAL,
} UnitEffect;

ENUM_NAMES(unit_effect, UnitEffect, _UNIT_EFFECT_MAX)

/* Return the effect of one option: that of its change, if it were the only one. Unknown options restart. */
UnitEffect effect_of_option(const char *section, const char *name);

/* Return the effect of a text on a running unit 'name' that has the former text: that of the strongest option
 * that has another list of values, or another place among the options of its section with the same effect.
 * The order of sections, and of options with different effects, has no meaning. In a file for podman's
 * generator, options restart that would be live: the generator translates them.
 *
 * -ENOMEM. */
int effect_of_text(const char *name, const UnitFile *former, const UnitFile *file, UnitEffect *ret);

/* Return whether systemd can reload the service: ExecReload= or Type=notify-reload. */
bool effect_can_reload(const UnitFile *file);

/* Checks of settings that concern several of them. */
#pragma once

#include "fleetd/settings.h"

/* Return 0, or -EINVAL and a message with the setting and the remedy. */
int settings_check(const Settings *s, Error *err);

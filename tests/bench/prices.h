#pragma once

void prices(void);

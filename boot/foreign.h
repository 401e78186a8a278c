/*
 * foreign: names files that are no kernels which bantam can load.
 *
 * For messages only. Internal to boot. Any thread.
 */
#ifndef BANTAM_BOOT_FOREIGN_H
#define BANTAM_BOOT_FOREIGN_H

#include <stdint.h>

/*
 * Returns what the file that begins with head (n bytes) is, with an article: "a uImage (U-Boot)".
 * "" if that is unknown. Static text.
 */
const char *foreign_name(const uint8_t *head, uint32_t n);

#endif

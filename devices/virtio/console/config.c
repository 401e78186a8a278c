/* console/config: what the driver reads in the device's configuration (virtio 1.2, section 5.3.4). */
#include <string.h>

#include "devices/virtio/console/console_impl.h"
#include "vmm/core/bytes.h"

/* Little-endian. */
#define CONFIG_COLS 0
#define CONFIG_ROWS 2
#define CONFIG_MAX_NR_PORTS 4
#define CONFIG_EMERG_WR 8

void console_fill_config(struct console *con)
{
	uint8_t *config = con->vdev.s.config;

	memset(config, 0, CONSOLE_CONFIG_BYTES);
	put_le16(config + CONFIG_COLS, con->s.cols);
	put_le16(config + CONFIG_ROWS, con->s.rows);
	if (con->has_names)
		put_le32(config + CONFIG_MAX_NR_PORTS, con->nports);
}

void console_resize(struct console *con, uint16_t cols, uint16_t rows)
{
	con->s.cols = cols;
	con->s.rows = rows;
	console_fill_config(con);
	if (virtio_has(&con->vdev, CONSOLE_F_SIZE))
		virtio_config_changed(&con->vdev);
}

/* Section 5.3.6.1: emerg_wr works without queues, even before the device is set up. */
void console_write_config(struct virtio_device *vdev, uint32_t off, uint32_t len)
{
	struct console *con = console_of(vdev);

	if (!con->has_names && off <= CONFIG_EMERG_WR && off + len > CONFIG_EMERG_WR)
		chardev_write(con->port[0].chr, &vdev->s.config[CONFIG_EMERG_WR], 1);
	console_fill_config(con); /* the rest is read-only */
}

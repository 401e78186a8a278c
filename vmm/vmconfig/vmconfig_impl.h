/*
 * vmconfig_impl: what the sources of this folder share, from the top down: normalise.c, check.c
 * (values against the tables), rules.c (what a table cannot say), ids.c, path.c, fields.c (the
 * tables). to_config.c and to_machine.c stand beside them.
 */
#ifndef BANTAM_VMCONFIG_IMPL_H
#define BANTAM_VMCONFIG_IMPL_H

#include <stdbool.h>

#include "vmm/vmconfig/vmconfig.h"

enum vmconfig_kind {
	KIND_NONE, /* ends a table */
	KIND_TEXT,
	KIND_PATH,
	KIND_ID,
	KIND_UUID,
	KIND_IP,
	KIND_MAC,
	KIND_ENUM,
	KIND_UINT,
	KIND_BYTES, /* a number; the command line takes K, M, G, T */
	KIND_BOOL,
	KIND_OBJECT,
	KIND_OBJECTS, /* a list of objects */
	KIND_TEXTS,
	KIND_UINTS,
	KIND_ANY,  /* any JSON, kept as it is */
	KIND_LIST, /* a list of any JSON */
};

#define VMCONFIG_PAIRS_MAX 16 /* of queues, that a card can have */

#define FIELD_REQUIRED 1u
#define FIELD_IGNORED 2u /* accepted and returned; a warning if it would have an effect */
#define FIELD_REFUSED 4u /* -ENOTSUP if it would have an effect */
#define FIELD_POWER2 8u
#define FIELD_PAGES 16u /* a multiple of 4096 */
#define FIELD_OURS 32u	/* upstream has no such field */
#define FIELD_BARE 64u	/* on the command line, a first word without a key is its value */

/* Bytes of all OEM strings: the SMBIOS tables have 60 KiB for the whole platform. */
#define OEM_STRINGS_MAX (56u << 10)

/*
 * A field. Texts are inside, not pointers: a table of pointers would be relocated at the start of
 * every process, also of those that never look at it.
 */
struct vmconfig_field {
	char key[24];
	uint8_t kind;	/* enum vmconfig_kind */
	uint8_t object; /* KIND_OBJECT, KIND_OBJECTS: enum vmconfig_object */
	uint8_t flags;
	char def[20];	   /* the default as JSON; "": none */
	char choices[40];  /* KIND_ENUM */
	uint64_t min, max; /* of a number, or bytes of a text, or items of a list; max 0: any */
	/* the device takes at most that: a larger number gets a warning; KIND_TEXTS: bytes of each */
	uint64_t most;
	char option[24]; /* the key of bantam run's option that takes the value; "": none */
	char cli[20];	 /* the command line's name of it, if not key; "-": none */
	char help[96];	 /* one line */
};

/* The table of an object; ends with KIND_NONE. */
const struct vmconfig_field *vmconfig_fields(enum vmconfig_object object);
/* Returns the field of that key, or NULL. */
const struct vmconfig_field *vmconfig_find(enum vmconfig_object object, const char *key);

/* --- walk.c: where a check is, and the lines that it tells ------------------------------------ */

/* A client cannot fill the log: one more line says that there are more. */
#define VMCONFIG_WARNINGS_MAX 64

struct vmconfig_walk {
	const struct vmconfig_notes *notes;
	struct err *err;
	unsigned warnings; /* told so far */
	unsigned fds;	   /* so many of notes->fd are taken, if all goes well */
	size_t len;
	char path[160]; /* "disks[1].rate_limiter_config" */
};

/* Each returns the length to give back to vmconfig_leave. */
size_t vmconfig_enter(struct vmconfig_walk *w, const char *key);
size_t vmconfig_enter_item(struct vmconfig_walk *w, size_t index);
void vmconfig_leave(struct vmconfig_walk *w, size_t len);
/* Fills err with "PATH.key: TEXT" (key NULL: "PATH: TEXT"). Returns -code. */
int vmconfig_fail(struct vmconfig_walk *w, int code, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The same with "PATH.list[index].key: TEXT". */
int vmconfig_fail_item(struct vmconfig_walk *w, int code, const char *list, size_t index,
		       const char *key, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
void vmconfig_warn(struct vmconfig_walk *w, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int vmconfig_no_memory(struct vmconfig_walk *w);
/* Writes a value as the client wrote it, shortened, for messages. Returns buf. */
const char *vmconfig_show(const json_t *value, char *buf, size_t len);

/* --- values ---------------------------------------------------------------------------------- */

/* NULL, 0 and false if the object has no such key, or value is NULL. */
const char *vmconfig_text(const json_t *object, const char *key);
uint64_t vmconfig_num(const json_t *object, const char *key);
bool vmconfig_bool(const json_t *object, const char *key);

/*
 * Checks in, which may be any JSON, against an object's table and returns what it means. Calls
 * vmconfig_rules for each object in it.
 */
int vmconfig_check(struct vmconfig_walk *w, enum vmconfig_object object, const json_t *in,
		   json_t **out);
/* Puts the fields of a normalised object into the order of their table, also in objects inside. */
void vmconfig_order(enum vmconfig_object object, json_t *out);
/* What the table of an object cannot say. Fills resolved values into out. */
int vmconfig_rules(struct vmconfig_walk *w, enum vmconfig_object object, json_t *out);
/* A random address that no maker of cards gives away. 0 or -errno. */
int vmconfig_random_mac(char text[18]);
/* What concerns several objects of a VmConfig, and all of its devices. */
int vmconfig_vm_rules(struct vmconfig_walk *w, json_t *vm);
/* added: only this device is new; NULL: all are. */
int vmconfig_device_rules(struct vmconfig_walk *w, json_t *vm, const json_t *added);
/* What only the machine's own tables know: a device's keys that exclude others. */
int vmconfig_check_machine(const json_t *vm, struct err *err);
/* The caller takes the descriptors that the checks have put into a card: they become -1. */
void vmconfig_take_descriptors(struct vmconfig_walk *w);
/* The lists and objects that hold devices, in the order of the PCI slots. */
struct vmconfig_place {
	char key[12];	 /* "disks" */
	char name[12];	 /* the prefix of a name, or the name of what exists once: "_disk" */
	char option[12]; /* bantam run's: "disk" */
	uint8_t object;	 /* enum vmconfig_object */
	bool once;	 /* has a fixed name, and cannot be removed */
};
#define VMCONFIG_PLACES 7
extern const struct vmconfig_place vmconfig_places[VMCONFIG_PLACES];
/* Calls fn for each device until it returns nonzero, and returns that. */
int vmconfig_each_device(const json_t *vm,
			 int (*fn)(void *opaque, const struct vmconfig_place *place, json_t *device,
				   const char *where),
			 void *opaque);
/*
 * Gives each device an id and refuses the same id twice. behind: the new names' numbers follow the
 * highest one in use, as for a device that is added later.
 */
int vmconfig_name_devices(struct vmconfig_walk *w, json_t *vm, bool behind);

/* Fills what has no option of bantam run: memory, platform, cpus. *out is part of a config. */
int vmconfig_to_machine(const json_t *vm, struct config *out, struct err *err);

#endif

/* vmconfig/schema: the tables as schemas of OpenAPI 3.0. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/vmconfig/vmconfig_impl.h"

/*
 * Out of memory is seen at the end: json_object_set_new refuses a value that is NULL, and says so
 * in *rc.
 */
static void put(json_t *out, const char *key, json_t *value, int *rc)
{
	if (json_object_set_new(out, key, value))
		*rc = -ENOMEM;
}

static json_t *reference(enum vmconfig_object object)
{
	return json_sprintf("#/components/schemas/%s", vmconfig_object_name(object));
}

static json_t *enumeration(const char *choices)
{
	json_t *list = json_array();

	while (*choices) {
		size_t n = strcspn(choices, "|");

		json_array_append_new(list, json_stringn(choices, n));
		choices += n + (choices[n] == '|');
	}
	return list;
}

static void put_number(json_t *out, const struct vmconfig_field *f, int *rc)
{
	put(out, "type", json_string("integer"), rc);
	put(out, "format", json_string("int64"), rc);
	put(out, "minimum", json_integer((json_int_t)f->min), rc);
	if (f->max)
		put(out, "maximum", json_integer((json_int_t)f->max), rc);
}

static void put_text(json_t *out, const struct vmconfig_field *f, int *rc)
{
	bool not_empty = f->kind == KIND_PATH || f->kind == KIND_ID;

	put(out, "type", json_string("string"), rc);
	if (f->min || not_empty)
		put(out, "minLength", json_integer(f->min ? (json_int_t)f->min : 1), rc);
	if (f->max)
		put(out, "maxLength", json_integer((json_int_t)f->max), rc);
	if (f->kind == KIND_UUID)
		put(out, "format", json_string("uuid"), rc);
	if (f->kind == KIND_MAC)
		put(out, "pattern", json_string("^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$"), rc);
	if (f->kind == KIND_ENUM)
		put(out, "enum", enumeration(f->choices), rc);
}

static void put_list(json_t *out, const struct vmconfig_field *f, int *rc)
{
	json_t *items = json_object();

	put(out, "type", json_string("array"), rc);
	if (f->kind == KIND_OBJECTS)
		put(items, "$ref", reference((enum vmconfig_object)f->object), rc);
	else if (f->kind == KIND_UINTS)
		put_number(items, f, rc);
	else if (f->kind == KIND_TEXTS)
		put(items, "type", json_string("string"), rc);
	put(out, "items", items, rc);
	if (f->max && f->kind != KIND_UINTS)
		put(out, "maxItems", json_integer((json_int_t)f->max), rc);
}

static const char *effect(const struct vmconfig_field *f)
{
	return f->flags & FIELD_IGNORED ? "Has no effect: " :
	       f->flags & FIELD_REFUSED ? "bantam does not have this: " :
					  "";
}

static json_t *property(const struct vmconfig_field *f, int *rc)
{
	json_t *out = json_object();

	switch ((enum vmconfig_kind)f->kind) {
	case KIND_UINT:
	case KIND_BYTES:
		put_number(out, f, rc);
		break;
	case KIND_BOOL:
		put(out, "type", json_string("boolean"), rc);
		break;
	case KIND_OBJECT:
		put(out, "allOf",
		    json_pack("[{so}]", "$ref", reference((enum vmconfig_object)f->object)), rc);
		break;
	case KIND_OBJECTS:
	case KIND_TEXTS:
	case KIND_UINTS:
	case KIND_LIST:
		put_list(out, f, rc);
		break;
	case KIND_ANY:
	case KIND_NONE:
		break;
	default:
		put_text(out, f, rc);
		break;
	}
	if (!(f->flags & FIELD_REQUIRED))
		put(out, "nullable", json_true(), rc);
	if (*f->def)
		put(out, "default", json_loads(f->def, JSON_DECODE_ANY, NULL), rc);
	if (f->flags & FIELD_OURS)
		put(out, "x-bantam", json_true(), rc); /* upstream has no such field */
	put(out, "description", json_sprintf("%s%s", effect(f), f->help), rc);
	return out;
}

static json_t *schema(enum vmconfig_object object, int *rc)
{
	json_t *out = json_object(), *properties = json_object(), *required = json_array();

	for (const struct vmconfig_field *f = vmconfig_fields(object); f->kind != KIND_NONE; f++) {
		put(properties, f->key, property(f, rc), rc);
		if (f->flags & FIELD_REQUIRED)
			json_array_append_new(required, json_string(f->key));
	}
	put(out, "type", json_string("object"), rc);
	put(out, "properties", properties, rc);
	if (json_array_size(required))
		put(out, "required", required, rc);
	else
		json_decref(required);
	return out;
}

int vmconfig_openapi_schemas(json_t **out)
{
	json_t *all = json_object();
	int rc = 0;

	for (enum vmconfig_object o = 0; o < VMCONFIG_OBJECTS; o++)
		put(all, vmconfig_object_name(o), schema(o, &rc), &rc);
	*out = all;
	if (rc) {
		json_decref(all);
		*out = NULL;
	}
	return rc;
}

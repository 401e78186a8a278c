/* verdict/json: the result as one line of JSON; see verdict.h. Keys are told in bantam-test(1). */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "vmm/verdict/verdict.h"

/* Any text of a guest; NULL: JSON's null. */
static json_t *text_json(const char *text)
{
	char *valid = text ? verdict_utf8(text, false) : NULL;
	json_t *j = valid ? json_string(valid) : json_null();

	free(valid);
	return j;
}

static json_t *seconds(uint64_t usec)
{
	return json_real((double)usec / 1e6);
}

static json_t *number_or_null(bool there, uint64_t v)
{
	return there ? json_integer((json_int_t)v) : json_null();
}

static json_t *evidence_json(const struct verdict_evidence *e)
{
	return json_pack("{s:s, s:I, s:o, s:o, s:o}", "source", verdict_source_name(e->source),
			 "line", (json_int_t)e->number, "time",
			 e->timed ? seconds(e->usec) : json_null(), "level",
			 number_or_null(e->level >= 0, (uint64_t)e->level), "text",
			 text_json(e->text));
}

static json_t *splat_json(const struct verdict_splat *p)
{
	return json_pack("{s:s, s:o, s:s, s:s, s:I, s:I, s:o, s:b, s:b, s:o}", "kind",
			 verdict_splat_name(p->kind), "heading", text_json(p->heading), "phase",
			 verdict_phase_name(p->phase), "source", verdict_source_name(p->source),
			 "line", (json_int_t)p->first, "last_line", (json_int_t)p->last, "time",
			 p->timed ? seconds(p->usec) : json_null(), "allowed", p->allowed,
			 "shortened", p->shortened, "report", text_json(p->report));
}

static json_t *splats_json(const struct verdict_result *r)
{
	json_t *list = json_array();
	size_t n = r->splats ? verdict_splats_count(r->splats) : 0;

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, splat_json(verdict_splats_get(r->splats, i)));
	return list;
}

static json_t *evidence_list(const struct verdict_result *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->nevidence; i++)
		json_array_append_new(list, evidence_json(&r->evidence[i]));
	return list;
}

static json_t *vcpus_json(const struct verdict_result *r)
{
	static const char names[][24] = {
		[VERDICT_VCPU_UNKNOWN] = "unknown",
		[VERDICT_VCPU_IDLE] = "idle",
		[VERDICT_VCPU_DEAD] = "halted-interrupts-off",
		[VERDICT_VCPU_SPIN_OFF] = "spins-interrupts-off",
		[VERDICT_VCPU_SPIN_ON] = "spins-interrupts-on",
		[VERDICT_VCPU_USER] = "user",
		[VERDICT_VCPU_BUSY] = "busy",
	};
	json_t *list = json_array();

	for (size_t i = 0; i < r->nvcpus; i++) {
		const struct verdict_vcpu *v = &r->vcpu[i];
		json_t *rips = json_array();

		for (unsigned k = 0; k < v->n; k++) {
			char hex[24];

			snprintf(hex, sizeof(hex), "0x%llx", (unsigned long long)v->sample[k].rip);
			json_array_append_new(rips, json_string(hex));
		}
		json_array_append_new(list, json_pack("{s:i, s:s, s:o}", "vcpu", (int)i, "state",
						      names[verdict_vcpu_state(v)], "rip", rips));
	}
	return list;
}

int verdict_json(const struct verdict_report *report, FILE *out)
{
	const struct verdict_result *r = report->result;
	json_t *j, *taint = json_null();
	int rc = 0;

	if (r->tainted_known)
		taint = json_pack("{s:I, s:I}", "before", (json_int_t)r->taint_before, "after",
				  (json_int_t)r->taint_after);
	j = json_pack(
		"{s:s, s:o, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I}",
		"verdict", verdict_name(r->kind), "name", text_json(report->name), "exit_status",
		report->exit_status, "phase", verdict_phase_name(r->phase), "time",
		seconds(r->usec), "total_time", seconds(r->total_usec), "status",
		number_or_null(r->status >= 0, (uint64_t)r->status), "signal",
		number_or_null(r->signal, (uint64_t)r->signal), "reason", text_json(r->reason),
		"because", r->because ? text_json(r->because->heading) : json_null(), "release",
		r->release[0] ? text_json(r->release) : json_null(), "taint", taint, "evidence",
		evidence_list(r), "splats", splats_json(r), "splats_more",
		(json_int_t)(r->splats ? verdict_splats_more(r->splats) : 0), "lost_messages",
		(json_int_t)r->lost);
	if (!j)
		return -ENOMEM;
	if (r->nvcpus && json_object_set_new(j, "vcpus", vcpus_json(r)))
		rc = -ENOMEM;
	if (!rc && json_dumpf(j, out, JSON_COMPACT | JSON_REAL_PRECISION(12)))
		rc = -EIO;
	json_decref(j);
	if (!rc && (fputc('\n', out) == EOF || fflush(out) || ferror(out)))
		rc = -EIO;
	return rc;
}

/* test_keep: what back ends leave for the next machine, and who closes it. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/keep.h"

struct thing {
	struct kept kept; /* first */
	unsigned *drops;
};

static struct keep *k;
static unsigned drops;

static void drop(struct kept *kept)
{
	__atomic_add_fetch(((struct thing *)kept)->drops, 1, __ATOMIC_SEQ_CST);
	free(kept);
}

static struct kept *thing(void)
{
	struct thing *t = calloc(1, sizeof(*t));

	t->kept.drop = drop;
	t->drops = &drops;
	return &t->kept;
}

static void setup(void)
{
	cr_assert_eq(keep_create(&k), 0);
}

TestSuite(keep, .init = setup, .timeout = 30);

Test(keep, what_is_put_is_taken_once)
{
	struct kept *a = thing(), *b = thing(), *c = thing();

	keep_put(k, "net0", "tap", a);
	keep_put(k, "net0", "socket", b);
	keep_put(k, "net1", "tap", c);
	cr_expect_null(keep_take(k, "net", "tap"));
	cr_expect_null(keep_take(k, "net0", "ta"));
	cr_expect_eq(keep_take(k, "net0", "tap"), a);
	cr_expect_null(keep_take(k, "net0", "tap"));
	cr_expect_eq(keep_take(k, "net1", "tap"), c);
	cr_expect_eq(keep_take(k, "net0", "socket"), b);
	cr_expect_eq(drops, 0);
	drop(a);
	drop(b);
	keep_put(k, "net1", "tap", c);
	keep_destroy(k);
	cr_expect_eq(drops, 3, "destroy drops what is there");
}

Test(keep, a_device_is_dropped_by_its_whole_id)
{
	keep_put(k, "_net1", "tap", thing());
	keep_put(k, "_net1", "socket", thing());
	keep_put(k, "_net10", "tap", thing());
	keep_put(k, "_vsock2", "vsock", thing());
	keep_drop(k, "_net");
	cr_expect_eq(drops, 0);
	keep_drop(k, "_net1");
	cr_expect_eq(drops, 2);
	keep_drop(k, "_net1");
	cr_expect_eq(drops, 2);
	keep_drop(k, "");
	cr_expect_eq(drops, 4);
	keep_destroy(k);
	cr_expect_eq(drops, 4);
}

Test(keep, the_same_name_again_replaces)
{
	struct kept *b = thing();

	keep_put(k, "net0", "tap", thing());
	keep_put(k, "net0", "tap", b);
	cr_expect_eq(drops, 1);
	cr_expect_eq(keep_take(k, "net0", "tap"), b);
	drop(b);
	keep_destroy(k);
}

Test(keep, no_keeper_and_names_without_room)
{
	char id[2 * KEEP_NAME_BYTES];

	cr_expect_null(keep_take(NULL, "net0", "tap"));
	keep_destroy(NULL);
	memset(id, 'i', sizeof(id));
	id[sizeof(id) - 1] = 0;
	keep_put(k, id, "tap", thing());
	cr_expect_eq(drops, 1, "not kept, but not lost");
	cr_expect_null(keep_take(k, id, "tap"));
	/* The longest id of a device fits. */
	id[63] = 0;
	keep_put(k, id, "vsock", thing());
	cr_expect_eq(drops, 1);
	keep_destroy(k);
	cr_expect_eq(drops, 2);
}

/* Two machines in turn would not do this at once, but an I/O thread and an owner may. */
static void *use(void *arg)
{
	for (unsigned i = 0; i < 20000; i++) {
		struct kept *t = keep_take(k, arg, "tap");

		keep_put(k, arg, "tap", t ? t : thing());
		if (i % 64 == 0)
			keep_drop(k, i % 128 ? "" : arg);
	}
	return NULL;
}

Test(keep, threads)
{
	pthread_t t[4];
	char *id[] = { "a", "b", "a", "c" };

	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, use, id[i]), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	keep_drop(k, "");
	for (unsigned i = 0; i < 4; i++)
		cr_expect_null(keep_take(k, id[i], "tap"));
	keep_destroy(k);
	cr_expect_gt(drops, 0);
}

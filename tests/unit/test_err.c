/* err: any input gives one clean line. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "vmm/core/err.h"

Test(err, fills_one_line)
{
	struct err err;

	cr_expect_eq(err_set(&err, EINVAL, "--cpus %d: %s", 0, "no"), -EINVAL);
	cr_expect_str_eq(err.text, "--cpus 0: no");
	cr_expect_eq(err_sys(&err, ENOENT, "%s", "file"), -ENOENT);
	cr_expect_str_eq(err.text, "file: No such file or directory");
	cr_expect_eq(err_set(NULL, EIO, "%s", "no process listens"), -EIO);
	cr_expect_eq(err_sys(NULL, EIO, "%s", "no process listens"), -EIO);
}

Test(err, control_characters_become_question_marks)
{
	struct err err;

	err_set(&err, EINVAL, "%s",
		"a\nb\r\033[31mc\x7f\td\xc3\xa9\xc2\x9b"
		"0m");
	cr_expect_str_eq(err.text, "a?b??[31mc??d\xc3\xa9??0m");
}

Test(err, long_text_is_cut)
{
	char text[2000];
	struct err err;

	for (size_t len = 480; len < 540; len++) {
		memset(text, 'x', len);
		text[len] = 0;
		memset(&err, 0xff, sizeof(err));
		err_sys(&err, ENOENT, "%s", text);
		cr_expect_lt(strnlen(err.text, sizeof(err.text)), sizeof(err.text));
		cr_expect_eq(err.text[479], 'x');
	}
}

Test(err, bugs_abort, .signal = SIGABRT)
{
	BUG_ON(1 + 1 == 2);
}

Test(err, no_bug)
{
	int n = 0;

	BUG_ON(n++);
	cr_expect_eq(n, 1, "the condition is always evaluated, once");
}

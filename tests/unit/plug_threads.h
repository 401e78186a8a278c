/*
 * plug_threads: some threads access buses and PCI functions while others add and remove them.
 *
 * What was removed is overwritten and freed at once. So a callback that runs too late or
 * starts too late finds the wrong mark, and a sanitizer finds the access. No test
 * framework: the unit tests call it, and so does a program of its own under
 * TSan (tests/threads).
 */
#ifndef BANTAM_PLUG_THREADS_H
#define BANTAM_PLUG_THREADS_H

/* What went wrong and how often, and what was done: a test that did nothing shows nothing. */
struct plug_result {
	unsigned long dead_calls;    /* callbacks into what had been removed */
	unsigned long wrong_answers; /* of what is never removed, or of an address that is empty */
	unsigned long hits;	     /* callbacks into what comes and goes */
	unsigned long removals;
};

/* Each runs for as long as rounds of adding and removing take, and until something was hit. */
struct plug_result plug_threads_bus(unsigned rounds);
struct plug_result plug_threads_pci(unsigned rounds);

#endif

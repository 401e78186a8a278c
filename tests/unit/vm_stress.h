/*
 * vm_stress: several threads use one VM at random: they queue requests for its executor and ask what
 * any thread may ask, while its guests power off, reset themselves, crash or stay. It runs in the
 * current folder and leaves nothing there. For the unit tests and, under TSan, tests/threads.
 */
#ifndef BANTAM_VM_STRESS_H
#define BANTAM_VM_STRESS_H

struct vm_stress_result {
	const char *failed;		   /* NULL: all is well */
	unsigned long requests, asked;	   /* done by the executor; answered at once */
	unsigned long boots, resets, ends; /* events booted, rebooted; VMs that a guest has ended */
};

/* kernel: the path of round.elf. Each of the VMs lives for so many requests of each thread. */
struct vm_stress_result vm_stress(const char *kernel, unsigned vms, unsigned requests);

#endif

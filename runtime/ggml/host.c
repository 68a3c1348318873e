// SPDX-License-Identifier: MIT
/* Finding the functions of the ggml that loaded us: see host.h. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

/* The range that the tests have run with. */
#define OLDEST_MAJOR	0
#define OLDEST_MINOR	21
#define NEWEST_MAJOR	0
#define NEWEST_MINOR	26

/* GGML_OBJECT_SIZE: what ggml_tensor_overhead() has beside the tensor */
#define OBJECT_SIZE	32

/* No version has had as many operations. */
#define MAX_OPS		1024

struct gg_host gg;

void gg_say(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "penstock: %s\n", line);
}

/* All six are in every version of the range, so the search ends within ggml's table of names. */
static bool find_ops(void)
{
	const struct {
		const char *name;
		int *nr;
	} want[] = {
		{ "NONE", &gg.op_none }, { "MUL_MAT_ID", &gg.op_mul_mat_id }, { "VIEW", &gg.op_view },
		{ "RESHAPE", &gg.op_reshape }, { "PERMUTE", &gg.op_permute }, { "TRANSPOSE", &gg.op_transpose },
	};
	const size_t nr = sizeof(want) / sizeof(want[0]);

	for (size_t i = 0; i < nr; i++)
		*want[i].nr = -1;
	for (int op = 0, found = 0; op < MAX_OPS && found < (int)nr; op++) {
		const char *name = gg.ggml_op_name(op);

		for (size_t i = 0; name && i < nr; i++) {
			if (strcmp(name, want[i].name))
				continue;
			*want[i].nr = op;
			found++;
		}
	}
	for (size_t i = 0; i < nr; i++) {
		if (*want[i].nr < 0) {
			gg_say("ggml %s has no operation %s: not used", gg.ggml_version(), want[i].name);
			return false;
		}
	}
	return true;
}

static bool version_known(void)
{
	const char *version = gg.ggml_version();
	int major = 0, minor = 0, code;

	if (sscanf(version, "%d.%d", &major, &minor) != 2)
		major = -1;
	code = major * 1000 + minor;
	if (code >= OLDEST_MAJOR * 1000 + OLDEST_MINOR && code <= NEWEST_MAJOR * 1000 + NEWEST_MINOR)
		return true;
	if (getenv("PENSTOCK_ANY_GGML")) {
		gg_say("ggml %s is outside of %d.%d to %d.%d, which were tested; used since PENSTOCK_ANY_GGML is set",
		       version, OLDEST_MAJOR, OLDEST_MINOR, NEWEST_MAJOR, NEWEST_MINOR);
		return true;
	}
	gg_say("ggml %s is outside of %d.%d to %d.%d, which were tested: not used (PENSTOCK_ANY_GGML=1 tries it)",
	       version, OLDEST_MAJOR, OLDEST_MINOR, NEWEST_MAJOR, NEWEST_MINOR);
	return false;
}

static bool layout_known(void)
{
	if (gg.ggml_tensor_overhead() != OBJECT_SIZE + sizeof(struct gg_tensor)) {
		gg_say("ggml %s has tensors of %zu bytes, expected %zu: not used", gg.ggml_version(),
		       gg.ggml_tensor_overhead() - OBJECT_SIZE, sizeof(struct gg_tensor));
		return false;
	}
	if (gg.api_version < GG_API_OLDEST || gg.api_version > GG_API_NEWEST) {
		gg_say("ggml %s has backends of api_version %d, known are %d to %d: not used", gg.ggml_version(),
		       gg.api_version, GG_API_OLDEST, GG_API_NEWEST);
		return false;
	}
	return true;
}

bool gg_host_find(const void *caller)
{
	Dl_info info;
	void *object;

	/* its own dependencies are searched too, whatever they are called */
	object = dladdr(caller, &info) && info.dli_fname ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
	if (!object)
		object = dlopen(NULL, RTLD_LAZY);
#define GG_FIND(ret, name, args) \
	do { \
		gg.name = (ret (*) args)(uintptr_t)dlsym(object, #name); \
		if (!gg.name) { \
			gg_say("%s was found neither in %s nor in what it links: not used", #name, \
			       info.dli_fname ? info.dli_fname : "the program"); \
			return false; \
		} \
	} while (0);
	GG_FUNCTIONS(GG_FIND)
#undef GG_FIND
	if (!version_known())
		return false;
	gg.cpu = gg.ggml_backend_dev_by_type(GG_DEVICE_TYPE_CPU);
	if (!gg.cpu) {
		gg_say("ggml has no CPU device: not used");
		return false;
	}
	gg.cpu_reg = gg.ggml_backend_dev_backend_reg(gg.cpu);
	gg.api_version = gg.cpu_reg->api_version;
	return layout_known() && find_ops();
}

// SPDX-License-Identifier: MIT
/* llama-server's flags that `penstock serve` must understand: the others are the user's affair. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/util.h"
#include "serve.h"

static const char in_memory[] = "the whole model would be read into memory: experts stay on the drive only where "
	"llama-server maps the file; leave it out";
static const char locked[] = "the whole model would be locked in memory: leave it out, dense weights are locked anyway";
static const char other_model[] = "the model is the argument of `penstock serve`: leave it out";

/* Flags that cannot work, and why. */
static const struct {
	const char *flag;
	const char *why;
} refused[] = {
	{ "--no-mmap", in_memory },
	{ "-dio", in_memory },
	{ "--direct-io", in_memory },
	{ "--mlock", locked },
	{ "--check-tensors", "every expert would be read at the start: leave it out; `penstock ls --tensors` checks "
	  "the file's tables" },
	{ "-m", other_model },
	{ "--model", other_model },
	{ "-mu", other_model },
	{ "--model-url", other_model },
	{ "-hf", other_model },
	{ "-hfr", other_model },
	{ "--hf-repo", other_model },
	{ "-dr", other_model },
	{ "--docker-repo", other_model },
};

/* Variables that mean the same; @value NULL = any but an off. */
static const struct {
	const char *name;
	const char *value;
	const char *why;
} refused_env[] = {
	{ "LLAMA_ARG_NO_MMAP", NULL, in_memory },
	{ "LLAMA_ARG_MMAP", "0", in_memory },
	{ "LLAMA_ARG_MMAP", "off", in_memory },
	{ "LLAMA_ARG_MMAP", "false", in_memory },
	{ "LLAMA_ARG_DIO", NULL, in_memory },
	{ "LLAMA_ARG_MLOCK", NULL, locked },
};

int serve_err(struct penstock_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return code;
}

static bool is_one_of(const char *arg, const char *const *flags)
{
	for (; *flags; flags++)
		if (!strcmp(arg, *flags))
			return true;
	return false;
}

static bool is_off(const char *value)
{
	static const char *const off[] = { "", "0", "off", "false", "disabled", NULL };

	return is_one_of(value, off);
}

static int read_env(struct serve_flags *f, struct penstock_error *err)
{
	static const char *const placements[] = { "LLAMA_ARG_OVERRIDE_TENSOR", "LLAMA_ARG_CPU_MOE",
						  "LLAMA_ARG_N_CPU_MOE" };
	const char *value;
	size_t i;

	for (i = 0; i < PENSTOCK_ARRAY_SIZE(refused_env); i++) {
		value = getenv(refused_env[i].name);
		if (value && (refused_env[i].value ? !strcmp(value, refused_env[i].value) : !is_off(value)))
			return serve_err(err, -EINVAL, "%s=%s in the environment: %s", refused_env[i].name, value,
					    refused_env[i].why);
	}
	for (i = 0; i < PENSTOCK_ARRAY_SIZE(placements); i++)
		f->placement |= getenv(placements[i]) != NULL;
	f->fit = getenv("LLAMA_ARG_FIT") != NULL;
	value = getenv("LLAMA_ARG_CTX_SIZE");
	f->has_context = value != NULL;
	f->context = value ? strtoull(value, NULL, 10) : 0;
	return 0;
}

int serve_flags_read(char *const *args, uint32_t nr, struct serve_flags *f, struct penstock_error *err)
{
	static const char *const modes[] = { "-lm", "--load-mode", NULL };
	static const char *const placements[] = { "-ot", "--override-tensor", "-cmoe", "--cpu-moe", "-ncmoe",
						  "--n-cpu-moe", NULL };
	static const char *const fits[] = { "-fit", "--fit", NULL };
	static const char *const contexts[] = { "-c", "--ctx-size", NULL };
	uint32_t i;
	size_t j;
	int rc;

	*f = (struct serve_flags){ 0 };
	rc = read_env(f, err);
	for (i = 0; !rc && i < nr; i++) {
		const char *next = i + 1 < nr ? args[i + 1] : "";

		for (j = 0; j < PENSTOCK_ARRAY_SIZE(refused); j++)
			if (!strcmp(args[i], refused[j].flag))
				return serve_err(err, -EINVAL, "%s: %s", args[i], refused[j].why);
		if (is_one_of(args[i], modes)) {
			if (strcmp(next, "mmap"))
				return serve_err(err, -EINVAL, "%s %s: %s", args[i], next,
						    strstr(next, "mlock") ? locked : in_memory);
			f->load_mode = true;
		}
		f->placement |= is_one_of(args[i], placements);
		f->fit |= is_one_of(args[i], fits);
		if (is_one_of(args[i], contexts)) {
			f->has_context = true;
			f->context = strtoull(next, NULL, 10);
		}
	}
	return rc;
}

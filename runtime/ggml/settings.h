/* SPDX-License-Identifier: MIT */
/* What the user asks for, by environment variables: read once, checked, refused with the variable's name. */
#ifndef PENSTOCK_GGML_SETTINGS_H
#define PENSTOCK_GGML_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

enum gg_form { GG_FORM_AUTO = 0, GG_FORM_PLAIN, GG_FORM_REPACKED };
enum gg_stats { GG_STATS_NONE = 0, GG_STATS_TEXT, GG_STATS_JSON };

/* Models of one process that have a budget of their own. */
#define GG_MAX_BUDGETS	4

/**
 * struct gg_budget - a cache size
 * @bytes: 0 where it is a share
 * @percent: of the model's experts
 */
struct gg_budget {
	uint64_t bytes;
	double percent;
};

/**
 * struct gg_settings - all variables
 * @budgets: PENSTOCK_CACHE=8G, 50%, or one for each model: 8G,1G; none: half of the memory that is free
 * @form: PENSTOCK_FORM=auto, plain, repacked
 * @stats: PENSTOCK_STATS=text, json, none: at exit and on SIGUSR1
 * @stats_file: PENSTOCK_STATS_FILE; NULL = stderr
 * @policy: PENSTOCK_POLICY; NULL = the library's choice
 * @log_level: PENSTOCK_LOG=error, warn, info, debug
 * @queue_depth: PENSTOCK_QUEUE_DEPTH; 0 = measured
 * @split_bytes: PENSTOCK_SPLIT; 0 = measured
 * @wave: PENSTOCK_WAVE: most experts of one matrix at a time; 0 = what the cache holds
 * @no_uring, @no_direct: PENSTOCK_IO=auto, pread, buffered
 * @no_lock: PENSTOCK_LOCK=0: dense weights are not locked in memory
 */
struct gg_settings {
	struct gg_budget budgets[GG_MAX_BUDGETS];
	uint32_t nr_budgets;
	enum gg_form form;
	enum gg_stats stats;
	const char *stats_file;
	const char *policy;
	int log_level;
	uint32_t queue_depth;
	uint32_t split_bytes;
	uint32_t wave;
	bool no_uring;
	bool no_direct;
	bool no_lock;
};

extern struct gg_settings gg_settings;

/** gg_settings_read() - Return: true; false with a line on stderr that names the variable and what it takes */
bool gg_settings_read(void);

#endif

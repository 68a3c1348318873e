// SPDX-License-Identifier: MIT
/* Configuration: what both sources share. See hparams.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "hparams.h"

int decoder_key_fault(struct decoder_keys *k, int code, const char *key, const char *why)
{
	if (!k->rc)
		k->rc = decoder_fail(k->err, code, "%s%s: %s", k->prefix, key, why);
	return k->rc;
}

bool decoder_key(struct decoder_keys *k, const char *key, struct penstock_meta *m)
{
	char full[192];

	snprintf(full, sizeof(full), "%s%s", k->prefix, key);
	return !penstock_meta_find(k->model, full, m) && m->type != PENSTOCK_META_NONE;
}

double decoder_key_double(struct decoder_keys *k, const char *key, double def)
{
	struct penstock_meta m;

	if (k->rc || !decoder_key(k, key, &m))
		return def;
	if (m.type != PENSTOCK_META_NUMBER || !isfinite(m.number)) {
		decoder_key_fault(k, -EINVAL, key, "is not a finite number");
		return def;
	}
	return m.number;
}

uint32_t decoder_key_u32(struct decoder_keys *k, const char *key, uint32_t def, uint32_t max)
{
	struct penstock_meta m;
	double v;
	uint64_t i;

	if (k->rc || !decoder_key(k, key, &m))
		return def;
	v = m.number;
	if (m.type == PENSTOCK_META_NUMBERS && m.nr) {
		v = m.numbers[0];
		for (i = 1; i < m.nr; i++)
			if (m.numbers[i] != v) {
				decoder_key_fault(k, -EOPNOTSUPP, key, "differs from layer to layer");
				return def;
			}
	} else if (m.type != PENSTOCK_META_NUMBER) {
		decoder_key_fault(k, -EINVAL, key, "is not a number");
		return def;
	}
	if (!(v >= 0 && v <= max) || v != floor(v)) {
		decoder_key_fault(k, -EINVAL, key, "is not a whole number in range");
		return def;
	}
	return (uint32_t)v;
}

bool decoder_key_bool(struct decoder_keys *k, const char *key, bool def)
{
	struct penstock_meta m;

	if (k->rc || !decoder_key(k, key, &m))
		return def;
	if (m.type != PENSTOCK_META_BOOL && m.type != PENSTOCK_META_NUMBER) {
		decoder_key_fault(k, -EINVAL, key, "is neither true nor false");
		return def;
	}
	return m.number != 0;
}

const char *decoder_key_string(struct decoder_keys *k, const char *key, const char *def)
{
	struct penstock_meta m;

	if (k->rc || !decoder_key(k, key, &m))
		return def;
	if (m.type != PENSTOCK_META_STRING) {
		decoder_key_fault(k, -EINVAL, key, "is not a string");
		return def;
	}
	return m.string;
}

static int check(const struct decoder_hparams *hp, bool attention, struct penstock_error *err)
{
	if (!(hp->eps >= 0) || !isfinite(hp->eps))
		return decoder_fail(err, -EINVAL, "%s: epsilon %g of the norms", hp->info.path, (double)hp->eps);
	if (!attention)
		return 0;
	if (!hp->nr_heads || !hp->nr_kv_heads || hp->nr_heads % hp->nr_kv_heads)
		return decoder_fail(err, -EINVAL, "%s: %u query heads over %u key heads", hp->info.path, hp->nr_heads,
				    hp->nr_kv_heads);
	if (!hp->head_dim)
		return decoder_fail(err, -EINVAL, "%s: heads of no elements", hp->info.path);
	if (hp->rope.rot > hp->head_dim)
		return decoder_fail(err, -EINVAL, "%s: %u rotated elements in heads of %u", hp->info.path,
				    hp->rope.rot, hp->head_dim);
	if (hp->temperature && !(hp->floor_scale > 0))
		return decoder_fail(err, -EINVAL, "%s: floor_scale %g", hp->info.path, (double)hp->floor_scale);
	return 0;
}

int decoder_hparams_read(struct penstock_model *model, bool attention, struct decoder_hparams *hp,
			 struct penstock_error *err)
{
	uint32_t i;
	int rc;

	memset(hp, 0, sizeof(*hp));
	hp->info.size = sizeof(hp->info);
	rc = penstock_model_info(model, &hp->info);
	if (rc)
		return decoder_fail(err, rc, "model information");
	if (!hp->info.hidden || !hp->info.nr_layers)
		return decoder_fail(err, -EINVAL, "%s: %u layers of width %u", hp->info.path, hp->info.nr_layers,
				    hp->info.hidden);
	hp->layers = calloc(hp->info.nr_layers, sizeof(*hp->layers));
	if (!hp->layers)
		return decoder_fail(err, -ENOMEM, "%u layers", hp->info.nr_layers);
	for (i = 0; i < hp->info.nr_layers; i++)
		hp->layers[i].rope = true;
	hp->scale_block[0] = 128;
	hp->scale_block[1] = 128;
	hp->rope.factor = 1;
	hp->rope.extra_attention = 1;
	hp->rope.truncate = true;
	if (hp->info.format == PENSTOCK_FORMAT_GGUF)
		rc = decoder_hparams_gguf(model, attention, hp, err);
	else
		rc = decoder_hparams_hf(model, attention, hp, err);
	if (!rc)
		rc = check(hp, attention, err);
	if (rc)
		decoder_hparams_destroy(hp);
	return rc;
}

void decoder_hparams_destroy(struct decoder_hparams *hp)
{
	free(hp->layers);
	hp->layers = NULL;
}

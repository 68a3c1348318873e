// SPDX-License-Identifier: MIT
/*
 * Synthetic checkpoints: what synth writes, the index opens, and each expert's
 * extents hold that expert's weights. Both formats hold the same model, so each
 * checks the other: the extents of two layouts must lead to the same bytes.
 */
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <kabi.h>
#include "harness.h"
#include "index.h"
#include "synth/synth.h"

#define EXPERTS	8u
#define HIDDEN	160u
#define INTER	96u

static char dir[4000];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void clean(void)
{
	if (*dir)
		nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *in_dir(const char *name)
{
	static char path[8][4200];
	static int next;
	const char *tmp = getenv("TMPDIR");

	if (!*dir) {
		snprintf(dir, sizeof(dir), "%s/penstock-synth-XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
		ASSERT_TRUE(mkdtemp(dir));
		atexit(clean);
	}
	next = (next + 1) % 8;
	snprintf(path[next], sizeof(path[next]), "%s/%s", dir, name);
	return path[next];
}

static struct synth_config config(uint32_t format, uint32_t dtype)
{
	struct synth_config c = {
		.format = format, .dtype = dtype, .layers = 3, .experts = EXPERTS, .top_k = 2, .hidden = HIDDEN,
		.inter = INTER, .vocab = 300, .heads = 5, .head_dim = 32, .kv_heads = 5, .seed = 7, .skew = 0.5,
	};

	synth_config_default(&c);
	return c;
}

static int try_write(const struct synth_config *c, const char *path, struct penstock_error *err)
{
	struct synth_model *m = NULL;
	int rc;

	rc = synth_model_create(c, &m, err);
	if (rc)
		return rc;
	rc = synth_write(m, path, NULL, NULL, err);
	synth_model_destroy(m);
	return rc;
}

static void write_to(const struct synth_config *c, const char *path)
{
	struct penstock_error err = { 0 };

	if (try_write(c, path, &err))
		TEST_FAIL_(1, "%s", err.text);
}

static struct penstock_index *open_index(const char *path)
{
	struct penstock_error err = { 0 };
	struct penstock_index *ix = NULL;

	if (penstock_index_open(path, &ix, &err))
		TEST_FAIL_(1, "%s", err.text);
	return ix;
}

static void *read_extent(struct penstock_index *ix, const struct penstock_extent *e)
{
	struct penstock_error err = { 0 };
	void *p = malloc(e->len);

	ASSERT_TRUE(p);
	ASSERT_LE(e->off + e->len, ix->store.files[e->file].size);
	if (penstock_store_pread(&ix->store, e->file, e->off, p, e->len, &err))
		TEST_FAIL_(1, "%s", err.text);
	return p;
}

/* A hash over all parts of an expert, in the order gate, up, down. */
static uint64_t expert_hash(struct penstock_index *ix, uint32_t layer, uint32_t expert)
{
	const struct penstock_layer_info *info = &ix->layers[layer].info;
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	uint64_t h = 0;
	uint32_t role, i;
	void *p;

	ASSERT_EQ(0, penstock_index_expert(ix, layer, expert, ext));
	for (role = PENSTOCK_ROLE_GATE; role <= PENSTOCK_ROLE_DOWN; role++) {
		for (i = 0; i < info->nr_parts; i++) {
			if (info->parts[i].role != role)
				continue;
			p = read_extent(ix, &ext[i]);
			h = XXH64(p, ext[i].len, h);
			free(p);
		}
	}
	return h;
}

/* Standard deviation of a part's weights, as the kernels read them. */
static double spread(struct penstock_index *ix, const struct penstock_layer_info *info,
		     const struct penstock_extent *ext, uint32_t part)
{
	const struct penstock_part *p = &info->parts[part];
	struct penstock_k_mat mat = {
		.dtype = p->dtype, .rows = (uint32_t)p->rows, .cols = (uint32_t)p->cols,
		.row_stride = p->row_stride, .col_stride = p->col_stride,
	};
	double sum = 0, sq = 0, n = (double)(p->rows * p->cols);
	void *data = read_extent(ix, &ext[part]), *scale = NULL;
	float row[HIDDEN];
	uint32_t i, r, c;

	mat.data = data;
	for (i = 0; i < info->nr_parts; i++) {
		const struct penstock_part *s = &info->parts[i];

		if (s->kind != PENSTOCK_KIND_SCALE || s->role != p->role)
			continue;
		mat.scale = scale = read_extent(ix, &ext[i]);
		mat.scale_dtype = s->dtype;
		mat.scale_rows = s->block_rows;
		mat.scale_cols = s->block_cols;
		mat.scale_row_stride = s->row_stride;
		mat.scale_col_stride = s->col_stride;
	}
	for (r = 0; r < p->rows; r++) {
		ASSERT_EQ(0, penstock_k_dequant_row(&mat, r, row));
		for (c = 0; c < p->cols; c++) {
			ASSERT_TRUE(isfinite(row[c]));
			sum += row[c];
			sq += (double)row[c] * row[c];
		}
	}
	free(data);
	free(scale);
	EXPECT_LT(fabs(sum / n), 0.05 * sqrt(sq / n));
	return sqrt(sq / n);
}

static void check_layer(struct penstock_index *ix, const struct synth_config *c, uint32_t layer)
{
	const struct penstock_layer_info *info = &ix->layers[layer].info;
	struct penstock_extent ext[PENSTOCK_MAX_PARTS];
	uint32_t i, weights = 0;
	double want, sd;

	EXPECT_EQ((uint32_t)PENSTOCK_LAYER_MOE, info->kind);
	EXPECT_EQ(c->experts, info->nr_experts);
	EXPECT_EQ(c->top_k, info->top_k);
	EXPECT_EQ(c->hidden, info->hidden);
	EXPECT_EQ(c->inter, info->inter);
	ASSERT_EQ(0, penstock_index_expert(ix, layer, layer % c->experts, ext));
	for (i = 0; i < info->nr_parts; i++) {
		const struct penstock_part *p = &info->parts[i];
		bool down = p->role == PENSTOCK_ROLE_DOWN;

		EXPECT_EQ(p->bytes, ext[i].len);
		if (p->kind != PENSTOCK_KIND_WEIGHT)
			continue;
		weights++;
		EXPECT_EQ(c->dtype, p->dtype);
		EXPECT_EQ(down ? c->hidden : c->inter, p->rows);
		EXPECT_EQ(down ? c->inter : c->hidden, p->cols);
		sd = spread(ix, info, ext, i);
		want = synth_routing_gain(c, down ? SYNTH_DOWN : SYNTH_GATE);
		/* a matrix of this size has two FP8 scales, of 0.8 .. 1.2 */
		if (fabs(sd / want - 1) > (c->dtype == PENSTOCK_DTYPE_F8_E4M3 ? 0.21 : 0.04))
			TEST_FAIL_(0, "layer %u part %u: weights spread by %g, not %g", layer, i, sd, want);
	}
	EXPECT_EQ(3u, weights);
}

static void check_form(uint32_t format, uint32_t dtype, uint32_t arch, uint32_t family)
{
	struct synth_config c = config(format, dtype);
	struct penstock_index *ix;
	uint64_t seen[EXPERTS * 3];
	uint32_t l, e, i, nr = 0;
	const char *path = in_dir(format == PENSTOCK_FORMAT_GGUF ? "model.gguf" : "model");

	c.arch = arch;
	write_to(&c, path);
	ix = open_index(path);
	EXPECT_EQ(family, ix->family);
	EXPECT_EQ(format, ix->format);
	EXPECT_EQ(c.hidden, ix->hidden);
	ASSERT_EQ(c.layers, ix->nr_layers);
	for (l = 0; l < ix->nr_layers; l++) {
		check_layer(ix, &c, l);
		for (e = 0; e < c.experts; e++) {
			seen[nr] = expert_hash(ix, l, e);
			for (i = 0; i < nr; i++)
				EXPECT_NE(seen[i], seen[nr]);
			nr++;
		}
	}
	penstock_index_close(ix);
}

#define FORM(name, ...) TEST(name) { check_form(__VA_ARGS__); }
FORM(safetensors_bf16, PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_BF16, SYNTH_QWEN3_MOE, PENSTOCK_FAMILY_QWEN3_MOE)
FORM(safetensors_f16, PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_F16, SYNTH_MIXTRAL, PENSTOCK_FAMILY_MIXTRAL)
FORM(safetensors_f32, PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_F32, SYNTH_OLMOE, PENSTOCK_FAMILY_OLMOE)
FORM(safetensors_fp8, PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_F8_E4M3, SYNTH_QWEN3_MOE, PENSTOCK_FAMILY_QWEN3_MOE)
FORM(gguf_bf16, PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_BF16, SYNTH_QWEN3_MOE, PENSTOCK_FAMILY_QWEN3_MOE)
FORM(gguf_f16, PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_F16, SYNTH_OLMOE, PENSTOCK_FAMILY_OLMOE)
FORM(gguf_q8_0, PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_Q8_0, SYNTH_MIXTRAL, PENSTOCK_FAMILY_MIXTRAL)
FORM(gguf_q4_0, PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_Q4_0, SYNTH_QWEN3_MOE, PENSTOCK_FAMILY_QWEN3_MOE)

TEST(both_formats_hold_the_same_experts)
{
	struct synth_config a = config(PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_BF16);
	struct synth_config b = config(PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_BF16);
	struct penstock_index *ia, *ib;
	uint32_t l, e;

	/* shards of about two experts, and slabs at odd places */
	a.shard_bytes = 200000;
	b.align = 8;
	write_to(&a, in_dir("a"));
	write_to(&b, in_dir("b.gguf"));
	ia = open_index(in_dir("a"));
	ib = open_index(in_dir("b.gguf"));
	EXPECT_GT(ia->store.nr_files, 5u);
	for (l = 0; l < a.layers; l++)
		for (e = 0; e < a.experts; e++)
			EXPECT_EQ(expert_hash(ia, l, e), expert_hash(ib, l, e));
	penstock_index_close(ia);
	penstock_index_close(ib);
}

static uint64_t file_hash(const char *path)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	uint64_t h;
	void *p;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, fstat(fd, &st));
	p = malloc((size_t)st.st_size);
	ASSERT_TRUE(p);
	ASSERT_EQ(st.st_size, read(fd, p, (size_t)st.st_size));
	h = XXH64(p, (size_t)st.st_size, 0);
	free(p);
	close(fd);
	return h;
}

TEST(the_same_seed_gives_the_same_bytes)
{
	struct synth_config c = config(PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_Q8_0);
	uint64_t first;

	write_to(&c, in_dir("a.gguf"));
	write_to(&c, in_dir("b.gguf"));
	first = file_hash(in_dir("a.gguf"));
	EXPECT_EQ(first, file_hash(in_dir("b.gguf")));
	c.seed++;
	write_to(&c, in_dir("c.gguf"));
	EXPECT_NE(first, file_hash(in_dir("c.gguf")));
	c = config(PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_BF16);
	write_to(&c, in_dir("a"));
	write_to(&c, in_dir("b"));
	EXPECT_EQ(file_hash(in_dir("a/model.safetensors")), file_hash(in_dir("b/model.safetensors")));
	EXPECT_EQ(file_hash(in_dir("a/config.json")), file_hash(in_dir("b/config.json")));
}

/* Is the folder of the test empty but for @but? */
static int left_over(const char *but)
{
	char cmd[8300];
	int n = -1;
	FILE *f;

	snprintf(cmd, sizeof(cmd), "ls -A '%s' | grep -vcx '%s'", dir, but);
	f = popen(cmd, "r");
	ASSERT_TRUE(f);
	ASSERT_EQ(1, fscanf(f, "%d", &n));
	pclose(f);
	return n;
}

TEST(nothing_is_overwritten)
{
	static const uint32_t formats[] = { PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_FORMAT_GGUF };
	struct penstock_error err = { 0 };
	struct synth_config c;
	char text[8] = "";
	size_t i;
	FILE *f;

	for (i = 0; i < 2; i++) {
		c = config(formats[i], PENSTOCK_DTYPE_BF16);
		f = fopen(in_dir("mine"), "w");
		ASSERT_TRUE(f);
		fputs("mine", f);
		fclose(f);
		EXPECT_EQ(-EEXIST, try_write(&c, in_dir("mine"), &err));
		EXPECT_HAS(err.text, "mine: will not be overwritten");
		f = fopen(in_dir("mine"), "r");
		ASSERT_TRUE(f && fgets(text, sizeof(text), f));
		fclose(f);
		EXPECT_STREQ(text, "mine");
		/* a link to nowhere is something, too */
		if (!i)
			ASSERT_EQ(0, symlink("nowhere", in_dir("link")));
		EXPECT_EQ(-EEXIST, try_write(&c, in_dir("link"), &err));
		EXPECT_EQ(-ENOENT, try_write(&c, in_dir("no/such/folder"), &err));
		EXPECT_HAS(err.text, "no/such");
		EXPECT_EQ(-ENOTDIR, try_write(&c, in_dir("mine/model"), &err));
		EXPECT_EQ(1, left_over("mine"));
	}
}

TEST(a_folder_without_permission)
{
	struct synth_config c = config(PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_BF16);
	struct penstock_error err = { 0 };

	if (!geteuid())
		SKIP("root may write anywhere");
	ASSERT_EQ(0, mkdir(in_dir("locked"), 0555));
	EXPECT_EQ(-EACCES, try_write(&c, in_dir("locked/m"), &err));
	c = config(PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_BF16);
	EXPECT_EQ(-EACCES, try_write(&c, in_dir("locked/m.gguf"), &err));
	EXPECT_HAS(err.text, "locked/m.gguf");
}

TEST(a_full_disk_leaves_nothing)
{
	static const uint32_t formats[] = { PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_FORMAT_GGUF };
	struct rlimit lim = { 100000, 100000 };
	struct penstock_error err = { 0 };
	struct synth_config c;
	size_t i;

	in_dir("");
	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &lim));
	for (i = 0; i < 2; i++) {
		c = config(formats[i], PENSTOCK_DTYPE_BF16);
		EXPECT_EQ(-EFBIG, try_write(&c, in_dir("big"), &err));
		EXPECT_HAS(err.text, "at 100000");
		EXPECT_EQ(0, left_over(""));
	}
}

TEST(more_than_the_disk_holds_is_refused_at_once)
{
	struct synth_config c = config(PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_F32);
	struct penstock_error err = { 0 };

	/* 8 layers of 8192 experts of 2 GB */
	c = (struct synth_config){ .format = PENSTOCK_FORMAT_GGUF, .dtype = PENSTOCK_DTYPE_F32, .layers = 8,
		.experts = 8192, .hidden = 16384, .inter = 16384 };
	synth_config_default(&c);
	in_dir("");
	EXPECT_EQ(-ENOSPC, try_write(&c, in_dir("huge.gguf"), &err));
	EXPECT_HAS(err.text, "TiB");
	EXPECT_EQ(0, left_over(""));
}

static int stop_at_once(void *arg, uint64_t done, uint64_t total)
{
	uint64_t *seen = arg;

	*seen = done;
	EXPECT_LE(done, total + (1u << 20));
	return 1;
}

TEST(a_stopped_write_leaves_nothing)
{
	struct synth_config c = config(PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_BF16);
	struct penstock_error err = { 0 };
	struct synth_model *m = NULL;
	uint64_t seen = 0;
	const struct synth_progress p = { stop_at_once, &seen };

	in_dir("");
	ASSERT_EQ(0, synth_model_create(&c, &m, &err));
	EXPECT_EQ(-EINTR, synth_write(m, in_dir("m"), &p, NULL, &err));
	EXPECT_GT(seen, 0u);
	EXPECT_EQ(0, left_over(""));
	synth_model_destroy(m);
}

TEST(shapes_that_no_model_has)
{
	static const struct { size_t off; uint32_t v; const char *says; } bad[] = {
		{ offsetof(struct synth_config, arch), SYNTH_NR_ARCHS, "architecture" },
		{ offsetof(struct synth_config, format), 9, "format" },
		{ offsetof(struct synth_config, top_k), EXPERTS + 1, "top-k" },
		{ offsetof(struct synth_config, top_k), 0, "top-k" },
		{ offsetof(struct synth_config, hidden), 100, "hidden" },
		{ offsetof(struct synth_config, inter), 33, "inter" },
		{ offsetof(struct synth_config, vocab), 1, "vocabulary" },
		{ offsetof(struct synth_config, kv_heads), 3, "kv-heads" },
		{ offsetof(struct synth_config, head_dim), 31, "head-dim" },
		{ offsetof(struct synth_config, layers), 0, "layers" },
		{ offsetof(struct synth_config, dtype), PENSTOCK_DTYPE_Q8_0, "Q8_0 in safetensors" },
		{ offsetof(struct synth_config, dtype), PENSTOCK_DTYPE_I64, "I64 in safetensors" },
		{ offsetof(struct synth_config, align), 48, "alignment" },
	};
	struct penstock_error err;
	struct synth_config c;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		c = config(PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_BF16);
		*(uint32_t *)((char *)&c + bad[i].off) = bad[i].v;
		memset(&err, 0, sizeof(err));
		EXPECT_EQ(-EINVAL, try_write(&c, "/nowhere", &err));
		EXPECT_HAS(err.text, bad[i].says);
	}
	c = config(PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_F8_E4M3);
	EXPECT_EQ(-EINVAL, try_write(&c, "/nowhere", &err));
	c = config(PENSTOCK_FORMAT_GGUF, PENSTOCK_DTYPE_F32);
	c.layers = 1000000;
	c.experts = 65536;
	EXPECT_EQ(-EOVERFLOW, try_write(&c, "/nowhere", &err));
}

TEST(size_chooses_a_shape)
{
	static const uint32_t dtypes[] = { PENSTOCK_DTYPE_BF16, PENSTOCK_DTYPE_F32, PENSTOCK_DTYPE_F8_E4M3 };
	static const uint64_t mib[] = { 64, 256, 1024, 4096, 16384, 65536 };
	struct penstock_error err = { 0 };
	struct synth_model *m;
	size_t d, i;

	for (d = 0; d < sizeof(dtypes) / sizeof(dtypes[0]); d++) {
		for (i = 0; i < sizeof(mib) / sizeof(mib[0]); i++) {
			struct synth_config c = { .dtype = dtypes[d] };
			double ratio;

			synth_config_size(&c, mib[i] << 20);
			synth_config_default(&c);
			ASSERT_EQ(0, synth_model_create(&c, &m, &err));
			ratio = (double)m->total_bytes / (double)(mib[i] << 20);
			if (ratio < 0.85 || ratio > 1.15)
				TEST_FAIL_(0, "%llu MiB of type %u became %.2f times that", (unsigned long long)mib[i],
					   dtypes[d], ratio);
			EXPECT_GE(c.layers, 4u);
			synth_model_destroy(m);
		}
	}
}

/* The router's first column is -skew log(rank): every rank from 1 to E occurs once in a layer. */
TEST(popularity_is_a_permutation)
{
	struct synth_config c = config(PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_F32);
	struct penstock_error err = { 0 };
	uint32_t i, rank, seen, differs = 0;
	int order[2][EXPERTS], layer = 0;
	struct synth_model *m = NULL;
	float row[HIDDEN], col[EXPERTS], most;
	uint64_t r;

	ASSERT_EQ(0, synth_model_create(&c, &m, &err));
	for (i = 0; i < m->nr_tensors && layer < 2; i++) {
		if (m->tensors[i].role != SYNTH_ROUTER)
			continue;
		for (r = 0; r < EXPERTS; r++) {
			synth_routing_row(m, &m->tensors[i], r, row);
			col[r] = row[0];
		}
		/* the least popular has -skew log(E): it gives the unit */
		for (r = 0, most = 0; r < EXPERTS; r++)
			most = col[r] < most ? col[r] : most;
		ASSERT_TRUE(most < 0);
		for (r = 0, seen = 0; r < EXPERTS; r++) {
			rank = (uint32_t)lrint(exp(col[r] / most * log(EXPERTS)));
			order[layer][r] = (int)rank;
			seen |= 1u << rank;
		}
		EXPECT_EQ(((1u << EXPERTS) - 1) << 1, seen);
		layer++;
	}
	ASSERT_EQ(2, layer);
	for (r = 0; r < EXPERTS; r++)
		differs += order[0][r] != order[1][r];
	EXPECT_GT(differs, 0u);
	synth_model_destroy(m);
}

/* llama.cpp pairs neighbouring rows of Mixtral's queries, Hugging Face rows half a head apart. */
TEST(mixtral_rows_are_moved_in_gguf)
{
	struct synth_config hf = config(PENSTOCK_FORMAT_SAFETENSORS, PENSTOCK_DTYPE_F32), gg = hf;
	struct synth_model *a = NULL, *b = NULL;
	struct penstock_error err = { 0 };
	struct synth_tensor t = { .role = SYNTH_K, .layer = 1, .nr = 1, .rows = 160, .cols = HIDDEN };
	float x[HIDDEN], y[HIDDEN];
	uint32_t head, i, half;

	hf.arch = gg.arch = SYNTH_MIXTRAL;
	gg.format = PENSTOCK_FORMAT_GGUF;
	ASSERT_EQ(0, synth_model_create(&hf, &a, &err));
	ASSERT_EQ(0, synth_model_create(&gg, &b, &err));
	for (head = 0; head < 5; head++) {
		for (i = 0; i < 16; i++) {
			for (half = 0; half < 2; half++) {
				synth_routing_row(a, &t, head * 32 + half * 16 + i, x);
				synth_routing_row(b, &t, head * 32 + 2 * i + half, y);
				EXPECT_EQ(0, memcmp(x, y, sizeof(x)));
			}
		}
	}
	synth_model_destroy(a);
	synth_model_destroy(b);
}

TEST_HARNESS_MAIN

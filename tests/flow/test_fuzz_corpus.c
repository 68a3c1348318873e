// SPDX-License-Identifier: MIT
/* The corpus of the index' fuzz targets, replayed through the same functions. */
#include <dirent.h>
#include "harness.h"
#include "../fuzz/fuzz_safetensors.c"
#include "../fuzz/fuzz_folder.c"
#include "../fuzz/fuzz_gguf.c"

static void replay(const char *name, int (*fn)(const uint8_t *data, size_t size))
{
	const char *top = getenv("PENSTOCK_TOP");
	char dir[300], path[600];
	static uint8_t buf[1 << 20];
	struct dirent *e;
	uint32_t nr = 0;
	ssize_t len;
	DIR *d;
	int fd;

	snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s", top ? top : ".", name);
	d = opendir(dir);
	ASSERT_TRUE(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_GE(fd, 0);
		len = read(fd, buf, sizeof(buf));
		ASSERT_GE(len, 0);
		close(fd);
		/* a crash names its input */
		printf("# %s\n", e->d_name);
		fn(buf, (size_t)len);
		nr++;
	}
	closedir(d);
	EXPECT_GE(nr, 10u);
	unlink(fuzz_path("config.json"));
	unlink(fuzz_path("model.safetensors"));
	unlink(fuzz_path("model.safetensors.index.json"));
	unlink(fuzz_path("m.safetensors"));
	unlink(fuzz_path("m.gguf"));
	rmdir(fuzz_dir());
}

TEST(corpus_of_safetensors)
{
	replay("safetensors", fuzz_safetensors);
}

TEST(corpus_of_folders)
{
	replay("folder", fuzz_folder);
}

TEST(corpus_of_gguf)
{
	replay("gguf", fuzz_gguf);
}

TEST_HARNESS_MAIN

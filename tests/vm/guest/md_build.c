// SPDX-License-Identifier: MIT
/*
 * A striped array without metadata, as mdadm --build makes it:
 * md_build NODE DEVICE... (/dev/md0 and its parts); md_build -s NODE stops it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/major.h>
#include <linux/raid/md_u.h>
#include <linux/raid/md_p.h>

int main(int argc, char **argv)
{
	mdu_array_info_t array = { .level = 0, .raid_disks = argc - 2, .nr_disks = argc - 2, .chunk_size = 65536 };
	int fd = open(argc > 2 ? argv[!strcmp(argv[1], "-s") ? 2 : 1] : "", O_RDWR);

	if (fd < 0) {
		perror("md_build");
		return 1;
	}
	if (!strcmp(argv[1], "-s"))
		return ioctl(fd, STOP_ARRAY, NULL) ? 1 : 0;
	if (ioctl(fd, SET_ARRAY_INFO, &array)) {
		perror("SET_ARRAY_INFO");
		return 1;
	}
	for (int i = 2; i < argc; i++) {
		mdu_disk_info_t disk = { .number = i - 2, .raid_disk = i - 2,
			.state = (1 << MD_DISK_ACTIVE) | (1 << MD_DISK_SYNC) };
		struct stat st;

		if (stat(argv[i], &st)) {
			perror(argv[i]);
			return 1;
		}
		disk.major = major(st.st_rdev);
		disk.minor = minor(st.st_rdev);
		if (ioctl(fd, ADD_NEW_DISK, &disk)) {
			perror("ADD_NEW_DISK");
			return 1;
		}
	}
	if (ioctl(fd, RUN_ARRAY, NULL)) {
		perror("RUN_ARRAY");
		return 1;
	}
	return 0;
}

// SPDX-License-Identifier: MIT
/*
 * What happens to a peer under its users: its driver is unbound, the device is
 * removed, reset, has an error, the machine is suspended. Regions in two opens
 * (one by a dma-buf) are revoked with the right reason and event, mappings give
 * SIGBUS, and afterwards the peer can be used again. Two of these at a time.
 * Last, regions are made and freed all the time while it comes and goes.
 *
 * test_peer_gone DRIVE PEER OTHER: a raw drive; the PCI addresses of the peer, and of another drive that nobody uses.
 */
#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include "peer.h"
#include "mem_copy.h"

static const char *addr, *other;
static char drive[64];

/* Two users of the peer. */
struct users {
	int node, other;
	int dmabuf;
	struct source raw;
	struct dest own, imported;
	struct penstock_peer_enum peer;
	uint32_t generation;
};

static bool users_open(struct users *u)
{
	struct penstock_region_export export = { .size = sizeof(export) };
	struct penstock_region_peer cmd;
	struct penstock_info info;
	char poison[65536], back[65536];

	*u = (struct users) { .node = node_open(), .other = node_open(), .own.len = MIB, .imported.len = 65536 };
	if (source_open(u->node, "raw", drive, &u->raw) || peer_at(u->node, addr, &u->peer) ||
	    region_bar(u->node, u->peer.out_peer_id, u->own.len, &cmd))
		return false;
	u->own.id = cmd.out_region_id;
	if (dest_map(u->node, &u->own, cmd.out_mmap_offset))
		return false;
	memset(poison, POISON, sizeof(poison));
	for (uint64_t at = 0; at < u->own.len; at += sizeof(poison))
		if (penstock_mem_copy_in(u->own.map + at, poison, sizeof(poison)) ||
		    penstock_mem_copy_out(back, u->own.map + at, sizeof(back)) || memcmp(poison, back, sizeof(back)))
			return false;
	if (first_not(u->own.map, POISON, u->own.len) >= 0)
		return false;

	export.region_id = u->own.id;
	if (node_ioctl(u->node, PENSTOCK_IOC_REGION_EXPORT, &export))
		return false;
	u->dmabuf = export.out_fd;
	cmd = (struct penstock_region_peer) { .size = sizeof(cmd), .kind = PENSTOCK_PEER_DMABUF, .fd = u->dmabuf,
		.offset = 65536, .length = 65536 };
	if (node_ioctl(u->other, PENSTOCK_IOC_REGION_PEER, &cmd))
		return false;
	u->imported.id = cmd.out_region_id;
	if (dest_map(u->other, &u->imported, cmd.out_mmap_offset) || info_get(u->node, &info))
		return false;
	u->generation = info.out_generation;
	return u->imported.map[0] == POISON;
}

static void users_close(struct users *u)
{
	munmap(u->own.map, u->own.len);
	munmap(u->imported.map, u->imported.len);
	close(u->dmabuf);
	close(u->raw.fd);
	close(u->node);
	close(u->other);
}

static bool no_events(int node)
{
	struct pollfd p = { .fd = node, .events = POLLIN };
	struct penstock_event event;
	bool quiet = poll(&p, 1, 0) == 0;

	fcntl(node, F_SETFL, O_NONBLOCK);
	quiet = quiet && read(node, &event, sizeof(event)) == -1 && errno == EAGAIN;
	fcntl(node, F_SETFL, 0);
	return quiet;
}

/* Events, mappings and commands after a revocation. */
static void check_revoked(struct users *u, uint32_t reason, const char *what)
{
	struct penstock_event first = {}, second = {};
	struct penstock_region_probe probe;
	char block[8192] = "";

	tap(event_wait(u->node, PENSTOCK_EVENT_REVOKED, u->own.id, &first) && first.reason == reason,
	    "%s: event for the region, reason %u", what, reason);
	tap(event_wait(u->other, PENSTOCK_EVENT_REVOKED, u->imported.id, &second) && second.reason == reason,
	    "%s: event for the import, reason %u", what, reason);
	tap(touch_is_sigbus(u->own.map) && touch_is_sigbus(u->imported.map), "%s: mappings give SIGBUS", what);
	tap(penstock_mem_copy_in(u->own.map, block, sizeof(block)) == -ENODEV &&
	    penstock_mem_copy_out(block, u->own.map, sizeof(block)) == -ENODEV,
	    "%s: the library's copies give an error", what);
	tap(read_ioctl(u->node, u->raw.add.out_target_id, u->own.id, 0, 0, 4096) == -ENODEV &&
	    region_probe(u->node, u->own.id, u->raw.add.out_target_id, &probe) == -ENODEV,
	    "%s: reads and the probe are refused", what);
	tap(!region_free(u->node, u->own.id, 0, NULL) &&
	    region_free(u->node, u->own.id, 0, NULL) == -ENOENT, "%s: the id is to be freed, once", what);
}

/* It can be used again, with the same id or another. */
static void check_again(struct users *u, bool same_id, const char *what)
{
	struct penstock_region_peer cmd;
	struct penstock_peer_enum peer = {};
	struct dest d = { .len = MIB };
	double begin = now();

	while (peer_at(u->other, addr, &peer) && now() - begin < 20)
		usleep(20000);
	tap((peer.out_peer_id == u->peer.out_peer_id) == same_id && peer.out_available == peer.out_len &&
	    !peer.out_reason, "%s: the peer is back", what);
	if (!tap(!region_bar(u->other, peer.out_peer_id, d.len, &cmd) && !dest_map(u->other, &d, cmd.out_mmap_offset),
		 "%s: it gives memory again", what))
		return;
	tap(first_not(d.map, 0, d.len) < 0, "%s: which is cleared", what);
	if (!same_id)
		tap_eq(region_bar(u->other, u->peer.out_peer_id, 4096, &cmd), -ENOENT, "its old id is not given again");
	munmap(d.map, d.len);
}

static void check_generation(struct users *u, const char *what)
{
	struct penstock_event event;
	struct penstock_info info;

	tap(event_wait(u->other, PENSTOCK_EVENT_TOPOLOGY, 0, &event) && !event.region_id, "%s: event of the topology",
	    what);
	tap(!info_get(u->node, &info) && info.out_generation != u->generation, "%s: another generation", what);
}

/* Takes the peer away by writing to one file of sysfs; brings it back by another. */
static void case_gone(const char *what, const char *path, const char *text, const char *back, const char *back_text)
{
	struct penstock_info before, info;
	struct users u;

	if (!tap(users_open(&u) && !info_get(u.node, &before), "%s: users", what))
		return;
	tap(no_events(u.node) && no_events(u.other), "%s: no events before", what);
	tap_eq(put_file(path, text), 0, what);
	tap(!info_get(u.node, &info) && info.out_nr_peers == before.out_nr_peers - 1, "%s: one peer less", what);
	check_revoked(&u, PENSTOCK_REASON_UNBOUND, what);
	check_generation(&u, what);
	/* While its users still have all of it open. */
	tap_eq(put_file(back, back_text), 0, "it is brought back");
	check_again(&u, false, what);
	users_close(&u);
	tap(peer_is_whole(u.node = node_open(), addr), "%s: all is free", what);
	close(u.node);
}

/* The peer stays the same one. */
static void case_hit(const char *what, uint32_t reason, int (*hit)(void))
{
	struct users u;

	if (!tap(users_open(&u), "%s: users", what))
		return;
	tap_eq(hit(), 0, what);
	check_revoked(&u, reason, what);
	check_again(&u, true, what);
	users_close(&u);
	tap(peer_is_whole(u.node = node_open(), addr), "%s: all is free", what);
	close(u.node);
}

static int hit_reset(void)
{
	return dev_put(addr, "reset", "1");
}

static int hit_suspend(void)
{
	int ret;

	/* As far as the devices, for a second. */
	put_file("/sys/module/suspend/parameters/pm_test_delay", "1");
	ret = put_file("/sys/power/pm_test", "devices");
	return ret ? ret : put_file("/sys/power/state", "freeze");
}

/* As the kernel's tool aer-inject writes it. */
struct aer_error {
	uint8_t bus, dev, fn;
	uint32_t uncorrectable, correctable;
	uint32_t header[4];
	uint32_t domain;
};

#define AER_SURPRISE_DOWN	0x20		/* fatal, as the default severity has it */
#define AER_COMPLETION_ABORT	0x8000		/* not fatal */

/* At the port so many @levels above the peer: with 1 the peer is all that is below. */
static int inject(uint32_t error, unsigned int levels)
{
	char path[160], real[PATH_MAX], *port;
	unsigned int domain, bus, dev, fn;
	struct aer_error e = {};
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", addr);
	if (!realpath(path, real))
		return -errno;
	while (levels--)
		*strrchr(real, '/') = '\0';
	port = strrchr(real, '/') + 1;
	if (sscanf(port, "%x:%x:%x.%x", &domain, &bus, &dev, &fn) != 4)
		return -EINVAL;
	e = (struct aer_error) { .bus = bus, .dev = dev, .fn = fn, .uncorrectable = error, .domain = domain };
	fd = open("/dev/aer_inject", O_WRONLY);
	if (fd < 0)
		return -errno;
	if (write(fd, &e, sizeof(e)) != sizeof(e))
		ret = -errno;
	close(fd);
	return ret;
}

/* The error is handled by a thread of the kernel: wait for what follows from it. */
static int inject_and_wait(uint32_t error)
{
	int ret = inject(error, 1);

	sleep(3);
	return ret;
}

static int hit_error(void)
{
	return inject_and_wait(AER_COMPLETION_ABORT);
}

static int hit_fatal(void)
{
	return inject_and_wait(AER_SURPRISE_DOWN);
}

/* ---- more than one cause ---- */

static uint32_t peer_reason(int node, uint32_t *id)
{
	struct penstock_peer_enum peer = {};
	int ret = peer_at(node, addr, &peer);

	*id = peer.out_peer_id;
	return ret ? ~0U : peer.out_reason;
}

/* Within a few seconds: errors are handled by a thread of the kernel. */
static bool becomes(int node, uint32_t reason)
{
	uint32_t got = ~0U, id;

	for (double begin = now(); now() - begin < 10; usleep(20000)) {
		got = peer_reason(node, &id);
		if (got == reason)
			return true;
	}
	printf("# the reason is %u, not %u\n", got, reason);
	return false;
}

/*
 * An error that is not recovered from, since another drive below the same switch has no driver that could; then a
 * reset, which begins and ends meanwhile: what the error began it does not end. An error that is recovered from does.
 */
static void case_two_causes(void)
{
	struct penstock_region_peer cmd;
	int node = node_open();
	uint32_t id;

	tap_eq(dev_put(other, "driver/unbind", other), 0, "another drive has no driver");
	tap_eq(inject(AER_COMPLETION_ABORT, 2), 0, "an error above both");
	tap(becomes(node, PENSTOCK_REASON_PCI_ERROR), "the peer is dead for it");
	sleep(2);
	tap_eq(peer_reason(node, &id), PENSTOCK_REASON_PCI_ERROR, "and stays so");
	tap_eq(hit_reset(), 0, "it is reset meanwhile");
	tap_eq(peer_reason(node, &id), PENSTOCK_REASON_PCI_ERROR, "which does not revive it");
	tap(region_bar(node, id, 65536, &cmd) == -ENODEV && cmd.out_reason == PENSTOCK_REASON_PCI_ERROR,
	    "there is no region to be had");
	tap_eq(put_file("/sys/bus/pci/drivers_probe", other), 0, "the drive has its driver again");
	tap_eq(inject(AER_COMPLETION_ABORT, 1), 0, "an error that is recovered from");
	tap(becomes(node, PENSTOCK_REASON_NONE), "ends the first one");
	tap(!region_bar(node, id, 65536, &cmd) && !region_free(node, cmd.out_region_id, 0, NULL), "there are regions");
	tap(peer_is_whole(node, addr), "all is free");
	close(node);
}

/* ---- comes and goes ---- */

static volatile bool stop;

struct maker {
	unsigned long made, refused;
	int wrong;		/* an error that none of these can give */
};

/* Makes, maps, touches and frees, whatever happens. */
static void *maker_run(void *arg)
{
	struct maker *m = arg;
	int node = node_open();

	while (!stop) {
		struct penstock_peer_enum peer;
		struct penstock_region_peer cmd;
		void *map;
		int ret = peer_at(node, addr, &peer);

		if (!ret)
			ret = region_bar(node, peer.out_peer_id, 65536, &cmd);
		if (ret) {
			m->refused++;
			if (ret != -ENOENT && ret != -ENODEV)
				m->wrong = ret;
			usleep(1000);
			continue;
		}
		m->made++;
		map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, node, cmd.out_mmap_offset);
		/* Populated by the kernel: a store of ours could meet a revocation. */
		if (map != MAP_FAILED) {
			madvise(map, 65536, MADV_POPULATE_WRITE);
			munmap(map, 65536);
		}
		ret = region_free(node, cmd.out_region_id, PENSTOCK_REGION_FREE_F_WAIT, NULL);
		if (ret)
			m->wrong = ret;
	}
	close(node);
	return NULL;
}

static void case_comes_and_goes(void)
{
	struct maker makers[2] = {};
	pthread_t threads[2];
	bool good = true;
	unsigned int i;
	int node;

	for (i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, maker_run, &makers[i]);
	for (i = 0; i < 12; i++) {
		usleep(50000);
		good &= !dev_put(addr, "driver/unbind", addr);
		usleep(5000 * (i % 3));
		good &= !put_file("/sys/bus/pci/drivers_probe", addr);
	}
	stop = true;
	for (i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		printf("# %lu made, %lu refused\n", makers[i].made, makers[i].refused);
		good &= makers[i].made > 0 && makers[i].refused > 0 && !makers[i].wrong;
		if (makers[i].wrong)
			printf("# error %d\n", makers[i].wrong);
	}
	tap(good, "regions are made and freed while the peer comes and goes");
	node = node_open();
	tap(peer_is_whole(node, addr), "and nothing is lost");
	close(node);
}

int main(int argc, char **argv)
{
	char unbind[160], remove[160], reset[160];

	if (argc != 4) {
		fprintf(stderr, "usage: %s DRIVE PEER OTHER\n", argv[0]);
		return 2;
	}
	snprintf(drive, sizeof(drive), "%s", argv[1]);
	addr = argv[2];
	other = argv[3];
	snprintf(unbind, sizeof(unbind), "/sys/bus/pci/devices/%s/driver/unbind", addr);
	snprintf(remove, sizeof(remove), "/sys/bus/pci/devices/%s/remove", addr);
	snprintf(reset, sizeof(reset), "/sys/bus/pci/devices/%s/reset", addr);

	case_gone("unbind", unbind, addr, "/sys/bus/pci/drivers_probe", addr);
	case_gone("remove", remove, "1", "/sys/bus/pci/rescan", "1");
	if (access(reset, W_OK))
		tap_skip("reset", "the device cannot be reset");
	else
		case_hit("reset", PENSTOCK_REASON_RESET, hit_reset);
	if (access("/sys/power/pm_test", W_OK))
		tap_skip("suspend", "no CONFIG_PM_DEBUG");
	else if (!access("/proc/lockdep", F_OK))
		tap_skip("suspend", "lockdep does not like how the nvme driver itself suspends");
	else
		case_hit("suspend", PENSTOCK_REASON_SUSPENDED, hit_suspend);
	if (access("/dev/aer_inject", W_OK)) {
		tap_skip("error", "no CONFIG_PCIEAER_INJECT");
	} else {
		case_hit("error", PENSTOCK_REASON_PCI_ERROR, hit_error);
		case_hit("fatal error", PENSTOCK_REASON_PCI_ERROR, hit_fatal);
		case_two_causes();
	}
	case_comes_and_goes();
	return tap_done();
}
